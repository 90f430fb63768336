# Replication health on a primary: idle, slots, absent and synchronous
# standbys, receivers that are no standbys, and who may look.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazRepl;
use Test::More;

my $primary = primary('alpha', conf => 'max_prepared_transactions = 2');
my $standby = standby($primary, 'beta');
$primary->wait_for_catchup($standby);

is(health($primary, 'role'), 'primary', 'role of a primary');
is(health($standby, 'role'), 'standby', 'role of a standby');
until_true($_, "status = 'ok' FROM sagaz_ha.replication_health()", $_->name . ' is ok')
  for $primary, $standby;
is(health($primary, 'lag_source'), 'lsn_clock', 'lag comes from the clock');
is(health($primary, 'system_identifier'), health($standby, 'system_identifier'), 'one system');
is(ask($primary, "(SELECT count(*) FROM sagaz_ha.standby_status())"), '0', 'a primary has no standby_status');

# One scrape reads each source once, on either role.
for my $node ($primary, $standby)
{
	my $readings = $node->safe_psql('postgres', q{
		SET track_functions = 'all'; BEGIN; SELECT count(*) > 0 FROM sagaz_ha.metrics();
		SELECT string_agg(funcname || ' ' || calls, ' ' ORDER BY funcname) FROM pg_stat_xact_user_functions
		 WHERE funcname IN ('_thresholds', '_node_state', '_wal_state', '_receiver_state', '_sender_state');
		COMMIT});
	is($readings, "t\n_node_state 1 _receiver_state 1 _sender_state 1 _thresholds 1 _wal_state 1",
		'one reading of each source by ' . $node->name);
}

# Idle for 25 s, the second half of it after pg_switch_wal().
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
$primary->wait_for_catchup($standby);
my ($worst_primary, $worst_standby) = (0, 0);
for my $second (1 .. 25)
{
	$primary->safe_psql('postgres', 'SELECT pg_switch_wal()') if $second == 12;
	sleep 1;
	my $p = health($primary, 'extract(epoch FROM replay_lag)');
	my $s = health($standby, 'extract(epoch FROM replay_lag)');
	fail("lag unknown at second $second") if $p eq '' || $s eq '';
	$worst_primary = $p if $p > $worst_primary;
	$worst_standby = $s if $s > $worst_standby;
}
note("idle for 25 s: worst lag $worst_primary s on the primary, $worst_standby s on the standby");
cmp_ok($worst_primary, '<', 2, 'lag on an idle primary');
cmp_ok($worst_standby, '<', 2, 'lag on an idle standby');
my ($theirs, $ours) = compare($standby, 'idle primary for 25 s',
	'now() - pg_last_xact_replay_timestamp()',
	'SELECT replay_lag FROM sagaz_ha.replication_health()');
# now and then the server itself writes a record there, so try again
for (1 .. 5)
{
	$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1); SELECT pg_switch_wal()');
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
	($theirs, $ours) = compare($primary, 'after pg_switch_wal()',
		'pg_wal_lsn_diff(pg_current_wal_insert_lsn(), (SELECT replay_lsn FROM pg_stat_replication))',
		'SELECT replay_lag_bytes FROM sagaz_ha.replication_health()');
	last if $theirs eq '40';
}
is($theirs, '40', 'the insert position stands 40 bytes ahead');
is($ours, '0', 'nothing is behind');
my $token = ask($primary, 'sagaz_ha.commit_token()');
$standby->safe_psql('postgres', "CALL sagaz_ha.wait_for_replay('$token', '5 s')");
pass('the wait returns after pg_switch_wal()');
$token = $primary->safe_psql('postgres', 'SET synchronous_commit = off; SELECT sagaz_ha.commit_token()');
$standby->safe_psql('postgres', "CALL sagaz_ha.wait_for_replay('$token', '5 s')");
pass('also with an asynchronous commit');

# An LSN has a time.
my $lsn = $primary->lsn('flush');
my $at = $primary->safe_psql('postgres', 'INSERT INTO t VALUES (2) RETURNING clock_timestamp()');
until_true($primary, "abs(extract(epoch FROM timestamptz '$at' - sagaz_ha.lsn_timestamp('$lsn'::pg_lsn + 1))) < 3", 'a new LSN is dated');
is(ask($primary, "sagaz_ha.lsn_timestamp('FF/0') IS NULL"), 't', 'an LSN to come has no time');

