/*
 * reattach.c
 *		Bringing back a partition that was detached or archived.
 *
 * Its bounds are in a CHECK constraint: the one it was made with, the one
 * that the server adds in a concurrent detach, or the one added here.
 */
#include "ddl/reattach.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "ddl/execute.h"
#include "executor/spi.h"
#include "ddl/fence.h"
#include "base/identity.h"
#include "catalog/history.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "catalog/parent.h"
#include "catalog/policy.h"
#include "base/settings.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

typedef struct BoundSearch
{
	AttrNumber	attnum;
	PlanBound	bound;
	bool		has_lower;
	bool		has_upper;
} BoundSearch;

static bool
find_bounds(Node *node, void *context)
{
	BoundSearch *search = (BoundSearch *) context;
	OpExpr	   *op = (OpExpr *) node;
	Const	   *value;
	int			strategy;

	if (node == NULL)
		return false;
	if (!IsA(node, OpExpr) || list_length(op->args) != 2 ||
		!IsA(linitial(op->args), Var) || !IsA(lsecond(op->args), Const) ||
		((Var *) linitial(op->args))->varattno != search->attnum)
		return expression_tree_walker(node, find_bounds, context);
	value = lsecond_node(Const, op->args);
	strategy = get_op_opfamily_strategy(op->opno, DATETIME_BTREE_FAMILY);
	if (value->constisnull)
		return false;
	if (strategy == BTGreaterEqualStrategyNumber)
	{
		search->bound.lower = partition_key_time(value->consttype, value->constvalue);
		search->has_lower = true;
	}
	else if (strategy == BTLessStrategyNumber)
	{
		search->bound.upper = partition_key_time(value->consttype, value->constvalue);
		search->has_upper = true;
	}
	return false;
}

/* The bounds that a table's CHECK constraints imply; false if none do. */
bool
reattach_bounds(Oid partition, const char *key_name, PlanBound *bound)
{
	Relation	constraints = table_open(ConstraintRelationId, AccessShareLock);
	AttrNumber	attnum = get_attnum(partition, key_name);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key, Anum_pg_constraint_conrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(partition));
	scan = systable_beginscan(constraints, ConstraintRelidTypidNameIndexId, true,
							  NULL, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		BoundSearch search = {attnum, {CAL_MINUS_INFINITY, CAL_INFINITY}};
		bool		isnull;
		Datum		bin = heap_getattr(tuple, Anum_pg_constraint_conbin,
									   RelationGetDescr(constraints), &isnull);

		if (isnull || ((Form_pg_constraint) GETSTRUCT(tuple))->contype != CONSTRAINT_CHECK)
			continue;
		(void) find_bounds(stringToNode(TextDatumGetCString(bin)), &search);
		found = search.has_lower && search.has_upper;
		*bound = search.bound;
	}
	systable_endscan(scan);
	table_close(constraints, AccessShareLock);
	return found;
}

/*
 * Gives a partition that is about to be kept by itself a CHECK of its bounds,
 * if it has none. Not validated, because that would be a scan under a lock.
 * Inside SPI, as the owner.
 */
void
reattach_remember_bounds(Oid partition, const char *key_name, Oid key_type,
						 const PlanBound *bound)
{
	const char *column = quote_identifier(key_name);
	PlanBound	known;

	if (!cal_is_finite(bound->lower) || !cal_is_finite(bound->upper) ||
		get_rel_relkind(partition) != RELKIND_RELATION ||
		reattach_bounds(partition, key_name, &known))
		return;
	if (SPI_execute(psprintf("ALTER TABLE %s ADD CONSTRAINT sagaz_ha_bounds CHECK"
							 " (%s IS NOT NULL AND %s >= %s AND %s < %s) NOT VALID",
							 partition_qualified_name(partition), column,
							 column, partition_bound_literal(key_type, bound->lower),
							 column, partition_bound_literal(key_type, bound->upper)),
					false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not add a constraint to the partition");
}

/* The table that the history says a partition was detached from. */
Oid
reattach_parent(Oid partition)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(partition)};
	Oid			parent = InvalidOid;
	Identity	saved;
	bool		isnull;

	SPI_connect();
	identity_assume(&saved, identity_extension_owner());
	if (SPI_execute_with_args("SELECT h.parent FROM sagaz_ha.partition_history AS h"
							  " WHERE h.partition = $1 AND h.action = 'DETACH'"
							  " ORDER BY h.id DESC LIMIT 1",
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read partition history");
	if (SPI_processed > 0)
		parent = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
												SPI_tuptable->tupdesc, 1, &isnull));
	identity_restore(&saved);
	SPI_finish();
	return parent;
}

