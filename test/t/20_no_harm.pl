# What must not do harm: statements of people without rights, partitions that
# somebody else detaches, fences, locks on one table among many, settings.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('no_harm', conf => q{
sagaz_ha.naptime = 1
sagaz_ha.lock_timeout = 200ms
});
my $sql = sub { return $node->safe_psql('postgres', shift) };

sub state_of
{
	my ($partition) = @_;

	return $sql->(qq{SELECT coalesce(string_agg(action, ' ' ORDER BY id), '')
		FROM sagaz_ha.partition_history WHERE partition_name = '$partition'});
}

# Holds a lock until it is told to quit.
sub locker
{
	my ($lock) = @_;
	my $session = $node->background_psql('postgres');

	$session->query_safe("BEGIN; LOCK TABLE $lock MODE");
	return $session;
}

$sql->('CREATE EXTENSION sagaz_ha; CREATE ROLE anybody LOGIN; CREATE DATABASE other');

# Anybody may ask for a database to be dropped or copied, and is refused.
my @as_anybody = (extra_params => [ '-U', 'anybody' ]);
my (undef, undef, $refused) =
  $node->psql('postgres', 'CREATE DATABASE x TEMPLATE 5', @as_anybody);
like($refused, qr/permission denied to create database/, 'a template that is a number is no crash');

$node->safe_psql('other', 'CREATE EXTENSION sagaz_ha');
stop_at($node, 'create:before_commit');
take_table($node, 'other', 'x', days => [ 0, 0 ], premake => 1);
my $pid = stopped_at($node, 'create:before_commit');
(undef, undef, $refused) = $node->psql('postgres', 'DROP DATABASE other', @as_anybody);
like($refused, qr/must be owner/, 'DROP DATABASE of another owner is refused');
is(stopped_at($node, 'create:before_commit'), $pid, 'and ends no worker');

# A hold that is cancelled doesn't last.
kill 'STOP', $pid;
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query("SET statement_timeout = '100ms'");
$session->query('DROP DATABASE other');
$session->query('RESET statement_timeout');
kill 'CONT', $pid;
let_go($node);
is_partitions($node, 'other', 'x', 0, 1, 'a cancelled DROP DATABASE keeps no worker out');
$session->quit;

# A partition that waited for a lock in the foreground is known as ours later.
stop_maintenance($node);
take_table($node, 'postgres', 'deferred', days => [ -4, 1 ], premake => 1);
my $reader = locker('deferred IN ACCESS SHARE');
$sql->(q{SELECT * FROM sagaz_ha.maintain_partitions('deferred')});
$reader->quit;
configure($node, 'sagaz_ha.enabled' => undef);
is_partitions($node, 'postgres', 'deferred', -3, 1, 'a partition that was deferred before is retired');
is_consistent($node, 'postgres', 'deferred', 'and dropped');

# One that its user detaches while it is being retired is the user's.
stop_at($node, 'announce:after_commit');
take_table($node, 'postgres', 'saved', days => [ -4, 1 ], premake => 1);
stopped_at($node, 'announce:after_commit');
my $partition = $sql->(q{SELECT partition_name FROM sagaz_ha.partition_history
	WHERE table_name = 'saved' AND action = 'DEFER' AND partition_name IS NOT NULL});
$sql->("ALTER TABLE saved DETACH PARTITION $partition");
let_go($node);
ok(when($node, 'postgres', "EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE partition_name = '$partition' AND action = 'DETACH')"), 'a detach of somebody else is recorded');
is($sql->("SELECT count(*) FROM $partition"), 1, 'and its table stays');
my $errors = q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ERROR'};
is($sql->($errors), 0, 'and it is no error');