# What receives WAL but is no standby.
$primary->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('archive')");
my $dir = PostgreSQL::Test::Utils::tempdir;
my $receivewal = IPC::Run::start(['pg_receivewal', '-D', $dir, '-S', 'archive', '-d', $primary->connstr]);
until_true($primary, "count(*) = 1 FROM sagaz_ha.replication_standbys() WHERE kind = 'wal_archiver'", 'pg_receivewal is a wal_archiver');
my $basebackup = IPC::Run::start(['pg_basebackup', '-D', "$dir/b", '-X', 'stream', '-c', 'fast', '--max-rate', '2M', '-d', $primary->connstr]);
until_true($primary, "count(*) = 2 FROM sagaz_ha.replication_standbys() WHERE kind = 'base_backup'", 'both connections of pg_basebackup are base_backup');
is(health($primary, 'standbys_streaming'), '1', 'only the standby is counted');
$_->kill_kill for $basebackup, $receivewal;
$primary->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('logical', 'pgoutput')") if ask($primary, "current_setting('wal_level')") eq 'logical';

# Expected standbys.
$primary->append_conf('postgresql.conf', "sagaz_ha.expected_standby_names = 'beta, \"Gamma\"'");
$primary->reload;
until_true($primary, "status = 'critical' AND standbys_expected = 2 FROM sagaz_ha.replication_health()", 'an expected standby is missing');
is(ask($primary, "standby_name || ' ' || state || ' ' || status FROM sagaz_ha.replication_standbys() WHERE state = 'absent'"),
	'Gamma absent critical', 'the absent one is a row');
$primary->append_conf('postgresql.conf', "sagaz_ha.expected_standby_names = ''\nsagaz_ha.expected_standbys = 2");
$primary->reload;
until_true($primary, "reasons[1] = 'critical: 1 of 2 expected standbys are streaming' AND standbys_expected = 2 FROM sagaz_ha.replication_health()", 'one of two expected standbys is missing');
$primary->append_conf('postgresql.conf', 'sagaz_ha.expected_standbys = 1');
$primary->reload;
until_true($primary, "standbys_expected = 1 AND status <> 'critical' FROM sagaz_ha.replication_health()", 'as many standbys as expected');
$primary->append_conf('postgresql.conf', 'sagaz_ha.expected_standbys = 0');

# Lag in bytes, on both sides.
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
until_true($standby, "pg_get_wal_replay_pause_state() = 'paused'", 'replay is paused');
$primary->safe_psql('postgres', "CREATE TABLE pile AS SELECT repeat('x', 500) FROM generate_series(1, 8000)");
for my $severity (qw(warning critical))
{
	$_->append_conf('postgresql.conf', "sagaz_ha.replay_lag_bytes_$severity = 2MB"), $_->reload for $primary, $standby;
	until_true($primary, "reasons[1] ~ '^$severity: .* of WAL are not replayed' FROM sagaz_ha.replication_standbys() WHERE kind = 'standby'", "lag in bytes is $severity on the primary");
	until_true($standby, "'$severity' = ANY (SELECT split_part(r, ':', 1) FROM unnest(reasons) AS r WHERE r LIKE '%of WAL are not replayed') FROM sagaz_ha.standby_status()", "and on the standby");
}
$_->append_conf('postgresql.conf', "sagaz_ha.replay_lag_bytes_warning = 1GB\nsagaz_ha.replay_lag_bytes_critical = 8GB"), $_->reload for $primary, $standby;
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');

