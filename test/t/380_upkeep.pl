# What autovacuum doesn't do for partitioned tables: the parent's planner
# statistics, and one freeze of each partition when its period is over.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

# Off until the rows are there: a snapshot from before would keep them from
# being frozen.
my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\nsagaz_ha.enabled = off\n");
$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');

# Rows enough to be worth a statistic; autovacuum is off, so it's nobody else's.
take_table($node, 'postgres', 'events', days => [ -2, 0 ]);
take_table($node, 'postgres', 'left_alone', days => [ -2, 0 ],
	more => ', auto_analyze => false, auto_freeze => false');
configure($node, 'sagaz_ha.enabled' => 'on');

ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM pg_stats WHERE tablename = 'events' AND inherited)}),
	'the parent has planner statistics');
ok(defined when($node, 'postgres', q{(SELECT count(*) FROM sagaz_ha.partition_history
	WHERE action = 'FREEZE' AND table_name = 'events') = 2}), 'what is past was frozen');
is($node->safe_psql('postgres', q{SELECT string_agg(partition_name, ' ' ORDER BY partition_name)
	FROM sagaz_ha.partition_history WHERE action = 'FREEZE'}),
	'events_y2026m03d08 events_y2026m03d09', 'and nothing else: not the current one, not the other table');

# Really frozen: a scan would find no row that a wraparound vacuum had to rewrite.
$node->safe_psql('postgres', 'CREATE EXTENSION pg_visibility');
is($node->safe_psql('postgres', q{SELECT bool_and(f.all_frozen) FROM generate_series(8, 9) AS day,
	pg_visibility_map(('events_y2026m03d0' || day)::regclass) AS f}), 't', 'every page is frozen');
is($node->safe_psql('postgres', q{SELECT bool_or(f.all_frozen)
	FROM pg_visibility_map('left_alone_y2026m03d08'::regclass) AS f}), 'f', 'the other table\'s are not');

# Once: later passes have nothing to do, and write nothing.
my $passes = q{SELECT passes FROM sagaz_ha.maintenance_status() WHERE process = 'upkeep'};
foreach (1 .. 2)
{
	my $seen = $node->safe_psql('postgres', $passes);

	configure($node);
	$node->poll_query_until('postgres', "SELECT ($passes) > $seen") or die 'no further upkeep';
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action IN ('FREEZE', 'ANALYZE')}),
	'3', 'later passes freeze and analyze nothing again');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stats WHERE tablename = 'left_alone' AND inherited}),
	'0', 'the policy turns it off');

# The next day is frozen when it is over.
configure($node, 'sagaz_ha.clock' => '2026-03-11 12:00:00+00');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE action = 'FREEZE' AND partition_name = 'events_y2026m03d10')}), 'the next day, when it is over');

# Truncating a file takes AccessExclusive, so the outbox does without.
$node->safe_psql('postgres', 'SELECT sagaz_ha.create_saga_tables()');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'saga_outbox'::regclass)}),
	'the outbox has partitions');
is($node->safe_psql('postgres', q{SELECT bool_and('vacuum_truncate=false' = ANY (reloptions)) FROM pg_class
	WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'saga_outbox'::regclass)}),
	't', 'vacuum never truncates them');

# The history is pruned after a year, but for partitions that exist.
$node->safe_psql('postgres', q{INSERT INTO sagaz_ha.partition_history (recorded_at, action, parent, table_name, partition, partition_name, details)
	SELECT sagaz_ha.clock() - interval '13 months', 'CREATE', 0, 'events', p, p::regclass::text, 'old'
	FROM (VALUES (1::oid), ('events_y2026m03d09'::regclass::oid)) AS v (p)});
$node->safe_psql('postgres', q{UPDATE sagaz_ha.partition_history SET recorded_at = sagaz_ha.clock() - interval '14 months'
	WHERE id = (SELECT min(id) FROM sagaz_ha.partition_history)});
ok(defined when($node, 'postgres', q{NOT EXISTS (SELECT FROM sagaz_ha.partition_history WHERE partition = 1)}),
	'rows of a year ago are removed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history WHERE details = 'old'}),
	'1', 'but for partitions that exist');

$node->stop;
done_testing();
