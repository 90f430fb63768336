# A table for people, from lines of fields separated by |, of which the first is
# the heading; with the aim of each row, whether it is met, and what the limit is.
#
# Invariant: what is printed of a row is what was measured; aims come from the file
# of aims alone. Its lines: script, pattern of rows, column, comparison, value, limit,
# with a tab between them. A value @row is the same column's in that row, of those
# with the same second field.
#
# usage: awk -F'|' -v script=NAME -v aims=FILE -f table.awk

BEGIN {
  while ((getline line < aims) > 0) {
    if (line ~ /^(#|$)/) continue
    split(line, part, "\t")
    if (part[1] != script) continue
    n++
    pattern[n] = part[2]; column[n] = part[3]; comparison[n] = part[4]; value[n] = part[5]; limit[n] = part[6]
  }
}

{
  raw[NR] = $0
  for (i = 1; i <= NF; i++) cell[NR, i] = $i
  if (NR == 1) fields = NF
}

function column_of(name,  i) {
  for (i = 1; i <= fields; i++) if (cell[1, i] == name) return i
  print "table.awk: " script " has no column \"" name "\"" > "/dev/stderr"
  return 0
}

# the value that a row is compared with; "" if it wasn't measured
function wanted(a, row, at,  i) {
  if (value[a] !~ /^@/) return value[a]
  for (i = 2; i <= NR; i++)
    if (cell[i, 1] == substr(value[a], 2) && cell[i, 2] == cell[row, 2]) return cell[i, at]
  return ""
}

function outcome(a, row,  at, is, want) {
  at = column_of(column[a])
  is = cell[row, at]
  want = wanted(a, row, at)
  if (is == "" || is == "-" || want == "") return "not measured"
  if (comparison[a] == "=") return is == want ? "met" : "missed"
  return (comparison[a] == "<=" ? is + 0 <= want + 0 : is + 0 >= want + 0) ? "met" : "missed"
}

function add_aims(row,  a, told, bound) {
  for (a = 1; a <= n; a++) {
    if (raw[row] !~ pattern[a]) continue
    told = told (told == "" ? "" : ", ") column[a] " " comparison[a] " " \
      (value[a] ~ /^@/ ? "that of " substr(value[a], 2) : value[a]) ": " outcome(a, row)
    if (limit[a] != "") bound = bound (bound == "" ? "" : "; ") limit[a]
  }
  cell[row, fields + 1] = told == "" ? "-" : told
  cell[row, fields + 2] = bound == "" ? "-" : bound
}

END {
  cell[1, fields + 1] = "aim"
  cell[1, fields + 2] = "limit"
  for (row = 2; row <= NR; row++) add_aims(row)
  for (row = 1; row <= NR; row++)
    for (i = 1; i <= fields + 2; i++)
      if (length(cell[row, i]) > width[i]) width[i] = length(cell[row, i])
  for (row = 1; row <= NR; row++) {
    line = sprintf("%-" width[1] "s", cell[row, 1])
    for (i = 2; i <= fields; i++) line = line sprintf("  %" width[i] "s", cell[row, i])
    line = line sprintf("  %-" width[fields + 1] "s  %s", cell[row, fields + 1], cell[row, fields + 2])
    print line
  }
}
