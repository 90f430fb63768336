# Whom the short locks of a conversion wait for, and who doesn't notice them; and
# default partitions.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazConversion;
use SagazTest;
use Test::More;
use Time::HiRes qw(time);

my $node = sagaz_server('main', streaming => 1, conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\n");

$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
	INSERT INTO events SELECT generate_series(1, 1000)});

sub ask
{
	my ($table) = @_;

	$node->safe_psql('postgres', "SELECT sagaz_ha.partition_table('$table', 'at', '1 day', weaken_unique => true)");
	return;
}

sub waits_for
{
	my ($what, $name) = @_;

	ok($node->poll_query_until('postgres', "SELECT waiting_for ~ '$what' FROM sagaz_ha.conversions"), $name)
	  or diag($node->safe_psql('postgres', 'TABLE sagaz_ha.conversions'));
	return;
}

# an old transaction that uses the table
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN');
my $pid = $old->query_safe('SELECT pg_backend_pid() FROM events LIMIT 1');
ok(when($node, 'postgres', "clock_timestamp() - xact_start > interval '1.1 s' FROM pg_stat_activity WHERE pid = $pid"), 'a transaction is old');
ask('events');
waits_for("process $pid, in a transaction for", 'it is waited for, and named');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE relation = 'events'::regclass AND mode = 'AccessExclusiveLock'"),
	'0', 'without a strong lock');
is_within(elapsed(sub { $node->safe_psql('postgres', 'INSERT INTO events SELECT max(id) + 1 FROM events') }), 2, 'and nobody waits behind it');
like($node->safe_psql('postgres', q{SELECT details FROM sagaz_ha.partition_health() WHERE check_name = 'conversion'}),
	qr/^waiting for process $pid/, 'health says so');
is($node->safe_psql('postgres', q{SELECT value >= 1 FROM sagaz_ha.metrics() WHERE name = 'sagaz_ha_conversion_tries'}), 't', 'so does a metric');
$old->query_safe('COMMIT');
converted($node, 'events', 'when it has ended, the conversion goes on');
is($node->safe_psql('postgres', q{SELECT phase FROM sagaz_ha.maintenance_status() WHERE process = 'conversion'}), 'idle', 'the worker has its row in the status');

# a younger one that lasts while the lock is asked for
$node->safe_psql('postgres', q{SELECT sagaz_ha.unpartition_table('events')});
stop_at($node, 'convert_indexing:after_commit');
ask('events');
stopped_at($node, 'convert_indexing:after_commit');
configure($node, 'sagaz_ha.conversion_lock_timeout' => '50ms');
$old->query_safe('BEGIN');
$old->query_safe('LOCK TABLE events IN ROW EXCLUSIVE MODE');
{
	my ($code, $out, $err) = $node->psql('postgres', q{CREATE ROLE stranger; GRANT USAGE ON SCHEMA sagaz_ha TO stranger; SET ROLE stranger; SET lock_timeout = '2s';
		SELECT sagaz_ha._clone_index('events_pkey', 'events', 'x')});
	like($err, qr/must be owner of table events/, 'who does not own a table locks nothing');
}
let_go($node);
ok($node->poll_query_until('postgres', 'SELECT tries > 1 FROM sagaz_ha.conversions'), 'a lock that is not to be had is let go, and tried again');
is_within(elapsed(sub { $node->safe_psql('postgres', 'INSERT INTO events SELECT max(id) + 1 FROM events') }), 2, 'nobody waits for long');
$old->query_safe('COMMIT');
converted($node, 'events', 'then it goes on');
configure($node, 'sagaz_ha.conversion_lock_timeout' => undef);

# transactions too short to be named, and always one that has a lock
$node->safe_psql('postgres', 'CREATE TABLE busy (id int, at timestamptz NOT NULL)');
append_to_file($node->basedir . '/hold.sql', "BEGIN;\nLOCK TABLE busy IN ROW EXCLUSIVE MODE;\n\\set t random(300, 900)\n\\sleep :t ms\nCOMMIT;\n");
my $holders = IPC::Run::start([ 'pgbench', '-n', '-c', 8, '-T', 100000, '-f', $node->basedir . '/hold.sql', $node->connstr('postgres') ],
	'>', \my $said, '2>', \my $complaints);
