# The worker finds its databases by itself, acts on what changes at once, and
# shows what it does.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(usleep);

# A nap this long never ends within the test: what happens has another reason.
my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n");

# -------- databases

$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(one two without);
$node->safe_psql('one', 'CREATE EXTENSION sagaz_ha');
$node->safe_psql('two', 'CREATE SCHEMA elsewhere; CREATE EXTENSION sagaz_ha SCHEMA elsewhere');

take_table($node, $_, 'events', days => [ -6, 0 ]) foreach qw(one two);
is_within(is_partitions($node, $_, 'events', -3, 3, "partitions are made and dropped in $_"),
	2, "within 2 s of registration in $_")
  foreach qw(one two);
is_consistent($node, $_, 'events', "history and catalogs of $_ agree") foreach qw(one two);
is($node->safe_psql('one', 'SELECT count(*) FROM events'),
	'4', 'the rows of partitions that stay are there');

is( $node->safe_psql('postgres', q{
	SELECT string_agg(database, ' ' ORDER BY database) FROM sagaz_ha.maintenance_status()
	WHERE process = 'worker' AND database <> 'postgres'}),
	'one two',
	'maintenance_status() lists the databases that have the extension');

# -------- policies

$node->safe_psql('one', q{SELECT sagaz_ha.manage_partitions('events', '1 day', 5, '3 days')});
is_within(is_partitions($node, 'one', 'events', -3, 5, 'a larger premake'), 2, 'is acted on within 2 s');
$node->safe_psql('one', q{SELECT sagaz_ha.manage_partitions('events', '1 day', 5, '2 days')});
is_within(is_partitions($node, 'one', 'events', -2, 5, 'a shorter retention'), 2, 'is acted on within 2 s');
$node->safe_psql('one', q{UPDATE sagaz_ha.partition_policy SET premake = 6});
is_within(is_partitions($node, 'one', 'events', -2, 6, 'a policy changed by UPDATE'), 2, 'is acted on within 2 s');
take_table($node, 'one', 'later', premake => 1);
is_within(is_partitions($node, 'one', 'later', 0, 1, 'a second table'), 2, 'is acted on within 2 s');

# -------- settings

stop_at($node, 'create:before_commit');
$node->safe_psql('two', q{SELECT sagaz_ha.manage_partitions('events', '1 day', 4, '3 days')});
my $pid = stopped_at($node, 'create:before_commit', 'two');
my $last_pass = q{SELECT last_pass FROM sagaz_ha.maintenance_status()
	WHERE process = 'worker' AND database = 'postgres'};
my $before = $node->safe_psql('postgres', $last_pass);
configure($node, 'sagaz_ha.databases' => 'one, postgres');
when($node, 'postgres', "($last_pass) > '$before'") or die 'the launcher takes no reload';
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
ok(defined when($node, 'postgres', q{NOT EXISTS (
	SELECT FROM sagaz_ha.maintenance_status() WHERE database = 'two')}),
	'a database that is not listed is forgotten, once its worker has ended');
let_go($node);
$node->safe_psql('two', q{SELECT sagaz_ha.manage_partitions('events', '1 day', 7, '3 days')});
$node->safe_psql('one', q{SELECT sagaz_ha.manage_partitions('events', '1 day', 7, '2 days')});
is_partitions($node, 'one', 'events', -2, 7, 'a database that is listed is maintained');
is_partitions($node, 'two', 'events', -3, 3, 'a database that is not listed is left alone');
configure($node, 'sagaz_ha.databases' => undef);
is_within(is_partitions($node, 'two', 'events', -3, 7, 'when it is not limited any more'), 2,
	'it is maintained within 2 s of the reload');

