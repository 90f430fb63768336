# A function of the owner's has to agree before a partition goes: called as the
# owner, with the detached table, by a process that holds up no other table.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\nmax_worker_processes = 20\n");

$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE ROLE ann LOGIN;
	GRANT CREATE ON SCHEMA public TO ann;
	CREATE SCHEMA archive AUTHORIZATION ann;
	CREATE TABLE called (name text, as_role text, rows bigint, path text, attached boolean);
	CREATE TABLE answer (name text, says text);
	ALTER TABLE called OWNER TO ann;
	ALTER TABLE answer OWNER TO ann;
	-- true, unless table answer says something else about the partition
	CREATE FUNCTION public.ask(partition regclass) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		rows bigint;
		says text := (SELECT a.says FROM public.answer AS a WHERE a.name = partition::text);
	BEGIN
		EXECUTE format('SELECT count(*) FROM %s', partition) INTO rows;
		INSERT INTO public.called VALUES (partition::text, current_user, rows, current_setting('search_path'),
			(SELECT relispartition FROM pg_class WHERE oid = partition));
		IF says = 'error' THEN
			RAISE 'the tape is full';
		ELSIF says = 'again' THEN
			ALTER TABLE public.comes ATTACH PARTITION public.comes_y2026m03d05 FOR VALUES FROM ('2026-03-05 00:00+00') TO ('2026-03-06 00:00+00');
			says := 'true';
		ELSIF says = 'forever' THEN
			LOOP
				BEGIN
					PERFORM pg_sleep(60);
				EXCEPTION WHEN query_canceled THEN
					RAISE LOG 'not me';
				END;
			END LOOP;
		ELSIF says = 'slow' THEN
			PERFORM pg_sleep(600);
		END IF;
		RETURN says::boolean IS DISTINCT FROM false AND nullif(says, 'null') IS NOT DISTINCT FROM says;
	EXCEPTION WHEN invalid_text_representation THEN
		RETURN NULL;
	END $$;
	ALTER FUNCTION public.ask(regclass) OWNER TO ann});

