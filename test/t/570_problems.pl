# What is wrong now is one row as long as it lasts. An error is tried again later
# and later, but at once when something was changed; whoever records it holds up
# nobody else.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\n");

# Each time that a problem is written, and by whom.
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE ROLE ann;
	GRANT EXECUTE ON FUNCTION maintain_all_partitions() TO ann;
	CREATE TABLE tries (n bigint GENERATED ALWAYS AS IDENTITY, at timestamptz, who text,
		table_name text, action text, times integer, next_try timestamptz);
	CREATE FUNCTION note_try() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.tries (at, who, table_name, action, times, next_try)
			SELECT pg_catalog.clock_timestamp(), a.backend_type, NEW.table_name, NEW.action, NEW.times, NEW.next_try
			FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = pg_catalog.pg_backend_pid();
		RETURN NULL;
	END $$;
	CREATE TRIGGER note_try AFTER INSERT OR UPDATE ON sagaz_ha.problem
		FOR EACH ROW EXECUTE FUNCTION note_try()});

my $passes = q{(SELECT coalesce(sum(passes), 0) FROM sagaz_ha.maintenance_status() WHERE process = 'worker')};

sub sql
{
	return $node->safe_psql('postgres', @_);
}

sub holds
{
	my ($condition, $name) = @_;

	return ok(defined when($node, 'postgres', $condition), $name);
}

# Waits for whole passes: the one that runs may have begun before.
sub whole_passes
{
	my ($count) = @_;
	my $target = sql("SELECT $passes") + $count + 1;

	defined when($node, 'postgres', "$passes >= $target") or die 'no passes';
	return;
}

# The problems of a table, but for their times.
sub problems_of
{
	my ($table) = @_;

	return sql(qq{SELECT partition_name, parent, partition, action, sqlstate, found_by
		FROM sagaz_ha.problem WHERE table_name = '$table' ORDER BY partition_name});
}

sub errors_of
{
	my ($table) = @_;

	return sql(qq{SELECT status, value, details FROM sagaz_ha.partition_health()
		WHERE check_name = 'errors' AND table_name = '$table'});
}

# Puts a table's errors off by an hour, as many failures do; the worker may just
# be writing them. Then nobody tries them again.
sub put_off
{
	my ($table) = @_;
	my $left;

	foreach (1 .. 20)
	{
		sql(qq{UPDATE sagaz_ha.problem SET times = 12, next_try = now() + interval '59 minutes'
			WHERE table_name = '$table' AND action = 'ERROR'});
		whole_passes(1);
		$left = sql(qq{SELECT bool_and(times = 12 AND next_try > now() + interval '50 minutes')
			FROM sagaz_ha.problem WHERE table_name = '$table' AND action = 'ERROR'});
		return if $left eq 't';
	}
	die "the error of $table can't be put off";
}

# What brings an error that was put off back to the worker at once. A change lets
# the count begin again.
sub tried_at_once
{
	my ($table, $statement, $name, %option) = @_;
	my $times = $option{goes_on} ? '> 12' : '= 1';

	put_off($table);
	my $last = sql('SELECT max(n) FROM tries');
	sql($statement);
	holds(qq{EXISTS (SELECT FROM tries WHERE n > $last AND table_name = '$table' AND action = 'ERROR'
			AND who = 'sagaz_ha worker' AND times $times)}, $name)
	  or diag(sql("SELECT * FROM tries WHERE n > $last"));
	return;
}

# -------- an error is tried again later and later

my $before = sql("SELECT $passes");
take_table($node, 'postgres', 'taken', before => 'CREATE TABLE taken_y2026m03d11 ()');
take_table($node, 'postgres', 'works', days => [ -5, 0 ]);
is_partitions($node, 'postgres', 'works', -3, 3, 'a table beside one that fails is maintained');
my $clock = sql('SELECT sagaz_ha.clock()');
configure($node, 'sagaz_ha.clock' => '2026-03-10 13:00:00+00');
holds(q{EXISTS (SELECT FROM tries WHERE table_name = 'taken' AND times = 4)}, 'an error is tried four times');
is(problems_of('taken'), 'taken_y2026m03d11|taken||ERROR|42P07|pass', 'it is one row');
is(sql(q{SELECT since FROM sagaz_ha.problem WHERE table_name = 'taken'}), $clock, 'that says since when');
is(sql(q{SELECT string_agg(times::text, ' ' ORDER BY n) FROM tries WHERE table_name = 'taken' AND times <= 4}), '1 2 3 4',
	'and how often in a row');
