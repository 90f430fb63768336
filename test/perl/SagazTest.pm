# What the tests of the background worker share: servers with the extension
# preloaded, tables with partitions on both sides of a clock that stands still,
# and questions to ask of them.
package SagazTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use List::Util qw(sum);
use PostgreSQL::Test::BackgroundPsql;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  sagaz_server configure sessions_of take_table add_partitions
  partitions_of expected_partitions is_partitions is_consistent
  stop_at stopped_at let_go when elapsed log_since log_lines is_within memory_of
  takes_no_more stop_maintenance whole_pass
);

# One day in the middle of nowhere: tests move it, real time never does.
our $clock = '2026-03-10 12:00:00+00';

# A started server with the extension preloaded. Options: conf, more lines of
# postgresql.conf; streaming, for standbys; libraries, instead of sagaz_ha;
# start, which can be off; install_path, of another PostgreSQL; checksums, which
# can be off (they are on since 18).
sub sagaz_server
{
	my ($name, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name,
		$option{install_path} ? (install_path => $option{install_path}) : ());
	my $libraries = $option{libraries} // 'sagaz_ha';

	$node->init(allows_streaming => $option{streaming} // 0,
		no_data_checksums => !($option{checksums} // 1));
	$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = '$libraries'
sagaz_ha.clock = '$clock'
timezone = 'UTC'
autovacuum = off
log_line_prefix = '%m [%p] %b %a '
log_statement = none
restart_after_crash = on
} . ($option{conf} // ''));
	$node->start unless exists $option{start} && !$option{start};
	return $node;
}

# Changes settings of a running server; undef takes one back.
sub configure
{
	my ($node, %settings) = @_;
	my $sql = '';

	foreach my $name (sort keys %settings)
	{
		$sql .= defined $settings{$name}
		  ? "ALTER SYSTEM SET $name = '$settings{$name}';\n"
		  : "ALTER SYSTEM RESET $name;\n";
	}
	$node->safe_psql('postgres', "${sql}SELECT pg_reload_conf();");
	return;
}

# A table partitioned by day and managed, with partitions from first to last
# day relative to the clock made beforehand, one row in each.
sub take_table
{
	my ($node, $database, $name, %option) = @_;
	my $premake = $option{premake} // 3;
	my $retention = $option{retention} // '3 days';
	my $unfinished =
	  defined $option{unfinished_when} ? "\$\$$option{unfinished_when}\$\$" : 'NULL';
	my $more = $option{more} // '';

	$node->safe_psql($database, qq{
		CREATE TABLE $name (id bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL,
			done boolean NOT NULL DEFAULT true, payload text) PARTITION BY RANGE (created_at);});
	add_partitions($node, $database, $name, @{ $option{days} }) if $option{days};
	$node->safe_psql($database, $option{before}) if $option{before};
	$node->safe_psql($database, qq{
		SELECT sagaz_ha.manage_partitions('$name', '1 day', $premake, '$retention',
			unfinished_when => $unfinished $more)});
	return;
}

# What somebody made by hand before the table was managed, with a row in each.
sub add_partitions
{
	my ($node, $database, $table, $first, $last) = @_;

	$node->safe_psql($database, qq{
		SELECT format('CREATE TABLE %I PARTITION OF $table FOR VALUES FROM (%L) TO (%L)',
				'${table}_' || to_char(d, '"y"YYYY"m"MM"d"DD'), d, d + interval '1 day')
		FROM (SELECT date_trunc('day', sagaz_ha.clock()) + n * interval '1 day' AS d
			FROM generate_series($first, $last) AS n) AS days \\gexec
		INSERT INTO $table (created_at)
			SELECT date_trunc('day', sagaz_ha.clock()) + n * interval '1 day' + interval '1 hour'
			FROM generate_series($first, $last) AS n;});
	return;
}

# The names of a table's attached partitions, by time.
sub partitions_of
{
	my ($node, $database, $table) = @_;

	return $node->safe_psql($database, qq{
		SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text)
		FROM pg_inherits WHERE inhparent = '$table'::regclass AND NOT inhdetachpending});
}

# The names that partitions from first to last day relative to the clock have.
sub expected_partitions
{
	my ($node, $database, $table, $first, $last) = @_;

	return $node->safe_psql($database, qq{
		SELECT string_agg('${table}_' || to_char(sagaz_ha.clock() + n * interval '1 day', '"y"YYYY"m"MM"d"DD'),
			' ' ORDER BY n) FROM generate_series($first, $last) AS n});
}

# Waits until the table has exactly the partitions from first to last day; how
# long that took, in seconds.
sub is_partitions
{
	my ($node, $database, $table, $first, $last, $name) = @_;
	my $expected = expected_partitions($node, $database, $table, $first, $last);
	my $start = time;
	my $reached = $node->poll_query_until($database, qq{
		SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text)
		FROM pg_inherits WHERE inhparent = '$table'::regclass}, $expected);

	ok($reached, $name);
	return time - $start;
}

