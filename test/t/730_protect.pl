# A partition isn't dropped by accident: what would lose rows of a protected table
# is refused, however it is said, without preloading; a pass, a superuser, the
# setting and drop_partition() are let through. Dumps and restores are not hindered.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SagazTest;
use Test::More;

my $node = sagaz_server('main', conf => "sagaz_ha.naptime = 1h\n", libraries => '');
$node->safe_psql('postgres', q{
	CREATE ROLE ann LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE DATABASE app OWNER ann});

# What a role gets to hear; the empty string: it is done.
sub says
{
	my ($role, $sql) = @_;
	my ($rc, $out, $err) = $node->psql('app', $sql, extra_params => [ '-U', $role ]);

	return $rc == 0 ? '' : $err;
}

$node->safe_psql('app', q{
	CREATE EXTENSION sagaz_ha;
	CREATE SCHEMA data AUTHORIZATION ann;
	CREATE SCHEMA parts AUTHORIZATION ann;
	CREATE TYPE data.mood AS ENUM ('good', 'bad');
	ALTER TYPE data.mood OWNER TO ann;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sagaz_ha TO ann;
	GRANT SELECT ON sagaz_ha.partition_history TO ann});

# A table of ann's with yesterday's, which is partitioned itself and somewhere else,
# today's and later partitions, and a default one.
sub make
{
	my ($protect) = @_;

	$node->safe_psql('app', qq{
		SET sagaz_ha.protect = off;
		DROP TABLE IF EXISTS data.ev CASCADE;
		DROP TYPE IF EXISTS data.mood;
		CREATE TYPE data.mood AS ENUM ('good', 'bad');
		ALTER TYPE data.mood OWNER TO ann;
		SET ROLE ann;
		CREATE TABLE data.ev (at timestamptz NOT NULL, mood data.mood) PARTITION BY RANGE (at);
		CREATE TABLE data.ev_y2026m03d09 PARTITION OF data.ev
			FOR VALUES FROM ('2026-03-09 00:00+00') TO ('2026-03-10 00:00+00') PARTITION BY LIST (mood);
		CREATE TABLE parts.good PARTITION OF data.ev_y2026m03d09 FOR VALUES IN ('good');
		CREATE TABLE parts.bad PARTITION OF data.ev_y2026m03d09 FOR VALUES IN ('bad');
		SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 2, protect => $protect, plain => true);
		SELECT count(*) FROM sagaz_ha.maintain_partitions('data.ev');
		CREATE TABLE data.ev_rest PARTITION OF data.ev DEFAULT;
		INSERT INTO data.ev VALUES ('2026-03-09 05:00+00', 'good'), ('2026-03-10 05:00+00', 'good');});
	return;
}

my $refused = qr/ERROR:  partition \S+ of table data\.ev is protected and has rows/;
my $hint = qr/HINT:  Use sagaz_ha\.drop_partition\('data\.ev_y2026m03d10'\) .*SET sagaz_ha\.protect = off/;

my %losses = (
	'DROP TABLE of a partition' => 'DROP TABLE data.ev_y2026m03d10',
	'with others' => 'CREATE TABLE data.x (); DROP TABLE IF EXISTS data.x, data.nothing, data.ev_y2026m03d10 CASCADE',
	'by search_path' => 'SET search_path = data; DROP TABLE ev_y2026m03d10',
	'of a partition that is partitioned' => 'DROP TABLE data.ev_y2026m03d09',
	'of a partition of a partition' => 'DROP TABLE parts.good',
	'of the parent' => 'DROP TABLE data.ev',
	'in a function' => 'DO $$BEGIN EXECUTE $q$DROP TABLE data.ev_y2026m03d10$q$; END$$',
	'DETACH' => 'ALTER TABLE data.ev DETACH PARTITION data.ev_y2026m03d10',
	'DETACH of a partition that is partitioned' => 'ALTER TABLE IF EXISTS data.ev DETACH PARTITION data.ev_y2026m03d09',
	'DETACH of a partition of a partition' => 'ALTER TABLE data.ev_y2026m03d09 DETACH PARTITION parts.good',
	'TRUNCATE of a partition' => 'TRUNCATE data.ev_y2026m03d10',
	'TRUNCATE of the parent' => 'TRUNCATE data.ev',
	'TRUNCATE of a partition that is partitioned' => 'TRUNCATE data.ev_y2026m03d09 CASCADE',
	'DROP SCHEMA of the parent' => 'DROP SCHEMA data CASCADE',
	'DROP SCHEMA of a partition' => 'DROP SCHEMA parts CASCADE',
	'DROP OWNED' => 'DROP OWNED BY ann',
	'DROP TYPE of a key' => 'DROP TYPE data.mood CASCADE');

