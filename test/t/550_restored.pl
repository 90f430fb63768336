# A server that was started from a backup drops nothing until an operator
# agrees, in any database and whatever happens meanwhile; one that crashed, or
# a standby that was promoted, goes on by itself.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(usleep);

my $later = '2026-03-12 12:00:00+00';
my $primary = PostgreSQL::Test::Cluster->new('primary');

$primary->init(allows_streaming => 1, has_archiving => 1);
$primary->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'sagaz_ha'
sagaz_ha.clock = '$SagazTest::clock'
sagaz_ha.naptime = 1s
timezone = 'UTC'
autovacuum = off
restart_after_crash = on
wal_log_hints = on
wal_keep_size = 512MB
log_line_prefix = '%m [%p] %b %a '
});
$primary->start;
$primary->safe_psql('postgres', 'CREATE DATABASE second');
foreach my $database (qw(postgres second))
{
	$primary->safe_psql($database, 'CREATE EXTENSION sagaz_ha');
	take_table($primary, $database, 'events', days => [ -3, 0 ], unfinished_when => 'NOT done',
		more => ', storage_parameters => NULL');
	$primary->safe_psql($database, 'UPDATE events SET done = true');
	is_partitions($primary, $database, 'events', -3, 3, "$database: the primary has its partitions");
}
# nothing has ever expired here: it's held all the same, before something does
take_table($primary, 'postgres', 'forever', days => [ -3, 0 ], retention => '100 years');
is_partitions($primary, 'postgres', 'forever', -3, 3, 'and those of a table that keeps all');
take_table($primary, 'postgres', 'early', days => [ -3, 0 ]);
is_partitions($primary, 'postgres', 'early', -3, 3, 'and those of one that will be asked for early');
$primary->backup('backup');

# A server made from a backup; not a standby unless asked for.
sub from_backup
{
	my ($name, $backup, $clock, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $of = delete $option{of} // $primary;
	my $conf = delete $option{conf} // '';

	$node->init_from_backup($of, $backup, %option);
	$node->append_conf('postgresql.conf', "archive_mode = off\nrecovery_target_name = ''\nsagaz_ha.clock = '$clock'\n$conf");
	unlink $node->data_dir . '/postgresql.auto.conf';
	append_to_file($node->data_dir . '/postgresql.auto.conf', '');
	$node->start;
	$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no end of recovery'
	  unless -e $node->data_dir . '/standby.signal';
	return $node;
}

# kill -9, and a start as soon as nothing of the server is left.
sub kill_and_start
{
	my ($node) = @_;

	$node->kill9;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if $node->start(fail_ok => 1);
		$node->stop('fast', fail_ok => 1);
		usleep(100_000);
	}
	die 'no start';
}

sub passes
{
	my ($node, $database) = @_;

	return $node->safe_psql('postgres', qq{SELECT coalesce(max(passes), 0) FROM sagaz_ha.maintenance_status()
		WHERE process = 'worker' AND database = '$database'});
}

# After two more passes the table still has its partitions of March 7 and 8,
# which have expired, and new ones are made: until 3 days after the clock.
sub is_held
{
	my ($node, $database, $name) = @_;
	my $passes = passes($node, $database) + 2;

	ok(defined when($node, 'postgres', qq{passes >= $passes FROM sagaz_ha.maintenance_status()
		WHERE process = 'worker' AND database = '$database'}), "$name: passes go on");
	is_partitions($node, $database, 'events', -5, 3, "$name: nothing is dropped, and what is missing is made");
	is($node->safe_psql($database, q{SELECT status, details FROM sagaz_ha.partition_health()
		WHERE check_name = 'drops' AND table_name = 'events'}),
		'critical|held back, because the server was restored from a backup; sagaz_ha.resume_drops() lets them go on',
		"$name: health says why, and what to do");
	return;
}

sub goes_on
{
	my ($node, $database, $name) = @_;

	is_partitions($node, $database, 'events', -3, 3, "$name: drops go on");
	is($node->safe_psql($database, q{SELECT status FROM sagaz_ha.partition_health()
		WHERE check_name = 'drops' AND table_name = 'events'}), 'ok', "$name: and health has nothing to say");
	return;
}

# -------- the primary goes on, and drops the partitions of March 7 and 8

my $wal = $primary->safe_psql('postgres', q{SELECT pg_walfile_name(pg_create_restore_point('before the drop'))});
$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
$primary->poll_query_until('postgres', "SELECT last_archived_wal >= '$wal' FROM pg_stat_archiver")
  or die 'nothing is archived';
configure($primary, 'sagaz_ha.clock' => $later);
$primary->stop('immediate');
$primary->start;
goes_on($primary, $_, "a crash is no restore: $_") foreach qw(postgres second);
ok(!-e $primary->data_dir . '/sagaz_ha.restored', 'and leaves no file');
is($primary->safe_psql('postgres', 'SELECT sagaz_ha._restored_at()'), '', 'nor a time');

