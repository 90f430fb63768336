# What is changed while a detach is pending. Such a partition isn't altered with
# its table, and can't be altered by itself.
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
use Time::HiRes qw(usleep);

my $node = sagaz_server('main', streaming => 1, conf => "sagaz_ha.naptime = 1s\n");
$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha; CREATE ROLE ann');

my $pending = q{EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending AND inhparent = '%s'::regclass)};
my $errors = q{SELECT coalesce(string_agg(status || ' ' || details, ''), '')
	FROM sagaz_ha.partition_health() WHERE check_name = 'errors' AND table_name = '%s'};

# A partition expires while somebody reads it; then, with its detach pending,
# something is changed, and the reader ends.
sub change
{
	my ($table, $policy, $change, %option) = @_;
	my $passes = q{(SELECT sum(passes) FROM sagaz_ha.maintenance_status() WHERE process = 'worker')};

	expired_table($node, $table, -4, 0);
	# of the partition, or the change would wait for it
	my $session = reading_transaction($node, "${table}_y2026m03d06", 600);
	$node->safe_psql('postgres',
		"SELECT sagaz_ha.manage_partitions('$table', '1 day', 3, '3 days', $policy)");
	ok(defined when($node, 'postgres', sprintf $pending, $table), "$table: a detach is pending");
	$node->safe_psql('postgres', $change);
	$option{then}->() if $option{then};
	if ($option{next_pass})
	{
		# the one that is running has the policy of its beginning
		my $before = $node->safe_psql('postgres', "SELECT $passes");
		ok(defined when($node, 'postgres', "$passes > $before"), "$table: that pass has ended");
	}
	$node->poll_query_until('postgres', q{SELECT count(pg_terminate_backend(pid)) = 1
		FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'}) or die 'no reader';
	finish $session->{run};
	return;
}

# What a failure's log has to have.
sub what_is
{
	my ($table) = @_;

	diag($node->safe_psql('postgres', qq{
		SELECT recorded_at, action, partition_name, details FROM sagaz_ha.partition_history WHERE table_name = '$table' ORDER BY id;
		SELECT * FROM sagaz_ha.problem WHERE table_name = '$table';
		SELECT * FROM sagaz_ha.retirement WHERE parent = '$table'::regclass;
		SELECT inhrelid::regclass, inhdetachpending FROM pg_inherits WHERE inhparent = '$table'::regclass;
		SELECT backend_type, xact_start, wait_event_type, wait_event, query FROM pg_stat_activity}));
	return;
}

sub is_detached
{
	my ($table) = @_;

	is_partitions($node, 'postgres', $table, -3, 3, "$table: the detach is finished");
	is($node->safe_psql('postgres', sprintf $errors, $table), 'ok none', "$table: without an error") or what_is($table);
	return;
}

my %changes = (
	added => 'ALTER TABLE %s ADD COLUMN note text NOT NULL DEFAULT $$x$$',
	renamed => 'ALTER TABLE %s RENAME COLUMN payload TO body',
	other_type => 'ALTER TABLE %s ALTER COLUMN payload TYPE varchar(100)',
	dropped => 'ALTER TABLE %s DROP COLUMN payload',
	checked => 'ALTER TABLE %s ADD CONSTRAINT positive CHECK (id > 0)',
	not_null => q{UPDATE %1$s SET payload = ''; ALTER TABLE %1$s ALTER COLUMN payload SET NOT NULL});
foreach my $table (sort keys %changes)
{
	change($table, q{unfinished_when => 'NOT done'}, sprintf $changes{$table}, $table);
	is_detached($table);
}

# What may not be dropped, the server has to detach. Since 18 it can't; then that
# is said, with what to do, until nothing is in the way any more.
my $server_can;
sub is_not_dropped
{
	my ($table, $let_go) = @_;

	# in one look: a DEFER may come after the error
	my $state = sprintf "SELECT CASE WHEN $pending THEN ($errors) ELSE 'finished' END", $table, $table;
	my ($error, $tries) = ('', 10 * $PostgreSQL::Test::Utils::timeout_default);
	until (($error = $node->safe_psql('postgres', $state)) =~ /^(finished|critical)/ || !$tries--)
	{
		usleep(100_000);
	}
	$server_can //= $error eq 'finished';
	like($error, $server_can ? qr/^finished$/
		: qr/^critical 55000: .*its table was changed.*"note".*HINT: Change the table back/, "$table: the error says why")
	  or what_is($table);
	$let_go->();
	is_detached($table);
	return;
}

change('kept', q{retention_action => 'detach'}, 'ALTER TABLE kept ADD COLUMN note text');
is_not_dropped('kept', sub { $node->safe_psql('postgres', 'ALTER TABLE kept DROP COLUMN note') });

# The drop would take AccessExclusive on the table itself.
change('followed', q{unfinished_when => 'NOT done'}, q{ALTER TABLE followed ADD COLUMN note text;
	SELECT pg_create_physical_replication_slot('follower')});
is_not_dropped('followed', sub { $node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('follower')}) });

my $user;
change('used', q{unfinished_when => 'NOT done'}, 'ALTER TABLE used ADD COLUMN note text', then => sub {
	$user = $node->background_psql('postgres');
	$user->query_safe('BEGIN; SELECT count(*) FROM used') });
is_not_dropped('used', sub { $user->query_safe('COMMIT') });
$user->quit;

# It has to be attached again, for a row that is unfinished after all.
change('needed', q{unfinished_when => 'NOT done'}, q{ALTER TABLE needed ADD COLUMN note text;
	SELECT sagaz_ha.manage_partitions('needed', '1 day', 3, '3 days', unfinished_when => 'done')}, next_pass => 1);
ok(defined when($node, 'postgres', '(' . sprintf($errors, 'needed') . ") LIKE 'critical 55000: %its table was changed%'"),
	'needed: that it can be neither detached nor attached is an error');
$node->safe_psql('postgres', 'ALTER TABLE needed DROP COLUMN note');
ok(defined when($node, 'postgres', sprintf "NOT $pending", 'needed'), 'needed: nothing is pending');
ok(defined when($node, 'postgres', '(' . sprintf($errors, 'needed') . ") = 'ok none'"), 'needed: the error is gone');
is_partitions($node, 'postgres', 'needed', -4, 3, 'needed: it is attached again');

# What a pass fails at first, before anything that it plans, is an error as well.
change('given', q{unfinished_when => 'NOT done'}, 'ALTER TABLE given OWNER TO ann');
ok(defined when($node, 'postgres', '(' . sprintf($errors, 'given') . ") LIKE 'critical 42501: permission denied for table%'"),
	"given: that the new owner may not read the partition is an error");
$node->safe_psql('postgres', 'ALTER TABLE given OWNER TO postgres');
is_detached('given');

$node->stop('fast');
done_testing();
