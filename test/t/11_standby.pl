# On a standby every changing function fails with read_only_sql_transaction and
# a hint; everything that reads works. After promotion all works.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', 'fsync = off');
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
	SELECT count(*) FROM maintain_all_partitions();
	INSERT INTO saga_outbox (topic, payload, created_at) VALUES ('t', '{}', '2025-01-15 10:00:00+00');
	CREATE TABLE d (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	CREATE TABLE d_rest PARTITION OF d DEFAULT;
	INSERT INTO d VALUES ('2000-01-01 00:00:00+00');
	SELECT sagaz_ha.manage_partitions('d', '1 day', 1, '1 day');
	ANALYZE;    -- what the statistics collector counted is no standby's to know
});
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

my @changing = (
	q{sagaz_ha.create_saga_tables()},
	q{sagaz_ha.manage_partitions('d', '1 day')},
	q{sagaz_ha.stop_managing_partitions('d')},
	q{sagaz_ha.resume_drops('d')},
	q{sagaz_ha.reattach_partition('d_rest')},
	q{sagaz_ha.hold_partition('d_rest', 'why')},
	q{sagaz_ha.release_partition('d_rest')},
	q{sagaz_ha.maintain_partitions('d')},
	q{sagaz_ha.repair_partitions('d')},
	q{sagaz_ha.drop_partition('d_rest')},
	q{sagaz_ha.add_unique('d', '{at}')},
	q{sagaz_ha.drop_unique('d', '{at}')},
	q{sagaz_ha.partition_table('d', 'at', '1 day')},
	q{sagaz_ha.cancel_partition_table('d')},
	q{sagaz_ha.unpartition_table('d')},
	q{sagaz_ha.import_pg_partman()},
	q{sagaz_ha.return_to_pg_partman('d')},
	q{maintain_all_partitions()},
	q{sagaz_ha.create_partition('d', '2025-01-15 10:00:00+00')},
	q{create_saga_executions_partition('2025-01-15')},
	q{create_saga_outbox_partition('2025-01-15')},
	q{create_saga_audit_log_partition('2025-01-15')},
	q{cleanup_consumer_inbox(90)});

sub check_refused
{
	my ($node, $prefix, $hint, $what) = @_;

	for my $function (@changing)
	{
		my ($code, $stdout, $stderr) =
			$node->psql('postgres', "\\set VERBOSITY verbose\n$prefix SELECT $function;");
		like($stderr, qr/ERROR:  25006: cannot execute \w+\(\) .*\nHINT:  $hint/, "$what: $function");
	}
}
check_refused($standby, '', 'Run it on the primary', 'standby');

# nothing that a function of the list above forgot can slip through
my $volatile = $standby->safe_psql('postgres', q{
	SELECT string_agg(p.proname, ' ' ORDER BY p.proname) FROM pg_proc AS p
	  JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	 WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sagaz_ha')
	   AND p.proname !~ '^_' AND p.proname <> 'plan_partition_table' -- reads, for the owner
	   AND NOT has_function_privilege('pg_monitor', p.oid, 'EXECUTE') AND p.prorettype NOT IN ('event_trigger'::regtype, 'trigger'::regtype)});
is($volatile,
	join(' ', sort(map { /(\w+)\(/; $1 } @changing)),
	'every changing function is in the list');

# Reading: the same answers as on the primary
for my $query (
	q{SELECT * FROM get_partition_statistics()},
	q{SELECT * FROM sagaz_ha.partition_timeline()},
	q{SELECT * FROM partition_metadata ORDER BY partition_name},
	q{SELECT * FROM sagaz_ha.plan_partition_maintenance()},
	q{SELECT * FROM sagaz_ha.plan_partition_maintenance('2030-01-01 00:00:00+00')},
	q{SELECT table_name, check_name, status, value FROM sagaz_ha.partition_health() WHERE check_name NOT IN ('worker', 'standbys')},
	q{SELECT * FROM sagaz_ha.partition_history ORDER BY id},
	q{SELECT * FROM sagaz_ha.partition_policy ORDER BY parent},
	q{SELECT sagaz_ha.clock()})
{
	my $clock = q{SET sagaz_ha.clock = '2025-03-15 10:00:00+00';};
	my $on_standby = $standby->safe_psql('postgres', "$clock $query");
	isnt($on_standby, '', "standby reads: $query");
	is($on_standby, $primary->safe_psql('postgres', "$clock $query"), "... as on the primary");
}
is( $standby->safe_psql('postgres', q{SELECT status, details FROM sagaz_ha.partition_health() WHERE check_name = 'worker'}),
	'ok|this is a standby: its primary does maintenance',
	'a standby needs no worker');

# A read-only transaction on the primary is no place for changes either
check_refused($primary, 'SET default_transaction_read_only = on;', 'Use a read-write transaction', 'read-only transaction');
isnt($primary->safe_psql('postgres', 'SET default_transaction_read_only = on; SELECT * FROM sagaz_ha.partition_health()'),
	'', 'reading works in a read-only transaction');
isnt($primary->safe_psql('postgres', q{SET default_transaction_read_only = on;
		SELECT * FROM sagaz_ha.plan_partition_maintenance('2030-01-01 00:00:00+00')}),
	'', 'the dry run works in a read-only transaction');

# What the primary does arrives
$primary->safe_psql('postgres', q{SET sagaz_ha.clock = '2025-01-16 10:00:00+00'; SELECT * FROM sagaz_ha.maintain_partitions('saga_outbox')});
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q{SELECT to_regclass('saga_outbox_y2025m01d23')}),
	'saga_outbox_y2025m01d23', 'a new partition is replicated');

# Promoted, it is a primary like any other
$standby->promote;
is( $standby->safe_psql('postgres', q{SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
		SELECT action, partition_name FROM sagaz_ha.maintain_partitions('saga_outbox')}),
	'CREATE|saga_outbox_y2025m01d24',
	'a promoted standby goes on with maintenance');
is($standby->safe_psql('postgres', q{SELECT status FROM sagaz_ha.partition_health() WHERE check_name = 'worker'}),
	'warning', 'and needs a worker');

$standby->stop;
$primary->stop;
done_testing();
