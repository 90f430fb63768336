# No two rows are equal, at no time: 8 clients insert, update, move and delete rows
# of few values over 40 partitions, at all isolation levels, with savepoints and
# prepared transactions, while partitions are made, detached, attached and dropped,
# and the server is killed. Each client also has values of its own, for which it
# knows whether a write must succeed: none fails without a duplicate.
#
# SAGAZ_SECONDS (8) is how long; SAGAZ_SEED repeats a run's choices.
use strict;
use warnings FATAL => 'all';

use IPC::Run qw(start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{SAGAZ_SECONDS} || 8;
my $seed = $ENV{SAGAZ_SEED} || int(time * 1000) % 1_000_000;
note("SAGAZ_SEED=$seed");
srand($seed);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'sagaz_ha'
timezone = 'UTC'
synchronous_commit = off
deadlock_timeout = 20ms
max_prepared_transactions = 20
restart_after_crash = off
sagaz_ha.lock_timeout = 5s
log_error_verbosity = verbose
});
$node->start;

# Days 1 to 20 stay; days 21 to 40 come and go. Values below 1000 are everybody's.
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE t (v integer, at timestamptz NOT NULL, note text) PARTITION BY RANGE (at);
	CREATE SEQUENCE writes;
	CREATE TABLE surprises (client integer, what text, state text, message text);

	CREATE FUNCTION day(n integer) RETURNS timestamptz LANGUAGE sql IMMUTABLE
		AS $$ SELECT '2026-01-01 00:00:00+00'::timestamptz + n * interval '1 day' $$;
	CREATE FUNCTION bounds(n integer) RETURNS text LANGUAGE sql
		AS $$ SELECT format('FOR VALUES FROM (%L) TO (%L)', day(n), day(n + 1)) $$;
	SELECT format('CREATE TABLE t_%s PARTITION OF t %s', n, bounds(n)) FROM generate_series(1, 40) AS n \gexec
	INSERT INTO t SELECT n * 20, day(1 + n % 40) FROM generate_series(1, 10) AS n;
	SELECT sagaz_ha.add_unique('t', '{v}');

	CREATE FUNCTION write(shared boolean, client integer) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		kind integer := floor(random() * 10);
		value integer := CASE WHEN shared THEN floor(random() * 30)
			ELSE 1000 + client * 100 + floor(random() * 5) END;
		days integer := CASE WHEN shared THEN 40 ELSE 20 END;
		target timestamptz := day(1 + floor(random() * days)::integer) + random() * interval '20 hours';
		is_there boolean;
		state text;
		message text;
	BEGIN
		is_there := EXISTS (SELECT FROM t WHERE v = value);
		IF kind < 4 THEN
			INSERT INTO t VALUES (value, target);
		ELSIF kind < 5 THEN
			UPDATE t SET v = value WHERE ctid = (SELECT ctid FROM t AS o WHERE v < 1000 LIMIT 1)
				AND shared;
		ELSIF kind < 6 THEN
			UPDATE t SET at = target WHERE v = value;
		ELSIF kind < 7 THEN
			UPDATE t SET note = note || 'x' WHERE v = value;
		ELSE
			DELETE FROM t WHERE v = value;
		END IF;
		IF FOUND THEN
			PERFORM nextval('writes');
		END IF;
		IF random() < 0.3 THEN
			PERFORM pg_sleep(random() * 0.003);
		END IF;
		IF NOT shared AND kind < 4 AND is_there THEN
			INSERT INTO surprises VALUES (client, 'a second row was accepted', NULL, value::text);
		END IF;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
		-- its own values: only its own row can be in the way
		IF NOT shared AND state NOT IN ('40P01', '40001') AND NOT (kind < 4 AND is_there AND state = '23505') THEN
			INSERT INTO surprises VALUES (client, 'own value, kind ' || kind, state, message);
		-- no partition; a pass of the partitions is faster; a row that another session has moved
		ELSIF shared AND state NOT IN ('23505', '40P01', '40001', '23514', '55P03') THEN
			INSERT INTO surprises VALUES (client, 'kind ' || kind, state, message);
		END IF;
	END $$;
});

my $dir = PostgreSQL::Test::Utils::tempdir;
my %script = (
	single => 'SELECT write(random() < 0.7, :client_id);',
	several => 'BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT write(true, :client_id);
SAVEPOINT s;
SELECT write(true, :client_id);
ROLLBACK TO s;
SELECT write(false, :client_id);
COMMIT;',
	repeatable => 'BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT write(true, :client_id);
SELECT write(false, :client_id);
END;',
	serializable => 'BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT write(true, :client_id);
END;',
	# one client only: a prepared transaction's name can't be put together
	prepared => "BEGIN; SELECT write(true, :client_id); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p';");
