# Scheduling with pg_cron, as the specification shows it, works beside the
# worker.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', libraries => 'pg_cron,sagaz_ha', start => 0, conf => q{
sagaz_ha.naptime = 1s
cron.database_name = 'postgres'
cron.use_background_workers = on
max_worker_processes = 20
});
my $libraries = `pg_config --pkglibdir`;
chomp $libraries;
plan skip_all => 'pg_cron is not installed' unless -e "$libraries/pg_cron.so";

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron; CREATE EXTENSION sagaz_ha');

# The command of the specification, but as often as this pg_cron can.
my $schedule = $node->safe_psql('postgres', q{
	SELECT CASE WHEN string_to_array(translate(extversion, '-', '.'), '.')::int[] >= '{1,5}' THEN '2 seconds' ELSE '* * * * *' END
	FROM pg_extension WHERE extname = 'pg_cron'});
$node->safe_psql('postgres', qq{
	SELECT cron.schedule('sagaz-partition-maintenance', '$schedule',
		\$\$SELECT maintain_all_partitions();\$\$)});
take_table($node, 'postgres', 'events', days => [ -5, 0 ]);
is_partitions($node, 'postgres', 'events', -3, 3, 'the worker is at work beside pg_cron');
$node->safe_psql('postgres', 'SELECT sagaz_ha.create_saga_tables()');

# A day goes by all the time, so that there is work for both when they meet.
my $day = 0;
my $deadline = time + 120;
my $missing = 0;
while ($node->safe_psql('postgres', q{SELECT count(*) FROM cron.job_run_details
	WHERE status IN ('succeeded', 'failed')}) == 0 && time < $deadline)
{
	$day++;
	configure($node, 'sagaz_ha.clock' => $node->safe_psql('postgres',
			"SELECT timestamptz '$SagazTest::clock' + $day * interval '1 day'"));
	defined when($node, 'postgres', q{max(partition_end) > sagaz_ha.clock() + interval '3 days'
		AND min(partition_start) > sagaz_ha.clock() - interval '4 days'
		FROM partition_metadata WHERE table_name = 'events'}) or $missing++;
}
is($missing, 0, "partitions were made and dropped on each of $day days");
is( $node->safe_psql('postgres', q{
	SELECT DISTINCT j.jobname || ' ' || d.status
	FROM cron.job_run_details AS d JOIN cron.job AS j USING (jobid)
	WHERE d.status IN ('succeeded', 'failed')}),
	'sagaz-partition-maintenance succeeded', "pg_cron's job succeeds")
  or diag($node->safe_psql('postgres', 'SELECT * FROM cron.job_run_details'));
is_consistent($node, 'postgres', 'events', 'history and catalogs agree');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ERROR'}),
	'0', 'without an error');

$node->stop('fast');
done_testing();
