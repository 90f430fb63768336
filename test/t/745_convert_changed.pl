# A table is changed while it becomes partitioned: its conversion takes the change
# over, or stops and names it; it never loses one. Whoever owns the table now can
# take the conversion back.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazConversion;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.clock = ''\nsagaz_ha.naptime = 1h\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE ROLE reader;
	CREATE ROLE first_owner;
	CREATE ROLE next_owner;
	CREATE ROLE next_login LOGIN IN ROLE next_owner;
	CREATE ROLE first_login LOGIN IN ROLE first_owner;
	GRANT CREATE, USAGE ON SCHEMA public TO first_owner, next_owner;
	GRANT EXECUTE ON FUNCTION sagaz_ha.cancel_partition_table TO first_owner, next_owner;
	CREATE SCHEMA elsewhere;
	GRANT CREATE, USAGE ON SCHEMA elsewhere TO first_owner, next_owner;
	CREATE TABLE fired (name text);
	GRANT INSERT ON fired TO PUBLIC;
	CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.fired VALUES (tg_name); RETURN new; END$$});

# The conversion stops there, with the table as it was made.
sub begin
{
	my ($point) = @_;

	stop_at($node, "convert_$point");
	$node->safe_psql('postgres', q{
		SET client_min_messages = warning;
		DROP TABLE IF EXISTS elsewhere.events, events, referenced, other, child CASCADE;
		TRUNCATE fired;
		CREATE TABLE referenced (id int PRIMARY KEY);
		INSERT INTO referenced VALUES (1);
		GRANT REFERENCES ON referenced TO first_owner;
		SET ROLE first_owner;
		CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, a int DEFAULT 1 CONSTRAINT small CHECK (a < 1000), b int NOT NULL DEFAULT 1,
			c text DEFAULT 'c', d int DEFAULT 2, at timestamptz NOT NULL, PRIMARY KEY (id, at));
		CREATE INDEX by_a ON events (a);
		CREATE INDEX by_b ON events (b);
		CREATE STATISTICS ab ON a, b FROM events;
		CREATE TRIGGER by_row AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION fire();
		CREATE TRIGGER by_statement AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION fire();
		CREATE POLICY visible ON events USING (a > 0);
		CREATE RULE kept AS ON DELETE TO events WHERE old.a = 1 DO INSTEAD NOTHING;
		INSERT INTO events (at) SELECT now() - n * interval '1 hour' FROM generate_series(1, 10) AS n;
		RESET ROLE;
		TRUNCATE fired;
		SELECT sagaz_ha.partition_table('events', 'at', '1 day')});
	stopped_at($node, "convert_$point");
	return;
}

# It goes on until it names what was changed.
sub is_refused
{
	my ($changed, $name) = @_;

	let_go($node);
	$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM sagaz_ha.conversions WHERE error IS NOT NULL') or die;
	is($node->safe_psql('postgres', 'SELECT error FROM sagaz_ha.conversions'),
		"55000: table public.events was changed while it became partitioned: $changed"
		. ' HINT: Undo the change; or cancel the conversion with sagaz_ha.cancel_partition_table(), and begin again.', $name);
	return;
}

