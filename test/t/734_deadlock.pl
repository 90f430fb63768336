# In a deadlock of the worker with somebody else's DDL, as a restore's, the worker is
# the one that ends: it looks first.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

# nobody but the worker looks for a deadlock while this test runs
my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\ndeadlock_timeout = 10min\nlog_lock_waits = on\nsagaz_ha.lock_timeout = '60s'\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE referenced (id int PRIMARY KEY);
	CREATE TABLE events (id int REFERENCES referenced, at timestamptz NOT NULL) PARTITION BY RANGE (at)});

sub waits
{
	my ($mode) = @_;

	$node->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM pg_locks
		WHERE relation = 'events'::regclass AND mode = '$mode' AND NOT granted}) or die "nobody waits for $mode";
	return;
}

my $offset = -s $node->logfile;
my $first = $node->background_psql('postgres');
my $restore = $node->background_psql('postgres', on_error_stop => 0);

# the worker waits for events, then the other session, which has referenced
$first->query_safe('BEGIN; LOCK TABLE ONLY events IN SHARE UPDATE EXCLUSIVE MODE');
$restore->query_safe('BEGIN; LOCK TABLE referenced IN ROW EXCLUSIVE MODE');
$node->safe_psql('postgres', q{SELECT sagaz_ha.manage_partitions('events', '1 day')});
waits('ShareUpdateExclusiveLock');
$restore->query_until(qr/asked/, "\\echo asked\nLOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE;\n\\echo got it\n");
waits('AccessExclusiveLock');
# so the worker gets it first, and then waits for referenced
$first->query_safe('COMMIT');
like($restore->query('SELECT 1'), qr/got it\n1/, 'the other session gets its lock');
like($restore->query('SELECT count(*) FROM events'), qr/^0$/m, 'in a transaction that goes on');
$restore->query_safe('COMMIT');
is(scalar(log_lines($node, $offset, qr/sagaz_ha worker .*detected deadlock while waiting for ShareRowExclusiveLock/)), 1, 'because the worker has seen the deadlock');
ok($node->poll_query_until('postgres', q{SELECT count(*) > 4 FROM pg_inherits WHERE inhparent = 'events'::regclass}), 'and then makes the partitions');
$first->quit;
$restore->quit;
$node->stop;
done_testing();