ask('busy');
waits_for('^a lock that another session has$', 'a lock that is tried again is waited for');
is($node->safe_psql('postgres', 'SELECT error FROM sagaz_ha.conversions'), '', 'and is no error');
$holders->kill_kill;
converted($node, 'busy', 'without them it goes on');
$node->safe_psql('postgres', q{SELECT sagaz_ha.stop_managing_partitions('busy')});

# a worker that begins while one is being cancelled leaves that alone
$node->safe_psql('postgres', q{SELECT sagaz_ha.unpartition_table('events'); ALTER TABLE events DROP CONSTRAINT events_pkey, ADD PRIMARY KEY (id);
	CREATE TABLE beside AS SELECT 1 AS id, now() AS at});
stop_at($node, 'convert_validating:after_commit');
ask('events');
stopped_at($node, 'convert_validating:after_commit');
$old->query_safe(q{BEGIN; SELECT sagaz_ha.cancel_partition_table('events')});
let_go($node);
ask('beside');
ok($node->poll_query_until('postgres', q{SELECT relkind = 'p' FROM pg_class WHERE relname = 'beside'}), 'while a cancel is not committed, other tables are converted');
$old->query_safe('COMMIT');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM sagaz_ha.conversion}), 'and it stays cancelled');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname ~ '^events.*(_with_key|_sagaz_ha)$'}), '0', 'with nothing left');
ask('events');
converted($node, 'events', 'asked for again');

# an autovacuum is ended for it
$node->safe_psql('postgres', q{SELECT sagaz_ha.unpartition_table('events')});

# a standby's query
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nwal_receiver_status_interval = 1s\nmax_standby_streaming_delay = -1\nsagaz_ha.enabled = off\n");
$standby->start;
my $query = $standby->background_psql('postgres');
$query->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$query->query_safe('SELECT count(*) FROM events');
ok($node->poll_query_until('postgres', 'SELECT backend_xmin IS NOT NULL FROM pg_stat_replication'), 'feedback');
$node->safe_psql('postgres', 'CREATE TABLE other AS SELECT 1 AS i; GRANT CREATE ON SCHEMA public TO stranger; ALTER TABLE events OWNER TO stranger');
ask('events');
waits_for('standby standby, which has a snapshot', 'a standby is waited for, and named');
{
	my ($code, $out, $err) = $node->psql('postgres', q{GRANT EXECUTE ON FUNCTION sagaz_ha.cancel_partition_table TO stranger;
		SET ROLE stranger; SET statement_timeout = '3s';
		SELECT sagaz_ha.cancel_partition_table('events')});
	like($err, qr/statement timeout/, 'so it is when somebody cancels who may not see it');
}
$query->query_safe('COMMIT');
converted($node, 'events', 'when its query has ended, the conversion goes on');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q{SELECT relkind FROM pg_class WHERE oid = 'events'::regclass}), 'p', 'on the standby, too');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM sagaz_ha.conversions'), '0', 'which can read the view');
$query->quit;
$standby->stop;

# a row that comes between the call and the check
stop_at($node, 'convert_checking:before_commit');
$node->safe_psql('postgres', 'CREATE TABLE late (id int, at timestamptz); INSERT INTO late VALUES (1, now())');
stop_at($node, 'convert_checking:after_commit');
ask('late');
stopped_at($node, 'convert_checking:after_commit');
$node->safe_psql('postgres', q{
	ALTER TABLE late DROP CONSTRAINT sagaz_ha_bounds;
	INSERT INTO late VALUES (2, NULL);
	ALTER TABLE late ADD CONSTRAINT sagaz_ha_bounds CHECK (at IS NOT NULL AND at < 'infinity') NOT VALID});
let_go($node);
ok($node->poll_query_until('postgres', q{SELECT step = 'failed' AND error ~ '23514' FROM sagaz_ha.conversions}), 'a row that hinders it ends it');
is($node->safe_psql('postgres', q{SELECT to_regclass('late_sagaz_ha') IS NULL AND NOT EXISTS (
	SELECT FROM pg_constraint WHERE conrelid = 'late'::regclass)}), 't', 'and everything is as it was');
