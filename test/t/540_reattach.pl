# What the worker detaches or archives keeps what it had, and comes back with
# all its rows.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n");

$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE SCHEMA archive;
	CREATE ROLE reader});

# By hand, so without a CHECK of its bounds.
sub adopted
{
	my ($table, $more) = @_;

	expired_table($node, $table, -5, 0);
	$node->safe_psql('postgres', qq{
		CREATE INDEX ${table}_payload ON $table (payload);
		GRANT SELECT ON ${table}_y2026m03d05, ${table}_y2026m03d06 TO reader});
	manage($node, $table, $more);
	$node->poll_query_until('postgres', qq{
		SELECT count(*) = 2 FROM sagaz_ha.partition_history
		WHERE table_name = '$table' AND action = 'DETACH'})
	  or die "$table was not maintained";
	return;
}

foreach my $action (qw(detach archive))
{
	my $table = $action eq "detach" ? "detached" : "archived";
	my $schema = $action eq 'archive' ? 'archive' : 'public';
	my $name = "$schema.${table}_y2026m03d05";

	adopted($table, ", retention_action => '$action'" . ($action eq 'archive' ? ", archive_schema => 'archive'" : ''));
	is($node->safe_psql('postgres', "SELECT count(*) FROM $name"), '1', "$action: the table keeps its rows");
	is($node->safe_psql('postgres', "SELECT count(*) FROM $table"), '4', "$action: they are not in the parent");
	is($node->safe_psql('postgres', qq{SELECT count(*) FROM pg_indexes
		WHERE schemaname = '$schema' AND tablename = '${table}_y2026m03d05'}), '1', "$action: its index");
	is($node->safe_psql('postgres', "SELECT has_table_privilege('reader', '$name', 'SELECT')"), 't', "$action: its privileges");
	like($node->safe_psql('postgres', "SELECT obj_description('$name'::regclass)"),
		qr/^partition of public\.$table from 2026-03-05 00:00:00\+00 to 2026-03-06 00:00:00\+00, detached at 2026-03-10 12:00:00\+00 by sagaz_ha$/,
		"$action: and says which bounds it had, and when it was detached");
	$node->safe_psql('postgres', "INSERT INTO $name (id, created_at) OVERRIDING SYSTEM VALUE VALUES (99, '2026-03-05 20:00+00')");

	$node->safe_psql('postgres', "SET sagaz_ha.lock_timeout = '60s'; SELECT sagaz_ha.reattach_partition('$name')");
	is($node->safe_psql('postgres', "SELECT count(*) FROM $table"), '6', "$action: reattached, all rows are back");
	is($node->safe_psql('postgres', "SELECT obj_description('public.${table}_y2026m03d05'::regclass) IS NULL"), 't', "$action: without the comment");
	is($node->safe_psql('postgres', qq{SELECT details FROM sagaz_ha.partition_history
		WHERE partition_name = '${table}_y2026m03d05' AND action = 'ATTACH'}),
		'rows from 2026-03-05 00:00:00+00 to 2026-03-06 00:00:00+00', "$action: history says so");
	$node->safe_psql('postgres', 'UPDATE sagaz_ha.partition_policy SET premake = premake');
	# What a pass says of it; the one that detached it may only just be ending. Its
	# privileges aren't the table's, which upkeep finds out before or after.
	my $since = qq{FROM sagaz_ha.partition_history WHERE partition_name = '${table}_y2026m03d05' AND action <> 'DRIFT'
		AND id > (SELECT max(id) FROM sagaz_ha.partition_history
			WHERE partition_name = '${table}_y2026m03d05' AND action = 'ATTACH')};
	$node->poll_query_until('postgres', "SELECT EXISTS (SELECT $since)") or die "no pass says anything of $name";
	is($node->safe_psql('postgres', "SELECT count(*) FROM $table"), '6', "$action: later passes leave it there");
	is($node->safe_psql('postgres', "SELECT string_agg(action, ' ' ORDER BY id) $since"), 'KEEP', "$action: as KEEP");
	$node->safe_psql('postgres', "INSERT INTO $table (created_at) VALUES ('2026-03-05 21:00+00')");

	my ($status, undef, $error) = $node->psql('postgres', "SELECT sagaz_ha.reattach_partition('public.${table}_y2026m03d05')");
	isnt($status, 0, "$action: what is attached can't be reattached");
	note($error);
}

$node->safe_psql('postgres', 'CREATE TABLE stranger (created_at timestamptz)');
my ($status, undef, $error) = $node->psql('postgres', "SELECT sagaz_ha.reattach_partition('stranger')");
like($error, qr/it is not known which table that was a partition of.*HINT:  Name the parent/s, 'a stranger: the error says what to do');
($status, undef, $error) = $node->psql('postgres', "SELECT sagaz_ha.reattach_partition('stranger', 'detached')");
like($error, qr/the bounds of table "stranger" are not known.*HINT:  Use ALTER TABLE/s, 'a stranger without bounds: likewise');

$node->stop('fast');
done_testing();
