# Each statement of the specification's client uses an index in every partition, and a
# claim of 100 events out of 1,000,000 takes less than 10 ms.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

# Debian's python3, whatever else is on the PATH
my $python = '/usr/bin/python3';
plan skip_all => 'python3-asyncpg is not installed'
  unless -x $python && system("$python -c 'import asyncpg' 2>/dev/null") == 0;

my $client = "$FindBin::RealBin/../client/client.py";
my $node = sagaz_server('main', conf => "shared_buffers = 256MB\nmax_wal_size = 4GB\nsynchronous_commit = off\n");
my $dsn = sprintf('postgresql:///sagaz?host=%s&port=%d&user=%s', $node->host, $node->port, scalar getpwuid($<));

# asyncpg wants UTF-8
$node->safe_psql('postgres', q{CREATE DATABASE sagaz TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'});

# Today and the seven days ahead of the clock, with so many events: one in five hundred is of
# each other status.
sub fill
{
	my ($events, $most) = @_;

	$node->safe_psql('sagaz', qq{
		TRUNCATE saga_outbox;
		INSERT INTO saga_outbox (saga_id, aggregate_id, event_type, payload, status, created_at, sent_at, claimed_at)
			SELECT 'saga-' || i / 10, 'a', 'e', '{}', s.status, t.at, CASE s.status WHEN 'sent' THEN t.at END,
				CASE s.status WHEN 'claimed' THEN t.at END
			FROM generate_series(1, $events) AS i
			CROSS JOIN LATERAL (VALUES (coalesce(('{pending,claimed,failed,dead_letter,sent}'::text[])[i % 500 + 1], '$most'))) AS s (status)
			CROSS JOIN LATERAL (VALUES (date_trunc('day', sagaz_ha.clock()) + i * interval '8 days' / ($events + 1))) AS t (at);
		VACUUM ANALYZE saga_outbox});
	return;
}

$node->safe_psql('sagaz', q{
	CREATE EXTENSION sagaz_ha;
	SELECT * FROM maintain_all_partitions();
	INSERT INTO consumer_inbox (consumer_name, event_id, consumed_at)
		SELECT 'consumer-' || i % 10, gen_random_uuid(), date_trunc('day', sagaz_ha.clock()) + i * interval '1 s' FROM generate_series(1, 20000) AS i;
	INSERT INTO saga_steps (saga_id, step_name, status) SELECT 'saga-' || i / 5, 'step-' || i % 5, 'completed' FROM generate_series(1, 20000) AS i;
	VACUUM ANALYZE consumer_inbox, saga_steps});

# What the statements do in every partition, but for one.
sub plans
{
	my ($except, $name) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ $python, $client, 'plans', $dsn ], '>', \$out, '2>', \$err);
	is($err, '', "$name: the statements can be explained");
	my @lines = grep { !/^$except / } split /\n/, $out;
	is(scalar @lines, 32, "$name: all of them");
	is(join("\n", grep { !/: index$/ } @lines), '', "$name: none reads a whole partition");
	return;
}

# of so few, it is quicker to read all than to look for a hundred
fill(100_000, 'sent');
plans('claim', 'most are sent');
# and most are counted by reading all
fill(1_000_000, 'pending');
plans('count', 'a million are pending');

my $out = '';
IPC::Run::run([ $python, $client, 'claim', $dsn ], '>', \$out);
my ($quickest, $median) = split ' ', $out;
note("a claim of 100 out of 1,000,000: $quickest ms, median $median ms");
cmp_ok($quickest, '<', 10, 'a claim of 100 out of 1,000,000 takes less than 10 ms');

$node->stop;
done_testing();
