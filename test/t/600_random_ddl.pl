# Whatever others do to the tables meanwhile: random DDL, policies and times,
# from several sessions, beside passes of the worker and in the foreground.
# Nothing crashes, nothing fails for an internal reason, no unfinished row is
# lost, and when the storm is over every table is either maintained or says why
# it is not.
#
# SAGAZ_SECONDS (20) of storm; SAGAZ_SEED repeats the statements of a run, though
# not how they fall together.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{SAGAZ_SECONDS} || 20;
my $seed = $ENV{SAGAZ_SEED} || time;
my @tables = map { "storm$_" } 1 .. 4;
my @owners = qw(ann bob postgres);

note "SAGAZ_SEED=$seed";
srand $seed;

my $node = sagaz_server('main', conf => q{
sagaz_ha.naptime = 1s
sagaz_ha.lock_timeout = 100ms
max_worker_processes = 20
max_prepared_transactions = 5
max_locks_per_transaction = 256
deadlock_timeout = 100ms
log_line_prefix = '%m [%p] %b %a %e '
});

sub one_of { return $_[ rand @_ ] }

# A statement with names by format(): those of the moment at which it runs.
sub with_partition
{
	my ($table, $format) = @_;

	return qq{SELECT format(\$q\$$format\$q\$, inhrelid::regclass, pg_get_expr(relpartbound, inhrelid), inhparent::regclass)
		FROM pg_inherits JOIN pg_class ON oid = inhrelid
		WHERE inhparent = to_regclass('$table') AND NOT inhdetachpending ORDER BY random() LIMIT 1 \\gexec};
}

sub random_policy
{
	my ($table) = @_;
	my $interval = one_of('1 hour', '6 hours', '1 day', '1 day', '1 day', '1 week', '1 month', '36 hours');
	my $retention = one_of('NULL', map { "'$_'" } '1 day', '3 days', '2 weeks', '1 month', '1 year');
	my $action = one_of('drop', 'drop', 'drop', 'detach', 'archive');
	my $zone = one_of('UTC', 'America/New_York', 'Africa/Cairo', 'Asia/Kathmandu');

	return sprintf q{SELECT sagaz_ha.manage_partitions('%s', '%s', %d, %s, '%s', 'NOT done', '%s'%s)},
	  $table, $interval, 1 + int rand 10, $retention, $action, $zone,
	  $action eq 'archive' ? q{, archive_schema => 'attic'} : '';
}