stop_at($node, 'create:before_commit');
$node->safe_psql('one', q{SELECT sagaz_ha.manage_partitions('events', '1 day', 9, '2 days')});
$pid = stopped_at($node, 'create:before_commit');
is( $node->safe_psql('postgres', qq{
	SELECT process, database, phase, table_name, partitions_done, partitions_total,
		since > now() - interval '1 minute', last_pass < now(), coalesce(next_pass <= now(), true),
		passes > 0, actions > 0, last_error
	FROM sagaz_ha.maintenance_status() WHERE pid = $pid}),
	'worker|one|creating|events|0|2|t|t|t|t|t|',
	'maintenance_status() shows what a worker is at');
ok($node->poll_query_until('postgres', qq{
	SELECT datname, backend_type, application_name, state, query, wait_event_type
	FROM pg_stat_activity WHERE pid = $pid},
	'one|sagaz_ha worker|sagaz_ha worker|active|creating events|Extension'),
	'pg_stat_activity shows what a worker is at');
ok($node->poll_query_until('postgres', q{
	SELECT datname, backend_type, application_name, state, wait_event_type, backend_xmin, backend_xid
	FROM pg_stat_activity WHERE backend_type = 'sagaz_ha launcher'},
	'|sagaz_ha launcher|sagaz_ha launcher|idle|Extension||'),
	'the launcher is idle and holds no snapshot');
is( $node->safe_psql('postgres', q{
	SELECT phase, pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'sagaz_ha launcher')
	FROM sagaz_ha.maintenance_status() WHERE process = 'launcher'}),
	'running|t', 'maintenance_status() shows the launcher');

my $ended = elapsed(
	sub {
		configure($node, 'sagaz_ha.enabled' => 'off');
		when($node, 'postgres', q{NOT EXISTS (
			SELECT FROM pg_stat_activity WHERE backend_type = 'sagaz_ha worker')});
	});
is_within($ended, 2, 'sagaz_ha.enabled = off ends a running pass');
ok(defined when($node, 'postgres', q{(SELECT phase = 'disabled'
	FROM sagaz_ha.maintenance_status() WHERE process = 'launcher')}), 'and the launcher says so');

# A worker whose launcher is gone.
sub restart_launcher
{
	my $launcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'sagaz_ha launcher'};
	my $old = $node->safe_psql('postgres', $launcher);

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($old, 5000)");
	when($node, 'postgres', "($launcher) <> $old") or die 'no launcher';
	return;
}
configure($node, 'sagaz_ha.enabled' => 'on');
$pid = stopped_at($node, 'create:before_commit');
restart_launcher();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
is_within(elapsed(sub { stopped_at($node, 'create:before_commit') }), 2,
	'when it ends, the new launcher starts another');
restart_launcher();
stop_maintenance($node);
pass('sagaz_ha.enabled = off ends it as well');
let_go($node);
$node->safe_psql('one', q{SELECT sagaz_ha.manage_partitions('events', '1 day', 8, '2 days')});
$node->safe_psql('one', 'SELECT maintain_all_partitions()');
is_partitions($node, 'one', 'events', -2, 8, 'while it is off, the foreground works');
$node->safe_psql('one', q{SELECT sagaz_ha.manage_partitions('events', '1 day', 10, '2 days')});
configure($node, 'sagaz_ha.enabled' => 'on');
is_within(is_partitions($node, 'one', 'events', -2, 10, 'when it is on again'), 2,
	'what was missed is done within 2 s');

my $passes = q{SELECT passes FROM sagaz_ha.maintenance_status()
	WHERE process = 'worker' AND database = 'one'};
$before = $node->safe_psql('postgres', $passes);
take_table($node, 'one', 'kept', days => [ -5, 0 ], unfinished_when => 'NOT done',
	before => q{UPDATE kept SET done = false});
configure($node, 'sagaz_ha.naptime' => '1s');
is_within(when($node, 'postgres', "($passes) > $before + 6"), 10, 'what is kept is looked at after a shorter naptime, since a reload');
configure($node, 'sagaz_ha.naptime' => undef);
$node->safe_psql('one', 'DROP TABLE kept');

# -------- the clock