# Nothing is half done: no table of a partition's name without a parent, no
# pending detach, no hole and no overlap, and the history has one CREATE for
# each partition that exists and one DROP for each that is gone.
sub is_consistent
{
	my ($node, $database, $table, $name) = @_;
	my $problems = $node->safe_psql($database, qq{
		WITH parts AS (
			SELECT inhrelid, inhdetachpending,
				(regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''(.*?)''\\)'))[1]::timestamptz AS lower,
				(regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \\(''(.*?)''\\)'))[1]::timestamptz AS upper
			FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
			WHERE inhparent = '$table'::regclass
				AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT')
		SELECT 'orphan ' || relname FROM pg_class
			WHERE relname ~ '^${table}_y\\d{4}m\\d\\dd\\d\\d\$' AND relkind = 'r' AND NOT relispartition
		UNION ALL
		SELECT 'pending ' || inhrelid::regclass FROM parts WHERE inhdetachpending
		UNION ALL
		SELECT 'hole or overlap after ' || inhrelid::regclass FROM (
			SELECT *, lead(lower) OVER (ORDER BY lower) AS next FROM parts) AS p WHERE next <> upper
		UNION ALL
		SELECT action || ' ' || count(*) || ' times for ' || partition_name
			FROM sagaz_ha.partition_history WHERE table_name = '$table' AND action IN ('CREATE', 'DROP')
			GROUP BY action, partition_name HAVING count(*) > 1
		UNION ALL
		SELECT 'dropped, but there: ' || partition_name FROM sagaz_ha.partition_history
			WHERE action = 'DROP' AND table_name = '$table' AND to_regclass(partition_name) IS NOT NULL
		UNION ALL
		SELECT 'gone without a trace: ' || partition_name FROM sagaz_ha.partition_history AS h
			WHERE action IN ('CREATE', 'DEFER') AND table_name = '$table' AND partition IS NOT NULL
				AND to_regclass(partition_name) IS NULL
				AND NOT EXISTS (SELECT FROM sagaz_ha.partition_history AS d
					WHERE d.partition = h.partition AND d.action IN ('DROP', 'DETACH'))
		UNION ALL
		SELECT 'disabled or left fence on ' || tgrelid::regclass FROM pg_trigger
			WHERE tgname = 'sagaz_ha_fence' AND tgenabled <> 'D' AND tgrelid IN (SELECT inhrelid FROM parts)
		});

	is($problems, '', $name);
	return;
}

# Lets workers stop at a point, once there; and waits for one that does.
sub stop_at
{
	my ($node, $point, %settings) = @_;

	configure($node, 'sagaz_ha.stop_at' => $point, %settings);
	return;
}

# Waits for a worker that stopped at the point, in any database unless one is
# named; its pid.
sub stopped_at
{
	my ($node, $point, $database) = @_;
	my $stopped = "FROM sagaz_ha.maintenance_status() WHERE waiting_for = 'stop point $point' AND pid IS NOT NULL"
	  . (defined $database ? " AND database = '$database'" : '');

	$node->poll_query_until('postgres', "SELECT EXISTS (SELECT $stopped)")
	  or die "no worker stopped at $point";
	return $node->safe_psql('postgres', "SELECT pid $stopped");
}

sub let_go
{
	my ($node) = @_;

	configure($node, 'sagaz_ha.stop_at' => undef);
	# else it could find the next stop point before it has left this one
	$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM sagaz_ha.maintenance_status()
		WHERE waiting_for LIKE 'stop point %' AND pid IS NOT NULL)}) or die 'a worker is not let go';
	return;
}