# name => statement; those that destroy rows come last, and not to the first table
my %harmless = (
	'rename' => sub { my ($t) = @_; "ALTER TABLE $t RENAME TO ${t}_other" },
	'rename back' => sub { my ($t) = @_; "ALTER TABLE ${t}_other RENAME TO $t" },
	'rename back again' => sub { my ($t) = @_; "ALTER TABLE ${t}_other RENAME TO $t" },
	'add column' => sub { my ($t) = @_; "ALTER TABLE $t ADD COLUMN c" . int(rand 5) . ' ' . one_of('int', 'text', 'int DEFAULT 7 NOT NULL') },
	'drop column' => sub { my ($t) = @_; "ALTER TABLE $t DROP COLUMN c" . int rand 5 },
	'change type' => sub { my ($t) = @_; "ALTER TABLE $t ALTER COLUMN payload TYPE " . one_of('text', 'varchar', 'varchar(100)') },
	'add index' => sub { my ($t) = @_; "CREATE INDEX IF NOT EXISTS ${t}_i" . int(rand 3) . " ON $t (payload, id)" },
	'drop index' => sub { my ($t) = @_; "DROP INDEX IF EXISTS ${t}_i" . int rand 3 },
	'add check' => sub { my ($t) = @_; "ALTER TABLE $t ADD CONSTRAINT positive CHECK (id > 0)" },
	'drop check' => sub { my ($t) = @_; "ALTER TABLE $t DROP CONSTRAINT positive" },
	'detach and attach' => sub { my ($t) = @_;
		my $detach = with_partition($t, 'ALTER TABLE %3$s DETACH PARTITION %1$s; ALTER TABLE %3$s ATTACH PARTITION %1$s %2$s');
		"BEGIN;\n$detach\nCOMMIT" },
	'detach and attach later' => sub { my ($t) = @_;
		with_partition($t, 'ALTER TABLE %3$s DETACH PARTITION %1$s') . "\nSELECT pg_sleep(0.1);\n" .
		"SELECT sagaz_ha.reattach_partition(c.oid::regclass, '$t') FROM pg_class c WHERE relname LIKE '${t}_y%' AND NOT relispartition AND relkind = 'r'" },
	'detach concurrently' => sub { my ($t) = @_;
		with_partition($t, 'ALTER TABLE %3$s DETACH PARTITION %1$s CONCURRENTLY') . "\n" .
		"SELECT sagaz_ha.reattach_partition(c.oid::regclass, '$t') FROM pg_class c WHERE relname LIKE '${t}_y%' AND NOT relispartition AND relkind = 'r'" },
	'detach concurrently, cut short' => sub { my ($t) = @_;
		"SET statement_timeout = '20ms';\n" . with_partition($t, 'ALTER TABLE %3$s DETACH PARTITION %1$s CONCURRENTLY') },
	'rename partition' => sub { my ($t) = @_; with_partition($t, 'ALTER TABLE %1$s RENAME TO "odd ' . int(rand 1000) . q{ 'name" }) },
	'move partition' => sub { my ($t) = @_; with_partition($t, 'ALTER TABLE %1$s SET SCHEMA elsewhere') },
	'change owner' => sub { my ($t) = @_; "ALTER TABLE $t OWNER TO " . one_of(@owners) },
	'change owner of partition' => sub { my ($t) = @_; with_partition($t, 'ALTER TABLE %1$s OWNER TO ' . one_of(@owners)) },
	'policy' => sub { random_policy($_[0]) },
	'policy again' => sub { random_policy($_[0]) },
	'stop managing' => sub { my ($t) = @_; "SELECT sagaz_ha.stop_managing_partitions('$t')" },
	'resume drops' => sub { my ($t) = @_; "SELECT sagaz_ha.resume_drops('$t')" },
	'default partition' => sub { my ($t) = @_; "CREATE TABLE ${t}_default PARTITION OF $t DEFAULT" },
	'no default partition' => sub { my ($t) = @_;
		"DO 'BEGIN LOCK TABLE $t IN ACCESS EXCLUSIVE MODE; IF NOT EXISTS (SELECT FROM ${t}_default) THEN DROP TABLE ${t}_default; END IF; END'" },
	'trigger' => sub { my ($t) = @_; "CREATE TRIGGER touch BEFORE INSERT ON $t FOR EACH ROW EXECUTE FUNCTION touch()" },
	'no trigger' => sub { my ($t) = @_; "DROP TRIGGER touch ON $t" },
	'row security' => sub { my ($t) = @_; "ALTER TABLE $t " . one_of('ENABLE', 'DISABLE', 'FORCE') . ' ROW LEVEL SECURITY' },
	'replica identity' => sub { my ($t) = @_; with_partition($t, 'ALTER TABLE %1$s REPLICA IDENTITY FULL') },
	'publication' => sub { my ($t) = @_; "CREATE PUBLICATION of_$t FOR TABLE $t" },
	'no publication' => sub { my ($t) = @_; "DROP PUBLICATION of_$t" },
	'create partition' => sub { my ($t) = @_; "SELECT sagaz_ha.create_partition('$t', sagaz_ha.clock() + " . int(rand(60) - 30) . " * interval '1 day')" },
	'prepared transaction' => sub { my ($t) = @_;
		"BEGIN; INSERT INTO $t (created_at, done) VALUES (sagaz_ha.clock(), true); PREPARE TRANSACTION '$t'; SELECT pg_sleep(0.3); ROLLBACK PREPARED '$t'" },
	'vacuum' => sub { my ($t) = @_; one_of('VACUUM', 'ANALYZE', 'REINDEX TABLE', 'VACUUM FULL') . " $t" },
	'grant' => sub { my ($t) = @_; one_of('GRANT SELECT ON', 'REVOKE ALL ON') . " $t " . one_of('TO ann', 'FROM bob') },
	'open transaction' => sub { my ($t) = @_; "BEGIN; SELECT count(*) FROM $t; SELECT pg_sleep(0.4); COMMIT" });
my %destructive = (
	'drop partition' => sub { my ($t) = @_; with_partition($t, 'DROP TABLE %1$s') },
	'truncate partition' => sub { my ($t) = @_; with_partition($t, 'TRUNCATE %1$s') },
	'drop table' => sub { my ($t) = @_; rand() < 0.2 ? "DROP TABLE $t" : 'SELECT 1' },
	'make table' => sub { my ($t) = @_; table_sql($t) },
	'truncate' => sub { my ($t) = @_; "TRUNCATE $t" });
my %passes = (
	'time' => sub { "SELECT 'ALTER SYSTEM SET sagaz_ha.clock = ' || quote_literal(sagaz_ha.clock() + interval '7 hours') \\gexec
		SELECT pg_reload_conf()" },
	'foreground' => sub { 'SELECT * FROM maintain_all_partitions()' },
	'foreground of one' => sub { 'SELECT * FROM sagaz_ha.maintain_partitions(\'' . one_of(@tables) . '\')' },
	'readers' => sub { 'SELECT * FROM sagaz_ha.partition_health(); SELECT * FROM get_partition_statistics();
		SELECT count(*) FROM partition_metadata; SELECT count(*) FROM sagaz_ha.plan_partition_maintenance();
		SELECT length(sagaz_ha.prometheus_metrics()); SELECT count(*) FROM sagaz_ha.maintenance_status()' },
	'worker ended' => sub { q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sagaz_ha worker'} });

# Not a serial of the table's own: it would go with a table that is dropped.
sub table_sql
{
	my ($table) = @_;

	return qq{CREATE TABLE IF NOT EXISTS $table (id bigint NOT NULL DEFAULT nextval('ids'), created_at timestamptz NOT NULL,
		done boolean NOT NULL DEFAULT true, payload text) PARTITION BY RANGE (created_at)};
}

# Rows that were acknowledged: the table and the list of them in one
# transaction. Only the first table's: nobody destroys its rows.
sub write_rows
{
	return q{
		WITH new AS (INSERT INTO storm1 (created_at, done)
			SELECT sagaz_ha.clock() - n * interval '11 hours', n % 3 <> 0 FROM generate_series(0, 6) AS n RETURNING id, created_at, done)
		INSERT INTO acknowledged SELECT * FROM new;
		WITH finished AS (UPDATE storm1 SET done = true WHERE id IN (SELECT id FROM storm1 WHERE NOT done ORDER BY random() LIMIT 2)
			RETURNING id)
		UPDATE acknowledged SET done = true FROM finished WHERE acknowledged.id = finished.id};
}

# One session of the storm, until the time is over.
sub storm
{
	my ($number, $until, @kinds) = @_;
	my $psql = [ $node->installed_command('psql'), '-X', '-q', '-d', $node->connstr('postgres') ];

	srand($seed + $number);
	while (time < $until)
	{
		my $kinds = one_of(@kinds);
		my $what = one_of(sort keys %$kinds);
		my $table = $kinds == \%destructive ? one_of(@tables[ 1 .. $#tables ]) : one_of(@tables);
		my $sql = $kinds->{$what}->($table);
		my $output;

		IPC::Run::run($psql, '<', \"/* $what */ SET client_min_messages = warning; SET statement_timeout = '3s';
			SET idle_in_transaction_session_timeout = '5s';\n$sql;\n", '>&', \$output);
	}
	return;
}

# Runs the sessions, each in a process of its own.
sub storms
{
	my ($until, @sessions) = @_;
	my @pids;

	foreach my $number (0 .. $#sessions)
	{
		my $pid = fork // die "cannot fork: $!";

		if ($pid == 0)
		{
			eval { storm($number, $until, @{ $sessions[$number] }); 1 } or warn $@;
			POSIX::_exit(0);
		}
		push @pids, $pid;
	}
	waitpid $_, 0 foreach @pids;
	return;
}

use IPC::Run ();
use POSIX ();

$node->safe_psql('postgres', qq{
	CREATE EXTENSION sagaz_ha;
	CREATE ROLE ann; CREATE ROLE bob;
	GRANT ALL ON SCHEMA public TO ann, bob;
	CREATE SCHEMA elsewhere; GRANT ALL ON SCHEMA elsewhere TO ann, bob;
	CREATE SCHEMA attic; GRANT ALL ON SCHEMA attic TO ann, bob;
	CREATE SEQUENCE ids; GRANT ALL ON SEQUENCE ids TO ann, bob;
	CREATE TABLE acknowledged (id bigint PRIMARY KEY, created_at timestamptz, done boolean);
	CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'} . ';' .
	join(';', map { table_sql($_), "SELECT sagaz_ha.manage_partitions('$_', '1 day', 3, '3 days', unfinished_when => 'NOT done')" } @tables));
ok(when($node, 'postgres', q{(SELECT count(*) = 4 FROM get_partition_statistics())}), 'the worker makes partitions');

my $writers = { 'write' => sub { write_rows() } };
my $offset = -s $node->logfile;

storms(time + $seconds, ([ \%harmless ]) x 2, [ \%harmless, \%destructive ], [ \%passes, $writers ]);

# Since 18 a detach can't be finished when its table was changed meanwhile, and on
# all versions such a partition can't be attached again: the table is changed back.
sub change_back
{
	my $differs = q{
		FROM pg_inherits AS i
			JOIN pg_attribute AS %s ON %1$s.attrelid = %s AND %1$s.attnum > 0 AND NOT %1$s.attisdropped
			LEFT JOIN pg_attribute AS %s ON %3$s.attrelid = %s AND %3$s.attname = %1$s.attname AND NOT %3$s.attisdropped
		WHERE inhdetachpending};
	my $table = sprintf $differs, qw(t inhparent p inhrelid);
	my $partition = sprintf $differs, qw(p inhrelid t inhparent);

	return qq{
		SELECT format('ALTER TABLE %s DROP COLUMN %I', inhparent::regclass, t.attname) $table
			AND (p.attname IS NULL OR (t.attname ~ '^c' AND t.attname <> 'created_at' AND p.atttypid <> t.atttypid)) \\gexec
		SELECT format('ALTER TABLE %s ADD COLUMN %I %s', inhparent::regclass, p.attname, format_type(p.atttypid, p.atttypmod))
			$partition AND t.attname IS NULL \\gexec
		SELECT format('ALTER TABLE %s ALTER COLUMN %I TYPE %s', inhparent::regclass, p.attname, format_type(p.atttypid, p.atttypmod))
			$partition AND (t.atttypid, t.atttypmod) <> (p.atttypid, p.atttypmod) \\gexec
		SELECT format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', inhparent::regclass, p.attname)
			$partition AND t.attnotnull AND NOT p.attnotnull \\gexec
		SELECT format('ALTER TABLE %s DROP CONSTRAINT positive', inhparent::regclass) FROM pg_inherits
			WHERE inhdetachpending AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = inhrelid AND conname = 'positive')
				AND EXISTS (SELECT FROM pg_constraint WHERE conrelid = inhparent AND conname = 'positive') \\gexec
	};
}

# What makes it impossible to go on is taken back, as an administrator would.
sub calm_down
{
	my $undo = '';

	foreach my $table (@tables)
	{
		$undo .= "ROLLBACK PREPARED '$table';\nALTER TABLE ${table}_other RENAME TO $table;\nDROP TRIGGER touch ON $table;\n"
		  . table_sql($table) . ";\nDROP PUBLICATION of_$table;\n"
		  . "ALTER TABLE $table DISABLE ROW LEVEL SECURITY;\nALTER TABLE $table OWNER TO postgres;\n";
	}
	$undo .= change_back();
	# what was detached by hand and can't come back has a name that is needed
	$undo .= q{SELECT format('SELECT sagaz_ha.reattach_partition(%L, %L)', oid::regclass, left(relname, 6))
		FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND relname ~ '^storm\d_y' \gexec
		SELECT format('ALTER TABLE %s RENAME TO %I', oid::regclass, 'left ' || relname)
		FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND relname ~ '^storm\d_y' \gexec
	};
	# rows that no partition was there for: the administrator's decision
	$undo .= "BEGIN; WITH gone AS (DELETE FROM ${_}_default RETURNING id)
		DELETE FROM acknowledged USING gone WHERE acknowledged.id = gone.id;
		DROP TABLE ${_}_default; COMMIT;\n" foreach @tables;
	$node->psql('postgres', $undo, on_error_stop => 0);

	# it may not come to it while others have locks
	for (1 .. 3)
	{
		whole_pass($node, 'postgres');
		$node->safe_psql('postgres', 'SELECT sagaz_ha.resume_drops(parent) FROM sagaz_ha.partition_policy');
	}
	return;
}

my $log = log_since($node, $offset);

unlike($log, qr/PANIC|TRAP:|terminated by signal|was terminated|server process .* exited with exit code [^01]/, 'nothing crashed');
my @internal = grep { / XX\d\d\d [A-Z]+:/ && !/ XX\d\d\d (?:STATEMENT|DETAIL|HINT|CONTEXT|QUERY|LOCATION):/ } split /\n/, $log;

# The server's own answer to DDL at the same time, whoever issues it.
@internal = grep { !/tuple concurrently (updated|deleted)|could not open relation with OID|cache lookup failed for|relation with OID \d+ does not exist|client backend .* unmatched constraints while removing inheritance/ } @internal;
is(join("\n", @internal), '', 'no error without a reason');

calm_down();
my $pending = q{
	SELECT coalesce(string_agg(format('%s of %s', inhrelid::regclass, inhparent::regclass), ', '), '')
	FROM pg_inherits
	WHERE inhdetachpending AND inhparent IN (SELECT parent FROM sagaz_ha.partition_policy)};

ok($node->poll_query_until('postgres', $pending, ''), 'no detach stays unfinished')
  or diag $node->safe_psql('postgres', "$pending; TABLE sagaz_ha.partition_history; SELECT * FROM sagaz_ha.partition_health()");
my $problems = q{
	SELECT coalesce(string_agg(table_name || ': ' || check_name || ' ' || details, E'\n'), '')
	FROM sagaz_ha.partition_health()
	WHERE status = 'critical' AND table_name NOT IN (SELECT table_name FROM sagaz_ha.partition_health()
		WHERE check_name IN ('maintainable', 'errors') AND status = 'critical' AND details ~ '^\S')};

ok($node->poll_query_until('postgres', $problems, ''),
	'no table has a critical problem without a reason')
  or diag $node->safe_psql('postgres', $problems);
is($node->safe_psql('postgres', q{
	SELECT string_agg(id::text, ' ') FROM (
		SELECT id FROM acknowledged WHERE NOT done
		EXCEPT SELECT id FROM storm1) AS lost
	WHERE NOT EXISTS (SELECT FROM pg_class c WHERE relkind = 'r' AND NOT relispartition
		AND relname ~ '^(storm1_|odd |left )'
		AND (xpath('/table/row/found/text()', query_to_xml(format(
			'SELECT count(*) AS found FROM %s WHERE id = %s', c.oid::regclass, id), false, false, '')))[1]::text <> '0')}),
	'', 'no unfinished row is lost')
  or diag $node->safe_psql('postgres', q{SELECT id, created_at FROM acknowledged WHERE NOT done;
	SELECT oid::regclass, inhparent::regclass, inhdetachpending, pg_get_expr(relpartbound, oid)
	FROM pg_class LEFT JOIN pg_inherits ON oid = inhrelid WHERE relkind = 'r' AND relnamespace <> 'pg_catalog'::regnamespace;
	SELECT * FROM sagaz_ha.partition_history WHERE action <> 'CREATE' ORDER BY id});
note $node->safe_psql('postgres', q{SELECT action || ' ' || count(*) FROM sagaz_ha.partition_history GROUP BY action ORDER BY action});
$node->stop;
done_testing();
