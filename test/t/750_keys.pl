# The worker's way with every kind of key: partitions of others with low bits and
# holes, fence, drain, drop, and a dump; and intervals of minutes, for which it
# doesn't wait until naptime is over.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('keys', streaming => 1, conf => q{
sagaz_ha.enabled = off
sagaz_ha.naptime = 1s
});
my @kinds = (
	[ 'timestamptz' ], [ 'timestamp' ], [ 'date' ], [ 'uuid' ], [ 'uuid', 'ulid' ], [ 'text COLLATE "C"' ],
	[ 'varchar(26) COLLATE "C"' ], [ 'char(26) COLLATE "C"' ],
	[ 'bigint', 'unix seconds' ], [ 'bigint', 'unix milliseconds' ], [ 'bigint', 'unix microseconds' ],
	[ 'bigint', 'snowflake' ], [ 'bigint', 'snowflake discord' ], [ 'bigint', 'snowflake 1500000000000 10' ]);

# The least key of a time, or one with other low bits
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE FUNCTION key(type text, encoding text, at timestamptz, low boolean DEFAULT false) RETURNS text
	LANGUAGE sql STABLE AS $$
	  SELECT CASE
	    WHEN type LIKE 'timestamp%' THEN at::text
	    WHEN type = 'date' THEN at::date::text
	    WHEN type = 'uuid' AND low THEN left(sagaz_ha.uuidv7_at(at)::text, 14) || '7abc-9def-0123456789ab'
	    WHEN type = 'uuid' THEN sagaz_ha.uuidv7_at(at)::text
	    WHEN type ~ 'text|char' AND low THEN left(sagaz_ha.ulid_at(at), 10) || 'V4RRFFQ69G5FAVXY'
	    WHEN type ~ 'text|char' THEN sagaz_ha.ulid_at(at)
	    WHEN encoding = 'unix seconds' THEN sagaz_ha.unix_seconds_at(at)::text
	    WHEN encoding = 'unix milliseconds' THEN sagaz_ha.unix_milliseconds_at(at)::text
	    WHEN encoding = 'unix microseconds' THEN sagaz_ha.unix_microseconds_at(at)::text
	    ELSE (sagaz_ha.snowflake_at(at, encoding) + CASE WHEN low THEN 5 ELSE 0 END)::text
	  END
	$$;
	CREATE FUNCTION day(n integer) RETURNS timestamptz LANGUAGE sql STABLE AS $$
	  SELECT date_trunc('day', sagaz_ha.clock(), 'UTC') + n * interval '1 day'
	$$;});

# Partitions from 5 days ago to today, of somebody who lets each end a little before
# the next; one row in each, of which that of 4 days ago is unfinished
my $tables = @kinds;
foreach my $i (0 .. $#kinds)
{
	my ($type, $encoding) = @{ $kinds[$i] };
	my $told = defined $encoding ? "'$encoding'" : 'NULL';
	my ($plain) = $type =~ /^(\w+)/;
	my $unit = $plain eq 'date' ? '0' : $told =~ /'unix seconds/ ? '1 second' : '1 millisecond';

	$node->safe_psql('postgres', qq{
		CREATE TABLE k$i (id $type NOT NULL PRIMARY KEY, done boolean NOT NULL DEFAULT true) PARTITION BY RANGE (id);
		SELECT format('CREATE TABLE k${i}_%s PARTITION OF k$i FOR VALUES FROM (%L) TO (%L)', n + 5,
				key('$plain', $told, day(n), n % 2 = 0), key('$plain', $told, day(n + 1) - interval '$unit', true))
			FROM generate_series(-5, 0) AS n \\gexec
		SELECT format('INSERT INTO k$i VALUES (%L, %L)', key('$plain', $told, day(n) + interval '12 hours', true), n <> -4)
			FROM generate_series(-5, 0) AS n \\gexec
		SELECT sagaz_ha.manage_partitions('k$i', '1 day', 2, '2 days', unfinished_when => 'NOT done',
			key_encoding => $told);});
}

# -------- fence and drain

# it may still see what is being detached
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$reader->query_safe("SELECT count(*) FROM k$_") foreach 0 .. $#kinds;
configure($node, 'sagaz_ha.enabled' => 'on');
ok($node->poll_query_until('postgres', qq{
	SELECT count(*) = $tables FROM pg_inherits WHERE inhdetachpending AND inhrelid::regclass::text ~ '^k[0-9]+_0\$'}),
	'a partition of each kind of key waits for the reader');
is($node->safe_psql('postgres', q{
	SELECT string_agg(DISTINCT phase, ' ') FROM sagaz_ha.retirement}), 'detaching', 'and is being retired');
foreach my $i (0 .. $#kinds)
{
	my ($type, $encoding) = @{ $kinds[$i] };
	my ($plain) = $type =~ /^(\w+)/;
	my $told = defined $encoding ? "'$encoding'" : 'NULL';
	my ($status, $out, $error) = $node->psql('postgres',
		qq{SELECT format('INSERT INTO k${i}_0 VALUES (%L)', key('$plain', $told, day(-5) + interval '13 hours')) \\gexec},
		on_error_stop => 0);

	like($error, qr/is being retired/, "k$i ($type): its fence refuses a late row");
}
$reader->query_safe('COMMIT');
$reader->quit;

# -------- drop, keep, and holes

ok($node->poll_query_until('postgres', qq{
	SELECT count(*) = $tables AND bool_and(parts = concat('_1 _3 _4 _5 _y', to_char(day(1), 'YYYY"m"MM"d"DD'),
			' _y', to_char(day(2), 'YYYY"m"MM"d"DD')))
	  FROM (SELECT string_agg(replace(inhrelid::regclass::text, inhparent::regclass::text, ''), ' '
			ORDER BY inhrelid::regclass::text) AS parts
		FROM pg_inherits WHERE inhparent IN (SELECT parent FROM sagaz_ha.partition_policy)
		GROUP BY inhparent) AS p}),
	'expired ones are dropped, but for that with an unfinished row; new ones are there')
  or diag($node->safe_psql('postgres', q{
	SELECT inhparent::regclass, string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text)
	  FROM pg_inherits JOIN sagaz_ha.partition_policy ON parent = inhparent GROUP BY 1 ORDER BY 1;
	SELECT table_name, partition_name, action, details FROM sagaz_ha.problem}));
ok($node->poll_query_until('postgres', qq{
	SELECT string_agg(DISTINCT action, ' ') || ' ' || count(*) = 'KEEP $tables' FROM sagaz_ha.problem}),
	'nothing else is wrong') or diag($node->safe_psql('postgres', 'SELECT * FROM sagaz_ha.problem'));
# the hole before what was kept is older than the retention
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM sagaz_ha.partition_health() WHERE check_name = 'holes' AND status <> 'ok'}), '0',
	'no hole is left');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ATTACH'}), ($tables - 1) * 2,
	'those between partitions were closed by widening one, but of dates, which had none');

