# Retiring partitions never freezes replay on a standby, and never cancels a
# query there: what its feedback says may still be seen isn't dropped.
#
# SAGAZ_SECONDS (6) is how long a transaction on the standby stays open.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{SAGAZ_SECONDS} || 6;

# How long a standby that is gone is waited for is real time: so is the clock.
my $primary = sagaz_server('primary', streaming => 1, conf => q{
sagaz_ha.clock = ''
sagaz_ha.naptime = 1s
sagaz_ha.standby_drain_timeout = 3s
});

$primary->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE beats (at timestamptz);
	SELECT pg_create_physical_replication_slot('slot', true)});
$primary->backup('backup');

sub standby
{
	my ($name, $conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($primary, 'backup', has_streaming => 1);
	$node->append_conf('postgresql.conf', qq{
hot_standby_feedback = on
wal_receiver_status_interval = 1s
max_standby_streaming_delay = 0
max_standby_archive_delay = 0
$conf
});
	$node->start;
	return $node;
}

my $with_slot = standby('with_slot', "primary_slot_name = 'slot'");
my $without_slot = standby('without_slot', '');
# who hasn't said yet what it sees isn't waited for
$primary->poll_query_until('postgres', q{
	SELECT count(*) = 2 FROM pg_stat_replication AS r LEFT JOIN pg_replication_slots AS s ON s.active_pid = r.pid
	WHERE coalesce(r.backend_xmin, s.xmin) IS NOT NULL}) or die 'no feedback';

# A table with 10 expired partitions, which nobody manages yet.
sub unmanaged_table
{
	my ($name, @standbys) = @_;

	$primary->safe_psql('postgres', qq{
		CREATE TABLE $name (id bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL,
			done boolean NOT NULL DEFAULT true) PARTITION BY RANGE (created_at);});
	add_partitions($primary, 'postgres', $name, -13, 3);
	$primary->wait_for_catchup($_) foreach @standbys;
	return;
}

sub manage
{
	my ($name) = @_;

	$primary->safe_psql('postgres', qq{
		SELECT sagaz_ha.manage_partitions('$name', '1 day', 3, '3 days', unfinished_when => 'NOT done')});
	return;
}

sub drops
{
	my ($name) = @_;

	return $primary->safe_psql('postgres', qq{SELECT count(*) FROM sagaz_ha.partition_history
		WHERE table_name = '$name' AND action = 'DROP'});
}

# The oldest that a row gets that is not on the standby yet, in seconds, while
# one is written each 100 ms.
sub staleness
{
	my ($standby, $until) = @_;
	my ($worst, @unread) = (0);

	while (time < $until)
	{
		push @unread, $primary->safe_psql('postgres',
			'INSERT INTO beats VALUES (clock_timestamp()) RETURNING extract(epoch FROM at)');
		usleep(80_000);
		my ($now, $newest) = split /\|/, $standby->safe_psql('postgres',
			'SELECT extract(epoch FROM now()), extract(epoch FROM coalesce(max(at), now() - interval $$1 h$$)) FROM beats');
		shift @unread while @unread && $unread[0] <= $newest;
		$worst = $now - $unread[0] if @unread && $now - $unread[0] > $worst;
	}
	return $worst;
}

# -------- a long transaction on a standby

foreach my $standby ($with_slot, $without_slot)
{
	my $name = $standby->name;
	my $table = "events_$name";

	unmanaged_table($table, $with_slot, $without_slot);
	my $offset = -s $standby->logfile;
	my $session = $standby->background_psql('postgres');
	$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM $table");
	my $start = time;

	manage($table);
	ok(defined when($primary, 'postgres', qq{EXISTS (SELECT FROM sagaz_ha.maintenance_status()
		WHERE waiting_for LIKE '%waiting for standby %')}), "$name: the drain waits for a standby");
	note($primary->safe_psql('postgres', q{SELECT waiting_for FROM sagaz_ha.maintenance_status()
		WHERE process = 'worker'}));
	my $worst = staleness($standby, $start + $seconds);
	is_within($worst, 1, "$name: a row is readable within 1 s throughout");
	is(drops($table), '0', "$name: nothing is dropped as long as the transaction is open");
	# it has one as long as it asks who is waited for
	my $now = $primary->safe_psql('postgres', 'SELECT pg_current_xact_id()::xid');
	is_within(when($primary, 'postgres', qq{NOT EXISTS (SELECT FROM pg_stat_activity
		WHERE backend_type = 'sagaz_ha worker' AND age(backend_xmin) >= age('$now'::xid))}), 2,
		"$name: nor does a worker hold a snapshot meanwhile");
	like($session->query("SELECT count(*) FROM $table"), qr/^17$/m,
		"$name: the query sees what it saw, and isn't cancelled");
	$session->query_safe('COMMIT');
	$session->quit;
	$start = time;
	$worst = staleness($standby, $start + 2);
	is_partitions($primary, 'postgres', $table, -3, 3, "$name: then the drops go on");
	note(sprintf('%s: 10 drops took %.1f s after the end of the transaction', $name, time - $start));
	is_within($worst, 1, "$name: without stale rows");
	is_consistent($primary, 'postgres', $table, "$name: history and catalogs agree");
	is_deeply([ log_lines($standby, $offset, qr/canceling statement|recovery still waiting/) ], [],
		"$name: no query was cancelled");
}

# -------- a failover in the middle of a drain

unmanaged_table('failover', $with_slot, $without_slot);
my $session = $with_slot->background_psql('postgres');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM failover');
manage('failover');
ok(defined when($primary, 'postgres', q{EXISTS (SELECT FROM pg_inherits
	WHERE inhdetachpending AND inhparent = 'failover'::regclass)}), 'a detach is pending');
$primary->wait_for_catchup($without_slot);
$without_slot->promote;
is_within(is_partitions($without_slot, 'postgres', 'failover', -3, 3,
		'the promoted standby, for which nobody is to be waited, finishes it'), 5, 'soon');
is_consistent($without_slot, 'postgres', 'failover', 'with nothing half done');
is($primary->safe_psql('postgres', q{SELECT inhparent::regclass FROM pg_inherits
	WHERE inhdetachpending}), 'failover', 'while the primary still waits');
$session->query_safe('COMMIT');
$session->quit;
ok(defined when($primary, 'postgres', q{NOT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)}),
	'for the end of the transaction');
is_partitions($primary, 'postgres', 'failover', -3, 3, 'and then finishes it too');

# -------- a standby that is gone and left its slot

unmanaged_table('gone', $with_slot);
$with_slot->stop('fast');
ok(defined when($primary, 'postgres', q{EXISTS (SELECT FROM pg_replication_slots WHERE NOT active AND xmin IS NOT NULL)}),
	'a standby is gone, and its slot is left');
manage('gone');
ok(defined when($primary, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.maintenance_status()
	WHERE waiting_for LIKE '%standby slot, which is not connected,%')}), 'it is waited for');
my $took = when($primary, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE table_name = 'gone' AND action = 'DROP')});
is_within($took, 10, 'and then no longer');
is($primary->safe_psql('postgres', q{
	SELECT bool_and(d.recorded_at >= a.recorded_at + interval '3 s')
	FROM sagaz_ha.partition_history AS a JOIN sagaz_ha.partition_history AS d USING (partition)
	WHERE a.table_name = 'gone' AND a.action = 'DEFER' AND d.action = 'DROP'}),
	't', 'but as long as standby_drain_timeout was not over');
$primary->stop('fast');
$without_slot->stop('fast');

done_testing();
