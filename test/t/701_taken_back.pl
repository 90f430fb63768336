# What can't be ended once it is detached is attached again, with all its rows, and
# takes writes; that is an error, which backs off, and the other partitions go on.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run qw(finish);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF TG_EVENT <> 'sql_drop' OR EXISTS (SELECT FROM pg_event_trigger_dropped_objects()
			WHERE object_type = 'table' AND object_name LIKE '%y2026m03d05') THEN
			RAISE EXCEPTION 'nothing is dropped here, says %', clock_timestamp() USING ERRCODE = 'P0404';
		END IF;
	END $$});

sub is_back
{
	my ($table, $partition, $name) = @_;

	ok(defined when($node, 'postgres', qq{EXISTS (SELECT FROM pg_inherits
		WHERE inhrelid = to_regclass('$partition') AND NOT inhdetachpending)}), "$name: it is attached again");
	is($node->safe_psql('postgres', "SELECT count(*) FROM $table WHERE tableoid = '$partition'::regclass"), '1',
		"$name: with its rows");
	$node->safe_psql('postgres', "UPDATE $table SET payload = 'written' WHERE tableoid = '$partition'::regclass");
	is($node->safe_psql('postgres', "SELECT count(*) FROM sagaz_ha.retirement WHERE partition = '$partition'::regclass"), '0',
		"$name: takes writes, and is not being retired");
	return;
}

sub errors
{
	my ($table, $more) = @_;

	return $node->safe_psql('postgres', qq{SELECT count(*) FROM sagaz_ha.partition_history
		WHERE table_name = '$table' AND action = 'ERROR'} . ($more // ''));
}

# -------- an event trigger that refuses the DROP of one partition

my %policies = (
	plain => undef,
	fenced => 'NOT done',
	referencing => undef);
$node->safe_psql('postgres', 'CREATE EVENT TRIGGER refuse ON sql_drop EXECUTE FUNCTION refuse()');
foreach my $table (sort keys %policies)
{
	my $before = $table eq 'referencing'
	  ? "CREATE TABLE others (id bigint PRIMARY KEY); INSERT INTO others SELECT id FROM $table;
		ALTER TABLE $table ADD FOREIGN KEY (id) REFERENCES others" : undef;

	take_table($node, 'postgres', $table, days => [ -5, 0 ], unfinished_when => $policies{$table}, before => $before);
}
foreach my $table (sort keys %policies)
{
	my $partition = "${table}_y2026m03d05";

	ok(defined when($node, 'postgres', qq{EXISTS (SELECT FROM sagaz_ha.problem WHERE partition_name = '$partition'
		AND action = 'ERROR' AND sqlstate = 'P0404' AND times >= 3 AND next_try IS NOT NULL)}), "$table: the error is tried again, and backs off");
	ok(defined when($node, 'postgres', "to_regclass('${table}_y2026m03d06') IS NULL"), "$table: the other partition goes");
	# before this test takes locks of its own, for which a try is put off
	is(errors($table), '1', "$table: an error whose words change is one error");
	is($node->safe_psql('postgres', qq{SELECT count(*) <= 2 FROM sagaz_ha.partition_history
		WHERE partition_name = '$partition'}), 't', "$table: and trying again is no news");
	is_back($table, $partition, $table);
	like($node->safe_psql('postgres', qq{SELECT status || details FROM sagaz_ha.partition_health()
		WHERE table_name = '$table' AND check_name = 'errors'}), qr/^critical.*nothing is dropped here/, "$table: health says so");
}
# what doesn't end by itself is tried ever less often, and stays attached meanwhile
ok(defined when($node, 'postgres', 'NOT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)'), 'nothing is left pending');
$node->safe_psql('postgres', q{DROP EVENT TRIGGER refuse; SELECT count(*) FROM maintain_all_partitions()});
foreach my $table (sort keys %policies)
{
	is_partitions($node, 'postgres', $table, -3, 3, "$table: it goes when nothing refuses that any more");
	ok(defined when($node, 'postgres', qq{NOT EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = '$table')}),
		"$table: no problem is left");
}

# -------- what comes while the detach is pending

$node->safe_psql('postgres', q{
	CREATE TABLE seen (role text);
	CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO public.seen VALUES (current_setting('session_replication_role')); END $$;
	CREATE EVENT TRIGGER see ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION see();
	ALTER EVENT TRIGGER see ENABLE ALWAYS});

my %between = (
	dependency => [ 'CREATE VIEW dependency_v AS SELECT * FROM dependency_y2026m03d05', 'DROP VIEW dependency_v', '2BP01' ],
	refused => [ 'CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse()', 'DROP EVENT TRIGGER refuse', 'P0404' ],
	refused_after => [ 'CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse()', 'DROP EVENT TRIGGER refuse', 'P0404' ],
	archived => [ 'ALTER SCHEMA archive RENAME TO elsewhere', 'ALTER SCHEMA elsewhere RENAME TO archive', '3F000',
		q{retention_action => 'archive', archive_schema => 'archive'} ]);
$node->safe_psql('postgres', 'CREATE SCHEMA archive');
foreach my $table (sort keys %between)
{
	my ($change, $back, $state, $policy) = @{ $between{$table} };
	my $partition = "${table}_y2026m03d05";

	$policy //= q{unfinished_when => 'NOT done'};
	expired_table($node, $table, -5, 0);
	my $session = reading_transaction($node, $partition, 600);
	$node->safe_psql('postgres', "SELECT sagaz_ha.manage_partitions('$table', '1 day', 3, '3 days', $policy)");
	ok(defined when($node, 'postgres', "EXISTS (SELECT FROM sagaz_ha.retirement
		WHERE partition = '$partition'::regclass AND waits_for IS NOT NULL)"),
		"$table: a detach is pending");
	$node->safe_psql('postgres', $change);
	$node->poll_query_until('postgres', q{SELECT count(pg_terminate_backend(pid)) = 1
		FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'}) or die 'no reader';
	finish $session->{run};
	ok(defined when($node, 'postgres', qq{EXISTS (SELECT FROM sagaz_ha.partition_history
		WHERE partition_name = '$partition' AND action = 'ERROR' AND details LIKE '$state: %')}), "$table: the error says why");
	is_back($table, $partition, $table);
	$node->safe_psql('postgres', "$back; SELECT count(*) FROM sagaz_ha.maintain_partitions('$table')");
	is_partitions($node, 'postgres', $table, -3, 3, "$table: both go then");
}

is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM seen WHERE role = 'replica'; DROP EVENT TRIGGER see}), 't',
	'an event trigger that is ALWAYS on is asked all the same: one of them keeps unique keys');

