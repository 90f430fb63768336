# A function in an index of one table, of its owner's, that never returns holds up
# the conversion of another table for a limited time only, whether it can be cancelled or not.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazConversion;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\nsagaz_ha.condition_timeout = 200ms\n");

$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha; CREATE ROLE ann; CREATE SCHEMA ann AUTHORIZATION ann');

# The function is as it was declared until its table has rows.
sub make_slow
{
	my ($name, $body) = @_;

	$node->safe_psql('postgres', qq{
		SET ROLE ann;
		SET search_path = ann;
		CREATE FUNCTION f_$name(id bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN id; END';
		CREATE TABLE $name (id bigint, at timestamptz NOT NULL);
		CREATE UNIQUE INDEX ON $name (f_$name(id));
		INSERT INTO $name SELECT n, now() - n * interval '1 minute' FROM generate_series(1, 10) AS n;
		CREATE OR REPLACE FUNCTION f_$name(id bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS '$body';
		RESET ROLE;
		SELECT sagaz_ha.partition_table('ann.$name', 'at', '1 day', weaken_unique => true)});
	$node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE backend_type = 'sagaz_ha conversion' AND wait_event = 'PgSleep')}) or die "the function of $name is not called";
	return;
}

sub converted_while
{
	my ($name) = @_;

	return ok($node->poll_query_until('postgres', qq{SELECT relkind = 'p'
		AND NOT EXISTS (SELECT FROM sagaz_ha.conversion WHERE table_name = 'after_$name')
		FROM pg_class WHERE oid = 'after_$name'::regclass}), "$name: another table becomes partitioned");
}

foreach my $slow ([ 'a_sleeps', 'BEGIN PERFORM pg_sleep(3600); RETURN id; END', qr/^57014: evaluating expressions of table ann.a_sleeps took longer than sagaz_ha.condition_timeout for its size \(2000 ms\)/ ],
	[ 'a_insists', 'BEGIN LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END',
		qr/^57014: evaluating expressions of table ann.a_insists took longer than sagaz_ha.condition_timeout for its size, and could not be cancelled/ ])
{
	my ($name, $body, $error) = @$slow;

	make_slow($name, $body);
	$node->safe_psql('postgres', qq{CREATE TABLE after_$name (id bigint PRIMARY KEY, at timestamptz NOT NULL);
		SELECT sagaz_ha.partition_table('after_$name', 'at', '1 day')});
	converted_while($name);
	like($node->safe_psql('postgres', "SELECT error FROM sagaz_ha.conversions WHERE table_name = '$name'"), $error, "$name: it is told");
	is($node->safe_psql('postgres', "SELECT tries > 0 AND next_try IS NOT NULL FROM sagaz_ha.conversions WHERE table_name = '$name'"),
		't', "$name: it backs off");
	# or else it has its turn before the next one
	$node->safe_psql('postgres', "SELECT sagaz_ha.cancel_partition_table('ann.$name')");
}

$node->stop;
done_testing();
