# What the tests with standbys share: making them, transactions that stay open
# on them, and a heartbeat that says how stale each one is.
package SagazStandby;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use IPC::Run qw(start finish pump);
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(
  standby_of seconds_long expired_table manage reading_transaction reading_ended
  heartbeat heartbeat_ended waits_for dropped_count
);

my $repeated = 0;

# How long a transaction on a standby lasts, in seconds.
sub seconds_long
{
	return $ENV{SAGAZ_LONG} ? 15 : 5;
}

# A started standby. Options: slot, its name; feedback, which can be off;
# conf, more lines of postgresql.conf; libraries, instead of sagaz_ha.
sub standby_of
{
	my ($primary, $name, %option) = @_;
	my $backup = "for_$name";
	my $standby = PostgreSQL::Test::Cluster->new($name);
	my $feedback = $option{feedback} // 'on';
	my $libraries = $option{libraries} // 'sagaz_ha';

	$primary->backup($backup, backup_options => [ '--checkpoint', 'fast' ]);
	$standby->init_from_backup($primary, $backup, has_streaming => 1);
	if ($option{slot})
	{
		$primary->safe_psql('postgres',
			"SELECT pg_create_physical_replication_slot('$option{slot}', true)");
	}
	my $slot = $option{slot} // '';
	$standby->append_conf('postgresql.conf', qq{
primary_slot_name = '$slot'
hot_standby_feedback = $feedback
shared_preload_libraries = '$libraries'
max_standby_streaming_delay = 0
} . ($option{conf} // ''));
	$standby->start;
	# who hasn't said yet what it sees isn't waited for
	$feedback ne 'on' or $primary->poll_query_until('postgres', qq{
		SELECT EXISTS (SELECT FROM pg_stat_replication AS r LEFT JOIN pg_replication_slots AS s ON s.active_pid = r.pid
			WHERE r.application_name = '$name' AND coalesce(r.backend_xmin, s.xmin) IS NOT NULL)})
	  or die "no feedback of $name";
	return $standby;
}

# A table whose partitions from first to last day nobody manages yet.
sub expired_table
{
	my ($node, $name, $first, $last, %option) = @_;

	$node->safe_psql('postgres', qq{
		CREATE TABLE $name (id bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL,
			done boolean NOT NULL DEFAULT true, payload text) PARTITION BY RANGE (created_at);});
	add_partitions($node, 'postgres', $name, $first, $last);
	return;
}

# Has it managed: what is older than 3 days expires.
sub manage
{
	my ($node, $name, $more) = @_;

	$more //= '';
	$node->safe_psql('postgres',
		"SELECT sagaz_ha.manage_partitions('$name', '1 day', 3, '3 days' $more)");
	return;
}

# \q because servers that are started meanwhile keep the pipe open.
# A session that reads a table in a transaction and goes on for some seconds;
# returns once it has read. At the end it reads again.
# With a primary, it counts at its very end what was dropped there; with the name
# of a file, it doesn't end before there is one.
sub reading_transaction
{
	my ($node, $table, $seconds, $primary, $until) = @_;
	my %session = (out => '', err => '', name => $node->name);
	my $look = defined $primary
	  ? sprintf(q{\! psql -XAtq -d "%s" -c "%s"}, $primary->connstr('postgres'), dropped_sql($table, q{'dropped ' ||}))
	  : '';
	my $stay = defined $until ? qq{\\! while [ ! -e "$until" ]; do sleep 0.1; done} : '';
	my $script = qq{
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 'read ' || count(*) FROM $table;
SELECT pg_sleep($seconds);
$stay
SELECT 'again ' || count(*) FROM $table;
$look
COMMIT;
\\q
};

	$session{run} = start [ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', '-', '-d', $node->connstr('postgres') ],
	  '<', \$script, '>', \$session{out}, '2>', \$session{err},
	  IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	pump $session{run} until $session{out} =~ /read/ || $session{err} ne '' || !$session{run}->pumpable;
	return \%session;
}

# Waits for the session's end; it must have seen the same rows throughout.
sub reading_ended
{
	my ($session, $rows, $name) = @_;

	finish $session->{run};
	$session->{dropped} = $1 if $session->{out} =~ s/^dropped (\d+)\n//m;
	is("$session->{err}$session->{out}", "read $rows\n\nagain $rows\n",
		"$name: the transaction on $session->{name} isn't cancelled and sees the same rows to its end");
	return;
}

# Writes a row on the primary every 100 ms, and on each standby notes every
# 50 ms which is the latest that can be read.
sub heartbeat
{
	my ($primary, @standbys) = @_;
	my %beat = (nodes => [ map { $_->name } @standbys ]);
	# a new one each time: to drop one that a standby still reads would be a conflict
	my $table = 'beat' . $repeated++;

	$primary->safe_psql('postgres', "CREATE TABLE $table (at timestamptz)");
	foreach my $standby (@standbys)
	{
		$standby->poll_query_until('postgres', "SELECT to_regclass('$table') IS NOT NULL")
		  or die 'no catching up';
	}
	$beat{writer} = repeat($primary,
		"INSERT INTO $table VALUES (clock_timestamp()) RETURNING extract(epoch FROM at)", 0.1);
	foreach my $standby (@standbys)
	{
		push @{ $beat{readers} }, repeat($standby,
			"SELECT extract(epoch FROM statement_timestamp()), extract(epoch FROM max(at)) FROM $table", 0.05);
	}
	return \%beat;
}

# A psql that executes a statement over and over, into a file.
sub repeat
{
	my ($node, $statement, $interval) = @_;
	my $file = $node->basedir . '/repeat' . $repeated++;
	my $script = "$statement \\watch $interval\n";

	append_to_file("$file.sql", $script);
	my $run = start [ 'psql', '-XAtq', '-f', "$file.sql", '-d', $node->connstr('postgres') ],
	  '<', '/dev/null', '>', "$file.out", '2>', "$file.err";
	return { run => $run, file => "$file.out" };
}

sub stop_repeating
{
	my ($run) = @_;

	$run->{run}->kill_kill(grace => 1);
	return slurp_file($run->{file});
}

# Every row that was written could be read on each standby within the limit;
# the last ones, before the end, don't count.
sub heartbeat_ended
{
	my ($beat, $limit, $name) = @_;
	my @written = grep { /^\d/ } split /\n/, stop_repeating($beat->{writer});

	foreach my $i (0 .. $#{ $beat->{readers} })
	{
		my @samples = map { [ split /\|/ ] }
		  grep { /^\d+\.\d+\|\d+\.\d+$/ } split /\n/, stop_repeating($beat->{readers}[$i]);
		my $end = @samples ? $samples[-1][0] : 0;
		my $start = @samples ? $samples[0][0] : 0;
		my @lags;
		my $next = 0;

		# A row is committed when the next one is written; and what counts is
		# for how long it was looked for in vain, not when it was looked for.
		foreach my $n (0 .. $#written - 1)
		{
			my ($at, $committed) = @written[ $n, $n + 1 ];

			next if $at < $start;
			$next++ while $next < @samples && $samples[$next][1] < $at;
			if ($next < @samples)
			{
				push @lags, $next > 0 ? max(0, $samples[ $next - 1 ][0] - $committed) : 0;
			}
			elsif ($end - $at > $limit)
			{
				push @lags, $end - $at;
			}
		}
		my $worst = @lags ? max(@lags) : 9999;
		ok(@lags >= 10 && $worst <= $limit,
			"$name: every row is readable on $beat->{nodes}[$i] within $limit s")
		  or diag(sprintf 'after %.2f s of %d rows', $worst, scalar @lags);
		note(sprintf '%s: %d rows on %s, looked for in vain for %.0f ms at most',
			$name, scalar @lags, $beat->{nodes}[$i], 1000 * $worst)
		  if @lags;
	}
	return;
}

# Health and status say what the table's pending detach waits for.
sub waits_for
{
	my ($node, $table, $pattern, $name) = @_;

	ok($node->poll_query_until('postgres', qq{
		SELECT EXISTS (SELECT FROM sagaz_ha.partition_health()
			WHERE table_name = '$table' AND check_name = 'pending_detach' AND status = 'warning'
				AND details ~ '$pattern')
			AND EXISTS (SELECT FROM sagaz_ha.maintenance_status()
			WHERE database = 'postgres' AND waiting_for ~ '$pattern')}),
		"$name: health and status say what is waited for")
	  or diag($node->safe_psql('postgres', q{
		SELECT details FROM sagaz_ha.partition_health() WHERE check_name = 'pending_detach'
		UNION ALL SELECT process || ': ' || waiting_for FROM sagaz_ha.maintenance_status()}));
	note("$name: " . $node->safe_psql('postgres', qq{
		SELECT details FROM sagaz_ha.partition_health()
		WHERE table_name = '$table' AND check_name = 'pending_detach'}));
	return;
}

sub dropped_sql
{
	my ($table, $prefix) = @_;

	return "SELECT $prefix count(*) FROM sagaz_ha.partition_history WHERE table_name = '$table' AND action = 'DROP'";
}

sub dropped_count
{
	my ($node, $table) = @_;

	return $node->safe_psql('postgres', dropped_sql($table, ''));
}

1;
