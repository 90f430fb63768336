# Uniqueness across partitions: on a large table by the worker, through a crash, in
# COPY, on a subscriber, through dump, restore and pg_upgrade.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', streaming => 'logical',
	conf => "wal_level = logical\nsagaz_ha.naptime = 1s\nfsync = off\n");
my $day = q{CREATE FUNCTION day(n integer) RETURNS timestamptz LANGUAGE sql IMMUTABLE
	AS $$ SELECT '2026-03-01 00:00:00+00'::timestamptz + n * interval '1 day' $$;
	CREATE TABLE e (id bigint, at timestamptz NOT NULL, payload text) PARTITION BY RANGE (at);
	SELECT format('CREATE TABLE e_%s PARTITION OF e FOR VALUES FROM (%L) TO (%L)', n, day(n), day(n + 1))
	  FROM generate_series(1, 4) AS n \gexec
};
my ($stdout, $stderr);

sub fails_with
{
	my ($server, $sql, $pattern, $name) = @_;
	my $error;

	isnt($server->psql('postgres', $sql, stderr => \$error), 0, $name);
	like($error, $pattern, "$name: why");
	return;
}

sub phase { return $node->safe_psql('postgres', "SELECT phase FROM sagaz_ha.unique_key WHERE parent = 'e'::regclass") }

# --- a table that is too large to be done at once, with duplicates in it

$node->safe_psql('postgres', "CREATE EXTENSION sagaz_ha; $day");
$node->safe_psql('postgres', q{
	INSERT INTO e SELECT n, day(1 + n % 4), repeat('x', 500) FROM generate_series(1, 40000) AS n;
	INSERT INTO e VALUES (7, day(1)), (8, day(3));
});
$node->psql('postgres', q{SELECT sagaz_ha.add_unique('e', '{id}')}, stderr => \$stderr);
like($stderr, qr/NOTICE:.*not in force yet.*4 partitions/s, 'a large table is left to the worker');
ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM sagaz_ha.problem
		WHERE partition_name = 'e_id_unique' AND sqlstate = '23505' AND details LIKE '%has duplicates of unique constraint "e_id_unique"%')}),
	'the worker makes the indexes, and finds the duplicates');
is(phase(), 'checking', 'until they are gone it is checking');
fails_with($node, q{INSERT INTO e VALUES (9, day(1))}, qr/duplicate key value violates unique constraint "e_id_unique"/,
	'new rows are checked meanwhile');
fails_with($node, q{SELECT sagaz_ha.add_unique('e', '{id}')}, qr/has duplicates.*\(id\)=\(7\)/s, 'so says add_unique()');
$node->safe_psql('postgres', q{DELETE FROM e WHERE payload IS NULL});
ok($node->poll_query_until('postgres', q{SELECT phase = 'in_force' FROM sagaz_ha.unique_key}), 'then it is in force');
ok($node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM sagaz_ha.problem)}), 'and nothing is wrong');

# --- a build that is killed; an index that is lost
$node->safe_psql('postgres', q{SELECT sagaz_ha.drop_unique('e', '{id}')});
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_index WHERE indrelid = 'e_1'::regclass}), 't', 'the index stays');
$node->safe_psql('postgres', q{SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index
	WHERE indrelid IN (SELECT inhrelid FROM pg_inherits) \gexec});
my $writer = $node->background_psql('postgres');
$writer->query_safe(q{BEGIN; INSERT INTO e VALUES (100000, day(2)); });
$node->safe_psql('postgres', q{SET client_min_messages = error; SELECT sagaz_ha.add_unique('e', '{id}')});
ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid AND indrelid = 'e_2'::regclass)}),
	'a build waits for a writer');
$node->stop('immediate');
$writer->{run}->kill_kill;
$node->start;
ok($node->poll_query_until('postgres', q{SELECT phase = 'in_force' FROM sagaz_ha.unique_key}), 'after a crash it goes on');
is($node->safe_psql('postgres', q{SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indrelid IN (SELECT inhrelid FROM pg_inherits)}),
	'4|t', 'with one valid index in each partition');
$node->safe_psql('postgres', q{SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE indrelid = 'e_3'::regclass \gexec
	SELECT pg_reload_conf()});
ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_index WHERE indisvalid AND indrelid = 'e_3'::regclass)}),
	'a partition that has lost its index gets it again');

# --- COPY
fails_with($node, "COPY e (id, at) FROM STDIN;\n200000\t2026-03-02 01:00:00+00\n200000\t2026-03-03 01:00:00+00\n\\.\n",
	qr/duplicate key.*\(id\)=\(200000\)/s, 'COPY');

# --- a table with partitions is attached, one of which is younger than the transaction
$node->safe_psql('postgres', 'CREATE TABLE e_5 (LIKE e) PARTITION BY RANGE (at)');
my $attacher = $node->background_psql('postgres', on_error_stop => 0);
$attacher->query_safe('BEGIN; SELECT pg_current_xact_id()');
$node->safe_psql('postgres', q{SELECT format('CREATE TABLE e_5a PARTITION OF e_5 FOR VALUES FROM (%L) TO (%L)', day(5), day(6)) \gexec
	INSERT INTO e_5 VALUES (10, day(5))});
