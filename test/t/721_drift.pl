# The worker builds the indexes that partitions lack, in nobody's way: as the
# table's owner, concurrently, and once only, whatever comes in between.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\nfsync = off\n");

# An index's function that nobody but the owner may run.
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE ROLE app LOGIN;
	GRANT CREATE ON SCHEMA public TO app;
	SET ROLE app;
	CREATE TABLE t (id int NOT NULL, created_at timestamptz NOT NULL, a text) PARTITION BY RANGE (created_at);
	CREATE FUNCTION only_app(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user <> 'app' THEN
			RAISE 'run by %', current_user;
		END IF;
		RETURN $1;
	END$$;
	RESET ROLE;
	SELECT sagaz_ha.manage_partitions('t', '1 day', 2)});
is_partitions($node, 'postgres', 't', 0, 2, 'the table has partitions');
$node->safe_psql('postgres', q{INSERT INTO t SELECT i, sagaz_ha.clock() + i % 2 * interval '1 day', 'x' FROM generate_series(1, 1000) AS i});

sub is_valid
{
	my ($index, $name) = @_;

	ok(defined when($node, 'postgres', qq{
		(SELECT indisvalid AND (SELECT count(*) = 3 FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid
			WHERE inhparent = '$index'::regclass AND indisvalid) FROM pg_index WHERE indexrelid = '$index'::regclass)}), $name);
	return;
}

sub indexes_of
{
	my ($partition) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM pg_index WHERE indrelid = '$partition'::regclass");
}

# A writer that has been busy for long is waited for, and no other one waits.
stop_maintenance($node);
$node->safe_psql('postgres', q{
	SET ROLE app;
	CREATE UNIQUE INDEX by_function ON ONLY t (only_app(a), id, created_at);
	ALTER TABLE ONLY t ADD PRIMARY KEY (id, created_at)});
my $writer = $node->background_psql('postgres');
$writer->query_safe(q{BEGIN; INSERT INTO t VALUES (0, sagaz_ha.clock(), 'open')});
configure($node, 'sagaz_ha.enabled' => 'on');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'sagaz_ha upkeep'
		AND wait_event_type = 'Lock')}), 'the worker waits for the writer');
is($node->safe_psql('postgres', q{SET lock_timeout = '1s'; INSERT INTO t VALUES (-1, sagaz_ha.clock(), 'b'), (-1, sagaz_ha.clock() + interval '1 day', 'c') RETURNING a}),
	"b\nc", 'and no writer waits for it');
$writer->query_safe('COMMIT');
$writer->quit;
is_valid('by_function', 'an index whose function only the owner may run');
is_valid('t_pkey', 'a primary key');
is($node->safe_psql('postgres', q{INSERT INTO t VALUES (0, sagaz_ha.clock(), 'd') ON CONFLICT (id, created_at) DO NOTHING RETURNING 1}),
	'', 'ON CONFLICT works');
ok(defined when($node, 'postgres', q{NOT EXISTS (SELECT FROM sagaz_ha.problem)}), 'no problem is left');
is($node->safe_psql('postgres', q{SELECT status FROM sagaz_ha.partition_health() WHERE table_name = 't' AND check_name = 'drift'}),
	'ok', 'and health is ok');
my @names = split /\n/, partitions_of($node, 'postgres', 't') =~ s/ /\n/gr;
is(indexes_of($_), 2, "$_ has each of them once") foreach @names;

# Killed between building and attaching: what is built is used.
stop_at($node, 'repair:after_build');
$node->safe_psql('postgres', 'CREATE INDEX by_id ON ONLY t (id DESC)');
my $killed = stopped_at($node, 'repair:after_build');
kill 'KILL', $killed;
$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $killed)") or die;
let_go($node);
is_valid('by_id', 'a crash after an index was built');
is(indexes_of($_), 3, "$_ has no index twice") foreach @names;

# What can't be built is an error that backs off, and is mended when it can.
$node->safe_psql('postgres', q{
	SET ROLE app;
	INSERT INTO t VALUES (5000, sagaz_ha.clock(), 'twice'), (5001, sagaz_ha.clock(), 'twice');
	CREATE UNIQUE INDEX by_a ON ONLY t (created_at, a, (id / 10000)) WHERE a = 'twice'});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
		WHERE found_by = 'drift' AND action = 'ERROR' AND sqlstate = '23505' AND times >= 2 AND next_try IS NOT NULL)}),
	'duplicates are an error that is tried again');
is($node->safe_psql('postgres', q{SELECT status FROM sagaz_ha.partition_health() WHERE table_name = 't' AND check_name = 'drift'}),
	'critical', 'and health is critical');
$node->safe_psql('postgres', 'DELETE FROM t WHERE id = 5001');
is_valid('by_a', 'without them it is built');
is(indexes_of($_), 4, "$_ has nothing left of what failed") foreach @names;

# By hand: who mends one partition keeps it locked, so all the others together are
# waited for no longer than one.
my $of = 6;
$node->safe_psql('postgres', qq{
	CREATE TABLE d (at timestamptz NOT NULL, n int) PARTITION BY RANGE (at);
	ALTER TABLE d ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON d USING (true);
	GRANT SELECT ON d TO app;
	SELECT sagaz_ha.manage_partitions('d', '1 day', $of - 1)});
is_partitions($node, 'postgres', 'd', 0, $of - 1, 'there are partitions');
@names = split / /, partitions_of($node, 'postgres', 'd');

# What comes of it beside a session that reads some of them, and how many ms that takes.
sub repair_beside
{
	my ($session, $drift, @read) = @_;

	$node->safe_psql('postgres', $drift =~ s/PARTITION/$_/gr) foreach @names;
	$session->query_safe(join q{; }, q{BEGIN}, map { "SELECT FROM $_" } @read);
	my ($said, $ms) = split /\|/, $node->safe_psql('postgres', q{
		SET sagaz_ha.lock_timeout = '1s';
		SELECT clock_timestamp() AS began \gset
		SELECT string_agg(DISTINCT format('%s %s', n, action), ', ') AS said
			FROM (SELECT action, count(*) AS n FROM sagaz_ha.repair_partitions('d') GROUP BY 1) AS r \gset
		SELECT :'said', round(extract(epoch FROM clock_timestamp() - :'began') * 1000)});
	$session->query_safe('ROLLBACK');
	return ($said, $ms);
}

my $reader = $node->background_psql('postgres');
my ($said, $one) = repair_beside($reader, 'ALTER TABLE PARTITION ALTER n SET DEFAULT 1', $names[0]);
is($said, '1 DEFER, 5 REPAIR', 'one partition that is read is left');
($said, my $five) = repair_beside($reader, 'ALTER TABLE PARTITION ALTER n SET DEFAULT 1', @names[ 1 .. 5 ]);
is($said, '1 REPAIR, 5 DEFER', 'so are five');
cmp_ok($five, '<', 3 * $one, "which takes little longer than one does: $five ms, not five times $one ms");
($said, undef) = repair_beside($reader, 'REVOKE SELECT ON PARTITION FROM app; ALTER TABLE PARTITION ALTER n DROP DEFAULT', @names);
is($said, '6 REPAIR', 'privileges are mended while all are read');
$reader->quit;

$node->stop;
done_testing();
