/*
 * conversion.c
 *		Which tables are becoming partitioned, and how far that has come.
 *
 * Invariant: a row's phase is the step that is to be done, and becomes the next
 * one in the transaction that does it; so a step that was killed is done again. A
 * row isn't dumped: in another database nobody has asked for the conversion.
 */
#include "catalog/conversion.h"

#include "base/sql.h"
#include "catalog/asleep.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const kind_names[] = {
	[CONVERSION_TABLE] = "table",
	[CONVERSION_PARTITION] = "partition",
	[CONVERSION_ROWS] = "rows"
};

static const char *const phase_names[] = {
	[CONVERSION_CHECKING] = "checking",
	[CONVERSION_VALIDATING] = "validating",
	[CONVERSION_INDEXING] = "indexing",
	[CONVERSION_LINKING] = "linking",
	[CONVERSION_ATTACHING] = "attaching",
	[CONVERSION_ANALYZING] = "analyzing",
	[CONVERSION_RENAMING] = "renaming",
	[CONVERSION_MOVING] = "moving",
	[CONVERSION_FINISHING] = "finishing",
	[CONVERSION_FAILED] = "failed"
};

/* What a phase is called in rows. */
const char *
conversion_phase_name(ConversionPhase phase)
{
	return phase_names[phase];
}

static int
parse_name(const char *name, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	elog(ERROR, "unknown phase or kind of a conversion");
	return 0;
}

#define COLUMNS	"c.relation, c.parent, c.kind, c.phase, c.table_name, c.key, c.lower_bound," \
	" c.upper_bound, c.weaken_unique, c.publish_via_partition_root, c.finish_by, c.tries, c.next_try, c.longest_lock"

static TimestampTz
read_time(uint64 row, int column)
{
	bool		isnull;
	Datum		value = sql_value(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/* One row of the columns above, in the current memory context. */
static void
read_row(uint64 row, Conversion *conversion)
{
	bool		isnull;
	Datum		longest;

	conversion->relation = sql_oid(row, 1);
	conversion->parent = sql_oid(row, 2);
	conversion->kind = parse_name(sql_text(row, 3), kind_names, lengthof(kind_names));
	conversion->phase = parse_name(sql_text(row, 4), phase_names, lengthof(phase_names));
	conversion->table_name = sql_text(row, 5);
	conversion->key = sql_text(row, 6);
	conversion->lower = sql_text(row, 7);
	conversion->upper = sql_text(row, 8);
	conversion->weaken_unique = DatumGetBool(sql_value(row, 9, &isnull));
	conversion->publish_via_partition_root = DatumGetBool(sql_value(row, 10, &isnull));
	conversion->finish_by = read_time(row, 11);
	conversion->tries = DatumGetInt32(sql_value(row, 12, &isnull));
	conversion->next_try = read_time(row, 13);
	longest = sql_value(row, 14, &isnull);
	conversion->longest_lock = isnull ? 0 : DatumGetIntervalP(longest)->time;
}

static void
add_row(uint64 row, void *arg)
{
	List	  **list = (List **) arg;
	Conversion *conversion = (Conversion *) palloc(sizeof(Conversion));

	read_row(row, conversion);
	*list = lappend(*list, conversion);
}

/* Every conversion that hasn't ended, oldest first. */
List *
conversion_load(void)
{
	SqlSession	session;
	List	   *list = NIL;
	uint64		rows;

	if (sql_is_empty("conversion"))
		return NIL;
	sql_begin_as_extension(&session);
	rows = sql_execute("SELECT " COLUMNS " FROM sagaz_ha.conversion AS c ORDER BY c.since", NULL);
	sql_each_row(&session, rows, add_row, &list);
	sql_end(&session);
	return list;
}

static bool
load_one(const char *query, Oid relid, Conversion *conversion)
{
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *list = NIL;

	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
	sql_each_row(&session, sql_execute_latest(NULL, query, &args), add_row, &list);
	sql_end(&session);
	if (list == NIL)
		return false;
	*conversion = *(Conversion *) linitial(list);
	return true;
}

/* The conversion of a table, by its own OID or that of what it becomes. */
bool
conversion_find(Oid relid, Conversion *conversion)
{
	return load_one("SELECT " COLUMNS " FROM sagaz_ha.conversion AS c"
					" WHERE (c.relation = $1 OR c.parent = $1 OR EXISTS ("
					"   SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.relation AND i.inhparent = $1))", relid, conversion);
}

/*
 * Locks a conversion's row for a step, and reads it again. False: it has ended, is
 * being cancelled, or its table is gone.
 */
bool
conversion_lock(Conversion *conversion)
{
	return load_one("SELECT " COLUMNS " FROM sagaz_ha.conversion AS c"
					" WHERE c.relation = $1"
					"   AND EXISTS (SELECT FROM pg_catalog.pg_class AS t WHERE t.oid = c.relation)"
					" FOR UPDATE OF c SKIP LOCKED",
					conversion->relation, conversion);
}

/* The policy of what the table becomes, which somebody may have removed. */
Policy *
conversion_policy(const Conversion *conversion)
{
	List	   *policies = policy_load(conversion->parent);

	if (policies == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is becoming partitioned, and its policy is gone", conversion->table_name),
				 errhint("sagaz_ha.cancel_partition_table() takes the conversion back.")));
	return (Policy *) linitial(policies);
}

static void
change(const char *statement, SqlArgs *args)
{
	SqlSession	session;

	sql_begin_as_extension(&session);
	(void) sql_execute_latest(NULL, statement, args);
	sql_end(&session);
}

/* Enters a conversion that begins, before its policy is stored. */
void
conversion_begin(const Conversion *conversion, TimestampTz now)
{
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(conversion->relation));
	sql_arg(&args, OIDOID, ObjectIdGetDatum(conversion->parent));
	sql_arg_text(&args, kind_names[conversion->kind]);
	sql_arg_text(&args, phase_names[conversion->phase]);
	sql_arg_name(&args, conversion->table_name);
	sql_arg_name(&args, conversion->key);
	sql_arg_text(&args, conversion->lower);
	sql_arg_text(&args, conversion->upper);
	sql_arg(&args, BOOLOID, BoolGetDatum(conversion->weaken_unique));
	sql_arg(&args, BOOLOID, BoolGetDatum(conversion->publish_via_partition_root));
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(now));
	sql_arg_or_null(&args, TIMESTAMPTZOID, TimestampTzGetDatum(conversion->finish_by),
					conversion->finish_by == 0);
	change("INSERT INTO sagaz_ha.conversion (relation, parent, kind, phase, table_name, key,"
		   " lower_bound, upper_bound, weaken_unique, publish_via_partition_root, since,"
		   " phase_since, finish_by, policy_before)"
		   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, clock_timestamp(), $12,"
		   " (SELECT to_jsonb(p) FROM sagaz_ha.partition_policy AS p WHERE p.parent = $2))", &args);
}

