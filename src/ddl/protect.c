/*
 * protect.c
 *		Refusing what would lose rows of a protected partition by accident.
 *
 * Invariant: what a statement is about to drop is asked of pg_depend before it
 * begins, because afterwards nobody can tell whether there were rows. Superusers
 * and sagaz_ha.protect = off are let through, and so is what we do ourselves. A
 * TRUNCATE fires no event trigger, so each partition has a trigger for it, which
 * stays when it is needed no more, and then does nothing.
 */
#include "ddl/protect.h"

#include "access/htup_details.h"
#include "base/compat.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/citus.h"
#include "catalog/names.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "ddl/fence.h"
#include "ddl/locks.h"
#include "ddl/unfinished.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define GUARD	"sagaz_ha_protect"

/* What our own statements do is meant. Until identity_restore(). */
void
protect_let_through(void)
{
	identity_set_local("sagaz_ha.protect", "off");
}

static bool
may_lose_rows(void)
{
	return !sagaz_protect || superuser();
}

/*
 * The protected table that this is a partition of, at whatever level, or InvalidOid;
 * and its partition that this one is, or is in.
 */
static Oid
protected_parent(Oid relid, Oid *partition)
{
	static const char *const query =
		"WITH RECURSIVE up (relid, child) AS ("
		"  SELECT i.inhparent, i.inhrelid FROM pg_inherits AS i WHERE i.inhrelid = $1"
		"  UNION ALL"
		"  SELECT i.inhparent, i.inhrelid FROM up AS u JOIN pg_inherits AS i ON i.inhrelid = u.relid)"
		" SELECT p.parent, u.child FROM up AS u JOIN sagaz_ha.partition_policy AS p ON p.parent = u.relid"
		"  WHERE p.protect";
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		args = {0};
	Oid			parent = InvalidOid;

	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
	if (sql_execute_kept(&plan, query, &args) > 0)
	{
		parent = sql_oid(0, 1);
		*partition = sql_oid(0, 2);
	}
	sql_end(&session);
	return parent;
}

/* Fails if this is a partition of a protected table, and has rows. */
static void
refuse_loss(Oid relid)
{
	Oid			partition;
	Oid			parent = protected_parent(relid, &partition);

	if (!OidIsValid(parent) || !unfinished_has_rows(relid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("partition %s of table %s is protected and has rows",
					names_display(relid), names_display(parent)),
			 errdetail("The policy of the table has protect = true."),
			 errhint("Use sagaz_ha.drop_partition(%s) to drop the partition, or SET sagaz_ha.protect = off to let the statement through.",
					 quote_literal_cstr(names_qualified(partition)))));
}

/* Objects that a statement names. */
typedef struct Targets
{
	ArrayBuildState *classes;
	ArrayBuildState *objects;
	ArrayBuildState *roles;		/* that it drops everything of */
	bool		cascade;
} Targets;

static void
add_oid(ArrayBuildState **array, Oid value)
{
	*array = accumArrayResult(*array, ObjectIdGetDatum(value), false, OIDOID, CurrentMemoryContext);
}

static void
oid_array_arg(SqlArgs *args, ArrayBuildState *array)
{
	sql_arg(args, OIDARRAYOID, array ? makeArrayResult(array, CurrentMemoryContext) :
			PointerGetDatum(construct_empty_array(OIDOID)));
}

static bool
any_is_protected(void)
{
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		none = {0};
	bool		found;

	sql_begin_as_extension(&session);
	found = sql_execute_kept(&plan, "SELECT FROM sagaz_ha.partition_policy AS p"
							 " WHERE p.protect LIMIT 1", &none) > 0;
	sql_end(&session);
	return found;
}

static void
add_partition(uint64 row, void *arg)
{
	List	  **partitions = (List **) arg;

	*partitions = lappend_oid(*partitions, sql_oid(row, 1));
}

/*
 * The partitions that go with the targets: what depends on them, and what a part
 * or a member that goes takes with it. Foreign tables keep their rows elsewhere.
 */
