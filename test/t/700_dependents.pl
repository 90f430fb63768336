# What would make a DROP fail is looked for before anything is done: such a
# partition stays as it is, says what needs it, and holds up no other.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1s\nwal_level = logical\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION sagaz_ha;
	CREATE ROLE ann; CREATE ROLE bob; CREATE ROLE cid SUPERUSER;
	GRANT bob TO ann;
	GRANT CREATE ON SCHEMA public TO ann, bob;
	CREATE TABLE other (id bigint, created_at timestamptz)});

# Statements that give a table to one role, and its oldest partition to another.
sub owned_by
{
	my ($table_owner, $partition_owner) = @_;

	return "SELECT format('ALTER TABLE %s OWNER TO $table_owner', relid) FROM pg_partition_tree('\$T') \\gexec\n"
	  . "ALTER TABLE \$P OWNER TO $partition_owner";
}

# $P is the oldest partition, $T its table; what is made, what is named, and what
# ends it. The next partition expires as well.
my %needs = (
	view => [ 'CREATE VIEW $T_v AS SELECT * FROM $P', 'view public.$T_v', 'DROP VIEW $T_v' ],
	view_on_view => [ 'CREATE VIEW $T_v AS SELECT id FROM $P; CREATE VIEW $T_w AS SELECT id FROM $T_v',
		'view public.$T_v', 'DROP VIEW $T_w, $T_v' ],
	matview => [ 'CREATE MATERIALIZED VIEW $T_v AS SELECT * FROM $P', 'materialized view public.$T_v', 'DROP MATERIALIZED VIEW $T_v' ],
	rule => [ 'CREATE RULE $T_r AS ON INSERT TO other DO ALSO INSERT INTO $P (created_at) VALUES (NEW.created_at)',
		'rule $T_r on table public.other', 'DROP RULE $T_r ON other' ],
	sql_body => [ 'CREATE FUNCTION $T_f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM $P; END',
		'function public.$T_f()', 'DROP FUNCTION $T_f()' ],
	row_argument => [ 'CREATE FUNCTION $T_f($P) RETURNS bigint LANGUAGE sql AS $$SELECT 1::bigint$$',
		'function public.$T_f(public.$P)', 'DROP FUNCTION $T_f($P)' ],
	row_column => [ 'ALTER TABLE other ADD COLUMN $T_c $P', 'column $T_c of table public.other', 'ALTER TABLE other DROP COLUMN $T_c' ],
	row_array => [ 'ALTER TABLE other ADD COLUMN $T_c $P[]', 'column $T_c of table public.other', 'ALTER TABLE other DROP COLUMN $T_c' ],
	policy => [ 'CREATE POLICY $T_p ON other USING (EXISTS (SELECT FROM $P))',
		'policy $T_p on table public.other', 'DROP POLICY $T_p ON other' ],
	foreign_key => [ 'ALTER TABLE $P ADD UNIQUE (id); ALTER TABLE other ADD CONSTRAINT $T_k FOREIGN KEY (id) REFERENCES $P (id)',
		'constraint $T_k on table public.other', 'ALTER TABLE other DROP CONSTRAINT $T_k' ],
	key_of_view => [ 'ALTER TABLE $P ADD PRIMARY KEY (id); CREATE VIEW $T_v AS SELECT id, payload FROM $P GROUP BY id',
		'view public.$T_v', 'DROP VIEW $T_v' ],
	member => [ 'ALTER EXTENSION plpgsql ADD TABLE $P', 'extension plpgsql', 'ALTER EXTENSION plpgsql DROP TABLE $P' ],
	sequence => [ 'CREATE SEQUENCE $T_s OWNED BY $P.id; ALTER TABLE $T ALTER COLUMN id DROP IDENTITY;
			ALTER TABLE $T ALTER COLUMN id SET DEFAULT nextval($$$T_s$$)',
		'default value for column id of table public.$T', 'ALTER TABLE $T ALTER COLUMN id DROP DEFAULT' ],
	many => [ join(';', map { "CREATE VIEW \$T_$_ AS SELECT id FROM \$P" } 10 .. 21), 'view public.$T_19 and 2 more',
		'DROP VIEW ' . join ', ', map { "\$T_$_" } 10 .. 21 ],
	owner => [ owned_by('bob', 'ann'), 'it belongs to role ann, of which bob',
		'ALTER TABLE $P OWNER TO bob' ]);

# Nothing of this hinders a DROP, or hinders it no more once it is detached.
my %goes = (
	indexed => 'CREATE INDEX ON $P (payload); ALTER TABLE $P ADD PRIMARY KEY (id, created_at)',
	constrained => 'ALTER TABLE $P ADD CONSTRAINT $T_c CHECK (id > 0)',
	triggered => 'CREATE FUNCTION $T_f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
		CREATE TRIGGER $T_t BEFORE INSERT ON $P FOR EACH ROW EXECUTE FUNCTION $T_f();
		CREATE TRIGGER $T_u BEFORE INSERT ON $T FOR EACH ROW EXECUTE FUNCTION $T_f()',
	ruled => 'CREATE RULE $T_r AS ON UPDATE TO $P DO ALSO SELECT count(*) FROM $P',
	secured => 'CREATE POLICY $T_p ON $P USING (id > (SELECT min(id) FROM $P AS self))',
	measured => 'CREATE STATISTICS $T_s ON id, done FROM $P; ANALYZE $P',
	published => 'CREATE PUBLICATION $T_p FOR TABLE $P',
	sequenced => 'CREATE SEQUENCE $T_s OWNED BY $P.id; ALTER TABLE $P ALTER COLUMN payload SET DEFAULT nextval($$$T_s$$)',
	references_itself => 'ALTER TABLE $P ADD UNIQUE (id); ALTER TABLE $P ADD FOREIGN KEY (id) REFERENCES $P (id)',
	references_another => 'CREATE TABLE $T_o (id bigint PRIMARY KEY); INSERT INTO $T_o SELECT id FROM $P;
		ALTER TABLE $P ADD FOREIGN KEY (id) REFERENCES $T_o (id)',
	referenced => 'ALTER TABLE $T ADD PRIMARY KEY (id, created_at);
		CREATE TABLE $T_o (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES $T (id, created_at))',
	member_role => owned_by('ann', 'bob'),
	superuser => owned_by('cid', 'bob'));