is(sql(q{SELECT string_agg(round(extract(epoch FROM next_try - at))::text, ' ' ORDER BY n)
	FROM tries WHERE table_name = 'taken' AND times <= 4}), '1 2 4 8', 'each wait is twice the one before');
is(sql(q{SELECT bool_and(began >= next_try) FROM (
	SELECT next_try, lead(at) OVER (ORDER BY n) AS began FROM tries WHERE table_name = 'taken') AS t}), 't',
	'and it is kept to');
cmp_ok(sql("SELECT $passes") - $before, '>', 4, 'while there were more passes than tries');
is(sql(q{SELECT count(*) FROM sagaz_ha.partition_history WHERE table_name = 'taken' AND action = 'ERROR'}), '1',
	'history has it once');
like(errors_of('taken'), qr/^critical\|1\|42P07: the name of partition "taken_y2026m03d11" is already taken/,
	'health has it');
take_table($node, 'postgres', 'works_later', days => [ -5, 0 ]);
is_partitions($node, 'postgres', 'works_later', -3, 3, 'a table that comes later is maintained');

# -------- and at once when something was changed

tried_at_once('taken', q{UPDATE sagaz_ha.partition_policy SET premake = premake WHERE parent = 'taken'::regclass},
	'an error is tried at once when the policy is updated');
tried_at_once('taken', q{SELECT sagaz_ha.manage_partitions('taken', '1 day', 3, '3 days')},
	'when manage_partitions() replaces the policy');
tried_at_once('taken', 'ALTER TABLE taken ADD COLUMN note text', 'when the table gets a column');
tried_at_once('taken', 'ALTER TABLE taken DROP COLUMN note', 'when the table loses a column');
tried_at_once('taken', 'ALTER TABLE taken RENAME COLUMN payload TO body', 'when a column is renamed');
tried_at_once('taken', 'ALTER TABLE taken OWNER TO CURRENT_USER; GRANT SELECT ON taken TO ann', 'when privileges change');
tried_at_once('taken', 'SELECT * FROM maintain_all_partitions()', 'when a pass is made by hand', goes_on => 1);
tried_at_once('taken', q{SELECT * FROM sagaz_ha.maintain_partitions('taken')}, 'over that table, too', goes_on => 1);

put_off('taken');
my $row = q{SELECT p.xmin, p.* FROM sagaz_ha.problem AS p WHERE table_name = 'taken'};
my $was = sql($row);
sql('ALTER TABLE works ADD COLUMN note text; UPDATE sagaz_ha.partition_policy SET premake = premake'
	  . q{ WHERE parent = 'works'::regclass});
is(sql(q{SET ROLE ann; SELECT table_name, partition_name, split_part(details, ':', 1) FROM maintain_all_partitions()
	WHERE action = 'ERROR' AND table_name = 'taken'}), 'taken||42501', 'who owns nothing is told so');
whole_passes(2);
is(sql($row), $was, 'the error of a table is not tried for that, nor when another table changes');

# Rows that can't be looked at: the problem is one of a partition that exists.
take_table($node, 'postgres', 'raises', days => [ -4, 0 ], unfinished_when => 'public.nobody_knows(id)',
	before => q{CREATE FUNCTION nobody_knows(bigint) RETURNS boolean STABLE LANGUAGE plpgsql AS
		'BEGIN RAISE ''nobody knows'' USING ERRCODE = ''P0042''; END'});
holds(q{EXISTS (SELECT FROM tries WHERE table_name = 'raises' AND times = 2)},
	'a partition whose rows cannot be looked at is an error');
