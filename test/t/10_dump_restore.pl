# A dump and a restore need no special step: no error, and afterwards the same
# policies, partitions and rows. The same for pg_upgrade.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $clock = "SET sagaz_ha.clock = '2025-01-15 10:00:00+00';";

# All that has to survive, as text that is the same in every database.
my $state = q{
SET timezone = 'UTC'; SET datestyle = 'ISO';
SELECT 'policy', p.parent::text, p.partition_interval, p.premake, p.retention, p.retention_action,
       p.archive_schema::text, p.unfinished_when, p.time_zone, p.tablespace, p.storage_parameters,
       p.auto_analyze, p.auto_freeze, p.key_encoding, p.before_drop, to_regprocedure(p.before_drop)
  FROM sagaz_ha.partition_policy AS p ORDER BY 2;
SELECT 'hold', h.partition::text, h.reason FROM sagaz_ha.partition_hold AS h ORDER BY 2;
SELECT 'partition', i.inhparent::regclass::text, c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid),
       pg_get_userbyid(c.relowner), c.reloptions, c.relreplident
  FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE c.relkind = 'r' ORDER BY 2, 3;
SELECT 'row', tableoid::regclass::text, * FROM saga_outbox ORDER BY 2, 3;
SELECT 'row', tableoid::regclass::text, * FROM app."Odd ""Table""" ORDER BY 2, 3;
SELECT 'index', indexdef FROM pg_indexes WHERE schemaname IN ('public', 'app') ORDER BY 2;
SELECT 'member', pg_describe_object(classid, objid, 0) FROM pg_depend
 WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sagaz_ha') ORDER BY 2;
};

