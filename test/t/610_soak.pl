# Soak: time runs 1,000 times faster, so partitions are made and retired all the
# while, beside writers, long readers on a primary and its standby, and a kill
# of some process or server every few seconds. No row is lost, at no moment and
# for no reader; then everything is as if nothing had happened.
#
# SAGAZ_SOAK_SECONDS (60) is how long the kills go on: 300 in CI, 3600 by hand.
# SAGAZ_SEED repeats the same kills, though not their timing.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run qw(start finish);
use List::Util qw(sum);
use POSIX qw(strftime);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{SAGAZ_SOAK_SECONDS} || 60;
my $seed = srand($ENV{SAGAZ_SEED} || time);
my $speed = 1000;

# Then it goes on without kills, and the memory of what lasts must not grow.
my $calm_seconds = $seconds / 5 < 15 ? 15 : $seconds / 5;

note("SAGAZ_SEED=$seed SAGAZ_SOAK_SECONDS=$seconds");

# One partition of 3 hours is 10.8 s, and premake and retention cover crashes.
# standby_drain_timeout is of this clock too; a dead standby is always waited for.
my $conf = q{
sagaz_ha.naptime = 1s
sagaz_ha.standby_drain_timeout = 2000000s
log_checkpoints = off
wal_retrieve_retry_interval = 200ms
max_connections = 50
max_worker_processes = 16
include_if_exists = 'clock.conf'
};
my $primary = sagaz_server('primary', streaming => 1, conf => $conf);

$primary->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE SCHEMA archive;
	CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL,
		status text NOT NULL DEFAULT 'DONE', PRIMARY KEY (created_at, id)) PARTITION BY RANGE (created_at);
	CREATE INDEX ON events (created_at) WHERE status = 'PENDING';
	CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL,
		PRIMARY KEY (created_at, id)) PARTITION BY RANGE (created_at);

	-- written in the transaction that wrote, finished or opened the row
	CREATE TABLE ledger (name text, id bigint, created_at timestamptz NOT NULL,
		unfinished boolean NOT NULL, PRIMARY KEY (name, id));
	CREATE INDEX ON ledger (created_at) WHERE unfinished;

	-- what should be there now and isn't
	CREATE VIEW missing AS
		SELECT * FROM ledger AS l
		WHERE unfinished AND NOT EXISTS (SELECT FROM events AS e
			WHERE e.created_at = l.created_at AND e.id = l.id AND e.status = 'PENDING');

	-- a process of a type, at some moment of its life; null: none came by
	CREATE FUNCTION spot(type text) RETURNS integer LANGUAGE plpgsql AS $$
	DECLARE
		spotted integer;
	BEGIN
		FOR i IN 1 .. 300 LOOP
			PERFORM pg_stat_clear_snapshot();
			SELECT pid INTO spotted FROM pg_stat_activity
				WHERE backend_type = type AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1;
			EXIT WHEN spotted IS NOT NULL;
			PERFORM pg_sleep(0.005);
		END LOOP;
		PERFORM pg_sleep(random() * 0.1) WHERE type ~ 'worker|upkeep';
		RETURN spotted;
	END $$;
});

# Daily partitions that others had made, most of which have expired.
foreach my $table (qw(events audit))
{
	add_partitions($primary, 'postgres', $table, -6, -1);
	$primary->safe_psql('postgres',
		"INSERT INTO ledger SELECT '$table', id, created_at, false FROM $table");
}

my $standby = standby_of($primary, 'standby', slot => 'standby',
	conf => "wal_receiver_status_interval = 1s\n");
my %node = (primary => $primary, standby => $standby);
my %offset = map { $_ => -s $node{$_}->logfile } keys %node;

$primary->safe_psql('postgres', q{
	SELECT sagaz_ha.manage_partitions('events', '3 hours', 16, '12 hours',
		unfinished_when => $$status = 'PENDING'$$);
	SELECT sagaz_ha.manage_partitions('audit', '12 hours', 4, '1 day',
		retention_action => 'archive', archive_schema => 'archive')});
ok(defined when($primary, 'postgres', q{(SELECT count(*) = 2 AND bool_and(coalesce(covered_until >= premade_until, false))
	FROM sagaz_ha.coverage())}), 'partitions are made');

# -------- the clock

my $begin = time;

