# The archiver in replication_health(): it fails, or what waits for it grows though
# nothing fails; how long until the disk is full; and nothing of a quiet server.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazRepl;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my ($fails, $hangs) = ("$dir/fails", "$dir/hangs");
my $node = primary('alpha', no_backup => 1, conf => qq{
archive_mode = on
archive_command = 'test ! -e $fails && while test -e $hangs; do sleep 0.1; done'
});

# Has a segment ready for the archiver.
sub next_segment
{
	$node->safe_psql('postgres', 'INSERT INTO t VALUES (1); SELECT pg_switch_wal()');
	return;
}

# Files that the archiver can't get rid of, and how long they have waited.
sub ready_for
{
	my ($seconds) = @_;

	utime(time - $seconds, time - $seconds, glob($node->data_dir . '/pg_wal/archive_status/*.ready'));
	return;
}

my $is = 'FROM sagaz_ha.replication_health()';

until_true($node, "status = 'ok' AND NOT archive_failing AND archive_waiting_age = '0' AND wal_disk_full_in IS NULL $is",
	'a quiet server is ok, and nothing waits');
next_segment();
until_true($node, "status = 'ok' AND archive_waiting_age = '0' $is", 'so it is when all is archived');

# -------- it fails

append_to_file($fails, '');
next_segment();
until_true($node, "status = 'warning' AND archive_failing $is", 'a failure younger than the last success is a warning');
like(health($node, 'array_to_string(reasons, chr(10))'),
	qr/^warning: archiving fails, last \d\d:\d\d:\d\d ago, and succeeded last \d\d:\d\d:\d\d ago; [1-9]\d* files wait/m, 'with a reason that says since when');
like(health($node, 'summary'), qr/archiving fails/, 'also in the summary');
$node->safe_psql('postgres', 'INSERT INTO t SELECT generate_series(1, 500000)');
until_true($node, "wal_disk_full_in > '0' AND array_to_string(reasons, ' ') LIKE '%; at this rate the disk is full in ' || wal_disk_full_in || '%' $is",
	'with WAL that is written, it says when the disk is full')
  or diag(health($node, 'reasons'));
is($node->safe_psql('postgres', q{SELECT string_agg(name || CASE WHEN name ~ 'failing' THEN ' ' || value ELSE '' END, ', ' ORDER BY name)
	FROM sagaz_ha.metrics() WHERE name ~ 'archive|disk_full'}),
	'sagaz_ha_archive_failing 1, sagaz_ha_archive_ready_files, sagaz_ha_archive_waiting_seconds, sagaz_ha_wal_disk_full_seconds', 'metrics have it');
$node->safe_psql('postgres', q{ALTER SYSTEM SET sagaz_ha.slot_time_to_loss_critical = '24000d'});
$node->reload;
until_true($node, "status = 'critical' AND reasons[1] LIKE 'critical: archiving fails%' $is", 'a disk that is full soon is critical');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET sagaz_ha.slot_time_to_loss_critical');
unlink $fails;
$node->restart;
next_segment();
until_true($node, 'last_archived_time > last_failed_time FROM pg_stat_archiver', 'the server is started again, and archives');
until_true($node, "status = 'ok' AND NOT archive_failing AND archive_waiting_age = '0' $is", 'it succeeds: all is well');

# -------- it hangs

append_to_file($hangs, '');
next_segment();
until_true($node, "archive_ready_files = 1 $is", 'a file waits');
ready_for(3600);
is(health($node, "status, archive_waiting_age >= '1 h'"), 'ok|t', 'on a quiet server that is no reason, however long');
next_segment();
is(health($node, 'status, archive_ready_files'), 'warning|2', 'a second one is');
like(health($node, 'reasons'), qr/warning: 2 files wait for the archiver, the first for 01:00:\d\d, though none has failed since/, 'with a reason of its own');
is(health($node, 'archive_failing'), 'f', 'it does not fail');
ready_for(60);
is(health($node, 'status'), 'ok', 'and a minute is not too long');
unlink $hangs;
until_true($node, "status = 'ok' AND archive_waiting_age = '0' $is", 'archived, all is well');

# -------- without archiving

$node->append_conf('postgresql.conf', 'archive_mode = off');
$node->restart;
is(health($node, 'status, archive_failing, archive_waiting_age'), 'ok||', 'without archiving there is nothing to say');

$node->stop;
done_testing();
