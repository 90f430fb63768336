# No unfinished work is lost: clients insert late rows that are PENDING, and turn
# PUBLISHED ones back, in partitions that the worker is just retiring. Whatever
# was acknowledged stays readable through the table, at every moment.
#
# SAGAZ_ROUNDS (50; SAGAZ_LONG=1: 2000) is how many retirements are raced.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run qw(start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $rounds = $ENV{SAGAZ_ROUNDS} || ($ENV{SAGAZ_LONG} ? 2000 : 50);

# A batch of new partitions is this large.
my $batch = 8;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\nmax_connections = 30\nsynchronous_commit = off\nfsync = off\n");

$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL,
		status text NOT NULL, PRIMARY KEY (created_at, id)) PARTITION BY RANGE (created_at);
	-- asked before a partition is dropped
	CREATE TABLE archived (id bigint, status text);
	CREATE FUNCTION archive(partition regclass) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('INSERT INTO public.archived SELECT id, status FROM %s', partition);
		RETURN true;
	END $$;
	SELECT sagaz_ha.manage_partitions('outbox', '1 day', 1, '3 days',
		unfinished_when => $$status = 'PENDING'$$, before_drop => 'archive(regclass)'::regprocedure);

	-- written in the transaction that wrote or finished the row
	CREATE TABLE acknowledged (id bigint PRIMARY KEY, created_at timestamptz);
	CREATE TABLE written (kind text);
	-- what was refused, and what wasn't there when it was looked for
	CREATE TABLE refused (kind text, state text, message text, detail text);
	CREATE TABLE missing (id bigint, created_at timestamptz, at timestamptz DEFAULT clock_timestamp());

	-- one of the oldest partitions, which are the next to be retired
	CREATE FUNCTION target(OUT name text, OUT day timestamptz) LANGUAGE sql VOLATILE AS $$
		SELECT name, replace(replace(substr(name, 9), 'm', '-'), 'd', '-')::timestamptz
		FROM (SELECT relname::text AS name FROM pg_inherits JOIN pg_class ON oid = inhrelid
			WHERE inhparent = 'outbox'::regclass ORDER BY relname LIMIT 4) AS oldest
		ORDER BY random() LIMIT 1 $$;

	CREATE FUNCTION write(kind text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		t record;
		written record;
		message text;
		detail text;
	BEGIN
		SELECT * INTO t FROM target();
		IF kind = 'insert' THEN
			INSERT INTO outbox (created_at, status)
				VALUES (t.day + random() * interval '23 hours', 'PENDING')
				RETURNING id, created_at INTO written;
		ELSIF kind = 'flip' THEN
			UPDATE outbox SET status = 'PENDING'
				WHERE (created_at, id) = (SELECT created_at, id FROM outbox
						WHERE created_at >= t.day AND created_at < t.day + interval '1 day'
							AND status = 'PUBLISHED' ORDER BY random() LIMIT 1)
					AND status = 'PUBLISHED'
				RETURNING id, created_at INTO written;
		ELSE
			-- by name, which works as long as the table is there
			EXECUTE format('UPDATE %I SET status = ''PENDING'' WHERE id = (
				SELECT id FROM %1$I WHERE status = ''PUBLISHED'' LIMIT 1) AND status = ''PUBLISHED''
				RETURNING id, created_at', t.name) INTO written;
		END IF;
		IF written.id IS NOT NULL THEN
			INSERT INTO acknowledged VALUES (written.id, written.created_at);
			INSERT INTO written VALUES (kind);
			-- so that it is often still open when the worker looks
			PERFORM pg_sleep(random() * 0.02);
		END IF;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
		INSERT INTO refused VALUES (kind, SQLSTATE, message, detail);
	END $$;

	-- finishes what is unfinished, or else no partition could ever be retired
	CREATE FUNCTION relay() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		a record;
	BEGIN
		FOR a IN SELECT * FROM acknowledged ORDER BY random() LIMIT 3 FOR UPDATE SKIP LOCKED LOOP
			UPDATE outbox SET status = 'PUBLISHED'
				WHERE created_at = a.created_at AND id = a.id AND status = 'PENDING';
			IF NOT FOUND THEN
				INSERT INTO missing VALUES (a.id, a.created_at);
			ELSE
				DELETE FROM acknowledged WHERE id = a.id;
			END IF;
		END LOOP;
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		INSERT INTO refused VALUES ('relay', SQLSTATE, SQLERRM, '');
	END $$;
});

