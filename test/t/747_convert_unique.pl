# A table that becomes partitioned keeps its unique keys: while clients try
# duplicates, through the swap, a kill, and back again, no two rows are equal.
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

my $node = sagaz_server('main', conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\nmax_connections = 40\n");
my $dir = PostgreSQL::Test::Utils::tempdir;

# Owned by a role that has no right to anything of ours.
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE ROLE app_owner;
	CREATE SCHEMA app AUTHORIZATION app_owner;
	SET ROLE app_owner;
	SET search_path = app;
	CREATE TABLE events (id bigint PRIMARY KEY, event_id bigint, a varchar, b bigint, note text, at timestamptz NOT NULL,
		CONSTRAINT "the event" UNIQUE (event_id));
	CREATE UNIQUE INDEX pair ON events (b, a) INCLUDE (note);
	INSERT INTO events SELECT n, n, 'old', n, 'old', now() - n * interval '1 second' FROM generate_series(1, 5000) AS n;
	CREATE SEQUENCE keys START 10001;
	CREATE TABLE tries (outcome text, n bigint);

	-- A row, then three that each equal it in one key, in other partitions once there are some.
	CREATE FUNCTION try_twice(k bigint) RETURNS void LANGUAGE plpgsql SET search_path = app AS $$
	DECLARE
		later timestamptz := now() + (random() * 4)::int * interval '1 day';
		state text := 'accepted';
	BEGIN
		BEGIN
			INSERT INTO events VALUES (k, k, 'new', k, '', now() - interval '1 hour');
			INSERT INTO tries VALUES ('first', k);
		EXCEPTION WHEN unique_violation THEN INSERT INTO tries VALUES ('first: a duplicate', k);
		END;
		FOR i IN 0 .. 2 LOOP
			BEGIN
				INSERT INTO events VALUES (CASE i WHEN 0 THEN k ELSE nextval('keys') END, CASE i WHEN 1 THEN k ELSE nextval('keys') END,
					'new', CASE i WHEN 2 THEN k ELSE nextval('keys') END, '', later);
			EXCEPTION WHEN unique_violation OR check_violation THEN state := SQLSTATE;
			END;
			INSERT INTO tries VALUES (state, k);
			state := 'accepted';
		END LOOP;
	END $$;
	RESET ROLE;
	GRANT SELECT ON sagaz_ha.conversion TO app_owner});
append_to_file("$dir/twice.sql", "SELECT app.try_twice(nextval('app.keys'));\n");
# Others try the same one at the same time.
append_to_file("$dir/same.sql", "SELECT app.try_twice(10000 * (extract(epoch FROM clock_timestamp()) * 10)::bigint);\n");

sub is_unique
{
	my ($name) = @_;

	is($node->safe_psql('postgres', q{SELECT count(*) - count(DISTINCT id), count(*) - count(DISTINCT event_id),
		count(*) - count(DISTINCT (a, b)) FROM app.events}), '0|0|0', $name);
	return;
}

# Each key, with a row of another partition.
sub refuses_duplicates
{
	my ($name) = @_;

	foreach my $values ('7, -1, NULL, NULL', '-1, 7, NULL, NULL', "-1, -1, 'old', 7")
	{
		$node->psql('postgres', "SET ROLE app_owner; INSERT INTO app.events VALUES ($values, '', now() + interval '3 days')",
			stderr => \my $stderr);
		like($stderr, qr/ERROR:  duplicate key value violates unique constraint/, "$name: $values");
	}
	return;
}

# the plan says what is kept, how, and what isn't
my $plan = $node->safe_psql('postgres', q{SELECT step, statement, meaning FROM sagaz_ha.plan_partition_table('app.events', 'at', '1 day')});
unlike($plan, qr/obstacle/, 'nothing is in the way');
is(join("\n", grep { /_keep_unique/ } split /\n/, $plan), join("\n",
	q{renaming|SELECT sagaz_ha._keep_unique('app.events', '{id}')|keeps events_pkey unique, across partitions; a statement with ON CONFLICT on its columns would fail},
	q{renaming|SELECT sagaz_ha._keep_unique('app.events', '{event_id}')|keeps the event unique, across partitions; a statement with ON CONFLICT on its columns would fail},
	q{renaming|SELECT sagaz_ha._keep_unique('app.events', '{b,a}')|keeps pair unique, across partitions; a statement with ON CONFLICT on its columns would fail}),
	'the plan names each key') or diag($plan);

# taken back before the swap, everything is as it was
my $look = q{SELECT string_agg(format('%s: %s', indexrelid::regclass, pg_get_indexdef(indexrelid)), E'\n' ORDER BY indexrelid::regclass::text)
	FROM pg_index WHERE indrelid = 'app.events'::regclass};
my $before = $node->safe_psql('postgres', $look);
stop_at($node, 'convert_renaming:before_commit');
$node->safe_psql('postgres', q{SELECT sagaz_ha.partition_table('app.events', 'at', '1 day')});
stopped_at($node, 'convert_renaming:before_commit');
$node->safe_psql('postgres', "SELECT sagaz_ha.cancel_partition_table('app.events')");
let_go($node);
is_clean($node, 'cancelled at the last step: nothing is left');
is($node->safe_psql('postgres', $look), $before, 'and the indexes are those that it had');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sagaz_ha.unique_key'), '0', 'and there is no key of ours');

