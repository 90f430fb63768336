# One table's owner holds up no other table: not with a condition, nor with a
# function before the drop.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\nmax_worker_processes = 20\nsagaz_ha.condition_timeout = 600s\n");

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
		ELSIF says = 'forever' THEN
			LOOP
				BEGIN
					PERFORM pg_sleep(60);
				EXCEPTION WHEN query_canceled THEN
					RAISE LOG 'not me';
				END;
			END LOOP;
		ELSIF says = 'slow' THEN
			-- a pass with limits of its own, which must not end this one
			PERFORM FROM sagaz_ha.maintain_partitions('public.nested');
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


# -------- a condition that takes its time

sql(q{
	CREATE FUNCTION public.thinks(bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
	BEGIN
		PERFORM pg_sleep(600);
		RETURN false;
	END $$;
	CREATE FUNCTION public.insists(bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(600);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END $$;
	ALTER FUNCTION public.thinks(bigint) OWNER TO ann;
	ALTER FUNCTION public.insists(bigint) OWNER TO ann});
take_table($node, 'postgres', 'b_0');
my $usual = is_partitions($node, 'postgres', 'b_0', 0, 3, 'a table is made');
take_table($node, 'postgres', 'a_thinks', days => [ -5, 0 ], unfinished_when => 'public.thinks(id)',
	before => join ';', map { "ALTER TABLE a_thinks$_ OWNER TO ann" } '', '_y2026m03d05', '_y2026m03d06');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.maintenance_status()
	WHERE process = 'worker' AND database = 'postgres' AND phase IS NOT NULL AND pid = (
		SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'sagaz_ha retirement'))}),
	'a worker looks at the condition');
foreach my $n (1 .. 3)
{
	take_table($node, 'postgres', "b_$n");
	is_within(is_partitions($node, 'postgres', "b_$n", 0, 3, "meanwhile table $n is made"), 2 + 10 * $usual, 'in its own time');
}
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'sagaz_ha retirement'}), '1',
	'while it looks');
# the one that looks has the limit of its beginning
stop_maintenance($node);
configure($node, 'sagaz_ha.condition_timeout' => '3s', 'sagaz_ha.enabled' => undef);
ok(defined when($node, 'postgres', q{(SELECT count(*) = 2 AND min(sqlstate) = '57014' AND min(times) >= 2
		AND bool_and(next_try IS NOT NULL) FROM sagaz_ha.problem
	WHERE table_name = 'a_thinks' AND action = 'ERROR')}), 'sagaz_ha.condition_timeout ends it: an error, which backs off');
is(sql(q{SELECT DISTINCT details FROM sagaz_ha.problem WHERE table_name = 'a_thinks' AND action = 'ERROR'}),
	'57014: unfinished_when took longer than sagaz_ha.condition_timeout (3000 ms)'
	  . ' HINT: Have it take less time, or raise sagaz_ha.condition_timeout.', 'that says so');
configure($node, 'sagaz_ha.condition_timeout' => '200ms');
my ($status, undef, $error) = $node->psql('postgres', q{SELECT details FROM sagaz_ha.maintain_partitions('a_thinks')});
is($status, 0, 'a pass by hand is not taken for cancelled');
take_table($node, 'postgres', 'a_insists', days => [ -4, 0 ], unfinished_when => 'public.insists(id)',
	before => join ';', map { "ALTER TABLE a_insists$_ OWNER TO ann" } '', '_y2026m03d06');
take_table($node, 'postgres', 'b_waits', days => [ -5, 0 ]);
is_within(is_partitions($node, 'postgres', 'b_waits', -3, 3, 'one that cannot be cancelled, too'), 30,
	'others are retired when its process has been ended');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE table_name = 'a_insists' AND details ~ 'could not be cancelled' AND next_try IS NOT NULL)}),
	'and it backs off');
sql(q{DROP TABLE a_insists, a_thinks});
configure($node, 'sagaz_ha.condition_timeout' => undef);

# -------- time

configure($node, 'sagaz_ha.before_drop_timeout' => '2s');
take_table($node, 'postgres', 'nested', days => [ -4, 0 ], unfinished_when => 'NOT done',
	before => 'UPDATE nested SET done = false;' . join ';', map { "ALTER TABLE nested$_ OWNER TO ann" } '', map { "_y2026m03d$_" } qw(06 07 08 09 10));
