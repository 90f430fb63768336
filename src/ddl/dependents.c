/*
 * dependents.c
 *		What hinders retiring a partition, other than its rows and holds.
 *
 * Invariant: reads catalogs and takes no lock, so it can be asked before anything
 * is done: what would make a DROP or SET SCHEMA fail is found while the partition
 * is still attached.
 */
#include "ddl/dependents.h"

#include "base/compat.h"
#include "base/sql.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/*
 * What goes with the partition is what the server drops with it: all that depends
 * on it but as an object of its own. What else depends on any of that would make
 * DROP fail, and so would an extension that has a part of it. A foreign key to the
 * parent depends on the partition only while that is attached.
 */
static const char *const dependents_query =
"WITH RECURSIVE goes AS ("
"  SELECT 'pg_class'::regclass::oid AS classid, $1 AS objid"
"  UNION"
"  SELECT d.classid, d.objid FROM goes AS g"
"    JOIN pg_depend AS d ON d.refclassid = g.classid AND d.refobjid = g.objid"
"   WHERE d.deptype NOT IN ('n', 'e')),"
" needs AS ("
"  SELECT d.classid, d.objid, d.objsubid FROM goes AS g"
"    JOIN pg_depend AS d ON d.refclassid = g.classid AND d.refobjid = g.objid"
"   WHERE d.deptype = 'n'"
"     AND NOT EXISTS (SELECT FROM goes AS o WHERE o.classid = d.classid AND o.objid = d.objid)"
"     AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS ("
"       WITH RECURSIVE up AS ("
"         SELECT c.conparentid, c.confrelid FROM pg_constraint AS c WHERE c.oid = d.objid"
"         UNION ALL"
"         SELECT c.conparentid, c.confrelid FROM up JOIN pg_constraint AS c ON c.oid = up.conparentid)"
"       SELECT FROM up WHERE up.confrelid = $2))"
"  UNION"
"  SELECT d.refclassid, d.refobjid, 0 FROM goes AS g"
"    JOIN pg_depend AS d ON d.classid = g.classid AND d.objid = g.objid"
"   WHERE d.deptype = 'e'),"
" named AS ("
"  SELECT DISTINCT CASE WHEN r.rulename = '_RETURN'"
"                  THEN pg_describe_object('pg_class'::regclass, r.ev_class, 0)"
"                  ELSE pg_describe_object(n.classid, n.objid, n.objsubid) END AS name"
"    FROM needs AS n"
"    LEFT JOIN pg_rewrite AS r ON n.classid = 'pg_rewrite'::regclass AND r.oid = n.objid)"
" SELECT string_agg(name, ', ' ORDER BY name) FILTER (WHERE n <= 10)"
"        || CASE WHEN max(n) > 10 THEN format(' and %s more', max(n) - 10) ELSE '' END"
"   FROM (SELECT name, row_number() OVER (ORDER BY name) AS n FROM named) AS numbered";

/* The objects that DROP would be refused for, in the caller's memory; NULL: none. */
static char *
dependent_objects(Oid parent, Oid partition)
{
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		args = {0};
	char	   *names;

	sql_begin(&session, GetUserId());
	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	(void) sql_execute_latest(&plan, dependents_query, &args);
	names = sql_text(0, 1);
	if (names != NULL)
		names = MemoryContextStrdup(session.caller, names);
	sql_end(&session);
	return names;
}

/* The role that a relation belongs to, for people. */
static char *
owner_name(Oid relid)
{
	SqlSession	session;
	SqlArgs		args = {0};
	char	   *name = NULL;

	sql_begin(&session, GetUserId());
	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
	if (sql_execute("SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = $1",
					&args) > 0)
		name = MemoryContextStrdup(session.caller, sql_text(0, 1));
	sql_end(&session);
	return name;
}

/*
 * Why retiring the partition as the parent's owner would fail, in the caller's
 * memory; NULL: nothing is known that hinders it. An archive schema that is gone
 * is an error.
 */
char *
dependents_reason(const Policy *policy, Oid owner, Oid partition)
{
	char	   *archive = policy_archive_schema(policy);
	char	   *objects;

	/* to detach it takes the parent's owner only, but all else its own */
	if (!sagaz_owns_relation(partition, owner))
		return psprintf("it belongs to role %s, of which %s, the owner of its table, is not a member",
						owner_name(partition), quote_identifier(GetUserNameFromId(owner, false)));
	if (archive != NULL && !sagaz_may_create_in(get_namespace_oid(archive, false), owner))
		return psprintf("role %s, the owner of its table, may not create tables in archive_schema %s",
						quote_identifier(GetUserNameFromId(owner, false)), quote_identifier(archive));
	if (policy->action != RETENTION_DROP)
		return NULL;
	objects = dependent_objects(policy->parent, partition);
	return objects == NULL ? NULL : psprintf("other objects depend on it: %s", objects);
}