$node->safe_psql('postgres', q{ALTER DATABASE one SET sagaz_ha.clock = '2026-03-12 12:00:00+00'});
configure($node);
is_partitions($node, 'one', 'events', -2, 10, 'time goes by, and partitions with it');
is_consistent($node, 'one', 'events', 'history and catalogs still agree');

# -------- notifications

my $listener = $node->background_psql('one');
$listener->query_safe('LISTEN sagaz_ha');
take_table($node, 'one', 'heard', days => [ -5, 0 ], unfinished_when => 'NOT done',
	before => q{UPDATE heard SET done = false WHERE created_at < '2026-03-09'});
is_partitions($node, 'one', 'heard', -5, 3, 'a table with an expired partition that is unfinished');
take_table($node, 'one', 'broken', premake => 1,
	before => 'CREATE TABLE broken_y2026m03d12 ()');
ok(defined when($node, 'one', q{EXISTS (
	SELECT FROM sagaz_ha.partition_history WHERE table_name = 'broken' AND action = 'ERROR')}),
	'a table whose partition cannot be made');
$node->safe_psql('one', q{UPDATE heard SET done = true});
$node->safe_psql('one', q{SELECT sagaz_ha.manage_partitions('heard', '1 day', 3, '3 days')});
is_partitions($node, 'one', 'heard', -3, 3, 'and then is not');

# a commit is seen before the session is told of its notifications
my (@payloads, %heard);
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	my @new = map { decode_json($_) }
	  $listener->query('SELECT 1') =~ /"sagaz_ha" with payload "(.*)" received/g;

	push @payloads, @new;
	$heard{"$_->{action} $_->{table}"}++ foreach @new;
	last if ($heard{'DROP heard'} // 0) >= 2;
	usleep(100_000);
}
is($heard{'CREATE heard'}, 3, 'each new partition is notified');
is($heard{'KEEP heard'}, 2, 'each kept partition is notified once');
is($heard{'DROP heard'}, 2, 'each dropped partition is notified');
is($heard{'ERROR broken'}, 1, 'an error is notified once');
my ($error) = grep { $_->{action} eq 'ERROR' } @payloads;
is_deeply([ sort keys %$error ], [qw(action id partition table)],
	'in JSON with fixed members, and without details: everybody may listen');
like($node->safe_psql('one', "SELECT details FROM sagaz_ha.partition_history WHERE id = $error->{id}"),
	qr/^42P07: the name of partition "broken_y2026m03d12" is already taken/,
	'which names the row of the history that has its SQLSTATE and message');
$listener->quit;

is( $node->safe_psql('postgres', q{
	SELECT last_error LIKE '42P07: %' FROM sagaz_ha.maintenance_status()
	WHERE process = 'worker' AND database = 'one'}),
	't', 'maintenance_status() has the last error');

# -------- numbers

is( $node->safe_psql('postgres', q{
	SELECT errors > 0, last_duration > '0', last_duration < '10 s', extract(day FROM last_duration)
	FROM sagaz_ha.maintenance_status() WHERE process = 'worker' AND database = 'one'}),
	't|t|t|0', 'maintenance_status() counts errors and has the duration of the last pass');
my $errors = q{SELECT value FROM sagaz_ha.metrics() WHERE name = 'sagaz_partition_maintenance_errors_total'
	AND labels = '{"database": "one", "process": "worker"}'};
my $counted = $node->safe_psql('one', $errors);
$node->safe_psql('one', 'SELECT * FROM maintain_all_partitions(); TRUNCATE sagaz_ha.partition_history');
cmp_ok($node->safe_psql('one', $errors), '>', $counted, 'a lasting error is counted each time, and by hand as well');
like($node->safe_psql('one', 'SELECT sagaz_ha.prometheus_metrics()'),
	qr/^sagaz_partition_maintenance_duration_seconds\{process="worker",database="one"\} [0-9.]+$/m,
	'the duration is a metric');
unlike($node->safe_psql('one', 'SELECT sagaz_ha.prometheus_metrics()'), qr/database="two"/,
	'of the database that is asked');

$node->stop('fast');
done_testing();
