# ALTER EXTENSION … UPDATE. 1.0 is the first release, so there is no older one
# to come from. What this shows: a database with 1.0, its policies and history
# can take an update script that adds to what is there (as every later release
# will), the library goes on working with tables that have more columns than it
# knows, and a dump of the updated database restores. And, for any later
# release, that no released version is left without a way to the current one.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Copy qw(copy);
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# The update script of a release that doesn't exist can't be put into the
# system's directories. A server finds its own relative to where it is, so a
# copy of the programs, with links to all else, is an installation to add it to.
sub config
{
	my ($stdout, $stderr);
	IPC::Run::run([ 'pg_config', $_[0] ], '>', \$stdout, '2>', \$stderr) or die $stderr;
	chomp $stdout;
	return $stdout;
}

my ($bin, $share, $pkglib) = map { config($_) } qw(--bindir --sharedir --pkglibdir);
my @common = split m{/}, $bin;
pop @common while (@common && grep { index("$_/", join('/', @common) . '/') != 0 } ($share, $pkglib));
my $prefix = join('/', @common);
my $root = PostgreSQL::Test::Utils::tempdir . '/root';
my %copy = map { $_ => $root . substr($_, length($prefix)) } ($bin, $share, $pkglib);

sub link_all
{
	my ($from, $to) = @_;

	make_path($to);
	opendir(my $dh, $from) or die "$from: $!";
	for my $name (grep { !/^\.\.?$/ } readdir $dh)
	{
		symlink("$from/$name", "$to/$name") unless -e "$to/$name" || -l "$to/$name";
	}
	closedir $dh;
	return;
}

make_path($copy{$bin});
for my $program (glob "$bin/*")
{
	my $to = $copy{$bin} . substr($program, length($bin));
	copy($program, $to) or die "$program: $!";
	chmod 0755, $to;
}
make_path("$copy{$share}/extension");
link_all("$share/extension", "$copy{$share}/extension");
link_all($share, $copy{$share});
link_all($pkglib, $copy{$pkglib});

PostgreSQL::Test::Utils::append_to_file("$copy{$share}/extension/sagaz_ha--1.0--99.0.sql", q{
\echo Use "ALTER EXTENSION sagaz_ha UPDATE" to load this file. \quit
ALTER TABLE sagaz_ha.partition_policy ADD COLUMN colour text NOT NULL DEFAULT 'green';
ALTER TABLE sagaz_ha.partition_history ADD COLUMN mood text;
CREATE FUNCTION sagaz_ha.later() RETURNS integer LANGUAGE sql AS 'SELECT 99';
CREATE OR REPLACE FUNCTION sagaz_ha.clock() RETURNS timestamptz
LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_clock';
});

my $node = PostgreSQL::Test::Cluster->new('main', install_path => dirname($copy{$bin}));
$node->init;
$node->append_conf('postgresql.conf', 'fsync = off');
$node->start;
is($node->config_data('--sharedir'), $copy{$share}, 'the copied installation is used');

$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha VERSION '1.0';
	SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
	SELECT count(*) FROM maintain_all_partitions();
	CREATE TABLE t (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
	SELECT sagaz_ha.manage_partitions('t', '1 day', 1, '1 day', unfinished_when => 'todo');
	SELECT count(*) FROM maintain_all_partitions();
	INSERT INTO t VALUES ('2025-01-15 10:00:00+00', true);
});
my $state = q{SELECT parent, partition_interval, premake, retention, unfinished_when FROM sagaz_ha.partition_policy ORDER BY parent::text;
	SELECT id, action, partition_name FROM sagaz_ha.partition_history ORDER BY id};
my $before = $node->safe_psql('postgres', $state);

$node->safe_psql('postgres', q{ALTER EXTENSION sagaz_ha UPDATE TO '99.0'});
is($node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'sagaz_ha'}), '99.0', 'updated');
is($node->safe_psql('postgres', $state), $before, 'policies and history are as they were');
is($node->safe_psql('postgres', 'SELECT sagaz_ha.later()'), '99', 'what is new is there');
is( $node->safe_psql('postgres', q{SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
		SELECT action, partition_name FROM sagaz_ha.maintain_partitions('t')}),
	"CREATE|t_y2025m01d17\nCREATE|t_y2025m01d18\nKEEP|t_y2025m01d15",
	'a pass works with columns that the library does not know');
$node->safe_psql('postgres', q{CREATE TABLE t2 (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	SELECT sagaz_ha.manage_partitions('t2', '1 day', 1)});
is($node->safe_psql('postgres', q{SELECT colour FROM sagaz_ha.partition_policy WHERE parent = 't2'::regclass}),
	'green', 'so does a new policy');
isnt($node->safe_psql('postgres', 'SELECT * FROM sagaz_ha.partition_health()'), '', 'so does health');

# the privileges of a replaced function are kept
is($node->safe_psql('postgres', q{SELECT has_function_privilege('pg_monitor', 'sagaz_ha.partition_health()', 'EXECUTE')}),
	't', 'privileges are as they were');

my $dir = PostgreSQL::Test::Utils::tempdir;
my ($stdout, $stderr);
$node->command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('postgres'), '-f', "$dir/dump" ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
# a dump creates the default version, which lacks the made-up columns
$node->safe_psql('copy', q{CREATE EXTENSION sagaz_ha VERSION '99.0'});
IPC::Run::run([ 'pg_restore', '-d', $node->connstr('copy'), "$dir/dump" ], '>', \$stdout, '2>', \$stderr);
is($node->safe_psql('copy', q{SELECT parent FROM sagaz_ha.partition_policy ORDER BY parent::text}),
	$node->safe_psql('postgres', q{SELECT parent FROM sagaz_ha.partition_policy ORDER BY parent::text}),
	'a dump of the updated database restores');

# an update within a transaction that is rolled back
$node->safe_psql('postgres', 'CREATE DATABASE undecided');
is( $node->safe_psql('undecided', q{CREATE EXTENSION sagaz_ha VERSION '1.0';
		BEGIN; ALTER EXTENSION sagaz_ha UPDATE TO '99.0'; ROLLBACK;
		SELECT extversion FROM pg_extension WHERE extname = 'sagaz_ha'}),
	'1.0', 'rolled back, it never was');

# Every version that there is has a way to the default one
is( $node->safe_psql('postgres', q{
		SELECT v.version FROM pg_available_extension_versions AS v
		  JOIN pg_available_extensions AS e ON e.name = v.name
		 WHERE v.name = 'sagaz_ha' AND v.version <> e.default_version AND v.version <> '99.0'
		   AND NOT EXISTS (SELECT FROM pg_extension_update_paths('sagaz_ha') AS p
		                    WHERE p.source = v.version AND p.target = e.default_version AND p.path IS NOT NULL)}),
	'', 'every released version can be updated to the current one');

$node->stop;
done_testing();