make('true');
foreach my $what (sort keys %losses)
{
	like(says('ann', "BEGIN; $losses{$what}; ROLLBACK"), $refused, "$what is refused");
}
like(says('ann', $losses{'DROP TABLE of a partition'}), $hint, 'with a hint that names the ways');
like(says('ann', $losses{'DROP TABLE of a partition'}), qr/DETAIL:  .*protect = true/, 'and the reason');

# a statement that can't be in a transaction
$node->safe_psql('app', 'DROP TABLE data.ev_rest');
like(says('ann', 'ALTER TABLE data.ev DETACH PARTITION data.ev_y2026m03d10 CONCURRENTLY'), $refused,
	'DETACH CONCURRENTLY is refused');

foreach my $what (sort keys %losses)
{
	next if $what =~ /^DROP OWNED/;
	is(says('ann', "SET sagaz_ha.protect = off; BEGIN; $losses{$what}; ROLLBACK"), '', "$what: the setting lets it through");
	is(says('postgres', "BEGIN; $losses{$what}; ROLLBACK"), '', "$what: a superuser can");
}
is(says('ann', 'BEGIN; DROP TABLE data.ev_y2026m03d11; TRUNCATE parts.bad; ROLLBACK'), '', 'a partition without rows may go');
is(says('ann', 'BEGIN; ALTER TABLE data.ev DETACH PARTITION data.ev_y2026m03d11; ROLLBACK'), '', 'and be detached');
is(says('ann', 'BEGIN; DELETE FROM data.ev; DROP TABLE data.ev; ROLLBACK'), '', 'and the parent, when it has none');
like(says('bob', 'DROP TABLE data.ev_y2026m03d10'), qr/permission denied for schema|must be owner/, 'another role learns nothing');

# -------- what is made later is protected as well

is(says('ann', q{
	CREATE TABLE data.ev_y2026m03d08 PARTITION OF data.ev FOR VALUES FROM ('2026-03-08 00:00+00') TO ('2026-03-09 00:00+00');
	INSERT INTO data.ev VALUES ('2026-03-08 05:00+00'), ('2026-03-12 05:00+00')}), '', 'a partition by hand');
like(says('ann', 'DROP TABLE data.ev_y2026m03d08'), $refused, 'is protected at once');
like(says('ann', 'TRUNCATE data.ev_y2026m03d12'), $refused, 'one that a pass has made is, also against TRUNCATE');
is(says('ann', q{SELECT count(*) FROM sagaz_ha.maintain_partitions('data.ev')}), '', 'a pass');
like(says('ann', 'TRUNCATE data.ev_y2026m03d08'), $refused, 'protects it against TRUNCATE');
is($node->safe_psql('app', q{SELECT count(*) FROM sagaz_ha.maintain_partitions('data.ev')}), '0', 'the next one has nothing to do');

# -------- drop_partition()

like(says('bob', q{SELECT sagaz_ha.drop_partition('data.ev_y2026m03d08')}), qr/permission denied|must be owner/, 'not by others');
is(says('ann', q{SELECT sagaz_ha.drop_partition('data.ev_y2026m03d08')}), '', 'drop_partition() drops a partition with rows');
is($node->safe_psql('app', q{SELECT to_regclass('data.ev_y2026m03d08') IS NULL,
	(SELECT action || ' ' || details FROM sagaz_ha.partition_history ORDER BY id DESC LIMIT 1)}),
	't|DROP by drop_partition(): rows from 2026-03-08 00:00:00+00 to 2026-03-09 00:00:00+00', 'it is gone, and the history says so');
is(says('ann', q{SELECT sagaz_ha.drop_partition('data.ev_y2026m03d09')}), '', 'also one that is partitioned');
is(says('ann', q{SELECT sagaz_ha.hold_partition('data.ev_y2026m03d10', 'case 17')}), '', 'a partition is held');
like(says('ann', q{SELECT sagaz_ha.drop_partition('data.ev_y2026m03d10')}), qr/has to stay: held: case 17.*release_partition/s, 'and stays');
is(says('ann', q{SELECT sagaz_ha.release_partition('data.ev_y2026m03d10');
	SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 2, unfinished_when => 'true', protect => true)}), '', 'it is released, with unfinished rows');
like(says('ann', q{SELECT sagaz_ha.drop_partition('data.ev_y2026m03d10')}), qr/has to stay: 1 unfinished row/, 'and stays');
like(says('ann', q{SELECT sagaz_ha.drop_partition('data.ev')}), qr/"ev" is not a partition/, 'the table is no partition');

# -------- a pass is let through; what isn't protected isn't refused

