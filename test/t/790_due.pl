# Work is due at a time, or because something happened: each time and each cause, and
# nothing else, starts a process. And a database without room says so.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazClock;
use SagazTest;
use Test::More;
use Time::HiRes qw(usleep);

my $dir = PostgreSQL::Test::Utils::tempdir;
my %clock = clock_environment($dir);

# A nap this long never ends within the test: what happens has another reason.
my $node = sagaz_server('main', start => 0,
	conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\nsagaz_ha.max_databases = 3\nmax_prepared_transactions = 5\n");
{
	local @ENV{ keys %clock } = values %clock;
	$node->start;
}
my $sql = sub { return $node->safe_psql('postgres', shift) };
my $passes = q{(SELECT sum(passes) FROM sagaz_ha.maintenance_status() WHERE database = 'postgres')};

# Waits until nothing runs or is about to, and nothing will soon.
sub is_at_rest
{
	my ($database) = @_;

	when($node, 'postgres', qq{NOT EXISTS (SELECT FROM sagaz_ha.maintenance_status() WHERE database = '$database'
		AND (pid IS NOT NULL OR process IN ('worker', 'upkeep') AND (next_pass IS NULL OR next_pass < clock_timestamp() + interval '30 s')))})
	  // die "no rest in $database";
	return;
}

# What a statement brings about within 2 s, though nothing is due for an hour.
sub wakes
{
	my ($statement, $condition, $name, $limit) = @_;
	my $before;

	is_at_rest('postgres');
	$before = $sql->("SELECT $passes");
	$sql->($statement);
	is_within(when($node, 'postgres', $condition // "$passes > $before"), $limit // 2, $name);
	return;
}

$sql->('CREATE EXTENSION sagaz_ha; CREATE ROLE somebody; CREATE SCHEMA elsewhere; GRANT ALL ON SCHEMA elsewhere TO somebody');

# -------- what is done to partitions

$sql->(q{
	CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	SELECT sagaz_ha.manage_partitions('t', '1 day', 3, '10 days', auto_analyze => false, auto_freeze => false)});
my $count = q{(SELECT count(*) FROM pg_inherits WHERE inhparent = 't'::regclass)};
when($node, 'postgres', "$count = 4") or die 'no partitions';
my ($last) = $sql->('SELECT max(inhrelid::regclass::text) FROM pg_inherits');
my $again = "to_regclass('$last') IS NOT NULL";

wakes("DROP TABLE $last", $again, 'a partition that is dropped is made again within 2 s');
wakes("DO \$\$BEGIN BEGIN DROP TABLE $last; EXCEPTION WHEN division_by_zero THEN NULL; END; END\$\$", $again,
	'so is one that a function drops, in a subtransaction');
wakes("CREATE SCHEMA gone; ALTER TABLE $last SET SCHEMA gone; DROP SCHEMA gone CASCADE", $again, 'or that goes with its schema');
wakes("ALTER TABLE t DETACH PARTITION $last; ALTER TABLE $last RENAME TO kept", $again, 'or that is detached');
$sql->('DROP TABLE kept');
wakes(q{CREATE TABLE old PARTITION OF t FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')}, q{to_regclass('old') IS NULL},
	'one that is made, and has expired, goes', 5);
wakes(q{CREATE TABLE old (at timestamptz NOT NULL); ALTER TABLE t ATTACH PARTITION old FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')},
	q{to_regclass('old') IS NULL}, 'so does one that is attached', 5);
wakes("ALTER TABLE $last RENAME TO renamed", undef, 'a partition that is renamed wakes a pass');
wakes('ALTER TABLE t SET SCHEMA elsewhere', undef, 'so does another schema of the table');
wakes('ALTER TABLE elsewhere.t OWNER TO somebody', undef, 'and another owner');
$sql->('ALTER TABLE elsewhere.t OWNER TO CURRENT_USER; ALTER TABLE elsewhere.t SET SCHEMA public; ALTER TABLE renamed RENAME TO ' . $last);

is_at_rest('postgres');
my $before = $sql->("SELECT $passes");
$sql->("CREATE TABLE plain (); ALTER TABLE plain RENAME TO plainer; DROP TABLE plainer;
	CREATE TABLE a (); CREATE TABLE b () INHERITS (a); DROP TABLE a CASCADE; VACUUM FULL $last") for 1 .. 5;
wakes("DROP TABLE $last", $again, 'a partition that is dropped after others were');
is_at_rest('postgres');
cmp_ok($sql->("SELECT $passes - $before"), '<=', 3, 'tables that are no partitions wake nobody');

# -------- what is due at a time

$sql->(q{
	CREATE TABLE soon (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	SELECT format('CREATE TABLE soon_first PARTITION OF soon FOR VALUES FROM (%L) TO (%L)',
		clock_timestamp() - interval '1 day', clock_timestamp() + interval '65 s') \gexec
	SELECT sagaz_ha.manage_partitions('soon', '1 minute', 1)});
is_within(when($node, 'postgres', q{(SELECT count(*) FROM pg_inherits WHERE inhparent = 'soon'::regclass) = 2}), 9,
	'a partition is made when it is due, in 5 s');
$sql->(q{
	DROP TABLE soon;
	CREATE TABLE soon (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	SELECT format('CREATE TABLE soon_first PARTITION OF soon FOR VALUES FROM (%L) TO (%L)',
		clock_timestamp() - interval '1 day', clock_timestamp() - interval '1 hour' + interval '5 s') \gexec
	SELECT format('CREATE TABLE soon_second PARTITION OF soon FOR VALUES FROM (%L) TO (%L)',
		(SELECT split_part(pg_get_expr(relpartbound, oid), '''', 4) FROM pg_class WHERE relname = 'soon_first'),
		clock_timestamp() + interval '30 days') \gexec
	SELECT sagaz_ha.manage_partitions('soon', '1 hour', 1, '1 hour')});
is_within(when($node, 'postgres', q{to_regclass('soon_first') IS NULL}), 9, 'a partition goes when it expires, in 5 s');
$sql->(q{
	DROP TABLE soon;
	CREATE TABLE soon (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	SELECT format('CREATE TABLE soon_first PARTITION OF soon FOR VALUES FROM (%L) TO (%L)',
		clock_timestamp() - interval '1 day', clock_timestamp() + interval '8 s') \gexec
	INSERT INTO soon SELECT clock_timestamp();
	SELECT sagaz_ha.manage_partitions('soon', '1 day', 1)});
is_within(when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.partition_history WHERE action = 'FREEZE' AND partition_name = 'soon_first')}),
	13, 'a partition is frozen when its period ends, in 8 s');
$sql->('DROP TABLE soon');

# -------- extensions and databases

$sql->('CREATE DATABASE other');
my $has_other = q{EXISTS (SELECT FROM sagaz_ha.maintenance_status() WHERE database = 'other')};
when($node, 'other', 'true');
$node->safe_psql('other', 'CREATE EXTENSION sagaz_ha');
is_within(when($node, 'postgres', $has_other), 2, 'a database is known by CREATE EXTENSION');
$node->safe_psql('other', q{CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	SELECT sagaz_ha.manage_partitions('t', '1 day', 3)});
when($node, 'other', $count . ' = 4') or die 'no partitions';
is_at_rest('other');
$node->safe_psql('other', 'DROP EXTENSION sagaz_ha CASCADE');
is_within(when($node, 'postgres', "NOT $has_other"), 2, 'and forgotten by DROP EXTENSION');
$node->safe_psql('other', 'CREATE EXTENSION sagaz_ha');
when($node, 'postgres', $has_other) or die 'not known again';
$sql->('ALTER DATABASE other IS_TEMPLATE true');
is_within(when($node, 'postgres', "NOT $has_other"), 2, 'a database that becomes a template is left');
$sql->('ALTER DATABASE other IS_TEMPLATE false');
is_within(when($node, 'postgres', $has_other), 2, 'and known again when it is none any more');

# -------- more databases than there is room for

my $health = q{SELECT status, details FROM sagaz_ha.partition_health() WHERE check_name = 'worker'};
my $offset = -s $node->logfile;
$sql->('CREATE DATABASE third TEMPLATE other; CREATE DATABASE fourth TEMPLATE other');
# which of the two, is the order of pg_database
$node->wait_for_log(qr/not maintained, because there is room for 3 only: (third|fourth)/, $offset);
my ($out) = log_since($node, $offset) =~ /room for 3 only: (\w+)/;
my ($in) = grep { $_ ne $out } qw(third fourth);
is(scalar(log_lines($node, $offset, qr/room for 3 only/)), 1, 'the log names a database without room, once');
like($node->safe_psql($out, $health), qr/^critical\|.*has no room for this database: raise sagaz_ha.max_databases \(3\)/,
	'its health is critical');
like($node->safe_psql($in, $health), qr/^ok\|/, 'that of another one is not');
$sql->("DROP DATABASE $in");
is_within(when($node, 'postgres', "EXISTS (SELECT FROM sagaz_ha.maintenance_status() WHERE database = '$out')"), 2,
	'when another one goes, it has room');
like($node->safe_psql($out, $health), qr/^ok\|/, 'and its health is ok');
$sql->("DROP DATABASE $out");

# -------- a backend that needed a database for itself, and was terminated

$sql->('CREATE DATABASE mine TEMPLATE other');
my $in_mine = q{SELECT passes FROM sagaz_ha.maintenance_status() WHERE database = 'mine' AND process = 'worker'};
when($node, 'postgres', "($in_mine) > 0") // die 'no pass';
is_at_rest('mine');
my $session = $node->background_psql('mine');
$session->query_safe('SELECT 1');
my $renaming = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'ALTER DATABASE mine RENAME TO yours' ], '2>', \my $said);
my $renames = q{FROM pg_stat_activity WHERE query LIKE 'ALTER DATABASE mine%' AND state = 'active' AND pid <> pg_backend_pid()};
when($node, 'postgres', "EXISTS (SELECT $renames)") // die 'no ALTER DATABASE';
$before = $sql->($in_mine);
$session->query_safe('UPDATE sagaz_ha.partition_policy SET premake = premake');
$sql->("SELECT pg_terminate_backend(pid, 10000) $renames");
$renaming->finish;
is_within(when($node, 'postgres', "($in_mine) > $before"), 15, 'what is due in its database is done');
$session->quit;
$sql->('DROP DATABASE mine');

# -------- a clock that is set

SKIP:
{
	skip 'no C compiler', 6 unless %clock;
	# so often the launcher looks
	configure($node, 'sagaz_ha.naptime' => '10s');
	is_at_rest('postgres');
	# as many go as are made
	my $newest = q{(SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 't'::regclass)};
	my $now = $sql->("SELECT $newest");
	move_clock($dir, 3 * 86400);
	is_within(when($node, 'postgres', "$newest > '$now'"), 15, 'a clock that is set ahead is noticed');
	is_at_rest('postgres');
	$before = $sql->("SELECT $passes");
	move_clock($dir, 86400);
	is_within(when($node, 'postgres', "$passes > $before"), 15, 'so is one that is set back, though not as far');
	is_at_rest('postgres');

	# the launcher stands still, and what is due isn't done
	my $launcher = $sql->(q{SELECT pid FROM sagaz_ha.maintenance_status() WHERE process = 'launcher'});
	kill 'STOP', $launcher;
	move_clock($dir, 2 * 86400);
	is($sql->(q{SELECT phase, overdue > '12 hours' FROM sagaz_ha.maintenance_status() WHERE process = 'worker' AND database = 'postgres'}),
		'overdue|t', 'what was due and is not done is overdue');
	like($sql->($health), qr/^warning\|.*a pass has been due for/, 'health says so');
	kill 'CONT', $launcher;
	is_within(when($node, 'postgres', q{(SELECT phase <> 'overdue' AND overdue < '1 min' FROM sagaz_ha.maintenance_status()
		WHERE process = 'worker' AND database = 'postgres')}), 15, 'until it is done');
	like($sql->($health), qr/^ok\|/, 'and then it is well');
}

# -------- what only its writes tell of

configure($node, 'sagaz_ha.naptime' => '2s');
$sql->(q{
	CREATE TABLE w (at timestamptz NOT NULL, done boolean) PARTITION BY RANGE (at);
	SELECT sagaz_ha.manage_partitions('w', '1 day', 3, '2 days', unfinished_when => 'NOT done')});
is_at_rest('postgres');
my $idle = q{(SELECT sum(passes) FROM sagaz_ha.maintenance_status() WHERE database = 'other')};
is_at_rest('other');
my $rests = $sql->("SELECT $idle");
$sql->('INSERT INTO w SELECT clock_timestamp(), true FROM generate_series(1, 1000)');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.partition_history WHERE action = 'ANALYZE' AND table_name = 'w')}),
	'a table is analyzed when its partitions have rows');
is_at_rest('postgres');
$before = $sql->("SELECT $passes");
$sql->("BEGIN; DROP TABLE $last; PREPARE TRANSACTION 'drop'");
$sql->("COMMIT PREPARED 'drop'");
is_within(when($node, 'postgres', "to_regclass('$last') IS NOT NULL"), 20, 'a partition that a prepared transaction drops is made again');
is_at_rest('postgres');
$sql->('CREATE INDEX by_done ON ONLY w (done)');
ok(defined when($node, 'postgres', q{(SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_done'::regclass)}),
	'an index that is made of the table alone is made of its partitions');
$sql->(q{SELECT format('CREATE TABLE w_old PARTITION OF w FOR VALUES FROM (%L) TO (%L)', '2020-01-01', '2020-01-02') \gexec
	INSERT INTO w VALUES ('2020-01-01 12:00', false)});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem WHERE action = 'KEEP')}), 'a partition is kept');
$before = $sql->("SELECT $passes");
ok(defined when($node, 'postgres', "$passes > $before + 6"), 'and looked at again and again');
$sql->('UPDATE w SET done = true');
ok(defined when($node, 'postgres', q{to_regclass('w_old') IS NULL}), 'until it may go');
is($sql->("SELECT $idle"), $rests, 'a database in which nothing happens has had no process meanwhile');
is_at_rest('postgres');
pass('and when nothing is left to be done, all rest');

# -------- who waits for a lock is not called again by what happens elsewhere

$sql->(q{
	CREATE TABLE topics (id int PRIMARY KEY);
	CREATE TABLE tied (at timestamptz NOT NULL, topic int REFERENCES topics) PARTITION BY RANGE (at)});
configure($node, 'sagaz_ha.naptime' => '1h');
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE topics IN ROW EXCLUSIVE MODE');
$sql->(q{SELECT sagaz_ha.manage_partitions('tied', '1 day', 3, auto_analyze => false, auto_freeze => false)});
my $waits = q{EXISTS (SELECT FROM sagaz_ha.maintenance_status() WHERE database = 'postgres' AND process = 'worker'
	AND pid IS NULL AND next_pass > clock_timestamp() + interval '%s s')};
when($node, 'postgres', sprintf($waits, 3)) // die 'no pause';
$sql->("DROP TABLE $last");
is($sql->('SELECT ' . sprintf($waits, 1)), 't', 'a pass that missed a lock comes again after its pause, whatever is dropped meanwhile');
$before = $sql->("SELECT $passes");
$sql->(q{SELECT sagaz_ha.manage_partitions('t', '1 day', 3, '10 days', auto_analyze => false, auto_freeze => false)});
is_within(when($node, 'postgres', "$passes > $before"), 5, 'but at once for a policy');
$holder->query_safe('COMMIT');
$holder->quit;
ok(defined when($node, 'postgres', q{to_regclass('$last') IS NOT NULL AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'tied'::regclass)} =~ s/\$last/$last/r),
	'and all is made in the end');

# -------- what a pass with nothing to do costs

is_at_rest('postgres');
$before = $sql->("SELECT $passes");
$offset = -s $node->logfile;
# a reload starts one of each kind
configure($node, 'log_line_prefix' => '%p %b: ', 'log_planner_stats' => 'on');
when($node, 'postgres', qq{$passes >= $before + 3}) // die 'no pass';
is_at_rest('postgres');
configure($node, 'log_line_prefix' => undef, 'log_planner_stats' => undef);
my %plans;
$plans{$_}++ for map { /^(\d+) sagaz_ha worker: LOG:  PLANNER STATISTICS/ ? $1 : () } split /\n/, log_since($node, $offset);
is_deeply([ grep { $_ != 1 } values %plans ], [], 'a pass that finds nothing to do plans one query, whatever it looks at');
cmp_ok(scalar keys %plans, '>', 0, 'as the log says');

# -------- a launcher that may start nothing sleeps

my ($launcher) = $sql->(q{SELECT pid FROM sagaz_ha.maintenance_status() WHERE process = 'launcher'});
my $cpu = sub { return (split ' ', slurp_file("/proc/$launcher/schedstat"))[0] / 1e9 };
configure($node, 'sagaz_ha.enabled' => 'off');
when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.maintenance_status() WHERE process = 'launcher' AND phase = 'disabled')}) // die 'still on';
my $used = $cpu->();
# long enough to see a loop without a pause
usleep(2_000_000);
cmp_ok($cpu->() - $used, '<', 0.1, 'it takes no CPU while it is off');
configure($node, 'sagaz_ha.enabled' => undef);

# -------- more databases than a thousand

$node->adjust_conf('postgresql.conf', 'sagaz_ha.max_databases', '2000');
$node->restart;
is($sql->('SHOW sagaz_ha.max_databases'), '2000', 'there can be room for 2,000 databases');
wakes("DROP TABLE $last", "to_regclass('$last') IS NOT NULL", 'where partitions are made as ever');

$node->stop('fast');
done_testing();