# Sets it to what it would be by now; through a file, so that it goes on while
# nobody can connect. From 2026-03-10 12:00 on: real time must not get in.
sub tick
{
	my $file = $primary->data_dir . '/clock.conf';
	my $clock = strftime('%Y-%m-%d %H:%M:%S+00', gmtime(1773144000 + (time - $begin) * $speed));

	append_to_file("$file.new", "sagaz_ha.clock = '$clock'\n");
	rename "$file.new", $file or die "$file: $!";
	kill 'HUP', (split /\n/, slurp_file($primary->data_dir . '/postmaster.pid'))[0];
	return;
}

# -------- clients, who begin again when their session is lost

my @clients;
my $stop = $primary->basedir . '/stop';

# Executes a script over and over, until there is the file $stop, or this process is gone.
sub client
{
	my ($node, $name, $script) = @_;
	my $file = $primary->basedir . "/$name";

	append_to_file("$file.sql", $script);
	push @clients, {
		name => $name,
		file => $file,
		run => start [ 'sh', '-c',
			'while [ ! -e "$1" ] && kill -0 "$4" 2>/dev/null; do psql -XAtq -f "$2.sql" -d "$3" >>"$2.out" 2>>"$2.err" </dev/null || sleep 0.2; done',
			'sh', $stop, $file, $node->connstr('postgres'), $$ ] };
	return;
}

# A statement each 100 ms; its output is written once it has committed.
sub writer
{
	my ($name, $statement) = @_;

	client($primary, $name, join '', ("$statement;\nSELECT pg_sleep(0.1) \\g /dev/null\n") x 20);
	return;
}

sub insert
{
	my ($table, $columns, $values, $unfinished) = @_;

	return qq{WITH w AS (INSERT INTO $table ($columns) $values RETURNING *),
		l AS (INSERT INTO ledger SELECT '$table', id, created_at, $unfinished FROM w)
		SELECT 'acknowledged', '$table', id, created_at, $unfinished FROM w};
}

# Every 500th is never finished. The oldest partitions, which are being retired
# or the next to be, get late rows, and rows that are opened again.
writer('insert', insert('events', 'created_at, status',
	q{SELECT sagaz_ha.clock() + (random() * 8 - 4) * interval '1 hour',
		CASE WHEN random() < 0.5 THEN 'PENDING' ELSE 'DONE' END}, q{status = 'PENDING'}));
writer('late', insert('events', 'created_at, status',
	q{SELECT sagaz_ha.clock() - (12 + random() * 12) * interval '1 hour', 'PENDING'}, 'true'));
writer('audit', insert('audit', 'created_at',
	q{SELECT sagaz_ha.clock() + (random() * 8 - 4) * interval '1 hour'}, 'false'));
writer('open', q{WITH w AS (UPDATE events SET status = 'PENDING' WHERE (created_at, id) = (
			SELECT created_at, id FROM events WHERE status = 'DONE' AND id % 500 <> 0
				AND created_at < sagaz_ha.clock() - interval '11 hours' ORDER BY random() LIMIT 1)
		AND status = 'DONE' RETURNING id)
	UPDATE ledger AS l SET unfinished = true FROM w WHERE l.name = 'events' AND l.id = w.id
	RETURNING 'opened', l.id});
my $finish = q{WITH w AS (UPDATE events SET status = 'DONE' WHERE (created_at, id) IN (
			SELECT created_at, id FROM events WHERE status = 'PENDING' AND (id % 500 <> 0 OR all_of_them)
				ORDER BY created_at LIMIT 10)
		AND status = 'PENDING' RETURNING id)
	UPDATE ledger AS l SET unfinished = false FROM w WHERE l.name = 'events' AND l.id = w.id
	RETURNING 'finished', l.id};
writer('finish', $finish =~ s/all_of_them/false/r);

# As pg_cron would do it, beside the worker.
client($primary, 'caller', q{SELECT count(*) FROM maintain_all_partitions();
SELECT count(*) FROM sagaz_ha.metrics();
SELECT pg_sleep(1) \g /dev/null
} x 5);

# Reads twice in a transaction of some seconds.
sub reader
{
	my ($node, $name, $longest) = @_;

	client($node, $name, qq{\\set ON_ERROR_STOP 1
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) AS first FROM events \\gset
SELECT count(*) AS missing, coalesce(min(created_at || ' ' || id), '') AS which FROM missing \\gset
SELECT pg_sleep(random() * $longest) \\g /dev/null
SELECT count(*) AS second FROM events \\gset
SELECT CASE WHEN :missing = 0 AND :first = :second THEN 'same' ELSE 'different' END,
	:missing, :'which', :first, :second;
COMMIT;
});
	return;
}
reader($primary, 'reader_primary', 4);
reader($standby, 'reader_standby', 6);
reader($standby, 'reader_standby_short', 1);