# -------- another session finishes our detach, and then something needs the table

stop_at($node, 'detach:after_first_commit');
take_table($node, 'postgres', 'finished', days => [ -4, 0 ], unfinished_when => 'NOT done');
stopped_at($node, 'detach:after_first_commit');
$node->safe_psql('postgres', q{ALTER TABLE finished DETACH PARTITION finished_y2026m03d06 FINALIZE;
	CREATE VIEW finished_v AS SELECT * FROM finished_y2026m03d06});
let_go($node);
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.partition_history
	WHERE partition_name = 'finished_y2026m03d06' AND action = 'ERROR' AND details LIKE '2BP01: %finished_v%')}),
	'finished by another session: the error says why');
is_back('finished', 'finished_y2026m03d06', 'finished by another session');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'finished_y2026m03d06' AND action = 'KEEP' AND details LIKE '%view public.finished_v')}),
	'finished by another session: and then it is kept');
$node->safe_psql('postgres', 'DROP VIEW finished_v');
is_partitions($node, 'postgres', 'finished', -3, 3, 'finished by another session: until nothing needs it');

# -------- the same, and it is attached again, or held

stop_at($node, 'detach:after_first_commit');
take_table($node, 'postgres', 'attached', days => [ -4, 0 ], unfinished_when => 'NOT done');
stopped_at($node, 'detach:after_first_commit');
$node->safe_psql('postgres', 'ALTER TABLE attached DETACH PARTITION attached_y2026m03d06 FINALIZE');
stop_at($node, 'end:before_lock');
stopped_at($node, 'end:before_lock');
$node->safe_psql('postgres', q{
	ALTER TABLE attached ATTACH PARTITION attached_y2026m03d06 FOR VALUES FROM ('2026-03-06 00:00+00') TO ('2026-03-07 00:00+00');
	SELECT sagaz_ha.manage_partitions('attached', '1 day', 3, '30 days', unfinished_when => 'NOT done')});
let_go($node);
ok(defined when($node, 'postgres', q{NOT EXISTS (SELECT FROM sagaz_ha.retirement WHERE parent = 'attached'::regclass)}),
	'attached while it was about to go: it is not being retired any more');
is_back('attached', 'attached_y2026m03d06', 'attached while it was about to go');

stop_at($node, 'detach:after_first_commit');
take_table($node, 'postgres', 'held', days => [ -4, 0 ], unfinished_when => 'NOT done');
stopped_at($node, 'detach:after_first_commit');
$node->safe_psql('postgres', q{SELECT sagaz_ha.hold_partition('held_y2026m03d06', 'case 17');
	ALTER TABLE held DETACH PARTITION held_y2026m03d06 FINALIZE});
let_go($node);
is_back('held', 'held_y2026m03d06', 'held when its detach had been finished');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'held_y2026m03d06' AND action = 'KEEP' AND details = 'held: case 17')}),
	'held when its detach had been finished: and kept');

# -------- another session's detach, of a partition that is announced

my $reader = do {
	stop_at($node, 'detach:before');
	take_table($node, 'postgres', 'theirs', days => [ -4, 0 ], unfinished_when => 'NOT done');
	stopped_at($node, 'detach:before');
	reading_transaction($node, 'theirs', 600);
};
my (undef, undef, $waited) = $node->psql('postgres', q{SET lock_timeout = '100ms';
	ALTER TABLE theirs DETACH PARTITION theirs_y2026m03d06 CONCURRENTLY});
