# A partition that is held stays, however old it is and however far its
# retirement has come; released, it goes.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run qw(start finish);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;

# What happens within this test happens for another reason than a nap's end.
my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n");

$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha; CREATE SCHEMA archive');

sub sql
{
	return $node->safe_psql('postgres', @_);
}

sub holds
{
	my ($condition, $name) = @_;

	return ok(defined when($node, 'postgres', $condition), $name);
}

sub hold
{
	my ($table) = @_;

	return sql("SELECT sagaz_ha.hold_partition('${table}_y2026m03d06', 'a lawyer asks')");
}

sub release
{
	my ($table) = @_;

	return sql("SELECT sagaz_ha.release_partition('${table}_y2026m03d06')");
}

# The table, which had a row a day from 4 days ago on, keeps the partition that
# has expired, and that takes writes.
sub is_kept
{
	my ($table, $name) = @_;

	# once that is recorded, the pass has done with it
	holds(qq{EXISTS (SELECT FROM sagaz_ha.problem WHERE partition_name = '${table}_y2026m03d06' AND action = 'KEEP'
			AND details = 'held: a lawyer asks' AND sqlstate IS NULL AND next_try IS NULL)}, "$name: it is kept, and says why");
	is_partitions($node, 'postgres', $table, -4, 3, "$name: it is a partition");
	is(sql(qq{SELECT state FROM partition_metadata WHERE partition_name = '${table}_y2026m03d06'}), 'kept',
		"$name: its state is kept");
	is(sql(qq{SET lock_timeout = '10s';
		INSERT INTO $table (created_at) VALUES ('2026-03-06 02:00+00'), ('2026-03-06 03:00+00');
		DELETE FROM $table WHERE created_at = '2026-03-06 03:00+00'; UPDATE $table SET payload = 'x';
		SELECT count(*), count(*) FILTER (WHERE created_at < '2026-03-07') FROM $table}), '6|2',
		"$name: no row is lost, and it takes writes");
	is(sql(qq{SELECT count(*) FROM sagaz_ha.retirement WHERE parent = '$table'::regclass}), '0', "$name: it is not being retired");
	is(sql(qq{SELECT count(*) FROM sagaz_ha.partition_history
		WHERE table_name = '$table' AND action IN ('DROP', 'DETACH')}), '0', "$name: it never was gone");
	return;
}

sub goes
{
	my ($table, $name) = @_;

	is(release($table), 't', "$name: it is released");
	is_within(is_partitions($node, 'postgres', $table, -3, 3, "$name: and goes"), 10, "$name: at once");
	holds(qq{NOT EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = '$table')}, "$name: nothing is wrong any more");
	return;
}

# -------- before it expires

my %gone = (
	drop => q{to_regclass('dropped_y2026m03d06') IS NULL},
	detach => q{NOT relispartition FROM pg_class WHERE oid = 'detached_y2026m03d06'::regclass},
	archive => q{to_regclass('archive.archived_y2026m03d06') IS NOT NULL});
foreach my $action (qw(drop detach archive))
{
	my $table = { drop => 'dropped', detach => 'detached', archive => 'archived' }->{$action};

	expired_table($node, $table, -4, 0);
	is(hold($table), '', "$action: a partition is held");
	manage($node, $table, ", retention_action => '$action'" . ($action eq 'archive' ? ", archive_schema => 'archive'" : ''));
	is_kept($table, $action);
	is(sql(qq{SELECT status, value, details FROM sagaz_ha.partition_health()
		WHERE check_name = 'kept_partitions' AND table_name = '$table'}),
		"warning|1|${table}_y2026m03d06: expired, but held", "$action: health names it");
	is(sql("SELECT kept FROM get_partition_statistics() WHERE table_name = '$table'"), '1', "$action: statistics count it");
	is(sql(qq{SELECT action, partition_name, details FROM sagaz_ha.plan_partition_maintenance() WHERE table_name = '$table'}),
		"KEEP|${table}_y2026m03d06|held: a lawyer asks", "$action: the plan has it");
	is(sql("SELECT * FROM sagaz_ha.maintain_partitions('$table')"),
		"KEEP|$table|${table}_y2026m03d06|held: a lawyer asks", "$action: a pass by hand keeps it");
	goes($table, $action);
	holds($gone{$action}, "$action: as the policy wants");
	is(sql("SELECT count(*) FROM sagaz_ha.partition_hold"), '0', "$action: nothing is held");
	sql("DROP TABLE $table");
}

