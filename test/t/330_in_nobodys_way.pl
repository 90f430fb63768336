# The worker never holds anything up: statements that need the database for
# themselves, a stop of the server, and locks that others need or have.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

# What "promptly" means, in seconds.
my $prompt = 5;

my $node = sagaz_server('main', conf => q{
sagaz_ha.naptime = 1s
deadlock_timeout = 20ms
log_lock_waits = on
});
$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');

# A database with a worker that is busy at the point.
sub busy_database
{
	my ($database, $point) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION sagaz_ha');
	stop_at($node, $point);
	take_table($node, $database, 'events', days => [ -5, 0 ], unfinished_when => 'NOT done');
	return stopped_at($node, $point);
}

sub is_prompt
{
	my ($database, $sql, $name) = @_;
	my ($status, $error);
	# Longer than our processes', as it is by default: of a deadlock, they end.
	local $ENV{PGOPTIONS} = '-c deadlock_timeout=1s';
	my $took = elapsed(sub { ($status, undef, $error) = $node->psql($database, $sql) });

	is("$status $error", '0 ', $name);
	is_within($took, $prompt, "$name, promptly");
	return;
}

# -------- statements that need the database, or the extension, for themselves

my $tablespace = PostgreSQL::Test::Utils::tempdir;
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$tablespace'");

foreach my $point (qw(create:before_commit create:after_commit announce:before_commit
	fence:before_commit detach:before detach:after_first_commit finalize:before_commit))
{
	(my $database = $point) =~ s/\W/_/;

	busy_database($database, $point);
	is_prompt('postgres', "CREATE DATABASE copied TEMPLATE $database", "CREATE DATABASE TEMPLATE at $point");
	is_prompt('postgres', "ALTER DATABASE $database RENAME TO renamed", "RENAME at $point");
	my $since = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	is_prompt('postgres', 'ALTER DATABASE renamed SET TABLESPACE elsewhere', "SET TABLESPACE at $point");
	# it may be through with its work already
	ok(defined when($node, 'postgres', qq{EXISTS (SELECT FROM sagaz_ha.maintenance_status()
		WHERE database = 'renamed' AND process = 'worker' AND (pid IS NOT NULL OR last_pass > '$since'))}),
		"and then the worker comes back");
	is_prompt('postgres', "DROP DATABASE $_", "DROP DATABASE $_ at $point") foreach qw(renamed copied);
}

# DROP EXTENSION waits for a transaction of a worker, and no longer.
foreach my $point (qw(create:after_commit announce:after_commit fence:after_commit detach:before
	detach:after_first_commit finalize:after_commit))
{
	(my $database = "drop_$point") =~ s/\W/_/;

	busy_database($database, $point);
	is_prompt($database, 'DROP EXTENSION sagaz_ha', "DROP EXTENSION at $point");
	is_prompt($database, 'DROP TABLE events', "DROP TABLE at $point");
	is_prompt('postgres', "DROP DATABASE $database", "DROP DATABASE at $point, without extension");
}
let_go($node);

# -------- being terminated

$node->safe_psql('postgres', 'CREATE DATABASE one');
$node->safe_psql('one', 'CREATE EXTENSION sagaz_ha');
take_table($node, 'one', 'events', days => [ -5, 0 ], unfinished_when => 'NOT done');
is_partitions($node, 'one', 'events', -3, 3, 'after all that, another database is maintained');
stop_at($node, 'create:before_commit', 'sagaz_ha.clock' => '2026-03-11 12:00:00+00');
foreach my $process (qw(worker launcher))
{
	my $query = "SELECT pid FROM sagaz_ha.maintenance_status()
		WHERE process = '$process' AND pid IS NOT NULL AND coalesce(database, 'one') = 'one'";

	stopped_at($node, 'create:before_commit');
	my $pid = $node->safe_psql('postgres', $query);
	is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)"), 't',
		"a $process that is terminated obeys");
	is_within(when($node, 'postgres', "($query) <> $pid"), $prompt, "the $process comes back");
}
let_go($node);
is_partitions($node, 'one', 'events', -3, 3, 'and goes on with its work');

