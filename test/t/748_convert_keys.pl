# Tables become partitioned in place by keys of every kind, with bounds of any low
# bits, and ATTACH never reads them.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazConversion;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\nlog_min_messages = debug1\n");

# Keys with random low bits, and the least of a time
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE FUNCTION v7(at timestamptz) RETURNS uuid LANGUAGE sql AS $$
	  SELECT (left(sagaz_ha.uuidv7_at(at)::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid $$;
	CREATE FUNCTION v7_with(at timestamptz, low text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
	  SELECT (left(sagaz_ha.uuidv7_at(at)::text, 14) || '7abc-9def-' || low)::uuid $$;
	CREATE FUNCTION ulid(at timestamptz, n int) RETURNS text LANGUAGE sql AS $$
	  SELECT left(sagaz_ha.ulid_at(at), 10) || lpad(n::text, 16, '7') $$;
	CREATE FUNCTION day(n int) RETURNS timestamptz LANGUAGE sql AS $$
	  SELECT date_trunc('day', now(), 'UTC') + n * interval '1 day' $$});

sub attached_without_scan
{
	my ($table, $name) = @_;

	ok(slurp_file($node->logfile) =~ /partition constraint for table "$table" is implied by existing constraints/, $name);
	return;
}

# Each kind: type of the key, encoding, a key of the time "at" with the number n
my @kinds = (
	[ 'uuid', undef, 'v7(at)' ], [ 'uuid', 'ulid', 'v7(at)' ],
	[ 'text COLLATE "C"', undef, 'ulid(at, n)' ], [ 'varchar(26) COLLATE "C"', 'ulid', 'ulid(at, n)' ], [ 'char(26) COLLATE "C"', undef, 'ulid(at, n)' ],
	[ 'bigint', 'unix seconds', 'sagaz_ha.unix_seconds_at(at)' ], [ 'bigint', 'unix milliseconds', 'sagaz_ha.unix_milliseconds_at(at) + 1' ],
	[ 'bigint', 'unix microseconds', 'sagaz_ha.unix_microseconds_at(at) + 1' ],
	[ 'bigint', 'snowflake', 'sagaz_ha.snowflake_at(at) + n' ], [ 'bigint', 'snowflake 1500000000000 10', q{sagaz_ha.snowflake_at(at, 'snowflake 1500000000000 10') + n % 1024} ]);

foreach my $i (0 .. $#kinds)
{
	my ($type, $encoding, $key) = @{ $kinds[$i] };
	my $told = defined $encoding ? ", key_encoding => '$encoding'" : '';

	# every other one is read in whole, as it has no index on the key that can be used
	my $forced = $i % 2 ? "ALTER TABLE k$i ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;" : '';
	$node->safe_psql('postgres', qq{
		CREATE TABLE k$i (id $type PRIMARY KEY, n int);
		INSERT INTO k$i SELECT $key, n FROM generate_series(1, 500) AS n, LATERAL (SELECT now() - n * interval '1 hour') AS t (at);
		$forced
		CREATE TABLE c$i (id int, k $type REFERENCES k$i);
		INSERT INTO c$i SELECT n, id FROM k$i;
		SELECT sagaz_ha.partition_table('k$i', 'id', '1 day', retention => '60 days'$told)});
}
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM sagaz_ha.conversion)'), 'keys of every kind')
  or diag($node->safe_psql('postgres', 'TABLE sagaz_ha.conversions'));
foreach my $i (0 .. $#kinds)
{
	my ($type, $encoding, $key) = @{ $kinds[$i] };
	my $what = $type . ', ' . ($encoding // 'not told');

	is($node->safe_psql('postgres', qq{
		INSERT INTO k$i SELECT $key, 0 FROM (SELECT 501, now() + interval '2 days') AS t (n, at);
		INSERT INTO k$i SELECT id, -1 FROM k$i ON CONFLICT (id) DO NOTHING;
		SELECT count(*), count(*) FILTER (WHERE tableoid <> 'k${i}_before'::regclass) FROM k$i;
		SELECT relkind FROM pg_class WHERE oid = 'k$i'::regclass;
		SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), ', ') FROM pg_constraint WHERE conrelid = 'k$i'::regclass AND contype = 'p';
		SELECT confrelid::regclass, convalidated FROM pg_constraint WHERE conrelid = 'c$i'::regclass AND contype = 'f' AND conparentid = 0;
		SELECT string_agg(check_name || ' ' || details, ', ') FROM sagaz_ha.partition_health() WHERE table_name = 'k$i' AND status <> 'ok';
	}), join("\n", '501|1', 'p', "k${i}_pkey PRIMARY KEY (id)", "k$i|t", ''), "$what: all rows, unique by the key alone, referenced, healthy");
	my ($code, $out, $err) = $node->psql('postgres', "INSERT INTO k$i SELECT id, -1 FROM k$i WHERE n = 7");
	like($err, qr/duplicate key/, "$what: no key twice");
	attached_without_scan("k$i", "$what: nothing is read under the lock");
	is($node->safe_psql('postgres', qq{SELECT partition_end - date_trunc('day', partition_end, 'UTC'), partition_end > now() + interval '1 day'
		FROM sagaz_ha.partitions(false) WHERE partition_name = 'k${i}_before'}), '00:00:00|t', "$what: the bound is a day's");
}

# and back
$node->safe_psql('postgres', "DELETE FROM $_ WHERE n = 0; SELECT sagaz_ha.unpartition_table('$_')") foreach qw(k0 k6);
is($node->safe_psql('postgres', q{
	SELECT relkind, conname, n FROM pg_constraint JOIN pg_class AS c ON c.oid = conrelid
		JOIN (SELECT 'k0' AS name, count(*) AS n FROM k0 UNION ALL SELECT 'k6', count(*) FROM k6) AS t ON name = relname
	 WHERE contype = 'p' ORDER BY relname}), "r|k0_pkey|500\nr|k6_pkey|500", 'plain tables again');

# by hand, with the statements of the plan
$node->safe_psql('postgres', q{
	CREATE TABLE hand (id bigint PRIMARY KEY, n int);
	INSERT INTO hand SELECT sagaz_ha.unix_milliseconds_at(now()) - n, n FROM generate_series(1, 100) AS n;
	SELECT statement FROM sagaz_ha.plan_partition_table('hand', 'id', '1 day', key_encoding => 'unix milliseconds') WHERE statement IS NOT NULL
	\gexec
});
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM hand), key_encoding FROM sagaz_ha.partition_policy WHERE parent = 'hand'::regclass}),
	'100|unix milliseconds', 'by hand');