/*
 * Gives a table that was partitioned before the policy back that it had then, or
 * none. Of a plain table it goes with the partitioned one.
 */
void
conversion_restore_policy(const Conversion *conversion)
{
	SqlArgs		args = {0};

	if (conversion->kind == CONVERSION_TABLE || !OidIsValid(conversion->parent))
		return;
	sql_arg(&args, OIDOID, ObjectIdGetDatum(conversion->parent));
	change("DELETE FROM sagaz_ha.partition_policy WHERE parent = $1", &args);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(conversion->relation));
	change("INSERT INTO sagaz_ha.partition_policy"
		   " SELECT r.* FROM sagaz_ha.conversion AS c"
		   " CROSS JOIN jsonb_populate_record(NULL::sagaz_ha.partition_policy,"
		   "   c.policy_before || jsonb_build_object('parent', $1)) AS r"
		   " WHERE c.relation = $2 AND c.policy_before IS NOT NULL", &args);
	asleep_end(conversion->parent);
}

/* The next step is to be done. */
void
conversion_enter(Conversion *conversion, ConversionPhase phase)
{
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(conversion->relation));
	sql_arg_text(&args, phase_names[phase]);
	change("UPDATE sagaz_ha.conversion SET phase = $2, phase_since = clock_timestamp(),"
		   " tries = 0, next_try = NULL, waits_for = NULL, error = NULL WHERE relation = $1", &args);
	conversion->phase = phase;
	conversion->tries = 0;
}

/* The bound, or the time when rows could reach it, is another one. */
void
conversion_note_bound(const Conversion *conversion)
{
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(conversion->relation));
	sql_arg_text(&args, conversion->upper);
	sql_arg_or_null(&args, TIMESTAMPTZOID, TimestampTzGetDatum(conversion->finish_by),
					conversion->finish_by == 0);
	change("UPDATE sagaz_ha.conversion SET upper_bound = $2, finish_by = $3 WHERE relation = $1", &args);
}

/* A step was tried in vain, and will be tried again after nap ms. */
void
conversion_note_try(Conversion *conversion, const char *waits_for, const char *error, long nap)
{
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(conversion->relation));
	sql_arg_text(&args, waits_for);
	sql_arg_text(&args, error);
	sql_arg(&args, INT8OID, Int64GetDatum(nap));
	change("UPDATE sagaz_ha.conversion SET tries = tries + 1, waits_for = $2, error = $3,"
		   " next_try = clock_timestamp() + $4 * interval '1 millisecond' WHERE relation = $1", &args);
	conversion->tries++;
}

/* How long a strong lock was held. */
void
conversion_note_lock(const Conversion *conversion, TimeOffset held)
{
	Interval   *interval = (Interval *) palloc0(sizeof(Interval));
	SqlArgs		args = {0};

	interval->time = held;
	sql_arg(&args, OIDOID, ObjectIdGetDatum(conversion->relation));
	sql_arg(&args, INTERVALOID, IntervalPGetDatum(interval));
	change("UPDATE sagaz_ha.conversion SET longest_lock = greatest(longest_lock, $2)"
		   " WHERE relation = $1", &args);
}

/* The conversion can't be done, and was taken back or is half done; an operator has to look. */
void
conversion_fail(Conversion *conversion, const char *error, bool taken_back)
{
	SqlArgs		args = {0};

	conversion_enter(conversion, CONVERSION_FAILED);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(conversion->relation));
	sql_arg_text(&args, error);
	sql_arg(&args, BOOLOID, BoolGetDatum(taken_back));
	change("UPDATE sagaz_ha.conversion SET error = $2,"
		   " parent = CASE WHEN NOT $3 THEN parent END WHERE relation = $1", &args);
}

/* Forgets a conversion that has ended, or was cancelled. */
void
conversion_end(Oid relation)
{
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relation));
	change("DELETE FROM sagaz_ha.conversion WHERE relation = $1", &args);
}