# -------- restored to before the drop, with the worker off, and killed at once

my $restored = from_backup('restored', 'backup', $later, has_restoring => 1, standby => 0, conf => q{
sagaz_ha.enabled = off
recovery_target_name = 'before the drop'
recovery_target_action = promote
});
is($restored->safe_psql('postgres', 'SELECT count(*) FROM events'), '4', 'the rows that were dropped are back');
is($restored->safe_psql('postgres', q{SELECT status FROM sagaz_ha.partition_health()
	WHERE check_name = 'drops' AND table_name = 'events'}), 'critical', 'health knows before the first pass');
is(scalar log_lines($restored, 0, qr/LOG:  sagaz_ha: this server is started from a backup/), 1, 'the log says so once');
is($restored->safe_psql('postgres', q{SELECT sagaz_ha.resume_drops('early')}), 't', 'an operator may agree at once');
$restored->adjust_conf('postgresql.conf', 'sagaz_ha.enabled', 'on');
$restored->append_conf('postgresql.conf', "sagaz_ha.databases = 'postgres'\n");
kill_and_start($restored);
is_held($restored, 'postgres', 'killed right after recovery');
is_partitions($restored, 'postgres', 'early', -3, 3, 'what an operator agreed to before the first pass goes on');
is($restored->safe_psql('postgres', q{SELECT string_agg(action || ' ' || partition_name || ' ' || details, E'\n')
	FROM sagaz_ha.plan_partition_maintenance()}),
	join("\n", map {
		"DEFER events_y2026m03d0$_ DROP is held back until sagaz_ha.resume_drops():"
		  . " rows from 2026-03-0$_ 00:00:00+00 to 2026-03-0" . ($_ + 1) . ' 00:00:00+00' } 7, 8),
	'the plan has what an operator would agree to');
is($restored->safe_psql('postgres', q{SELECT action, details FROM maintain_all_partitions()}),
	'DEFER|drops are held back: the server was started from a backup, which may be for the rows that have'
	  . ' expired; sagaz_ha.resume_drops() lets them go on', 'a pass by hand holds back, too');
is($restored->safe_psql('postgres', q{SELECT count(*) > 0 FROM sagaz_ha.partition_history
	WHERE table_name = 'events' AND action = 'DEFER' AND details LIKE 'drops are held back%started from a backup%'}),
	't', 'history has it');
is($restored->safe_psql('postgres', q{SELECT drops_held_since = restored_at AND restored_at = sagaz_ha._restored_at()
	FROM sagaz_ha.partition_policy WHERE parent = 'forever'::regclass}), 't',
	'a table where nothing has expired is held back as well');

# -------- an operator agrees, in one database

is($restored->safe_psql('postgres', q{SELECT sagaz_ha.resume_drops('events')}), 't', 'an operator agrees');
goes_on($restored, 'postgres', 'resumed');
is($restored->safe_psql('postgres', q{SELECT sagaz_ha.resume_drops('events')}), 'f', 'once is enough');
is($restored->safe_psql('postgres', q{SELECT status FROM sagaz_ha.partition_health()
	WHERE check_name = 'drops' AND table_name = 'forever'}), 'critical', 'and is for one table');
$restored->backup('of_restored');
$restored->adjust_conf('postgresql.conf', 'sagaz_ha.databases', "''");
$restored->stop('immediate');
$restored->start;
is_held($restored, 'second', 'a database that nobody looked at until now');
goes_on($restored, 'postgres', 'restarted');

# What is registered now was looked at by whoever does.
take_table($restored, 'second', 'newcomer', days => [ -5, 0 ]);
is_partitions($restored, 'second', 'newcomer', -3, 3, 'a table that is registered later is none of a restore\'s');

# A pass by hand, where the library isn't preloaded any more.
$restored->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$restored->restart;
like($restored->safe_psql('second', q{SELECT details FROM maintain_all_partitions() WHERE action <> 'CREATE'}),
	qr/^drops are held back: the server was started from a backup[^\n]*$/, 'without preloading, the file is read as well');
is($restored->safe_psql('second', 'SELECT sagaz_ha.resume_drops(parent) FROM sagaz_ha.partition_policy ORDER BY 1'),
	"f\nt", 'the statement of the hint');
$restored->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'sagaz_ha'");
$restored->restart;
goes_on($restored, 'second', 'resumed in the second database');

# -------- clones of a restored server

my $clone = from_backup('clone', 'of_restored', $later, of => $restored, has_streaming => 1);
$restored->wait_for_catchup($clone);
$clone->promote;
goes_on($clone, $_, "a standby of a restored server, promoted: $_") foreach qw(postgres second);
$clone->stop('fast');

