# Replication health on a standby: frozen, paused, delayed, blocked, restarted,
# cut off, behind a long transaction, promoted, cascading.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazRepl;
use Test::More;
use Time::HiRes qw(time usleep);

my $primary = primary('alpha');
my $standby = standby($primary, 'beta', conf => "max_standby_streaming_delay = -1\nhot_standby_feedback = off");
$primary->wait_for_catchup($standby);
until_true($standby, "status = 'ok' FROM sagaz_ha.replication_health()", 'the standby is ok');

# The truth: a row with its time, written each 100 ms.
$primary->safe_psql('postgres', 'CREATE TABLE beat (at timestamptz)');
$primary->wait_for_catchup($standby);
my $beat;

sub load_on
{
	my $script = $primary->basedir . '/beat.sql';
	append_to_file($script, "INSERT INTO beat VALUES (clock_timestamp());\n\\sleep 100 ms\n") unless -f $script;
	$beat = IPC::Run::start(['pgbench', '-n', '-f', $script, '-T', '600', $primary->connstr('postgres')],
		'>', '/dev/null', '2>', '/dev/null');
	until_true($standby, "max(at) > clock_timestamp() - interval '1 s' FROM beat", 'load arrives');
}

sub load_off
{
	$beat->kill_kill;
	$primary->wait_for_catchup($standby);
}

# (our lag, the true lag), in seconds, in one snapshot
sub lags
{
	return split /\|/, $standby->safe_psql('postgres',
		"SELECT extract(epoch FROM h.replay_lag), extract(epoch FROM clock_timestamp() - b.at) FROM sagaz_ha.standby_status() h, (SELECT max(at) AS at FROM beat) b");
}

sub lag_is_true
{
	my ($name) = @_;
	my ($ours, $true) = lags();
	cmp_ok(abs($ours - $true), '<', 1, "$name: lag $ours s, true $true s");
}

load_on();
my $worst = 0;
for (1 .. 5)
{
	my ($ours, $true) = lags();
	$worst = $ours if $ours > $worst;
	sleep 1;
}
cmp_ok($worst, '<', 2, "under load: $worst s");

# Frozen receiver.
my $receiver = postmaster_child($standby, 'walreceiver');
kill 'STOP', $receiver;
my $frozen = time;
sleep 3;
my $at3 = stat($standby, 'extract(epoch FROM replay_lag)');
cmp_ok($at3, '>', 0.5, "receiver frozen for 3 s: lag $at3 s");
for (1 .. 3)
{
	sleep 1;
	my ($ours, $true) = lags();
	cmp_ok($ours, '>', $true - 1, "frozen: lag $ours s, true $true s");
}
compare($standby, 'receiver frozen under load, 6 s',
	'CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN interval \'0\' ELSE now() - pg_last_xact_replay_timestamp() END',
	'SELECT replay_lag FROM sagaz_ha.standby_status()');
my ($theirs, $ours) = compare($primary, 'receiver frozen under load, 6 s',
	'SELECT replay_lag FROM pg_stat_replication',
	'SELECT effective_replay_lag FROM sagaz_ha.replication_standbys()');
my $p = health($primary, 'extract(epoch FROM replay_lag)');
cmp_ok($p, '>', 3, "the primary sees it too: $p s");
is(ask($standby, "sagaz_ha.node_ready('read', '3 s')"), 'f', 'a frozen standby is not ready');
like(stat($standby, 'reasons'), qr/does not react/, 'the reason says so');
kill 'CONT', $receiver;
until_true($standby, "replay_lag < interval '1 s' FROM sagaz_ha.standby_status()", 'recovers');
# What came in one burst is dated by one sample: let it be past.
my $past = $primary->lsn('insert');
until_true($standby, "pg_last_wal_replay_lsn() > '$past' AND sagaz_ha.lsn_timestamp('$past') IS NOT NULL",
	'what came meanwhile is past');

# Replay paused.
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
sleep 4;
is(stat($standby, 'replay_state'), 'paused', 'paused');
lag_is_true('paused');
my $blocked = stat($standby, 'extract(epoch FROM blocked_for)');
cmp_ok($blocked, '>', 2, "blocked for $blocked s");
is(health($standby, 'status'), 'warning', 'paused is a warning');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
until_true($standby, "replay_lag < interval '1 s' AND replay_state = 'streaming' FROM sagaz_ha.standby_status()", 'resumed');