# A prepared transaction holds back vacuum, and no backend shows it.
$primary->safe_psql('postgres', "BEGIN; INSERT INTO t VALUES (0); PREPARE TRANSACTION 'for''gotten'");
is(ask($primary, "kind, name, pid IS NULL, database, age, remedy FROM sagaz_ha.xmin_holders() WHERE kind = 'prepared_transaction'"),
	q{prepared_transaction|for'gotten|t|postgres|1|COMMIT PREPARED or ROLLBACK PREPARED 'for''gotten'.}, 'a prepared transaction is named');
$primary->safe_psql('postgres', "ROLLBACK PREPARED 'for''gotten'");

# A synchronous standby is missing: sessions that wait are counted.
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$primary->reload;
$primary->safe_psql('postgres', 'CHECKPOINT'); # its process puts that setting into force
my $waiter = $primary->background_psql('postgres');
$waiter->query_until(qr/go/, "\\echo go\nINSERT INTO t VALUES (3);\n");
until_true($primary, "status = 'critical' AND sync_required = 1 AND sync_available = 0 AND sync_waiters = 1 FROM sagaz_ha.replication_health()", 'sync_waiters counted');
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'beta'");
$primary->reload;
until_true($primary, "sync_required = 1 AND sync_available = 1 AND sync_waiters = 0 FROM sagaz_ha.replication_health()", 'and gone with the standby there');
$waiter->quit;

# The xmin of a standby that is dead but holds a slot.
$primary->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('beta_slot')");
$standby->append_conf('postgresql.conf', "primary_slot_name = 'beta_slot'\nhot_standby_feedback = on\nwal_receiver_status_interval = 1s");
$standby->reload;
until_true($primary, "count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'beta_slot' AND xmin IS NOT NULL", 'feedback arrived');
$standby->stop('immediate');
$primary->append_conf('postgresql.conf', "synchronous_standby_names = ''\nsagaz_ha.xmin_age_warning = 50");
$primary->reload;
$primary->safe_psql('postgres', "DO \$\$ BEGIN FOR i IN 1..100 LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END \$\$");
is(ask($primary, "kind || ' ' || name || ' ' || status FROM sagaz_ha.xmin_holders() LIMIT 1"), 'slot beta_slot warning', 'the slot of a dead standby is named');
like(ask($primary, "remedy FROM sagaz_ha.xmin_holders() LIMIT 1"), qr/pg_drop_replication_slot\('beta_slot'\)/, 'with its remedy');
cmp_ok(health($primary, 'replication_xmin_age'), '>=', 100, 'replication_xmin_age');

# A slot loses what it needs.
is(ask($primary, "status || ' ' || limited_by FROM sagaz_ha.replication_slot_risk() WHERE slot_name = 'beta_slot'"), 'warning disk', 'an inactive slot, limited by the disk');
$primary->append_conf('postgresql.conf', "max_slot_wal_keep_size = 32MB\nmax_wal_size = 32MB");
$primary->reload;
$primary->safe_psql('postgres', "CREATE TABLE filler AS SELECT repeat('x', 500) FROM generate_series(1, 20000); SELECT pg_switch_wal(); CHECKPOINT");
until_true($primary, "limited_by = 'slot limit' AND bytes_to_loss IS NOT NULL FROM sagaz_ha.replication_slot_risk() WHERE slot_name = 'beta_slot'", 'now limited by its own limit');
for my $i (1 .. 4)
{
	$primary->safe_psql('postgres', "INSERT INTO filler SELECT repeat('x', 500) FROM generate_series(1, 20000); SELECT pg_switch_wal(); CHECKPOINT");
}
is(ask($primary, "status || ' ' || invalidation_reason || ' ' || bytes_to_loss || ' ' || (retained_bytes IS NOT NULL) FROM sagaz_ha.replication_slot_risk() WHERE slot_name = 'beta_slot'"),
	'critical wal_removed 0 true', 'a lost slot is critical');
($theirs, $ours) = compare($primary, 'lost slot',
	"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots WHERE slot_name = 'beta_slot'",
	"SELECT status || ': ' || bytes_to_loss || ' bytes to loss' FROM sagaz_ha.replication_slot_risk() WHERE slot_name = 'beta_slot'");
is($theirs, 'NULL', 'the common formula says NULL');
is(health($primary, 'status'), 'critical', 'health is critical');

# The standby that needed it can't go on, and both sides say so.
$primary->append_conf('postgresql.conf', "sagaz_ha.expected_standby_names = 'beta'");
$primary->reload;
$standby->start;
until_true($standby, "status = 'critical' FROM sagaz_ha.replication_health()", 'WAL is gone: critical on the standby');
note(health($standby, 'summary'));
until_true($primary, "status = 'critical' AND summary LIKE '%beta%' FROM sagaz_ha.replication_health()", 'and on the primary');
until_true($standby, "NOT sagaz_ha.node_ready('read', '3 s')", 'such a standby is not ready');

# wal_retention names what binds.
cmp_ok(ask($primary, "count(*) FROM sagaz_ha.wal_retention() WHERE binds"), '>=', 1, 'one cause of retention binds');

# Who may look.
$primary->safe_psql('postgres', 'CREATE ROLE nobody LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; CREATE ROLE half LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sagaz_ha TO half');
for my $f (qw(replication_health() replication_standbys() replication_slot_risk() wal_retention() metrics() nagios_check()))
{
	my ($rc, $out, $err) = $primary->psql('postgres', "SET ROLE nobody; SELECT * FROM sagaz_ha.$f");
	like($err, qr/permission denied for function/, "$f is refused without pg_monitor");
	($rc, $out, $err) = $primary->psql('postgres', "SET ROLE half; SELECT * FROM sagaz_ha.$f");
	like($err, qr/permission denied for function/, "$f is refused to a role that was granted only the function");
	($rc, $out, $err) = $primary->psql('postgres', "SET ROLE watcher; SELECT * FROM sagaz_ha.$f");
	is($rc, 0, "$f works with pg_monitor") or diag($err);
}
$primary->safe_psql('postgres', 'SET ROLE nobody; SELECT sagaz_ha.commit_token()');
pass('tokens are for everyone');

# The sampler holds up nothing, and comes back.
my $pid = postmaster_child($primary, 'sagaz_ha sampler');
$primary->safe_psql('postgres', "CREATE DATABASE d");
$primary->safe_psql('postgres', "DROP DATABASE d");
pass('DROP DATABASE');
$primary->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
until_true($primary, "count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'sagaz_ha sampler' AND pid <> $pid", 'a terminated sampler is started again');
$standby->stop('fast');
my $began = time;
$primary->stop('fast');
cmp_ok(time - $began, '<', 5, 'fast shutdown');
$primary->start;
$primary->stop('smart');
pass('smart shutdown');

done_testing();
