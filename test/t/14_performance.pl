# A pass with nothing to do, on 100 tables of 37 partitions. The numbers are
# printed; the limits are wide, because a test machine may be slow.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($tables, $premake) = (100, 36);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum = off\nmax_wal_size = 4GB");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');
my $clock = "SET sagaz_ha.clock = '2025-01-15 10:00:00+00';\n";
# a table a transaction: all of them at once would hold 10,000 locks
$node->safe_psql('postgres', $clock . join('', map { qq{
	CREATE TABLE t$_ (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
	SELECT sagaz_ha.manage_partitions('t$_', '1 month', $premake, '12 months', unfinished_when => 'n > 0');
	SELECT count(*) FROM sagaz_ha.maintain_partitions('t$_');
} } 1 .. $tables));
is($node->safe_psql('postgres', $clock . 'SELECT sum(partition_count) FROM get_partition_statistics()'),
	$tables * ($premake + 1), 'partitions are there');
$node->safe_psql('postgres', 'VACUUM ANALYZE pg_catalog.pg_class, pg_catalog.pg_inherits, pg_catalog.pg_attribute, pg_catalog.pg_constraint');

# psql's \timing; the first is a new session's, the last ones are warm
sub measure
{
	my ($query) = @_;
	my ($stdout, $stderr);
	IPC::Run::run([ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr('postgres') ],
		'<', \($clock . "\\timing on\n" . "$query;\n" x 6), '>', \$stdout, '2>', \$stderr);
	is($stderr, '', "no error from $query");
	my @ms = $stdout =~ /^Time: ([\d.]+) ms/mg;
	return ($ms[0], (sort { $a <=> $b } @ms[ 1 .. 5 ])[2]);
}

my %limit = (
	'SELECT * FROM maintain_all_partitions()' => [ 2000, 50 ],
	'SELECT * FROM sagaz_ha.plan_partition_maintenance()' => [ 2000, 50 ],
	'SELECT * FROM get_partition_statistics()' => [ 5000, 1000 ],
	'SELECT * FROM sagaz_ha.partition_health()' => [ 5000, 1000 ]);
for my $query (sort keys %limit)
{
	my ($cold, $warm) = measure($query);
	diag(sprintf '%s: %.1f ms in a new session, %.1f ms warm', $query, $cold, $warm);
	cmp_ok($cold, '<', $limit{$query}[0], "new session: $query");
	cmp_ok($warm, '<', $limit{$query}[1], "warm: $query");
}
is($node->safe_psql('postgres', $clock . 'SELECT * FROM maintain_all_partitions()'), '', 'there was nothing to do');

# where the launcher doesn't have the database, a session still knows what it has compared
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'sagaz_ha'\nsagaz_ha.enabled = off");
$node->restart;
my (undef, $warm) = measure('SELECT * FROM maintain_all_partitions()');
diag(sprintf 'with the library, and no worker: %.1f ms warm', $warm);
cmp_ok($warm, '<', 50, 'warm, with the library, and no worker');

# To compare leaves no lock on a partition, which would be in the way of another pass; and
# comes before a pass takes locks that writers wait for.
is($node->safe_psql('postgres', $clock . q{
	GRANT SELECT ON t1 TO pg_monitor;
	BEGIN;
	SET LOCAL track_functions = 'all';
	SELECT count(*) FROM maintain_all_partitions();
	SELECT pg_stat_get_xact_function_calls('sagaz_ha._drift(regclass)'::regprocedure),
		(SELECT count(*) FROM pg_locks JOIN pg_inherits ON inhrelid = relation WHERE pid = pg_backend_pid());
	COMMIT}), "0\n1|0", 'a pass that compared has no partition locked');
foreach my $case ([ 't2', '2025-02-15', 'maintain_all_partitions()' ], [ 't3', '2025-03-15', q{sagaz_ha.maintain_partitions('t3')} ])
{
	my ($table, $day, $call) = @$case;
	my $known = $node->safe_psql('postgres', 'SELECT max(id) FROM sagaz_ha.partition_history');

	$node->safe_psql('postgres', qq{
		GRANT SELECT ON $table TO pg_monitor;
		SET sagaz_ha.clock = '$day 10:00:00+00';
		SELECT count(*) FROM $call});
	is($node->safe_psql('postgres', qq{SELECT string_agg(action, ' ' ORDER BY id) FROM (
		SELECT action, min(id) AS id FROM sagaz_ha.partition_history WHERE id > $known GROUP BY action) AS h}),
		'DRIFT CREATE', "$call compares first");
}

$node->stop;
done_testing();