my @clients;
my $base = $node->basedir;
my %script = (
	insert => "SELECT write('insert');",
	flip => "SELECT write('flip');",
	name => "SELECT write('name');",
	relay => 'SELECT relay();');

foreach my $kind (sort keys %script)
{
	my $rate = $kind eq 'relay' ? 60 : 15;
	append_to_file("$base/$kind.sql", "$script{$kind}\n");
	push @clients, start [ 'pgbench', '-n', '-c', $kind eq 'relay' ? 1 : 2, '-T', 3600, '-R', $rate,
		'-f', "$base/$kind.sql", $node->connstr('postgres') ],
	  '<', '/dev/null', '>', "$base/$kind.out", '2>', "$base/$kind.err";
}

# The partitions go ever further back, so none is made twice.
my $day = 5;
my $raced = 0;
my $start = time;
my $deadline = $start + 60 + 3 * $rounds;
my $announced = q{SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'outbox' AND details LIKE 'retiring%'};

while ($raced < $rounds && time < $deadline)
{
	my ($first, $last) = ($day, $day + $batch - 1);
	# at once, or the worker could retire them before there are rows
	$node->safe_psql('postgres', qq{
		SET sagaz_ha.lock_timeout = '60s';
		BEGIN;
		SELECT sagaz_ha.create_partition('outbox', sagaz_ha.clock() - n * interval '1 day')
			FROM generate_series($first, $last) AS n;
		INSERT INTO outbox (created_at, status)
			SELECT date_trunc('day', sagaz_ha.clock()) - n * interval '1 day' + i * interval '1 minute', 'PUBLISHED'
			FROM generate_series($first, $last) AS n, generate_series(1, 20) AS i;
		UPDATE sagaz_ha.partition_policy SET premake = premake;
		COMMIT});
	$day += $batch;
	$node->poll_query_until('postgres', q{
		SELECT count(*) <= 5 FROM pg_inherits WHERE inhparent = 'outbox'::regclass}) or last;
	$raced = $node->safe_psql('postgres', $announced);
}
$_->kill_kill(grace => 1) foreach @clients;
$node->poll_query_until('postgres', q{
	SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'});
# nor is a pass under way that still has a fence up
whole_pass($node, 'postgres');
cmp_ok($raced, '>=', $rounds, "$rounds retirements were raced");
note(sprintf '%d retirements in %.0f s', $raced, time - $start);
note('written: ' . $node->safe_psql('postgres',
	q{SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM written GROUP BY kind) AS w}));
note('refused: ' . $node->safe_psql('postgres',
	q{SELECT string_agg(kind || ' ' || state || ' ' || n, ', ' ORDER BY kind, state)
	FROM (SELECT kind, state, count(*) AS n FROM refused GROUP BY kind, state) AS w}));
note('history: ' . $node->safe_psql('postgres',
	q{SELECT string_agg(action || ' ' || n, ', ' ORDER BY action)
	FROM (SELECT action, count(*) AS n FROM sagaz_ha.partition_history GROUP BY action) AS w}));

cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM written'), '>=', $rounds, 'many writes were acknowledged');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM acknowledged AS a WHERE NOT EXISTS (SELECT FROM outbox AS o
		WHERE o.id = a.id AND o.created_at = a.created_at AND o.status = 'PENDING')}),
	'0', 'everything that was acknowledged as unfinished is readable through the table');
is($node->safe_psql('postgres', 'SELECT count(*) FROM missing'), '0',
	'and it was so whenever it was looked for');
is( $node->safe_psql('postgres', q{
	SELECT concat_ws(' ', kind, state, message, detail) FROM refused
	WHERE NOT (state = '55000' AND message ~ '^partition "outbox_y\d{4}m\d\dd\d\d" of table "outbox" is being retired and takes no more writes$'
			AND (kind = 'relay' OR detail = 'All its rows are older than the table''s retention of 3 days.'))
		AND NOT (state = '23514' AND message = 'no partition of relation "outbox" found for row')
		-- by name, and it is gone
		AND NOT (kind = 'name' AND state = '42P01')
		-- two clients update the same two rows in different orders: no worker has a part in it
		AND NOT (state = '40P01' AND detail !~ ' on relation ')}),
	'', 'a refused write says which table, retention and partition, or that there is no partition');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ERROR'}),
	'0', 'the worker met no error');

# -------- afterwards

