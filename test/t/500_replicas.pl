# Replicas never wait for drops: while a transaction on a standby has read every
# partition and goes on, the primary's worker retires 10 of them. The standby's
# query isn't cancelled, and replay goes on.
#
# SAGAZ_LONG=1 has transactions of 15 s instead of 5.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;

my $seconds = seconds_long();
my $primary = sagaz_server('primary', streaming => 1, conf => q{
sagaz_ha.naptime = 1h
sagaz_ha.standby_drain_timeout = 1h
});

$primary->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');

my $slotted = standby_of($primary, 'slotted', slot => 'slotted');
my $slotless = standby_of($primary, 'slotless');
my @all = ($slotted, $slotless);

# Retires 10 partitions beside transactions on the given standbys. What is
# waited for is told by the first one's name.
sub beside
{
	my ($name, $waits_for, $readers, %option) = @_;
	my $table = "t_$name";
	expired_table($primary, $table, -13, 0);
	foreach my $standby (@$readers)
	{
		$standby->poll_query_until('postgres', "SELECT count(*) = 14 FROM $table");
	}
	my %offset = map { $_->name => -s $_->logfile } @all;
	my $beat = heartbeat($primary, @all);
	my $seen = $primary->basedir . "/seen_$name";
	my @sessions = map { reading_transaction($_, $table, $seconds, $primary, $seen) } @$readers;
	manage($primary, $table);
	waits_for($primary, $table, $waits_for, $name);
	$option{meanwhile}->($table) if $option{meanwhile};
	append_to_file($seen, '');
	reading_ended($_, 14, $name) foreach @sessions;
	is(join(' ', map { $_->{dropped} } @sessions), join(' ', map { 0 } @sessions), "$name: nothing is dropped before they end")
	  unless $option{drops_meanwhile};
	is_within(is_partitions($primary, 'postgres', $table, -3, 3, "$name: then all 10 partitions are dropped"),
		5, "$name: within 5 s of the transaction's end");
	heartbeat_ended($beat, 1, $name);
	is_consistent($primary, 'postgres', $table, "$name: history and catalogs agree");
	foreach my $standby (@all)
	{
		is_deeply([ log_lines($standby, $offset{ $standby->name }, qr/canceling|conflict|terminating connection/) ],
			[], "$name: no conflict in the log of " . $standby->name);
	}
	return;
}

beside('with_slot', '^.*standby slotted with an xmin that is \d+ transactions? old', [$slotted]);
beside('without_slot', '^.*standby slotless with an xmin that is \d+ transactions? old', [$slotless]);
beside('two_standbys', 'standby slot(ted|less) with an xmin', \@all);

# -------- cascading

my $cascaded = standby_of($slotted, 'cascaded');
push @all, $cascaded;
beside('cascading', 'standby slotted with an xmin', [$cascaded]);

# -------- a standby that lags

expired_table($primary, 'lagging', -13, 0);
$primary->wait_for_catchup($slotless);
$slotless->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
manage($primary, 'lagging');
waits_for($primary, 'lagging', 'standby slotless with an xmin', 'paused');
is(dropped_count($primary, 'lagging'), '0', 'paused: nothing is dropped');
$slotless->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
is_within(is_partitions($primary, 'postgres', 'lagging', -3, 3, 'paused: once it replays, partitions are dropped'),
	5, 'paused: within 5 s');

# -------- a standby without feedback

$slotless->append_conf('postgresql.conf', 'hot_standby_feedback = off');
$slotless->reload;
ok($primary->poll_query_until('postgres', q{
	SELECT details ~ 'slotless: no feedback' AND status = 'warning'
	FROM sagaz_ha.partition_health() WHERE check_name = 'standbys'}),
	'a standby without feedback is named');
note($primary->safe_psql('postgres', q{
	SELECT details FROM sagaz_ha.partition_health() WHERE check_name = 'standbys'}));
expired_table($primary, 'unasked', -13, 0);
$primary->wait_for_catchup($slotless);
$slotless->append_conf('postgresql.conf', 'max_standby_streaming_delay = -1');
$slotless->reload;
my $session = reading_transaction($slotless, 'unasked', 3);
manage($primary, 'unasked');
is_within(is_partitions($primary, 'postgres', 'unasked', -3, 3, 'without feedback: partitions are dropped'),
	5, 'without feedback: it is not waited for');
reading_ended($session, 14, 'without feedback');
$slotless->append_conf('postgresql.conf', "hot_standby_feedback = on\nmax_standby_streaming_delay = 0");
$slotless->reload;

# -------- a standby that is gone

# Without a slot, nothing is known of it; with one, it is waited for a while:
# of real time, so here the clock has to go.
$primary->safe_psql('postgres',
	'SELECT sagaz_ha.stop_managing_partitions(parent) FROM sagaz_ha.partition_policy');
configure($primary, 'sagaz_ha.clock' => '', 'sagaz_ha.standby_drain_timeout' => '20s');
expired_table($primary, 'gone', -4, 0);
$primary->wait_for_catchup($slotted);
$cascaded->stop;
$slotless->stop;
$session = $slotted->background_psql('postgres');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM gone');
$primary->poll_query_until('postgres', q{SELECT xmin IS NOT NULL FROM pg_replication_slots});
manage($primary, 'gone');
waits_for($primary, 'gone', 'standby slotted with an xmin', 'gone');
$slotted->stop('immediate');
waits_for($primary, 'gone', 'standby slotted, which is not connected, with an xmin', 'gone');
is(dropped_count($primary, 'gone'), '0', 'gone: its slot is waited for');
ok($primary->poll_query_until('postgres', q{
	SELECT details ~ 'slotted: its standby is not connected' AND status = 'warning'
	FROM sagaz_ha.partition_health() WHERE check_name = 'standbys'}),
	'gone: health names the slot');
is_within(is_partitions($primary, 'postgres', 'gone', -3, 3, 'gone: after standby_drain_timeout, the drop goes on'),
	24, 'gone: not much later');
ok($primary->poll_query_until('postgres', q{
	SELECT details ~ 'slotted: its standby is not connected' AND status = 'warning'
	FROM sagaz_ha.partition_health() WHERE check_name = 'standbys'}),
	'gone: health still says so');
eval { $session->quit };

$slotted->start;
$slotless->start;
expired_table($primary, 'back', -13, 0);
manage($primary, 'back');
is_partitions($primary, 'postgres', 'back', -3, 3, 'once it is back, drops go on as before');
$primary->wait_for_catchup($_) foreach $slotted, $slotless;
is($_->safe_psql('postgres', 'SELECT count(*) FROM back'), '4', $_->name . ' has replayed it')
  foreach $slotted, $slotless;

$_->stop('fast') foreach $slotted, $slotless, $primary;
done_testing();
