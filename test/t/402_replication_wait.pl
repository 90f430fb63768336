# Reading one's own writes: in every way to call it, under load, over a
# promotion, and on the wrong timeline. And a cascade.
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
my $standby = standby($primary, 'beta');
my $leaf = standby($standby, 'gamma', backup_of => $primary);
$primary->wait_for_catchup($standby);
until_true($leaf, "receiver_state = 'streaming' FROM sagaz_ha.standby_status()", 'the leaf streams');

# The cascade: what each says of itself.
until_true($standby, "role = 'cascading_standby' AND status = 'ok' AND standbys_streaming = 1 FROM sagaz_ha.replication_health()", 'the middle is a cascading standby');
is(health($leaf, 'role'), 'standby', 'the leaf is a standby');
like(health($leaf, 'summary'), qr/relative to the upstream .*:${\$standby->port}, which may be a standby itself/, 'and says what its lag is relative to');
is(ask($standby, "string_agg(standby_name || ' ' || kind, ',') FROM sagaz_ha.replication_standbys()"), 'gamma standby', 'the middle lists the leaf');

sub write_and_token
{
	$primary->safe_psql('postgres', 'INSERT INTO t SELECT count(*) FROM t');
	return ask($primary, 'sagaz_ha.commit_token()');
}
my $rows = 'SELECT count(*) FROM t';

# Hold replay back, so that there is something to wait for.
# With a delay, replay never meets the newest WAL, so the server takes all it
# replays for late, and would cancel after 30 s what conflicts.
$standby->append_conf('postgresql.conf', "recovery_min_apply_delay = '300ms'\nmax_standby_streaming_delay = -1");
$standby->reload;

