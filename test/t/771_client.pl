# The specification's client on our tables, directly and through the rw pool: while the
# worker makes and retires partitions, each event is sent once, and none is lost.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run qw(start finish timeout);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(usleep);

# Debian's python3, whatever else is on the PATH
my $python = '/usr/bin/python3';
plan skip_all => 'python3-asyncpg is not installed'
  unless -x $python && system("$python -c 'import asyncpg' 2>/dev/null") == 0;

my $client = "$FindBin::RealBin/../client/client.py";
my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\nmax_connections = 100\n");

sub sql
{
	return $node->safe_psql('sagaz', $_[0]);
}

# Runs the client while the clock moves by forty days; what it says.
sub run_client
{
	my ($dsn, $cache) = @_;
	my ($out, $err) = ('', '');
	my $stop = $node->basedir . '/stop';
	my $run = start [ $python, $client, 'run', $dsn, $cache, $stop ], '<', '/dev/null', '>', \$out, '2>', \$err,
	  timeout($PostgreSQL::Test::Utils::timeout_default);

	foreach (1 .. 8)
	{
		my $events = sql('SELECT last_value FROM saga_outbox_position_seq');

		configure($node, 'sagaz_ha.clock' => sql("SELECT sagaz_ha.clock() + interval '5 days'"));
		# the client goes on, and there are partitions for the next five days
		$node->poll_query_until('sagaz', qq{SELECT covered_until >= premade_until AND (SELECT last_value > $events FROM saga_outbox_position_seq)
			FROM sagaz_ha.coverage() WHERE parent = 'saga_outbox'::regclass}) or do { $run->pump_nb if $run->pumpable; die "no partitions ahead, or no events: $err" };
		last unless $run->pumpable;
		$run->pump_nb;
	}
	append_to_file($stop, '');
	finish $run;
	unlink $stop;
	is($err, '', 'the client meets no error');
	note($out);
	return $out;
}

sub is_exact
{
	my ($said, $name) = @_;

	like($said, qr/"inserted": (?!0,)\d+/, "$name: events were written");
	like($said, qr/"twice": 0, "lost": 0/, "$name: each is sent exactly once");
	like($said, qr/"abandoned": (?!0,)\d+/, "$name: though claims were abandoned");
	like($said, qr/"pending": 0/, "$name: and none is pending");
	return;
}

# asyncpg wants UTF-8
$node->safe_psql('postgres', q{CREATE DATABASE sagaz TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'});
sql('CREATE EXTENSION sagaz_ha; SELECT * FROM maintain_all_partitions();
	SELECT sagaz_ha.create_partition(\'saga_outbox\', sagaz_ha.clock() - n * interval \'1 day\') FROM generate_series(1, 3) AS n;
	UPDATE sagaz_ha.partition_policy SET retention = \'6 days\' WHERE parent = \'saga_outbox\'::regclass');
my $dsn = sprintf('postgresql:///sagaz?host=%s&port=%d&user=%s', $node->host, $node->port, scalar getpwuid($<));
is_exact(run_client($dsn, 'default'), 'directly');
ok(defined when($node, 'sagaz', q{EXISTS (SELECT FROM sagaz_ha.partition_history WHERE action = 'DROP' AND table_name = 'saga_outbox')}),
	'partitions are dropped meanwhile');
is(sql(q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ERROR'}), '0', 'and nothing failed');

SKIP:
{
	my ($pgbouncer) = grep { -x } '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer';
	skip 'pgbouncer is not installed', 1 unless defined $pgbouncer;
	my ($major, $minor) = `$pgbouncer --version` =~ /PgBouncer (\d+)\.(\d+)/;
	# before 1.21 it knows no prepared statements in transaction mode
	my $cache = $major > 1 || $minor >= 21 ? 'default' : '0';
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $pool_log = $node->basedir . '/pool.log';

	sql(q{SET password_encryption = 'scram-sha-256'; CREATE ROLE sagaz_monitor LOGIN PASSWORD 'm';
		DO $$BEGIN IF to_regrole('postgres') IS NULL THEN CREATE ROLE postgres SUPERUSER LOGIN; END IF; END$$;
		ALTER ROLE postgres PASSWORD 'sesame'});
	local %ENV = (%ENV, PRIMARY_HOST => $node->host, PRIMARY_PORT => $node->port, POOL_PORT => $port, POSTGRES_DB => 'sagaz',
		POSTGRES_PASSWORD => 'sesame', MONITOR_PASSWORD => 'm', LISTEN_ADDRESSES => '127.0.0.1', RUN_DIR => $node->basedir . '/pool');
	my $pool = start [ "$FindBin::RealBin/../../deploy/scripts/pool", 'rw' ], '<', '/dev/null', '>', $pool_log, '2>&1';
	my $through = "postgresql://postgres:sesame\@127.0.0.1:$port/sagaz";
	my $tries = 200;
	usleep(100_000) while system("psql -XAtqc 'SELECT 1' '$through' >/dev/null 2>&1") != 0 && --$tries > 0;
	ok($tries > 0, 'the pool is up') or diag(slurp_file($pool_log));
	is_exact(run_client($through, $cache), 'through the pool');
	$pool->kill_kill(grace => 5);
}

is(sql(q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ERROR'}), '0', 'nothing failed');
$node->stop;
done_testing();