# a worker that was too slow takes a later bound, of the same kind
stop_at($node, 'convert_validating:after_commit');
$node->safe_psql('postgres', q{
	CREATE TABLE slow (id bigint PRIMARY KEY);
	INSERT INTO slow SELECT sagaz_ha.unix_seconds_at(now()) - n FROM generate_series(1, 100) AS n;
	SELECT sagaz_ha.partition_table('slow', 'id', '1 day', key_encoding => 'unix seconds')});
stopped_at($node, 'convert_validating:after_commit');
$node->safe_psql('postgres', q{UPDATE sagaz_ha.conversion SET finish_by = now() - interval '1 hour'});
my $pid = $node->safe_psql('postgres', q{SELECT pid FROM sagaz_ha.maintenance_status() WHERE process = 'conversion'});
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
let_go($node);
converted($node, 'slow', 'begun again with a later bound');

# default and last partitions, beside bounds with low bits in the same millisecond
$node->safe_psql('postgres', q{
	CREATE TABLE d1 (id uuid PRIMARY KEY) PARTITION BY RANGE (id);
	CREATE TABLE d1_rest PARTITION OF d1 DEFAULT;
	CREATE TABLE d2 (LIKE d1 INCLUDING ALL) PARTITION BY RANGE (id);
	CREATE TABLE d2_rest PARTITION OF d2 DEFAULT;
	CREATE TABLE d3 (LIKE d1 INCLUDING ALL) PARTITION BY RANGE (id);
	CREATE TABLE d3_old PARTITION OF d3 FOR VALUES FROM (sagaz_ha.uuidv7_at(day(-30))) TO (v7_with(day(-20), 'bbbbbbbbbbbb'));
	CREATE TABLE d3_rest PARTITION OF d3 FOR VALUES FROM (v7_with(day(-20), 'bbbbbbbbbbbb')) TO (MAXVALUE);
	CREATE TABLE d4 (LIKE d1 INCLUDING ALL) PARTITION BY RANGE (id);
	CREATE TABLE d4_rest PARTITION OF d4 DEFAULT;
	DO $$BEGIN
		EXECUTE format('CREATE TABLE d1_now PARTITION OF d1 FOR VALUES FROM (%L) TO (%L)', v7_with(day(0), 'bbbbbbbbbbbb'), v7_with(day(1), 'bbbbbbbbbbbb'));
		EXECUTE format('CREATE TABLE d2_now PARTITION OF d2 FOR VALUES FROM (%L) TO (%L)', v7_with(day(0), 'bbbbbbbbbbbb'), v7_with(day(1), 'bbbbbbbbbbbb'));
		EXECUTE format('CREATE TABLE d4_now PARTITION OF d4 FOR VALUES FROM (%L) TO (%L)', v7_with(day(0), 'bbbbbbbbbbbb'), v7_with(day(1), 'bbbbbbbbbbbb'));
	END$$;
	INSERT INTO d1 SELECT v7(day(0) - n * interval '1 h') FROM generate_series(1, 100) AS n;
	INSERT INTO d1 VALUES (v7_with(day(0), 'aaaaaaaaaaaa')), (v7_with(day(0), 'cccccccccccc'));
	INSERT INTO d2 TABLE d1;
	INSERT INTO d2 VALUES (v7_with(day(1), 'cccccccccccc')), (v7(day(1) + interval '1 h'));
	INSERT INTO d3 SELECT v7(day(-10) + n * interval '1 h') FROM generate_series(1, 100) AS n;
	INSERT INTO d3 VALUES (v7_with(day(-20), 'aaaaaaaaaaaa')), (v7_with(day(-20), 'cccccccccccc'));
	INSERT INTO d4 TABLE d1;
	INSERT INTO d4 VALUES ('ffffffff-0000-4000-8000-000000000000')});
