# Many partitions of a table that nobody uses are made under its strongest lock, a
# transaction for many. Whoever comes meanwhile waits for one partition, not for all.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run qw(start finish);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', streaming => 1, conf => "sagaz_ha.naptime = 1h\nmax_locks_per_transaction = 1024\n");

$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');

# A table without a row; 101 partitions are missing.
sub make_table
{
	my ($name, %option) = @_;

	take_table($node, 'postgres', $name, premake => 100, %option);
	return;
}

sub has_all
{
	my ($name, $what) = @_;

	ok(when($node, 'postgres', "count(*) = 101 FROM pg_inherits WHERE inhparent = '$name'::regclass"), $what);
	return;
}

# How many transactions have made them.
sub transactions
{
	my ($name) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT count(DISTINCT xmin::text) FROM pg_inherits WHERE inhparent = '$name'::regclass});
}

# Nobody there
make_table('quiet');
has_all('quiet', 'the worker makes all');
# upkeep may come in between, and have it make some one by one
cmp_ok(transactions('quiet'), '<', 70, 'many in a transaction');

# Somebody waits for the lock
stop_at($node, 'create:in_bulk');
make_table('wanted');
stopped_at($node, 'create:in_bulk');
my $reader = $node->background_psql('postgres');
$reader->query_until(qr/asked/, "\\echo asked\nBEGIN; SELECT count(*) FROM wanted;\n");
ok(when($node, 'postgres', q{EXISTS (SELECT FROM pg_locks
	WHERE relation = 'wanted'::regclass AND NOT granted)}), 'a reader waits while one partition is made');
let_go($node);
has_all('wanted', 'all others are made while it reads');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks
	WHERE relation = 'wanted'::regclass AND granted AND mode = 'AccessShareLock'}), 1, 'it has read, and is still there');
is(transactions('wanted'), 101, 'without that lock, then: each in a transaction of its own');
$reader->quit;

# Killed in the midst of it
foreach my $how (qw(worker server))
{
	stop_at($node, 'create:in_bulk');
	make_table("killed_$how");
	my $pid = stopped_at($node, 'create:in_bulk');
	if ($how eq 'worker')
	{
		kill 'KILL', $pid;
		$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");
		configure($node, 'sagaz_ha.stop_at' => undef);
	}
	else
	{
		$node->stop('immediate');
		$node->append_conf('postgresql.auto.conf', "sagaz_ha.stop_at = ''\n");
		$node->start;
	}
	has_all("killed_$how", "killed with the $how: the next pass makes all");
}
is_consistent($node, 'postgres', $_, "nothing is wrong with $_") foreach qw(quiet wanted killed_worker killed_server);

# By hand
stop_maintenance($node);

# Whether a pass by hand locks readers out; it is taken back.
sub locks_readers_out
{
	my ($name, $before) = @_;

	return (split /\n/, $node->safe_psql('postgres', qq{
		BEGIN;
		SELECT FROM sagaz_ha.maintain_partitions('$name');
		SELECT EXISTS (SELECT FROM pg_locks WHERE relation = '$name'::regclass
			AND mode = 'AccessExclusiveLock' AND pid = pg_backend_pid());
		ROLLBACK}))[-1];
}

make_table('by_hand');
is(locks_readers_out('by_hand'), 't', 'by hand, it is the same');
$reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT count(*) FROM by_hand');
is(locks_readers_out('by_hand'), 'f', 'but not beside a reader');
$reader->quit;
$node->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('standby', true)});
is(locks_readers_out('by_hand'), 'f', 'nor with a standby, where the lock would be replayed');
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('standby')});
is(locks_readers_out('by_hand'), 't', 'nothing else hindered it');

# The caller keeps its locks, so it ends
$node->safe_psql('postgres', q{SELECT sagaz_ha.manage_partitions('by_hand', '1 day', 900)});
my ($out, $err) = ('', '');
my $pass = start [ 'psql', '-XAtc', q{SELECT action, count(*) FROM sagaz_ha.maintain_partitions('by_hand') GROUP BY action},
	$node->connstr('postgres') ], '>', \$out, '2>', \$err;
$node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_locks
	WHERE relation = 'by_hand'::regclass AND mode = 'AccessExclusiveLock' AND granted)}) or die 'no lock';
$node->safe_psql('postgres', 'SELECT count(*) FROM by_hand');
finish $pass or die "psql failed: $err";
like($out, qr/^DEFER\|1$/m, 'a pass by hand ends when a reader waits, and says so');
my ($created) = $out =~ /^CREATE\|(\d+)$/m;
cmp_ok($created // 0, '<', 900, 'before it has made all');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'by_hand'::regclass}),
	$created // 0, 'what it has made is there');
$node->safe_psql('postgres', q{SELECT sagaz_ha.maintain_partitions('by_hand')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'by_hand'::regclass}),
	901, 'the next one makes the others');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.problem}), 0, 'and that was the problem');

# Of a standby that is fed from the archive, nothing is known
make_table('archived');
$node->append_conf('postgresql.conf', "archive_mode = on\narchive_command = 'true'\n");
$node->restart;
is(locks_readers_out('archived'), 'f', 'not where WAL is archived');

$node->stop;
done_testing();