# -------- locks of others

# Both directions of foreign keys, and a default partition: the exclusive lock
# is tried and never queued for.
$node->safe_psql('one', q{
	CREATE TABLE topics (id bigint PRIMARY KEY);
	CREATE TABLE orders (id bigint, created_at timestamptz, topic bigint REFERENCES topics,
		PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at);
	CREATE TABLE orders_rest PARTITION OF orders DEFAULT;
	CREATE TABLE items (orders bigint, created_at timestamptz,
		FOREIGN KEY (orders, created_at) REFERENCES orders)});
$node->safe_psql('one', q{
	SELECT format('CREATE TABLE %I PARTITION OF orders FOR VALUES FROM (%L) TO (%L)',
			'orders_' || to_char(d, '"y"YYYY"m"MM"d"DD'), d, d + interval '1 day')
		FROM (SELECT date_trunc('day', sagaz_ha.clock()) + n * interval '1 day' AS d
			FROM generate_series(-6, 0) AS n) AS days \gexec
	INSERT INTO topics VALUES (1);
	INSERT INTO orders SELECT 1, date_trunc('day', sagaz_ha.clock()), 1;
	INSERT INTO items SELECT 1, date_trunc('day', sagaz_ha.clock())});

my $offset = -s $node->logfile;
my $reader = $node->background_psql('one');
$reader->query_safe('BEGIN; SELECT count(*) FROM orders, items');
my $reader_pid = $reader->query_safe('SELECT pg_backend_pid()');
$node->safe_psql('one', q{SELECT sagaz_ha.manage_partitions('orders', '1 day', 3, '3 days')});
ok(defined when($node, 'one', q{EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE table_name = 'orders' AND action = 'DEFER')}), 'a drop whose lock cannot be had is deferred');
ok(defined when($node, 'one', qq{EXISTS (SELECT FROM sagaz_ha.maintenance_status()
	WHERE process = 'worker' AND database = 'one'
		AND waiting_for ~ '^table \\w+ is in use by process $reader_pid\\y')}),
	'and maintenance_status() says behind whom');
my $passes = q{SELECT passes FROM sagaz_ha.maintenance_status()
	WHERE process = 'worker' AND database = 'one'};
# a whole pass, so that each partition has been met
my $before = $node->safe_psql('postgres', $passes);
when($node, 'postgres', "($passes) > $before + 1") or die 'no pass';
my $deferrals = $node->safe_psql('one', q{SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'orders' AND action = 'DEFER'});
$before = $node->safe_psql('postgres', $passes);
ok(defined when($node, 'postgres', "($passes) > $before + 1"), 'it is tried again');
is($node->safe_psql('one', q{SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'orders' AND action = 'DEFER'}), $deferrals, 'without another row of history');
is_prompt('one', q{
	SET lock_timeout = '500ms';
	INSERT INTO orders SELECT 2, date_trunc('day', sagaz_ha.clock()), 1;
	INSERT INTO items SELECT 2, date_trunc('day', sagaz_ha.clock());
	SELECT count(*) FROM orders}, 'meanwhile others read and write');
$reader->query_safe('COMMIT');
is_within(when($node, 'one', q{count(*) = 8
		AND min(inhrelid::regclass::text) FILTER (WHERE inhrelid <> 'orders_rest'::regclass) = 'orders_y2026m03d08'
	FROM pg_inherits WHERE inhparent = 'orders'::regclass}), 10, 'once the lock is free, the drops are done');
is($node->safe_psql('one', 'SELECT count(*) FROM orders JOIN items ON orders = id'), '2',
	'with foreign keys intact');

# Somebody who holds a lock on the parent, and lets go of it.
$reader->query_safe('BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE');
configure($node, 'sagaz_ha.clock' => '2026-03-12 12:00:00+00');
ok(defined when($node, 'one', q{EXISTS (SELECT FROM pg_locks WHERE NOT granted
	AND relation = 'events'::regclass)}), 'a worker waits behind a lock of a user');
$reader->query_safe('COMMIT');
is_partitions($node, 'one', 'events', -3, 3, 'and goes on after it');

# -------- detaches of others