# One that somebody, maybe another pass, drops or renames meanwhile.
my %change = (DROP => 'DROP TABLE %s', RENAME => 'ALTER TABLE %s RENAME TO %1$s_renamed');
foreach my $point (qw(announce:after_commit fence:after_commit detach:before detach:after_first_commit))
{
	foreach my $change (sort keys %change)
	{
		(my $table = lc "${change}_at_$point") =~ s/\W/_/g;

		stop_at($node, $point);
		take_table($node, 'postgres', $table, days => [ -4, 1 ], premake => 1, unfinished_when => 'NOT done');
		stopped_at($node, $point);
		$partition = $sql->("SELECT partition_name FROM sagaz_ha.partition_history
			WHERE table_name = '$table' AND action = 'DEFER' AND partition_name IS NOT NULL");
		$sql->(sprintf $change{$change}, $partition);
		let_go($node);
		is_partitions($node, 'postgres', $table, -3, 1, "$change at $point: the worker goes on");
		is($sql->($errors), 0, "$change at $point: and it is no error");
	}
}

# A fence that could not be lowered at once is lowered later.
stop_at($node, 'announce:after_commit');
take_table($node, 'postgres', 'fenced', days => [ -4, 1 ], premake => 1, unfinished_when => 'NOT done');
stopped_at($node, 'announce:after_commit');
$sql->("UPDATE fenced SET done = false WHERE created_at < sagaz_ha.clock() - interval '4 days'");
$partition = $sql->(q{SELECT partition_name FROM sagaz_ha.partition_history
	WHERE table_name = 'fenced' AND action = 'DEFER' AND partition_name IS NOT NULL});
stop_at($node, 'fence:after_commit');
stopped_at($node, 'fence:after_commit');
my $writer = locker("$partition IN ROW EXCLUSIVE");
my $logged = -s $node->logfile;
let_go($node);
ok(when($node, 'postgres', "EXISTS (SELECT FROM sagaz_ha.maintenance_status()
	WHERE waiting_for LIKE '%lock timeout%')"), 'a writer keeps the fence from being lowered');
$sql->('SELECT pg_sleep(3)');
is(scalar(log_lines($node, $logged, $partition)), 0, 'which is logged once, not in every pass');
$writer->quit;
ok(when($node, 'postgres', "EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE partition_name = '$partition' AND action = 'KEEP')"), 'then the partition is kept');
$sql->('UPDATE fenced SET done = true WHERE NOT done');
is_partitions($node, 'postgres', 'fenced', -3, 1, 'its row could be finished, and it is retired');

# A fence doesn't outlive its table's policy.
stop_at($node, 'fence:after_commit');
take_table($node, 'postgres', 'left_alone', days => [ -4, 1 ], premake => 1, unfinished_when => 'NOT done');
$pid = stopped_at($node, 'fence:after_commit');
$sql->("SELECT sagaz_ha.stop_managing_partitions('left_alone'); SELECT pg_terminate_backend($pid)");
let_go($node);
ok(when($node, 'postgres', "EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE table_name = 'left_alone' AND action = 'KEEP')"), 'a fenced partition that is managed no more is kept');
is($sql->('UPDATE left_alone SET done = false RETURNING 1'), join("\n", (1) x 6), 'and takes writes');

# A snapshot that is older than the detach, and has not touched the table yet.
my $old = $node->background_psql('postgres');
stop_maintenance($node);
take_table($node, 'postgres', 'seen', days => [ -4, 1 ], premake => 1);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
configure($node, 'sagaz_ha.enabled' => undef);
ok(when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.maintenance_status()
	WHERE waiting_for LIKE 'waiting for process %, in a transaction for %')}), 'a detach waits for an older snapshot');
my $locks = 0;
for (1 .. 20)
{
	$locks += $sql->(q{SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'
		AND relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'seen'::regclass); SELECT pg_sleep(0.1)});
}
is($locks, 0, 'with no lock on the partition');
is($old->query_safe('SELECT count(*) FROM seen'), 6, 'which that snapshot still sees');
$old->quit;
is_partitions($node, 'postgres', 'seen', -3, 1, 'and it is retired afterwards');

# A pending detach that somebody else began, and that has to wait in our hands.
# Without upkeep: its locks could be the first reason to wait, which is recorded.
stop_maintenance($node);
take_table($node, 'postgres', 'others', days => [ -1, 1 ], premake => 1, retention => '100 days',
	more => ', auto_analyze => false, auto_freeze => false');
$partition = $sql->(q{SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'others'::regclass});
$old = locker('others IN ACCESS SHARE');
my $older = $node->background_psql('postgres');
$older->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my (undef, undef, $pending) = $node->psql('postgres',
	"SET lock_timeout = 100;\nALTER TABLE others DETACH PARTITION $partition CONCURRENTLY");
like($pending, qr/lock timeout/, 'a user detaches a partition, and gives up');
$old->quit;
configure($node, 'sagaz_ha.enabled' => undef);
ok(when($node, 'postgres', "EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE partition_name = '$partition' AND details LIKE 'waiting for process %')"), 'the worker takes it over');
$sql->('SELECT pg_sleep(2)');
$older->quit;
ok(when($node, 'postgres', "EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE partition_name = '$partition' AND action = 'DETACH')"), 'and finishes it');
is($sql->("SELECT count(*) FROM $partition"), 1, 'and leaves the table alone');

