# Autovacuum is no obstacle: the server ends it for who waits for it, and nobody
# else waits meanwhile. What can't be ended is named.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(time);

my $node = sagaz_server('main', conf => q{
sagaz_ha.naptime = 1s
autovacuum = on
autovacuum_naptime = 1s
autovacuum_max_workers = 12
max_worker_processes = 20
max_prepared_transactions = 5
});
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	ALTER SYSTEM SET sagaz_ha.enabled = off; SELECT pg_reload_conf()});

# A vacuum of the table that goes on for minutes, with some dead rows on each page.
my $slow = 'autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_threshold = 1000000000,
	autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1';

sub vacuumed
{
	my ($table, $more) = @_;

	$more //= '';
	return qq{
		INSERT INTO $table (created_at, payload) SELECT created_at, repeat('x', 500)
			FROM (SELECT * FROM $table LIMIT 1) AS one, generate_series(1, 5000);
		DELETE FROM $table WHERE id % 8 = 1;
		ALTER TABLE $table SET ($slow$more);};
}

sub expiring
{
	my ($table, $more, %option) = @_;
	my $partition = "${table}_y2026m03d06";

	# id is the partition's own, or a partition made by hand couldn't fill it
	return take_table($node, 'postgres', $table, days => [ -4, 0 ], before => qq{
		ALTER TABLE $table ALTER COLUMN id DROP IDENTITY; ALTER TABLE $table ALTER COLUMN id DROP NOT NULL;
		CREATE SEQUENCE ${table}_ids; ALTER TABLE $table ALTER COLUMN id SET DEFAULT nextval('${table}_ids');
		} . vacuumed($partition, $more) . ($option{before} // ''));
}

sub is_vacuumed
{
	my ($relation) = @_;

	ok(defined when($node, 'postgres', qq{EXISTS (SELECT FROM pg_stat_progress_vacuum AS v JOIN pg_stat_activity AS a USING (pid)
		WHERE v.relid = '$relation'::regclass AND a.backend_type = 'autovacuum worker')}), "$relation is being vacuumed");
	return;
}

# -------- the worker's way; SAGAZ_TRIES (4) says how often

my $tries = $ENV{SAGAZ_TRIES} || 4;
my @tables = map { "t$_" } 1 .. $tries;
expiring($_) foreach @tables;
is_vacuumed("${_}_y2026m03d06") foreach @tables;
my $start = time;
configure($node, 'sagaz_ha.enabled' => undef);
foreach my $table (@tables)
{
	is_partitions($node, 'postgres', $table, -3, 3, "$table: it goes beside an autovacuum");
}
note(sprintf "$tries of $tries within %.1f s", time - $start);
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history
	WHERE action = 'DEFER' AND details !~ '^retiring'}), '0', 'at the first try');
stop_maintenance($node);

# -------- at once, where readers would notice

expiring('at_once', undef, before => 'CREATE TABLE at_once_default PARTITION OF at_once DEFAULT');
is_vacuumed('at_once_y2026m03d06');
my ($reads, $failed, $deadline) = (0, 0, time + $PostgreSQL::Test::Utils::timeout_default);
configure($node, 'sagaz_ha.enabled' => undef);
until ($node->safe_psql('postgres', q{SELECT to_regclass('at_once_y2026m03d06') IS NULL}) eq 't' || time > $deadline)
{
	my ($status) = $node->psql('postgres', q{SET lock_timeout = '200ms'; SELECT count(*) FROM at_once WHERE id = 1});

	$reads++;
	$failed += $status != 0;
}
is($failed, 0, "at_once: of $reads readers, none waits");
ok($node->safe_psql('postgres', q{SELECT to_regclass('at_once_y2026m03d06') IS NULL}) eq 't', 'at_once: it goes');
stop_maintenance($node);

expiring('by_hand');
is_vacuumed('by_hand_y2026m03d06');
is($node->safe_psql('postgres', q{SELECT action FROM sagaz_ha.maintain_partitions('by_hand') WHERE action <> 'CREATE'}),
	'DROP', 'by_hand: a pass by hand drops it');

# -------- a table that a foreign key references

$node->safe_psql('postgres', q{CREATE TABLE sagas (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz DEFAULT now(), payload text);
	INSERT INTO sagas (payload) VALUES ('')});
$node->safe_psql('postgres', vacuumed('sagas'));
take_table($node, 'postgres', 'steps', days => [ 0, 0 ],
	before => 'ALTER TABLE steps ADD COLUMN saga bigint REFERENCES sagas');
is_vacuumed('sagas');
is($node->safe_psql('postgres', q{SELECT string_agg(action, ' ') FROM sagaz_ha.maintain_partitions('steps')}),
	'CREATE CREATE CREATE', 'steps: partitions are made beside the autovacuum of a referenced table');