# killed between its two indexes, and in the swap, where clients try duplicates
my $files = $node->safe_psql('postgres', q{SELECT pg_relation_filenode('app."the event"'), pg_relation_filenode('app.pair')});
stop_at($node, 'convert_indexing:one_made');
$node->safe_psql('postgres', q{SELECT sagaz_ha.partition_table('app.events', 'at', '1 day')});
kill 'KILL', stopped_at($node, 'convert_indexing:one_made');
$node->poll_query_until('postgres', "SELECT to_regclass('app.events_pkey_alone') IS NOT NULL") or die 'no index';
my @running = map {
	IPC::Run::start([ 'pgbench', '-n', '-c', 3, '-T', 100000, '-f', "$dir/$_.sql", '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', '/dev/null', '2>', "$dir/errors_$_")
} qw(twice same);
stop_at($node, 'convert_renaming:before_commit');
my $pid = stopped_at($node, 'convert_renaming:before_commit');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
stopped_at($node, 'convert_renaming:before_commit');
let_go($node);
converted($node, 'app.events', 'it is partitioned all the same');
is($node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', columns, phase), ', ' ORDER BY columns) FROM sagaz_ha.unique_key}),
	'{b,a} in_force, {event_id} in_force, {id} in_force', 'its keys are in force');
is($node->safe_psql('postgres', q{SELECT count(*) > 1 FROM pg_inherits WHERE inhparent = 'app.events'::regclass}), 't', 'with later partitions');
my $tried = $node->safe_psql('postgres', 'SELECT count(*) FROM app.tries');
ok($node->poll_query_until('postgres', "SELECT count(*) > $tried + 1000 FROM app.tries"), 'clients go on');
$_->kill_kill foreach @running;
is_unique('no two rows are equal');
is($node->safe_psql('postgres', q{SELECT count(*) FROM app.tries WHERE outcome = 'accepted'}), '0', 'no duplicate was accepted');
is($node->safe_psql('postgres', q{SELECT count(*) - (SELECT count(*) FROM app.events WHERE a = 'new') FROM app.tries WHERE outcome = 'first'}), '0',
	'every row is there that was');
note($node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', outcome, n), ', ') FROM
	(SELECT outcome, count(*) AS n FROM app.tries GROUP BY outcome) AS t}));
is(join('', map { grep { /error|ERROR/ } split /^/, slurp_file("$dir/errors_$_") } qw(twice same)), '', 'no client ended');
is($node->safe_psql('postgres', q{SELECT pg_relation_filenode('app."the event"'), pg_relation_filenode('app.pair')}), $files,
	'the first partition has its old indexes');
refuses_duplicates('afterwards');
is($node->safe_psql('postgres', q{SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'app.events'::regclass AND contype = 'p'}),
	'PRIMARY KEY (id, at)', 'the primary key has got the key');
is($node->safe_psql('postgres', q{SELECT check_name, details FROM sagaz_ha.partition_health() WHERE status <> 'ok' AND table_name IS NOT NULL}),
	'', 'health is green');

# and back
$node->safe_psql('postgres', q{DELETE FROM app.events WHERE tableoid <> 'app.events_before'::regclass; SELECT sagaz_ha.unpartition_table('app.events')});
is($node->safe_psql('postgres', q{SELECT relkind, (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'app.events'::regclass AND NOT tgisinternal),
	(SELECT count(*) FROM sagaz_ha.unique_key) FROM pg_class WHERE oid = 'app.events'::regclass}), 'r|0|0', 'a plain table again, without triggers');
is($node->safe_psql('postgres', $look), $before, 'with the indexes that it had');
refuses_duplicates('plain again');
is_clean($node, 'and nothing is left');

# by hand, as its owner
configure($node, 'sagaz_ha.enabled' => 'off');
$node->safe_psql('postgres', q{
	GRANT EXECUTE ON FUNCTION sagaz_ha.plan_partition_table TO app_owner;
	GRANT EXECUTE ON FUNCTION sagaz_ha.manage_partitions TO app_owner;
	GRANT EXECUTE ON FUNCTION sagaz_ha.maintain_partitions TO app_owner;
	SET ROLE app_owner;
	SELECT statement FROM sagaz_ha.plan_partition_table('app.events', 'at', '1 day') WHERE statement IS NOT NULL
	\gexec
});
is($node->safe_psql('postgres', q{SELECT relkind FROM pg_class WHERE oid = 'app.events'::regclass}), 'p', 'by hand it is partitioned');
refuses_duplicates('by hand');

# not in force: an error, and no key
$node->psql('postgres', q{
	CREATE TABLE app.other (id int, at timestamptz) PARTITION BY RANGE (at);
	CREATE TABLE app.other_1 PARTITION OF app.other DEFAULT;
	SELECT sagaz_ha._keep_unique('app.other', '{id}')}, stderr => \my $stderr);
like($stderr, qr/keeping columns of table app.other unique would take long under a lock/, 'a partition without the index');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.unique_key WHERE parent = 'app.other'::regclass}), '0', 'has no key');
$node->stop;
done_testing();