# -------- kills

# node, type of process, signal; no type: the server is stopped and started
my @kills = (
	[ 'primary', 'sagaz_ha worker', 'TERM' ],
	[ 'primary', 'sagaz_ha worker', 'KILL' ],
	[ 'primary', 'sagaz_ha retirement', 'TERM' ],
	[ 'primary', 'sagaz_ha retirement', 'KILL' ],
	[ 'primary', 'sagaz_ha upkeep', 'TERM' ],
	[ 'primary', 'sagaz_ha upkeep', 'KILL' ],
	[ 'primary', 'sagaz_ha launcher', 'TERM' ],
	[ 'primary', 'sagaz_ha launcher', 'KILL' ],
	[ 'primary', 'client backend', 'TERM' ],
	[ 'primary', 'client backend', 'KILL' ],
	[ 'primary', 'walsender', 'TERM' ],
	[ 'primary', undef ],
	[ 'standby', 'client backend', 'KILL' ],
	[ 'standby', 'sagaz_ha standby guard', 'TERM' ],
	[ 'standby', 'sagaz_ha standby guard', 'KILL' ],
	[ 'standby', 'walreceiver', 'TERM' ],
	[ 'standby', undef ]);
my %killed;

# Skipped while nobody can connect, or when no such process comes by.
sub kill_one
{
	my ($where, $type, $signal) = @{ $kills[ rand @kills ] };
	my $node = $node{$where};
	my $what = "$where " . (defined $type ? "$type $signal" : 'immediate stop');

	if (defined $type)
	{
		my ($status, $pid) = $node->psql('postgres', "SELECT spot('$type')");
		return unless $status == 0 && $pid =~ /^\d+$/ && kill($signal, $pid) == 1;
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	$killed{$what}++;
	return;
}

# Waits for a condition; longer after a long soak, which leaves more to do.
sub settles
{
	my ($condition, $name) = @_;
	my $settled = 0;

	for (my $tries = 0; !$settled && $tries <= $seconds / 300; $tries++)
	{
		$settled = $primary->poll_query_until('postgres', "SELECT $condition");
	}
	ok($settled, $name)
	  or diag($primary->safe_psql('postgres', 'SELECT * FROM sagaz_ha.plan_partition_maintenance();
		SELECT * FROM sagaz_ha.maintenance_status(); SELECT * FROM sagaz_ha.partition_health()'));
	return;
}

sub history
{
	my ($condition) = @_;

	return $primary->safe_psql('postgres', "SELECT count(*) FROM sagaz_ha.partition_history WHERE $condition");
}

my $next_kill = 0;
while (time < $begin + $seconds)
{
	tick();
	if (time > $next_kill)
	{
		kill_one();
		$next_kill = time + 1 + rand 4;
	}
	usleep(500_000);
}
$_->poll_query_until('postgres', 'SELECT true') or die $_->name . ' did not come back' foreach values %node;
my $kills = 0;
$kills += $_ foreach values %killed;
note("kills: $kills, " . join ', ', map { "$_ $killed{$_}" } sort keys %killed);
cmp_ok($kills, '>=', $seconds / 15, 'there were kills all the while');

# -------- calm: memory of what lasts

my @lasting = (
	[ 'primary', 'sagaz_ha launcher' ],
	[ 'primary', 'sagaz_ha sampler' ],
	[ 'standby', 'sagaz_ha standby launcher' ],
	[ 'standby', 'sagaz_ha standby guard' ],
	[ 'standby', 'sagaz_ha sampler' ]);
my $passes = q{SELECT passes FROM sagaz_ha.maintenance_status() WHERE process = 'worker' AND database = 'postgres'};

sub calm_for
{
	my ($time) = @_;
	my $end = time + $time;

	while (time < $end)
	{
		tick();
		usleep(200_000);
	}
	return;
}

calm_for($calm_seconds / 3);
foreach my $lasting (@lasting)
{
	my ($where, $type) = @$lasting;

	when($node{$where}, 'postgres', "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = '$type')");
}
# who only just came has done by then what it does over and over
calm_for(3);
push @$_, memory_of($node{ $_->[0] }, $_->[1]) foreach @lasting;
my $passes_before = $primary->safe_psql('postgres', $passes);
calm_for($calm_seconds);
my $calm_passes = $primary->safe_psql('postgres', $passes) - $passes_before;
cmp_ok($calm_passes, '>=', $calm_seconds / 5, 'there are passes without kills');
note("calm: $calm_passes passes");
foreach my $lasting (@lasting)
{
	my ($where, $type, $pid, $used) = @$lasting;

	is($node{$where}->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'"),
		$pid, "$where: the $type lives on");
	takes_no_more($node{$where}, $type, $used, 16384, "$where: and the $type takes no more memory");
}

# -------- the end: time stands still

append_to_file($stop, '');
finish $_->{run} foreach @clients;
my $end = $primary->safe_psql('postgres', 'SELECT sagaz_ha.clock()');
note("it is $end, after " . int(time - $begin) . ' s');
settles(q{NOT EXISTS (SELECT FROM sagaz_ha.plan_partition_maintenance() WHERE action <> 'KEEP')
	AND NOT EXISTS (SELECT FROM partition_metadata WHERE state = 'expired')
	AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)}, 'all that is due is done');

note('history: ' . $primary->safe_psql('postgres',
	q{SELECT string_agg(table_name || ' ' || action || ' ' || n, ', ' ORDER BY table_name, action)
	FROM (SELECT table_name, action, count(*) AS n FROM sagaz_ha.partition_history GROUP BY 1, 2) AS h}));

# By rate, so that this can't pass by doing nothing: a partition of events is
# due each 10.8 s, and of audit each 43 s. Of events many are kept: who finishes
# rows is later than who writes them, and may be much later on a slow machine.
my $hours = $primary->safe_psql('postgres',
	q{SELECT extract(epoch FROM sagaz_ha.clock() - '2026-03-10 12:00+00') / 3600});
cmp_ok(history(q{table_name = 'events' AND action = 'CREATE'}), '>=', $hours / 3, 'events: partitions were made');
cmp_ok(history(q{table_name = 'events' AND action = 'DROP'}), '>=', 1 + $hours / 24, 'events: and some dropped');
cmp_ok(history(q{table_name = 'events' AND action = 'KEEP'}), '>=', 1, 'events: or kept');
cmp_ok(history(q{table_name = 'audit' AND action = 'DETACH'}), '>=', 4 + $hours / 12 / 2, 'audit: partitions were archived');

# -------- what clients were told

my %out = map { $_->{name} => [ -e "$_->{file}.out" ? split /\n/, slurp_file("$_->{file}.out") : () ] } @clients;
my %err = map { $_->{name} => slurp_file("$_->{file}.err") } @clients;

note(join ', ', map { "$_: " . @{ $out{$_} } } sort keys %out);
cmp_ok(scalar @{ $out{$_} }, '>=', $seconds / 4, "$_: statements succeed") foreach qw(insert late audit finish open);
foreach my $name (qw(reader_primary reader_standby reader_standby_short))
{
	# a session killed between a result and its end: psql shows the bare count
	is_deeply([ grep { !/^same\||^\d+$/ } @{ $out{$name} } ], [], "$name: nothing unfinished is ever missing, and a snapshot stays");
	cmp_ok(scalar @{ $out{$name} }, '>=', $seconds / 20, "$name: transactions come to their end");
}

# What a client is told of kills.
my $of_kills = join '|', 'server closed the connection', 'probably means the server terminated',
  'before or while processing', 'connection to server', 'terminating connection', 'the database system is', 'Consistent recovery state',
  'Is the server running', 'could not receive', 'administrator command', 'crash of another server process',
  'commanded this server process', 'exited abnormally', 'In a moment you should', 'no connection to the server';
my %may = (
	late => qr/no partition of relation "events" found for row/,
	# after a crash, which loses the slot's xmin; and beside anybody's pruning
	reader_standby => qr/canceling statement due to conflict with recovery|row versions that must be removed|shared buffer pin/,
	insert => qr/^$/, audit => qr/^$/, caller => qr/^$/, reader_primary => qr/^$/);
$may{reader_standby_short} = $may{reader_standby};
my $refused = qr/is being retired and takes no more writes/;
foreach my $name (sort keys %err)
{
	my $may = $may{$name} // $refused;
	my %seen;

	$may = qr/$may|$refused/ if $name eq 'late';
	foreach my $line (split /\n/, $err{$name})
	{
		# other lines belong to the message above them
		(my $message = $line) =~ s/^psql\S* // or next;
		next if $message =~ /$of_kills/;
		$seen{$message}++ unless $message =~ $may;
	}
	is_deeply(\%seen, {}, "$name: nothing is refused but to who is late");
}

# -------- rows

my $acknowledged = $primary->basedir . '/acknowledged';
append_to_file($acknowledged, join '', map { "$_\n" }
	map { /^acknowledged\|(\w+\|\d+\|[^|]+\|[tf])$/ ? $1 : () } map { @$_ } values %out);
is($primary->safe_psql('postgres', q{SELECT count(*) FROM missing}), '0', 'nothing unfinished is lost');
is($primary->safe_psql('postgres', qq{
	CREATE TABLE acknowledged (name text, id bigint, created_at timestamptz, unfinished boolean);
	\\copy acknowledged FROM '$acknowledged' (DELIMITER '|')
	SELECT count(*) FROM acknowledged AS a WHERE NOT EXISTS (
		SELECT FROM ledger AS l WHERE (l.name, l.id, l.created_at) = (a.name, a.id, a.created_at))}),
	'0', 'nor is anything that a client was told of');
is($primary->safe_psql('postgres', q{
	SELECT count(*) FROM acknowledged AS a WHERE name = 'events' AND unfinished AND id % 500 = 0
		AND NOT EXISTS (SELECT FROM events AS e WHERE (e.id, e.created_at, e.status) = (a.id, a.created_at, 'PENDING'))}),
	'0', 'nor what a client was told of and nobody finished');
is($primary->safe_psql('postgres', q{
	SELECT count(*) FROM ledger AS l WHERE name = 'events' AND created_at >= sagaz_ha.clock() - interval '12 hours'
		AND NOT EXISTS (SELECT FROM events AS e WHERE e.created_at = l.created_at AND e.id = l.id)}),
	'0', 'nor anything that has not expired');
is($primary->safe_psql('postgres', q{
	SELECT count(*) FROM events AS e WHERE NOT EXISTS (SELECT FROM ledger AS l
		WHERE l.name = 'events' AND l.id = e.id AND l.created_at = e.created_at AND l.unfinished = (e.status = 'PENDING'))}),
	'0', 'and all that is there was written');

# What is archived is all there.
my $everything = $primary->safe_psql('postgres', q{
	SELECT string_agg('SELECT id, created_at FROM ' || r, ' UNION ALL ')
	FROM (SELECT 'audit' AS r UNION ALL SELECT oid::regclass::text FROM pg_class
		WHERE relnamespace = 'archive'::regnamespace AND relkind = 'r') AS r});
is($primary->safe_psql('postgres', qq{
	SELECT count(*), count(*) FILTER (WHERE l.id IS NULL), count(*) FILTER (WHERE a.id IS NULL)
	FROM (SELECT * FROM ledger WHERE name = 'audit') AS l
	FULL JOIN ($everything) AS a ON (a.id, a.created_at) = (l.id, l.created_at)}),
	$primary->safe_psql('postgres', q{SELECT count(*) || '|0|0' FROM ledger WHERE name = 'audit'}),
	'audit: every row that was ever written is there once, archived or not');

# -------- partitions

my $kept = $primary->safe_psql('postgres', q{SELECT kept FROM get_partition_statistics() WHERE table_name = 'events'});
note("kept: $kept partitions of events");
is($primary->safe_psql('postgres', q{SELECT count(DISTINCT p.partition) FROM sagaz_ha.partitions() AS p, events AS e
	WHERE p.table_name = 'events' AND p.state = 'expired' AND e.tableoid = p.partition AND e.status = 'PENDING'}),
	$kept, 'exactly those are kept that have unfinished rows');
cmp_ok($kept + history(q{table_name = 'events' AND action = 'DROP'}), '>=', $hours / 3,
	'all others were dropped as they were made');
$primary->safe_psql('postgres', $finish =~ s/all_of_them/true/r =~ s/LIMIT 10//r);
settles(q{NOT EXISTS (SELECT FROM sagaz_ha.plan_partition_maintenance())
	AND NOT EXISTS (SELECT FROM sagaz_ha.partitions() WHERE state = 'expired' OR state = 'detaching')},
	'when all is finished, all is retired');
cmp_ok(history(q{table_name = 'events' AND action = 'DROP'}), '>=', $hours / 3, 'events: and in the end they are as well');
is_consistent($primary, 'postgres', 'events', 'events: bounds, history and catalogs agree');
is($primary->safe_psql('postgres', q{
	SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND NOT relispartition
		AND relnamespace = 'public'::regnamespace AND relname ~ '^(events|audit)_'}), '', 'no table is left without a parent');
is($primary->safe_psql('postgres', q{
	SELECT table_name, check_name, status, details FROM sagaz_ha.partition_health() WHERE status <> 'ok'}),
	'', 'all is healthy');
$primary->wait_for_catchup($standby);
my $listing = q{SELECT string_agg(partition::text || partition_start || partition_end, ' ' ORDER BY 1) FROM partition_metadata};
is($standby->safe_psql('postgres', $listing), $primary->safe_psql('postgres', $listing), 'the standby has the same');

# -------- locks

foreach my $name (sort keys %node)
{
	ok(defined when($node{$name}, 'postgres', q{NOT EXISTS (
		SELECT FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
		WHERE l.locktype <> 'virtualxid' AND l.pid IS DISTINCT FROM pg_backend_pid()
			AND (a.pid IS NULL OR a.backend_type ~ '^(sagaz_ha|startup)'))}),
		"$name: no lock is left");
}
ok(defined when($primary, 'postgres', q{(SELECT count(*) FROM pg_stat_activity
	WHERE backend_type = 'sagaz_ha launcher' AND xact_start IS NULL) = 1}), 'nor a transaction of the launcher');

# -------- memory of a session that does it all over and over

my $session = $primary->background_psql('postgres');
my $used = 'SELECT sum(used_bytes) FROM pg_backend_memory_contexts';

sub call_everything
{
	my ($times) = @_;

	$session->query_safe(qq{
		DO \$\$ BEGIN
			FOR i IN 1 .. $times LOOP
				PERFORM maintain_all_partitions();
				PERFORM sagaz_ha.metrics();
				PERFORM sagaz_ha.partition_health();
				PERFORM sagaz_ha.plan_partition_maintenance();
				PERFORM get_partition_statistics();
				COMMIT;
			END LOOP;
		END \$\$});
	return $session->query_safe($used);
}

call_everything(10);
my $session_used = call_everything(10);
my $session_now = call_everything(100);
cmp_ok($session_now, '<=', $session_used + 16384, 'a session that calls everything 100 times takes no more memory');
note("session: $session_used bytes, then $session_now");
$session->quit;

# -------- logs

# A line for each row of the history, some for each kill, and nothing else.
my $rows = history('true');
my %lines;
foreach my $line (log_lines($primary, $offset{primary}, qr/sagaz_ha/))
{
	next if $line =~ /parameter "sagaz_ha.clock" changed|logging memory contexts|LOG:  level: |Grand total: |STATEMENT: /;
	$line =~ s/^.*?\] (?:.*?)(LOG|FATAL|WARNING|ERROR|DETAIL|HINT|CONTEXT|STATEMENT):  /$1: /;
	$line =~ s/(events|audit)_\w+/*/g;
	$line =~ s/'[^']*'|\d+|".*?"/#/g;
	$lines{ substr $line, 0, 70 }++;
}
my $lines = 0;
$lines += $_ foreach values %lines;
note("log: $lines lines for $rows rows of history and $kills kills");
note("log: $lines{$_} x $_") foreach sort { $lines{$b} <=> $lines{$a} } keys %lines;
cmp_ok($lines, '<=', $rows + 20 * ($kills + 1), 'the log is within bounds');
my $partitions = $primary->safe_psql('postgres', 'SELECT count(DISTINCT partition) FROM sagaz_ha.partition_history');
note("history: $rows rows for $partitions partitions");
cmp_ok($rows, '<=', 8 * $partitions + 10 * $kills, 'so is the history');
is($primary->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ERROR'}), '0',
	'the worker met no error');
my @conflicts = log_lines($standby, $offset{standby}, qr/User was holding a relation lock/);
is_deeply(\@conflicts, [], 'no query on the standby was cancelled because of a lock');
my $cancelled = () = log_lines($standby, $offset{standby}, qr/row versions that must be removed/);
# The slot has no xmin at first, and loses it with a crash. Then both readers may
# be cancelled, until the next feedback.
my $crashes = sum(0, @killed{ grep { /^primary .*(KILL|immediate)/ } keys %killed });
cmp_ok($cancelled, '<=', 2 * (1 + $crashes),
	'only those for rows that were vacuumed when a crash of the primary had lost their xmin');
note("cancelled for rows: $cancelled, after $crashes crashes of the primary");
foreach my $name (sort keys %node)
{
	is_deeply([ log_lines($node{$name}, $offset{$name}, qr/PANIC|TRAP|terminated by signal (?!9\b)/) ], [], "$name: nothing crashed by itself");
}

$_->stop('fast') foreach $standby, $primary;
done_testing();