# A table of ann's whose two oldest days expire, and what the function says of them.
sub asked
{
	my ($table, %option) = @_;
	my $more = $option{more} // '';
	my $answers = $option{answers} // {};

	$node->safe_psql('postgres', join '', map {
			"INSERT INTO answer VALUES ('public.${table}_$_', '$answers->{$_}');"
			  . "INSERT INTO answer VALUES ('${table}_$_', '$answers->{$_}');" } sort keys %$answers);
	take_table($node, 'postgres', $table, days => [ -5, 0 ],
		before => ($option{before} // '') . join('', map { "ALTER TABLE ${table}$_ OWNER TO ann;" } '', map { "_y2026m03d0$_" } 5 .. 9)
		  . "ALTER TABLE ${table}_y2026m03d10 OWNER TO ann",
		more => ", before_drop => 'public.ask(regclass)'::regprocedure $more",
		unfinished_when => $option{unfinished_when});
	return;
}

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub phase_of
{
	my ($partition) = @_;

	return sql("SELECT phase FROM sagaz_ha.retirement WHERE partition = to_regclass('$partition')");
}

# -------- true: it goes

asked('goes');
is_partitions($node, 'postgres', 'goes', -3, 3, 'the function agrees: partitions go');
ok(defined when($node, 'postgres', q{to_regclass('goes_y2026m03d05') IS NULL AND to_regclass('goes_y2026m03d06') IS NULL}),
	'both');
is(sql(q{SELECT name, as_role, rows, path, attached FROM called WHERE name LIKE '%goes%' ORDER BY name}),
	"goes_y2026m03d05|ann|1|pg_catalog, public, pg_temp|f\ngoes_y2026m03d06|ann|1|pg_catalog, public, pg_temp|f",
	'each was called once, as the owner, with a pinned search_path and the detached table');
is(sql(q{SELECT action || ' ' || details FROM sagaz_ha.partition_history
	WHERE partition_name = 'goes_y2026m03d05' AND action IN ('DEFER', 'DROP') ORDER BY id}),
	"DEFER retiring: waiting for transactions that may see it\n"
	  . "DEFER waiting for before_drop function public.ask(regclass)\n"
	  . 'DROP rows from 2026-03-05 00:00:00+00 to 2026-03-06 00:00:00+00', 'the history has each step');
is_consistent($node, 'postgres', 'goes', 'history and catalogs agree');
is(sql('SELECT count(*) FROM sagaz_ha.problem'), '0', 'no problem is left');

# -------- true, and it stays as a table

asked('kept', more => ", retention_action => 'detach'");
asked('moved', more => ", retention_action => 'archive', archive_schema => 'archive'");
ok(defined when($node, 'postgres', q{(SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name IN ('kept', 'moved') AND action = 'DETACH') = 4}), 'detach and archive: kept, or moved');
is(sql(q{SELECT c.oid::regclass, c.relispartition FROM pg_class AS c
	WHERE c.oid IN (to_regclass('kept_y2026m03d05'), to_regclass('archive.moved_y2026m03d05')) ORDER BY 1}),
	"kept_y2026m03d05|f\narchive.moved_y2026m03d05|f", 'where the policy says');
sql(q{INSERT INTO kept_y2026m03d05 (id, created_at) OVERRIDING SYSTEM VALUE VALUES (99, '2026-03-05 20:00+00')});
pass('and takes writes again');

# -------- false, null, an error: it stays, and the others go

asked('says', answers => { y2026m03d05 => 'false' });
asked('nothing', answers => { y2026m03d05 => 'null' });
asked('fails', answers => { y2026m03d05 => 'error' });
asked('comes', answers => { y2026m03d05 => 'again' });
foreach my $case (
	[ 'says', '55000', 'before_drop function public.ask\(regclass\) returned false for table says_y2026m03d05' ],
	[ 'nothing', '55000', 'before_drop function public.ask\(regclass\) returned null for table nothing_y2026m03d05' ],
	[ 'fails', 'P0001', 'the tape is full' ],
	[ 'comes', '55000', 'before_drop function public.ask\(regclass\) attached table comes_y2026m03d05 to comes again' ])
{
	my ($table, $state, $message) = @$case;
	my $partition = "${table}_y2026m03d05";

	ok(defined when($node, 'postgres', qq{EXISTS (SELECT FROM sagaz_ha.problem
		WHERE partition_name = '$partition' AND action = 'ERROR' AND times >= 2 AND next_try IS NOT NULL)}),
		"$table: an error, with back-off");
	like(sql(qq{SELECT sqlstate || ' ' || details FROM sagaz_ha.problem WHERE partition_name = '$partition'}),
		qr/^$state $state: $message/, "$table: that says what it was");
	is(phase_of($partition), 'before_drop', "$table: the partition is a table by itself");
	is(sql("SELECT count(*) FROM $partition"), '1', "$table: with its rows");
	like(sql(qq{SELECT status || ' ' || details FROM sagaz_ha.partition_health()
		WHERE table_name = '$table' AND check_name = 'before_drop'}),
		qr/^warning \Q$partition\E: detached; the function was called \d+ times/, "$table: health names it");
	ok(defined when($node, 'postgres', "to_regclass('${table}_y2026m03d06') IS NULL"), "$table: the next one goes");
	is(sql(qq{SELECT count(*) FROM called WHERE name LIKE '%$partition'}), '0', "$table: what such a call did is undone");
}
my ($status, undef, $error) = $node->psql('postgres', q{INSERT INTO says_y2026m03d05 (id, created_at)
	OVERRIDING SYSTEM VALUE VALUES (99, '2026-03-05 20:00+00')});
like($error, qr/partition "says_y2026m03d05" of table "says" is being retired and takes no more writes.*retention of 3 days/s, 'while it waits, it takes no writes, which the function could miss');
sql(q{SELECT count(*) FROM maintain_all_partitions()});
is(phase_of('says_y2026m03d05'), 'before_drop', 'a pass by hand leaves it there');

# it comes back, and is held
$node->poll_query_until('postgres', q{SELECT sagaz_ha.reattach_partition('says_y2026m03d05') IS NOT NULL}, 't');
is(sql('SELECT count(*) FROM says'), '5', 'reattach_partition() brings it back');
is(phase_of('says_y2026m03d05'), '', 'it is not being retired any more');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem WHERE partition_name = 'says_y2026m03d05'
	AND action = 'KEEP' AND details = 'held: brought back by reattach_partition()')}), 'and then it is held');