sub is_cancelled
{
	my ($name, %option) = @_;
	my ($code, $out, $err) = $node->psql('postgres', q{SELECT sagaz_ha.cancel_partition_table(} . ($option{table} // q{'events'}) . ')',
		extra_params => [ '-U', $option{as} // $node->safe_psql('postgres', 'SELECT current_user') ]);

	is($code, 0, "$name: cancelled") or diag($err);
	is_clean($node, "$name: nothing is left");
	return;
}

# each change, before ATTACH and after it
foreach my $point (qw(checking:after_commit attaching:after_commit))
{
	my $attached = $point =~ /attaching/;

	begin($point);
	$node->safe_psql('postgres', q{
		GRANT SELECT ON events TO reader;
		ALTER TABLE events ENABLE ROW LEVEL SECURITY, REPLICA IDENTITY FULL, ALTER a SET DEFAULT 42, ALTER c DROP DEFAULT,
			ALTER d SET STATISTICS 77, ALTER c SET STORAGE EXTERNAL;
		COMMENT ON TABLE events IS 'new';
		COMMENT ON COLUMN events.b IS 'new';
		ALTER TABLE events ADD CONSTRAINT positive CHECK (b >= 0);
		CREATE INDEX by_d ON events (d);
		DROP STATISTICS ab;
		CREATE STATISTICS bc ON b, c FROM events;
		ALTER TABLE events DISABLE TRIGGER by_statement;
		CREATE TRIGGER added AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION fire()}
		. ($attached ? q{; ALTER TABLE events DISABLE TRIGGER by_row; ALTER TABLE events ADD CONSTRAINT linked FOREIGN KEY (a) REFERENCES referenced}
		: q{; ALTER TABLE events ADD e int, DROP d, ALTER b DROP NOT NULL, ALTER c TYPE varchar, DROP CONSTRAINT small, ALTER id SET INCREMENT BY 5; ALTER TABLE events ALTER c SET STORAGE EXTERNAL; ALTER INDEX by_b RENAME TO of_b}));
	is_refused($attached
		? 'privileges, row security, replica identity, the comment, comment on column b, default of column a, default of column c,'
		. ' statistics of column d, storage of column c, constraint linked, constraint positive, index by_d, statistics ab, statistics bc, trigger added, trigger by_row, trigger by_statement'
		: 'privileges, row security, replica identity, the comment, NOT NULL of column b, column d, column e, comment on column b, default of column a, default of column c,'
		. ' identity of column id, storage of column c, type of column c, constraint positive, constraint small, index by_b, index of_b, statistics ab, statistics bc, trigger added, trigger by_statement',
		"$point: every change is named");
	is_cancelled($point);
	is($node->safe_psql('postgres', q{SELECT relkind, relrowsecurity, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = c.oid AND adnum = 2),
		has_table_privilege('reader', 'events', 'SELECT'), (SELECT count(*) FROM events) FROM pg_class AS c WHERE oid = 'events'::regclass}),
		'r|t|42|t|10', "$point: and stays as it was changed");
	$node->safe_psql('postgres', q{SELECT sagaz_ha.partition_table('events', 'at', '1 day')});
	converted($node, 'events', "$point: begun again, it becomes partitioned");
	is($node->safe_psql('postgres', q{SELECT relrowsecurity, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = c.oid AND adnum = 2)
		FROM pg_class AS c WHERE oid = 'events'::regclass}), 't|42', "$point: with what was changed");
	$node->safe_psql('postgres', q{SELECT sagaz_ha.stop_managing_partitions('events')});
}

# what is undone hinders no more, and what follows the name is taken over
foreach my $point (qw(validating:after_commit attaching:after_commit))
{
	begin($point);
	$node->safe_psql('postgres', q{
		ALTER TABLE events ALTER a SET DEFAULT 42;
		ALTER POLICY visible ON events TO reader USING (a > 5);
		CREATE POLICY added ON events USING (b = 1);
		CREATE OR REPLACE RULE kept AS ON DELETE TO events WHERE old.a = 7 DO INSTEAD NOTHING});
	is_refused('default of column a', "$point: one change is named");
	$node->safe_psql('postgres', 'ALTER TABLE events ALTER a SET DEFAULT 1');
	converted($node, 'events', "$point: undone, it hinders no more");
	is($node->safe_psql('postgres', q{SELECT string_agg(format('%s %s %s', polname, polroles::regrole[], pg_get_expr(polqual, polrelid)), ', ' ORDER BY polname)
		FROM pg_policy WHERE polrelid = 'events'::regclass}), 'added {-} (b = 1), visible {reader} (a > 5)', "$point: policies are taken over");
	like($node->safe_psql('postgres', q{SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = 'events'::regclass}), qr/old\.a = 7/, "$point: rules too");
	$node->safe_psql('postgres', q{SELECT sagaz_ha.stop_managing_partitions('events')});
}

# what could not have begun so, can't go on
foreach my $case (
	[ 'analyzing:after_commit', q{CREATE UNIQUE INDEX part ON events (id) WHERE a > 5}, qr/unique index part of table public\.events doesn't contain at, and can't be kept/ ],
	[ 'validating:after_commit', q{SET ROLE first_owner; CREATE TABLE child () INHERITS (events)}, qr/table public\.child inherits from table public\.events HINT: ALTER TABLE public\.child NO INHERIT public\.events;/ ],
	[ 'analyzing:after_commit', q{CREATE TABLE other (e events)}, qr/uses the row type of table public\.events HINT: Drop column e of table public\.other/ ],
	[ 'validating:after_commit', q{REVOKE ALL ON referenced FROM first_owner; ALTER TABLE events ADD FOREIGN KEY (a) REFERENCES referenced}, qr/role first_owner may not reference table public\.referenced, .* HINT: GRANT REFERENCES ON public\.referenced TO first_owner;/ ],
	[ 'validating:after_commit', q{CREATE TABLE events_before ()}, qr/the name public\.events_before is taken HINT: Rename or remove public\.events_before/ ])
{
	my ($point, $change, $error) = @$case;

	begin($point);
	$node->safe_psql('postgres', $change);
	let_go($node);
	$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM sagaz_ha.conversions WHERE error IS NOT NULL') or die;
	like($node->safe_psql('postgres', 'SELECT error FROM sagaz_ha.conversions'), qr/^55000: table "events" can't be partitioned in place: .*$error/,
		"$point, $change: is named as an obstacle");
	$node->safe_psql('postgres', 'DROP TABLE IF EXISTS events_before');
	is_cancelled("$point, $change");
}

# one that can be kept is
begin('analyzing:after_commit');
$node->safe_psql('postgres', q{ALTER TABLE events ADD UNIQUE (id)});
let_go($node);
converted($node, 'events', 'a unique constraint that comes late: it becomes partitioned');
like(($node->psql('postgres', q{INSERT INTO events (id, at) OVERRIDING SYSTEM VALUE VALUES (1, now() + interval '2 days')}))[2],
	qr/duplicate key value violates unique constraint/, 'a unique constraint that comes late is kept across partitions');
$node->safe_psql('postgres', q{SELECT sagaz_ha.stop_managing_partitions('events')});

# the table is dropped: so is what its conversion has made, whether the worker lives or not
foreach my $point (qw(checking:after_commit attaching:after_commit analyzing:after_commit))
{
	begin($point);
	$node->safe_psql('postgres', 'DROP TABLE events CASCADE');
	is($node->safe_psql('postgres', q{SELECT to_regclass('events_sagaz_ha') IS NOT NULL}), 't', "$point: a table that is dropped leaves the empty one");
	if ($point =~ /attaching/)
	{
		stop_at($node, 'convert_left:before_commit');
		my $pid = stopped_at($node, 'convert_left:before_commit');

		kill 'KILL', $pid;
		$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)") or die;
	}
	let_go($node);
	ok($node->poll_query_until('postgres', q{SELECT to_regclass('events_sagaz_ha') IS NULL AND NOT EXISTS (SELECT FROM sagaz_ha.conversion)}), "$point: the worker drops it");
	is_clean($node, "$point, dropped: nothing is left");
}
begin('checking:after_commit');
$node->safe_psql('postgres', q{
	CREATE TABLE by_hand PARTITION OF events_sagaz_ha FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	INSERT INTO by_hand OVERRIDING SYSTEM VALUE VALUES (1, 1, 1, 'c', 1, '2020-02-03');
	DROP TABLE events});
let_go($node);
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM sagaz_ha.conversion)'), 'if somebody has given it a partition');
is($node->safe_psql('postgres', q{SELECT count(*) FROM events_sagaz_ha}), '1', 'it stays, with its rows');
$node->safe_psql('postgres', q{DROP TABLE events_sagaz_ha});

