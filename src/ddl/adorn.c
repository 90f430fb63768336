/*
 * adorn.c
 *		What a new partition gets from its parent beyond CREATE TABLE … LIKE.
 *
 * Invariant: one query over the catalogs writes the statements that are missing,
 * with everything quoted by the server. Callers are inside SPI, as the table's
 * owner, with search_path pinned, so that a regclass is written with its schema.
 */
#include "ddl/adorn.h"

#include "base/sql.h"
#include "catalog/pg_type.h"

static const char *const adornments =
"SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s',"
"              $2::regclass, attname, attstattarget)"
"  FROM pg_attribute"
" WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attstattarget >= 0"
" UNION ALL "
"SELECT format('ALTER TABLE %s ALTER COLUMN %I SET (%s)',"
"              $2::regclass, attname, string_agg(option, ', '))"
"  FROM pg_attribute, unnest(attoptions) AS option"
" WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped"
 /* the server may keep options of its own there, which are no user's */
"   AND starts_with(option, 'n_distinct')"
" GROUP BY attname"
" UNION ALL "
"SELECT format('ALTER STATISTICS %s.%I SET STATISTICS %s',"
"              c.stxnamespace::regnamespace, c.stxname, p.stxstattarget)"
"  FROM (SELECT stxstattarget, row_number() OVER (ORDER BY oid) AS n"
"          FROM pg_statistic_ext WHERE stxrelid = $1) AS p"
"  JOIN (SELECT stxnamespace, stxname, row_number() OVER (ORDER BY oid) AS n"
"          FROM pg_statistic_ext WHERE stxrelid = $2) AS c USING (n)"
" WHERE p.stxstattarget >= 0";

/*
 * Who may read the parent through row security only must not read partitions
 * around it, so the policies come with it, and they name the partition where they
 * named the parent.
 */
static const char *const row_security =
"SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', $2::regclass,"
"              CASE WHEN p.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END)"
"  FROM pg_class AS p, pg_class AS c"
" WHERE p.oid = $1 AND c.oid = $2 AND p.relrowsecurity <> c.relrowsecurity"
" UNION ALL "
"SELECT format('DROP POLICY %I ON %s', polname, $2::regclass) FROM pg_policy WHERE polrelid = $2"
" UNION ALL "
"SELECT format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, $2::regclass,"
"              CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,"
"              CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'"
"                            WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,"
"              (SELECT string_agg(CASE o WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o)) END, ', ')"
"                 FROM unnest(p.polroles) AS o),"
"              ' USING (' || sagaz_ha._expression(p.polqual, $1, c.relname) || ')',"
"              ' WITH CHECK (' || sagaz_ha._expression(p.polwithcheck, $1, c.relname) || ')')"
"  FROM pg_policy AS p, pg_class AS c WHERE p.polrelid = $1 AND c.oid = $2";

/*
 * Default privileges may have given more to the partition than the parent gives, so
 * what differs is taken away first, with what its grantees have given to others.
 */
static const char *const privileges =
"SELECT DISTINCT format('REVOKE ALL ON TABLE %s FROM %s CASCADE', $2::regclass,"
"              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)"
"  FROM (SELECT relowner, relacl FROM pg_class WHERE oid = $2"
"        UNION ALL"
"        SELECT relowner, attacl FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
"         WHERE attrelid = $2 AND NOT attisdropped) AS c (owner, acl), aclexplode(acl)"
" WHERE grantee <> owner"
" UNION ALL "
"SELECT format('GRANT %s ON TABLE %s TO %s%s', string_agg(privilege_type, ', '), $2::regclass,"
"              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,"
"              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
"  FROM pg_class, aclexplode(relacl)"
" WHERE oid = $1 AND grantee <> relowner"
" GROUP BY grantee, is_grantable"
" UNION ALL "
"SELECT format('GRANT %s (%I) ON TABLE %s TO %s%s', privilege_type, attname, $2::regclass,"
"              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,"
"              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
"  FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid, aclexplode(attacl)"
" WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND grantee <> relowner";

/*
 * An index to identify rows by is known only once the partition is attached; and
 * the check of its foreign keys must not meet row security of its owner.
 */