is(says('ann', q{
	SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 2, '1 day', protect => true);
	CREATE TABLE data.ev_y2026m03d07 PARTITION OF data.ev FOR VALUES FROM ('2026-03-07 00:00+00') TO ('2026-03-08 00:00+00');
	INSERT INTO data.ev VALUES ('2026-03-07 05:00+00')}), '', 'an expired partition');
is($node->safe_psql('app', q{SET ROLE ann; SELECT action, partition_name FROM sagaz_ha.maintain_partitions('data.ev') WHERE action = 'DROP'}),
	'DROP|data.ev_y2026m03d07', 'a pass by hand drops it');
is(says('ann', q{
	SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 2, '1 day', 'detach', protect => true);
	CREATE TABLE data.ev_y2026m03d07 PARTITION OF data.ev FOR VALUES FROM ('2026-03-07 00:00+00') TO ('2026-03-08 00:00+00');
	INSERT INTO data.ev VALUES ('2026-03-07 05:00+00');
	SELECT count(*) FROM sagaz_ha.maintain_partitions('data.ev');
	TRUNCATE data.ev_y2026m03d07;
	DROP TABLE data.ev_y2026m03d07}), '', 'and detaches one, which is nothing to protect any more');

make('false');
foreach my $what (sort keys %losses)
{
	is(says('ann', "BEGIN; $losses{$what}; ROLLBACK"), '', "$what: not protected, not refused");
}
is(says('ann', q{SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 2, protect => true)}), '', 'protection begins later');
like(says('ann', "BEGIN; $losses{$_}; ROLLBACK"), $refused, "$_ is refused") foreach grep { /TRUNCATE/ } sort keys %losses;
is(says('ann', q{SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 2)}), '', 'and ends');
is(says('ann', "BEGIN; $losses{$_}; ROLLBACK"), '', "$_ is done") foreach sort keys %losses;

# a writer isn't waited for
$node->safe_psql('app', 'DROP TRIGGER sagaz_ha_protect ON data.ev_y2026m03d10');
my $session = $node->background_psql('app');
$session->query_safe(q{BEGIN; INSERT INTO data.ev VALUES ('2026-03-10 06:00+00')});
is(says('ann', q{SET statement_timeout = '20s'; SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 2, protect => true)}), '', 'a partition in use is not waited for');
is($node->safe_psql('app', q{SELECT action, partition_name FROM sagaz_ha.maintain_partitions('data.ev')}),
	'DEFER|data.ev_y2026m03d10', 'the pass says that it has no trigger yet');
$session->query_safe('COMMIT');
is($node->safe_psql('app', q{SELECT count(*) FROM sagaz_ha.maintain_partitions('data.ev')}), '0', 'the next pass makes it');
is($node->safe_psql('app', q{SELECT count(*) FROM sagaz_ha.problem}), '0', 'and the problem is gone');
like(says('ann', 'TRUNCATE data.ev_y2026m03d10'), $refused, 'TRUNCATE is refused');
$session->quit;

# -------- dumps

my $dump = $node->backup_dir . '/dump';
my $owner = [ '-U', 'ann' ];
mkdir $node->backup_dir;

# Restoring gives the same rows and the same protection, with statements that must not fail.
sub is_restored
{
	my ($name, $database) = @_;

	is($node->safe_psql($database, q{SELECT count(*) FROM data.ev}), '3', "$name: the rows");
	foreach my $statement ('DROP TABLE data.ev', 'TRUNCATE data.ev', 'ALTER TABLE data.ev DETACH PARTITION data.ev_y2026m03d10')
	{
		my ($rc, $out, $err) = $node->psql($database, $statement, extra_params => $owner);
		like($err, $refused, "$name: $statement is refused");
	}
	return;
}