# Replay delayed.
$standby->append_conf('postgresql.conf', "recovery_min_apply_delay = '5s'");
$standby->reload;
until_true($standby, "replay_state = 'delayed' AND replay_lag > interval '4 s' FROM sagaz_ha.standby_status()", 'delayed');
sleep 2;
lag_is_true('delayed');
$standby->append_conf('postgresql.conf', "recovery_min_apply_delay = 0");
$standby->reload;
until_true($standby, "replay_lag < interval '1 s' FROM sagaz_ha.standby_status()", 'no longer delayed');

# A query that conflicts: its snapshot sees rows that vacuum removed.
$primary->safe_psql('postgres', 'INSERT INTO t SELECT generate_series(1, 1000)');
$primary->wait_for_catchup($standby);
my $reader = $standby->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $blocker = $reader->query_safe('SELECT count(*) * 0 + pg_backend_pid() FROM t');
my $deleted = $primary->safe_psql('postgres', 'WITH gone AS (DELETE FROM t) SELECT pg_current_xact_id()::xid');
# no statement of the load has an older snapshot, for which rows would be left
$primary->poll_query_until('postgres', qq{SELECT NOT EXISTS (SELECT FROM pg_stat_activity
	WHERE age(backend_xmin) >= age('$deleted'::xid))}) or die 'an old snapshot';
$primary->safe_psql('postgres', 'VACUUM t');
until_true($standby, "replay_state IN ('conflict', 'lock') FROM sagaz_ha.standby_status()", 'conflict');
sleep 3;
is(stat($standby, 'replay_state'), 'conflict', 'named conflict');
is(stat($standby, 'blocking_pids'), "{$blocker}", 'with the pid of the blocker');
lag_is_true('conflict');
note(stat($standby, 'reasons'));
$reader->query_safe('ROLLBACK');
until_true($standby, "replay_lag < interval '1 s' FROM sagaz_ha.standby_status()", 'goes on');

# A lock that replay waits for.
$reader->query_safe('BEGIN; LOCK TABLE t IN ACCESS SHARE MODE');
my $locker = IPC::Run::start(['psql', '-XAtq', '-d', $primary->connstr('postgres'), '-c', 'BEGIN; LOCK TABLE t; SELECT txid_current(); COMMIT']);
until_true($standby, "replay_state = 'lock' FROM sagaz_ha.standby_status()", 'lock');
sleep 2;
is(stat($standby, 'blocking_pids'), "{$blocker}", 'with the pid of its holder');
lag_is_true('lock');
$reader->query_safe('ROLLBACK');
$reader->quit;
$locker->finish;
until_true($standby, "replay_lag < interval '1 s' FROM sagaz_ha.standby_status()", 'goes on');
load_off();

# One long write transaction after a pause in writing. Commits are held back
# for 0.2 s, so that there is something to see.
$standby->append_conf('postgresql.conf', "recovery_min_apply_delay = '200ms'");
$standby->reload;
sleep 10;
my $writer = $primary->background_psql('postgres');
$writer->query_safe('BEGIN; INSERT INTO t VALUES (1)');
my ($spike, $their_spike) = (0, 0);
for my $i (1 .. 80)
{
	$writer->query_safe('COMMIT') if $i == 40;
	$primary->safe_psql('postgres', 'SELECT txid_current()') if $i == 60;
	my ($lag, $formula) = split /\|/, $standby->safe_psql('postgres',
		'SELECT extract(epoch FROM replay_lag), CASE WHEN pg_last_wal_receive_lsn() <> pg_last_wal_replay_lsn() THEN extract(epoch FROM now() - pg_last_xact_replay_timestamp()) ELSE 0 END FROM sagaz_ha.standby_status()');
	$spike = $lag if $lag > $spike;
	$their_spike = $formula if $formula > $their_spike;
	usleep(50_000);
}
$writer->quit;
$standby->append_conf('postgresql.conf', "recovery_min_apply_delay = 0");
$standby->reload;
cmp_ok($spike, '<', 1.5, "long transaction after a pause: worst lag $spike s");
note("TRAP | worst during one long write transaction after a pause of 10 s | `CASE WHEN receive <> replay THEN now() - pg_last_xact_replay_timestamp() ELSE 0 END` | $their_spike s | $spike s |");

