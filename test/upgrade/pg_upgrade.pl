# pg_upgrade from PostgreSQL 15 to this version, with the library preloaded on
# both sides and a retirement under way in every state: policies and history are
# as they were, no row is lost, and the worker finishes what was begun.
#
# Needs sagaz_ha in both, side by side the way Debian has them; test/run.sh
# upgrade sees to that.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $conf = "sagaz_ha.naptime = 1h\n";
my $new = sagaz_server('new', conf => $conf, start => 0, checksums => 0);
my $new_bin = $new->config_data('--bindir');
my $old_prefix = $new_bin =~ s{/\d+/bin$}{/15}r;
my $old = sagaz_server('old', conf => $conf, install_path => $old_prefix);

like($old->safe_psql('postgres', 'SHOW server_version'), qr/^15\./, 'the old server is PostgreSQL 15');

# In one database each, days -8 to 0: 5 have expired, and one of those, -4, has
# an unfinished row. Its worker stays at one point until the server is stopped;
# there are three at a time, so the one that needn't stop is first.
my @databases = qw(retired fenced draining finalizing);
my %point = (
	fenced => 'fence:after_commit',
	draining => 'detach:after_first_commit',
	finalizing => 'finalize:before_commit');
my %pending = (draining => 1, finalizing => 1);

# the status of every worker is seen from any database with the extension
$old->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');
foreach my $database (@databases)
{
	$old->safe_psql('postgres', "CREATE DATABASE $database");
	$old->safe_psql('postgres', "ALTER DATABASE $database SET sagaz_ha.stop_at = '$point{$database}'")
	  if $point{$database};
	$old->safe_psql($database, 'CREATE EXTENSION sagaz_ha');
	# no upkeep: it locks the table and writes history whenever it comes to it
	take_table($old, $database, 't', days => [ -8, 0 ], unfinished_when => 'NOT done',
		more => ', auto_analyze => false, auto_freeze => false, protect => true',
		before => q{UPDATE t SET done = false
			WHERE created_at = date_trunc('day', sagaz_ha.clock()) - interval '4 days' + interval '1 hour'});
	$point{$database} ? stopped_at($old, $point{$database}) : is_retired($old, $database);
	is($old->safe_psql($database, 'SELECT count(*) FROM pg_inherits WHERE inhdetachpending'),
		$pending{$database} // 0, "$database: the old server was brought to this state");
}

sub is_retired
{
	my ($node, $database) = @_;

	is_partitions($node, $database, 't', -4, 3, "$database: the retirement is finished");
	is($node->safe_psql($database, 'SELECT count(*) || $$ $$ || count(*) FILTER (WHERE NOT done) FROM t'),
		'5 1', "$database: no row that had to stay is lost");
	is_consistent($node, $database, 't', "$database: no orphan, and history and catalogs agree");
	return;
}

# What has to survive, in words that are the same on both versions.
sub kept
{
	my ($node, $database) = @_;

	return $node->safe_psql($database, q{
		SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
		SELECT p::text FROM sagaz_ha.partition_policy AS p ORDER BY p.parent::text;
		SELECT h::text FROM sagaz_ha.partition_history AS h ORDER BY h.id;
		SELECT extversion FROM pg_extension WHERE extname = 'sagaz_ha'});
}

my %kept = map { $_ => kept($old, $_) } @databases;
$old->stop('fast');

chdir PostgreSQL::Test::Utils::tempdir or die;
command_ok([ 'timeout', '300', 'pg_upgrade', '-d', $old->data_dir, '-D', $new->data_dir, '-b', "$old_prefix/bin", '-B', $new_bin,
		'-p', $old->port, '-P', $new->port, '-s', $new->host ], 'pg_upgrade');

# Before the worker does anything: pg_dump knows no pending detach, so these
# partitions are attached again. What tells that they were being retired is the
# history.
$new->append_conf('postgresql.auto.conf', "sagaz_ha.enabled = off\n");
$new->start;
foreach my $database (@databases)
{
	is(kept($new, $database), $kept{$database}, "$database: policies and history are as they were");
	$new->safe_psql('postgres', "ALTER DATABASE $database RESET sagaz_ha.stop_at");
}
configure($new, 'sagaz_ha.enabled' => 'on');
is_retired($new, $_) foreach @databases;

like($new->safe_psql('retired', q{SET sagaz_ha.clock = '2026-03-11 12:00:00+00';
		SELECT action, partition_name FROM maintain_all_partitions()}),
	qr/^CREATE\|t_y2026m03d14$/m, 'the next day comes as usual');

$new->stop('fast');
done_testing();
