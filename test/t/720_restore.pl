# A restore beside the worker: whatever way it goes, and however long after the
# dump, every partition is as the table is, and writers can rely on its indexes.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\nsagaz_ha.enabled = off\nfsync = off\nmax_worker_processes = 20\n");
my $dir = PostgreSQL::Test::Utils::tempdir;
my ($stdout, $stderr);

# An old dump: partitions up to the day before yesterday. Loading a row of the
# last table takes until the worker has looked at the database, so the indexes,
# which come after the rows, come too late for it.
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', q{
	CREATE EXTENSION sagaz_ha;
	CREATE ROLE writer;
	CREATE FUNCTION public.when_worker_has_looked() RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		until constant timestamptz := clock_timestamp() + interval '4 s';
	BEGIN
		LOOP
			EXIT WHEN clock_timestamp() > until OR (SELECT max(passes) >= 2 FROM sagaz_ha.maintenance_status()
				WHERE database = current_database());
			PERFORM pg_sleep(0.01);
		END LOOP;
		RETURN true;
	END$$;
	CREATE TABLE public.other (id int PRIMARY KEY);
	CREATE TABLE public.t (id int, created_at timestamptz NOT NULL, other int REFERENCES public.other,
		payload text, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at);
	CREATE INDEX ON public.t (payload);
	CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.payload := 'stamped'; RETURN NEW; END$$;
	CREATE TRIGGER stamp BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.stamp();
	GRANT SELECT ON public.t TO writer;
	CREATE SCHEMA zzz;
	CREATE TABLE zzz.last (n int);
	ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;
	CREATE POLICY positive ON public.t TO writer USING (id > 0);
});
$node->safe_psql('source', q{SET sagaz_ha.clock = '2026-03-05 12:00:00+00';
	SELECT sagaz_ha.manage_partitions('t', '1 day', 2, '30 days');
	SELECT count(*) FROM sagaz_ha.maintain_partitions('t');
	INSERT INTO t (id, created_at) VALUES (1, '2026-03-05 13:00+00');
	INSERT INTO zzz.last VALUES (1);
	ALTER TABLE zzz.last ADD CHECK (public.when_worker_has_looked());});
$node->command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('source'), '-f', "$dir/custom" ], 'pg_dump -Fc');
$node->command_ok([ 'pg_dump', '-Fd', '-j', '2', '-d', $node->connstr('source'), '-f', "$dir/directory" ], 'pg_dump -Fd');
$node->command_ok([ 'pg_dump', '-d', $node->connstr('source'), '-f', "$dir/plain" ], 'pg_dump');
$node->safe_psql('postgres', 'DROP DATABASE source');
configure($node, 'sagaz_ha.enabled' => 'on');

# name => how it is restored
my @ways = (
	j1 => [ 'pg_restore', '-j1', "$dir/custom" ],
	j4 => [ 'pg_restore', '-j4', "$dir/custom" ],
	directory => [ 'pg_restore', '-j4', "$dir/directory" ],
	single => [ 'pg_restore', '--single-transaction', "$dir/custom" ],
	plain => [ 'psql', '-X', '-q', '-f', "$dir/plain", '-o', "$dir/out" ]);

while (my ($db, $command) = splice(@ways, 0, 2))
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	IPC::Run::run([ @$command, '-d', $node->connstr($db) ], '>', \$stdout, '2>', \$stderr);
	is($stderr, '', "$db: no error");
	is_partitions($node, $db, 't', -5, 2, "$db: the worker makes what is missing");
	is($node->safe_psql($db, q{
		SELECT 'invalid: ' || indexrelid::regclass FROM pg_index WHERE NOT indisvalid
		UNION ALL
		SELECT 'drift: ' || concat_ws(' ', p.partition, p.details) FROM sagaz_ha.problem AS p WHERE p.found_by = 'drift'
		UNION ALL
		SELECT format('%s has %s indexes', inhrelid::regclass, count(indexrelid))
		  FROM pg_inherits LEFT JOIN pg_index ON indrelid = inhrelid
		 WHERE inhparent = 't'::regclass GROUP BY inhrelid HAVING count(indexrelid) <> 2}),
		'', "$db: every index is valid, and each partition has them");
	is($node->safe_psql($db, q{
		INSERT INTO t (id, created_at) VALUES (2, sagaz_ha.clock()), (2, sagaz_ha.clock()) ON CONFLICT (id, created_at) DO NOTHING;
		SELECT id, payload FROM t ORDER BY id}), "1|stamped\n2|stamped", "$db: ON CONFLICT works");
	is($node->safe_psql($db, q{SELECT count(DISTINCT concat_ws(' ', c.relrowsecurity, c.relacl,
			(SELECT string_agg(polname || pg_get_expr(polqual, polrelid), ' ') FROM pg_policy WHERE polrelid = c.oid)))
		FROM pg_class AS c JOIN pg_inherits ON inhrelid = c.oid WHERE inhparent = 't'::regclass}),
		'1', "$db: all have the same privileges and row security");
	$node->safe_psql('postgres', "DROP DATABASE $db");
}

# A table that never gets whole is no secret, and by hand it isn't waited for.
$node->safe_psql('postgres', 'CREATE DATABASE never');
$node->safe_psql('never', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE t (created_at timestamptz NOT NULL, n int) PARTITION BY RANGE (created_at);
	CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ('2026-03-01') TO ('2026-03-02');
	CREATE INDEX halfway ON ONLY t (n);
	INSERT INTO sagaz_ha.partition_policy (parent, partition_interval, premake, retention_action, time_zone, auto_analyze, auto_freeze)
		VALUES ('t', '1 day', 2, 'drop', 'UTC', true, true)});
ok(defined when($node, 'never', q{EXISTS (SELECT FROM sagaz_ha.problem
		WHERE table_name = 't' AND action = 'DEFER' AND details ~ 'halfway is not valid')}),
	'a table with an index that is not valid sleeps, which is a problem');
is($node->safe_psql('never', q{SELECT status, details ~ 'index public.halfway is not valid' FROM sagaz_ha.partition_health()
		WHERE table_name = 't' AND check_name = 'restored'}), 'warning|t', 'health says so, and why');
is(partitions_of($node, 'never', 't'), 't_1', 'nothing is made');
$node->safe_psql('never', q{SELECT * FROM sagaz_ha.maintain_partitions('t')});
isnt(partitions_of($node, 'never', 't'), 't_1', 'by hand it begins');
is($node->safe_psql('never', q{SELECT status FROM sagaz_ha.partition_health()
		WHERE table_name = 't' AND check_name = 'restored'}), 'ok', 'and goes on');
ok(defined when($node, 'never', q{(SELECT indisvalid FROM pg_index WHERE indexrelid = 'halfway'::regclass)}),
	'then the worker builds what the partitions lack');

done_testing();