append_to_file("$dir/$_.sql", $script{$_} =~ s/; /;\n/gr) for keys %script;

# One pgbench for seven clients, one for the one that prepares.
sub clients
{
	my ($time) = @_;
	my @all;

	my @connect = ('-h', $node->host, '-p', $node->port, '--random-seed', $seed, 'postgres');
	push @all, [ 'pgbench', '-n', '-T', $time, '-c', 7, '-j', 2,
		(map { ('-f', "$dir/$_.sql\@" . ($_ eq 'single' ? 6 : 1)) } qw(single several repeatable serializable)),
		@connect ];
	push @all, [ 'pgbench', '-n', '-T', $time, '-c', 1, '-D', 'client_id=7', '-f', "$dir/prepared.sql", @connect ];
	return map { my ($in, $out) = ('', ''); start($_, \$in, '>', \$out, '2>&1') } @all;
}

my $twice = 'SELECT v, count(*), string_agg(tableoid::regclass::text, chr(32)) FROM t WHERE v IS NOT NULL GROUP BY v HAVING count(*) > 1';

# What a person or a tool does to partitions; a refusal has to name the table.
my ($attached, $refused, $bad_refusals, $changed) = (0, 0, 0, 0);
sub change_partitions
{
	my $n = 21 + int(rand(20));
	my $name = "t_$n";
	my $is_partition = $node->safe_psql('postgres', "SELECT relispartition FROM pg_class WHERE oid = to_regclass('$name')");
	my ($stdout, $stderr) = ('', '');
	my $set = "SET lock_timeout = '2s';";

	if ($is_partition eq 't')
	{
		my $how = int(rand(3));

		$changed += 0 == $node->psql('postgres', $how == 0 ? "$set ALTER TABLE t DETACH PARTITION $name"
			: $how == 1 ? "$set DROP TABLE $name" : "ALTER TABLE t DETACH PARTITION $name CONCURRENTLY");
	}
	elsif ($is_partition eq '')
	{
		$changed += 0 == $node->psql('postgres', rand() < 0.5
			? "$set CREATE TABLE $name PARTITION OF t " . $node->safe_psql('postgres', "SELECT bounds($n)")
			: "$set BEGIN; CREATE TABLE $name (LIKE t); ALTER TABLE t ATTACH PARTITION $name "
			  . $node->safe_psql('postgres', "SELECT bounds($n)") . "; INSERT INTO t VALUES (" . int(rand(30)) . ", day($n)) ; COMMIT");
	}
	else
	{
		my $bounds = $node->safe_psql('postgres', "SELECT bounds($n)");

		# its rows may have come back elsewhere meanwhile
		$node->psql('postgres', "$set INSERT INTO $name VALUES (" . int(rand(30)) . ", day($n))") if rand() < 0.3;
		$node->psql('postgres', "$set ALTER TABLE t ATTACH PARTITION $name $bounds", stderr => \$stderr);
		if ($stderr =~ /23505|unique/)
		{
			$refused++;
			$bad_refusals++ unless $stderr =~ /\b$name\b/;
			$node->psql('postgres', "DELETE FROM $name WHERE v IN (SELECT v FROM t)");
		}
		else { $attached++ }
	}
	return;
}

my ($rounds, $bad) = (0, '');
my $end = time + $seconds;
while (time < $end || $rounds == 0)
{
	my $left = $end - time;
	my $time = int($left < 6 ? ($left < 3 ? 3 : $left) : $left / 2) + 1;
	my @running = clients($time);
	my $until = time + $time - 1;

	while (time < $until)
	{
		change_partitions();
		$bad .= $node->safe_psql('postgres', $twice);
		$rounds++;
	}
	# in the middle of it
	if (time < $end && rand() < 0.7)
	{
		$node->stop('immediate');
		$_->finish for @running;
		$node->start;
		$node->safe_psql('postgres', q{SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \gexec});
	}
	else
	{
		$_->finish for @running;
	}
	$bad .= $node->safe_psql('postgres', $twice);
}

note("$rounds looks, $attached attached, $refused refused, "
	  . $node->safe_psql('postgres', q{SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE relname LIKE 't\_%'}) . ' writes since the last start');
cmp_ok($node->safe_psql('postgres', 'SELECT last_value FROM writes'), '>=', 10 * $seconds, 'rows were written all the while');
cmp_ok($changed, '>=', $seconds / 12, 'and partitions came and went');
is($bad, '', 'at no time are there two equal rows');
is($node->safe_psql('postgres', 'SELECT DISTINCT what, state, message FROM surprises LIMIT 10'), '',
	'no write fails without a duplicate');
is($bad_refusals, 0, 'a refused partition is named');
$node->stop;
done_testing();