# By hand alone, and with unfinished rows besides.
stop_maintenance($node);
expired_table($node, 'by_hand', -4, 0);
manage($node, 'by_hand', ", unfinished_when => 'NOT done'");
hold('by_hand');
my $kept = "SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('by_hand') WHERE action <> 'CREATE'";
is(sql($kept), 'KEEP|by_hand_y2026m03d06|held: a lawyer asks', 'by hand: it is kept');
sql(q{UPDATE by_hand SET done = false});
is(sql("BEGIN ISOLATION LEVEL REPEATABLE READ; $kept; COMMIT"), 'KEEP|by_hand_y2026m03d06|held: a lawyer asks',
	'by hand: as long as it is held');
is(release('by_hand'), 't', 'by hand: it is released');
is(release('by_hand'), 'f', 'by hand: once');
is(sql($kept), 'KEEP|by_hand_y2026m03d06|1 unfinished row', 'by hand: unfinished rows keep it all the same');
# held by another session when the transaction has its snapshot already
my $session = $node->background_psql('postgres');
sql('UPDATE by_hand SET done = true');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM sagaz_ha.partition_hold');
hold('by_hand');
is($session->query_safe($kept), 'KEEP|by_hand_y2026m03d06|held: a lawyer asks', 'by hand: an old snapshot has no say');
$session->query_safe('COMMIT');
configure($node, 'sagaz_ha.enabled' => 'on');
goes('by_hand', 'by hand');

# -------- while it is being retired

my $n = 0;
foreach my $unfinished ('NULL', q{'NOT done'})
{
	foreach my $point (qw(announce:before_commit announce:after_commit fence:before_commit fence:after_commit
		detach:before detach:after_first_commit))
	{
		my $table = 'stopped' . $n++;

		next if $unfinished eq 'NULL' && $point =~ /^fence/;
		expired_table($node, $table, -4, 0);
		stop_at($node, $point);
		manage($node, $table, ", unfinished_when => $unfinished");
		stopped_at($node, $point);
		hold($table);
		let_go($node);
		is_kept($table, "held at $point, unfinished_when $unfinished");
		goes($table, "held at $point, unfinished_when $unfinished");
	}
}

# Too late: the transaction that drops it waits for nobody.
expired_table($node, 'late', -4, 0);
stop_at($node, 'finalize:before_commit');
manage($node, 'late');
stopped_at($node, 'finalize:before_commit');
my $error = '';
my $run = start [ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c',
	q{SELECT sagaz_ha.hold_partition('late_y2026m03d06', 'a lawyer asks')} ], '<', \undef, '>', \my $out, '2>', \$error,
  IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
holds(q{EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%hold_partition(%' AND pid <> pg_backend_pid()
	AND wait_event_type = 'Lock')}, 'too late: who holds it waits for the drop');
let_go($node);
finish $run;
like($error, qr/^ERROR:  (table with OID \d+|relation "late_y2026m03d06") does not exist/, 'too late: and is told');
is_partitions($node, 'postgres', 'late', -3, 3, 'too late: it is gone');
is(sql('SELECT count(*) FROM sagaz_ha.partition_hold'), '0', 'too late: nothing is held');

# -------- while its detach waits for a reader

expired_table($node, 'drained', -4, 0);
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM drained');
manage($node, 'drained', ", unfinished_when => 'NOT done'");
holds(q{EXISTS (SELECT FROM sagaz_ha.retirement WHERE parent = 'drained'::regclass AND waits_for LIKE 'process%')},
	'drained: a detach is pending');
hold('drained');
is(sql('SELECT count(*) FROM drained'), '4', 'drained: as long as it is, its rows are not visible');
is($session->query_safe('SELECT count(*) FROM drained'), '5', 'drained: but to the reader');
$session->query_safe('COMMIT');
is_kept('drained', 'drained');
goes('drained', 'drained');

# -------- a hold that is not committed

foreach my $end (qw(COMMIT ROLLBACK))
{
	my $table = lc "open_$end";

	expired_table($node, $table, -4, 0);
	$session->query_safe("BEGIN; SELECT sagaz_ha.hold_partition('${table}_y2026m03d06', 'a lawyer asks')");
	manage($node, $table);
	holds(qq{EXISTS (SELECT FROM sagaz_ha.problem WHERE partition_name = '${table}_y2026m03d06' AND action = 'DEFER'
			AND details LIKE 'table % is in use by process %')}, "$end: a partition that somebody is just holding is not dropped");
	$session->query_safe($end);
	is_kept($table, $end) if $end eq 'COMMIT';
	is_partitions($node, 'postgres', $table, -3, 3, "$end: then it goes") if $end eq 'ROLLBACK';
}

$session->quit;
$node->stop('fast');
done_testing();