is($node->safe_psql('postgres', q{SELECT status FROM sagaz_ha.partition_health() WHERE check_name = 'conversion'}), 'critical', 'health is critical');
$node->safe_psql('postgres', 'DELETE FROM late WHERE at IS NULL');
stop_at($node, 'convert_renaming:after_commit');
ask('late');
stopped_at($node, 'convert_renaming:after_commit');
{
	my ($code, $out, $err) = $node->psql('postgres', q{SELECT sagaz_ha.cancel_partition_table('late')});
	like($err, qr/table "late" is partitioned already/, 'after the last lock it is too late to cancel');
}
$node->safe_psql('postgres', q{SELECT sagaz_ha.unpartition_table('late')});
let_go($node);
is($node->safe_psql('postgres', q{SELECT relkind, (SELECT count(*) FROM sagaz_ha.conversion) FROM pg_class WHERE oid = 'late'::regclass}), 'r|0', 'but not to go back');
ask('late');
converted($node, 'late', 'asked for again');

# the bound comes near
stop_at($node, 'convert_linking:after_commit');
$node->safe_psql('postgres', q{
	CREATE TABLE referenced (id int PRIMARY KEY);
	INSERT INTO referenced VALUES (1);
	CREATE TABLE slow (id int REFERENCES referenced, at timestamptz, PRIMARY KEY (id, at));
	INSERT INTO slow VALUES (1, now());
	CREATE TABLE referencing (id int, at timestamptz, FOREIGN KEY (id, at) REFERENCES slow)});
ask('slow');
stopped_at($node, 'convert_linking:after_commit');
$node->safe_psql('postgres', q{UPDATE sagaz_ha.conversion SET finish_by = now() - interval '1 hour', upper_bound = upper_bound});
$pid = $node->safe_psql('postgres', q{SELECT pid FROM sagaz_ha.maintenance_status() WHERE process = 'conversion'});
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
stopped_at($node, 'convert_linking:after_commit');
is($node->safe_psql('postgres', q{SELECT step, finish_by > now() FROM sagaz_ha.conversions}), 'attaching|t', 'a conversion that took too long begins again with a later bound');
stop_at($node, 'convert_analyzing:after_commit');
stopped_at($node, 'convert_analyzing:after_commit');

# what the statements lock besides is waited for as well
$old->query_safe('BEGIN; LOCK TABLE referencing IN ROW SHARE MODE');
$pid = $old->query_safe('SELECT pg_backend_pid()');
ok(when($node, 'postgres', "clock_timestamp() - xact_start > interval '1.1 s' FROM pg_stat_activity WHERE pid = $pid"), 'a transaction uses a referencing table');
let_go($node);
waits_for("process $pid, in a transaction for", 'it is waited for, before the strong lock');
$old->query_safe('COMMIT');
converted($node, 'slow', 'then it goes on');

