# sagaz_ha.retire = off stops retirement alone: partitions are made, none goes, and a
# fenced one takes writes again.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n");

$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');
stop_at($node, 'fence:after_commit');
take_table($node, 'postgres', 'events', days => [ -5, 0 ], unfinished_when => 'NOT done');
stopped_at($node, 'fence:after_commit');
my ($status, undef, $error) = $node->psql('postgres', "UPDATE events SET done = false WHERE created_at < '2026-03-07'");
like($error, qr/is being retired and takes no more writes/, 'a partition is fenced');

configure($node, 'sagaz_ha.retire' => 'off', 'sagaz_ha.stop_at' => undef);
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM pg_trigger WHERE tgname = 'sagaz_ha_fence' AND tgenabled = 'D')}),
	'off: the retirement ends, and the fence is lowered');
$node->safe_psql('postgres', "UPDATE events SET payload = 'late' WHERE created_at < '2026-03-06'");
configure($node, 'sagaz_ha.clock' => '2026-03-11 12:00:00+00');
is_partitions($node, 'postgres', 'events', -6, 3, 'off: partitions are made, and none goes');
$node->safe_psql('postgres', 'SELECT maintain_all_partitions()');
is_partitions($node, 'postgres', 'events', -6, 3, 'nor by hand');
is($node->safe_psql('postgres', q{SELECT action, details FROM sagaz_ha.problem WHERE partition_name IS NULL}),
	'DEFER|expired partitions stay, because sagaz_ha.retire is off', 'which is a problem of the table');
like($node->safe_psql('postgres', q{SELECT action, details FROM sagaz_ha.plan_partition_maintenance()
		WHERE partition_name = 'events_y2026m03d05'}), qr/^DEFER\|DROP is held back until sagaz_ha.retire is on: rows from/,
	'and in the plan');
is($node->safe_psql('postgres', q{SELECT status, value FROM sagaz_ha.partition_health() WHERE check_name = 'retirement'}),
	'warning|off', 'health says so');
is($node->safe_psql('postgres', q{SELECT phase, since <= now() FROM sagaz_ha.maintenance_status() WHERE process = 'retirement'}),
	'disabled|t', 'and so does the status');

configure($node, 'sagaz_ha.retire' => 'on');
is_partitions($node, 'postgres', 'events', -3, 3, 'on again: what has expired goes');
is_consistent($node, 'postgres', 'events', 'history and catalogs agree');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sagaz_ha.problem'), '0', 'no problem is left');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.maintenance_status() WHERE process = 'retirement'}), '0',
	'nor in the status');

$node->stop('fast');
done_testing();