$node->safe_psql('postgres', join '', map { "UPDATE k$_ SET done = true;" } 0 .. $#kinds);
ok($node->poll_query_until('postgres', q{
	SELECT NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid::regclass::text ~ '^k[0-9]+_1$')}),
	'and when its row is finished, that partition goes');

# -------- dump and restore

my $state = q{
	SELECT parent::text, partition_interval, key_encoding FROM sagaz_ha.partition_policy ORDER BY 1;
	SELECT inhparent::regclass::text, inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid)
		FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid WHERE relkind = 'r' ORDER BY 1, 2;};
my $dump = "$PostgreSQL::Test::Utils::tmp_check/keys.sql";

stop_maintenance($node);
$node->command_ok([ 'pg_dump', '--file', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
$node->command_ok([ 'psql', '--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1', '--file', $dump, $node->connstr('copy') ],
	'restored');
is($node->safe_psql('copy', $state), $node->safe_psql('postgres', $state), 'with all bounds and encodings');
is($node->safe_psql('copy', 'SELECT * FROM maintain_all_partitions()'), '', 'and nothing is left to do');

# -------- holes that are not closed by widening a partition

$node->safe_psql('postgres', 'CREATE DATABASE holes');
$node->safe_psql('holes', 'CREATE EXTENSION sagaz_ha');

# Two partitions with a millisecond between them and so many pages in each; what a
# pass does about that, how many partitions there are then, and whether the pass
# keeps everybody out of the table.
sub close_hole
{
	my ($pages, $before) = @_;

	return $node->safe_psql('holes', qq{
		SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
		DROP TABLE IF EXISTS t, r;
		CREATE TABLE t (id uuid NOT NULL, filler text) PARTITION BY RANGE (id);
		ALTER TABLE t ALTER filler SET STORAGE PLAIN;
		CREATE TABLE a PARTITION OF t FOR VALUES FROM (sagaz_ha.uuidv7_at('2025-01-15 00:00:00+00'))
			TO (sagaz_ha.uuidv7_at('2025-01-15 23:59:59.999+00'));
		CREATE TABLE b PARTITION OF t FOR VALUES FROM (sagaz_ha.uuidv7_at('2025-01-16 00:00:00+00'))
			TO (sagaz_ha.uuidv7_at('2025-01-18 00:00:00+00'));
		INSERT INTO t SELECT sagaz_ha.uuidv7_at(d), repeat('x', 8000)
			FROM (VALUES (timestamptz '2025-01-15 12:00:00+00'), ('2025-01-16 12:00:00+00')) AS days(d),
				generate_series(1, $pages);
		$before
		SELECT sagaz_ha.manage_partitions('t', '1 day', 1);
		BEGIN;
		SELECT action, partition_name FROM maintain_all_partitions();
		SELECT holes, (SELECT count(*) FROM pg_inherits WHERE inhparent = 't'::regclass),
			EXISTS (SELECT FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessExclusiveLock') FROM sagaz_ha.coverage();
		COMMIT;})
	  =~ s/^\n//r;
}

is(close_hole(10, ''), "ATTACH|a\n0|2|t", 'a small partition is widened over a hole');
is(close_hole(1100, ''), "CREATE|t_y2025m01d15h23m59s59\n0|3|f",
	'between two that it would take long to look through, the hole gets a partition');
is(close_hole(1100, "ALTER TABLE b ADD CHECK (id IS NOT NULL AND id >= sagaz_ha.uuidv7_at('2025-01-16 00:00:00+00')
	AND id < sagaz_ha.uuidv7_at('2025-01-18 00:00:00+00'));"), "ATTACH|b\n0|2|t",
	'one with a CHECK that the server can compute its bounds from is widened, whatever its size');
is(close_hole(1100, q{SELECT format('ALTER TABLE b ADD CHECK (id IS NOT NULL AND id >= %L AND id < %L)',
	sagaz_ha.uuidv7_at('2025-01-16 00:00:00+00'), sagaz_ha.uuidv7_at('2025-01-18 00:00:00+00')) AS sql \gset
	:sql;}), "ATTACH|b\n0|2|t", 'and one with a CHECK of its bounds');
foreach my $case ([ " OR filler = ''", 'an OR' ], [ ') NOT VALID', 'NOT VALID' ])
{
	my ($end, $what) = @$case;

	$end .= ')' unless $end =~ /\)/;
	is(close_hole(1100, qq{SELECT format('ALTER TABLE b ADD CHECK (id IS NOT NULL AND id >= %L AND id < %L%s',
		sagaz_ha.uuidv7_at('2025-01-16 00:00:00+00'), sagaz_ha.uuidv7_at('2025-01-18 00:00:00+00'), \$\$$end\$\$) AS sql \\gset
		:sql;}), "CREATE|t_y2025m01d15h23m59s59\n0|3|f", "but not with $what");
}
is(close_hole(1, 'ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE r (id uuid REFERENCES t);'),
	"CREATE|t_y2025m01d15h23m59s59\n0|3|f", 'where a foreign key references the table, nothing is widened');
$node->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('standby', true)});
is(close_hole(10, ''), "CREATE|t_y2025m01d15h23m59s59\n0|3|f", 'where a standby follows, nothing is widened');
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('standby')});

