# A pass as part of a transaction: isolation levels, cancellation, savepoints,
# rollback, prepared transactions, NOTIFY, and a backend that is killed.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding', 'UTF8' ]);
$node->append_conf('postgresql.conf', "fsync = off\nmax_prepared_transactions = 2\nautovacuum = off\nlog_min_messages = info");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');

sub clock { return "SET sagaz_ha.clock = '2025-01-$_[0] 10:00:00+00';" }

sub table
{
	my ($name, $more) = @_;
	$node->safe_psql('postgres', qq{
		DROP TABLE IF EXISTS $name;
		CREATE TABLE $name (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
		SELECT sagaz_ha.manage_partitions('$name', '1 day', 1, '1 day', unfinished_when => 'todo' @{[ $more // '' ]});
		@{[ clock(15) ]} SELECT * FROM sagaz_ha.maintain_partitions('$name');
	});
	return;
}

my $partitions = q{SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE c.relkind = 'r'};

# Isolation levels
for my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	table('t');
	is( $node->safe_psql('postgres', qq{BEGIN ISOLATION LEVEL $level; @{[ clock(17) ]}
			SELECT action, partition_name FROM sagaz_ha.maintain_partitions('t');
			SELECT count(*) FROM sagaz_ha.maintain_partitions('t');
			COMMIT;}),
		"CREATE|t_y2025m01d17\nCREATE|t_y2025m01d18\nDROP|t_y2025m01d15\n0",
		"$level: a pass, and again nothing in the same transaction");
}

# The one that matters: under REPEATABLE READ, a row that came after the
# snapshot is not seen by the transaction, but keeps its partition
table('t');
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; ' . clock(17) . ' SELECT count(*) FROM t;');
$node->safe_psql('postgres', q{INSERT INTO t VALUES ('2025-01-15 10:00:00+00', true)});
like($session->query_safe('SELECT count(*) FROM t;'), qr/^0$/m, 'the snapshot does not see the row');
like($session->query_safe(q{SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('t') WHERE action <> 'CREATE';}),
	qr/KEEP\|t_y2025m01d15\|1 unfinished row/, 'REPEATABLE READ: an unfinished row that is newer than the snapshot keeps its partition');
$session->query_safe('COMMIT;');
$session->quit;
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), '1', 'the row is still there');

# Cancelled by statement_timeout in the middle: nothing is left of it. The
# owner's condition takes longer than the timeout, after the partitions were made
table('t');
$node->safe_psql('postgres', q{CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM pg_sleep(600); RETURN false; END';
	SELECT sagaz_ha.manage_partitions('t', '1 day', 1, '1 day', unfinished_when => 'slow()');
	INSERT INTO t VALUES ('2025-01-15 10:00:00+00', false)});
my $before = $node->safe_psql('postgres', $partitions);
my $history = $node->safe_psql('postgres', 'SELECT count(*) FROM sagaz_ha.partition_history');
my ($code, $stdout, $stderr) =
	$node->psql('postgres', clock(17) . q{SET statement_timeout = '500ms'; SELECT * FROM maintain_all_partitions()});
like($stderr, qr/canceling statement due to statement timeout/, 'statement_timeout ends a pass');
is($node->safe_psql('postgres', $partitions), $before, '... and nothing is left of it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sagaz_ha.partition_history'), $history, '... nor in the history');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass}), '0', '... nor a lock');

# Cancelled by pg_cancel_backend(), and ended by pg_terminate_backend()
for my $function ('pg_cancel_backend', 'pg_terminate_backend')
{
	my $victim = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $victim->query('SELECT pg_backend_pid();');
	chomp $pid;
	$victim->query_until(qr/started/, clock(17) . "\\echo started\nSELECT * FROM maintain_all_partitions();\n");
	$node->poll_query_until('postgres', qq{SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid}) or die;
	$node->safe_psql('postgres', "SELECT $function($pid)");
	$node->poll_query_until('postgres', qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND state = 'active'}) or die;
	is($node->safe_psql('postgres', $partitions), $before, "$function: nothing is left");
	eval { $victim->quit };
}

# Rolled back, rolled back to a savepoint, rolled back by a crash
table('t');
$before = $node->safe_psql('postgres', $partitions);
is( $node->safe_psql('postgres', qq{@{[ clock(17) ]} BEGIN; SAVEPOINT s; SELECT count(*) FROM sagaz_ha.maintain_partitions('t');
		ROLLBACK TO s; SELECT count(*) FROM sagaz_ha.maintain_partitions('t'); ROLLBACK;}),
	"3\n3", 'ROLLBACK TO undoes a pass');
is($node->safe_psql('postgres', $partitions), $before, 'ROLLBACK undoes a pass');
my $crash = $node->background_psql('postgres', on_error_stop => 0);
$crash->query_safe('BEGIN; ' . clock(17) . q{ SELECT count(*) FROM sagaz_ha.maintain_partitions('t');});
$node->stop('immediate');
eval { $crash->quit };
$node->start;
is($node->safe_psql('postgres', $partitions), $before, 'a crash undoes a pass');
is( $node->safe_psql('postgres', clock(17) . q{SELECT action, partition_name FROM sagaz_ha.maintain_partitions('t')}),
	"CREATE|t_y2025m01d17\nCREATE|t_y2025m01d18\nDROP|t_y2025m01d15",
	'and the next one does what was left');

