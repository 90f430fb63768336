# Writers never wait for maintenance: clients insert through a whole pass that
# makes 3 partitions and drops 10, while a transaction that has read the whole
# table stays open.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run qw(start finish);
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes;

# How long the reader stays.
my $seconds = $ENV{SAGAZ_SECONDS} || 8;

# A wait for a lock is logged when it is this long.
my $node = sagaz_server('main', conf => q{
sagaz_ha.naptime = 1h
deadlock_timeout = 20ms
log_lock_waits = on
max_connections = 50
});
my $script = $node->basedir . '/insert.sql';

append_to_file($script, q{
INSERT INTO saga_outbox (topic, payload, status, created_at)
	VALUES ('t', '{}', 'PUBLISHED', sagaz_ha.clock());
});
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	BEGIN;
	SELECT sagaz_ha.create_saga_tables();
	SELECT sagaz_ha.stop_managing_partitions('saga_outbox');
	COMMIT});

# 45 partitions of a table that nobody manages yet: 10 will be too old, and 3
# are missing.
sub prepare
{
	$node->safe_psql('postgres', q{
		SELECT format('DROP TABLE %s', inhrelid::regclass)
			FROM pg_inherits WHERE inhparent = 'saga_outbox'::regclass \gexec
		SELECT format('CREATE TABLE outbox_%s PARTITION OF saga_outbox FOR VALUES FROM (%L) TO (%L)',
				40 + n, d, d + interval '1 day')
			FROM generate_series(-40, 4) AS n,
				LATERAL (SELECT date_trunc('day', sagaz_ha.clock()) + n * interval '1 day') AS l (d) \gexec
		INSERT INTO saga_outbox (topic, payload, status, created_at)
			SELECT 't', '{}', 'PUBLISHED', sagaz_ha.clock() + (i % 40 - 40) * interval '1 day'
			FROM generate_series(1, 4000) AS i;
		VACUUM ANALYZE saga_outbox});
	return;
}

# The longest and the median latency of 4 clients in ms, while the work is done.
sub latencies
{
	my ($name, $work) = @_;
	my $prefix = $node->basedir . "/$name";
	my ($out, $err) = ('', '');
	my $duration = $seconds + 3;
	my $bench = start [ 'pgbench', '-n', '-c', '4', '-j', '2', '-T', $duration, '-R', '400', '-l',
		"--log-prefix=$prefix", '-f', $script,
		$node->connstr('postgres') . ' application_name=pgbench' ], '>', \$out, '2>', \$err;

	when($node, 'postgres', q{count(*) = 4 FROM pg_stat_activity WHERE application_name = 'pgbench'})
	  or die 'pgbench did not start';
	$work->();
	finish $bench or die "pgbench failed: $err";
	unlike($err, qr/ERROR/i, "$name: no client got an error");

	# without the time that a transaction was scheduled too late
	my @all = sort { $a <=> $b } map {
		map { my @f = split ' '; ($f[2] - $f[6]) / 1000 } split /\n/, slurp_file($_)
	} glob "$prefix.*";
	note(sprintf('%s: %d inserts, latency in ms: p50 %.2f, p99 %.2f, p99.9 %.2f, max %.2f',
			$name, scalar @all, @all[ $#all / 2, $#all * 0.99, $#all * 0.999, $#all ]));
	return $all[-1];
}

# A transaction that has read the whole table, as an analytics query does.
sub reader
{
	my $session = $node->background_psql('postgres');

	$session->query_safe('BEGIN; SELECT count(*) FROM saga_outbox');
	return $session;
}

# How many partitions were dropped until it ended: only it can look just before.
sub end_reader
{
	my ($session, $start) = @_;

	$session->query_safe(sprintf('SELECT pg_sleep_until(to_timestamp(%f))', $start + $seconds));
	my $drops = $session->query_safe(q{SELECT count(*) FROM sagaz_ha.partition_history
		WHERE action = 'DROP' AND table_name = 'saga_outbox'});
	$session->query_safe('COMMIT');
	$session->quit;
	return $drops;
}

prepare();
my $without = latencies('without', sub { my $start = Time::HiRes::time(); end_reader(reader(), $start) });

prepare();
my $offset = -s $node->logfile;
my ($made, $dropped);
my $with = latencies('with', sub {
	my $start = Time::HiRes::time();
	my $session = reader();

	$node->safe_psql('postgres', q{SELECT sagaz_ha.create_saga_tables()});
	$made = when($node, 'postgres', q{count(*) = 48 FROM pg_inherits
		WHERE inhparent = 'saga_outbox'::regclass});
	ok(defined when($node, 'postgres', q{EXISTS (
		SELECT FROM sagaz_ha.maintenance_status() WHERE waiting_for <> '')}),
		'maintenance_status() says that something has to wait');
	note($node->safe_psql('postgres', q{SELECT waiting_for FROM sagaz_ha.maintenance_status()
		WHERE process = 'worker' AND database = 'postgres'}));
	is(end_reader($session, $start), '0', 'nothing is dropped before the reader has ended');
	$dropped = when($node, 'postgres', q{count(*) = 38 FROM pg_inherits
		WHERE inhparent = 'saga_outbox'::regclass});
});

is_within($made, 1, 'the new partitions exist within 1 s of the start of the pass');
is_within($dropped, 3, "the drops are finished within 3 s of the reader's end");
cmp_ok($with, '<=', max(2 * $without, 150),
	'the longest insert takes at most twice what it takes without a pass');

# What the log has of waits is exact, and other load on the machine isn't in it.
is_deeply([ log_lines($node, $offset, qr/pgbench .*still waiting for \w+ on relation/) ], [],
	'no insert waited for a lock');
is_deeply([ log_lines($node, $offset, qr/still waiting for AccessExclusiveLock/) ], [],
	'nobody queued for AccessExclusive');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history
	WHERE action = 'ERROR'}), '0', 'and no error was met');

$node->stop('fast');
done_testing();