sub fill
{
	my ($node, $db) = @_;

	$node->safe_psql($db, qq{
		CREATE SCHEMA app;
		CREATE SCHEMA "The Archive";
		CREATE EXTENSION sagaz_ha;
		$clock
		SELECT count(*) FROM maintain_all_partitions();
		INSERT INTO saga_outbox (id, topic, payload, created_at)
		  SELECT md5(i::text)::uuid, 't', '{}', '2025-01-15 00:00:00+00'::timestamptz + i * interval '1 hour'
		    FROM generate_series(1, 100) AS i;
		CREATE TABLE app."Odd ""Table""" (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
		CREATE FUNCTION app."Archive it"(regclass) RETURNS boolean LANGUAGE sql AS 'SELECT true';
		SELECT sagaz_ha.manage_partitions('app."Odd ""Table"""', '1 month', 2, '3 months', 'archive', 'todo OR at IS NULL',
			'Europe/Berlin', '"The Archive"', 'pg_default', '{fillfactor=70,toast.autovacuum_enabled=off}', false, false,
			'app."Archive it"(regclass)');
		SELECT count(*) FROM maintain_all_partitions();
		INSERT INTO app."Odd ""Table""" VALUES ('2025-02-15 10:00:00+00', true);
		-- keys that carry their time, and a partition of somebody else with low bits
		CREATE TABLE app.by_uuid (id uuid PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE app.others PARTITION OF app.by_uuid
		  FOR VALUES FROM ('01946742-8400-7abc-8000-000000000001') TO ('01947000-0000-7abc-8000-000000000001');
		CREATE TABLE app.by_number (id bigint PRIMARY KEY) PARTITION BY RANGE (id);
		SELECT sagaz_ha.manage_partitions('app.by_uuid', '1 month', 2);
		SELECT sagaz_ha.manage_partitions('app.by_number', '1 month', 2, key_encoding => 'snowflake discord');
		SELECT count(*) FROM maintain_all_partitions();
		-- an old partition that was detached, and brought back
		CREATE TABLE saga_audit_log_y2023m05 PARTITION OF saga_audit_log
		  FOR VALUES FROM ('2023-05-01 00:00+00') TO ('2023-06-01 00:00+00');
		UPDATE sagaz_ha.partition_policy SET retention_action = 'detach' WHERE parent = 'saga_audit_log'::regclass;
		SELECT count(*) FROM maintain_all_partitions();
		SELECT sagaz_ha.reattach_partition('saga_audit_log_y2023m05');
		UPDATE sagaz_ha.partition_policy SET retention_action = 'drop' WHERE parent = 'saga_audit_log'::regclass;
		SELECT count(*) FROM maintain_all_partitions();
	});
}

# Afterwards maintenance goes on as if nothing had been.
sub check_copy
{
	my ($node, $db, $expected, $what) = @_;

	is($node->safe_psql($db, $state), $expected, "$what: same policies, partitions, rows, indexes and members");
	is($node->safe_psql($db, "$clock SELECT * FROM maintain_all_partitions()"),
		'KEEP|saga_audit_log|saga_audit_log_y2023m05|held: brought back by reattach_partition()',
		"$what: a pass at the same time only keeps what was brought back");
	is( $node->safe_psql($db, q{SET sagaz_ha.clock = '2025-01-16 10:00:00+00';
			SELECT action, partition_name FROM maintain_all_partitions()}),
		"CREATE|saga_outbox_y2025m01d23\nKEEP|saga_audit_log_y2023m05", "$what: a day later it makes one partition");
	return if $what eq 'pg_upgrade';    # it keeps all
	is( $node->safe_psql($db, q{SELECT count(*) FROM sagaz_ha.partition_history
			WHERE recorded_at <> '2025-01-16 10:00:00+00' AND action <> 'KEEP'}),
		'0', "$what: history is not part of the dump");
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\ntimezone = 'America/New_York'\ndatestyle = 'SQL, DMY'");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE source');
fill($node, 'source');
my $expected = $node->safe_psql('source', $state);
like($expected, qr/policy\|app\."Odd ""Table"""\|1 mon\|2\|3 mons\|archive\|/, 'there is something to compare');

my $dir = PostgreSQL::Test::Utils::tempdir;
my ($stdout, $stderr);

# pg_dump | psql
$node->command_ok([ 'pg_dump', '-d', $node->connstr('source'), '-f', "$dir/plain.sql" ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
IPC::Run::run([ 'psql', '-X', '-q', '-o', "$dir/plain.out", '-d', $node->connstr('plain'), '-f', "$dir/plain.sql" ],
	'>', \$stdout, '2>', \$stderr);
is($stderr, '', 'pg_dump | psql: no error, no notice');
check_copy($node, 'plain', $expected, 'pg_dump | psql');

# pg_restore --single-transaction
$node->command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('source'), '-f', "$dir/custom.dump" ], 'pg_dump -Fc');
$node->safe_psql('postgres', 'CREATE DATABASE single');
IPC::Run::run([ 'pg_restore', '--single-transaction', '-d', $node->connstr('single'), "$dir/custom.dump" ],
	'>', \$stdout, '2>', \$stderr);
is($stderr, '', 'pg_restore --single-transaction: no error');
check_copy($node, 'single', $expected, 'pg_restore --single-transaction');

# schema first, data later; and in parallel
$node->safe_psql('postgres', 'CREATE DATABASE sections');
for my $section ('pre-data', 'data', 'post-data')
{
	IPC::Run::run([ 'pg_restore', '-j', '2', '--section', $section, '-d', $node->connstr('sections'), "$dir/custom.dump" ],
		'>', \$stdout, '2>', \$stderr);
	is($stderr, '', "pg_restore -j 2 --section=$section: no error");
}
check_copy($node, 'sections', $expected, 'pg_restore in sections');

# a database that had something else before, so that no OID is the same
$node->safe_psql('postgres', 'CREATE DATABASE other_oids');
$node->safe_psql('other_oids', 'CREATE TABLE junk_' . $_ . ' (n integer PRIMARY KEY, t text)') for 1 .. 20;
$node->safe_psql('other_oids', 'DROP TABLE junk_' . $_) for 1 .. 20;
IPC::Run::run([ 'psql', '-X', '-q', '-o', "$dir/plain.out", '-d', $node->connstr('other_oids'), '-f', "$dir/plain.sql" ],
	'>', \$stdout, '2>', \$stderr);
check_copy($node, 'other_oids', $expected, 'other OIDs');

# CREATE DATABASE … TEMPLATE
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE source');
is($node->safe_psql('copy', $state), $expected, 'CREATE DATABASE TEMPLATE: the same');

# A dump of a dump
$node->command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('single'), '-f', "$dir/again.dump" ], 'pg_dump of the copy');
$node->safe_psql('postgres', 'CREATE DATABASE again');
IPC::Run::run([ 'pg_restore', '--single-transaction', '-d', $node->connstr('again'), "$dir/again.dump" ],
	'>', \$stdout, '2>', \$stderr);
is($stderr, '', 'the copy can be dumped and restored again');

# pg_upgrade, from this version to itself: what it refuses, it refuses here too
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$node->safe_psql('postgres', "DROP DATABASE $_") for qw(plain single sections other_oids copy again);
$node->stop;
my $bindir = $node->config_data('--bindir');
chdir $dir or die;
my @upgrade = ('pg_upgrade', '-d', $node->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
	'-p', $node->port, '-P', $new->port, '-s', $new->host, '-j', '2');
my $upgraded = IPC::Run::run([@upgrade], '>', \$stdout, '2>', \$stderr);
ok($upgraded, 'pg_upgrade') or diag($stdout . $stderr);
SKIP:
{
	skip 'not upgraded', 1 unless $upgraded;
	$new->start;
	check_copy($new, 'source', $expected, 'pg_upgrade') if $new->safe_psql('postgres',
		q{SELECT 1 FROM pg_database WHERE datname = 'source'});
	$new->stop;
}

done_testing();
