# A partition that is held stays, however old it is, whatever point its
# retirement has come to; and goes when it is released.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE SCHEMA archive;
	CREATE ROLE ann LOGIN;
	GRANT EXECUTE ON FUNCTION sagaz_ha.hold_partition, sagaz_ha.release_partition TO ann});

# With one partition more than retention allows, which is held before the table is managed.
sub held_table
{
	my ($table, $more) = @_;

	take_table($node, 'postgres', $table, days => [ -5, 0 ], more => $more,
		before => "SELECT sagaz_ha.hold_partition('${table}_y2026m03d05', 'case 17')");
	return;
}

my %actions = (
	drops => '',
	detaches => ", retention_action => 'detach'",
	archives => ", retention_action => 'archive', archive_schema => 'archive'");
foreach my $table (sort keys %actions)
{
	my $held = "${table}_y2026m03d05";

	held_table($table, $actions{$table});
	ok(defined when($node, 'postgres', qq{NOT EXISTS (SELECT FROM pg_inherits
		WHERE inhparent = '$table'::regclass AND inhrelid = to_regclass('${table}_y2026m03d06'))}), "$table: other expired partitions go");
	is($node->safe_psql('postgres', qq{SELECT state FROM partition_metadata WHERE partition_name = '$held'}),
		'kept', "$table: what is held stays");
	is($node->safe_psql('postgres', qq{SELECT action, details FROM sagaz_ha.problem WHERE partition = '$held'::regclass}),
		'KEEP|held: case 17', "$table: and says why");
	is($node->safe_psql('postgres', qq{SELECT details FROM sagaz_ha.partition_health()
		WHERE table_name = '$table' AND check_name = 'kept_partitions'}), "$held: expired, but held", "$table: health does, too");
	is($node->safe_psql('postgres', qq{SELECT action, details FROM sagaz_ha.maintain_partitions('$table')}),
		'KEEP|held: case 17', "$table: a pass by hand keeps it");
	$node->safe_psql('postgres', "INSERT INTO $table (created_at) VALUES ('2026-03-05 05:00+00')");
	is($node->safe_psql('postgres', "SELECT sagaz_ha.release_partition('$held')"), 't', "$table: it is released");
	is_partitions($node, 'postgres', $table, -3, 3, "$table: and goes at once");
}

# -------- a hold that comes while the partition is being retired

my $day = 0;
foreach my $point (qw(announce:after_commit fence:after_commit detach:before detach:after_first_commit))
{
	my $table = "at_$day";
	my $held = "${table}_y2026m03d06";

	$day++;
	stop_at($node, $point);
	take_table($node, 'postgres', $table, days => [ -4, 0 ], unfinished_when => 'NOT done');
	stopped_at($node, $point);
	$node->safe_psql('postgres', "SELECT sagaz_ha.hold_partition('$held', 'late')");
	let_go($node);
	ok(defined when($node, 'postgres', qq{EXISTS (SELECT FROM sagaz_ha.problem
		WHERE partition = '$held'::regclass AND action = 'KEEP')}), "a hold after $point is honoured");
	ok(defined when($node, 'postgres', qq{NOT EXISTS (SELECT FROM sagaz_ha.retirement WHERE partition = '$held'::regclass)}),
		"$point: it is not being retired any more");
	is_partitions($node, 'postgres', $table, -4, 3, "$point: it is attached");
	$node->safe_psql('postgres', "INSERT INTO $table (created_at) VALUES ('2026-03-06 05:00+00')");
	is($node->safe_psql('postgres', "SELECT count(*) FROM $held"), '2', "$point: with its rows, and takes more");
}

# -------- arguments

my %wrong = (
	q{SELECT sagaz_ha.hold_partition('at_0', 'why')} => qr/"at_0" is not a partition.*HINT/s,
	q{SELECT sagaz_ha.hold_partition('at_0_y2026m03d06', NULL)} => qr/reason must not be null/,
	q{SELECT sagaz_ha.hold_partition(1::regclass, 'why')} => qr/table with OID 1 does not exist.*HINT/s);
foreach my $call (sort keys %wrong)
{
	my (undef, undef, $error) = $node->psql('postgres', $call);
	like($error, $wrong{$call}, $call);
}
foreach my $call (q{hold_partition('at_0_y2026m03d06', 'mine')}, q{release_partition('at_0_y2026m03d06')})
{
	my (undef, undef, $error) = $node->psql('postgres', "SELECT sagaz_ha.$call", extra_params => [ '-U', 'ann' ]);
	like($error, qr/must be owner of table at_0_y2026m03d06/, "only the owner may call $call");
}
is($node->safe_psql('postgres', q{SELECT sagaz_ha.release_partition('at_0_y2026m03d08')}), 'f', 'what is not held can be released in vain');

# -------- dump, and drop

my $dump = $node->safe_psql('postgres', q{SELECT partition, reason, since, held_by FROM sagaz_ha.partition_hold ORDER BY 1});
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $node->basedir . '/dump.sql' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-Xqd', $node->connstr('copy'), '-o', '/dev/null', '-f', $node->basedir . '/dump.sql' ], 'restored');
is($node->safe_psql('copy', q{SELECT partition, reason, since, held_by FROM sagaz_ha.partition_hold ORDER BY 1}),
	$dump, 'the copy holds the same partitions');
ok(defined when($node, 'copy', q{count(*) = 4 FROM sagaz_ha.problem WHERE details = 'held: late'}), 'and keeps them');
$node->safe_psql('postgres', 'DROP TABLE at_0_y2026m03d06');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_hold}), '3', 'a hold goes with its partition');

$node->stop('fast');
done_testing();
