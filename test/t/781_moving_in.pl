# Every recipe of doc/moving-in.md, and of the other pages that show SQL, as it stands there.
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

# The pages that are run from top to bottom. Maintenance is by hand there, so that every
# answer is known. What can't be run has the reason instead of an expectation.
my $version = `pg_config --version` =~ /(\d+)/ ? $1 : die 'no version';
my %pages = (
	'README.md' => {
		without => 1,
		before => q{CREATE TABLE orders (created_at timestamptz NOT NULL DEFAULT now())},
		blocks => [
			qr/\A\z/, qr/\A/, qr/^checking\|/m,
			$has{pg_partman_bgw} ? qr/\A\z/ : 'pg_partman is not installed', qr/^primary\|/m ],
		extensions => [ $has{pg_partman_bgw} ? 'pg_partman' : () ] },
	'doc/start.md' => {
		blocks => [
			qr/\A\z/, qr/\A\n?\z/, qr/(?:^CREATE\|payments_y.*){16}/ms, qr/\Apayments\|8\|/,
			qr/^CREATE\|saga_outbox\|saga_outbox_y/m, qr/^saga_executions_y\d+m\d\d$/m, qr/\A\z/, qr/\A\n?\z/ ],
		after => q{SELECT count(*) FROM sagaz_ha.partition_policy WHERE parent = 'payments'::regclass}, is => 0 },
	'doc/converting.md' => {
		before => q{
			CREATE TABLE saga_outbox (id bigint PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now());
			INSERT INTO saga_outbox VALUES (1);
			CREATE TABLE events (id uuid PRIMARY KEY);
			CREATE TABLE measurements (id bigint PRIMARY KEY)},
		blocks => [
			# in one transaction, or it may have ended before it is cancelled
			[ qr/^checking\|.*^saga_outbox\|/ms, '--single-transaction' ], qr/\A\n*\z/, qr/\A/, qr/^saga_outbox\||coverage\|/m, qr/\A\n?\z/ ],
		after => q{SELECT relkind, (SELECT count(*) FROM saga_outbox) FROM pg_class WHERE oid = 'saga_outbox'::regclass},
		is => 'r|1' },
	'doc/partitioning.md' => {
		before => q{
			CREATE TABLE events (id uuid PRIMARY KEY) PARTITION BY RANGE (id);
			CREATE TABLE events_y2025m01 PARTITION OF events
				FOR VALUES FROM (sagaz_ha.uuidv7_at('2025-01-01 00:00+00')) TO (sagaz_ha.uuidv7_at('2025-02-01 00:00+00'));
			CREATE TABLE measurements (id bigint PRIMARY KEY) PARTITION BY RANGE (id);
			CREATE TABLE t (id uuid PRIMARY KEY) PARTITION BY RANGE (id);
			CREATE TABLE t_y2025m01d16 PARTITION OF t
				FOR VALUES FROM (sagaz_ha.uuidv7_at('2025-01-16 00:00+00')) TO (sagaz_ha.uuidv7_at('2025-01-17 00:00+00'))},
		blocks => [
			qr/\A\n?\z/, qr/\A\n*\z/, qr/t_y2025m01d16/, $version >= 17 ? qr/\A\z/ : 'it is for PostgreSQL 17',
			$version < 17 ? qr/\A\z/ : 'it is for PostgreSQL 15 and 16', qr/\A\n*\z/,
			qr/^events_y2025m01\|case 4711, until the verdict\|.*^t$/ms, qr/\A\z/,
			qr/^\{autovacuum_vacuum_scale_factor=0.02,autovacuum_analyze_scale_factor=0.05\}\z/m ] },
	'doc/keeping.md' => {
		blocks => [
			qr/\A\z/, qr/^KEEP\|orders_2020\|1 .*^DETACH\|orders_2021\||^DETACH\|orders_2021\|.*^KEEP\|orders_2020\|1 /ms,
			qr/^DETACH\|orders_2021\|.*archive/m, qr/^KEEP\|orders_2020\|held: case 4711.*^orders_2020\|case 4711.*^t$/ms,
			qr/^orders_2021\|/m ],
		after => q{SELECT count(*) FROM orders_2021}, is => 0 },
	'doc/monitoring.md' => {
		before => q{SELECT sagaz_ha.create_saga_tables(); SELECT maintain_all_partitions()},
		blocks => [ qr/\|primary\|/, qr/^saga_outbox\|.*@\++\|/m, qr/^saga_outbox\|\d/m, qr/^launcher\|/m, qr/\|CREATE\|saga_/ ] },
	'doc/upgrading.md' => {
		before => q{
			CREATE TABLE orders (at timestamptz NOT NULL) PARTITION BY RANGE (at);
			SELECT sagaz_ha.manage_partitions('orders', '1 day');
			SELECT sagaz_ha.maintain_partitions('orders')},
		blocks => [ qr/\Aorders\|\d/, qr/\A1\.0\z/, qr/\A\z/, qr/\A\z/ ] },
	'doc/uniqueness.md' => {
		before => q{
			CREATE TABLE events (event_id int NOT NULL, at timestamptz NOT NULL) PARTITION BY RANGE (at);
			CREATE TABLE events_2020 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
			CREATE TABLE events_2021 PARTITION OF events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')},
		blocks => [ qr/\Aevents_event_id_unique\z/, qr/\At\z/, qr/\Aevents_event_id_unique\z/ ],
		after => q{WITH first AS (INSERT INTO events VALUES (1, '2020-02-02') RETURNING 1) SELECT count(*) FROM first}, is => 1 },
	'doc/replication.md' => {
		blocks => [ qr/\Aprimary\|/, 'it needs two servers, and is in 402_replication_wait.pl' ] },
	'doc/faq.md' => {
		blocks => [
			qr/^3$/m, qr/^clicks_id_unique$/m, qr/^clicks_id_unique$/m, qr/\Aclicks\|3\z/, qr/\A\z/, qr/\A\z/, qr/\A\z/,
			qr/\Aclicks_y/ ],
		after => q{SELECT count(*) FROM clicks}, is => 1 });

# The blocks of SQL of a page, by section.
sub blocks_of
{
	my $name = shift;
	my ($title, %blocks) = ('');

	open my $page, '<', "$FindBin::RealBin/../../$name" or die "no $name: $!";
	while (<$page>)
	{
		$title = $1 if /^## (.*)$/;
		if (/^```sql$/ ... /^```$/)
		{
			foreach my $place ($title, 'all')
			{
				push @{ $blocks{$place} }, '' if /^```sql$/;
				$blocks{$place}[-1] .= $_ unless /^```/;
			}
		}
	}
	close $page;
	return %blocks;
}

my %blocks = blocks_of('doc/moving-in.md');
delete $blocks{'all'};
is_deeply([ sort keys %blocks ], [ sort keys %sections ], 'every section of the page is known');

# The worker serves those of moving-in.md, and those that convert.
my $node = sagaz_server('main', conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\ncron.database_name = 'moving'\nmax_worker_processes = 20\n"
	  . "sagaz_ha.databases = 'moving, moving_1, moving_2, moving_3, readme_md, doc_converting_md'\n",
	libraries => join(',', 'sagaz_ha', $has{pg_cron} ? 'pg_cron' : ()));

# Runs blocks, each in a session of its own, as somebody does who copies them.
sub run_blocks
{
	my ($name, $database, $blocks, $expected) = @_;

	is(scalar @$blocks, scalar @$expected, "$name: every step is known");
	foreach my $i (0 .. $#$blocks)
	{
		my $step = "$name, step " . ($i + 1);

	  SKIP:
		{
			skip "$step: $expected->[$i]", 2 if !ref $expected->[$i];
			my ($like, @options) = ref $expected->[$i] eq 'ARRAY' ? @{ $expected->[$i] } : $expected->[$i];
			my ($code, $out, $err) = $node->psql($database, $blocks->[$i], on_error_stop => 1, extra_params => \@options);

			is($code, 0, $step) or diag("$blocks->[$i]$err");
			like($out, $like, "$step says what it should");
		}
	}
	return;
}

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
		run_blocks($name, $database, $blocks{$name}, $section->{blocks});
		ok($node->poll_query_until($database, $section->{until}), "$name: the worker does it") if $section->{until};
		is($node->safe_psql($database, $section->{after}), $section->{is}, "$name: and that is what comes of it");
	}
}
foreach my $name (sort keys %pages)
{
	my $page = $pages{$name};
	my $database = lc($name) =~ s/\W/_/gr;
	my %of = blocks_of($name);

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION sagaz_ha') unless $page->{without};
	$node->safe_psql($database, "CREATE EXTENSION $_") for @{ $page->{extensions} // [] };
	$node->safe_psql($database, $page->{before}) if $page->{before};
	run_blocks($name, $database, $of{'all'}, $page->{blocks});
	is($node->safe_psql($database, $page->{after}), $page->{is}, "$name: and that is what comes of it") if defined $page->{after};
}

# doc/schema-tools.md: its rule in SQL, its command, and its lines for each tool that is installed.
my $tools = slurp_file("$FindBin::RealBin/../../doc/schema-tools.md");
my %code;
$code{$1} = $2 while $tools =~ /^```(\w+)\n(.*?)^```$/msg;
is(join(' ', sort keys %code), 'python ruby sh sql', 'doc/schema-tools.md: every language is known');

$node->safe_psql('postgres', 'CREATE DATABASE tools');
$node->safe_psql('tools', qq{
	CREATE EXTENSION sagaz_ha;
	CREATE TABLE events (id bigint NOT NULL, at timestamptz NOT NULL, kind text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE INDEX events_kind ON events (kind);
	CREATE TABLE events_1999 PARTITION OF events FOR VALUES FROM ('1999-01-01') TO ('2000-01-01');
	SELECT sagaz_ha.manage_partitions('events', '1 day', premake => 2, retention => '2 days', retention_action => 'detach');
	SELECT sagaz_ha.create_partition('events', now() - interval '4 days');
	SELECT sagaz_ha.maintain_partitions('events');
	$code{sql}});
is($node->safe_psql('tools', q{SELECT string_agg(name, ' ') FROM (SELECT relname AS name FROM pg_class
		WHERE relname ~ '^events_(1|y).*\d$' EXCEPT SELECT name FROM run_time_tables) AS missing}), '', 'the rule misses no partition');
is($node->safe_psql('tools', q{SELECT count(*) FILTER (WHERE relispartition), count(*), bool_or(relname = 'events_1999' AND NOT relispartition)
		FROM run_time_tables JOIN pg_class ON relname = name}), '5|7|t', 'and has those that were detached, and nothing else');

# What a program prints that is given on its standard input.
my %env = (PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'tools', PGUSER => scalar getpwuid($>));
my $directory = PostgreSQL::Test::Utils::tempdir;

sub tool_prints
{
	my ($command, $program) = @_;
	my ($out, $err) = ('', '');

	local @ENV{ keys %env } = values %env;
	local $ENV{PATH} = $node->config_data('--bindir') . ":$ENV{PATH}";
	my $ok = IPC::Run::run($command, '<', \$program, '>', \$out, '2>', \$err, init => sub { chdir $directory });
	return $ok ? $out : "it failed: $err";
}

sub have_tool
{
	my @command = @_;
	my ($out, $err);

	return IPC::Run::run([ 'sh', '-c', 'command -v "$0"', $command[0] ], '>', \$out, '2>', \$err)
	  && IPC::Run::run(\@command, '>', \$out, '2>', \$err);
}

is(tool_prints([ 'sh', '-e' ], $code{sh}), '', 'pg_dump: the command of the page runs');
my $dump = slurp_file("$directory/schema.sql");
like($dump, qr/CREATE TABLE public\.events \(/, 'pg_dump: the table is in the dump');
unlike($dump, qr/events_(?:1999|y\d)/, 'pg_dump: and no partition');
$node->safe_psql('postgres', 'CREATE DATABASE tools_copy');
$node->safe_psql('tools_copy', $dump);
is($node->safe_psql('tools_copy', q{SELECT bool_and(indisvalid), count(*) FROM pg_index WHERE indrelid = 'events'::regclass}), 't|2',
	'pg_dump: what was restored has valid indexes');

SKIP:
{
	my @python = ('/usr/bin/python3', '-');
	skip 'alembic is not installed', 2 if !have_tool('/usr/bin/python3', '-c', 'import alembic, psycopg2');
	my $compare = q{
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Column, DateTime, Index, MetaData, Table, Text, create_engine
connectable = create_engine("postgresql+psycopg2://")
metadata = MetaData()
Table("events", metadata, Column("id", BigInteger, primary_key=True, autoincrement=False),
      Column("at", DateTime(timezone=True), primary_key=True), Column("kind", Text), Index("events_kind", "kind"),
      postgresql_partition_by="RANGE (at)")
with connectable.connect() as connection:
    for difference in compare_metadata(MigrationContext.configure(connection, opts=opts()), metadata):
        print(difference[0])
};
	like(tool_prints(\@python, "def opts(): return {}\n$compare"), qr/^remove_table$/m, 'alembic sees partitions as drift');
	my $block = $code{python} =~ s/^/    /gmr;
	is(tool_prints(\@python, "def opts():\n$block    return {'include_name': include_name}\n$compare"), '',
		'alembic: and none with what the page says');
}

SKIP:
{
	skip 'django is not installed', 2 if !have_tool('/usr/bin/python3', '-c', 'import django, psycopg2');
	my $today = $node->safe_psql('tools', q{SELECT to_char(now() AT TIME ZONE 'UTC', '"EventsY"YYYY"M"MM"D"DD')});
	my $inspect = q{
import django
from django.conf import settings
from django.core.management import call_command
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "tools"}})
django.setup()
call_command("inspectdb", include_partitions=};
	like(tool_prints([ '/usr/bin/python3', '-' ], "${inspect}True)"), qr/^class $today\(/m, 'django: partitions can be shown');
	my $shown = tool_prints([ '/usr/bin/python3', '-' ], "${inspect}False)");
	ok($shown =~ /^class Events\(/m && $shown !~ /^class $today\(/m, 'django: and are not, unless they are asked for');
}

SKIP:
{
	skip 'ActiveRecord is not installed', 2 if !have_tool('ruby', '-e', 'require "active_record"; require "pg"');
	my $connect = q{require 'active_record'
ActiveRecord::Base.establish_connection(adapter: 'postgresql', database: 'tools')
};
	my $print = q{one = ActiveRecord.version >= Gem::Version.new('7.2') ? ActiveRecord::Base.connection_pool : ActiveRecord::Base.connection
ActiveRecord::SchemaDumper.dump(one, $stdout)};
	like(tool_prints(['ruby'], "$connect$print"), qr/create_table "events_1999"/, 'rails sees partitions as tables');
	is(join(' ', tool_prints(['ruby'], "$connect$code{ruby}$print") =~ /(?:create_table "|it )(\w+)/g), 'events',
		'rails: and none with what the page says');
}

$node->stop;
done_testing();
