# Policies from pg_partman's configuration, 4.7 or 5, while its worker and ours run:
# exactly one of the two maintains a table, before, afterwards, and after going back.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', libraries => 'pg_partman_bgw,sagaz_ha', start => 0, conf => q{
sagaz_ha.clock = ''
sagaz_ha.naptime = 1s
pg_partman_bgw.interval = 1
pg_partman_bgw.dbname = 'postgres'
max_worker_processes = 20
log_lock_waits = on
});
my $libraries = `pg_config --pkglibdir`;
chomp $libraries;
plan skip_all => 'pg_partman is not installed' unless -e "$libraries/pg_partman_bgw.so";

my $role = getpwuid($<);
$node->append_conf('postgresql.conf', "pg_partman_bgw.role = '$role'\n");
$node->start;

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sql(q{CREATE SCHEMA keeper; CREATE SCHEMA archive; CREATE EXTENSION pg_partman SCHEMA keeper; CREATE EXTENSION sagaz_ha});
my ($major) = sql(q{SELECT extversion FROM pg_extension WHERE extname = 'pg_partman'}) =~ /^(\d+)/;

# A table that pg_partman partitions.
sub taken
{
	my ($table, $column, $type, $interval, $more, %option) = @_;
	my $partitioning = $major < 5 ? "'native', '$interval'" : "'$interval'";
	my $start = $option{start} ? ", p_start_partition => $option{start}" : '';

	sql(qq{CREATE TABLE $table (id bigint NOT NULL, created_at $type NOT NULL, note text) PARTITION BY RANGE ($column);
		SELECT keeper.create_parent('public.$table', '$column', $partitioning $start);
		UPDATE keeper.part_config SET $more WHERE parent_table = 'public.$table'});
	return;
}

my $daily = $major < 5 ? 'daily' : '1 day';
my $monthly = $major < 5 ? 'monthly' : '1 month';
taken('events', 'created_at', 'timestamptz', $daily, q{retention = '5 days', retention_keep_table = false, premake = 5},
	start => q{(current_date - 8)::text});
taken('audit', 'created_at', 'timestamp', $monthly, q{retention = '12 months', retention_schema = 'archive', infinite_time_partitions = true});
taken('kept', 'created_at', 'date', $daily, q{retention = '30 days'});
taken('crowded', 'created_at', 'timestamptz', $daily, 'premake = 4');
taken('numbers', 'id', 'timestamptz', '1000', 'premake = 4');
sql(q{INSERT INTO crowded VALUES (1, now() - interval '1 year')});
# bounds at midnight elsewhere, where its worker is set to; pg_partman takes the session's zone, so it can't go on in another
sql(q{CREATE ROLE tokyo; ALTER ROLE tokyo SET timezone = 'Asia/Tokyo'});
{
	local $ENV{PGTZ} = 'Asia/Tokyo';
	taken('tokyo', 'created_at', 'timestamptz', $daily, q{automatic_maintenance = 'off'});
}
sql(q{CREATE INDEX ON keeper.template_public_tokyo (note)});

# a table of somebody who may maintain it with either of the two, and no more
taken('owned', 'created_at', 'timestamptz', $daily, 'premake = 4');
sql(q{CREATE ROLE ann LOGIN;
	GRANT USAGE, CREATE ON SCHEMA public, keeper TO ann;
	GRANT SELECT, UPDATE, INSERT, DELETE ON ALL TABLES IN SCHEMA keeper TO ann;
	GRANT EXECUTE ON FUNCTION sagaz_ha.return_to_pg_partman, sagaz_ha.stop_managing_partitions, sagaz_ha.maintain_partitions TO ann;
	ALTER TABLE owned OWNER TO ann;
	DO $$DECLARE p regclass; BEGIN
		FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'owned'::regclass LOOP EXECUTE format('ALTER TABLE %s OWNER TO ann', p); END LOOP;
	END$$});

sub findings
{
	my ($call) = @_;

	return sql("SELECT table_name || ' | ' || finding || ' | ' || item || ' | ' || details FROM $call");
}

# -------- dry

