# Killed at any step of asking a function before a drop, it recovers: the function is
# called again, or the partition goes, and what it wrote here is there once.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my @points = qw(finalize:before_commit finalize:after_commit before_drop:before_call
  before_drop:before_commit before_drop:after_commit end:before_commit);
my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n");
my $day = 0;

$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE archived (id bigint, created_at timestamptz);
	CREATE FUNCTION archive(partition regclass) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('INSERT INTO public.archived SELECT id, created_at FROM %s', partition);
		RETURN true;
	END $$});
take_table($node, 'postgres', 'events', days => [ -3, 0 ],
	more => ", before_drop => 'archive(regclass)'::regprocedure");
is_partitions($node, 'postgres', 'events', -3, 3, 'before the first kill');

# One row in each partition.
sub fill
{
	my ($first, $last) = @_;

	$node->safe_psql('postgres', qq{INSERT INTO events (created_at)
		SELECT sagaz_ha.clock() + n * interval '1 day' FROM generate_series($first, $last) AS n});
	return;
}
fill(1, 3);

sub launcher_pid
{
	my $pid = q{SELECT pid FROM sagaz_ha.maintenance_status() WHERE process = 'launcher'};

	when($node, 'postgres', "($pid) IS NOT NULL") or die 'no launcher';
	return $node->safe_psql('postgres', $pid);
}

sub wait_for_restart
{
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server did not come back';
	return;
}

my %kill = (
	'worker terminated' => sub {
		my ($pid) = @_;
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
	},
	'worker crashed' => sub {
		my ($pid) = @_;
		kill 'KILL', $pid;
		when($node, 'postgres', "NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");
	},
	'launcher terminated' => sub {
		my $pid = launcher_pid();
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
		when($node, 'postgres', q{EXISTS (SELECT FROM pg_stat_activity
			WHERE backend_type = 'sagaz_ha launcher')});
	},
	'launcher crashed' => sub {
		my $pid = launcher_pid();
		kill 'KILL', $pid;
		when($node, 'postgres', "NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");
	},
	'server stopped' => sub {
		$node->stop('immediate');
		$node->start;
	});


foreach my $kill (sort keys %kill)
{
	foreach my $point (@points)
	{
		my $name = "$kill at $point";

		$day++;
		stop_at($node, $point, 'sagaz_ha.clock' => $node->safe_psql('postgres',
			"SELECT timestamptz '$SagazTest::clock' + $day * interval '1 day'"));
		my $pid = stopped_at($node, $point);
		$node->safe_psql('postgres', 'ALTER SYSTEM RESET sagaz_ha.stop_at');
		$kill{$kill}->($pid);
		wait_for_restart();
		configure($node);
		is_partitions($node, 'postgres', 'events', -3, 3, "$name: the same partitions");
		ok(defined when($node, 'postgres', 'NOT EXISTS (SELECT FROM sagaz_ha.retirement)'), "$name: nothing waits");
		is_consistent($node, 'postgres', 'events', "$name: nothing is half done");
		fill(3, 3);
	}
}
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM archived'),
	"$day|$day",
	'each row that was dropped was archived, once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ERROR'}), '0',
	'no kill is in the history as an error');

$node->stop('fast');
done_testing();
