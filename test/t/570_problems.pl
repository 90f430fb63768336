# What is wrong now is a row: since when, how often, and when it is tried again.
# A failing step backs off, and is tried at once when something was changed.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\n");
$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha; CREATE ROLE ann LOGIN; GRANT CREATE ON SCHEMA public TO ann');

my $passes = q{(SELECT sum(passes) FROM sagaz_ha.maintenance_status() WHERE process = 'worker')};

sub more_passes
{
	my ($count) = @_;
	my $before = $node->safe_psql('postgres', "SELECT $passes");

	return defined when($node, 'postgres', "$passes >= $before + $count");
}

sub problem
{
	my ($columns, $table) = @_;

	return $node->safe_psql('postgres', "SELECT $columns FROM sagaz_ha.problem WHERE table_name = '$table'");
}

# -------- an error that nobody mends

take_table($node, 'postgres', 'fails', before => 'CREATE TABLE fails_y2026m03d11 ()');
take_table($node, 'postgres', 'works', days => [ -5, 0 ]);
is_partitions($node, 'postgres', 'works', -3, 3, 'a table beside one that fails is maintained');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE table_name = 'fails' AND times >= 3)}), 'an error is tried again');
is(problem('partition_name, action, sqlstate, partition IS NULL, found_by', 'fails'),
	'fails_y2026m03d11|ERROR|42P07|t|pass', 'the problem says what it is about');
is(problem('next_try - clock_timestamp() <= make_interval(secs => 2 ^ (times - 1))', 'fails'), 't',
	'and when it is tried again');
# a pass a second: after so many, at most one try more than their logarithm
my $before = $node->safe_psql('postgres', "SELECT times, $passes FROM sagaz_ha.problem WHERE table_name = 'fails'");
ok(more_passes(12), 'passes go on');
my $after = $node->safe_psql('postgres', "SELECT times, $passes FROM sagaz_ha.problem WHERE table_name = 'fails'");
note("tries and passes: $before, then $after");
my ($tries, $more) = map { (split /\|/, $after)[$_] - (split /\|/, $before)[$_] } 0, 1;
cmp_ok($tries, '<=', 2, "of $more passes, few try it again");
is($node->safe_psql('postgres', q{SELECT status FROM sagaz_ha.partition_health()
	WHERE table_name = 'fails' AND check_name = 'errors'}), 'critical', 'health says so all the while');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'fails' AND action = 'ERROR'}), '1', 'and the history has it once');

my %changes = (
	'the policy' => 'UPDATE sagaz_ha.partition_policy SET premake = premake',
	'the table' => 'ALTER TABLE fails ADD COLUMN more integer');
foreach my $what (sort keys %changes)
{
	# far from the next try, or that could be what is seen
	$node->safe_psql('postgres', q{UPDATE sagaz_ha.problem
		SET times = 20, next_try = clock_timestamp() + interval '50 minutes' WHERE table_name = 'fails'});
	ok(more_passes(2), 'passes go on');
	is(problem('times', 'fails'), '20', "before a change of $what it is not tried");
	$node->safe_psql('postgres', $changes{$what});
	ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
		WHERE table_name = 'fails' AND times < 20)}), "after a change of $what it is tried at once");
}
$node->safe_psql('postgres', q{UPDATE sagaz_ha.problem
	SET times = 20, next_try = clock_timestamp() + interval '50 minutes' WHERE table_name = 'fails'});
is($node->safe_psql('postgres', q{SELECT action FROM sagaz_ha.maintain_partitions('fails')}), 'ERROR',
	'a pass by hand tries it');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE table_name = 'fails' AND times > 21)}), 'and the worker does after it');
$node->safe_psql('postgres', 'DROP TABLE fails_y2026m03d11; SELECT sagaz_ha.maintain_partitions($$fails$$)');
is(problem('count(*)', 'fails'), '0', 'what is solved is no problem any more');
is_partitions($node, 'postgres', 'fails', 0, 3, 'and the table is complete');

# -------- an expired partition that stays

take_table($node, 'postgres', 'keeps', days => [ -4, 0 ], unfinished_when => 'NOT done',
	before => q{UPDATE keeps SET done = false WHERE created_at < '2026-03-07'});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = 'keeps')}),
	'a kept partition is a problem');
