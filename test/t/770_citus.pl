# Tables that Citus distributes. Its packages aren't everywhere, so its catalog is
# made here, with an event trigger that refuses what Citus refuses, and distributes
# a partition that is attached, as Citus does.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n");

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sql(q{
	CREATE EXTENSION sagaz_ha;
	CREATE SCHEMA archive;
	CREATE ROLE ann LOGIN;
	GRANT CREATE ON SCHEMA public TO ann;
	SET allow_system_table_mods = on;
	CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass NOT NULL, partmethod "char" NOT NULL,
		partkey text, colocationid integer NOT NULL DEFAULT 0, repmodel "char" NOT NULL DEFAULT 's',
		autoconverted boolean NOT NULL DEFAULT false);
	CREATE FUNCTION pg_catalog.citus_total_relation_size(logicalrelid regclass, fail_on_error boolean DEFAULT true)
		RETURNS bigint LANGUAGE plpgsql AS $$
		BEGIN
			IF current_setting('fake.node_is_down', true) = 'on' THEN
				RAISE 'connection to the remote node localhost:9701 failed';
			END IF;
			RETURN 8 * 1048576;
		END$$});
# what DDL is run with, and what Citus refuses
sql(q{
	CREATE TABLE seen (tag text, lock_timeout text, propagated text, mode text);
	GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION look() RETURNS event_trigger SECURITY DEFINER LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES (tg_tag, current_setting('lock_timeout'),
			current_setting('citus.propagate_set_commands', true), current_setting('citus.multi_shard_modify_mode', true));
	END$$;
	CREATE FUNCTION refuse() RETURNS event_trigger SECURITY DEFINER LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() AS c JOIN pg_trigger AS t ON c.objid = t.oid
				JOIN pg_dist_partition AS d ON d.logicalrelid = t.tgrelid
				WHERE c.classid = 'pg_trigger'::regclass) THEN
			RAISE 'triggers are not supported on distributed tables' USING ERRCODE = '0A000';
		END IF;
		INSERT INTO pg_dist_partition (logicalrelid, partmethod) SELECT i.inhrelid, 'h' FROM pg_inherits AS i
			JOIN pg_dist_partition AS d ON d.logicalrelid = i.inhparent JOIN pg_class AS c ON c.oid = i.inhrelid AND c.relkind = 'r'
			WHERE NOT EXISTS (SELECT FROM pg_dist_partition AS p WHERE p.logicalrelid = i.inhrelid);
	END$$;
	-- a detach that runs concurrently is announced first, and can be looked at there
	CREATE FUNCTION refuse_concurrently() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM pg_catalog.pg_dist_partition AS d WHERE d.logicalrelid = new.parent) THEN
			RAISE 'ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY commands are currently unsupported.' USING ERRCODE = '0A000';
		END IF;
		RETURN new;
	END$$;
	CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON sagaz_ha.retirement FOR EACH ROW EXECUTE FUNCTION refuse_concurrently();
	CREATE EVENT TRIGGER look ON ddl_command_start WHEN tag IN ('CREATE TABLE', 'ALTER TABLE', 'DROP TABLE') EXECUTE FUNCTION look();
	CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN tag IN ('CREATE TRIGGER', 'ALTER TABLE') EXECUTE FUNCTION refuse()});

