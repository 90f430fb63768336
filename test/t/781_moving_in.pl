# Every recipe of doc/moving-in.md, as it stands there.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $libraries = `pg_config --pkglibdir`;
chomp $libraries;
my %has = map { $_ => -e "$libraries/$_.so" } qw(pg_partman_bgw pg_cron);

# What each section takes for granted: a database and its SQL; and what has to be so after which block.
my %sections = (
	'From pg_partman' => {
		needs => 'pg_partman_bgw',
		before => q{
			CREATE SCHEMA partman;
			CREATE EXTENSION pg_partman SCHEMA partman;
			CREATE TABLE events (created_at timestamptz NOT NULL) PARTITION BY RANGE (created_at);
			DO $$BEGIN
				IF (SELECT extversion < '5' FROM pg_extension WHERE extname = 'pg_partman') THEN
					PERFORM partman.create_parent('public.events', 'created_at', 'native', 'daily');
				ELSE
					PERFORM partman.create_parent('public.events', 'created_at', '1 day');
				END IF;
			END$$},
		blocks => [
			qr/^events\|policy\|/m, qr/^events\|imported\|/m, qr/^coverage\|ok\|/m, qr/^\n*\z/ ],
		after => q{SELECT automatic_maintenance, (SELECT count(*) FROM sagaz_ha.partition_policy) FROM partman.part_config},
		is => 'on|0' },
	'From a cron job with SQL' => {
		needs => 'pg_cron',
		database => 'moving',
		before => q{
			CREATE EXTENSION pg_cron;
			CREATE TABLE logs (at timestamptz NOT NULL, line text) PARTITION BY RANGE (at);
			CREATE TABLE logs_old PARTITION OF logs FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-01-02 00:00+00');
			CREATE TABLE logs_default PARTITION OF logs DEFAULT;
			SELECT cron.schedule('make-partitions', '0 2 * * *', 'SELECT 1')},
		blocks => [ qr/^DROP\|logs_old\|.*^CREATE\|logs_y|^CREATE\|logs_y.*^DROP\|logs_old\|/ms, qr/^t$/m, qr/^\n*\z|coverage|holes|pending_detach/ ],
		after => q{SELECT (SELECT count(*) FROM cron.job), to_regclass('logs_default') IS NULL}, is => '0|t' },
	'From TimescaleDB' => {
		# or what reads and renames like a hypertable
		before => q{
			CREATE TABLE metrics (at timestamptz NOT NULL, device int NOT NULL, value float8, PRIMARY KEY (device, at));
			CREATE INDEX ON metrics (at);
			INSERT INTO metrics SELECT now() - n * interval '1 hour', n % 7, n FROM generate_series(0, 400) AS n},
		blocks => [ qr/^1[78]\n.*^CREATE\|/ms, qr/^\n*\z/, qr/^t$/m, qr/^\n*\z/ ],
		after => q{SELECT count(*), count(DISTINCT tableoid) >= 17, min(value), max(value) FROM metrics}, is => '401|t|0|400' },
	'From plain tables' => {
		before => q{
			CREATE TABLE orders (id bigint NOT NULL, created_at timestamptz NOT NULL);
			INSERT INTO orders SELECT n, now() - n * interval '1 minute' FROM generate_series(1, 1000) AS n},
		blocks => [ qr/^checking\|.*^renaming\|.*^finishing\|/ms ],
		until => q{SELECT relkind = 'p' AND NOT EXISTS (SELECT FROM sagaz_ha.conversions) FROM pg_class WHERE oid = 'orders'::regclass},
		after => q{SELECT count(*), min(tableoid::regclass::text), (SELECT retention FROM sagaz_ha.partition_policy) FROM orders}, is => '1000|orders_before|30 days' });

my ($title, %blocks);
open my $page, '<', "$FindBin::RealBin/../../doc/moving-in.md" or die "no page: $!";
while (<$page>)
{
	$title = $1 if /^## (.*)$/;
	if (/^```sql$/ ... /^```$/)
	{
		push @{ $blocks{$title} }, '' if /^```sql$/;
		$blocks{$title}[-1] .= $_ unless /^```/;
	}
}
close $page;
is_deeply([ sort keys %blocks ], [ sort keys %sections ], 'every section of the page is known');

my $node = sagaz_server('main', conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\ncron.database_name = 'moving'\nmax_worker_processes = 20\n",
	libraries => join(',', 'sagaz_ha', $has{pg_cron} ? 'pg_cron' : ()));

my $databases = 0;
foreach my $name (sort keys %sections)
{
	my $section = $sections{$name};

  SKIP:
	{
		skip "$section->{needs} is not installed", 1 if $section->{needs} && !$has{ $section->{needs} };
		my $database = $section->{database} // 'moving_' . ++$databases;
		$node->safe_psql('postgres', "CREATE DATABASE $database");
		$node->safe_psql($database, 'CREATE EXTENSION sagaz_ha');
		$node->safe_psql($database, $section->{before});
		is(scalar @{ $blocks{$name} }, scalar @{ $section->{blocks} }, "$name: every step is known");
		foreach my $i (0 .. $#{ $blocks{$name} })
		{
			my ($code, $out, $err) = $node->psql($database, $blocks{$name}[$i], on_error_stop => 1);

			is($code, 0, "$name, step " . ($i + 1)) or diag("$blocks{$name}[$i]$err");
			like($out, $section->{blocks}[$i], "$name, step " . ($i + 1) . ' says what it should');
		}
		ok($node->poll_query_until($database, $section->{until}), "$name: the worker does it") if $section->{until};
		is($node->safe_psql($database, $section->{after}), $section->{is}, "$name: and that is what comes of it");
	}
}
$node->stop;
done_testing();
