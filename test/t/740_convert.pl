# Everything that hangs on a plain table goes over to the partitioned one that it
# becomes; by the worker and by hand; and back again.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazConversion;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.clock = ''\nwal_level = logical\nsagaz_ha.naptime = 1h\n");

# What each kind of statement does now, and how often triggers fire.
sub use_events
{
	my ($when) = @_;

	is($node->safe_psql('postgres', q{
		BEGIN;
		SET LOCAL search_path = app;
		SET LOCAL ROLE writer;
		INSERT INTO "ev.t" (kind) VALUES ('a') RETURNING id IS NOT NULL, n IS NOT NULL;
		RESET ROLE;
		SET CONSTRAINTS ALL IMMEDIATE;
		SELECT string_agg(name || ' ' || n, ', ' ORDER BY name) FROM (SELECT name, count(*) AS n FROM fired GROUP BY name) AS f;
		TRUNCATE fired;
		SET LOCAL ROLE app_owner;
		UPDATE "ev.t" SET note = 'x' WHERE kind = 'a';
		INSERT INTO "ev.t" (kind) VALUES ('keep');
		DELETE FROM "ev.t" WHERE kind = 'keep';
		SELECT count(*) FROM "ev.t" WHERE kind = 'keep';
		SELECT count(*) = 1 FROM fired WHERE op = 'UPDATE';
		INSERT INTO ruled VALUES (1);
		SELECT count(*) FROM "ev.t" WHERE kind = 'by rule';
		SELECT counted() = (SELECT count FROM public.counted), (SELECT count(*) FROM v2) = counted();
		REFRESH MATERIALIZED VIEW mv;
		SELECT sum(c) = counted() FROM mv;
		INSERT INTO "ev.t" (kind) VALUES ('secret');
		SET LOCAL ROLE reader;
		SELECT count(*) FROM "ev.t" WHERE kind = 'secret';
		RESET ROLE;
		SET LOCAL sagaz_ha.protect = off;
		TRUNCATE fired;
		TRUNCATE "ev.t" CASCADE;
		SELECT count(*) FROM fired WHERE op = 'TRUNCATE';
		ROLLBACK;
	}), join("\n", 't|t', 'always 1, deferred 1, row before ON x 1, row_after 1, statement_after 1',
		'1', 't', '1', 't|t', 't', '0', '1'), "$when: statements, triggers, rules, policies and views");
	my ($result, $out, $err) = $node->psql('postgres', q{SET ROLE writer; UPDATE app."ev.t" SET amt = 1});
	like($err, qr/permission denied/, "$when: a column that nobody was given");
	($result, $out, $err) = $node->psql('postgres', q{SET ROLE writer; INSERT INTO app."ev.t" (kind) VALUES ('bad')});
	like($err, qr/violates check constraint/, "$when: a check");
	($result, $out, $err) = $node->psql('postgres', q{SET ROLE app_owner; INSERT INTO app."ev.t" (cust_id) VALUES (1000)});
	like($err, qr/violates foreign key constraint/, "$when: a foreign key");
	return;
}

# A row beyond the first partition is seen by whatever follows the name.
sub is_followed
{
	my ($when) = @_;

	is($node->safe_psql('postgres', q{
		BEGIN;
		SET LOCAL search_path = app;
		SET LOCAL ROLE app_owner;
		SET LOCAL timezone = 'UTC';
		INSERT INTO "ev.t" (kind, at) VALUES ('late', now() + interval '3 days') RETURNING tableoid::regclass <> '"ev.t_before"'::regclass;
		SELECT count(*) FROM v1 WHERE kind = 'late';
		REFRESH MATERIALIZED VIEW mv;
		SELECT c FROM mv WHERE kind = 'late';
		SELECT counted() = 1001, (SELECT count FROM public.counted) = 1001;
		ROLLBACK}), "t\n1\n1\nt|t", "$when: views and functions see rows of every partition");
	return;
}

$node->safe_psql('postgres', 'CREATE EXTENSION sagaz_ha');