my $dry = findings('sagaz_ha.import_pg_partman()');
note($dry);
like($dry, qr/^events \| policy \| .*manage_partitions\('public.events', '1 day', premake => 5, retention => '5 days', retention_action => 'drop', time_zone => 'UTC'\)$/m, 'a policy');
like($dry, qr/^audit \| policy .*'(?:1 mon|1 month)', .*retention => '12 months', retention_action => 'archive', .*archive_schema => 'archive'\)$/m, 'one that archives');
like($dry, qr/^kept \| policy .*retention_action => 'detach'/m, 'one that detaches');
like($dry, qr/^tokyo \| policy .*retention => NULL, .*time_zone => 'Asia\/Tokyo'/m, 'one for ever, with bounds at midnight elsewhere');
like($dry, qr/^tokyo \| no counterpart \| template_table index \| CREATE INDEX .*note/m, 'an index of the template table');
like($dry, qr/^events \| no counterpart \| infinite_time_partitions/m, 'what pg_partman makes by its rows');
unlike($dry, qr/^audit \| no counterpart \| infinite_time_partitions/m, 'or not');
like($dry, qr/^numbers \| in the way \| partition_interval \| it is a range of ids/m, 'ids are no times');
like($dry, qr/^crowded \| in the way \| default partition .*crowded_default has rows/m, 'a default partition with rows is in the way');
like($dry, qr/^events \| default partition \| default partition \| .*events_default is empty/m, 'an empty one is not');
unlike($dry, qr/\| imported \|/, 'nothing is imported');
is(sql('SELECT count(*) FROM sagaz_ha.partition_policy'), '0', 'no policy is registered');
is(sql(q{SELECT count(*) FROM keeper.part_config WHERE automatic_maintenance <> 'on'}), '1', 'and pg_partman goes on, but for the one that is off');
is(sql(q{SELECT to_regclass('events_default') IS NOT NULL}), 't', 'with the default partition');

# -------- done

sub boundaries
{
	my ($table) = @_;

	return sql("SELECT count(*), count(DISTINCT pg_get_expr(c.relpartbound, c.oid)) FROM pg_inherits AS i
		JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = '$table'::regclass");
}

# All are taken in one transaction: while the first are locked, no other is waited for.
my $tokyo = sql(q{SELECT 'tokyo'::regclass::oid});
my $offset = -s $node->logfile;
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE ONLY tokyo');
my $beside = sql(q{BEGIN; SELECT table_name || ' | ' || finding || ' | ' || item || ' | ' || details
	FROM sagaz_ha.import_pg_partman(dry_run => false); ROLLBACK});
like($beside, qr/^events \| imported /m, 'beside a table that is locked, others are imported');
like($beside, qr/^tokyo \| in the way \| manage_partitions \| 55P03/m, 'and that one is not');
is_deeply([ log_lines($node, $offset, qr/still waiting for \w+ on relation $tokyo /) ], [], 'nor is it waited for');
$locker->query_safe('ROLLBACK');
$locker->quit;

# a reader keeps a default partition; pg_partman, which would wait for it, has nothing to make there
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT count(*) FROM kept');
my $done = findings('sagaz_ha.import_pg_partman(dry_run => false)');
note($done);
like($done, qr/^$_ \| imported /m, "$_ is imported") foreach qw(events audit kept tokyo owned);
like($done, qr/^tokyo \| imported .*, which sets it to on; it was off before$/m, 'who goes back is told what pg_partman did before');
unlike($done, qr/^(audit|events|kept) \| imported .*before/m, 'where it was not on');
unlike($done, qr/^(crowded|numbers) \| imported /m, 'what is in the way is not');
like($done, qr/^events \| default partition .* dropped$/m, 'an empty default partition is dropped');
like($done, qr/^kept \| default partition .* stays/m, 'unless somebody uses the table');
$reader->query_safe('COMMIT');
$reader->quit;
is(sql(q{SELECT string_agg(parent::text, ' ' ORDER BY parent::text) FROM sagaz_ha.partition_policy}), 'audit events kept owned tokyo', 'each has a policy');
is(sql(q{SELECT string_agg(parent_table, ' ' ORDER BY parent_table) FROM keeper.part_config WHERE automatic_maintenance = 'on'}),
	'public.crowded public.numbers', 'and pg_partman has the others');
# what either of the two would make now tells who maintains
sql(q{UPDATE keeper.part_config SET premake = 20, infinite_time_partitions = true;
	UPDATE sagaz_ha.partition_policy SET premake = 9, retention = '2 days' WHERE parent = 'events'::regclass;
	UPDATE sagaz_ha.partition_policy SET premake = 9 WHERE parent = 'owned'::regclass});
ok(defined when($node, 'postgres', q{count(*) >= 4 FROM sagaz_ha.partition_history WHERE table_name = 'events' AND action = 'CREATE'}), 'sagaz_ha makes partitions');
ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.partition_history WHERE table_name = 'events' AND action = 'DROP')}), 'and retires them');
# pg_partman's worker has been there since
ok(defined when($node, 'postgres', q{count(*) > 20 FROM pg_inherits WHERE inhparent = 'crowded'::regclass}), 'pg_partman maintains what is its own');
is(sql(q{SELECT count(*) FROM sagaz_ha.partitions(false) WHERE parent = 'events'::regclass AND partition_start > now()}), '9', 'and nothing else');
is(sql(q{SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'ERROR'}), '0', 'nothing fails');
is(sql(q{SELECT count(*) FROM sagaz_ha.partition_health() WHERE table_name = 'tokyo' AND check_name = 'coverage' AND status = 'ok'}), '1', 'the table with its own time zone is covered');

