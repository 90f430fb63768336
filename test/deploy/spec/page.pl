#!/usr/bin/perl
# Runs every command of the specification's page, as it stands there, and checks
# what it prints: code blocks of bash and SQL, the health checks in the table
# of services, and the numbers of PgBouncer's configuration. Writes TAP.
#
# usage: page.pl [list]     list: only prints the commands
# Who calls it puts the programs in PATH that the page needs: docker-compose,
# docker, psql, redis-cli. test/deploy/spec/native/ has those for the native
# stack. environment: PGPASSWORD; SAGAZ_PORT_OFFSET, what is added to the page's
# ports where it names them in an address (0)
use strict;
use warnings FATAL => 'all';

use File::Basename qw(dirname);
use HTTP::Tiny;
use Test::More;

my $page = dirname(__FILE__) . '/sagaz-ha-postgresql-setup.md';

# Where the page can't be followed to the letter. Each has to be met.
#   like    the command
#   why     the reason, and what to do instead
#   before  a command that makes what the page takes for granted
#   change  edits the command in $_
#   repeat  for how many seconds, until it prints what it should
#   skip    it isn't run
#   fails   it is run, and has to fail with this
my @adjustments = (
	{   like => qr/-- Should return 't'/,
		why => 'a comment of SQL outside of the quotes is a syntax error of bash',
		change => sub { s/\s+-- Should return.*//s } },
	{   like => qr/^open /,
		why => "opens a browser; dashboards have a test of their own, and Grafana isn't everywhere",
		skip => 1 },
	{   like => qr/KILL client_id/,
		why => 'KILL takes a database. Since PgBouncer 1.24 KILL_CLIENT takes a client; before,'
		  . ' client_idle_timeout ends idle clients',
		fails => qr/client_id/ },
	{   like => qr/EXPLAIN/,
		why => 'a new stack has nothing to prune: a partition of the past is made first',
		before => psql_primary(q{SELECT create_saga_executions_partition((CURRENT_DATE - INTERVAL '3 months')::date)}) },
	{   like => qr/SELECT COUNT/,
		why => 'two seconds are no promise on a busy machine: repeated until it shows the event, for 30 s;'
		  . ' which a relay has published by then',
		change => sub { s/ WHERE status = 'PENDING'// },
		repeat => 30 },
	{   like => qr/pgbench .* -T 60/,
		why => 'shorter; and before PostgreSQL 17 pgbench has -d for --debug, so the database is named without',
		change => sub { s/-T 60/-T 3/; s/-d sagaz/sagaz/ } },
	{   like => qr/^watch /,
		why => 'repeats a command on a terminal for ever: run once',
		change => sub { s/^watch -n 1 "(.*)"$/$1/s } },
	{   like => qr/DROP TABLE saga_outbox_y2024m12d01/,
		why => 'it has to be there; the unfinished event keeps the worker from dropping it first',
		before => psql_primary(q{SELECT create_saga_outbox_partition('2024-12-01');
			INSERT INTO saga_outbox (topic, payload, created_at, status) VALUES ('old', '{}', '2024-12-01 12:00:00+00', 'FAILED')}) },
	{   like => qr/^docker volume rm/,
		why => 'an alternative to down -v, which has removed it already',
		before => 'docker volume create local-postgres_postgres_primary_data' },
);

# What a command has to print; the first that fits. The others only have to
# succeed.
my @expectations = (
	[ qr/get_partition_statistics/, qr/saga_audit_log\s.*saga_executions\s.*saga_outbox\s+\|\s+([89]|\d\d) /s ],
	[ qr/partition_metadata/, qr/saga_outbox_y\d{4}m\d\dd\d\d/ ],
	[ qr/cron\.schedule/, qr/^\s*[1-9]\d*\s*$/m ],
	[ qr/SELECT maintain_all_partitions/, qr/maintain_all_partitions.*row/s ],
	[ qr/maintain_all_partitions/, qr/action\s+\|\s+table_name/ ],
	[ qr/cleanup_consumer_inbox/, qr/^\s*\d+\s*$/m ],
	[ qr/INSERT/, qr/INSERT 0 1/ ],
	[ qr/EXPLAIN/, qr/Subplans Removed: [1-9]/ ],
	[ qr/SELECT COUNT/, qr/^\s*[1-9]\d*\s*$/m ],
	[ qr/create_saga_executions_partition/, qr/saga_executions_y\d{4}m\d\d/ ],
	[ qr/DROP TABLE/, qr/DROP TABLE/ ],
	[ qr/pg_wal_lsn_diff/, qr/streaming\s+\|\s+\d+\s+\|\s+\d+/ ],
	[ qr/pg_stat_replication/, qr/\bstreaming\b/ ],
	[ qr/pg_is_in_recovery/, qr/^\s*t\s*$/m ],
	[ qr/SHOW POOLS/, qr/pool_mode.*\bsagaz\b|pool_mode.*\bpgbouncer\b/s ],
	[ qr/SHOW STATS/, qr/total_query_count/ ],
	[ qr/SHOW CLIENTS/, qr/postgres/ ],
	[ qr/pgbench -i/, qr/done in/ ],
	[ qr/pgbench/, qr/number of failed transactions: 0 .*tps = [1-9]/s ],
	[ qr/logs.* postgres-init/, qr/saga_outbox.*done/s ],
	[ qr/logs postgres-replica/, qr/started streaming WAL from primary/ ],
	[ qr/docker-compose ps/, qr/postgres-primary.*postgres-replica/s ],
	[ qr/pg_isready/, qr/accepting connections/ ],
	[ qr/redis-cli/, qr/PONG/ ],
	[ qr/system df/, qr/\d/ ],
);

sub psql_primary
{
	my ($sql) = @_;
	return qq{docker-compose exec postgres-primary psql -U postgres -d sagaz -c "$sql"};
}

# -------- extraction

# Whether a command goes on in the next line; cuts a comment at the end of this
# one. $$quote is the quotation mark that it is in.
sub goes_on
{
	my ($line, $quote) = @_;
	for (my $i = 0; $i < length $$line; $i++)
	{
		my $c = substr $$line, $i, 1;
		if ($c eq '\\' && $$quote ne "'")
		{
			return 1 if ++$i == length $$line;
		}
		elsif ($$quote ne '')
		{
			$$quote = '' if $c eq $$quote;
		}
		elsif ($c =~ /['"]/)
		{
			$$quote = $c;
		}
		elsif ($c eq '#' && substr($$line, 0, $i) =~ /(^|\s)$/)
		{
			$$line = substr $$line, 0, $i;
		}
	}
	return $$quote ne '';
}

# Splits a block of bash into commands: (line of the page, text).
sub bash_commands
{
	my ($number, @lines) = @_;
	my ($text, $quote, $start, @commands) = ('', '');
	for my $line (@lines)
	{
		$number++;
		next if $text eq '' && $line =~ /^\s*(#|$)/;
		$start = $number if $text eq '';
		my $more = goes_on(\$line, \$quote);
		$text .= "$line\n";
		next if $more;
		push @commands, { line => $start, text => $text =~ s/\s+$//r, page => 'bash' };
		$text = '';
	}
	return @commands;
}

# What is not a comment of a block of SQL, as a command.
sub sql_commands
{
	my ($number, @lines) = @_;
	my $sql = join "\n", grep { !/^\s*(--|$)/ } @lines;
	return () if $sql eq '';
	return { line => $number, page => 'sql', text => psql_primary($sql =~ s/([\$"\\])/\\$1/gr) };
}

# The settings that a block of PgBouncer's configuration has.
sub ini_settings
{
	my ($number, $heading, @lines) = @_;
	my ($pool) = $heading =~ /\((pgbouncer-r[wo])\)/ or return ();
	return map { /^(\w+) = (\w+)/ ? { line => ++$number, page => 'ini', pool => $pool, key => $1, value => $2 } : () } @lines;
}

# The check in a line of the table of services.
sub health_check
{
	my ($number, $line) = @_;
	return () unless $line =~ /^\| `[\w-]+` \|.*\| (\S.*?) \|$/;
	my $check = $1;
	return { line => $number, page => 'url', text => $check } if $check =~ /^http/;
	return { line => $number, page => 'bash', text => $check =~ s/^`|`$//gr };
}

sub read_page
{
	my ($heading, $language, $start, @block, @found) = ('');
	open my $file, '<', $page or die "$page: $!";
	while (my $line = <$file>)
	{
		chomp $line;
		if ($line =~ /^```(\w*)/)
		{
			if (!defined $language)
			{
				($language, $start, @block) = ($1, $.);
				next;
			}
			push @found, bash_commands($start, @block) if $language eq 'bash';
			push @found, sql_commands($start, @block) if $language eq 'sql';
			push @found, ini_settings($start, $heading, @block) if $language eq 'ini';
			undef $language;
		}
		elsif (defined $language)
		{
			push @block, $line;
		}
		elsif ($line =~ /^#/)
		{
			$heading = $line;
		}
		else
		{
			push @found, health_check($., $line);
		}
	}
	return @found;
}

# -------- running

# Exit status and output.
sub run
{
	my ($command) = @_;
	local $ENV{COMMAND} = $command;
	my $output = `timeout 300 bash -c "\$COMMAND" 2>&1 </dev/null`;
	return ($? >> 8, $output);
}

my %met;

sub run_command
{
	my ($command) = @_;
	local $_ = $command->{text};
	my $name = "line $command->{line}: " . s/\s+/ /gr;
	my ($expected) = map { $_->[1] } grep { $command->{text} =~ $_->[0] } @expectations;
	my ($adjustment) = grep { $command->{text} =~ $_->{like} } @adjustments;
	if ($adjustment)
	{
		$met{ $adjustment->{why} }++;
		note("$name\n  $adjustment->{why}");
		return skip_one($name, $adjustment->{why}) if $adjustment->{skip};
		run_before($adjustment->{before}) if $adjustment->{before};
		$adjustment->{change}->() if $adjustment->{change};
	}
	my $deadline = time + ($adjustment && $adjustment->{repeat} || 0);
	my ($status, $output);
	do
	{
		($status, $output) = run($_);
	} while (time < $deadline && $output !~ $expected);
	if ($adjustment && $adjustment->{fails})
	{
		return ok($status != 0 && $output =~ $adjustment->{fails}, "$name fails, as it has to") || diag($output);
	}
	ok($status == 0 && (!$expected || $output =~ $expected), $name)
	  or diag("exit status $status, expected output like " . ($expected // 'any') . "\n" . substr($output, -4000));
}

sub skip_one
{
	my ($name, $why) = @_;
  SKIP: { skip "$name: $why", 1 }
}

sub run_before
{
	my ($status, $output) = run($_[0]);
	diag("before the next: exit status $status\n$output") if $status != 0;
}

sub check_setting
{
	my ($setting) = @_;
	my $port = $setting->{pool} eq 'pgbouncer-rw' ? 6432 : 6433;
	my (undef, $output) = run("psql -h localhost -p $port -U postgres -d pgbouncer -At -c 'SHOW CONFIG;'");
	my ($value) = $output =~ /^\Q$setting->{key}\E\|([^|]*)/m;
	is($value, $setting->{value}, "line $setting->{line}: $setting->{key} of $setting->{pool}") or diag($output);
}

sub check_url
{
	my ($command) = @_;
	my $url = $command->{text} =~ s/:(\d+)$/':' . ($1 + ($ENV{SAGAZ_PORT_OFFSET} \/\/ 0))/er;
	return skip_one($command->{text}, "Grafana isn't everywhere") if $command->{text} =~ /:3000$/;
	my $answer = HTTP::Tiny->new(timeout => 10)->get($url);
	ok($answer->{success}, "line $command->{line}: $url answers") or diag($answer->{content});
}

# A line that sets a variable to an address has to name one that works.
sub check_address
{
	my ($command) = @_;
	my ($name) = $command->{text} =~ /^(\w+)=/;
	my ($status, $output) = run(qq{$command->{text}; psql "\$$name" -Atc 'SELECT current_database()'});
	ok($status == 0 && $output eq "sagaz\n", "line $command->{line}: $command->{text}") or diag($output);
}

my @found = read_page();
if (@ARGV && $ARGV[0] eq 'list')
{
	print "$_->{text}\n\n" for grep { defined $_->{text} } @found;
	exit;
}
for my $found (@found)
{
	if ($found->{page} eq 'ini') { check_setting($found) }
	elsif ($found->{page} eq 'url') { check_url($found) }
	elsif ($found->{text} =~ /^\w+=/) { check_address($found) }
	else { run_command($found) }
}

# Against an extraction that has lost something.
open my $file, '<', $page or die "$page: $!";
is( scalar(grep { $_->{page} eq 'bash' && $_->{text} =~ /^(docker|psql|watch|open|sleep)/ } @found),
	scalar(grep { /^(docker|psql|watch|open|sleep)|^\| `.*\| `(docker|psql)/ } <$file>),
	'every command of the page was found');
is(join("\n", grep { !$met{$_} } map { $_->{why} } @adjustments), '', 'every adjustment is needed');
done_testing();