like($waited, qr/lock timeout/, 'another session begins to detach it');
let_go($node);
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.retirement WHERE parent = 'theirs'::regclass
	AND phase = 'detaching' AND NOT detach_is_ours AND waits_for IS NOT NULL)}), 'which is not taken for ours');
$node->poll_query_until('postgres', q{SELECT count(pg_terminate_backend(pid)) = 1
	FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'}) or die 'no reader';
finish $reader->{run};
ok(defined when($node, 'postgres', q{NOT EXISTS (SELECT FROM sagaz_ha.retirement WHERE parent = 'theirs'::regclass)
	AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'theirs_y2026m03d06'::regclass)}), 'it is finished, and the table stays');
$node->safe_psql('postgres', q{INSERT INTO theirs_y2026m03d06 (id, created_at) OVERRIDING SYSTEM VALUE VALUES (99, '2026-03-06 20:00+00')});

# -------- a longer retention while it waits for a function, or drains

$node->safe_psql('postgres', q{CREATE FUNCTION disagree(regclass) RETURNS boolean LANGUAGE sql AS 'SELECT false'});
take_table($node, 'postgres', 'asks', days => [ -4, 0 ], more => q{, before_drop => 'disagree(regclass)'::regprocedure});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'asks_y2026m03d06' AND action = 'ERROR' AND details LIKE '%returned false%')}), 'a partition waits for a function');
$node->safe_psql('postgres', q{SELECT sagaz_ha.manage_partitions('asks', '1 day', 3, '30 days', before_drop => 'disagree(regclass)'::regprocedure)});
is_back('asks', 'asks_y2026m03d06', 'a longer retention while it waits for a function');

# a function that isn't asked any more
take_table($node, 'postgres', 'unasked', days => [ -4, 0 ],
	more => q{, retention_action => 'detach', before_drop => 'disagree(regclass)'::regprocedure});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem
	WHERE partition_name = 'unasked_y2026m03d06' AND action = 'ERROR' AND details LIKE '%returned false%')}), 'one more waits for it');
$node->safe_psql('postgres', q{SELECT sagaz_ha.manage_partitions('unasked', '1 day', 3, '3 days', 'detach')});
ok(defined when($node, 'postgres', q{NOT EXISTS (SELECT FROM sagaz_ha.retirement WHERE parent = 'unasked'::regclass)}),
	'until the policy has no function any more');
$node->safe_psql('postgres', q{INSERT INTO unasked_y2026m03d06 (id, created_at) OVERRIDING SYSTEM VALUE VALUES (99, '2026-03-06 20:00+00')});
pass('then the table takes writes');

expired_table($node, 'drains', -4, 0);
$reader = reading_transaction($node, 'drains_y2026m03d06', 600);
$node->safe_psql('postgres', q{SELECT sagaz_ha.manage_partitions('drains', '1 day', 3, '3 days')});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.retirement
	WHERE parent = 'drains'::regclass AND detach_is_ours AND waits_for IS NOT NULL)}), 'a partition drains');
$node->safe_psql('postgres', q{SELECT sagaz_ha.manage_partitions('drains', '1 day', 3, '30 days')});
$node->poll_query_until('postgres', q{SELECT count(pg_terminate_backend(pid)) = 1
	FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'}) or die 'no reader';
finish $reader->{run};
is_back('drains', 'drains_y2026m03d06', 'a longer retention while it drains');

# -------- killed while it is being taken back

my $day = 0;
foreach my $point (qw(take_back:before_commit take_back:after_commit))
{
	my $table = 'killed_' . $day++;
	my $partition = "${table}_y2026m03d05";

	$node->safe_psql('postgres', 'CREATE EVENT TRIGGER refuse ON sql_drop EXECUTE FUNCTION refuse()');
	stop_at($node, $point);
	take_table($node, 'postgres', $table, days => [ -5, 0 ], unfinished_when => 'NOT done');
	my $pid = stopped_at($node, $point);
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET sagaz_ha.stop_at');
	kill 'KILL', $pid;
	# not the server of before, which may not know yet
	$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)")
	  or die 'the server did not come back';
	configure($node);
	ok(defined when($node, 'postgres', qq{EXISTS (SELECT FROM sagaz_ha.problem WHERE partition_name = '$partition'
		AND action = 'ERROR' AND times >= 2)}), "$point: the error is found again");
	is_back($table, $partition, $point);
	$node->safe_psql('postgres', "DROP EVENT TRIGGER refuse; SELECT count(*) FROM sagaz_ha.maintain_partitions('$table')");
	is_partitions($node, 'postgres', $table, -3, 3, "$point: and both go in the end");
	is_consistent($node, 'postgres', $table, "$point: nothing is half done");
}

# -------- an error whose words change, of a partition that can't be made

$node->safe_psql('postgres', q{CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE TABLE')
	EXECUTE FUNCTION refuse()});
configure($node, 'sagaz_ha.clock' => '2026-03-11 12:00:00+00');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = 'plain' AND times >= 4)}),
	'making a partition is tried again');
is(errors('plain', q{ AND partition_name LIKE '%03d14'}), '1', 'and is one error in the history');

$node->stop('fast');
done_testing();
