/*
 * archive.c
 *		Moving a detached partition to the archive schema.
 *
 * Invariant: a name that is taken there, of the table, an index or an own
 * sequence, is no error: what has it gets another one.
 */
#include "ddl/archive.h"

#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/*
 * What moves with a table and has a name that is taken: by a relation, or, as that
 * of its row type or the type's array, by a type.
 */
static const char *const taken_query =
"SELECT c.oid, CASE c.relkind WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE'"
"              WHEN 'i' THEN 'INDEX' WHEN 'I' THEN 'INDEX' ELSE 'TABLE' END"
"  FROM (SELECT $1 AS oid"
"        UNION SELECT indexrelid FROM pg_index WHERE indrelid = $1"
"        UNION SELECT objid FROM pg_depend"
"               WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass"
"                 AND refobjid = $1 AND deptype IN ('a', 'i')) AS moves"
"  JOIN pg_class AS c ON c.oid = moves.oid AND (c.oid = $1 OR c.relkind IN ('i', 'I', 'S'))"
" WHERE c.relnamespace <> $2"
"   AND (EXISTS (SELECT FROM pg_class AS o WHERE o.relnamespace = $2 AND o.relname = c.relname)"
"        OR EXISTS (SELECT FROM pg_type AS t"
"                     JOIN pg_type AS o ON o.typnamespace = $2 AND o.typname = t.typname"
"                    WHERE t.typrelid = c.oid OR (c.reltype <> 0 AND t.typelem = c.reltype)))"
" ORDER BY c.oid <> $1, c.relname";

static bool
is_free(const char *name, Oid schema)
{
	return !OidIsValid(get_relname_relid(name, schema)) &&
		!SearchSysCacheExists2(TYPENAMENSP, CStringGetDatum(name), ObjectIdGetDatum(schema));
}

/* A name that is free where the relation is, and where it goes. */
static char *
free_name(Oid relid, Oid schema, const char *suffix)
{
	const char *name = get_rel_name(relid);
	char	   *candidate = makeObjectName(name, suffix, NULL);

	for (int i = 2; !is_free(candidate, schema) || !is_free(candidate, get_rel_namespace(relid)); i++)
		candidate = makeObjectName(name, suffix, psprintf("%d", i));
	return candidate;
}

/* Moves a table with what belongs to it. Inside SPI, as the owner. */
void
archive_move(Oid table, const char *schema, const char *suffix)
{
	Oid			target = get_namespace_oid(schema, false);
	SqlArgs		args = {0};
	SPITupleTable *taken;

	sql_arg(&args, OIDOID, ObjectIdGetDatum(table));
	sql_arg(&args, OIDOID, ObjectIdGetDatum(target));
	(void) sql_execute(taken_query, &args);
	taken = SPI_tuptable;
	for (uint64 i = 0; i < taken->numvals; i++)
	{
		bool		isnull;
		Oid			relid = DatumGetObjectId(SPI_getbinval(taken->vals[i], taken->tupdesc, 1, &isnull));

		sql_run(psprintf("ALTER %s %s RENAME TO %s", SPI_getvalue(taken->vals[i], taken->tupdesc, 2),
						 names_qualified(relid),
						 quote_identifier(free_name(relid, target, suffix))));
	}
	sql_run(psprintf("ALTER %s %s SET SCHEMA %s",
					 get_rel_relkind(table) == RELKIND_FOREIGN_TABLE ? "FOREIGN TABLE" : "TABLE",
					 names_qualified(table), quote_identifier(schema)));
}
