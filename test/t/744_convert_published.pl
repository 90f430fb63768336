# A subscriber goes on without REFRESH when the published table becomes
# partitioned, and no change is lost or doubled; a table that is dropped in the
# middle leaves nothing that is maintained.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazConversion;
use SagazTest;
use Test::More;

sub quoted
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

my $conf = "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\nwal_level = logical\n";
my $node = sagaz_server('main', streaming => 'logical', conf => $conf);
my $subscriber = sagaz_server('subscriber', conf => $conf);
my $table = 'CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), v int)';

$subscriber->safe_psql('postgres', $table);
$node->safe_psql('postgres', qq{
	CREATE EXTENSION sagaz_ha;
	$table;
	CREATE TABLE plain (i int PRIMARY KEY);
	INSERT INTO events SELECT g, now() - g * interval '1 minute', 0 FROM generate_series(1, 1000) AS g;
	CREATE PUBLICATION pub FOR TABLE events, plain});
$subscriber->safe_psql('postgres', 'CREATE TABLE plain (i int PRIMARY KEY)');
$subscriber->safe_psql('postgres', 'CREATE SUBSCRIPTION sub CONNECTION ' . quoted($node->connstr('postgres')) . ' PUBLICATION pub');
$subscriber->wait_for_subscription_sync;

sub arrived
{
	my ($name) = @_;
	my $sum = 'SELECT count(*), sum(v), sum(id) FROM events';
	my $expected = $node->safe_psql('postgres', $sum);

	ok($subscriber->poll_query_until('postgres', $sum, $expected), $name);
	return;
}

like($node->safe_psql('postgres', q{SELECT string_agg(meaning, ' ') FROM sagaz_ha.plan_partition_table('events', 'at', '1 day', weaken_unique => true)}),
	qr/a subscriber that has no table of the partition's name stops/, 'the plan says what comes without publish_via_partition_root');
foreach my $point (map { ("convert_$_:after_commit") } qw(checking attaching analyzing renaming))
{
	stop_at($node, $point);
	$node->safe_psql('postgres', q{SELECT sagaz_ha.partition_table('events', 'at', '1 day', weaken_unique => true, publish_via_partition_root => true)})
	  if $point =~ /checking/;
	stopped_at($node, $point);
	$node->safe_psql('postgres', q{INSERT INTO events SELECT max(id) + 1, now(), 1 FROM events; UPDATE events SET v = v + 1 WHERE id % 10 = 0; DELETE FROM events WHERE id = (SELECT min(id) FROM events)});
	arrived("at $point, changes arrive");
}
let_go($node);
converted($node, 'events', 'it is partitioned');
$node->safe_psql('postgres', q{INSERT INTO events VALUES (100000, now() + interval '3 days', 7); UPDATE events SET v = 8 WHERE id = 100000;
	INSERT INTO events VALUES (100001, now(), 7)});
arrived('so do those of every partition, without REFRESH');
is($node->safe_psql('postgres', q{SELECT string_agg(prrelid::regclass::text, ' ' ORDER BY prrelid::regclass::text), bool_or(pubviaroot)
	FROM pg_publication_rel JOIN pg_publication AS p ON p.oid = prpubid}), 'events plain|t', 'the publication has the partitioned table');
$node->safe_psql('postgres', 'DELETE FROM events WHERE id = 100000');
$node->safe_psql('postgres', q{SELECT sagaz_ha.unpartition_table('events'); INSERT INTO events VALUES (200000, now(), 7)});
arrived('plain again, changes arrive');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');

# dropped in the middle
stop_at($node, 'convert_indexing:after_commit');
$node->safe_psql('postgres', q{SELECT sagaz_ha.partition_table('events', 'at', '1 day', weaken_unique => true)});
stopped_at($node, 'convert_indexing:after_commit');
$node->safe_psql('postgres', 'DROP TABLE events');
let_go($node);
ok($node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM sagaz_ha.conversion) AND NOT EXISTS (SELECT FROM sagaz_ha.partition_policy)
	AND to_regclass('events_sagaz_ha') IS NULL}), 'of a table that is dropped, nothing is converted or maintained, and nothing is left');

# a dump made in the middle
$node->safe_psql('postgres', 'CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()); INSERT INTO events VALUES (1)');
stop_at($node, 'convert_attaching:after_commit');
$node->safe_psql('postgres', q{SELECT sagaz_ha.partition_table('events', 'at', '1 day', weaken_unique => true)});
stopped_at($node, 'convert_attaching:after_commit');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'dumped in the middle');
$node->safe_psql('copy', slurp_file($dump));
is($node->safe_psql('copy', q{SELECT count(*) FROM sagaz_ha.conversion}), '0', 'a copy has no conversion');
is($node->safe_psql('copy', q{SELECT status FROM sagaz_ha.partition_health() WHERE check_name = 'conversion'}), 'critical', 'health is critical there');
$node->safe_psql('copy', q{SELECT sagaz_ha.cancel_partition_table('events'); INSERT INTO events VALUES (2, now() + interval '300 days')});
is($node->safe_psql('copy', q{SELECT relkind, relispartition, (SELECT count(*) FROM events), to_regclass('events_sagaz_ha') IS NULL,
	(SELECT count(*) FROM sagaz_ha.partition_policy) FROM pg_class WHERE oid = 'events'::regclass}),
	'r|f|2|t|0', 'where it can be taken back');
let_go($node);
converted($node, 'events', 'and the original goes on');
$node->stop;
$subscriber->stop;
done_testing();