my $again = from_backup('again', 'of_restored', '2026-03-14 12:00:00+00', of => $restored);
is_partitions($again, 'postgres', 'events', -5, 3, 'restored again, from a backup of the restored server: held back again');
is_held($again, 'postgres', 'restored again');
isnt($again->safe_psql('postgres', 'SELECT sagaz_ha._restored_at()'),
	$restored->safe_psql('postgres', 'SELECT sagaz_ha._restored_at()'), 'it is another restore');

# A clone that is promoted before anybody agreed.
$again->append_conf('postgresql.conf', "sagaz_ha.enabled = off\n");
$again->restart;
$again->backup('of_again');
my $heir = from_backup('heir', 'of_again', '2026-03-14 12:00:00+00', of => $again, has_streaming => 1,
	conf => "sagaz_ha.enabled = on\n");
$again->wait_for_catchup($heir);
$heir->promote;
is_held($heir, 'postgres', 'a standby of a restored server, promoted before anybody agreed');
$heir->stop('fast');
$again->stop('fast');
$restored->stop('fast');

# -------- a standby of a server that wasn't restored

my $standby = from_backup('standby', 'backup', $later, has_streaming => 1, has_restoring => 1);
$primary->wait_for_catchup($standby);
$primary->stop('fast');
$standby->promote;
$standby->append_conf('postgresql.conf', "sagaz_ha.clock = '2026-03-13 12:00:00+00'\n");
$standby->reload;
is_partitions($standby, 'postgres', 'events', -3, 3, 'a promoted standby goes on by itself');
ok(!-e $standby->data_dir . '/sagaz_ha.restored', 'it is no restored server');
$standby->stop('fast');

# -------- a base backup, started as it is, in the middle of retiring

$primary->start;
stop_at($primary, 'fence:after_commit', 'sagaz_ha.clock' => '2026-03-13 12:00:00+00');
stopped_at($primary, 'fence:after_commit', 'postgres');
$primary->backup('fenced');
stop_at($primary, 'detach:after_first_commit');
stopped_at($primary, 'detach:after_first_commit', 'postgres');
$primary->backup('pending');
$primary->stop('immediate');

my $fenced = from_backup('fenced', 'fenced', '2026-03-13 12:00:00+00');
is($fenced->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_file('backup_label.old')}), '1', 'a base backup');
my $written = qq{EXISTS (SELECT FROM pg_trigger
	WHERE tgrelid = 'events_y2026m03d09'::regclass AND tgname = 'sagaz_ha_fence' AND tgenabled = 'D')};
ok(defined when($fenced, 'postgres', $written), 'fenced: the partition that stays takes writes again');
is($fenced->safe_psql('postgres', 'UPDATE events_y2026m03d09 SET payload = 1 RETURNING 1'), '1', 'fenced: such as this one');
is_partitions($fenced, 'postgres', 'events', -4, 3, 'fenced: it is not dropped');
$fenced->safe_psql('postgres', q{SELECT sagaz_ha.resume_drops('events')});
goes_on($fenced, 'postgres', 'fenced, resumed');
is_consistent($fenced, 'postgres', 'events', 'fenced: nothing is half done');
$fenced->stop('fast');

my $pending = from_backup('pending', 'pending', '2026-03-13 12:00:00+00');
my $passes = passes($pending, 'postgres') + 2;
ok(defined when($pending, 'postgres', qq{passes >= $passes FROM sagaz_ha.maintenance_status()
	WHERE process = 'worker' AND database = 'postgres'}), 'pending: passes go on');
is($pending->safe_psql('postgres', 'SELECT count(*) FROM events_y2026m03d09'), '1',
	'pending: a partition that was being detached is not dropped either');
$pending->safe_psql('postgres', q{SELECT sagaz_ha.resume_drops('events')});
goes_on($pending, 'postgres', 'pending, resumed');
is_consistent($pending, 'postgres', 'events', 'pending: nothing is half done');
$pending->stop('fast');

# -------- the old primary, rewound, and promoted in its turn

$standby->start;
my $conf = slurp_file($primary->data_dir . '/postgresql.conf');
command_ok([ 'pg_rewind', '--target-pgdata' => $primary->data_dir, '--source-server' => $standby->connstr('postgres'),
		'--write-recovery-conf', '--no-sync' ], 'pg_rewind, which leaves a backup_label as well');
ok(-e $primary->data_dir . '/backup_label', 'so it does');
unlink $primary->data_dir . '/postgresql.conf';
append_to_file($primary->data_dir . '/postgresql.conf', "${conf}sagaz_ha.clock = '2026-03-15 12:00:00+00'\n");
$primary->start;
my $lsn = $standby->lsn('insert');
ok(defined when($primary, 'postgres', qq{pg_last_wal_replay_lsn() >= '$lsn'}), 'it follows');
$standby->stop('fast');
$primary->promote;
goes_on($primary, 'postgres', 'a rewound server, promoted');
ok(!-e $primary->data_dir . '/sagaz_ha.restored', 'it is no restored server either');
$primary->stop('fast');

done_testing();