# default and last partitions
$node->safe_psql('postgres', q{
	CREATE TABLE d1 (id int, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE d1_rest PARTITION OF d1 DEFAULT;
	INSERT INTO d1 SELECT n, now() - n * interval '1 h' FROM generate_series(1, 2000) AS n;
	CREATE TABLE d2 (LIKE d1 INCLUDING ALL) PARTITION BY RANGE (at);
	CREATE TABLE d2_rest PARTITION OF d2 DEFAULT;
	CREATE TABLE d2_now PARTITION OF d2 FOR VALUES FROM (date_trunc('day', now() - interval '1 day')) TO (date_trunc('day', now() + interval '1 day'));
	INSERT INTO d2 TABLE d1;
	CREATE TABLE d3 (id int GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, twice int GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (at);
	CREATE TABLE d3_rest PARTITION OF d3 DEFAULT;
	CREATE TABLE d3_now PARTITION OF d3 FOR VALUES FROM (date_trunc('day', now() - interval '1 day')) TO (date_trunc('day', now() + interval '1 day'));
	CREATE TABLE fired (op text);
	CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO fired VALUES (tg_op); RETURN NULL; END';
	CREATE TRIGGER fire AFTER DELETE OR UPDATE ON d3 FOR EACH ROW EXECUTE FUNCTION fire();
	-- replication fires these, as moving rows would
	CREATE TRIGGER fire_always AFTER DELETE OR INSERT ON d3 FOR EACH ROW EXECUTE FUNCTION fire();
	ALTER TABLE d3 ENABLE ALWAYS TRIGGER fire_always;
	CREATE TRIGGER fire_replica AFTER DELETE ON d3_rest FOR EACH STATEMENT EXECUTE FUNCTION fire();
	ALTER TABLE d3_rest ENABLE REPLICA TRIGGER fire_replica;
	CREATE RULE fire AS ON DELETE TO d3_rest DO ALSO INSERT INTO fired VALUES ('rule');
	ALTER TABLE d3_rest ENABLE ALWAYS RULE fire;
	INSERT INTO d3 (at) SELECT now() + (50 - n) * interval '1 h' FROM generate_series(1, 100) AS n;
	TRUNCATE fired;
	CREATE TABLE d4 (id int, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE d4_old PARTITION OF d4 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	CREATE TABLE d4_rest PARTITION OF d4 FOR VALUES FROM ('2021-01-01') TO (MAXVALUE);
	INSERT INTO d4 SELECT n, current_date - n FROM generate_series(1, 1000) AS n});
stop_at($node, 'convert_moving:before_commit');
ask($_) foreach qw(d1 d2 d3 d4);
stopped_at($node, 'convert_moving:before_commit');
$pid = $old->query_safe('SELECT pg_backend_pid()');
$old->query_until(qr/asked/, "\\echo asked\nSELECT 'seen ' || count(*) FROM d3;\n");
ok($node->poll_query_until('postgres', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'a query waits while rows are moved');
let_go($node);
like($old->query('SELECT 1'), qr/seen 100/, 'and sees all of them');
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM sagaz_ha.conversion)'), 'default and last partitions are converted')
  or diag($node->safe_psql('postgres', 'TABLE sagaz_ha.conversions'));
is($node->safe_psql('postgres', q{
	SELECT string_agg(t || ' ' || n, ', ' ORDER BY t) FROM (SELECT 'd1' AS t, count(*) AS n FROM d1 UNION ALL SELECT 'd2', count(*) FROM d2
		UNION ALL SELECT 'd3', count(DISTINCT (id, twice)) FROM d3 UNION ALL SELECT 'd4', count(*) FROM d4) AS c}),
	'd1 2000, d2 2000, d3 100, d4 1000', 'with every row');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relispartition AND pg_get_expr(relpartbound, oid) ~ 'DEFAULT|MAXVALUE'}),
	'0', 'no default or endless partition is left');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_inherits AS i, LATERAL pg_get_expr((SELECT relpartbound FROM pg_class WHERE oid = inhrelid), inhrelid) AS b
	WHERE inhrelid IN ('d1_rest'::regclass, 'd2_rest'::regclass) AND b ~ 'MINVALUE'}), '2', 'where all rows lie below, it is the first partition');
is($node->safe_psql('postgres', q{SELECT to_regclass('d3_rest') IS NULL, (SELECT count(*) FROM fired)}), 't|0',
	'else the rows are moved out, without a trigger');
is($node->safe_psql('postgres', q{SELECT string_agg(table_name || ' ' || check_name || ' ' || details, E'\n') FROM sagaz_ha.partition_health()
	WHERE status <> 'ok' AND table_name ~ '^d\d'}), '', 'health is green');
$node->safe_psql('postgres', q{
	CREATE TABLE d5 (id int, at timestamptz) PARTITION BY RANGE (at);
	CREATE TABLE d5_rest PARTITION OF d5 DEFAULT;
	CREATE TABLE d5_now PARTITION OF d5 FOR VALUES FROM (date_trunc('day', now())) TO (date_trunc('day', now() + interval '1 day'));
	CREATE TRIGGER fire AFTER DELETE ON d5 FOR EACH ROW EXECUTE FUNCTION fire();
	ALTER TABLE d5 ENABLE ALWAYS TRIGGER fire;
	INSERT INTO d5 SELECT n, date_trunc('day', now()) + interval '5 days' FROM generate_series(1, 10001) AS n;
	INSERT INTO d5 VALUES (1, date_trunc('day', now()) + interval '3 days'), (2, NULL)});
ask('d5');
ok($node->poll_query_until('postgres', q{SELECT error ~ '10001 rows from .*; rows without a key' FROM sagaz_ha.conversions WHERE step = 'failed'}),
	'what cannot be moved in one short transaction is named');