$node->safe_psql('postgres', "SELECT sagaz_ha.partition_table('$_', 'id', '1 day')") foreach qw(d1 d2 d3 d4);
ok($node->poll_query_until('postgres', q{SELECT string_agg(table_name || ' ' || step, ',') = 'd4 failed' FROM sagaz_ha.conversions}), 'default and last partitions')
  or diag($node->safe_psql('postgres', 'TABLE sagaz_ha.conversions'));
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM d1), (SELECT count(*) FROM d2), (SELECT count(*) FROM d3), (SELECT count(*) FROM d4)'),
	'102|104|102|103', 'with every row');
is($node->safe_psql('postgres', q{
	SELECT pg_get_expr(relpartbound, oid) = format('FOR VALUES FROM (MINVALUE) TO (%L)', v7_with(day(0), 'bbbbbbbbbbbb')) FROM pg_class WHERE oid = 'd1_rest'::regclass;
	SELECT starts_with(pg_get_expr(relpartbound, oid), format('FOR VALUES FROM (%L) TO (', v7_with(day(-20), 'bbbbbbbbbbbb'))) FROM pg_class WHERE oid = 'd3_rest'::regclass;
	SELECT to_regclass('d2_rest') IS NULL, count(*) > 5 FROM pg_inherits WHERE inhparent = 'd2'::regclass;
	SELECT split_part(error, ';', 1) FROM sagaz_ha.conversions}), join("\n", 't', 't', 't|t',
	q{these rows of partition d4_rest can't be moved in one short transaction: rows whose key is no UUID of version 7, or more than a year ahead}),
	'bounds to the last bit; junk is named');
attached_without_scan($_, "$_: nothing is read under the lock") foreach qw(d1_rest d3_rest);
$node->stop;
done_testing();