# -------- minutes

configure($node, 'sagaz_ha.naptime' => '1h', 'sagaz_ha.databases' => 'minutes', 'sagaz_ha.enabled' => 'on');
$node->safe_psql('postgres', 'CREATE DATABASE minutes');
$node->safe_psql('minutes', 'CREATE EXTENSION sagaz_ha');
foreach my $case ([ '1 minute', 1 ], [ '5 minutes', 4 ], [ '90 minutes', 2 ])
{
	my ($width, $premake) = @$case;

	$node->safe_psql('minutes', qq{
		DROP TABLE IF EXISTS t;
		CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
		SELECT sagaz_ha.manage_partitions('t', '$width', $premake)});
	ok($node->poll_query_until('minutes', qq{
		SELECT (SELECT count(*) FROM pg_inherits WHERE inhparent = 't'::regclass) = $premake + 1
			AND (SELECT pid IS NULL FROM sagaz_ha.maintenance_status()
				WHERE database = 'minutes' AND process = 'worker')}),
		"$width: there are partitions");
	# a pass that was wanted besides may still be on its way
	ok($node->poll_query_until('minutes', qq{
		SELECT s.pid IS NULL AND s.next_pass > s.last_pass
				AND s.next_pass - s.last_pass < (c.covered_until - sagaz_ha.clock()) - $premake * interval '$width' / 2
		  FROM sagaz_ha.maintenance_status() AS s, sagaz_ha.coverage() AS c
		 WHERE s.database = 'minutes' AND s.process = 'worker'}),
		"$width: the next pass comes before coverage is below half, though naptime is an hour");
}
# what is due is done: a day would go by otherwise
$node->safe_psql('minutes', q{
	DROP TABLE t;
	CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);});
configure($node, 'sagaz_ha.clock' => undef);
$node->safe_psql('minutes', q{SELECT sagaz_ha.manage_partitions('t', '1 minute', 1)});
ok($node->poll_query_until('minutes', q{SELECT count(*) >= 2 FROM pg_inherits WHERE inhparent = 't'::regclass}),
	'a table of minutes by the real clock');
ok($node->poll_query_until('minutes', q{SELECT next_pass < last_pass + interval '80 seconds'
	FROM sagaz_ha.maintenance_status() WHERE database = 'minutes' AND process = 'worker'}),
	'is looked at again soon');

done_testing();