# A table of ann's with a finished row per day, distributed; nobody manages it yet.
sub distributed
{
	my ($table) = @_;

	sql("SET ROLE ann; CREATE TABLE $table (id bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL,
		done boolean NOT NULL DEFAULT true) PARTITION BY RANGE (created_at)");
	add_partitions($node, 'postgres', $table, -6, 0);
	sql("DO \$\$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = '$table'::regclass
			LOOP EXECUTE format('ALTER TABLE %s OWNER TO ann', p); END LOOP; END\$\$;
		INSERT INTO pg_dist_partition (logicalrelid, partmethod, partkey) VALUES ('$table', 'h', 'id');
		INSERT INTO pg_dist_partition (logicalrelid, partmethod) SELECT inhrelid, 'h' FROM pg_inherits WHERE inhparent = '$table'::regclass;
		TRUNCATE seen");
	return;
}

sub manage
{
	my ($table, $more) = @_;

	sql("SELECT sagaz_ha.manage_partitions('$table', '1 day', 3, '3 days', unfinished_when => 'NOT done' $more)");
	return;
}

sub history
{
	my ($table, $action) = @_;

	return sql("SELECT string_agg(coalesce(partition_name, '') || ': ' || details, E'\\n') FROM sagaz_ha.partition_history
		WHERE table_name = '$table' AND action = '$action'");
}

# -------- the worker

my %actions = (
	drops => [ '', 'DROP' ],
	detaches => [ ", retention_action => 'detach'", 'DETACH' ],
	archives => [ ", retention_action => 'archive', archive_schema => 'archive'", 'DETACH' ]);
foreach my $table (sort keys %actions)
{
	my ($more, $action) = @{ $actions{$table} };
	my $unfinished = "${table}_y2026m03d04";

	distributed($table);
	sql("GRANT ALL ON SCHEMA archive TO ann; UPDATE $unfinished SET done = false");
	manage($table, $more);
	ok(defined when($node, 'postgres', "count(*) = 2 FROM sagaz_ha.partition_history WHERE table_name = '$table' AND action = '$action'"),
		"$table: the worker retires what is finished");
	is(partitions_of($node, 'postgres', $table),
		"$unfinished " . expected_partitions($node, 'postgres', $table, -3, 3),
		"$table: makes partitions, and keeps one with an unfinished row");
	is(history($table, 'KEEP'), "$unfinished: 1 unfinished row", "$table: and says so");
	is(history($table, 'ERROR'), '', "$table: without an error");
	is(sql("SELECT count(*) FROM pg_trigger WHERE tgname = 'sagaz_ha_fence' AND tgrelid::regclass::text LIKE '%$table%'"), '0', "$table: without fence");
	is(sql("SELECT DISTINCT lock_timeout, propagated, mode FROM seen WHERE tag <> 'CREATE TABLE' OR propagated IS NOT NULL"),
		'1s|local|sequential', "$table: nodes wait for no lock for longer than we do");
	is(sql("SELECT string_agg(DISTINCT tag, ' ' ORDER BY tag) FROM seen"),
		$table eq 'drops' ? 'ALTER TABLE CREATE TABLE DROP TABLE' : 'ALTER TABLE CREATE TABLE', "$table: all of it was seen");
	sql("UPDATE $table SET done = true");
	sql("SELECT sagaz_ha.manage_partitions('$table', '1 day', 3, '3 days', unfinished_when => 'NOT done' $more)");
	is_partitions($node, 'postgres', $table, -3, 3, "$table: which goes once it is finished");
}
is(sql(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'archive'::regnamespace AND relkind = 'r'}), '3', 'archived ones are moved');
sql(q{SELECT sagaz_ha.reattach_partition('archive.archives_y2026m03d04', 'archives')});
is(sql(q{SELECT count(*) FROM archives WHERE created_at < '2026-03-05'}), '1', 'and one of them comes back with its row');

# -------- a lock that somebody has

{
	distributed('locked');
	my $reader = $node->background_psql('postgres');

	$reader->query_safe('BEGIN; SELECT count(*) FROM locked');
	manage('locked', '');
	ok(defined when($node, 'postgres', q{EXISTS (SELECT FROM sagaz_ha.problem WHERE table_name = 'locked' AND action = 'DEFER')}),
		'a lock that is not available is left for later');
	is_partitions($node, 'postgres', 'locked', -6, 3, 'new partitions are made all the same');
	$reader->query_safe('COMMIT');
	$reader->quit;
	is_partitions($node, 'postgres', 'locked', -3, 3, 'and then it goes on');
}

# -------- by hand, and reading

stop_maintenance($node);
distributed('by_hand');
manage('by_hand', '');
is(sql(q{SELECT string_agg(action || ' ' || partition_name, ', ') FROM sagaz_ha.plan_partition_maintenance() WHERE table_name = 'by_hand' AND action = 'DROP'}),
	'DROP by_hand_y2026m03d04, DROP by_hand_y2026m03d05, DROP by_hand_y2026m03d06', 'the plan lists what expires');
is(sql(q{SELECT action, count(*) FROM sagaz_ha.maintain_partitions('by_hand') GROUP BY 1 ORDER BY 1}), "CREATE|3\nDROP|3", 'a pass by hand does it');
is(sql('SHOW lock_timeout') . sql(q{BEGIN; SELECT sagaz_ha.maintain_partitions('by_hand'); SHOW lock_timeout; COMMIT}), '00',
	'and leaves lock_timeout as it was');
is(sql(q{SELECT partition_count, total_size_mb FROM get_partition_statistics() WHERE table_name = 'by_hand'}), '7|56.00',
	'sizes are those of the shards');
is(sql(q{SELECT count(*), count(total_bytes), count(estimated_rows) FROM partition_metadata WHERE table_name = 'by_hand'}), '7|7|0',
	'rows are not known here');
is(sql(q{SET fake.node_is_down = on; SELECT count(*), count(total_bytes) FROM partition_metadata WHERE table_name = 'by_hand'}), '7|0',
	'nor sizes, when a node is down');
is(sql(q{SELECT string_agg(check_name, ' ') FROM sagaz_ha.partition_health() WHERE table_name = 'by_hand' AND status <> 'ok'}), '', 'health is ok');
like(sql(q{SELECT prometheus_metrics FROM sagaz_ha.prometheus_metrics()}), qr/sagaz_partition_size_bytes\{[^}]*by_hand[^}]*\} 58720256/, 'metrics have the size');
sql(q{SELECT sagaz_ha.create_saga_tables();
	INSERT INTO pg_dist_partition (logicalrelid, partmethod) VALUES ('consumer_inbox', 'h');});
is(sql(q{SELECT cleanup_consumer_inbox(90)}), '0', 'the inbox can be distributed');

# -------- one that isn't distributed goes the other way

configure($node, 'sagaz_ha.enabled' => 'on');
take_table($node, 'postgres', 'plain', days => [ -5, 0 ], unfinished_when => 'NOT done');
is_partitions($node, 'postgres', 'plain', -3, 3, 'a table that is not distributed');
like(history('plain', 'DEFER'), qr/retiring/, 'is detached concurrently');

$node->stop;
done_testing();
