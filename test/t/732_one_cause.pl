# One cause, one row: the first error that the table's next partition would meet as
# well ends the rest of that table, and says how many are left.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "max_locks_per_transaction = 10\nmax_connections = 10\nmax_wal_senders = 0\nmax_prepared_transactions = 0\nsagaz_ha.naptime = 1h\nsagaz_ha.enabled = off\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE ROLE ann LOGIN;
	CREATE SCHEMA data AUTHORIZATION ann;
	CREATE TABLE many (at timestamptz PRIMARY KEY) PARTITION BY RANGE (at);
	SELECT sagaz_ha.manage_partitions('many', '1 day', 900)});

# -------- out of shared memory, in a foreground pass of 900

my @rows = split /\n/, $node->safe_psql('postgres', q{
	SELECT action, count(*), min(details) FROM sagaz_ha.maintain_partitions('many') GROUP BY 1 ORDER BY 1});
my ($made) = map { /^CREATE\|(\d+)/ ? $1 : () } @rows;
my ($errors, $details) = map { /^ERROR\|(\d+)\|(.*)/ ? ($1, $2) : () } @rows;

is($errors, '1', 'one row for what ends the table');
like($details, qr/^53200: out of shared memory .*HINT: .*\((\d+) more partitions are left\)$/,
	'it says why, and that partitions are left');
my ($left) = $details =~ /(\d+) more partitions/;
is(($made // 0) + 1 + $left, 901, 'how many: all that were not made');
is($node->safe_psql('postgres', 'SELECT count(*), min(sqlstate) FROM sagaz_ha.problem'), '1|53200', 'one problem');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ERROR'}), '1', 'one row of the history');

# -------- the worker: a privilege that is missing, again and again

$node->safe_psql('postgres', q{
	DELETE FROM sagaz_ha.partition_policy; DELETE FROM sagaz_ha.problem;
	CREATE TABLE data.ev (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
	ALTER TABLE data.ev OWNER TO ann;
	SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 5);
	ALTER SCHEMA data OWNER TO postgres;
	GRANT USAGE ON SCHEMA data TO ann});
configure($node, 'sagaz_ha.enabled' => 'on');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem WHERE times >= 3)}), 'the worker tries again');
is($node->safe_psql('postgres', q{SELECT partition_name, sqlstate, substring(details FROM '\([^()]*\)$') FROM sagaz_ha.problem}),
	'data.ev_y2026m03d10|42501|(5 more partitions are left)', 'the same partition, and no other row');
$node->safe_psql('postgres', q{GRANT CREATE ON SCHEMA data TO ann; SELECT count(*) FROM sagaz_ha.maintain_partitions('data.ev')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.problem}), '0', 'mended, it is gone');

# -------- what is of one partition is not of all

$node->safe_psql('postgres', q{CREATE TABLE data.ev_y2026m03d16 (); CREATE TABLE data.ev_y2026m03d18 ()});
is($node->safe_psql('postgres', q{SET sagaz_ha.clock = '2026-03-14 12:00+00';
	SELECT action, partition_name FROM sagaz_ha.maintain_partitions('data.ev') ORDER BY 1, 2}),
	join("\n", (map { "CREATE|data.ev_y2026m03d$_" } 17, 19), (map { "ERROR|data.ev_y2026m03d$_" } 16, 18)), 'a name that is taken is an error of that one');
$node->safe_psql('postgres', q{DROP TABLE data.ev_y2026m03d16, data.ev_y2026m03d18});

# -------- retiring

configure($node, 'sagaz_ha.enabled' => 'off');
$node->safe_psql('postgres', q{
	SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 5, '1 day', unfinished_when => 'todo');
	INSERT INTO data.ev SELECT '2026-03-10 05:00+00'::timestamptz + i * interval '1 day', i = 3 FROM generate_series(0, 3) AS i;
	SET sagaz_ha.clock = '2026-03-15 12:00+00';
	SELECT count(*) FROM sagaz_ha.maintain_partitions('data.ev')});
is($node->safe_psql('postgres', q{SELECT action, partition_name FROM sagaz_ha.problem}), 'KEEP|data.ev_y2026m03d13', 'an unfinished row keeps a partition');
$node->safe_psql('postgres', q{
	SELECT sagaz_ha.stop_managing_partitions('data.ev');
	SET ROLE ann;
	CREATE TABLE data.ev_y2026m03d09 PARTITION OF data.ev FOR VALUES FROM ('2026-03-09 00:00+00') TO ('2026-03-10 00:00+00');
	CREATE TABLE data.ev_y2026m03d08 PARTITION OF data.ev FOR VALUES FROM ('2026-03-08 00:00+00') TO ('2026-03-09 00:00+00');
	RESET ROLE;
	SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 5, '1 day', unfinished_when => 'todo');
	ALTER TABLE data.ev RENAME COLUMN todo TO open_work});
foreach my $pass (1, 2)
{
	is($node->safe_psql('postgres', q{SET sagaz_ha.clock = '2026-03-15 12:00+00';
		SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('data.ev') WHERE action = 'ERROR'}),
		'ERROR|data.ev_y2026m03d08|42703: column "todo" does not exist (2 more partitions are left)', "pass $pass: one row");
	is($node->safe_psql('postgres', q{SELECT string_agg(action || ' ' || partition_name, ', ' ORDER BY action) FROM sagaz_ha.problem}),
		'ERROR data.ev_y2026m03d08, KEEP data.ev_y2026m03d13', "pass $pass: what is known of the others stays known");
}

$node->stop;
done_testing();
