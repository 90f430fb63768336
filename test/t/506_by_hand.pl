# A pass by hand leaves drops to the worker where a standby follows: also while
# the launcher, or the whole server, is only just coming back.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run qw(finish);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazStandby;
use SagazTest;
use Test::More;

my $primary = sagaz_server('primary', streaming => 1, conf => "sagaz_ha.naptime = 1h\n");
$primary->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');
my $standby = standby_of($primary, 'standby', slot => 'standby',
	conf => "wal_retrieve_retry_interval = 6s\n");

# Retires 2 partitions that a transaction on the standby has read.
sub beside
{
	my ($table, $come_back) = @_;

	expired_table($primary, $table, -5, 0);
	$primary->wait_for_catchup($standby);
	my $offset = -s $standby->logfile;
	my $session = reading_transaction($standby, $table, 8);
	my $sql = $come_back->();
	is($primary->safe_psql('postgres', qq{
		BEGIN;
		SELECT FROM sagaz_ha.manage_partitions('$table', '1 day', 3, '3 days');
		$sql
		SELECT action || ' ' || details FROM maintain_all_partitions() WHERE action <> 'CREATE';
		COMMIT}) =~ s/^\n+//r,
		'DEFER drops are left to the worker, because standbys follow this server', "$table: drops are left");
	finish $session->{run};
	is_deeply([ log_lines($standby, $offset, qr/holding a relation lock/) ], [],
		"$table: the transaction on the standby isn't cancelled because of its locks");
	is_partitions($primary, 'postgres', $table, -3, 3, "$table: the worker does them");
	return;
}

beside('launcher', sub {
	return q{SELECT FROM sagaz_ha.maintenance_status()
		WHERE process = 'launcher' AND NOT pg_terminate_backend(pid, 5000);}
});

# Its slot has lost the xmin, and it has not come back yet. (It can be cancelled
# for row versions now: without an xmin, nothing stops the primary's pruning.)
beside('crash', sub { $primary->stop('immediate'); $primary->start; return '' });

$_->stop('fast') foreach $standby, $primary;
done_testing();
