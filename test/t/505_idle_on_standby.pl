# A session on a standby that is idle in a READ COMMITTED transaction has locks
# but no snapshot, so feedback says nothing of it. The standby's guard speaks for
# it, and costs no more than an xmin that is a second or two old.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;

my $primary = sagaz_server('primary', streaming => 1, conf => "sagaz_ha.naptime = 1h\n");
$primary->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha; CREATE TABLE tick (id bigint)');

# What a user may set for his sessions must not become the guard's undoing.
my $standby = standby_of($primary, 'standby', slot => 'standby',
	conf => "default_transaction_isolation = 'repeatable read'\nwal_receiver_status_interval = 1s\n");
my $slot_age = q{SELECT age(xmin) FROM pg_replication_slots WHERE xmin IS NOT NULL};

ok($standby->poll_query_until('postgres', q{
	SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'sagaz_ha standby guard' AND backend_xmin IS NOT NULL}),
	'the guard holds a snapshot');

# Every xmin here says when it was: it is the number of a row.
sub seconds_behind
{
	$primary->safe_psql('postgres', q{
		DROP TABLE IF EXISTS at_xid; CREATE TABLE at_xid (xid xid8, at timestamptz)});
	my $beat = SagazStandby::repeat($primary,
		'INSERT INTO at_xid VALUES (pg_current_xact_id(), clock_timestamp())', 0.02);
	my $age = SagazStandby::repeat($primary, q{
		SELECT extract(epoch FROM clock_timestamp() - min(at)), (SELECT age(xmin) FROM pg_replication_slots)
		FROM at_xid, pg_replication_slots AS s
		WHERE age(xid::xid) <= age(s.xmin)}, 0.1);
	$primary->poll_query_until('postgres', q{SELECT count(*) > 250 FROM at_xid});
	SagazStandby::stop_repeating($beat);
	my @ages = sort { $a <=> $b } map { /^([\d.]+)\|\d+$/ ? $1 : () } split /\n/, SagazStandby::stop_repeating($age);
	return @ages;
}

my @ages = seconds_behind();
note(sprintf "the guard's xmin, as the primary has it, is %.2f s old at the median and %.2f s at most, of %d samples",
	$ages[ $#ages / 2 ], $ages[-1], scalar @ages);
cmp_ok($ages[-1], '<', 3, 'with nothing pending, the xmin is a second or two old');

# -------- idle, with locks

expired_table($primary, 'events', -13, 0);
$primary->wait_for_catchup($standby);
my $offset = -s $standby->logfile;
my $idle = $standby->background_psql('postgres');
$idle->query_safe('BEGIN ISOLATION LEVEL READ COMMITTED; SELECT count(*) FROM events');
my $pid = $idle->query_safe('SELECT pg_backend_pid()');
is($standby->safe_psql('postgres', "SELECT state, backend_xmin FROM pg_stat_activity WHERE pid = $pid"),
	'idle in transaction|', 'a session on the standby has locks and no snapshot');
my $beat = heartbeat($primary, $standby);
manage($primary, 'events');
waits_for($primary, 'events', 'standby standby with an xmin', 'idle');
my (undef, $used) = memory_of($standby, 'sagaz_ha standby guard');
my $age = $primary->safe_psql('postgres', $slot_age);
ok($primary->poll_query_until('postgres', "SELECT age(xmin) > $age + 60 FROM pg_replication_slots"),
	'idle: for a while');
takes_no_more($standby, 'sagaz_ha standby guard', $used, 8192,
	'idle: the guard takes no more memory meanwhile');
is(dropped_count($primary, 'events'), '0', 'idle: the drop waits for it');
is($idle->query_safe('SELECT count(*) >= 13 FROM events'), 't', 'idle: it can go on');
note('idle: xmin age ' . $primary->safe_psql('postgres', $slot_age) . ' transactions');
$idle->query_safe('COMMIT');
is_within(is_partitions($primary, 'postgres', 'events', -3, 3, 'idle: when it ends, all is dropped'),
	5, 'idle: within 5 s');
heartbeat_ended($beat, 1, 'idle');

# A snapshot from before the detach finds the partition after it too, and its
# lock stays when the snapshot is gone.
expired_table($primary, 'later', -5, 0);
$primary->safe_psql('postgres', q{
	CREATE FUNCTION sleep_and_read(seconds float) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN
		PERFORM pg_sleep(seconds);
		RETURN (SELECT count(*) FROM later);
	END $$});
$primary->wait_for_catchup($standby);
$beat = heartbeat($primary, $standby);
$idle->query_until(qr/started/, "BEGIN ISOLATION LEVEL READ COMMITTED;\n\\echo started\nSELECT sleep_and_read(4);\n");
# with a snapshot from before the detach
$standby->poll_query_until('postgres', "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid")
  or die 'it does not sleep';
manage($primary, 'later');
waits_for($primary, 'later', 'standby standby with an xmin', 'late lock');
is($idle->query_safe('SELECT 1'), "6\n1", 'late lock: it reads the partition after the detach');
ok($primary->poll_query_until('postgres', "SELECT age(xmin) > 80 FROM pg_replication_slots"),
	'late lock: then it is idle for a while');
is(dropped_count($primary, 'later'), '0', 'late lock: the drop waits for it');
$idle->query_safe('COMMIT');
is_within(is_partitions($primary, 'postgres', 'later', -3, 3, 'late lock: when it ends, all is dropped'),
	5, 'late lock: within 5 s');
heartbeat_ended($beat, 1, 'late lock');
is_deeply([ log_lines($standby, $offset, qr/canceling|conflict|terminating connection/) ], [],
	'nobody was cancelled');

$idle->quit;
@ages = seconds_behind();
note(sprintf 'afterwards: %.2f s at the median and %.2f s at most', $ages[ $#ages / 2 ], $ages[-1]);
cmp_ok($ages[-1], '<', 3, 'and the xmin goes on as before');

$_->stop('fast') foreach $standby, $primary;
done_testing();
