# A lock that writers of another table notice is waited for the longer, the less
# coverage is left; once for all missing partitions of all tables that need it.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\nsagaz_ha.enabled = off\n");
$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha; CREATE TABLE hub (id int PRIMARY KEY); INSERT INTO hub VALUES (1)');

my $fourteen = "SET sagaz_ha.clock = '2026-03-14 12:00:00+00';";

# Tables of four days ahead, so that a day is a quarter of coverage.
sub make
{
	my ($name, $extra) = @_;

	$node->safe_psql('postgres', qq{
		CREATE TABLE $name (at timestamptz NOT NULL, hub int $extra) PARTITION BY RANGE (at);
		SELECT sagaz_ha.manage_partitions('$name', '1 day', 4);
		SELECT count(*) FROM sagaz_ha.maintain_partitions('$name')});
	return;
}

# How long one pass waits beside a session that doesn't let go, in ms; with what it says.
sub wait_of
{
	my ($table, $clock, $settings) = @_;

	return split /\|/, $node->safe_psql('postgres', qq{
		SET sagaz_ha.clock = '$clock'; $settings
		SELECT clock_timestamp() AS began \\gset
		SELECT action || ' ' || partition_name || ' ' || regexp_replace(details, 'process .*\\(', 'process N (') AS said
			FROM sagaz_ha.maintain_partitions('$table') \\gset
		SELECT :'said', round(extract(epoch FROM clock_timestamp() - :'began') * 1000)});
}

# The shortest of some such waits: a busy machine lengthens one, but all only if it is meant.
sub shortest_wait
{
	my ($limit, @pass) = @_;
	my ($said, $ms, $shortest);

	for (1 .. 20)
	{
		($said, $ms) = wait_of(@pass);
		return "$said, which is no wait" if $said !~ /^DEFER /;
		$shortest = $ms if !defined $shortest || $ms < $shortest;
		last if $shortest < $limit;
	}
	return $shortest;
}

my %ways = (
	'a referenced table' => [ 'ev', 'REFERENCES hub', 'INSERT INTO hub VALUES (2)', 'table hub' ],
	'a default partition' => [ 'de', '', q{INSERT INTO de VALUES ('2000-01-01 00:00+00')}, 'table de_rest' ]);
foreach my $what (sort keys %ways)
{
	my ($table, $extra, $use, $named) = @{ $ways{$what} };
	my $session = $node->background_psql('postgres');

	make($table, $extra);
	$node->safe_psql('postgres', 'CREATE TABLE de_rest PARTITION OF de DEFAULT') if $table eq 'de';
	$session->query_safe("BEGIN; $use");
	# the day, how many are missing beside the first, and the least and the most ms for the lock
	foreach my $case ([ '11 11:59', 0, 0 ], [ '12 11:00', 1, 20 ], [ '13 11:00', 2, 100 ], [ '14 11:00', 3, 1000 ])
	{
		my ($day, $more, $least) = @$case;
		my ($said, $ms) = wait_of($table, "2026-03-$day:00+00", '');
		my $left = $more == 0 ? '' : sprintf(' (%d more %s left)', $more, $more == 1 ? 'partition is' : 'partitions are');

		like($said, qr/^DEFER ${table}_y2026m03d15 $named is in use by process /, "$what, $day: deferred");
		like($said, qr/\Q$left\E$/, "$what, $day: in one row$left") if $left;
		cmp_ok($ms, '>=', $least, "$what, $day: after a wait of $least ms");
	}
	cmp_ok(shortest_wait(900, $table, '2026-03-11 11:59:00+00', ''), '<', 900, "$what: not of a second while coverage is whole");
	cmp_ok(shortest_wait(900, $table, '2026-03-14 11:00:00+00', 'SET sagaz_ha.lock_timeout = 50;'), '<', 900,
		"$what: sagaz_ha.lock_timeout limits it");
	$session->query_safe('COMMIT');
	$session->quit;
	is($node->safe_psql('postgres', qq{$fourteen SELECT count(*) FROM sagaz_ha.maintain_partitions('$table') WHERE action = 'CREATE'}),
		'4', "$what: free, all are made");
}