$node->safe_psql('postgres', q{UPDATE outbox SET status = 'PUBLISHED' WHERE status = 'PENDING'});
is_partitions($node, 'postgres', 'outbox', -3, 1, 'when all is finished, all is retired');
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM sagaz_ha.retirement') or die 'not all is dropped';
is($node->safe_psql('postgres', q{SELECT count(*) FROM archived WHERE status = 'PENDING'}), '0',
	'the function before the drop has seen no unfinished row');
is($node->safe_psql('postgres', q{SELECT count(*) - count(DISTINCT id) FROM archived}), '0', 'nor one twice');
is($node->safe_psql('postgres', q{SELECT count(*) >= 20 * (SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'outbox' AND action = 'DROP') FROM archived}), 't', 'and it has seen each partition that was dropped');
is_consistent($node, 'postgres', 'outbox', 'history and catalogs agree');

# -------- behind the fence

# Who gets round the fence while the detach is pending doesn't lose the row
# either: the partition comes back.
$node->safe_psql('postgres', q{
	SELECT sagaz_ha.stop_managing_partitions('outbox');
	SELECT sagaz_ha.manage_partitions('outbox', '1 day', 1, '3 days',
		unfinished_when => $$status = 'PENDING'$$)});
stop_at($node, 'detach:after_first_commit');
$day += 10;
my $name = $node->safe_psql('postgres', qq{
	SET sagaz_ha.lock_timeout = '60s';
	BEGIN;
	SELECT sagaz_ha.create_partition('outbox', sagaz_ha.clock() - interval '$day days');
	INSERT INTO outbox (created_at, status)
		SELECT sagaz_ha.clock() - interval '$day days' + i * interval '1 s', 'PUBLISHED'
		FROM generate_series(1, 10) AS i;
	COMMIT});
stopped_at($node, 'detach:after_first_commit');
is($node->safe_psql('postgres', "SELECT count(*) FROM outbox WHERE created_at < sagaz_ha.clock() - interval '4 days'"),
	'0', 'while the detach is pending, the rows are not in the table');
my ($status, undef, $error) = $node->psql('postgres', "UPDATE $name SET status = 'PENDING'");
like($error, qr/partition "$name" of table "outbox" is being retired and takes no more writes/,
	'nor can they be changed in the partition');
($status, undef, $error) = $node->psql('postgres', "SET session_replication_role = replica; UPDATE $name SET status = 'PENDING'");
like($error, qr/is being retired and takes no more writes/, 'nor by a replica');
# the server doesn't let anybody alter the partition now: only catalogs help
$node->safe_psql('postgres', qq{
	UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = '$name'::regclass AND tgname = 'sagaz_ha_fence'});
$node->safe_psql('postgres', qq{
	UPDATE $name SET status = 'PENDING' WHERE id = (SELECT min(id) FROM $name)});
let_go($node);
ok($node->poll_query_until('postgres', q{
	SELECT count(*) = 10 AND count(*) FILTER (WHERE status = 'PENDING') = 1 FROM outbox
	WHERE created_at < sagaz_ha.clock() - interval '4 days'}),
	'a row that was made unfinished all the same brings the partition back, with all rows');
is($node->safe_psql('postgres', qq{SELECT action || ' ' || details FROM sagaz_ha.partition_history
	WHERE partition_name = '$name' ORDER BY id DESC LIMIT 1}), 'KEEP 1 unfinished row', 'and it is kept');
$node->safe_psql('postgres', "UPDATE outbox SET status = 'PUBLISHED' WHERE status = 'PENDING'");
is_partitions($node, 'postgres', 'outbox', -3, 1, 'until it is finished');

# A pass by hand that still sees an unfinished row, just when the worker begins,
# doesn't make the worker forget that the detach is its own.
stop_at($node, 'announce:after_commit');
$day += 10;
$name = $node->safe_psql('postgres', qq{
	SET sagaz_ha.lock_timeout = '60s';
	SELECT sagaz_ha.create_partition('outbox', sagaz_ha.clock() - interval '$day days');
	UPDATE sagaz_ha.partition_policy SET premake = premake});
stopped_at($node, 'announce:after_commit');
$node->safe_psql('postgres', qq{
	INSERT INTO outbox (created_at, status) VALUES (sagaz_ha.clock() - interval '$day days', 'PENDING');
	SELECT maintain_all_partitions();
	UPDATE outbox SET status = 'PUBLISHED' WHERE status = 'PENDING'});
let_go($node);
is_partitions($node, 'postgres', 'outbox', -3, 1, 'a KEEP by hand meanwhile: it is retired');
is_consistent($node, 'postgres', 'outbox', 'and dropped, not left without a parent');

$node->stop('fast');
done_testing();