sub fill
{
	my ($sql, $table) = @_;

	return $sql =~ s/\$T/$table/gr =~ s/\$P/${table}_y2026m03d05/gr;
}

# What the worker does with them is looked at once they are all there.
$node->safe_psql('postgres', q{ALTER SYSTEM SET sagaz_ha.enabled = off; SELECT pg_reload_conf()});
foreach my $kind (sort keys %needs)
{
	take_table($node, 'postgres', $kind, days => [ -5, 0 ], before => fill($needs{$kind}[0], $kind));
}
foreach my $kind (sort keys %goes)
{
	take_table($node, 'postgres', $kind, days => [ -5, 0 ], before => fill($goes{$kind}, $kind));
}
# for detach and archive nothing hinders but the owner
$node->safe_psql('postgres', 'CREATE SCHEMA archive');
take_table($node, 'postgres', 'detached', days => [ -5, 0 ], before => fill($needs{view}[0], 'detached'),
	more => q{, retention_action => 'detach'});
take_table($node, 'postgres', 'archived', days => [ -5, 0 ], before => fill($needs{view}[0], 'archived'),
	more => q{, retention_action => 'archive', archive_schema => 'archive'});

sub named
{
	my ($kind) = @_;
	my $name = fill($needs{$kind}[1], $kind);

	return qr/\Q$name\E/;
}

foreach my $kind (sort keys %needs)
{
	my @plan = split /\n/, $node->safe_psql('postgres', qq{SELECT action, partition_name, details
		FROM sagaz_ha.plan_partition_maintenance() WHERE table_name = '$kind' AND action <> 'CREATE'});

	is(scalar @plan, 2, "$kind: the plan has both");
	like($plan[0], qr/^KEEP\|${kind}_y2026m03d05\|.*${\named($kind)}/, "$kind: keeps one, and says why");
	like($plan[1], qr/^DROP\|${kind}_y2026m03d06\|/, "$kind: and drops the other");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_inherits WHERE inhdetachpending}), '0', 'a plan changes nothing');

$node->safe_psql('postgres', q{ALTER SYSTEM RESET sagaz_ha.enabled; SELECT pg_reload_conf()});
foreach my $kind (sort keys %needs)
{
	my $partition = "${kind}_y2026m03d05";

	ok(defined when($node, 'postgres', qq{NOT EXISTS (SELECT FROM pg_inherits
		WHERE inhparent = '$kind'::regclass AND inhrelid = to_regclass('${kind}_y2026m03d06'))
		AND EXISTS (SELECT FROM sagaz_ha.problem WHERE action <> 'DRIFT' AND partition = '$partition'::regclass)}),
		"$kind: the next partition goes");
	like($node->safe_psql('postgres', "SELECT action || '|' || details FROM sagaz_ha.problem WHERE action <> 'DRIFT' AND partition = '$partition'::regclass"),
		qr/^KEEP\|.*${\named($kind)}/, "$kind: this one stays, and says why");
	is($node->safe_psql('postgres', qq{SELECT NOT inhdetachpending FROM pg_inherits WHERE inhrelid = '$partition'::regclass}),
		't', "$kind: attached");
	is($node->safe_psql('postgres', qq{SELECT count(*) FROM sagaz_ha.retirement WHERE partition = '$partition'::regclass}),
		'0', "$kind: and not announced");
	like($node->safe_psql('postgres', qq{SELECT status || details FROM sagaz_ha.partition_health()
		WHERE table_name = '$kind' AND check_name = 'kept_partitions'}), qr/^warning.*${\named($kind)}/, "$kind: health says so");
	is($node->safe_psql('postgres', qq{SELECT count(*) FROM sagaz_ha.partition_history
		WHERE table_name = '$kind' AND (action = 'ERROR' OR action = 'DEFER' AND partition_name = '$partition')}), '0', "$kind: no error, and nothing begun");
}
my $by_hand = $node->safe_psql('postgres', 'SELECT action, partition_name FROM maintain_all_partitions()');
is(scalar(grep { /^KEEP/ } split /\n/, $by_hand), scalar keys %needs, 'a pass by hand keeps them, too');
unlike($by_hand, qr/^(ERROR|DROP)/m, 'and does nothing else');

foreach my $kind (sort keys %needs)
{
	$node->safe_psql('postgres', fill($needs{$kind}[2], $kind));
}
is_partitions($node, 'postgres', $_, -3, 3, "$_: it goes when nothing needs it any more") foreach sort keys %needs;
is_partitions($node, 'postgres', $_, -3, 3, "$_: it goes") foreach sort keys %goes, 'detached', 'archived';
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT action || ' ' || details, '; ')
	FROM sagaz_ha.partition_history WHERE action = 'ERROR'}), '', 'nothing was an error');
is($node->safe_psql('postgres', q{SELECT to_regclass('detached_y2026m03d05') IS NOT NULL,
	to_regclass('archive.archived_y2026m03d05') IS NOT NULL, (SELECT count(*) FROM archived_v)}), 't|t|1',
	'what is detached or archived may be needed');

$node->stop('fast');
done_testing();