sql(q{INSERT INTO says (created_at) VALUES ('2026-03-05 20:00+00')});

# an answer that changes
sql(q{UPDATE answer SET says = 'true'});
ok(defined when($node, 'postgres', q{to_regclass('fails_y2026m03d05') IS NULL AND to_regclass('comes_y2026m03d05') IS NULL AND to_regclass('nothing_y2026m03d05') IS NULL}),
	'when it agrees at last, they go');
is(sql(q{SELECT count(*) FROM sagaz_ha.problem WHERE action = 'ERROR'}), '0', 'and the problems with them');

# -------- a function that is gone, or another's

asked('lost', answers => { y2026m03d05 => 'false' });
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'lost_y2026m03d05' AND action = 'ERROR')}), 'a partition that waits');
sql(q{ALTER FUNCTION ask(regclass) OWNER TO pg_monitor; UPDATE sagaz_ha.partition_policy SET premake = premake});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'lost_y2026m03d05' AND sqlstate = '42501')}), 'a function of another owner is not called');
like(sql(q{SELECT details FROM sagaz_ha.partition_health() WHERE table_name = 'lost' AND check_name = 'maintainable' AND status = 'critical'}),
	qr/before_drop function public.ask\(regclass\) belongs to role pg_monitor/, 'health says so');
sql(q{ALTER FUNCTION ask(regclass) RENAME TO asked; UPDATE sagaz_ha.partition_policy SET premake = premake});
add_partitions($node, 'postgres', 'lost', -9, -9);
sql('ALTER TABLE lost_y2026m03d01 OWNER TO ann');
sql(q{SELECT count(*) FROM maintain_all_partitions()});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'lost_y2026m03d01' AND sqlstate = '42883')}), 'nor one that is gone: that is an error');
is(sql(q{SELECT relispartition FROM pg_class WHERE relname = 'lost_y2026m03d01'}), 't', 'and a partition that has expired since stays');
sql(q{ALTER FUNCTION asked(regclass) RENAME TO ask; ALTER FUNCTION ask(regclass) OWNER TO ann;
	UPDATE answer SET says = 'true'; UPDATE sagaz_ha.partition_policy SET premake = premake});
ok(defined when($node, 'postgres', q{to_regclass('lost_y2026m03d05') IS NULL AND to_regclass('lost_y2026m03d01') IS NULL}),
	'there again, it agrees');

# -------- by the way without a concurrent detach

asked('at_once', before => q{CREATE TABLE at_once_default PARTITION OF at_once DEFAULT;
	ALTER TABLE at_once_default OWNER TO ann;});
ok(defined when($node, 'postgres', q{(SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'at_once' AND action = 'DROP') = 2}), 'a table with a default partition: the function is asked as well');
is(sql(q{SELECT attached FROM called WHERE name = 'at_once_y2026m03d05'}), 'f', 'with the detached table');

# -------- by hand

my $sql = q{SELECT action, details FROM sagaz_ha.maintain_partitions('by_hand') WHERE action <> 'CREATE'};
stop_maintenance($node);
asked('by_hand');
is(sql($sql), 'DEFER|drops need the background worker, which calls before_drop: add sagaz_ha to shared_preload_libraries',
	'by hand, without a worker: it says that it needs one');
is(sql(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'by_hand'::regclass}), '9', 'and nothing is dropped');

$node->stop('fast');
done_testing();