is(problems_of('raises'), 'raises_y2026m03d06|raises|raises_y2026m03d06|ERROR|P0042|pass', 'with its SQLSTATE');
tried_at_once('raises', 'ALTER TABLE raises_y2026m03d06 SET (fillfactor = 90)', 'it is tried at once when the partition is changed');
tried_at_once('raises', 'ALTER TABLE raises_y2026m03d06 ALTER COLUMN payload SET STORAGE EXTERNAL', 'or a column of it');
sql(q{CREATE OR REPLACE FUNCTION nobody_knows(bigint) RETURNS boolean STABLE LANGUAGE plpgsql AS 'BEGIN RETURN false; END'});
put_off('raises');
sql(q{SELECT sagaz_ha.manage_partitions('raises', '1 day', 3, '3 days')});
is_partitions($node, 'postgres', 'raises', -3, 3, 'once it is solved, the partition is dropped');
holds(q{NOT EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = 'raises')}, 'and the problem is gone');

put_off('taken');
sql('DROP TABLE taken_y2026m03d11; SELECT * FROM maintain_all_partitions()');
is(problems_of('taken'), '', 'what a pass by hand has solved is gone');
is(errors_of('taken'), 'ok|0|none', 'in health as well');

# -------- the end of a pending detach

my $pending = q{EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending AND inhparent = '%s'::regclass)};

# It has to be attached again, but can't be, since its table has another column.
sub stuck
{
	my ($table) = @_;

	expired_table($node, $table, -4, 0);
	my $session = $node->background_psql('postgres');
	$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ${table}_y2026m03d06");
	manage($node, $table, ", unfinished_when => 'NOT done'");
	when($node, 'postgres', sprintf $pending, $table) or die "no detach of $table is pending";
	sql(qq{ALTER TABLE $table ADD COLUMN note text;
		SELECT sagaz_ha.manage_partitions('$table', '1 day', 3, '3 days', unfinished_when => 'done')});
	# the pass that is running has the policy of its beginning
	whole_passes(1);
	$session->query_safe('COMMIT');
	$session->quit;
	holds(qq{EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = '$table' AND action = 'ERROR' AND sqlstate = '55000')},
		"$table: a detach that can't be finished is an error");
	return;
}

stuck('stuck');
holds(q{EXISTS (SELECT FROM tries WHERE table_name = 'stuck' AND action = 'ERROR' AND times = 4)}, 'stuck: it is tried four times');
is(sql(q{SELECT string_agg(round(extract(epoch FROM next_try - at))::text, ' ' ORDER BY n)
	FROM tries WHERE table_name = 'stuck' AND action = 'ERROR' AND times <= 4}), '1 2 4 8', 'stuck: later and later');
is(sql(q{SELECT bool_and(began >= next_try) FROM (
	SELECT next_try, lead(at) OVER (ORDER BY n) AS began FROM tries
	WHERE table_name = 'stuck' AND action = 'ERROR') AS t}), 't', 'stuck: and not before');
tried_at_once('stuck', q{SELECT * FROM sagaz_ha.maintain_partitions('stuck')}, 'stuck: a pass by hand has the worker try it', goes_on => 1);

# By hand, it is left to the worker, who is told at the end of the transaction.
put_off('stuck');
my $by_hand = $node->background_psql('postgres');
$by_hand->query_safe('BEGIN; SELECT * FROM maintain_all_partitions()');
$before = sql("SELECT $passes");
my $offset = -s $node->logfile;
sql(q{UPDATE sagaz_ha.partition_policy SET premake = premake WHERE parent = 'stuck'::regclass});
holds("$passes > $before + 3", 'stuck: while a pass by hand is not committed, the worker goes on');
is_deeply([ log_lines($node, $offset, qr/sagaz_ha worker .*ERROR:/) ], [], 'stuck: without an error');
$by_hand->query_safe('COMMIT');

put_off('stuck');
sql('ALTER TABLE stuck DROP COLUMN note');
holds(q{NOT EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = 'stuck' AND action = 'ERROR')},
	'stuck: when the table is changed back, it is solved at once');
is_partitions($node, 'postgres', 'stuck', -4, 3, 'stuck: the partition is attached again');
is(problems_of('stuck'), 'stuck_y2026m03d06|stuck|stuck_y2026m03d06|KEEP||pass', 'stuck: and stays');

# -------- a detach that somebody else has finished, whose table can't be archived