is($node->safe_psql('postgres', 'SELECT count(*), (SELECT count(*) FROM d5_rest) FROM d5'), '10003|10002', 'the rest is moved, and no row lost');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT tgenabled::text, ''), (SELECT count(*) FROM fired) FROM pg_trigger
	WHERE tgrelid IN (SELECT relid FROM pg_partition_tree('d5')) AND tgname = 'fire'}), 'A|0', 'and triggers that fire always do so again');

# what is taken back leaves the policy that there was
stop_at($node, 'convert_checking:after_commit');
$node->safe_psql('postgres', q{
	SELECT sagaz_ha.cancel_partition_table('d5');
	CREATE TABLE d6 (id int, at timestamptz) PARTITION BY RANGE (at);
	CREATE TABLE d6_rest PARTITION OF d6 DEFAULT;
	CREATE TABLE d7 (LIKE d6) PARTITION BY RANGE (at);
	CREATE TABLE d7_rest PARTITION OF d7 DEFAULT;
	CREATE TABLE d7_now PARTITION OF d7 FOR VALUES FROM (date_trunc('day', now() - interval '1 day')) TO (date_trunc('day', now() + interval '1 day'));
	INSERT INTO d7 VALUES (1, now() - interval '3 days');
	SELECT sagaz_ha.manage_partitions('d7', '1 month', retention => '2 years 3 days')});
foreach my $table (qw(d6 d7))
{
	ask($table);
	stopped_at($node, 'convert_checking:after_commit');
	# d7's default partition is to end where d7_now begins, so later rows need partitions
	is($node->safe_psql('postgres', "INSERT INTO $table VALUES (1, now() + interval '3 days' * ('$table' = 'd7')::int);
		SELECT finish_by > now() FROM sagaz_ha.conversions WHERE table_name = '$table'"), 't', "$table takes rows meanwhile");
	$node->safe_psql('postgres', "SELECT sagaz_ha.cancel_partition_table('$table')");
}
let_go($node);
is($node->safe_psql('postgres', q{SELECT parent::regclass, partition_interval, retention, premake FROM sagaz_ha.partition_policy WHERE parent::regclass::text ~ '^d[567]$'}),
	'd7|1 mon|2 years 3 days|4', 'a conversion that is cancelled gives the policy back, or none');
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM pg_constraint WHERE conname = 'sagaz_ha_bounds' AND conrelid = 'd6_rest'::regclass),
	(SELECT count(*) FROM sagaz_ha.conversion), (SELECT count(*) FROM sagaz_ha.asleep)}), '0|0|0', 'with nothing else left');

# one table that is in use, or is cancelled, is no matter of another's
$node->safe_psql('postgres', q{
	CREATE TABLE analyzed (id int, at timestamptz NOT NULL);
	CREATE TABLE unrelated (LIKE analyzed);
	CREATE TABLE worked_at (LIKE analyzed)});
my $analyzing = $node->background_psql('postgres');
$analyzing->query_safe('BEGIN; ANALYZE analyzed');
ask('analyzed');
ask('unrelated');
ok($node->poll_query_until('postgres', q{SELECT relkind = 'p' FROM pg_class WHERE oid = 'unrelated'::regclass}),
	'a table becomes partitioned while another one waits for a lock');
ok($node->poll_query_until('postgres', q{SELECT waiting_for ~ '^process \d+, in a transaction for' FROM sagaz_ha.conversions WHERE table_name = 'analyzed'}),
	'which says for whose');
$analyzing->query_safe('COMMIT');
$analyzing->quit;
ok($node->poll_query_until('postgres', q{SELECT relkind = 'p' AND NOT EXISTS (SELECT FROM sagaz_ha.conversion) FROM pg_class WHERE oid = 'analyzed'::regclass}),
	'and then becomes partitioned');
stop_at($node, 'convert_checking:after_commit');
ask('worked_at');
my $at_work = stopped_at($node, 'convert_checking:after_commit');
$node->safe_psql('postgres', q{CREATE TABLE cancelled (id int, at timestamptz NOT NULL)});
ask('cancelled');
$node->safe_psql('postgres', q{SELECT sagaz_ha.cancel_partition_table('cancelled')});
is($node->safe_psql('postgres', q{SELECT pid FROM sagaz_ha.maintenance_status() WHERE process = 'conversion'}), $at_work,
	'to cancel one does not end the process that works on another');
