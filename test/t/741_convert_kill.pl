# Killed at any step, a conversion goes on, or can be cancelled; after a failover
# the new primary goes on with it. Every acknowledged row is there, once.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazConversion;
use SagazTest;
use Test::More;

my @points = ((map { ("convert_$_:before_commit", "convert_$_:after_commit") }
		qw(checking validating indexing linking attaching analyzing renaming finishing)),
	'convert_indexing:one_made');
my $node = sagaz_server('main', streaming => 1, conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\n");

$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE cust (id int PRIMARY KEY);
	INSERT INTO cust VALUES (1);
	CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO note VALUES (new.id); RETURN new; END';
	CREATE TABLE note (id bigint)});

my $look = q{SELECT format('%s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = 'events'::regclass
	UNION ALL SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid WHERE indrelid = 'events'::regclass
	UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = 'events'::regclass AND NOT tgisinternal
	UNION ALL SELECT concat_ws(' ', attname, attidentity, attnotnull, pg_get_serial_sequence('events', attname)) FROM pg_attribute
		WHERE attrelid = 'events'::regclass AND attidentity <> '' ORDER BY 1};
my $rows = 0;

sub make_table
{
	$node->safe_psql('postgres', q{
		DROP TABLE IF EXISTS events;
		TRUNCATE note;
		CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, cust int DEFAULT 1 REFERENCES cust,
			status text NOT NULL DEFAULT 'new' UNIQUE DEFERRABLE, created_at timestamptz NOT NULL DEFAULT now());
		CREATE INDEX events_when ON events (created_at);
		CREATE TRIGGER noted AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION noted();
		INSERT INTO events (status) SELECT g::text FROM generate_series(1, 1000) AS g});
	$rows = 1000;
	return;
}

sub write_row
{
	$rows++;
	$node->safe_psql('postgres', "INSERT INTO events (status) VALUES ('w$rows')");
	return;
}

# No id twice, none left out but for a sequence's that a crash has skipped.
sub is_complete
{
	my ($name) = @_;

	is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM note) FROM events}),
		"$rows|$rows|$rows", $name);
	return;
}

sub begin_and_stop
{
	my ($point) = @_;

	make_table();
	stop_at($node, $point);
	$node->safe_psql('postgres', q{SELECT sagaz_ha.partition_table('events', 'created_at', '1 day', weaken_unique => true)});
	return stopped_at($node, $point);
}

my @kills = (
	'the worker is terminated' => sub { $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0], 5000)") },
	'the worker crashes' => sub {
		kill 'KILL', $_[0];
		$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $_[0])") or die;
	},
	'the server stops' => sub { $node->stop('immediate'); $node->start });
my $n = 0;
foreach my $point (@points)
{
	my ($what, $kill) = @kills[ 2 * ($n % 3), 2 * ($n % 3) + 1 ];
	my $pid = begin_and_stop($point);

	$n++;
	write_row() unless $point =~ /(checking|attaching|renaming):before/;
	$kill->($pid);
	# the next worker may be there already, with its lock
	let_go($node);
	write_row();
	converted($node, 'events', "$what at $point, and the next one ends it");
	write_row();
	is_complete("$what at $point: every row is there, and fired its trigger, once");
}

# the same points, and a user who doesn't want it any more
foreach my $point (map { "convert_$_" } qw(checking:after_commit indexing:after_commit linking:after_commit
	attaching:before_commit attaching:after_commit analyzing:after_commit renaming:before_commit))
{
	make_table();
	my $before = $node->safe_psql('postgres', $look);
	begin_and_stop($point);
	my $cancelled = $node->psql('postgres', q{SELECT sagaz_ha.cancel_partition_table('events')});
	is($cancelled, 0, "cancelled at $point");
	is($node->safe_psql('postgres', $look), $before, "cancelled at $point: the table is as it was");
	is_clean($node, "cancelled at $point: nothing is left");
	write_row();
	is_complete("cancelled at $point: every row is there");
	let_go($node);
}

# a failover in the middle
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
begin_and_stop('convert_attaching:after_commit');
write_row();
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->append_conf('postgresql.conf', "sagaz_ha.stop_at = ''");
$standby->reload;
$standby->promote;
$node = $standby;
converted($node, 'events', 'after a failover the new primary goes on');
is_complete('with every row');
$node->stop;
done_testing();