sql('GRANT EXECUTE ON FUNCTION sagaz_ha.maintain_partitions TO ann');
asked('forever', answers => { y2026m03d05 => 'forever' });
asked('slow', answers => { y2026m03d05 => 'slow' });
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'slow_y2026m03d05' AND sqlstate = '57014')}), 'a call that takes too long is ended');
is(sql(q{SELECT details FROM sagaz_ha.problem WHERE partition_name = 'slow_y2026m03d05'}),
	'57014: before_drop function public.ask(regclass) took longer than sagaz_ha.before_drop_timeout (2000 ms)'
	  . ' HINT: Have it take less time, or raise sagaz_ha.before_drop_timeout.', 'with an error that says so');
configure($node, 'sagaz_ha.before_drop_timeout' => undef);
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.maintenance_status()
	WHERE process = 'before_drop' AND database = 'postgres' AND pid IS NOT NULL
		AND phase = 'calling before_drop' AND table_name = 'slow_y2026m03d05' AND since < now())}),
	'maintenance_status() shows a call');
# somebody always has a snapshot, which looks as old as the call, since that has written
my @busy = map { IPC::Run::start([ 'psql', '-Xqd', $node->connstr('postgres'), '-c',
		'DO $$ BEGIN LOOP PERFORM pg_sleep(0.2); COMMIT; END LOOP; END $$' ], '>', \my $out, '2>', \my $err) } 1 .. 3;
take_table($node, 'postgres', 'other', days => [ -5, 0 ]);
my $made = when($node, 'postgres', q{to_regclass('other_y2026m03d13') IS NOT NULL});
is_within($made, 2, 'meanwhile another table has its partitions made');
asked('third', unfinished_when => 'NOT done');
is_within(is_partitions($node, 'postgres', 'third', -3, 3, 'and one with a function of its own has it called'), 20,
	'in its own time');
is_within(is_partitions($node, 'postgres', 'other', -3, 3, 'and others are retired'), 20, 'in their own time');
ok(defined when($node, 'postgres', q{(SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'third' AND action = 'DROP') = 2}), 'the function agrees: they go');
is(sql(q{SELECT count(*) FROM sagaz_ha.maintenance_status() WHERE process = 'before_drop' AND table_name = 'slow_y2026m03d05'}), '1',
	'all while one call lasts');
is(sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'DO $$ BEGIN LOOP%'}), '3', 'and others work');
IPC::Run::finish($_) foreach @busy;
ok(defined when($node, 'postgres', q{(SELECT calls >= 1 AND called_at IS NOT NULL FROM sagaz_ha.retirement
	WHERE partition = 'forever_y2026m03d05'::regclass)}), 'one that cannot be cancelled');
ok(defined when($node, 'postgres', q{(SELECT calls >= 2 FROM sagaz_ha.retirement
	WHERE partition = 'forever_y2026m03d05'::regclass)}), 'has its process ended, and is called again');
$node->poll_query_until('postgres', q{SELECT count(pg_terminate_backend(pid)) = 1
	FROM sagaz_ha.maintenance_status() WHERE process = 'before_drop' AND table_name = 'forever_y2026m03d05'}) or die 'no call';
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem WHERE partition_name = 'forever_y2026m03d05'
	AND action = 'ERROR' AND details LIKE '%ended before the function did%')}), 'ended again, that is an error');
$node->log_check('and the log says which', 0, log_like => [ qr/sagaz_ha before_drop.*FATAL:  terminating background worker/ ]);

# off: calls end, and no other begins
configure($node, 'sagaz_ha.retire' => 'off');
ok(defined when($node, 'postgres', q{NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'sagaz_ha before_drop')}),
	'sagaz_ha.retire = off ends calls');
sql(q{UPDATE answer SET says = 'true'});
configure($node, 'sagaz_ha.retire' => 'on');
ok(defined when($node, 'postgres', q{to_regclass('slow_y2026m03d05') IS NULL}), 'on again, it is called again');


$node->stop('fast');
done_testing();