# -------- and back

sql(q{SELECT sagaz_ha.return_to_pg_partman('events')});
is(sql(q{SELECT count(*) FROM sagaz_ha.partition_policy WHERE parent = 'events'::regclass}), '0', 'the policy is gone');
ok(defined when($node, 'postgres', q{count(*) > 20 FROM pg_inherits WHERE inhparent = 'events'::regclass}), 'pg_partman goes on where we were');
my ($all, $distinct) = split /\|/, boundaries('events');
is($distinct, $all, 'no two partitions have the same bounds');

# as the owner of the table, who may not read policies
ok(defined when($node, 'postgres', q{count(*) >= 4 FROM sagaz_ha.partition_history WHERE table_name = 'owned' AND action = 'CREATE'}), q{partitions of an owner's table are made});
my ($code, $out, $err) = $node->psql('postgres', q{SELECT sagaz_ha.return_to_pg_partman('owned')}, extra_params => [ '-U', 'ann' ]);
is($err, '', 'the owner of a table returns it');
is(sql(q{SELECT count(*) FROM sagaz_ha.partition_policy WHERE parent = 'owned'::regclass}), '0', 'its policy is gone too');
is(sql(q{SELECT automatic_maintenance FROM keeper.part_config WHERE parent_table = 'public.owned'}), 'on', 'and pg_partman has it');
is(sql(q{SELECT count(*) FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid CROSS JOIN LATERAL pg_get_expr(relpartbound, c.oid) AS b
	WHERE inhparent = 'owned'::regclass AND b <> 'DEFAULT' AND relname NOT IN ('owned_p' || replace(substr(b, 19, 10), '-', '_'), 'owned_p' || replace(substr(b, 19, 10), '-', ''))}),
	'0', 'with names that it reads') if $major < 5;
($code, $out, $err) = $node->psql('postgres', q{SELECT sagaz_ha._policy_time_zone('kept')}, extra_params => [ '-U', 'ann' ]);
like($err, qr/must be owner of table kept/, 'of another table, the owner learns nothing');

# -------- refused

sub fails_with
{
	my ($call, $pattern, $name) = @_;
	my ($code, $out, $err) = $node->psql('postgres', "SELECT $call");

	like($err, $pattern, $name);
	return;
}

sql('CREATE TABLE alone (created_at timestamptz NOT NULL) PARTITION BY RANGE (created_at)');
fails_with(q{sagaz_ha.import_pg_partman('alone')}, qr/table public.alone is not maintained by pg_partman/, 'a table that pg_partman does not know');
fails_with(q{sagaz_ha.return_to_pg_partman('alone')}, qr/table public.alone is not known to pg_partman/, 'neither there');
fails_with(q{sagaz_ha.import_pg_partman(dry_run => NULL)}, qr/dry_run must not be null/, 'null');
sql('DROP EXTENSION pg_partman');
fails_with('sagaz_ha.import_pg_partman()', qr/extension "pg_partman" is not installed/, 'without pg_partman');

$node->stop;
done_testing();