my $token = write_and_token();
is($standby->safe_psql('postgres', "CALL sagaz_ha.wait_for_replay('$token'); $rows"), '1', 'plain');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$token = write_and_token();
is(ask($standby, "sagaz_ha.has_replayed('$token')"), 'f', 'has_replayed: not yet');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
is($standby->safe_psql('postgres', "BEGIN; SELECT 1; CALL sagaz_ha.wait_for_replay('$token'); $rows; COMMIT"), "1\n2", 'in BEGIN');
is(ask($standby, "sagaz_ha.has_replayed('$token')"), 't', 'has_replayed: now');
$token = write_and_token();
is($standby->safe_psql('postgres', "DO \$\$ BEGIN PERFORM 1 FROM pg_class; CALL sagaz_ha.wait_for_replay('$token'); IF (SELECT count(*) FROM t) <> 3 THEN RAISE 'not seen'; END IF; END \$\$; $rows"), '3', 'in DO');
$token = write_and_token();
my $script = $standby->basedir . '/wait.sql';
append_to_file($script, "CALL sagaz_ha.wait_for_replay('$token', '10 s');\n");
for my $mode (qw(extended prepared))
{
	$standby->command_ok(['pgbench', '-n', '-M', $mode, '-f', $script, '-t', '2', $standby->connstr('postgres')], "$mode protocol");
}
is($standby->safe_psql('postgres', $rows), '4', 'seen');
$token = write_and_token();
my ($rc, $out, $err) = $standby->psql('postgres', "BEGIN; DO \$\$ BEGIN CALL sagaz_ha.wait_for_replay('$token'); END \$\$");
like($err, qr/holds a snapshot/, 'in DO in a transaction block: refused');
($rc, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\nBEGIN ISOLATION LEVEL REPEATABLE READ; CALL sagaz_ha.wait_for_replay('$token')");
like($err, qr/25001: wait_for_replay\(\) cannot run in a transaction at isolation level/, 'at REPEATABLE READ: refused');
($rc, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\nCALL sagaz_ha.wait_for_replay('1:FF/0', '200 ms')");
like($err, qr/SH001: timed out/, 'timeout');
($rc, $out, $err) = $standby->psql('postgres', "CALL sagaz_ha.wait_for_replay('nonsense')");
like($err, qr/invalid commit token/, 'no token');
($rc, $out, $err) = $primary->psql('postgres', "BEGIN; INSERT INTO t VALUES (0); SELECT sagaz_ha.commit_token()");
like($err, qr/cannot cover the changes of the current transaction/, 'a token is taken after COMMIT');
is(ask($primary, "sagaz_ha.has_replayed('$token')"), 't', 'a primary has it');

# It holds no snapshot while it waits.
my $waiting = IPC::Run::start(['psql', '-XAtq', '-d', $standby->connstr('postgres'), '-c', "CALL sagaz_ha.wait_for_replay('1:FF/0', '60 s')"], '2>', \my $canceled);
until_true($standby, "count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL sagaz_ha.wait%' AND backend_xmin IS NULL AND backend_xid IS NULL AND wait_event_type = 'Extension'", 'waits without a snapshot, as a wait event');
$standby->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL sagaz_ha.wait%'");
$waiting->finish;
like($canceled, qr/canceling statement due to user request/, 'and can be cancelled');

# Through PgBouncer, in transaction mode.
SKIP:
{
	my $pgbouncer = (grep { -x $_ } '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer')[0];
	skip 'no pgbouncer', 1 unless $pgbouncer;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $dir = PostgreSQL::Test::Utils::tempdir_short;
	append_to_file("$dir/users", "\"" . getpwuid($<) . "\" \"\"\n");
	append_to_file("$dir/ini", "[databases]\npostgres = host=" . $standby->host . " port=" . $standby->port . " user=" . getpwuid($<) . "\n[pgbouncer]\nlisten_port=$port\nlisten_addr=\nunix_socket_dir=$dir\nauth_type=any\nauth_file=$dir/users\npool_mode=transaction\ndefault_pool_size=2\nlogfile=$dir/log\npidfile=$dir/pid\n");
	my $bouncer = IPC::Run::start([$pgbouncer, "$dir/ini"], '>', '/dev/null', '2>', '/dev/null');
	my $up = 0;
	for (1 .. 100) { last if $up = -S "$dir/.s.PGSQL.$port"; usleep(50_000) }
	append_to_file("$dir/wait.sql", "CALL sagaz_ha.wait_for_replay('" . write_and_token() . "', '10 s');\n");
	my $result = IPC::Run::run(['pgbench', '-n', '-c', '8', '-M', 'extended', '-f', "$dir/wait.sql", '-t', '5', '-h', $dir, '-p', $port, '-U', scalar getpwuid($<), 'postgres'], '>', \my $bench, '2>', \my $bench_err);
	ok($result && $bench =~ m{processed: 40/40}, 'through PgBouncer, 8 clients over 2 connections') or diag($bench_err);
	$bouncer->kill_kill;
}

# Under load: how much later than the truth does the wait return? The truth is
# another session that looks each half millisecond (and lets go of its
# snapshot, or it would hold up what it looks for). How far two such sessions
# are from each other is what the machine itself adds while this runs.
my $load = IPC::Run::start(['pgbench', '-n', '-i', '-q', $primary->connstr('postgres')], '>', '/dev/null', '2>', '/dev/null');
$load->finish;
$load = IPC::Run::start(['pgbench', '-n', '-c', '2', '-R', '300', '-T', '600', $primary->connstr('postgres')], '>', '/dev/null', '2>', '/dev/null');
my @psql = ('psql', '-XAtq', '-d', $standby->connstr('postgres'));
my %statement = (
	waiter => "CALL sagaz_ha.wait_for_replay('%s', '30 s')",
	map { $_ => "DO \$\$ BEGIN WHILE NOT sagaz_ha.has_replayed('%s') LOOP COMMIT; PERFORM pg_sleep(0.0005); END LOOP; END \$\$" } 'looker', 'control');
my (%in, %out, %err, %session);
for my $who (keys %statement)
{
	($in{$who}, $out{$who}, $err{$who}) = ('', '', '');
	$session{$who} = IPC::Run::start([@psql], \$in{$who}, \$out{$who}, \$err{$who});
}
my $n = 1200;
for (1 .. $n)
{
	my $t = $primary->safe_psql('postgres', "INSERT INTO t VALUES (0);\nSELECT sagaz_ha.commit_token()");
	for my $who (keys %statement)
	{
		$in{$who} .= sprintf($statement{$who}, $t) . ";\nSELECT extract(epoch FROM clock_timestamp());\n";
		$session{$who}->pump_nb;
	}
	usleep(10_000);
}
$_->finish for values %session;
$load->kill_kill;
my %seen = map { $_ => [ split /\n/, $out{$_} ] } keys %statement;
is(join(' ', map { scalar @{ $seen{$_} } } sort keys %seen), "$n $n $n", 'every wait returned')
  or diag(explain(\%err));
sub later { my ($who) = @_; return sort { $a <=> $b } map { 1000 * ($seen{$who}[$_] - $seen{looker}[$_]) } 0 .. $n - 1 }
my @added = later('waiter');
my @noise = later('control');
for ([ 'added latency', @added ], [ 'noise', @noise ])
{
	my ($of, @ms) = @$_;
	note(sprintf("WAIT $of of %d waits: median %.1f ms, p95 %.1f ms, p99 %.1f ms, worst %.1f ms",
		$n, $ms[$n / 2], $ms[$n * 0.95], $ms[$n * 0.99 - 1], $ms[-1]));
}
cmp_ok($added[ $n * 0.99 - 1 ], '<', 20 + 2 * $noise[ $n * 0.99 - 1 ], 'p99 of the added latency in ms');
$standby->append_conf('postgresql.conf', "recovery_min_apply_delay = 0");
$standby->reload;

# A commit that is never replicated, and the promotion of the standby.
my $kept = ask($primary, 'sagaz_ha.commit_token()');
$primary->wait_for_catchup($standby);
$standby->wait_for_catchup($leaf, 'replay', $standby->lsn('replay'));
kill 'STOP', postmaster_child($primary, 'walsender');
my $lost = write_and_token();
$waiting = IPC::Run::start(['psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $standby->connstr('postgres'), '-c', "CALL sagaz_ha.wait_for_replay('$lost', '60 s')"], '2>', \my $promoted);
until_true($standby, "count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL sagaz_ha.wait%' AND state = 'active'", 'waits for a commit that does not come');
$primary->stop('immediate');
$standby->promote;
$waiting->finish;
like($promoted, qr/SH002: standby was promoted/, 'promotion ends the wait');
is(ask($standby, "sagaz_ha.has_replayed('$kept')"), 't', 'an older token holds on the new timeline');
($rc, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\nCALL sagaz_ha.wait_for_replay('$lost')");
like($err, qr/SH003: commit token .* is not in this server's history/, 'a lost one is refused by the new primary');
until_true($leaf, "replay_timeline = 2 AND receiver_state = 'streaming' FROM sagaz_ha.standby_status()", 'the leaf follows');
($rc, $out, $err) = $leaf->psql('postgres', "\\set VERBOSITY verbose\nCALL sagaz_ha.wait_for_replay('$lost')");
like($err, qr/SH003/, 'and by its standby');
$standby->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
my $new = ask($standby, 'sagaz_ha.commit_token()');
like($new, qr/^2:/, 'a token of the new timeline');
$leaf->safe_psql('postgres', "CALL sagaz_ha.wait_for_replay('$new', '10 s')");
pass('is waited for on the leaf');
until_true($standby, "role = 'primary' AND timeline_id = 2 AND standbys_streaming = 1 AND replay_lag < interval '1 s' FROM sagaz_ha.replication_health()", 'the new primary and its standby');
until_true($leaf, "status = 'ok' AND replay_lag < interval '1 s' FROM sagaz_ha.replication_health()", 'the leaf is ok');

done_testing();