# NOTIFY: each entry as JSON on commit, none when rolled back
table('t');
$node->safe_psql('postgres', q{INSERT INTO t VALUES ('2025-01-15 10:00:00+00', true)});
($code, $stdout, $stderr) = $node->psql('postgres', qq{LISTEN sagaz_ha; @{[ clock(17) ]}
	BEGIN; SELECT count(*) FROM sagaz_ha.maintain_partitions('t'); ROLLBACK;
	SELECT 'rolled back';
	SELECT count(*) FROM sagaz_ha.maintain_partitions('t');
	SELECT count(*) FROM sagaz_ha.maintain_partitions('t');});
my @payloads = $stdout =~ /notification "sagaz_ha" with payload "(.*)" received/g;
is(scalar(@payloads), 3, 'three entries, three notifications: none for what was rolled back, none twice');
unlike((split /rolled back/, $stdout)[0], qr/notification/, 'none before the rollback');
like($payloads[0], qr/^{"action": "CREATE", "table": "t", "partition": "t_y2025m01d17", "id": \d+}$/, 'a payload');
like($payloads[2], qr/^{"action": "KEEP", "table": "t", "partition": "t_y2025m01d15", "id": \d+}$/, 'another');
# of an error that is longer than a payload can be
$node->safe_psql('postgres', q{
	CREATE FUNCTION loud() RETURNS boolean LANGUAGE plpgsql STABLE AS $$BEGIN RAISE EXCEPTION '%', repeat('"日', 5000); END$$;
	SELECT sagaz_ha.manage_partitions('t', '1 day', 1, '1 day', unfinished_when => 'loud()')});
($code, $stdout, $stderr) = $node->psql('postgres', qq{LISTEN sagaz_ha; @{[ clock(17) ]} SELECT count(*) FROM sagaz_ha.maintain_partitions('t')});
is($code, 0, 'an error of 20,000 bytes stops nothing');
my ($long) = $stdout =~ /with payload "(.*)" received/s;
isnt($long, undef, 'and is announced') and
	is($node->safe_psql('postgres', "SELECT \$j\$$long\$j\$::json ->> 'action'"), 'ERROR', 'as valid JSON');

# The pass within functions, procedures and DO, where transactions can't be ended
table('t');
is( $node->safe_psql('postgres', qq{@{[ clock(17) ]}
		CREATE PROCEDURE nightly() LANGUAGE plpgsql AS 'BEGIN PERFORM maintain_all_partitions(); COMMIT; END';
		CALL nightly(); DO 'BEGIN PERFORM maintain_all_partitions(); END'; SELECT count(*) FROM maintain_all_partitions()}),
	'0', 'in a procedure and in DO');
is( $node->safe_psql('postgres', qq{@{[ clock(18) ]} BEGIN; DECLARE c CURSOR FOR SELECT at FROM t; FETCH c;
		SELECT action FROM sagaz_ha.maintain_partitions('t') WHERE action <> 'CREATE'; COMMIT;}),
	'DEFER', "the caller's own open cursor on the table: DEFER, no error");
is( $node->safe_psql('postgres', qq{@{[ clock(18) ]} SELECT DISTINCT action FROM t FULL JOIN sagaz_ha.maintain_partitions('t') ON true}),
	'DEFER', "a query that reads the table itself: DEFER");

# A prepared transaction holds its locks without a process: DEFER, and the rest goes on
table('t');
$node->safe_psql('postgres', q{BEGIN; INSERT INTO t VALUES ('2025-01-15 10:00:00+00', false); PREPARE TRANSACTION 'p'});
is( $node->safe_psql('postgres', clock(17) . q{SELECT action, partition_name FROM sagaz_ha.maintain_partitions('t')}),
	"CREATE|t_y2025m01d17\nCREATE|t_y2025m01d18\nDEFER|t_y2025m01d15",
	'a prepared transaction in the way: DEFER');
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
is( $node->safe_psql('postgres', clock(17) . q{SELECT action, partition_name FROM sagaz_ha.maintain_partitions('t')}),
	'DROP|t_y2025m01d15', '... and gone, DROP');
# and a pass can be prepared itself, but for NOTIFY
($code, $stdout, $stderr) = $node->psql('postgres', clock(18) . q{BEGIN; SELECT * FROM sagaz_ha.maintain_partitions('t'); PREPARE TRANSACTION 'q'});
like($stderr, qr/cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY/, "a pass can't be prepared, as documented by NOTIFY");

# enough of them: no leak of files, snapshots, resources is reported
$node->safe_psql('postgres', join("\n", map { clock($_) . 'SELECT count(*) FROM maintain_all_partitions();' } (17 .. 31)));
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/leak|TRAP|PANIC/, 'no leak warnings');

$node->stop;
done_testing();