$attacher->query(q{SELECT format('ALTER TABLE e ATTACH PARTITION e_5 FOR VALUES FROM (%L) TO (%L)', day(5), day(6)) \gexec});
like($attacher->{stderr}, qr/e_5a can't be a partition of table.*\(id\)=\(10\)/s, 'its rows are looked for all the same');
$attacher->query('ROLLBACK');
$attacher->quit;
$node->safe_psql('postgres', 'DROP TABLE e_5');

# --- drop_unique() waits for whoever uses the table, and nobody waits behind it
$node->safe_psql('postgres', q{CREATE TABLE g (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at);
	CREATE TABLE g_1 PARTITION OF g DEFAULT;
	SELECT sagaz_ha.add_unique('g', '{id}')});
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT FROM g');
my $dropper = $node->background_psql('postgres');
$dropper->query_safe(q{SET sagaz_ha.lock_timeout = '180s'});
$dropper->query_until(qr/begins/, "\\echo begins\nSELECT sagaz_ha.drop_unique('g', '{id}');\n\\echo over\n");
ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%drop\_unique%' AND pid <> pg_backend_pid())}),
	'drop_unique() waits');
is($node->safe_psql('postgres', 'SELECT count(*) FROM g'), '0', 'readers go on') for 1 .. 5;
$reader->query_safe('COMMIT');
like($dropper->query_until(qr/over/, ''), qr/^t$/m, 'until it can have its lock');
$_->quit for ($reader, $dropper);
$node->safe_psql('postgres', 'DROP TABLE g');

# --- dump and restore; a worker may make an index of its own before the restore makes its
my $dir = PostgreSQL::Test::Utils::tempdir;
my $state = q{SELECT c.relname, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid) FROM pg_trigger AS t
	JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relname LIKE 'e%' ORDER BY 1, 2;
	SELECT parent, name, columns, within, on_duplicate, phase FROM sagaz_ha.unique_key;
	SELECT indrelid::regclass, count(*) > 0 FROM pg_index WHERE indisvalid AND indrelid IN (SELECT inhrelid FROM pg_inherits) GROUP BY indrelid ORDER BY indrelid::regclass::text;};
my $expected = $node->safe_psql('postgres', $state);
$node->command_ok([ 'pg_dump', '-Fd', '-f', "$dir/dump", $node->connstr('postgres') ], 'pg_dump');
for my $jobs (1, 4)
{
	$node->safe_psql('postgres', "CREATE DATABASE copy$jobs TEMPLATE template0");
	$node->command_ok([ 'pg_restore', '-j', $jobs, '-d', $node->connstr("copy$jobs"), "$dir/dump" ], "pg_restore -j $jobs");
	is($node->safe_psql("copy$jobs", $state), $expected, 'everything is there');
	$node->psql("copy$jobs", q{INSERT INTO e VALUES (9, day(1))}, stderr => \$stderr);
	like($stderr, qr/violates unique constraint "e_id_unique"/, 'and in force');
	$node->safe_psql("copy$jobs", 'DROP EXTENSION sagaz_ha');
	is($node->safe_psql("copy$jobs", q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'e_1'::regclass}), '0',
		'DROP EXTENSION takes the triggers');
	is($node->safe_psql("copy$jobs", q{SELECT count(*) > 0 FROM pg_index WHERE indrelid = 'e_1'::regclass}), 't', 'the index stays');
}

# --- a subscriber: rows that are applied are checked
my $subscriber = sagaz_server('subscriber', conf => "wal_retrieve_retry_interval = 100ms\nfsync = off\n");
$subscriber->safe_psql('postgres', "CREATE EXTENSION sagaz_ha; $day SELECT sagaz_ha.add_unique('e', '{id}');
	INSERT INTO e VALUES (300001, day(1));");
$node->safe_psql('postgres', q{CREATE PUBLICATION p FOR TABLE e WITH (publish_via_partition_root)});
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION p WITH (copy_data = off)");
$node->safe_psql('postgres', q{INSERT INTO e VALUES (300000, day(1))});
$node->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM e WHERE id = 300000'), '1', 'a row is applied');
my $offset = -s $subscriber->logfile;
$node->safe_psql('postgres', q{INSERT INTO e VALUES (300001, day(2))});
$subscriber->wait_for_log(qr/duplicate key value violates unique constraint "e_id_unique"/, $offset);
$subscriber->safe_psql('postgres', q{DELETE FROM e WHERE id = 300001});
$node->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', 'SELECT tableoid::regclass FROM e WHERE id = 300001'), 'e_2',
	'a duplicate is refused, until it is none');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->stop;

# --- pg_upgrade, from this version to itself
$node->safe_psql('postgres', "DROP DATABASE copy$_") for (1, 4);
my $new = sagaz_server('new', start => 0);
$node->stop;
my $bindir = $node->config_data('--bindir');
chdir $dir or die;
command_ok([ 'pg_upgrade', '-d', $node->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
		'-p', $node->port, '-P', $new->port, '-s', $new->host ], 'pg_upgrade');
$new->start;
is($new->safe_psql('postgres', $state), $expected, 'everything is there');
fails_with($new, q{INSERT INTO e VALUES (9, day(1))}, qr/violates unique constraint "e_id_unique"/, 'in force');
$new->stop;
done_testing();
