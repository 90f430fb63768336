# Killed at any point, it recovers: the worker, the launcher and the whole
# server are killed at every step of making and dropping a partition, and the
# next pass ends where it would have ended anyway.
#
# SAGAZ_ROUNDS (1) says how often each pair of a point and a kill is tried.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{SAGAZ_ROUNDS} || 1;
my @points = map { ("$_:before_commit", "$_:after_commit") } qw(create announce fence);
push @points, qw(detach:before detach:after_first_commit finalize:before_commit finalize:after_commit);

# Between two points, somewhere in the pass: where is up to chance.
push @points, 'anywhere';

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n");
my $day = 0;

$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE acknowledged (id bigint, created_at timestamptz)});
take_table($node, 'postgres', 'events', days => [ -3, 0 ], unfinished_when => 'NOT done');
$node->safe_psql('postgres', 'INSERT INTO acknowledged SELECT id, created_at FROM events');
is_partitions($node, 'postgres', 'events', -3, 3, 'before the first kill');

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

# A worker that is at work, or 0 when there is none any more.
sub worker_pid
{
	return $node->safe_psql('postgres', q{SELECT coalesce(max(pid), 0)
		FROM sagaz_ha.maintenance_status() WHERE process = 'worker'});
}

# A day goes by: one partition is to be made, and one to be dropped.
sub next_day
{
	my ($point) = @_;

	$day++;
	stop_at($node, $point eq 'anywhere' ? undef : $point,
		'sagaz_ha.clock' => $node->safe_psql('postgres',
			"SELECT timestamptz '$SagazTest::clock' + $day * interval '1 day'"));
	return;
}

# Writes are acknowledged in another table, in the same transaction. Neither
# they nor a query of all partitions wait for a worker, wherever it is.
sub use_table
{
	my ($name) = @_;
	my ($status, undef, $error) = $node->psql('postgres', q{
		SET lock_timeout = '1s';
		SELECT count(*) FROM events;
		WITH written AS (INSERT INTO events (created_at)
			SELECT sagaz_ha.clock() - i * interval '2 hours' FROM generate_series(1, 5) AS i
			RETURNING id, created_at)
		INSERT INTO acknowledged SELECT * FROM written});

	is("$status $error", '0 ', "$name: the table is read and written meanwhile");
	return;
}

sub round
{
	my ($point, $kill) = @_;
	my $name = "$kill at $point";

	next_day($point);
	if ($point eq 'anywhere')
	{
		usleep(rand 200_000);
		my $pid = worker_pid();
		$kill{$kill}->($pid) if $kill !~ /^worker/ || $pid != 0;
	}
	else
	{
		my $pid = stopped_at($node, $point);

		use_table($name);
		$node->safe_psql('postgres', 'ALTER SYSTEM RESET sagaz_ha.stop_at');
		$kill{$kill}->($pid);
	}
	wait_for_restart();
	configure($node);
	is_partitions($node, 'postgres', 'events', -3, 3, "$name: the same partitions");
	is_consistent($node, 'postgres', 'events', "$name: nothing is half done");
	is($node->safe_psql('postgres', q{
		SELECT 'lost ' || id FROM (SELECT * FROM acknowledged
			WHERE created_at >= date_trunc('day', sagaz_ha.clock()) - interval '3 days'
			EXCEPT SELECT id, created_at FROM events) AS lost}),
		'', "$name: no row is lost");
	return;
}

foreach my $round (1 .. $rounds)
{
	foreach my $kill (sort keys %kill)
	{
		round($_, $kill) foreach @points;
	}
}
note(sprintf('%d points x %d kills x %d rounds', scalar @points, scalar keys %kill, $rounds));

# The history of what is gone is kept for a year: longer than a short run takes.
is( $node->safe_psql('postgres', q{
	SELECT string_agg(DISTINCT action, ' ' ORDER BY action)
	FROM sagaz_ha.partition_history WHERE table_name = 'events'}),
	'ANALYZE CREATE DEFER DROP FREEZE', 'no kill is in the history as an error');
is( $node->safe_psql('postgres', q{
	SELECT count(*) FILTER (WHERE action = 'CREATE'), count(*) FILTER (WHERE action = 'DROP')
	FROM sagaz_ha.partition_history WHERE table_name = 'events'}),
	($day + 3) . "|$day",
	'the history has each partition made and dropped once') if $day < 360;

$node->stop('fast');
done_testing();
