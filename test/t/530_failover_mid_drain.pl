# Every state of a retirement is resumable with a standby attached: after the
# primary was killed at each step, after the standby was, and by the standby
# itself once it is promoted.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;

my $conf = "sagaz_ha.naptime = 1h\n";
my $node = sagaz_server('primary', streaming => 1, conf => $conf);
$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');
my $standby = standby_of($node, 'first', slot => 'first', conf => q{
# what a crash of the primary does to the standby's snapshots isn't ours
max_standby_streaming_delay = -1
log_recovery_conflict_waits = on
deadlock_timeout = 10ms
});

# Days -8 to 0; 5 have expired, and one of those, -4, has an unfinished row.
sub unfinished_table
{
	my ($table) = @_;

	expired_table($node, $table, -8, 0);
	$node->safe_psql('postgres', qq{
		UPDATE $table SET done = false
			WHERE created_at = date_trunc('day', sagaz_ha.clock()) - interval '4 days' + interval '1 hour'});
	$node->wait_for_catchup($standby);
	return;
}

# What it has to look like in the end, wherever.
sub is_retired
{
	my ($on, $table, $name) = @_;
	my $expected = expected_partitions($on, 'postgres', $table, -4, 3);

	ok($on->poll_query_until('postgres', qq{
		SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text)
		FROM pg_inherits WHERE inhparent = '$table'::regclass}, $expected), "$name: it is finished");
	is($on->safe_psql('postgres', qq{
		SELECT count(*) || ' ' || count(*) FILTER (WHERE NOT done) FROM $table}), '5 1',
		"$name: no row that had to stay is lost");
	is_consistent($on, 'postgres', $table, "$name: no orphan, and history and catalogs agree");
	return;
}

# -------- the primary is killed at each step

my $offset = -s $standby->logfile;
my @points = qw(announce:before_commit announce:after_commit fence:before_commit fence:after_commit
  detach:before detach:after_first_commit finalize:before_commit finalize:after_commit);
my $n = 0;

foreach my $point (@points)
{
	my $table = 'killed' . $n++;

	unfinished_table($table);
	stop_at($node, $point);
	manage($node, $table, ', unfinished_when => $$NOT done$$');
	stopped_at($node, $point);
	my $session = reading_transaction($standby, $table, 1);
	$node->stop('immediate');
	$node->append_conf('postgresql.auto.conf', "sagaz_ha.stop_at = ''");
	$node->start;
	is_retired($node, $table, "killed at $point");
	$node->wait_for_catchup($standby);
	is($standby->safe_psql('postgres', "SELECT count(*) FROM $table"), '5', "killed at $point: the standby follows");
	eval { $session->{run}->finish };
	is($session->{err}, '', "killed at $point: its query isn't cancelled");
}

# The standby comes back just while it is asked for, and not before.
unfinished_table('asked');
stop_at($node, 'detach:before');
manage($node, 'asked', ', unfinished_when => $$NOT done$$');
stopped_at($node, 'detach:before');
my $reader = reading_transaction($standby, 'asked', 10);
configure($standby, 'primary_conninfo' => 'host=/nonexistent');
$node->stop('immediate');
$node->append_conf('postgresql.auto.conf', "sagaz_ha.stop_at = 'drain:asked'");
$node->start;
stopped_at($node, 'drain:asked');
is($node->safe_psql('postgres', 'SELECT xmin IS NULL FROM pg_replication_slots'), 't', 'asked: nothing is known of the standby');
configure($standby, 'primary_conninfo' => undef);
ok(defined when($node, 'postgres', '(SELECT xmin IS NOT NULL FROM pg_replication_slots)'), 'asked: and then it is');
let_go($node);
is_retired($node, 'asked', 'asked');
reading_ended($reader, 9, 'asked');

is_deeply([ log_lines($standby, $offset, qr/recovery conflict on lock|User was holding a relation lock/) ], [],
	'no lock of a drop ever waited for a query on the standby')
  or diag(log_since($standby, $offset), join "\n", log_lines($node, 0, qr/sagaz_ha: |received|ready/));

# -------- the standby is killed while it is waited for

unfinished_table('waiting');
my $session = $standby->background_psql('postgres');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM waiting');
manage($node, 'waiting', ', unfinished_when => $$NOT done$$');
waits_for($node, 'waiting', 'standby first with an xmin', 'waiting');
$standby->stop('immediate');
waits_for($node, 'waiting', 'standby first, which is not connected,', 'waiting');
eval { $session->quit };
$standby->start;
is_retired($node, 'waiting', 'standby killed');

# -------- older notes of having to wait

# A DEFER that the foreground left doesn't keep the worker from knowing later
# that the pending detach is its own.
stop_maintenance($node);
unfinished_table('deferred');
manage($node, 'deferred', ', unfinished_when => $$NOT done$$');
$session = $node->background_psql('postgres');
$session->query_safe('BEGIN; SELECT count(*) FROM deferred');
is($node->safe_psql('postgres', q{SELECT count(*) FROM maintain_all_partitions() WHERE action = 'DEFER'}),
	'4', 'deferred: the foreground puts 4 drops off');
$session->query_safe('COMMIT');
$session->quit;
configure($node, 'sagaz_ha.enabled' => 'on');
is_retired($node, 'deferred', 'deferred');

# -------- the standby is promoted

# With a session on it that goes on across the promotion.
foreach my $point (qw(fence:after_commit detach:after_first_commit finalize:before_commit))
{
	my $table = 'promoted' . $n++;

	unfinished_table($table);
	stop_at($node, $point);
	manage($node, $table, ', unfinished_when => $$NOT done$$');
	stopped_at($node, $point);
	$node->wait_for_catchup($standby);
	$session = $standby->background_psql('postgres');
	is($session->query_safe("BEGIN; SELECT count(*) FROM $table"), $point =~ /finalize|first/ ? '8' : '9',
		"promoted at $point: a session reads the standby");
	# before it is promoted: its worker finishes that at once
	is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_inherits WHERE inhdetachpending}),
		$point =~ /^fence/ ? '0' : '1', "promoted at $point: what was pending is pending there");
	$node->stop('immediate');
	$standby->promote;
	$node = $standby;
	is($session->query_safe("SELECT count(*) > 4 FROM $table"), 't', 'and goes on');
	$session->query_safe('COMMIT');
	$session->quit;
	is_retired($node, $table, "promoted at $point");
	$standby = standby_of($node, "after_$n", slot => "after_$n") if $point !~ /finalize/;
}
# who was promoted has no guard any more, and a launcher
ok($node->poll_query_until('postgres', q{
	SELECT string_agg(DISTINCT backend_type, ' ') FROM pg_stat_activity
	WHERE backend_type IN ('sagaz_ha launcher', 'sagaz_ha standby guard', 'sagaz_ha standby launcher')},
	'sagaz_ha launcher'), 'a promoted server has a launcher and no guards');

$node->stop('fast');
done_testing();
