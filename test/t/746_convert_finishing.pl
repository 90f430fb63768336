# The last step of a conversion can last: clients use the partitioned table already,
# and it doesn't run out of partitions.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE events (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at));
	INSERT INTO events SELECT n, now() - n * interval '1 hour' FROM generate_series(1, 10) AS n;
	CREATE TABLE child (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES events);
	INSERT INTO child TABLE events;
	CREATE TABLE other_child (LIKE child, FOREIGN KEY (id, at) REFERENCES events);
	CREATE TABLE alone (LIKE events INCLUDING ALL)});

# Until when does the table take rows, in hours from now?
sub covered
{
	my ($table) = @_;

	return $node->safe_psql('postgres', "SELECT extract(epoch FROM covered_until - now()) / 3600 FROM sagaz_ha.coverage() WHERE table_name = '$table'");
}

# passes make partitions although the conversion hasn't ended
stop_at($node, 'convert_finishing:before_commit');
$node->safe_psql('postgres', q{SELECT sagaz_ha.partition_table('alone', 'at', '1 hour', premake => 2)});
stopped_at($node, 'convert_finishing:before_commit');
cmp_ok(covered('alone'), '<', 30, 'what the policy says is made');
$node->safe_psql('postgres', q{UPDATE sagaz_ha.partition_policy SET premake = 80});
ok($node->poll_query_until('postgres', q{SELECT count(*) > 40 FROM pg_inherits WHERE inhparent = 'alone'::regclass}), 'a pass makes partitions before the conversion ends');
is($node->safe_psql('postgres', 'SELECT table_name, step FROM sagaz_ha.conversions'), 'alone|finishing', 'which it has not done');
let_go($node);
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM sagaz_ha.conversion)'), 'and then does');

# while a foreign key is validated, no partition can be made: those of a day for each are there
$node->safe_psql('postgres', q{SELECT sagaz_ha.partition_table('events', 'at', '1 hour', premake => 2)});
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM sagaz_ha.conversion)'), 'foreign keys to a table are validated');
is($node->safe_psql('postgres', q{SELECT count(*), bool_and(convalidated) FROM pg_constraint WHERE confrelid = 'events'::regclass AND conparentid = 0}), '2|t', 'both');
cmp_ok(covered('events'), '>', 47, 'what comes meanwhile has a partition');
$node->stop;
done_testing();
