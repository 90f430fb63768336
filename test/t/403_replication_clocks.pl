# Clocks that are minutes apart, and a library that isn't preloaded.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin, "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazClock;
use SagazRepl;
use Test::More;
use Time::HiRes qw(time);

# The limits below are one such interval, and some time for a slow machine.
my $primary = primary('alpha', conf => "sagaz_ha.sample_interval = 250ms\n");
my $standby = standby($primary, 'beta', no_start => 1);

# A moved clock of the standby. (libfaketime is below.)
my $dir = PostgreSQL::Test::Utils::tempdir;
my %clock = clock_environment($dir);
SKIP:
{
	skip 'no C compiler', 1 unless %clock;
	for my $shift (300, -300)
	{
		{
			local @ENV{ keys %clock } = values %clock;
			move_clock($dir, $shift);
			$standby->start;
		}
		$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
		$primary->wait_for_catchup($standby);
		cmp_ok(abs(ask($standby, 'extract(epoch FROM clock_timestamp())') - $shift - time), '<', 5, "the standby's clock is off by $shift s");
		until_true($_, "status = 'ok' AND replay_lag < interval '1 s' FROM sagaz_ha.replication_health()", $_->name . ": ok at $shift s") for $primary, $standby;
		until_true($standby, "abs(extract(epoch FROM clock_offset) + $shift) < 1 FROM sagaz_ha.standby_status()", 'the standby reports the offset');
		until_true($primary, "abs(extract(epoch FROM clock_offset) - $shift) < 1.5 FROM sagaz_ha.replication_standbys()", 'so does the primary');
		compare($standby, "the standby's clock is off by $shift s", 'now() - pg_last_xact_replay_timestamp()', 'SELECT replay_lag FROM sagaz_ha.standby_status()');
		$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
		$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
		my $began = time;
		sleep 4;
		for my $node ($standby, $primary)
		{
			my $lag = health($node, 'extract(epoch FROM replay_lag)');
			my $true = time - $began;
			cmp_ok(abs($lag - $true), '<', 1, "paused, " . $node->name . ": lag $lag s, true $true s");
		}
		cmp_ok(abs(stat($standby, 'extract(epoch FROM staleness_bound)') - (time - $began)), '<', 1.5, 'staleness_bound too');
		$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
		$standby->stop;
	}
}

# libfaketime: on 15 the backends see another clock than the receiver and the
# sampler of the same server. The lag is right even then.
my ($faketime) = grep { -f $_ } glob('/usr/lib/*/faketime/libfaketime.so.1 /usr/lib64/faketime/libfaketime.so.1');
SKIP:
{
	skip 'no libfaketime', 1 unless $faketime;
	{
		local $ENV{LD_PRELOAD} = $faketime;
		local $ENV{FAKETIME} = '+300s';
		$standby->start;
	}
	$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
	$primary->wait_for_catchup($standby);
	until_true($_, "status = 'ok' AND replay_lag < interval '1 s' AND lag_source = 'lsn_clock' FROM sagaz_ha.replication_health()", $_->name . ': ok under libfaketime') for $primary, $standby;
	$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
	$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
	my $began = time;
	sleep 3;
	for my $node ($standby, $primary)
	{
		my $lag = health($node, 'extract(epoch FROM replay_lag)');
		cmp_ok(abs($lag - (time - $began)), '<', 1.1, "paused under libfaketime, " . $node->name . ": lag $lag s");
	}
	$standby->stop;
}

# A sampler that is stuck is not believed.
$standby->start;
until_true($standby, "lag_source = 'lsn_clock' FROM sagaz_ha.replication_health()", 'sampled');
my $sampler = postmaster_child($standby, 'sagaz_ha sampler');
kill 'STOP', $sampler;
until_true($standby, "lag_source <> 'lsn_clock' FROM sagaz_ha.replication_health()", 'a stuck sampler is not believed');
kill 'CONT', $sampler;
until_true($standby, "lag_source = 'lsn_clock' FROM sagaz_ha.replication_health()", 'believed again');
$standby->stop;

# Not preloaded: everything answers, and says what it goes by.
$_->append_conf('postgresql.conf', "shared_preload_libraries = ''\nsagaz_ha.replay_lag_warning = 2s") for $primary, $standby;
$primary->restart;
$standby->start;
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
$primary->wait_for_catchup($standby);
until_true($_, "status = 'ok' AND lag_source <> 'lsn_clock' FROM sagaz_ha.replication_health()", $_->name . ' without preloading') for $primary, $standby;
note('not preloaded: ' . health($_, "role || ' ' || lag_source || ' ' || replay_lag")) for $primary, $standby;
for my $f (qw(replication_health replication_standbys standby_status replication_slot_risk wal_retention xmin_holders promotion_checks promotion_readiness metrics nagios_check))
{
	for my $node ($primary, $standby)
	{
		my ($rc, $out, $err) = $node->psql('postgres', "SELECT * FROM sagaz_ha.$f()");
		is($rc, 0, "$f on " . $node->name) or diag($err);
	}
}
is(ask($standby, "sagaz_ha.node_ready('read', '30 s')"), 't', 'ready to read');
my $token = ask($primary, 'sagaz_ha.commit_token()');
$standby->safe_psql('postgres', "CALL sagaz_ha.wait_for_replay('$token')");
pass('wait_for_replay without preloading');
is(ask($primary, "sagaz_ha.lsn_timestamp(pg_current_wal_lsn()) IS NULL"), 't', 'no clock, no time');
my $receiver = postmaster_child($standby, 'walreceiver');
kill 'STOP', $receiver;
sleep 3;
cmp_ok(stat($standby, 'extract(epoch FROM replay_lag)'), '>', 2, 'a frozen receiver is seen without preloading too');
is(stat($standby, 'lag_source'), 'lost_contact', 'and its source named');
kill 'CONT', $receiver;
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
sleep 3;
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
until_true($standby, "replay_lag > interval '2 s' AND status = 'warning' AND lag_source = 'commit_timestamp' FROM sagaz_ha.replication_health()", 'paused: lag by commit timestamps, thresholds from the file');

done_testing();