# It would be dropped when it expires, but who detached it wants to keep it.
$reader->query_safe(q{BEGIN; SELECT count(*) FROM events});
my $error;
foreach (1 .. 100)
{
	# the first lock may time out as well, behind a worker's
	(undef, undef, $error) = $node->psql('one', q{
		SET lock_timeout = '100ms';
		ALTER TABLE events DETACH PARTITION events_y2026m03d09 CONCURRENTLY});
	last if $node->safe_psql('one', 'SELECT count(*) FROM pg_inherits WHERE inhdetachpending') eq '1';
}
like($error, qr/lock timeout/, 'somebody leaves a detach pending');
configure($node, 'sagaz_ha.clock' => '2026-03-14 12:00:00+00');
ok(defined when($node, 'one', q{to_regclass('events_y2026m03d17') IS NOT NULL}),
	'partitions are made nevertheless');
is($node->safe_psql('one', q{SELECT inhrelid::regclass FROM pg_inherits WHERE inhdetachpending}),
	'events_y2026m03d09', 'it stays pending as long as somebody may see the partition');
$reader->query_safe('COMMIT');
is_within(is_partitions($node, 'one', 'events', -3, 3, 'then it is finished, and the drops go on'),
	10, 'soon');
is($node->safe_psql('one', 'SELECT count(*) FROM events_y2026m03d09'), '1',
	'and the table that somebody detached is kept');
is( $node->safe_psql('one', q{SELECT action FROM sagaz_ha.partition_history
	WHERE partition_name = 'events_y2026m03d09' ORDER BY id DESC LIMIT 1}),
	'DETACH', 'the history says that it was detached, not dropped');
$node->safe_psql('one', 'DROP TABLE events_y2026m03d09');

# A detach of ours that somebody else finishes: the table has no parent any more.
stop_at($node, 'detach:after_first_commit', 'sagaz_ha.clock' => '2026-03-15 12:00:00+00');
stopped_at($node, 'detach:after_first_commit');
my $victim = $node->safe_psql('one', 'SELECT inhrelid::regclass FROM pg_inherits WHERE inhdetachpending');
$node->safe_psql('one', "ALTER TABLE events DETACH PARTITION $victim FINALIZE");
let_go($node);
ok(defined when($node, 'one', "to_regclass('$victim') IS NULL"),
	'a detach that somebody else finished is ended as it began');
is_consistent($node, 'one', 'events', 'history and catalogs agree');

# a default partition's lock is waited for a little as coverage shrinks
my $rest = $node->safe_psql('one', "SELECT 'orders_rest'::regclass::oid");
is_deeply([ log_lines($node, $offset, qr/sagaz_ha .*still waiting for AccessExclusiveLock on relation (?!$rest )/) ], [],
	'the worker never queued for AccessExclusive');
$reader->quit;

# -------- stopping the server

foreach my $point (qw(create:before_commit announce:before_commit fence:before_commit detach:before
	detach:after_first_commit finalize:before_commit finalize:after_commit))
{
	foreach my $mode (qw(fast smart))
	{
		my $clock = $node->safe_psql('postgres', q{SELECT sagaz_ha.clock() + interval '1 day'});

		stop_at($node, $point, 'sagaz_ha.clock' => $clock);
		stopped_at($node, $point);
		is_within(elapsed(sub { $node->stop($mode) }), $prompt, "pg_ctl stop -m $mode at $point");
		$node->start;
	}
}

# A synchronous standby that isn't there: commits of others wait, ours don't.
configure($node, 'sagaz_ha.stop_at' => undef, 'synchronous_standby_names' => 'nobody',
	'sagaz_ha.clock' => '2026-04-10 12:00:00+00');
ok(defined when($node, 'one', q{to_regclass('events_y2026m04d13') IS NOT NULL}),
	'a synchronous standby that is missing does not stop maintenance');
stop_at($node, 'create:before_commit', 'sagaz_ha.clock' => '2026-04-11 12:00:00+00');
stopped_at($node, 'create:before_commit');
is_within(elapsed(sub { $node->stop('fast') }), $prompt, 'nor does it stop a fast stop');

done_testing();