# -------- eight clients that write the referenced table all the time

make('busy', 'REFERENCES hub');
my $script = $node->basedir . '/hub.sql';
append_to_file($script, "BEGIN;\nUPDATE hub SET id = id WHERE id = :client_id + 100;\n\\sleep 20 ms\nCOMMIT;\n");
$node->safe_psql('postgres', 'INSERT INTO hub SELECT generate_series(100, 120)');
my ($out, $err) = ('', '');
my $pgbench = IPC::Run::start([ $node->installed_command('pgbench'), '-n', '-c8', '-T60', '-f', $script, $node->connstr('postgres') ], '>', \$out, '2>', \$err);
$node->poll_query_until('postgres', q{SELECT count(*) >= 8 FROM pg_locks WHERE relation = 'hub'::regclass AND mode = 'RowExclusiveLock'})
  or die 'the clients do nothing';
is($node->safe_psql('postgres', q{SET sagaz_ha.clock = '2026-03-16 12:00:00+00';
	SELECT action, count(*) FROM sagaz_ha.maintain_partitions('busy') GROUP BY 1}), 'CREATE|6',
	'with premake used up, the first pass makes all beside eight busy clients');

# -------- the worker: tables that need the same lock in one transaction

make($_, 'REFERENCES hub') foreach qw(one two);
make('alone', '');
configure($node, 'sagaz_ha.clock' => '2026-03-16 12:00:00+00', 'sagaz_ha.enabled' => 'on');
ok(defined when($node, 'postgres', q{(SELECT count(*) = 18 FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
	WHERE inhparent IN ('one'::regclass, 'two'::regclass, 'alone'::regclass) AND c.relname ~ 'm03d(15|16|17|18|19|20)')}),
	'the worker makes the partitions of three tables beside them');
$pgbench->kill_kill;
is($node->safe_psql('postgres', q{SELECT string_agg(format('%s: %s', of, n), ', ' ORDER BY of)
	FROM (SELECT CASE table_name WHEN 'alone' THEN 'alone' ELSE 'tied' END AS of, count(DISTINCT c.xmin::text) AS n
		FROM sagaz_ha.partition_history AS h JOIN pg_class AS p ON p.oid = h.partition
		JOIN sagaz_ha.partition_times AS c ON c.partition = p.oid
		WHERE table_name IN ('one', 'two', 'alone') AND p.relname ~ 'm03d(15|16|17|18|19|20)' GROUP BY 1) AS t}),
	'alone: 6, tied: 1', 'those that are tied to one table in one transaction, the others each in its own');

$node->safe_psql('postgres', q{CREATE TABLE many (at timestamptz NOT NULL, hub int REFERENCES hub) PARTITION BY RANGE (at);
	SELECT sagaz_ha.manage_partitions('many', '1 day', 40)});
ok(defined when($node, 'postgres', q{(SELECT count(*) = 41 FROM pg_inherits WHERE inhparent = 'many'::regclass)}),
	'the worker makes many partitions of a table');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'many'::regclass GROUP BY xmin::text ORDER BY 1}),
	"9\n32", 'and lets writers go on in between');

# -------- one that can't be made holds up no other

$node->safe_psql('postgres', 'CREATE TABLE two_y2026m03d22 ()');
configure($node, 'sagaz_ha.clock' => '2026-03-18 12:00:00+00');
$node->safe_psql('postgres', q{SELECT sagaz_ha.manage_partitions('one', '1 day', 4)});
ok(defined when($node, 'postgres', q{to_regclass('one_y2026m03d22') IS NOT NULL AND EXISTS (SELECT FROM pg_inherits
	WHERE inhrelid = to_regclass('two_y2026m03d21'))}), 'a name that is taken holds up no other partition');
is($node->safe_psql('postgres', q{SELECT partition_name, sqlstate FROM sagaz_ha.problem}), 'two_y2026m03d22|42P07', 'and is told');

$node->stop;
done_testing();