sql('CREATE SCHEMA archive');
expired_table($node, 'alone', -4, 0);
$by_hand->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM alone_y2026m03d06');
manage($node, 'alone', ", retention_action => 'archive', archive_schema => 'archive'");
when($node, 'postgres', sprintf $pending, 'alone') or die 'no detach of alone is pending';
sql('CREATE TABLE archive.alone_y2026m03d06 ()');
configure($node, 'sagaz_ha.enabled' => 'off');
stop_maintenance($node);
$by_hand->query_safe('COMMIT');
sql('ALTER TABLE alone DETACH PARTITION alone_y2026m03d06 FINALIZE');
configure($node, 'sagaz_ha.enabled' => 'on');
holds(q{EXISTS (SELECT FROM tries WHERE table_name = 'alone' AND action = 'ERROR' AND times = 3)},
	'alone: an error in ending it is tried again');
is(sql(q{SELECT bool_and(began >= next_try) FROM (
	SELECT next_try, lead(at) OVER (ORDER BY n) AS began FROM tries
	WHERE table_name = 'alone' AND action = 'ERROR') AS t}), 't', 'alone: later and later, too');
sql(q{DROP TABLE archive.alone_y2026m03d06; UPDATE sagaz_ha.partition_policy SET premake = premake
	WHERE parent = 'alone'::regclass});
holds(q{to_regclass('archive.alone_y2026m03d06') IS NOT NULL}, 'alone: then it is archived');
holds(q{NOT EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = 'alone')
	AND NOT EXISTS (SELECT FROM sagaz_ha.retirement)}, 'alone: and nothing is left of it');

# -------- a partition that stays

take_table($node, 'postgres', 'kept', days => [ -5, 0 ], unfinished_when => 'NOT done',
	before => q{UPDATE kept SET done = false WHERE created_at < '2026-03-07'});
holds(q{count(*) = 2 FROM sagaz_ha.problem WHERE table_name = 'kept' AND action = 'KEEP'},
	'each partition that has unfinished rows is a problem');
is(sql(q{SELECT partition_name, sqlstate, details, times, next_try, found_by FROM sagaz_ha.problem
	WHERE table_name = 'kept' ORDER BY 1}),
	"kept_y2026m03d05||1 unfinished row|1||pass\nkept_y2026m03d06||1 unfinished row|1||pass", 'with the number of them');
$row = q{SELECT xmin, since FROM sagaz_ha.problem WHERE partition_name = 'kept_y2026m03d06'};
$was = sql($row);
configure($node, 'sagaz_ha.clock' => '2026-03-10 14:00:00+00');
whole_passes(3);
is(sql($row), $was, 'passes that find it unchanged do not write it');
is(sql(q{SELECT string_agg(partition_name, ' ' ORDER BY 1) FROM partition_metadata WHERE table_name = 'kept' AND state = 'kept'}),
	'kept_y2026m03d05 kept_y2026m03d06', 'partition_metadata says that they are kept');
is(sql(q{SELECT kept FROM get_partition_statistics() WHERE table_name = 'kept'}), '2', 'statistics count them');
is(sql(q{SELECT status, value, details FROM sagaz_ha.partition_health()
	WHERE check_name = 'kept_partitions' AND table_name = 'kept'}),
	'warning|2|kept_y2026m03d05, kept_y2026m03d06: expired, but with unfinished rows', 'health names them');
sql(q{INSERT INTO kept (created_at, done) VALUES ('2026-03-06 02:00+00', false)});
holds(q{details = '2 unfinished rows' FROM sagaz_ha.problem WHERE partition_name = 'kept_y2026m03d06'}, 'more rows are told');
is(sql(q{SELECT since FROM sagaz_ha.problem WHERE partition_name = 'kept_y2026m03d06'}), '2026-03-10 13:00:00+00',
	'since when is not changed by that');
sql(q{UPDATE kept SET done = true WHERE created_at < '2026-03-06'});
is_partitions($node, 'postgres', 'kept', -4, 3, 'when its rows are finished, a partition is dropped');
holds(q{NOT EXISTS (SELECT FROM sagaz_ha.problem WHERE partition_name = 'kept_y2026m03d05')}, 'and its problem is gone');
sql('DROP TABLE kept_y2026m03d06');
is(problems_of('kept'), '', 'that of a partition that somebody drops goes with it');

# -------- recording holds up nobody

sub goes_on
{
	my ($name) = @_;
	my $offset = -s $node->logfile;
	my $before = sql("SELECT $passes");

	configure($node, 'sagaz_ha.enabled' => 'on');
	holds("$passes > $before + 3", "$name: the worker's passes go on");
	is_deeply([ log_lines($node, $offset, qr/sagaz_ha worker .*ERROR:/) ], [], "$name: without an error");
	return;
}