static const char *const when_attached =
"SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', $2::regclass,"
"              CASE WHEN p.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END)"
"  FROM pg_class AS p, pg_class AS c"
" WHERE p.oid = $1 AND c.oid = $2 AND p.relforcerowsecurity <> c.relforcerowsecurity"
" UNION ALL "
"SELECT format('ALTER TABLE %s REPLICA IDENTITY %s', $2::regclass,"
"              CASE p.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' ELSE 'DEFAULT' END)"
"  FROM pg_class AS p, pg_class AS c WHERE p.oid = $1 AND c.oid = $2"
"   AND p.relreplident <> 'i' AND c.relreplident <> p.relreplident"
" UNION ALL "
"SELECT format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', $2::regclass, c.relname)"
"  FROM pg_index AS p"
"  JOIN pg_inherits AS h ON h.inhparent = p.indexrelid"
"  JOIN pg_index AS i ON i.indexrelid = h.inhrelid AND i.indrelid = $2"
"  JOIN pg_class AS c ON c.oid = i.indexrelid"
"  JOIN pg_class AS t ON t.oid = p.indrelid"
" WHERE p.indrelid = $1 AND p.indisreplident AND t.relreplident = 'i'";

/* What LIKE copies, and PARTITION OF doesn't. */
static const char *const comments =
"SELECT format('COMMENT ON COLUMN %s.%I IS %L', $2::regclass, a.attname, d.description)"
"  FROM pg_description AS d JOIN pg_attribute AS a ON a.attrelid = d.objoid AND a.attnum = d.objsubid"
" WHERE d.classoid = 'pg_class'::regclass AND d.objoid = $1 AND d.objsubid > 0"
" UNION ALL "
"SELECT format('COMMENT ON CONSTRAINT %I ON %s IS %L', c.conname, $2::regclass, d.description)"
"  FROM pg_constraint AS c"
"  JOIN pg_description AS d ON d.classoid = 'pg_constraint'::regclass AND d.objoid = c.oid"
" WHERE c.conrelid = $1 AND c.contype IN ('c', 'n')"
" UNION ALL "
"SELECT format('COMMENT ON INDEX %s IS %L', i.indexrelid::regclass, d.description)"
"  FROM pg_index AS p"
"  JOIN pg_inherits AS h ON h.inhparent = p.indexrelid"
"  JOIN pg_index AS i ON i.indexrelid = h.inhrelid AND i.indrelid = $2"
"  JOIN pg_description AS d ON d.classoid = 'pg_class'::regclass AND d.objoid = p.indexrelid AND d.objsubid = 0"
" WHERE p.indrelid = $1";

/* Runs the statements that a query returns; whether there are any. */
static bool
run_written(SPIPlanPtr *plan, const char *query, Oid parent, Oid partition)
{
	SqlArgs		args = {0};
	SPITupleTable *statements;

	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	(void) sql_execute_kept(plan, query, &args);
	statements = SPI_tuptable;
	for (uint64 i = 0; i < statements->numvals; i++)
		sql_run(SPI_getvalue(statements->vals[i], statements->tupdesc, 1));
	return statements->numvals > 0;
}

/* Gives a new table what it needs before it is attached. */
void
adorn_partition(Oid parent, Oid partition)
{
	static SPIPlanPtr plan = NULL;

	(void) run_written(&plan, adornments, parent, partition);
	(void) adorn_row_security(parent, partition);
	(void) adorn_privileges(parent, partition);
}

/*
 * Gives one that was made by CREATE TABLE … PARTITION OF what it lacks. Whether that
 * was anything: if not, those that are made in the same way lack nothing either.
 */
bool
adorn_made_in_place(Oid parent, Oid partition)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr comments_plan = NULL;
	bool		any = run_written(&plan, adornments, parent, partition);

	any |= run_written(&comments_plan, comments, parent, partition);
	any |= adorn_row_security(parent, partition);
	any |= adorn_privileges(parent, partition);
	any |= adorn_attached(parent, partition);
	return any;
}

/* Gives a partition its table's row security, but for what forces it on the owner. */
bool
adorn_row_security(Oid parent, Oid partition)
{
	static SPIPlanPtr plan = NULL;

	return run_written(&plan, row_security, parent, partition);
}

/* Gives a partition its table's privileges, and no others. That locks nobody out. */
bool
adorn_privileges(Oid parent, Oid partition)
{
	static SPIPlanPtr plan = NULL;

	return run_written(&plan, privileges, parent, partition);
}

/* Gives a new partition what it can have only once it is attached. */
bool
adorn_attached(Oid parent, Oid partition)
{
	static SPIPlanPtr plan = NULL;

	return run_written(&plan, when_attached, parent, partition);
}