# by the worker, and back
make_events($node);
my $before = look_at_events($node);
use_events('before');
my $last = $node->safe_psql('postgres', q{SELECT last_value FROM app."ev.t_n_seq"});
$before = look_at_events($node);
convert_events($node, ", retention => '30 days'");
converted($node, 'app."ev.t"', 'the worker converts it');
is(look_at_events($node), $before, 'everything is as it was');
use_events('afterwards');
is_followed('afterwards');
is($node->safe_psql('postgres', q{SELECT count(*) FROM app."ev.t"}), '1000', 'no row is lost');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sagaz_ha.partition_health() WHERE status <> 'ok' AND table_name IS NOT NULL}),
	'0', 'health is green');
is($node->safe_psql('postgres', q{SELECT storage_parameters FROM sagaz_ha.partition_policy}),
	'{fillfactor=77,autovacuum_vacuum_scale_factor=0.05}', 'new partitions get its storage parameters');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT array_to_string(reloptions, ' '), '; ') FROM pg_class
	JOIN pg_inherits ON inhrelid = oid WHERE inhparent = 'app."ev.t"'::regclass}),
	'fillfactor=77 autovacuum_vacuum_scale_factor=0.05', 'and so do those that are there');
is($node->safe_psql('postgres', q{SELECT string_agg(action || ' ' || split_part(details, ' ', 1), ', ' ORDER BY id)
	FROM sagaz_ha.partition_history WHERE action = 'CONVERT'}), 'CONVERT begins, CONVERT is', 'the history has it');
$before = look_at_events($node);
$node->safe_psql('postgres', q{SELECT sagaz_ha.unpartition_table('app."ev.t"')});
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM sagaz_ha.conversion)'), 'its foreign keys are validated');
is(look_at_events($node), $before, 'a plain table again: everything is as it was');
is($node->safe_psql('postgres', q{SELECT relkind, (SELECT count(*) FROM app."ev.t") FROM pg_class WHERE oid = 'app."ev.t"'::regclass}),
	'r|1000', 'with its rows');
is_clean($node, 'and nothing of the conversion is left');
use_events('plain again');

# the last drop takes no sequence with it
make_events($node);
convert_events($node, ", retention => '1 day'");
converted($node, 'app."ev.t"', 'once more');
$node->safe_psql('postgres', q{DROP TABLE app.child; DROP TABLE app."ev.t_before";
	SET ROLE app_owner; INSERT INTO app."ev.t" (kind, at) VALUES ('a', now() + interval '3 days')});
is($node->safe_psql('postgres', q{SELECT id, n FROM app."ev.t"}), '1001|1001', 'the sequences outlive the old table');

# by hand, without a worker
configure($node, 'sagaz_ha.enabled' => 'off');
foreach my $role ('postgres', 'app_owner')
{
	make_events($node);
	$node->safe_psql('postgres', 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sagaz_ha TO app_owner');
	# who doesn't own the publication can't change it
	$node->safe_psql('postgres', 'DROP PUBLICATION events_pub; DROP VIEW public.counted; REVOKE CREATE ON SCHEMA app FROM view_owner;')
	  if $role eq 'app_owner';
	$before = look_at_events($node) if $role eq 'postgres';
	$node->safe_psql('postgres', qq{
		SET ROLE $role;
		SELECT statement FROM sagaz_ha.plan_partition_table('app."ev.t"', 'at', '1 day', retention => '30 days')
			WHERE statement IS NOT NULL
		\\gexec
	});
	is(look_at_events($node), $before, "by hand as $role: everything is as it was") if $role eq 'postgres';
	is($node->safe_psql('postgres', q{SELECT relkind, (SELECT count(*) FROM app."ev.t"), pg_get_userbyid(relowner)
		FROM pg_class WHERE oid = 'app."ev.t"'::regclass}), 'p|1000|app_owner', "by hand as $role: it is partitioned");
	is($node->safe_psql('postgres', q{SELECT count(*) > 2 FROM pg_inherits WHERE inhparent = 'app."ev.t"'::regclass}), 't',
		"by hand as $role: later partitions are there");
	next if $role ne 'postgres';
	use_events("by hand as $role");
	is_followed("by hand as $role");
}
$node->stop;
done_testing();
