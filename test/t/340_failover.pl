# A standby has no worker; a standby that is promoted has one at once, and goes
# on where the primary was.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $primary = sagaz_server('primary', streaming => 1, conf => "sagaz_ha.naptime = 1h\n");
my $backup = 'backup';

$primary->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');
take_table($primary, 'postgres', 'events', days => [ -3, 0 ], unfinished_when => 'NOT done');
is_partitions($primary, 'postgres', 'events', -3, 3, 'the primary has its partitions');
$primary->backup($backup);

# A standby of the primary as it is.
sub standby
{
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($primary, $backup, has_streaming => 1);
	$node->append_conf('postgresql.conf', "hot_standby_feedback = on\nwal_receiver_status_interval = 1s\n");
	$node->start;
	return $node;
}

# -------- a standby, promoted

my $standby = standby('standby');
$primary->wait_for_catchup($standby);
is(sessions_of($standby, 'sagaz_ha launcher'), '0', 'a standby has no launcher');
is($standby->safe_psql('postgres', q{SELECT status FROM sagaz_ha.partition_health()
	WHERE check_name = 'worker'}), 'ok', 'which is fine with health');
is($standby->safe_psql('postgres', q{SELECT phase FROM sagaz_ha.maintenance_status()}), 'not running',
	'and maintenance_status() says so');

$primary->stop('immediate');
my $clock = '2026-03-12 12:00:00+00';
$standby->append_conf('postgresql.auto.conf', "sagaz_ha.clock = '$clock'\n");
$standby->reload;
my $took = elapsed(sub {
	$standby->promote;
	is_partitions($standby, 'postgres', 'events', -3, 3, 'once promoted, it makes what is missing');
});
is_within($took, 5, 'within 5 s');
is_consistent($standby, 'postgres', 'events', 'and drops what has expired meanwhile');
is(sessions_of($standby, 'sagaz_ha launcher'), '1', 'it has a launcher');
$standby->stop('fast');

# -------- a failover at each step of retiring a partition

my $number = 0;
foreach my $point (qw(create:after_commit announce:after_commit fence:after_commit
	detach:after_first_commit finalize:before_commit finalize:after_commit))
{
	$primary->start;
	$number++;
	$backup = "backup$number";
	$primary->backup($backup);
	$standby = standby("standby$number");
	stop_at($primary, $point, 'sagaz_ha.clock' => "2026-03-" . (10 + $number) . ' 12:00:00+00');
	stopped_at($primary, $point);
	$primary->safe_psql('postgres', 'INSERT INTO events (created_at) VALUES (sagaz_ha.clock())');
	$primary->wait_for_catchup($standby);
	my $rows = $primary->safe_psql('postgres', q{SELECT count(*) FROM events
		WHERE created_at >= date_trunc('day', sagaz_ha.clock()) - interval '3 days'});
	my $pending = $standby->safe_psql('postgres', 'SELECT count(*) FROM pg_inherits WHERE inhdetachpending');

	is($pending, $point =~ /^(detach|finalize:before)/ ? '1' : '0', "a failover at $point");
	$standby->append_conf('postgresql.auto.conf',
		"sagaz_ha.clock = '2026-03-" . (10 + $number) . " 12:00:00+00'\n");
	$standby->reload;
	$primary->stop('immediate');
	$took = elapsed(sub {
		$standby->promote;
		is_partitions($standby, 'postgres', 'events', -3, 3, "$point: the promoted standby goes on");
	});
	is_within($took, 5, "$point: within 5 s");
	is_consistent($standby, 'postgres', 'events', "$point: nothing is half done");
	is($standby->safe_psql('postgres', 'SELECT count(*) FROM events'), $rows, "$point: no row is lost");
	is_deeply([ log_lines($standby, 0, 'leak') ], [], "$point: whoever watched the standby ends cleanly");
	$standby->stop('immediate');

	# the old primary does the same when it comes back by itself
	$primary->adjust_conf('postgresql.auto.conf', 'sagaz_ha.stop_at', "''");
	$primary->start;
	is_partitions($primary, 'postgres', 'events', -3, 3, "$point: so does the old primary");
	is_consistent($primary, 'postgres', 'events', "$point: with nothing half done");
	$primary->stop('fast');
}

done_testing();