# Ends maintenance: once the launcher says so, nobody is left at work.
sub stop_maintenance
{
	my ($node) = @_;

	configure($node, 'sagaz_ha.enabled' => 'off');
	$node->poll_query_until('postgres', q{
		SELECT EXISTS (SELECT FROM sagaz_ha.maintenance_status() WHERE process = 'launcher' AND phase = 'disabled')
			AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type IN ('sagaz_ha worker', 'sagaz_ha retirement',
				'sagaz_ha before_drop', 'sagaz_ha upkeep', 'sagaz_ha conversion'))})
	  or die 'maintenance goes on';
	return;
}

# Waits for a condition; how long it took, in seconds, or undef.
sub when
{
	my ($node, $database, $condition) = @_;
	my $start = time;

	# not the empty list, by which the arguments of is_within() would shift
	return undef unless $node->poll_query_until($database, "SELECT $condition");
	return time - $start;
}

# Waits for a pass that begins from now on, and ends: of two in a row, the first may be
# under way already. A changed policy asks for each; without, the next may be an hour away.
sub whole_pass
{
	my ($node, $database) = @_;
	my $passes = q{(SELECT sum(passes) FROM sagaz_ha.maintenance_status() WHERE process = 'worker' AND database = current_database())};

	for (1 .. 2)
	{
		my $before = $node->safe_psql($database, "SELECT $passes");

		$node->safe_psql($database, 'UPDATE sagaz_ha.partition_policy SET premake = premake');
		when($node, $database, "$passes > $before") // die "no pass over $database";
	}
	return;
}

# How long a piece of work takes, in seconds.
sub elapsed
{
	my ($work) = @_;
	my $start = time;

	$work->();
	return time - $start;
}

sub is_within
{
	my ($seconds, $limit, $name) = @_;

	ok(defined $seconds && $seconds <= $limit, $name)
	  or diag('took ' . (defined $seconds ? sprintf('%.2f s', $seconds) : 'too long'));
	note(sprintf('%s: %.2f s', $name, $seconds)) if defined $seconds;
	return;
}

sub log_since
{
	my ($node, $offset) = @_;

	return slurp_file($node->logfile, $offset);
}

# The lines of the log since an offset that match.
sub log_lines
{
	my ($node, $offset, $pattern) = @_;

	return grep { /$pattern/ } split /\n/, log_since($node, $offset);
}

# The pid of the one process of a type, and the bytes of its memory that are in
# use, by context, as it says itself, without the server's list of files, which
# grows by leaps.
sub memory_of
{
	my ($node, $type) = @_;
	my $pid = $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'");
	my $offset = -s $node->logfile;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my ($log, %used);

	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	while (($log = log_since($node, $offset)) !~ /\[$pid\].*Grand total: /)
	{
		die "$type says nothing of its memory" if time > $deadline;
		usleep(50_000);
	}
	$used{$1} += $2 while $log =~ /\[$pid\].*level: \d+; ([^:]*): .* (\d+) used/g;
	delete $used{'smgr relation table'};
	return ($pid, \%used);
}

# takes_no_more(NODE, TYPE, USED, BYTES, NAME): than it used before, and some bytes
sub takes_no_more
{
	my ($node, $type, $used, $bytes, $name) = @_;
	my (undef, $now) = memory_of($node, $type);
	my ($sum, $sum_now) = map { sum(values %$_) } $used, $now;

	ok($sum_now <= $sum + $bytes, $name)
	  or diag(join "\n", map { "$_: " . ($used->{$_} // 0) . " bytes, now " . ($now->{$_} // 0) }
		grep { ($used->{$_} // 0) != ($now->{$_} // 0) } sort keys %{ { %$used, %$now } });
	note("$name: $sum bytes, now $sum_now");
	return;
}

# How many sessions of a kind there are.
sub sessions_of
{
	my ($node, $type) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = '$type'");
}

1;
