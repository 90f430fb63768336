# The pgTAP tests, in a cluster of their own.

use strict;
use warnings;

use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\ntimezone = 'America/New_York'\ndatestyle = 'SQL, DMY'");
$node->start;
plan skip_all => 'pgTAP is not installed'
	if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pgtap'}) eq '0';

# every test of a file becomes one of ours, so that prove counts them
for my $file (sort glob(dirname(__FILE__) . '/../pgtap/*.sql'))
{
	my ($stdout, $stderr);
	my $code = IPC::Run::run([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-f', $file ],
		'>', \$stdout, '2>', \$stderr);
	my $last = '';
	for my $line (split /\n/, $stdout)
	{
		if ($line =~ /^(not )?ok \d+(?: - (.*))?/)
		{
			ok(!$1, $2 // '');
		}
		elsif ($line =~ /^# (.*)/)
		{
			diag($1);
		}
		$last = $line if $line =~ /^1\.\.\d+/;
	}
	ok($code && $last ne '', "$file ended as planned") or diag($stderr);
}

$node->stop;
done_testing();