stop_maintenance($node);
take_table($node, 'postgres', 'twofold', days => [ -4, 0 ], unfinished_when => 'NOT done',
	before => q{UPDATE twofold SET done = false; CREATE TABLE twofold_y2026m03d11 ()});
my $both = qq{twofold_y2026m03d06|twofold|twofold_y2026m03d06|KEEP||pass\ntwofold_y2026m03d11|twofold||ERROR|42P07|pass};
$by_hand->query_safe('BEGIN; SELECT * FROM maintain_all_partitions()');
goes_on('problems that a pass by hand has found first');
is(problems_of('twofold'), '', 'which is not committed');
$by_hand->query_safe('COMMIT');
is(problems_of('twofold'), $both, 'and then is');
holds(q{EXISTS (SELECT FROM tries WHERE table_name = 'twofold' AND who = 'sagaz_ha worker')}, 'the worker takes them over');

foreach my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	put_off('twofold');
	$by_hand->query_safe("BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM sagaz_ha.problem");
	my $last = sql('SELECT max(n) FROM tries');
	sql(q{INSERT INTO twofold (created_at, done) VALUES ('2026-03-06 02:00+00', false);
		UPDATE sagaz_ha.partition_policy SET premake = premake WHERE parent = 'twofold'::regclass});
	holds("count(DISTINCT action) = 2 FROM tries WHERE n > $last AND table_name = 'twofold'", "$level: the worker has recorded something since");
	like($by_hand->query_safe('SELECT action, details FROM maintain_all_partitions()'), qr/^ERROR\|42P07.*^KEEP\|\d unfinished rows$/ms,
		"$level: a pass by hand reports it");
	goes_on("$level: until it is committed");
	$by_hand->query_safe('COMMIT');
	is(problems_of('twofold'), $both, "$level: it is recorded");
}

# The rows of a table that somebody is about to drop.
$by_hand->query_safe('BEGIN; DROP TABLE twofold');
goes_on('a table that is being dropped');
$by_hand->query_safe('ROLLBACK');
is(problems_of('twofold'), $both, 'that is not dropped after all');
sql('DROP TABLE twofold, twofold_y2026m03d11, stuck');
holds('NOT EXISTS (SELECT FROM sagaz_ha.problem)', 'and then is: nothing is wrong any more');

# -------- waiting writes nothing

configure($node, 'sagaz_ha.naptime' => '1h');
expired_table($node, 'drained', -4, 0);
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM drained');
my $pid = $reader->query_safe('SELECT pg_backend_pid()');
manage($node, 'drained');
holds(qq{EXISTS (SELECT FROM sagaz_ha.retirement WHERE waits_for = 'process $pid')
		AND EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = 'drained' AND details LIKE 'waiting for%')},
	'a drain waits for a process');
is(sql('SELECT partition, parent, phase, detach_is_ours, since FROM sagaz_ha.retirement'),
	'drained_y2026m03d06|drained|detaching|t|2026-03-10 14:00:00+00', 'what is retired is a row');
is(sql('SELECT partition_name, action, sqlstate, details, times FROM sagaz_ha.problem'),
	"drained_y2026m03d06|DEFER||waiting for process $pid|1", 'and that it has to wait is one');
holds(q{NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'sagaz_ha upkeep')
	AND (SELECT next_pass > now() FROM sagaz_ha.maintenance_status() WHERE process = 'upkeep')},
	'when upkeep is done');
my $horizon = sql('SELECT pg_snapshot_xmax(pg_current_snapshot())');
whole_passes(3);
is(sql('SELECT pg_snapshot_xmax(pg_current_snapshot())'), $horizon, 'a worker that looks writes nothing');
$reader->query_safe('COMMIT');
is_partitions($node, 'postgres', 'drained', -3, 3, 'when the process is through, the partition is dropped');
holds('NOT EXISTS (SELECT FROM sagaz_ha.retirement) AND NOT EXISTS (SELECT FROM sagaz_ha.problem)', 'and both rows are gone');

$_->quit foreach $by_hand, $reader;
$node->stop('fast');
done_testing();
