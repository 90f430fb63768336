# The functions that doc/before-drop.md shows, as they stand there.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n");
my $page = slurp_file("$FindBin::RealBin/../../doc/before-drop.md");
my $folder = PostgreSQL::Test::Utils::tempdir;

# The SQL under a heading of the page.
sub from_page
{
	my ($heading) = @_;
	my ($sql) = $page =~ /^## \Q$heading\E\n.*?^```sql\n(.*?)^```$/ms or die "no SQL under $heading";

	$sql =~ s{/var/lib/archive}{$folder};
	return $sql;
}

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub is_gone
{
	my ($table, $name) = @_;

	ok(defined when($node, 'postgres', qq{to_regclass('${table}_y2026m03d05') IS NULL
		AND to_regclass('${table}_y2026m03d06') IS NULL}), $name);
	return;
}

sub managed
{
	my ($table, $function, $before) = @_;

	take_table($node, 'postgres', $table, days => [ -5, 0 ], before => $before,
		more => ", before_drop => 'app.$function(regclass)'::regprocedure");
	return;
}

sql('CREATE EXTENSION sagaz_ha; CREATE SCHEMA app; ' . from_page($_))
  foreach 'Copy to a file';
sql(from_page($_)) foreach 'Copy to another server', 'Only what was consumed';

# -------- a file

managed('filed', 'copy_to_file', q{INSERT INTO filed (created_at, payload)
	SELECT '2026-03-05 12:00+00', E'two\nlines' FROM generate_series(1, 99)});
is_gone('filed', 'file: the partitions go');
is(sql(qq{CREATE TABLE back (LIKE filed);
	COPY back FROM '$folder/filed_y2026m03d05.csv' WITH (FORMAT csv, HEADER); SELECT count(*) FROM back}), '100',
	'and each row is in the file');

# a file that can't be written
mkdir "$folder/blocked_y2026m03d05.csv";
managed('blocked', 'copy_to_file');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'blocked_y2026m03d05' AND sqlstate = '42809' AND times >= 2)}), 'file: one that cannot be written is an error');
is(sql('SELECT count(*) FROM blocked_y2026m03d05'), '1', 'and the partition stays');
rmdir "$folder/blocked_y2026m03d05.csv";
is_gone('blocked', 'until it can be');

# -------- another server

sql(q{CREATE DATABASE elsewhere});
$node->safe_psql('elsewhere', q{CREATE TABLE events (id bigint, created_at timestamptz, done boolean, payload text,
	PRIMARY KEY (id, created_at))});
sql(sprintf q{
	CREATE EXTENSION postgres_fdw;
	CREATE SCHEMA archive_server;
	CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'elsewhere');
	CREATE USER MAPPING FOR CURRENT_USER SERVER elsewhere;
	CREATE FOREIGN TABLE archive_server.events (id bigint, created_at timestamptz, done boolean, payload text)
		SERVER elsewhere OPTIONS (schema_name 'public')}, $node->host, $node->port);
# as a call leaves it that was committed there, and not here
$node->safe_psql('elsewhere', q{INSERT INTO events VALUES (1, '2026-03-05 01:00+00', true, NULL)});
managed('sent', 'copy_to_server');
is_gone('sent', 'another server: the partitions go');
is($node->safe_psql('elsewhere', 'SELECT count(*), min(created_at), max(created_at) FROM events'),
	'2|2026-03-05 01:00:00+00|2026-03-06 01:00:00+00', 'and each row is there, once');
$node->safe_psql('elsewhere', 'ALTER TABLE events ADD CHECK (id < 0) NOT VALID');
managed('unsent', 'copy_to_server', q{UPDATE unsent SET id = DEFAULT});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'unsent_y2026m03d05' AND sqlstate = '23514')}), 'another server: what it refuses stays here');
unlike(sql(q{SELECT string_agg(details, ' ') FROM sagaz_ha.partition_history WHERE table_name = 'unsent'}),
	qr/failing row/i, 'and no value of a row is in the history');

# -------- what was consumed

sql(q{CREATE TABLE consumer_inbox (consumer_name text, event_id text, PRIMARY KEY (consumer_name, event_id))});
managed('consumed', 'all_consumed', q{INSERT INTO consumer_inbox SELECT 'billing', id::text FROM consumed
	WHERE created_at > '2026-03-06'});
ok(defined when($node, 'postgres', q{to_regclass('consumed_y2026m03d06') IS NULL}), 'consumer: what it has confirmed goes');
is(sql(q{SELECT action || ' ' || sqlstate FROM sagaz_ha.problem WHERE partition_name = 'consumed_y2026m03d05'}), 'ERROR 55000',
	'what it has not confirmed stays');
sql(q{INSERT INTO consumer_inbox SELECT 'billing', id::text FROM consumed_y2026m03d05});
is_gone('consumed', 'until it has');

$node->stop('fast');
done_testing();