# Restarted.
load_on();
$standby->restart;
my ($least, $negative) = (1, 0);
for (1 .. 20)
{
	my $row = $standby->safe_psql('postgres',
		"SELECT count(*) FROM (SELECT to_jsonb(s) AS j FROM sagaz_ha.standby_status() s UNION ALL SELECT to_jsonb(h) FROM sagaz_ha.replication_health() h) x, jsonb_each_text(j) e WHERE e.value LIKE '-%' AND e.key <> 'clock_offset'");
	$negative += $row;
	usleep(100_000);
}
is($negative, 0, 'no negative number after a restart');
until_true($standby, "status = 'ok' AND receiver_restarts = 0 FROM sagaz_ha.standby_status()", 'ok again');
my $old = postmaster_child($standby, 'walreceiver');
kill 'TERM', $old;
until_true($standby, "receiver_restarts = 1 AND receiver_state = 'streaming' FROM sagaz_ha.standby_status()", 'restarts are counted');

load_off();

# The upstream is gone.
$standby->append_conf('postgresql.conf', "sagaz_ha.contact_grace = 3s");
$standby->reload;
$primary->stop('immediate');
until_true($standby, "status = 'critical' AND replay_lag > interval '2 s' AND lag_source = 'lost_contact' FROM sagaz_ha.replication_health()", 'the upstream is gone: critical');
($theirs, $ours) = compare($standby, 'upstream gone',
	'CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN interval \'0\' ELSE now() - pg_last_xact_replay_timestamp() END',
	'SELECT replay_lag FROM sagaz_ha.standby_status()');
is($theirs, '00:00:00', 'the common formula says 0');
is(ask($standby, 'data_loss_bytes IS NULL AND data_loss_bound > interval \'2 s\' FROM sagaz_ha.promotion_readiness()'), 't', 'what would be lost is bounded in time, not known in bytes');
is(ask($standby, 'ready FROM sagaz_ha.promotion_readiness()'), 't', 'it can be promoted');
note(ask($standby, 'row_to_json(r) FROM sagaz_ha.promotion_readiness() r'));
$standby->append_conf('postgresql.conf', "sagaz_ha.replay_lag_critical = 1s");
$standby->reload;
until_true($standby, "replay_lag > interval '1 s' AND ready FROM sagaz_ha.standby_status(), sagaz_ha.promotion_readiness()", 'and still can, however long the primary has been dead');

# What a primary expects is no business of a standby with the same configuration.
$standby->append_conf('postgresql.conf', "sagaz_ha.expected_standbys = 3\nsagaz_ha.expected_standby_names = 'gamma'");
$standby->reload;
until_true($standby, "current_setting('sagaz_ha.expected_standbys') = '3' AND standbys_expected = 0 AND array_to_string(reasons, ' ') !~ 'expected' FROM sagaz_ha.replication_health()", 'a standby expects none');

$standby->append_conf('postgresql.conf', "sagaz_ha.expected_standbys = 0\nsagaz_ha.expected_standby_names = ''");
$standby->reload;

# Promotion: right at once.
$standby->safe_psql('postgres', 'SELECT pg_promote()');
my $row = $standby->safe_psql('postgres', 'SELECT role, timeline_id, replay_lag IS NULL, staleness_bound, status, upstream_contact_age IS NULL FROM sagaz_ha.replication_health()');
is($row, 'primary|2|t|00:00:00|ok|t', 'role, timeline and numbers of a new primary');
compare($standby, 'right after promotion: timeline', 'SELECT timeline_id FROM pg_control_checkpoint()', 'SELECT timeline_id FROM sagaz_ha.replication_health()');
$standby->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
my $lsn = $standby->lsn('flush');
until_true($standby, "sagaz_ha.lsn_timestamp('$lsn') > now() - interval '10 s'", 'the clock runs on over the promotion');
is(ask($standby, "sagaz_ha.node_ready('write')"), 't', 'ready to write');
$standby->stop('fast');

done_testing();
