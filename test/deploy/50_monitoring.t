#!/usr/bin/perl
# Monitoring, live: servers and pools of the native stack under load, their
# exporters, and a Prometheus that asks every second. Every panel of the
# dashboards has data, every alert is loaded and goes by metrics that exist, and
# what is provoked is noticed.
use strict;
use warnings FATAL => 'all';
use File::Basename qw(basename dirname);
use File::Spec;
use File::Temp qw(tempdir);
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use POSIX qw(setsid);
use Test::More;
use Time::HiRes qw(time usleep);

my $deploy = File::Spec->rel2abs(dirname(__FILE__) . '/../../deploy');
my $stack = "$deploy/demo/stack.sh";
my $patience = 90;    # seconds that anything may take on a busy machine
my $work = tempdir('sagaz_ha-monitoring.XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $main = $$;
my (%pid, $prometheus);

sub slurp { my ($file) = @_; local (@ARGV, $/) = ($file); return <> }

# -------- the stack

sub run { my (@command) = @_; system(@command) == 0 or die "@command failed"; return }

# A process of ours, in a group of its own, with its output in a file.
sub launch
{
	my ($name, $environment, @command) = @_;
	my $child = fork() // die $!;

	if ($child == 0)
	{
		setsid();
		open(STDIN, '<', '/dev/null') or die $!;
		open(STDOUT, '>', "$work/$name.log") or die $!;
		open(STDERR, '>&', \*STDOUT) or die $!;
		@ENV{ keys %$environment } = values %$environment;
		exec(@command) or die $!;
	}
	$pid{$name} = $child;
	return;
}

sub finish
{
	my ($name) = @_;
	my $group = delete $pid{$name} // return;

	kill('KILL', -$group);
	waitpid($group, 0);
	return;
}

END
{
	if ($$ == $main)
	{
		my $status = $?;

		finish($_) foreach keys %pid;
		system($stack, 'down') if $ENV{SAGAZ_STATE_DIR};
		$? = $status;
	}
}
$SIG{INT} = $SIG{TERM} = sub { exit 130 };

# Ports that nobody has now.
sub free_ports
{
	my ($count) = @_;
	my @sockets = map { IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die $! } 1 .. $count;

	return map { $_->sockport } @sockets;
}

sub get { my ($url) = @_; return HTTP::Tiny->new(timeout => 20)->get($url) }

# Polls until the code returns something true, or gives up.
sub eventually
{
	my ($what, $code) = @_;
	my $deadline = time + $patience;
	my $found;

	until ($found = $code->())
	{
		return ok(0, $what) if time > $deadline;
		usleep(200_000);
	}
	return ok(1, $what);
}

sub psql
{
	my ($sql) = @_;
	open(my $out, '-|', "$ENV{PG_BIN}/psql", '-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', '127.0.0.1',
		'-p', $ENV{POSTGRES_PRIMARY_PORT}, '-U', 'postgres', '-d', 'sagaz', '-c', $sql) or die $!;
	my $said = join('', <$out>);
	close($out) or die "failed: $sql";
	chomp $said;
	return $said;
}

# The command lines of all processes; some may be gone by now.
sub command_lines
{
	my @found;

	foreach my $file (glob('/proc/[0-9]*/cmdline'))
	{
		open(my $in, '<', $file) or next;
		push @found, join('', <$in>);
	}
	return @found;
}

# -------- Prometheus

sub api
{
	my ($path, %parameter) = @_;
	my $query = HTTP::Tiny->new->www_form_urlencode(\%parameter);
	my $answer = decode_json(get("$prometheus/api/v1/$path?$query")->{content} || '{}');

	return $answer->{status} eq 'success' ? $answer->{data} : die "$path: $answer->{error}";
}

# The values of an expression that are numbers.
sub values_of
{
	my ($expr) = @_;

	return grep { lc $_ ne 'nan' } map { $_->{value}[1] } @{ api('query', query => $expr)->{result} };
}

# The states of an alert with labels that match.
sub states_of
{
	my ($alert, %label) = @_;

	return map { $_->{state} }
	  grep { my $has = $_->{labels}; !grep { ($has->{$_} // '') ne $label{$_} } keys %label }
	  grep { $_->{labels}{alertname} eq $alert } @{ api('alerts')->{alerts} };
}

sub is_noticed
{
	my ($state, $alert, %label) = @_;
	my $which = join(' ', $alert, map { "$_=$label{$_}" } sort keys %label);

	return eventually("$which is $state", sub { grep { $_ eq $state || $_ eq 'firing' } states_of($alert, %label) });
}

chomp($ENV{SAGAZ_PORT_OFFSET} //= qx($stack free-offset));
$ENV{SAGAZ_STATE_DIR} = "$work/stack";
run($stack, 'up', qw(postgres-primary postgres-replica pgbouncer-rw pgbouncer-ro));
foreach (qx($stack env)) { $ENV{$1} = $2 if /^export (\w+)=(.*)$/ }
$ENV{PGPASSWORD} = $ENV{POSTGRES_PASSWORD};
delete $ENV{POSTGRES_PASSWORD};

my %target = (PRIMARY => [qw(postgresql POSTGRES_PRIMARY_PORT)], REPLICA => [qw(postgresql POSTGRES_REPLICA_PORT)],
	RW => [qw(pgbouncer PGBOUNCER_RW_PORT)], RO => [qw(pgbouncer PGBOUNCER_RO_PORT)]);
my %port;
@port{ sort keys %target, 'PROMETHEUS' } = free_ports(5);
foreach my $name (sort keys %target)
{
	my ($kind, $variable) = @{ $target{$name} };

	launch("exporter-$name", { TARGET_HOST => '127.0.0.1', TARGET_PORT => $ENV{$variable}, EXPORTER_PORT => $port{$name} },
		"$deploy/scripts/exporter", $kind);
}
# the rules as they are, asked each second
run('cp', '-r', "$deploy/config", "$work/config");
run('sed', '-i', 's/_\(interval\|timeout\): .*/_\1: 1s/', "$work/config/prometheus/prometheus.yml");
launch('prometheus', { CONFIG_DIR => "$work/config", RUN_DIR => "$work/run", LISTEN_ADDRESSES => '127.0.0.1',
		PROMETHEUS_PORT => $port{PROMETHEUS}, map { ("EXPORTER_${_}_PORT" => $port{$_}) } keys %target },
	"$deploy/scripts/prometheus", 'native');
$prometheus = "http://127.0.0.1:$port{PROMETHEUS}";

# -------- all is well

eventually('Prometheus is ready', sub { get("$prometheus/-/ready")->{success} })
  or BAIL_OUT(slurp("$work/prometheus.log"));
eventually('every target answers Prometheus', sub { 5 == values_of('up == 1') });
eventually('both servers have metrics', sub { 2 == values_of('pg_up == 1') });
eventually('both pools have metrics', sub { 2 == values_of('pgbouncer_up == 1') });
foreach my $name (sort keys %target)
{
	my $page = get("http://127.0.0.1:$port{$name}/metrics")->{content};

	open(my $check, '|-', "promtool check metrics >$work/lint 2>&1") or die $!;
	print $check $page;
	close($check);
	my $lint = slurp("$work/lint") // '';
	# a name that the sagaz project gives
	$lint =~ s/^sagaz_partition_count non-histogram and non-summary .*\n//m;
	is($lint, '', "promtool finds no fault with the metrics of $name");
}

# A transaction each through both pools, again and again.
my @pgbench = ("$ENV{PG_BIN}/pgbench", qw(-n -h 127.0.0.1 -U postgres -d sagaz -T 600));
open(my $script, '>', "$work/load.sql") or die $!;
print $script "BEGIN;\nSELECT count(*) FROM saga_outbox;\n\\sleep 20 ms\nCOMMIT;\n";
close($script) or die $!;
launch("load-$_", {}, @pgbench, '-c', 3, '-f', "$work/load.sql", '-p', $ENV{"PGBOUNCER_${_}_PORT"}) foreach qw(RW RO);

# -------- every panel has data

my %variable = (cluster => 'sagaz', node => '.*', table => '.*', __rate_interval => '15s');
foreach my $file (sort glob("$deploy/config/grafana/dashboards/*.json"))
{
	my $dashboard = decode_json(slurp($file));
	my %seen;

	is("$dashboard->{uid}.json", basename($file), "$dashboard->{title} has the identity that its file says");
	foreach my $variable (@{ $dashboard->{templating}{list} })
	{
		my ($selector, $label) = $variable->{definition} =~ /^label_values\((.*), (\w+)\)$/;

		$selector =~ s/\$(\w+)/$variable{$1}/g;
		eventually("$dashboard->{title}: variable $variable->{name} has values",
			sub { @{ api("label/$label/values", 'match[]' => $selector) } });
	}
	foreach my $panel (@{ $dashboard->{panels} })
	{
		my $title = "$dashboard->{title}: $panel->{title}";

		ok($panel->{title} && $panel->{description} && $panel->{fieldConfig}{defaults}{unit} && !$seen{ $panel->{title} }++,
			"$title has a title of its own, a description and a unit");
		foreach my $target (@{ $panel->{targets} })
		{
			my $expr = $target->{expr} =~ s/\$(\w+)/$variable{$1}/gr;

			is($target->{datasource}{uid}, 'sagaz-prometheus', "$title: the data source is the one that is provisioned");
			eventually("$title: $target->{expr}", sub { values_of($expr) });
		}
	}
}
like(slurp("$deploy/config/grafana/provisioning/datasources/prometheus.yml"), qr/^    uid: sagaz-prometheus$/m,
	'the data source is provisioned under the name that dashboards use');
like(slurp("$deploy/config/grafana/provisioning/datasources/prometheus.yml"), qr/^      manageAlerts: true$/m,
	'Grafana lists the alerts of that data source');
ok((grep { $_->{type} eq 'alerting' && $_->{name} eq 'SagazReplicationLag' } map { @{ $_->{rules} } } @{ api('rules')->{groups} }),
	'the one about lag is among them');

# -------- every rule can be true

my @rules = map { @{ $_->{rules} } } @{ api('rules')->{groups} };
my $written = () = join('', map { slurp($_) } glob("$deploy/config/prometheus/rules/*.yml")) =~ /^      - (?:alert|record): /mg;
is(scalar @rules, $written, 'every rule is loaded');
eventually('every rule was evaluated, without an error', sub {
	!grep { $_->{health} ne 'ok' } map { @{ $_->{rules} } } @{ api('rules')->{groups} } });
my %metric = map { $_ => 1 }
  map { $_->{query} =~ s/"[^"]*"//gr =~ /\b(up|pg_up|(?:sagaz|pgbouncer)[a-z_:]+)\b/g } @rules;
# a forecast, which is made only while archiving fails
my $forecast = 'sagaz_ha_wal_disk_full_seconds';
ok(delete $metric{$forecast}, "an alert goes by $forecast");
eventually("alerts go by $_, which there is", sub { values_of($_) }) foreach sort keys %metric;
is(join(' ', map { $_->{labels}{alertname} } grep { $_->{state} eq 'firing' } @{ api('alerts')->{alerts} }), '',
	'nothing fires while all is well');

# -------- what happens is noticed

psql(q{
	CREATE TABLE taken (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	DO $$ BEGIN
		FOR n IN 0 .. 3 LOOP
			EXECUTE format('CREATE TABLE %I ()', 'taken_' || to_char((now() + n * interval '1 day') AT TIME ZONE 'UTC', '"y"YYYY"m"MM"d"DD'));
		END LOOP;
	END $$;
	SELECT sagaz_ha.manage_partitions('taken', '1 day', 1);
	CREATE TABLE kept (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
	DO $$ BEGIN
		EXECUTE format('CREATE TABLE kept_old PARTITION OF kept FOR VALUES FROM (%L) TO (%L)',
			date_trunc('day', now(), 'UTC') - interval '10 days', date_trunc('day', now(), 'UTC') - interval '3 days');
	END $$;
	INSERT INTO kept VALUES (now() - interval '5 days', true);
	SELECT sagaz_ha.manage_partitions('kept', '1 day', 1, retention => '1 day', unfinished_when => 'todo')});
psql('SELECT * FROM maintain_all_partitions()');
is_noticed('firing', 'SagazMaintenanceError', node => 'postgres-primary', database => 'sagaz');
is_noticed('pending', 'SagazMaintenanceFailing', table => 'taken', check => 'errors');
is_noticed('pending', 'SagazInsertsFail', table => 'taken');
is_noticed('pending', 'SagazPartitionsKept', table => 'kept');

# WAL that is written in a minute and can't be archived
psql($_) foreach q{ALTER SYSTEM SET archive_command = '/bin/false'}, 'SELECT pg_reload_conf()',
	q{SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000)) FROM generate_series(1, 300)},
	'SELECT pg_switch_wal()';
is_noticed('pending', 'SagazArchiveFailing', node => 'postgres-primary');
eventually("an alert goes by $forecast, which there is while archiving fails", sub { values_of($forecast) });
psql($_) foreach 'ALTER SYSTEM RESET archive_command', 'SELECT pg_reload_conf()';

launch('flood', {}, @pgbench, '-c', 40, '-f', "$work/load.sql", '-p', $ENV{PGBOUNCER_RW_PORT});
is_noticed('pending', 'SagazPoolSaturated', node => 'pgbouncer-rw', database => 'sagaz', user => 'postgres');
finish('flood');

# A server that hangs: its exporter says so, and Prometheus is told in time.
my $postmaster = (split /\n/, slurp("$ENV{SAGAZ_STATE_DIR}/postgres-replica/postmaster.pid"))[0];
kill('STOP', $postmaster);
my $start = time;
my $hanging = fork() // die $!;
if ($hanging == 0) { get("http://127.0.0.1:$port{REPLICA}/metrics"); POSIX::_exit(0) }
like(get("http://127.0.0.1:$port{REPLICA}/healthz")->{content}, qr/^ok$/, 'the exporter of a server that hangs is healthy');
my $psql = '';
eventually('its psql was seen', sub { ($psql) = grep { /sagaz_ha\.prometheus_metrics/ } command_lines() });
unlike($psql, qr/\Q$ENV{MONITOR_PASSWORD}\E/, 'without the password among its arguments');
waitpid($hanging, 0);
cmp_ok(time - $start, '<', 10, 'it answers before Prometheus would give up');
like(get("http://127.0.0.1:$port{REPLICA}/metrics")->{content}, qr/^pg_up 0$/m, 'and says that the server is down');
kill('CONT', $postmaster);
eventually('it is up again when the server goes on',
	sub { get("http://127.0.0.1:$port{REPLICA}/metrics")->{content} =~ /^pg_up 1$/m });

# A standby that is gone
kill('QUIT', $postmaster);
is_noticed('pending', 'SagazServerDown', node => 'postgres-replica');
is_noticed('pending', 'SagazStandbyMissing', cluster => 'sagaz');
finish('exporter-RO');
is_noticed('pending', 'SagazExporterDown', node => 'pgbouncer-ro');
run($stack, 'stop', 'pgbouncer-rw');
is_noticed('pending', 'SagazPoolDown', node => 'pgbouncer-rw');

done_testing();
