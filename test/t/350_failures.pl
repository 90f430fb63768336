# What fails stops nothing else, and says so once: a table, a database, and a
# clock that is wrong.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\n");

sub passes
{
	my ($database) = @_;

	return $node->safe_psql('postgres', qq{SELECT passes FROM sagaz_ha.maintenance_status()
		WHERE process = 'worker' AND database = '$database'});
}

# Waits for some more passes.
sub more_passes
{
	my ($database, $count) = @_;
	my $target = passes($database) + $count;

	return defined when($node, 'postgres', qq{passes >= $target FROM sagaz_ha.maintenance_status()
		WHERE process = 'worker' AND database = '$database'});
}

$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(good bad without closed);
$node->safe_psql($_, 'CREATE EXTENSION sagaz_ha') foreach qw(good bad closed);

# -------- tables that fail among tables that don't

take_table($node, 'good', 'a_fails', before => 'CREATE TABLE a_fails_y2026m03d11 ()');
take_table($node, 'good', 'b_works', days => [ -5, 0 ]);
take_table($node, 'good', 'c_fails', days => [ -5, 0 ],
	unfinished_when => 'public.nobody_has(id)',
	before => q{CREATE FUNCTION nobody_has(bigint) RETURNS boolean STABLE LANGUAGE plpgsql AS
		'BEGIN RAISE ''nobody knows''; END'});
take_table($node, 'good', 'd_works', days => [ -5, 0 ]);
is_partitions($node, 'good', $_, -3, 3, "$_ is maintained beside tables that fail") foreach qw(b_works d_works);
is_partitions($node, 'good', 'c_fails', -5, 3, 'what cannot be looked at is not dropped');

ok(defined when($node, 'good', q{count(DISTINCT table_name) = 2 FROM sagaz_ha.partition_history
	WHERE action = 'ERROR'}), 'both failures are in the history');
is($node->safe_psql('good', q{SELECT string_agg(table_name || ' ' || status, ', ' ORDER BY table_name)
	FROM sagaz_ha.partition_health() WHERE check_name = 'errors' AND status <> 'ok'}),
	'a_fails critical, c_fails critical', 'and in health');

# Hours of failure: nothing is said twice.
more_passes('good', 2) or die 'no passes';
when($node, 'good', q{count(*) = 12 FROM sagaz_ha.partition_history
	WHERE action IN ('FREEZE', 'ANALYZE')}) or die 'upkeep is not through';
my $offset = -s $node->logfile;
my $history = $node->safe_psql('good', 'SELECT count(*) FROM sagaz_ha.partition_history');
my $passes_before = passes('good');
ok(more_passes('good', 8), 'it is tried again');
is($node->safe_psql('good', 'SELECT count(*) FROM sagaz_ha.partition_history'), $history,
	'8 more passes over failing tables add no history');
my @lines = log_lines($node, $offset, qr/sagaz_ha/);
is(scalar @lines, 0, 'and no line of log') or diag(join "\n", @lines);
note(sprintf('%d passes over %d failing tables: %d lines of log',
		passes('good') - $passes_before, 2, scalar @lines));

$node->safe_psql('good', 'DROP TABLE a_fails_y2026m03d11');
is_partitions($node, 'good', 'a_fails', 0, 3, 'a table whose trouble is over is maintained');
$node->safe_psql('good', q{CREATE OR REPLACE FUNCTION nobody_has(bigint) RETURNS boolean
	STABLE LANGUAGE plpgsql AS 'BEGIN RETURN false; END'});
is_partitions($node, 'good', 'c_fails', -3, 3, 'and so is the other');
is($node->safe_psql('good', q{SELECT count(*) FROM sagaz_ha.partition_health()
	WHERE check_name = 'errors' AND status <> 'ok'}), '0', 'and health says so');

# -------- databases that fail among databases that don't

$node->safe_psql('postgres', 'ALTER DATABASE closed CONNECTION LIMIT 0; ALTER DATABASE closed ALLOW_CONNECTIONS false');
take_table($node, 'bad', 'events', days => [ -5, 0 ]);
is_partitions($node, 'bad', 'events', -3, 3, 'before it breaks');
$offset = -s $node->logfile;
$node->safe_psql('bad', 'ALTER TABLE sagaz_ha.partition_policy RENAME TO partition_policies');
take_table($node, 'good', 'e_works', days => [ -5, 0 ]);
# what is kept is looked at in a pass a second
take_table($node, 'good', 'f_keeps', days => [ -5, 0 ], unfinished_when => 'NOT done',
	before => 'UPDATE f_keeps SET done = false');
is_partitions($node, 'good', 'e_works', -3, 3, 'a broken database stops no other');
# a pass everywhere
$node->reload;
$node->wait_for_log(qr/sagaz_ha worker +ERROR:  table "sagaz_ha.partition_policy" does not exist/, $offset);
ok(more_passes('good', 10), 'while one database is broken, others have their passes');
@lines = log_lines($node, $offset, qr/partition_policy/);
cmp_ok(scalar @lines, '<=', 12, 'a broken database backs off') or diag(join "\n", @lines);
note(sprintf('10 s of a broken database: %d lines of log', scalar @lines));
$node->safe_psql('bad', 'ALTER TABLE sagaz_ha.partition_policies RENAME TO partition_policy');
configure($node, 'sagaz_ha.clock' => '2026-03-11 12:00:00+00');
is_partitions($node, 'bad', 'events', -3, 3, 'a database that is repaired is maintained');
is_partitions($node, 'good', 'b_works', -3, 3, 'as the others are');

is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.maintenance_status()
	WHERE database IN ('without', 'template1', 'template0')}), '0', 'a database without the extension is none of ours');

# -------- clocks

configure($node, 'sagaz_ha.clock' => '2026-03-01 12:00:00+00');
ok(more_passes('good', 2), 'a clock that jumps back');
is($node->safe_psql('good', q{SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'b_works' AND action = 'DROP' AND recorded_at < '2026-03-05'}), '0', 'drops nothing');
configure($node, 'sagaz_ha.clock' => '2026-03-11 12:00:00+00');
is_partitions($node, 'good', 'b_works', -3, 3, 'what it made is in nobody\'s way');
is_consistent($node, 'good', 'b_works', 'and nothing is wrong');
ok(more_passes('good', 2), 'when it is right again');
is($node->safe_psql('good', q{SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'b_works' AND action = 'ERROR'}), '0', 'there is no error');

configure($node, 'sagaz_ha.clock' => '2027-03-11 12:00:00+00');
ok(defined when($node, 'good', q{EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE table_name = 'b_works' AND action = 'DEFER' AND details LIKE 'drops are held back%')}),
	'a clock that jumps ahead by a year is noticed');
ok(more_passes('good', 2), 'passes go on');
is($node->safe_psql('good', q{SELECT to_regclass('b_works_y2026m03d11')}), 'b_works_y2026m03d11',
	'and nothing is dropped');
configure($node, 'sagaz_ha.clock' => '2026-03-12 12:00:00+00');
ok(more_passes('good', 2), 'when the clock is right again');
is($node->safe_psql('good', q{SELECT to_regclass('b_works_y2026m03d08')}), 'b_works_y2026m03d08',
	'drops wait for an operator');
$node->safe_psql('good', q{SELECT sagaz_ha.resume_drops('b_works')});
ok(defined when($node, 'good', q{to_regclass('b_works_y2026m03d08') IS NULL}), 'who lets them go on');

$node->stop('fast');
done_testing();