# One table among many.
take_table($node, 'postgres', 'altered', days => [ 0, 1 ], premake => 1);
my $alter = locker('altered IN ACCESS EXCLUSIVE');
take_table($node, 'postgres', 'beside', days => [ 0, 0 ], premake => 1);
is_partitions($node, 'postgres', 'beside', 0, 1, 'a locked table stops no other');
$alter->quit;
when($node, 'postgres', q{NOT EXISTS (SELECT FROM pg_locks
	WHERE relation = 'altered'::regclass AND mode = 'AccessExclusiveLock')}) or die 'still locked';

$sql->(q{CREATE FUNCTION fail(boolean) RETURNS boolean LANGUAGE plpgsql STABLE
	AS $$BEGIN RAISE EXCEPTION USING MESSAGE = repeat(E'\x01', 3000), ERRCODE = '57014'; END$$});
take_table($node, 'postgres', 'failing', days => [ -4, 1 ], premake => 1, unfinished_when => 'fail(done)');
take_table($node, 'postgres', 'well', days => [ -4, 1 ], premake => 1);
is_partitions($node, 'postgres', 'well', -3, 1, 'nor does an error that is long and looks like a cancel');
is($sql->('SELECT count(*) FROM maintain_all_partitions()'), 1, 'nor in the foreground');
$sql->('DROP TABLE failing');

# Settings for people are not for the worker.
$node->safe_psql('other', q{ALTER DATABASE other SET default_transaction_read_only = on;
	ALTER DATABASE other SET default_transaction_isolation = 'serializable'});
$node->safe_psql('other', q{SET default_transaction_read_only = off;
	SELECT sagaz_ha.manage_partitions('x', '1 day', 2)});
is_partitions($node, 'other', 'x', 0, 2, 'a database that is read-only by default is maintained');

# Tables that come and go, but have no policy, are no work.
configure($node, 'sagaz_ha.naptime' => 60);
# what the reload has made due, and what was due before, is over
when($node, 'postgres', q{NOT EXISTS (SELECT FROM sagaz_ha.maintenance_status()
	WHERE process <> 'launcher' AND (pid IS NOT NULL OR next_pass IS NULL
		OR next_pass < clock_timestamp() + interval '30 seconds'))}) or die 'no rest';
my $passes = q{SELECT sum(passes) FROM sagaz_ha.maintenance_status() WHERE database = 'postgres'};
my $before = $sql->($passes);
$sql->('CREATE TEMPORARY TABLE t (); DROP TABLE t; SELECT pg_sleep(0.1);' x 20);
is($sql->($passes) - $before, 0, 'temporary tables wake no worker');

# The status of a database with another encoding.
$sql->("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
$sql->("CREATE DATABASE utf8 ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0");
$node->safe_psql('utf8', 'CREATE EXTENSION sagaz_ha');
$node->safe_psql('latin1', q{CREATE EXTENSION sagaz_ha;
	SET client_encoding = 'UTF8';
	CREATE TABLE "größe" (created_at timestamptz NOT NULL) PARTITION BY RANGE (created_at);
	CREATE TABLE "größe_y2026m03d10" ();
	SELECT sagaz_ha.manage_partitions('"größe"', '1 day', 1)});
ok(when($node, 'utf8', q{EXISTS (SELECT FROM sagaz_ha.maintenance_status()
	WHERE database = 'latin1' AND last_error LIKE '%gr??e_y2026m03d10%')}), 'a status that is in another encoding can be read');

# Another's schema is no place to be bound to.
$node->safe_psql('other', q{SET default_transaction_read_only = off; DROP EXTENSION sagaz_ha;
	CREATE SCHEMA app;
	CREATE FUNCTION app.hijack(interval, integer) RETURNS interval LANGUAGE plpgsql
		AS $$BEGIN RAISE EXCEPTION 'hijacked'; END$$;
	CREATE OPERATOR app./ (LEFTARG = interval, RIGHTARG = integer, FUNCTION = app.hijack);
	CREATE EXTENSION sagaz_ha SCHEMA app;
	SELECT sagaz_ha.manage_partitions('x', '1 day', 2)});
cmp_ok($node->safe_psql('other', 'SELECT count(*) FROM sagaz_ha.partition_health()'), '>', 0,
	'health calls nobody else\'s operators');

$node->stop;
done_testing();