let_go($node);
ok($node->poll_query_until('postgres', q{SELECT relkind = 'p' AND NOT EXISTS (SELECT FROM sagaz_ha.conversion) FROM pg_class WHERE oid = 'worked_at'::regclass}),
	'which becomes partitioned');

# what is revoked meanwhile doesn't come back with the renames; the schema's name needs quotes
stop_at($node, 'convert_checking:after_commit');
$node->safe_psql('postgres', q{
	CREATE ROLE reader;
	CREATE SCHEMA "App";
	CREATE TABLE "App".s (id bigint PRIMARY KEY, at timestamptz NOT NULL);
	CREATE INDEX ON "App".s (at);
	CREATE STATISTICS "App".both ON id, at FROM "App".s;
	GRANT SELECT ON "App".s TO reader;
	SELECT sagaz_ha.partition_table('"App".s', 'at', '1 day', weaken_unique => true)});
stopped_at($node, 'convert_checking:after_commit');
$node->safe_psql('postgres', q{REVOKE ALL ON "App".s FROM reader; ALTER TABLE "App".s ENABLE ROW LEVEL SECURITY});
let_go($node);
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM sagaz_ha.conversions WHERE error ~ '^55000.* was changed while it became partitioned: privileges, row security '}),
	'what was changed meanwhile is an error that names it');
is($node->safe_psql('postgres', q{SELECT has_table_privilege('reader', '"App".s', 'SELECT'), relkind FROM pg_class WHERE oid = '"App".s'::regclass}),
	'f|r', 'and stays as it was changed');
$node->safe_psql('postgres', q{SELECT sagaz_ha.cancel_partition_table('"App".s');
	SELECT sagaz_ha.partition_table('"App".s', 'at', '1 day', weaken_unique => true)});
ok($node->poll_query_until('postgres', q{SELECT relkind = 'p' AND relrowsecurity AND NOT EXISTS (SELECT FROM sagaz_ha.conversion) FROM pg_class WHERE oid = '"App".s'::regclass}),
	'begun again, it becomes partitioned, as it is now');
is($node->safe_psql('postgres', q{SELECT has_table_privilege('reader', '"App".s', 'SELECT')}), 'f', 'without the privilege');
$node->safe_psql('postgres', q{SELECT sagaz_ha.stop_managing_partitions('"App".s')});

# its policy goes, or its table
stop_at($node, 'convert_moving:after_commit');
$node->safe_psql('postgres', q{
	CREATE TABLE d8 (id int, at timestamptz) PARTITION BY RANGE (at);
	CREATE TABLE d8_rest PARTITION OF d8 DEFAULT;
	CREATE TABLE d8_now PARTITION OF d8 FOR VALUES FROM (date_trunc('day', now() - interval '1 day')) TO (date_trunc('day', now() + interval '1 day'));
	INSERT INTO d8 SELECT n, date_trunc('day', now()) + n * interval '3 days' FROM generate_series(1, 3) AS n});
ask('d8');
stopped_at($node, 'convert_moving:after_commit');
{
	my ($code, $out, $err) = $node->psql('postgres', q{\set VERBOSITY verbose
		SELECT sagaz_ha.stop_managing_partitions('d8')});
	like($err, qr/55006: table "d8" is becoming partitioned.*HINT: .*cancel_partition_table/s, 'a policy is not to be removed in the middle');
}
$node->safe_psql('postgres', q{DELETE FROM sagaz_ha.partition_policy WHERE parent = 'd8'::regclass});
let_go($node);
ok($node->poll_query_until('postgres', q{SELECT error ~ 'its policy is gone' FROM sagaz_ha.conversions}), 'if it is, that is an error');
$node->safe_psql('postgres', q{ALTER EVENT TRIGGER sagaz_ha_forget_dropped_tables DISABLE; SET sagaz_ha.protect = off; DROP TABLE d8; ALTER EVENT TRIGGER sagaz_ha_forget_dropped_tables ENABLE;
	UPDATE sagaz_ha.conversion SET next_try = now()});
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM sagaz_ha.conversion'), 'a conversion of a table that is gone ends');
$old->quit;
$node->stop;
done_testing();