static List *
partitions_that_go(const Targets *targets)
{
	static const char *const query =
		"WITH RECURSIVE gone (classid, objid, objsubid) AS ("
		"  SELECT t.classid, t.objid, 0 FROM unnest($1, $2) AS t (classid, objid)"
		"  UNION ALL"
		"  SELECT s.classid, s.objid, s.objsubid FROM pg_shdepend AS s"
		"   WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = ANY ($3) AND s.deptype = 'o'"
		"     AND s.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())"
		"  UNION"
		"  SELECT d.classid, d.objid, d.objsubid FROM gone AS g CROSS JOIN LATERAL ("
		"    SELECT d.classid, d.objid, d.objsubid FROM pg_depend AS d"
		"     WHERE d.refclassid = g.classid AND d.refobjid = g.objid"
		"       AND g.objsubid IN (0, d.refobjsubid) AND (d.deptype <> 'n' OR $4)"
		"    UNION ALL"
		"    SELECT d.refclassid, d.refobjid, d.refobjsubid FROM pg_depend AS d"
		"     WHERE d.classid = g.classid AND d.objid = g.objid AND d.objsubid = g.objsubid"
		"       AND d.deptype IN ('i', 'e')) AS d)"
		" SELECT DISTINCT c.oid FROM gone AS g JOIN pg_class AS c ON c.oid = g.objid"
		"  WHERE g.classid = 'pg_class'::regclass AND g.objsubid = 0"
		"    AND c.relkind = 'r' AND c.relispartition"
		"  ORDER BY c.oid";
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *partitions = NIL;

	oid_array_arg(&args, targets->classes);
	oid_array_arg(&args, targets->objects);
	oid_array_arg(&args, targets->roles);
	sql_arg(&args, BOOLOID, BoolGetDatum(targets->cascade));
	sql_begin_as_extension(&session);
	sql_each_row(&session, sql_execute_kept(&plan, query, &args), add_partition, &partitions);
	sql_end(&session);
	return partitions;
}

static bool
may_drop_from(Oid schema)
{
	return OidIsValid(schema) && sagaz_owns_schema(schema, GetUserId());
}

/* A table by name. Who may not drop it gets the server's error, and learns nothing. */
static void
add_table(Targets *targets, List *name)
{
	Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(name), NoLock, true);

	if (!OidIsValid(relid) ||
		!(sagaz_owns_relation(relid, GetUserId()) || may_drop_from(get_rel_namespace(relid))))
		return;
	add_oid(&targets->classes, RelationRelationId);
	add_oid(&targets->objects, relid);
}

/* Anything else, looked up, locked and checked as DROP is about to do it. */
static void
add_object(Targets *targets, ObjectType type, Node *object)
{
	Relation	rel = NULL;
	ObjectAddress address = get_object_address(type, object, &rel, AccessExclusiveLock, true);

	if (!OidIsValid(address.objectId))
		return;
	if (!may_drop_from(get_object_namespace(&address)))
		check_object_ownership(GetUserId(), type, address, object, rel);
	add_oid(&targets->classes, address.classId);
	add_oid(&targets->objects, address.objectId);
}

/* Of what DROP names, only these take tables with them without CASCADE. */
static void
add_dropped(Targets *targets, const DropStmt *drop)
{
	ListCell   *cell;

	targets->cascade = drop->behavior == DROP_CASCADE;
	if (!targets->cascade && drop->removeType != OBJECT_TABLE && drop->removeType != OBJECT_EXTENSION)
		return;
	foreach(cell, drop->objects)
	{
		if (drop->removeType == OBJECT_TABLE)
			add_table(targets, lfirst_node(List, cell));
		else
			add_object(targets, drop->removeType, (Node *) lfirst(cell));
	}
}

