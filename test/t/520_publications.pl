# Retirement neither breaks nor blocks logical replication and foreign keys, or
# says what keeps a partition.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;

my $node = sagaz_server('publisher', streaming => 'logical', conf => "sagaz_ha.naptime = 1h\nwal_level = logical\n");
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');

$subscriber->init;
$subscriber->start;
$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');

# One table per way of publishing it.
my %publication = (
	leaves => 'FOR TABLE leaves',
	root => 'FOR TABLE root WITH (publish_via_partition_root = true)',
	listed => 'FOR TABLE listed_y2026m03d03, listed_y2026m03d10',
	everything => 'FOR ALL TABLES WITH (publish_via_partition_root = true)');

foreach my $table (sort keys %publication)
{
	expired_table($node, $table, -8, 0);
	$subscriber->safe_psql('postgres', qq{
		CREATE TABLE $table (id bigint, created_at timestamptz, done boolean, payload text)
			PARTITION BY RANGE (created_at);
		CREATE TABLE ${table}_y2026m03d03 PARTITION OF $table FOR VALUES FROM (MINVALUE) TO ('2026-03-04 00:00+00');
		CREATE TABLE ${table}_y2026m03d10 PARTITION OF $table FOR VALUES FROM ('2026-03-04 00:00+00') TO (MAXVALUE)});
}
# what is published leaf by leaf needs the same leaves
$subscriber->safe_psql('postgres', q{
	DROP TABLE leaves_y2026m03d03, leaves_y2026m03d10;
	SELECT format('CREATE TABLE leaves_y2026m03d%s PARTITION OF leaves FOR VALUES FROM (%L) TO (%L)',
			to_char(n, 'FM00'), timestamptz '2026-03-01 00:00+00' + (n - 1) * interval '1 day',
			timestamptz '2026-03-01 00:00+00' + n * interval '1 day')
		FROM generate_series(2, 13) AS n \gexec});
$node->safe_psql('postgres', qq{
	CREATE PUBLICATION p_$_ $publication{$_};
	SELECT pg_create_logical_replication_slot('unread', 'test_decoding') WHERE '$_' = 'leaves'})
  foreach sort keys %publication;
foreach my $table (grep { $_ ne 'everything' } sort keys %publication)
{
	$subscriber->safe_psql('postgres', sprintf(
			q{CREATE SUBSCRIPTION s_%s CONNECTION '%s' PUBLICATION p_%1$s},
			$table, $node->connstr . ' dbname=postgres'));
	$subscriber->wait_for_subscription_sync($node, "s_$table");
}

# Changes of partitions that will be gone when they are decoded.
$node->safe_psql('postgres', q{SELECT pg_reload_conf()});
$subscriber->safe_psql('postgres', "ALTER SUBSCRIPTION s_$_ DISABLE") foreach qw(leaves root listed);
foreach my $table (sort keys %publication)
{
	$node->safe_psql('postgres', qq{
		INSERT INTO $table (created_at, payload)
			SELECT timestamptz '2026-03-03 12:00+00' + n * interval '1 minute', 'late' FROM generate_series(1, 7) AS n});
}
foreach my $table (sort keys %publication)
{
	manage($node, $table);
	is_partitions($node, 'postgres', $table, -3, 3, "$table: partitions are dropped, though nobody has decoded their changes");
	is_consistent($node, 'postgres', $table, "$table: history and catalogs agree");
}
is( $node->safe_psql('postgres', q{
	SELECT count(*) FROM pg_logical_slot_get_changes('unread', NULL, NULL)
	WHERE data LIKE 'table public.%_y2026m03d03: INSERT:%late%'}),
	'28', 'a slot that had not consumed decodes the changes of dropped partitions');

$subscriber->safe_psql('postgres', "ALTER SUBSCRIPTION s_$_ ENABLE") foreach qw(leaves root listed);
foreach my $table (qw(leaves root listed))
{
	ok($subscriber->poll_query_until('postgres', qq{
		SELECT count(*) = 7 FROM $table WHERE payload = 'late'}),
		"$table: a subscriber gets the rows of dropped partitions");
	$node->safe_psql('postgres', qq{
		INSERT INTO $table (created_at, payload) VALUES ('2026-03-10 12:00+00', 'current')});
	ok($subscriber->poll_query_until('postgres', qq{
		SELECT count(*) = 1 FROM $table WHERE payload = 'current'}),
		"$table: and goes on with what is written later");
}
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM pg_publication_tables WHERE tablename LIKE '%m03d03'}), '0',
	'no publication names a dropped partition');

# -------- foreign keys

$node->safe_psql('postgres', q{
	CREATE TABLE orders (id bigint, created_at timestamptz, PRIMARY KEY (id, created_at))
		PARTITION BY RANGE (created_at);
	CREATE TABLE orders_y2026m03d04 PARTITION OF orders FOR VALUES FROM ('2026-03-04 00:00+00') TO ('2026-03-05 00:00+00');
	CREATE TABLE orders_y2026m03d05 PARTITION OF orders FOR VALUES FROM ('2026-03-05 00:00+00') TO ('2026-03-06 00:00+00');
	INSERT INTO orders VALUES (1, '2026-03-04 01:00+00'), (2, '2026-03-05 01:00+00');
	CREATE TABLE items (orders bigint, at timestamptz,
		CONSTRAINT items_of_orders FOREIGN KEY (orders, at) REFERENCES orders);
	INSERT INTO items VALUES (2, '2026-03-05 01:00+00');
	SELECT sagaz_ha.manage_partitions('orders', '1 day', 1, '3 days')});
ok($node->poll_query_until('postgres', q{
	SELECT to_regclass('orders_y2026m03d04') IS NULL AND EXISTS (SELECT FROM sagaz_ha.partition_history
		WHERE partition_name = 'orders_y2026m03d05' AND action = 'KEEP' AND details ~ '^removing partition "orders_y2026m03d05" violates foreign key constraint "items_')}),
	'a partition whose rows are referred to is kept, naming the constraint, and others are dropped');
note($node->safe_psql('postgres', q{SELECT details FROM sagaz_ha.partition_history
	WHERE partition_name = 'orders_y2026m03d05' ORDER BY id DESC LIMIT 1}));
my ($status, undef, $error) = $node->psql('postgres', "INSERT INTO items VALUES (9, '2026-03-05 01:00+00')");
like($error, qr/violates foreign key constraint "items_of_orders"/, 'the constraint still holds');
$node->safe_psql('postgres', 'TRUNCATE items; UPDATE sagaz_ha.partition_policy SET premake = premake');
ok($node->poll_query_until('postgres', q{SELECT to_regclass('orders_y2026m03d05') IS NULL}),
	'when no row refers to it any more, it is dropped');

$_->stop('fast') foreach $subscriber, $node;
done_testing();