is(problem('partition, action, sqlstate IS NULL, details, times', 'keeps'),
	'keeps_y2026m03d06|KEEP|t|1 unfinished row|1', 'that says why');
my $row = problem('xmin', 'keeps');
ok(more_passes(3), 'it is looked at again');
is(problem('xmin', 'keeps'), $row, 'and as nothing is new, nothing is written');
is($node->safe_psql('postgres', q{SELECT state FROM partition_metadata WHERE partition_name = 'keeps_y2026m03d06'}),
	'kept', 'metadata has it as kept');
is($node->safe_psql('postgres', q{SELECT kept FROM get_partition_statistics() WHERE table_name = 'keeps'}),
	'1', 'statistics count it');

# -------- passes by hand that stay open

foreach my $level ('READ COMMITTED', 'REPEATABLE READ')
{
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	my $health = q{SELECT count(*) FROM sagaz_ha.partition_health() WHERE check_name = 'errors' AND status <> 'ok'};

	$session->query_safe("BEGIN ISOLATION LEVEL $level");
	$session->query_safe('SELECT count(*) FROM sagaz_ha.problem');
	# the worker writes what this snapshot doesn't have
	$node->safe_psql('postgres', q{UPDATE keeps SET done = false WHERE created_at < '2026-03-07';
		INSERT INTO keeps (created_at, done) VALUES ('2026-03-06 02:00+00', false)});
	my $rows = $node->safe_psql('postgres', q{SELECT count(*) FROM keeps WHERE NOT done});
	ok(defined when($node, 'postgres', "EXISTS (SELECT FROM sagaz_ha.problem
		WHERE table_name = 'keeps' AND details = '$rows unfinished rows')"), "$level: the worker sees more rows");
	like($session->query_safe('SELECT action, details FROM maintain_all_partitions()'),
		qr/KEEP\|$rows unfinished rows/, "$level: a pass by hand beside the worker");
	ok(more_passes(3), "$level: while it is open, the worker's passes go on");
	is($node->safe_psql('postgres', $health), '0', "$level: without an error");
	$session->query_safe('COMMIT');
	$session->quit;
}
$node->safe_psql('postgres', 'UPDATE keeps SET done = true');
is_partitions($node, 'postgres', 'keeps', -3, 3, 'when its rows are finished, it goes');
ok(defined when($node, 'postgres', q{NOT EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = 'keeps')}),
	'and so does the problem');

# -------- a drain

my $reader = $node->background_psql('postgres', on_error_stop => 1);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$reader->query_safe('SELECT count(*) FROM works');
my $pid = $reader->query_safe('SELECT pg_backend_pid()');
configure($node, 'sagaz_ha.clock' => '2026-03-11 12:00:00+00');
ok(defined when($node, 'postgres', qq{EXISTS (SELECT FROM sagaz_ha.retirement
	WHERE parent = 'works'::regclass AND phase = 'detaching' AND detach_is_ours AND waits_for = 'process $pid')}),
	'a retirement says whom it waits for');
is(problem('partition, action, details', 'works'), "works_y2026m03d07|DEFER|waiting for process $pid",
	'and is deferred');
# everything else that this clock wants is done by then
ok(more_passes(3), 'passes go on');
my $xid = $node->safe_psql('postgres', 'SELECT pg_snapshot_xmax(pg_current_snapshot())');
ok(more_passes(4), 'it is looked at again and again');
is($node->safe_psql('postgres', 'SELECT pg_snapshot_xmax(pg_current_snapshot())'), $xid,
	'and nothing is written while it waits');
$reader->query_safe('COMMIT');
$reader->quit;
is_partitions($node, 'postgres', 'works', -3, 3, 'when nobody can see it any more, it goes');
ok(defined when($node, 'postgres', q{NOT EXISTS (SELECT FROM sagaz_ha.retirement)
	AND NOT EXISTS (SELECT FROM sagaz_ha.problem)}), 'and nothing is left of the retirement');

# -------- a caller who owns nothing

$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION maintain_all_partitions() TO ann');
is($node->safe_psql('postgres', q{SELECT DISTINCT action, details LIKE '42501: must be owner%' FROM maintain_all_partitions()},
		extra_params => [ '-U', 'ann' ]),
	'ERROR|t', 'who owns none of the tables is told so');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sagaz_ha.problem'), '0', 'which is no problem of the tables');

$node->stop('fast');
done_testing();