static void
add_owned(Targets *targets, const DropOwnedStmt *drop)
{
	ListCell   *cell;

	targets->cascade = drop->behavior == DROP_CASCADE;
	foreach(cell, drop->roles)
	{
		Oid			role = get_rolespec_oid(lfirst_node(RoleSpec, cell), true);

		if (OidIsValid(role) && has_privs_of_role(GetUserId(), role))
			add_oid(&targets->roles, role);
	}
}

static void
check_drop(Node *statement)
{
	Targets		targets = {NULL};
	ListCell   *cell;

	if (IsA(statement, DropStmt))
		add_dropped(&targets, (DropStmt *) statement);
	else
		add_owned(&targets, (DropOwnedStmt *) statement);
	if (targets.objects == NULL && targets.roles == NULL)
		return;
	foreach(cell, partitions_that_go(&targets))
		refuse_loss(lfirst_oid(cell));
}

/* A pending detach may be finished: its rows can't be seen any more. */
static void
check_detach(const AlterTableStmt *alter)
{
	ListCell   *cell;

	foreach(cell, alter->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);
		Oid			relid;

		if (command->subtype != AT_DetachPartition)
			continue;
		relid = RangeVarGetRelid(castNode(PartitionCmd, command->def)->name, NoLock, true);
		if (OidIsValid(relid) && sagaz_owns_relation(relid, GetUserId()))
			refuse_loss(relid);
	}
}

/* Fails if a statement that is about to begin would lose rows of a protected partition. */
void
protect_check_statement(Node *statement)
{
	if (may_lose_rows())
		return;
	if (IsA(statement, AlterTableStmt))
		check_detach((AlterTableStmt *) statement);
	else if ((IsA(statement, DropStmt) || IsA(statement, DropOwnedStmt)) && any_is_protected())
		check_drop(statement);
}

/* Fails if a partition that is about to be truncated is protected, and has rows. */
void
protect_check_truncate(Oid relid)
{
	if (!may_lose_rows())
		refuse_loss(relid);
}

/* The partitions of a table that have no trigger against TRUNCATE yet. */
List *
protect_unguarded(Oid parent)
{
	static const char *const query =
		"WITH RECURSIVE down (relid) AS ("
		"  SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = $1"
		"  UNION ALL"
		"  SELECT i.inhrelid FROM down AS d JOIN pg_inherits AS i ON i.inhparent = d.relid)"
		" SELECT d.relid FROM down AS d JOIN pg_class AS c ON c.oid = d.relid"
		"  WHERE c.relkind = 'r'"
		"    AND NOT EXISTS (SELECT FROM pg_trigger AS t"
		"                     WHERE t.tgrelid = d.relid AND t.tgname = '" GUARD "')"
		"  ORDER BY d.relid";
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *partitions = NIL;

	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	sql_each_row(&session, sql_execute_kept(&plan, query, &args), add_partition, &partitions);
	sql_end(&session);
	return partitions;
}

/*
 * Has TRUNCATE of a partition refused from now on, with a lock that is waited for
 * until then. As its owner, which may be another's.
 */
void
protect_guard(Oid relid, TimestampTz until)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	SqlSession	session;
	Oid			owner;

	/*
	 * dropped since it was found; Citus refuses triggers on what it
	 * distributes
	 */
	if (!HeapTupleIsValid(tuple))
		return;
	if (citus_distributes(relid))
	{
		ReleaseSysCache(tuple);
		return;
	}
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	sql_begin(&session, owner);
	locks_take_until(list_make1_oid(relid), ShareRowExclusiveLock, until);
	/* it may have been dropped, or guarded, by who had the lock */
	if (get_rel_name(relid) != NULL && !OidIsValid(get_trigger_oid(relid, GUARD, true)))
	{
		sql_run(psprintf("CREATE TRIGGER " GUARD " BEFORE TRUNCATE ON %s"
						 " FOR EACH STATEMENT EXECUTE FUNCTION sagaz_ha.refuse_truncate()",
						 names_qualified(relid)));
		fence_depend_on_extension(get_trigger_oid(relid, GUARD, false));
	}
	sql_end(&session);
}