foreach my $format ([ '-Fc' ], [ '-Fd' ])
{
	$node->command_ok([ 'pg_dump', @$format, '-d', $node->connstr('app'), '-f', "$dump$format->[0]" ], "pg_dump $format->[0]");
}
foreach my $way ([ '-Fc', '-j1' ], [ '-Fc', '--single-transaction' ], [ '-Fd', '-j4' ])
{
	my ($format, @options) = @$way;
	my $database = 'copy' . join('', map { s/\W//gr } @options);

	$node->safe_psql('postgres', "CREATE DATABASE $database OWNER ann");
	$node->command_ok([ 'pg_restore', '--exit-on-error', @options, '-d', $node->connstr($database), "$dump$format" ], "pg_restore @options");
	is_restored("@options", $database);
	$node->command_ok([ 'pg_restore', '--exit-on-error', '--clean', '--if-exists', @options, '-d', $node->connstr($database), "$dump$format" ],
		"pg_restore --clean @options over what is protected");
	is_restored("--clean @options", $database);
}

# -------- many partitions that are in use: all of them together are waited for as long as one

$node->safe_psql('app', q{
	SET ROLE ann;
	CREATE TABLE data.many (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	SELECT sagaz_ha.manage_partitions('data.many', '1 day', 99);
	SELECT count(*) FROM sagaz_ha.maintain_partitions('data.many')});
my $user = $node->background_psql('app');
$user->query_safe('BEGIN; LOCK TABLE data.many IN ROW EXCLUSIVE MODE');
cmp_ok($node->safe_psql('app', q{
	SET ROLE ann;
	SELECT clock_timestamp() AS began \gset
	DO $$BEGIN PERFORM sagaz_ha.manage_partitions('data.many', '1 day', 99, protect => true); END$$;
	SELECT round(extract(epoch FROM clock_timestamp() - :'began') * 1000)}), '<', 100 * 20,
	'100 partitions in use are not waited for one after the other');
is($node->safe_psql('app', q{SELECT count(*) FROM pg_trigger WHERE tgname = 'sagaz_ha_protect' AND tgrelid::regclass::text LIKE 'data.many%'}),
	'0', 'and have no trigger yet');
$user->query_safe('COMMIT');
$user->quit;
is($node->safe_psql('app', q{
	SET ROLE ann;
	DO $$BEGIN PERFORM sagaz_ha.maintain_partitions('data.many'); END$$;
	SELECT count(*) FROM pg_trigger WHERE tgname = 'sagaz_ha_protect' AND tgrelid::regclass::text LIKE 'data.many%';
	DROP TABLE data.many}), '100', 'a pass makes them');

# -------- a hole that is closed by widening a partition, which is detached meanwhile

is($node->safe_psql('app', q{
	SET ROLE ann;
	CREATE TABLE data.crack (at timestamptz NOT NULL) PARTITION BY RANGE (at);
	CREATE TABLE data.crack_1 PARTITION OF data.crack FOR VALUES FROM ('2026-03-10 00:00+00') TO ('2026-03-10 23:59:59.999999+00');
	CREATE TABLE data.crack_2 PARTITION OF data.crack FOR VALUES FROM ('2026-03-11 00:00+00') TO ('2026-03-12 00:00+00');
	INSERT INTO data.crack VALUES ('2026-03-10 05:00+00');
	DO $$BEGIN PERFORM sagaz_ha.manage_partitions('data.crack', '1 day', 1, protect => true); END$$;
	SELECT action, partition_name FROM sagaz_ha.maintain_partitions('data.crack')}), 'ATTACH|data.crack_1', 'a protected partition is widened');
like(says('ann', 'DROP TABLE data.crack_1'), qr/is protected and has rows/, 'and protected as before');

# -------- a partition of a partition

make('true');
like(says('ann', 'DROP TABLE parts.good'), qr/partition parts\.good of .*drop_partition\('data\.ev_y2026m03d09'\)/s,
	'of a partition of a partition the hint names what drop_partition() takes');

# -------- nothing hinders who wants to be rid of it

is(says('postgres', 'BEGIN; DROP EXTENSION sagaz_ha; DROP SCHEMA data CASCADE; ROLLBACK'), '', 'a superuser drops the extension');
is($node->safe_psql('app', q{DROP EXTENSION sagaz_ha; SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'sagaz%'}), '0', 'its triggers go with it');
is(says('ann', 'DROP TABLE data.ev'), '', 'and the table');
is($node->safe_psql('app', 'CREATE EXTENSION sagaz_ha; SELECT 1'), '1', 'it can be made again');

# -------- the worker

configure($node, shared_preload_libraries => 'sagaz_ha');
$node->restart;
$node->safe_psql('app', q{SET ROLE ann; CREATE TABLE data.ev (at timestamptz NOT NULL, done boolean) PARTITION BY RANGE (at);
	CREATE TABLE data.ev_y2026m03d05 PARTITION OF data.ev FOR VALUES FROM ('2026-03-05 00:00+00') TO ('2026-03-06 00:00+00');
	INSERT INTO data.ev VALUES ('2026-03-05 05:00+00')});
$node->safe_psql('app', q{SELECT sagaz_ha.manage_partitions('data.ev', '1 day', 2, '3 days', unfinished_when => 'NOT done', protect => true)});
ok(defined when($node, 'app', q{to_regclass('data.ev_y2026m03d05') IS NULL AND to_regclass('data.ev_y2026m03d12') IS NOT NULL}),
	'the worker drops an expired partition, though it is protected');
is($node->safe_psql('app', q{SELECT string_agg(action, ' ' ORDER BY id) FROM sagaz_ha.partition_history WHERE action IN ('DROP', 'ERROR')}), 'DROP', 'without an error');

$node->stop;
done_testing();
