# Servers and questions that the replication tests share.
package SagazRepl;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(primary standby health stat ask until_true compare postmaster_child);

my $conf = q{
shared_preload_libraries = 'sagaz_ha'
wal_receiver_timeout = 60s
wal_retrieve_retry_interval = 500ms
max_wal_senders = 20
max_replication_slots = 60
autovacuum = off
checkpoint_timeout = 1h
};

sub primary
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => 1, extra => $opt{initdb} // []);
	$node->append_conf('postgresql.conf', $conf);
	$node->append_conf('postgresql.conf', "cluster_name = '$name'");
	$node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');
	$node->safe_psql('postgres', 'CREATE TABLE t (i int)');
	$node->backup('base') unless $opt{no_backup};
	return $node;
}

sub standby
{
	my ($primary, $name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init_from_backup($opt{backup_of} // $primary, 'base', has_streaming => 1);
	$node->append_conf('postgresql.conf', "cluster_name = '$name'");
	if ($opt{backup_of})
	{
		# follow somebody else than the one that the backup is of
		$node->append_conf('postgresql.conf',
			"primary_conninfo = '" . $primary->connstr . " application_name=$name'");
	}
	$node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	$node->start unless $opt{no_start};
	return $node;
}

# One value of a function's only row.
sub ask
{
	my ($node, $what) = @_;
	return $node->safe_psql('postgres', "SELECT $what");
}

sub health
{
	my ($node, $column) = @_;
	return ask($node, "$column FROM sagaz_ha.replication_health()");
}

sub stat
{
	my ($node, $column) = @_;
	return ask($node, "$column FROM sagaz_ha.standby_status()");
}

sub until_true
{
	my ($node, $what, $name) = @_;
	my $ok = $node->poll_query_until('postgres', "SELECT $what");
	ok($ok, $name);
	diag(health($node, 'status, reasons, replay_lag, lag_source')) unless $ok;
	return $ok;
}

# The traps table of doc/replication.md: what the common formula says, and what
# we say, at the same moment.
sub compare
{
	my ($node, $trap, $formula, $ours) = @_;
	my ($theirs, $mine) = split /\|/,
	  $node->safe_psql('postgres', "SELECT coalesce(($formula)::text, 'NULL'), coalesce(($ours)::text, 'NULL')");
	note("TRAP | $trap | `$formula` | $theirs | $mine |");
	return ($theirs, $mine);
}

sub postmaster_child
{
	my ($node, $type) = @_;
	return ask($node, "pid FROM pg_stat_activity WHERE backend_type = '$type'");
}

1;