# -------- what can't be ended

expiring('wraps', ', autovacuum_freeze_max_age = 100000');
$node->stop('fast');
truncate($node->data_dir . '/pg_xact/0000', 262144) or die "no such file: $!";
command_ok([ 'pg_resetwal', '-x', 200000, $node->data_dir ], 'many transactions go by');
$node->start;
my $vacuum = q{FROM pg_stat_progress_vacuum AS v JOIN pg_stat_activity AS a USING (pid)
	WHERE v.relid = 'wraps_y2026m03d06'::regclass AND a.query LIKE '%wraps_y2026m03d06 (to prevent wraparound)'};
ok(defined when($node, 'postgres', "EXISTS (SELECT $vacuum)"), 'wraps: a vacuum that prevents wraparound');
my $pid = $node->safe_psql('postgres', "SELECT pid $vacuum");
configure($node, 'sagaz_ha.enabled' => undef);
my $problem = q{SELECT details FROM sagaz_ha.problem WHERE partition = 'wraps_y2026m03d06'::regclass AND action = 'DEFER'};
ok(defined when($node, 'postgres', "($problem) LIKE '%process $pid, an autovacuum that prevents wraparound%'"),
	'wraps: is named') or diag($node->safe_psql('postgres', $problem));
my $begin = time;
configure($node, 'sagaz_ha.clock' => '2026-03-11 12:00:00+00');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass('wraps_y2026m03d14'))}),
	'wraps: the next partition is made meanwhile');
note(sprintf 'made within %.1f s', time - $begin);
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '1', 'wraps: and nobody has ended that vacuum');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");

# -------- a prepared transaction has no process

configure($node, 'sagaz_ha.clock' => undef);
take_table($node, 'postgres', 'prepared', days => [ -4, 0 ], before => q{
	BEGIN; SELECT count(*) FROM prepared_y2026m03d06; SELECT txid_current(); PREPARE TRANSACTION 'late one';});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem WHERE partition = 'prepared_y2026m03d06'::regclass
	AND action = 'DEFER' AND details = 'waiting for prepared transaction "late one"')}), 'prepared: the problem names it')
  or diag($node->safe_psql('postgres', q{SELECT details FROM sagaz_ha.problem}));
like($node->safe_psql('postgres', q{SELECT details FROM sagaz_ha.partition_health()
	WHERE table_name = 'prepared' AND check_name = 'pending_detach'}), qr/waiting for prepared transaction "late one", in a transaction for/,
	'prepared: health does');
is($node->safe_psql('postgres', q{SELECT waits_for FROM sagaz_ha.retirement WHERE partition = 'prepared_y2026m03d06'::regclass}),
	'prepared transaction "late one"', 'prepared: the retirement does');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.maintenance_status() WHERE waiting_for LIKE '%prepared transaction "late one"%')}),
	'prepared: status does');
$node->safe_psql('postgres', q{COMMIT PREPARED 'late one'});
ok(defined when($node, 'postgres', q{to_regclass('prepared_y2026m03d06') IS NULL}), 'prepared: and it goes with its end');

# -------- upkeep waits for no lock

my $holder = $node->background_psql('postgres');
take_table($node, 'postgres', 'upkept', days => [ -2, 0 ]);
ok(defined when($node, 'postgres', q{pg_stat_get_last_analyze_time('upkept'::regclass) IS NOT NULL
	AND to_regclass('upkept_y2026m03d13') IS NOT NULL}), 'upkept: is analyzed');
$holder->query_safe('BEGIN; LOCK TABLE upkept_y2026m03d13 IN ACCESS EXCLUSIVE MODE');
# one of a partition makes that of the parent due
$node->safe_psql('postgres', q{SELECT pg_stat_reset_single_table_counters('upkept'::regclass)});
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = 'upkept' AND found_by = 'upkeep'
	AND action = 'DEFER' AND partition IS NULL)}), 'upkept: it is put off while a partition is locked');
configure($node, 'sagaz_ha.clock' => '2026-03-12 12:00:00+00');
ok(defined when($node, 'postgres', q{to_regclass('upkept_y2026m03d15') IS NOT NULL}), 'upkept: the next partition is made');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_history
	WHERE table_name = 'upkept' AND action = 'DEFER' AND partition_name = 'upkept_y2026m03d15'}), '0', 'upkept: at the first try');
$holder->query_safe('COMMIT; BEGIN; LOCK TABLE upkept_y2026m03d13 IN SHARE UPDATE EXCLUSIVE MODE');
ok(defined when($node, 'postgres', q{pg_stat_get_last_analyze_time('upkept'::regclass) IS NOT NULL}),
	'upkept: a vacuum of a partition holds up no statistics of the parent');
$holder->query_safe('COMMIT');
$holder->quit;

$node->stop('immediate');
done_testing();
