# Rows are counted while a table becomes partitioned and plain again, over and
# over: none is lost, doubled or invisible, for prepared statements, through a
# transaction pool, in functions, and in REPEATABLE READ. No statement fails.
#
# SAGAZ_ROUNDS (8) says how often.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazConversion;
use SagazTest;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{SAGAZ_ROUNDS} || 8;
my $node = sagaz_server('main', conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\nmax_connections = 50\n");
my $dir = PostgreSQL::Test::Utils::tempdir_short;

# The client's table (see the outbox in doc/converting.md), and one with a serial column.
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE outbox (
		event_id uuid PRIMARY KEY, saga_id varchar NOT NULL, aggregate_type varchar NOT NULL DEFAULT 'saga',
		aggregate_id varchar NOT NULL, event_type varchar NOT NULL, payload jsonb NOT NULL,
		headers jsonb NOT NULL DEFAULT '{}', status varchar NOT NULL DEFAULT 'pending'
			CHECK (status IN ('pending', 'claimed', 'sent', 'failed', 'dead_letter')),
		created_at timestamptz NOT NULL DEFAULT now(), claimed_at timestamptz, sent_at timestamptz,
		retry_count int NOT NULL DEFAULT 0, last_error text, worker_id varchar);
	CREATE INDEX ON outbox (created_at) WHERE status = 'pending';
	CREATE INDEX ON outbox (claimed_at) WHERE status = 'claimed';
	CREATE INDEX ON outbox (saga_id);
	CREATE TABLE events (id bigserial PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, v int, at timestamptz NOT NULL DEFAULT now());
	INSERT INTO events (v) SELECT 0 FROM generate_series(1, 5000);
	CREATE FUNCTION bump(which bigint) RETURNS void LANGUAGE plpgsql AS 'BEGIN UPDATE events SET v = v + 1 WHERE id = which; END';
	ANALYZE});

# pgbench ends a client whose statement fails; 1 / 0 does when a row isn't seen.
append_to_file("$dir/events.sql", q{
INSERT INTO events (v) VALUES (0) RETURNING id AS mine
\gset
SELECT 1 / count(*) FROM events WHERE id = :mine;
SELECT bump(:mine);
SELECT 1 / (v = 1)::int FROM events WHERE id = :mine;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) AS seen FROM events WHERE id > :mine - 100
\gset
SELECT 1 / (count(*) = :seen)::int FROM events WHERE id > :mine - 100;
END;
});
append_to_file("$dir/outbox.sql", q{
SELECT gen_random_uuid() AS mine
\gset
INSERT INTO outbox (event_id, saga_id, aggregate_type, aggregate_id, event_type, payload, headers, status, created_at)
	VALUES (CAST(:mine AS uuid), 's', 'saga', 'a', 'e', '{}', '{}', 'pending', now()) RETURNING *;
WITH c AS (SELECT event_id FROM outbox WHERE status = 'pending' AND created_at <= now() ORDER BY created_at LIMIT 2 FOR UPDATE SKIP LOCKED)
	UPDATE outbox SET status = 'claimed', claimed_at = now(), worker_id = 'w' WHERE event_id IN (SELECT event_id FROM c) RETURNING *;
UPDATE outbox SET status = 'sent', sent_at = now() WHERE event_id = CAST(:mine AS uuid);
SELECT 1 / (count(*) = 1 AND max(status) = 'sent')::int FROM outbox WHERE event_id = CAST(:mine AS uuid);
SELECT count(*) FROM outbox WHERE status = 'pending';
});

my @running;

sub bench
{
	my ($script, @where) = @_;
	my $errors = "$dir/errors" . @running;
	my $process = IPC::Run::start([ 'pgbench', '-n', '-c', 2, '-R', 100, '-T', 100000, '-f', "$dir/$script.sql", @where ],
		'>', '/dev/null', '2>', $errors);

	push @running, { script => $script, process => $process, errors => $errors };
	return;
}

my @direct = ('-h', $node->host, '-p', $node->port, 'postgres');
my $user = getpwuid($<);
my $pgbouncer = (grep { -x $_ } '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer')[0];
my $bouncer;
if ($pgbouncer)
{
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	append_to_file("$dir/users", "\"$user\" \"\"\n");
	append_to_file("$dir/ini", "[databases]\npostgres = host=" . $node->host . ' port=' . $node->port . " user=$user\n"
		. "[pgbouncer]\nlisten_port=$port\nlisten_addr=\nunix_socket_dir=$dir\nauth_type=any\nauth_file=$dir/users\n"
		. "pool_mode=transaction\ndefault_pool_size=2\nlogfile=$dir/log\npidfile=$dir/pid\n");
	$bouncer = IPC::Run::start([ $pgbouncer, "$dir/ini" ], '>', '/dev/null', '2>', '/dev/null');
	for (1 .. 100) { last if -S "$dir/.s.PGSQL.$port"; usleep(50_000) }
	bench('outbox', '-M', 'extended', '-h', $dir, '-p', $port, '-U', $user, 'postgres');
}
bench('outbox', '-M', 'prepared', @direct);
bench('events', '-M', 'prepared', @direct);

foreach my $round (1 .. $rounds)
{
	foreach my $table ([ 'events', 'at' ], [ 'outbox', 'created_at' ])
	{
		$node->safe_psql('postgres', "SELECT sagaz_ha.partition_table('$table->[0]', '$table->[1]', '1 day')");
		converted($node, $table->[0], "round $round: $table->[0] is partitioned");
		$node->safe_psql('postgres', "SELECT sagaz_ha.unpartition_table('$table->[0]')") if $round < $rounds;
	}
}
my @errors = map { slurp_file($_->{errors}) } @running;
$_->{process}->kill_kill foreach @running;
is($node->safe_psql('postgres', 'SELECT count(*) = count(DISTINCT id) AND count(*) = count(DISTINCT n) FROM events'), 't', 'no number came twice');
is($node->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT event_id) FROM outbox'), '0', 'no event came twice');
is(join('', grep { /error|ERROR/ } @errors), '', 'no statement failed');
note($node->safe_psql('postgres', q{SELECT string_agg(details, E'\n') FROM sagaz_ha.partition_history WHERE details ~ 'longest'}));
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM events WHERE v = 1 AND id > 5000) >= 10, (SELECT count(*) FROM outbox WHERE status = 'sent') >= 10,
	(SELECT count(*) FROM events WHERE id <= 5000)}), 't|t|5000', 'and rows came, beside those of the beginning');
note($node->safe_psql('postgres', q{SELECT count(*) FROM events}) . ' events, ' . $node->safe_psql('postgres', 'SELECT count(*) FROM outbox') . ' in the outbox');
$bouncer->kill_kill if $bouncer;
$node->stop;
done_testing();