# the owner and the schema
foreach my $point (qw(checking:after_commit attaching:after_commit analyzing:after_commit))
{
	begin($point);
	$node->safe_psql('postgres', 'ALTER TABLE events OWNER TO next_owner; TRUNCATE fired');
	is_refused('the owner, privileges', "$point: another owner is named");
	my ($code, $out, $err) = $node->psql('postgres', q{SELECT sagaz_ha.cancel_partition_table('events_sagaz_ha')}, extra_params => [ '-U', 'first_login' ]);
	like($err, qr/must be owner of table events/, "$point: who owned it can't cancel, even by the empty table");
	is_cancelled("$point, another owner", as => 'next_login');
	is($node->safe_psql('postgres', q{SELECT relkind, pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'events'::regclass;
		INSERT INTO events (at) VALUES (now()); SELECT string_agg(name, ' ' ORDER BY name), (SELECT max(id) FROM events) FROM fired}),
		"r|next_owner\nby_row by_statement|11", "$point, another owner: with its triggers and its numbers");

	begin($point);
	$node->safe_psql('postgres', 'ALTER TABLE events SET SCHEMA elsewhere');
	let_go($node);
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM sagaz_ha.conversions WHERE error ~ '^55000: table elsewhere.events was changed .*: the schema HINT'}),
		"$point: another schema is named") or diag($node->safe_psql('postgres', 'TABLE sagaz_ha.conversions'));
	is_cancelled("$point, another schema", as => 'first_login', table => q{'elsewhere.events'});
	is($node->safe_psql('postgres', q{INSERT INTO elsewhere.events (at) VALUES (now()) RETURNING id}), "11", "$point, another schema: with its numbers");
}
$node->stop;
done_testing();