/*
 * Whether an operator brought it back: then it stays, however old it is. That
 * is a row of its own, which is dumped and restored: the history isn't.
 */
bool
reattach_is_brought_back(Oid partition)
{
	Oid			types[1] = {REGCLASSOID};
	Datum		values[1] = {ObjectIdGetDatum(partition)};
	Identity	saved;
	bool		held;

	SPI_connect();
	identity_assume(&saved, identity_extension_owner());
	if (SPI_execute_with_args("SELECT FROM sagaz_ha.partition_hold WHERE partition = $1",
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read partition holds");
	held = SPI_processed > 0;
	identity_restore(&saved);
	SPI_finish();
	return held;
}

/* Inside SPI. */
static void
hold_partition(Oid partition)
{
	Oid			types[3] = {REGCLASSOID, TIMESTAMPTZOID, NAMEOID};
	Datum		values[3] = {ObjectIdGetDatum(partition), TimestampTzGetDatum(settings_now()),
		DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)))};
	Identity	saved;

	identity_assume(&saved, identity_extension_owner());
	if (SPI_execute_with_args("INSERT INTO sagaz_ha.partition_hold (partition, reason, since, held_by)"
							  " VALUES ($1, 'brought back by reattach_partition()', $2, $3)"
							  " ON CONFLICT (partition) DO NOTHING",
							  3, types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not hold a partition");
	identity_restore(&saved);
}

/* Attaches a table as the partition that it was; what range it has. */
char *
reattach(Oid partition, Oid parent)
{
	MemoryContext context = CurrentMemoryContext;
	Relation	rel;
	ParentInfo	info;
	PlanBound	bound;
	Identity	saved;
	char	   *display;

	SPI_connect();
	identity_assume(&saved, GetUserId());
	identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
	rel = table_open(parent, ShareUpdateExclusiveLock);
	/* readers and writers would wait behind us for these */
	execute_lock_at_once(partition, AccessExclusiveLock);
	partition_require_parent(rel, &info);
	if (OidIsValid(info.default_relid))
		execute_lock_at_once(info.default_relid, AccessExclusiveLock);
	table_close(rel, NoLock);
	if (!reattach_bounds(partition, get_attname(parent, info.key_attnum, false), &bound))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the bounds of table \"%s\" are not known", get_rel_name(partition)),
				 errdetail("It has no CHECK constraint that implies both of them."),
				 errhint("Use ALTER TABLE ... ATTACH PARTITION ... FOR VALUES FROM ... TO ....")));
	/* beyond SPI_finish(), which frees everything of this function */
	display = MemoryContextStrdup(context, partition_bound_display(info.key_type, &bound));
	identity_restore(&saved);

	identity_assume(&saved, info.owner);
	if (get_rel_namespace(partition) != get_rel_namespace(parent))
		(void) SPI_execute(psprintf("ALTER TABLE %s SET SCHEMA %s",
									partition_qualified_name(partition),
									quote_identifier(get_namespace_name(get_rel_namespace(parent)))),
						   false, 0);
	(void) SPI_execute(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)",
								partition_qualified_name(parent),
								partition_qualified_name(partition),
								partition_bound_literal(info.key_type, bound.lower),
								partition_bound_literal(info.key_type, bound.upper)),
					   false, 0);
	(void) SPI_execute(psprintf("COMMENT ON TABLE %s IS NULL", partition_qualified_name(partition)),
					   false, 0);
	fence_lower(partition);
	identity_restore(&saved);
	hold_partition(partition);
	SPI_finish();
	return display;
}
