/*
 * bounds_check.c
 *		The CHECK constraint that a partition's bounds imply.
 *
 * Invariant: it is there before a table is attached, so that ATTACH needs no
 * scan; and on a table that was detached, so that its bounds stay known.
 */
#include "ddl/bounds_check.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/pg_constraint.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

typedef struct BoundSearch
{
	const KeyKind *kind;
	AttrNumber	attnum;
	KeyRange	range;
	bool		has_lower;
	bool		has_upper;
} BoundSearch;

/* A varchar is compared as text. */
static Node *
without_relabel(Node *node)
{
	return IsA(node, RelabelType) ? (Node *) ((RelabelType *) node)->arg : node;
}

static void
take_bound(BoundSearch *search, int strategy, const Const *value)
{
	if (value->constisnull || !key_is_same_type(search->kind, value->consttype))
		return;
	if (strategy == BTGreaterEqualStrategyNumber)
	{
		search->range.lower = value->constvalue;
		search->has_lower = true;
	}
	else if (strategy == BTLessStrategyNumber)
	{
		search->range.upper = value->constvalue;
		search->has_upper = true;
	}
}

/* Comparisons that all must hold: below an OR or a function, one implies nothing. */
static void
find_bounds(Node *node, BoundSearch *search)
{
	OpExpr	   *op = (OpExpr *) node;
	Node	   *left;
	Node	   *right;

	if (is_andclause(node))
	{
		ListCell   *cell;

		foreach(cell, ((BoolExpr *) node)->args)
			find_bounds((Node *) lfirst(cell), search);
	}
	if (!IsA(node, OpExpr) || list_length(op->args) != 2)
		return;
	left = without_relabel((Node *) linitial(op->args));
	right = without_relabel((Node *) lsecond(op->args));
	if (IsA(left, Var) && IsA(right, Const) && ((Var *) left)->varattno == search->attnum)
		take_bound(search, get_op_opfamily_strategy(op->opno, search->kind->opfamily),
				   (const Const *) right);
}

/* The bounds that a table's CHECK constraints imply, validated or not; false if none do. */
bool
bounds_check_find(Oid partition, const char *key_name, const KeyKind *kind, KeyRange *range)
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
		BoundSearch search = {kind, attnum};
		bool		isnull;
		Datum		bin = heap_getattr(tuple, Anum_pg_constraint_conbin,
									   RelationGetDescr(constraints), &isnull);

		if (isnull || ((Form_pg_constraint) GETSTRUCT(tuple))->contype != CONSTRAINT_CHECK)
			continue;
		find_bounds(stringToNode(TextDatumGetCString(bin)), &search);
		found = search.has_lower && search.has_upper;
		*range = search.range;
		range->lower_kind = range->upper_kind = PARTITION_RANGE_DATUM_VALUE;
	}
	systable_endscan(scan);
	table_close(constraints, AccessShareLock);
	return found;
}

/* CONSTRAINT … CHECK (…), for a statement. */
char *
bounds_check_clause(const char *key_name, const KeyKind *kind, const KeyRange *range)
{
	const char *column = quote_identifier(key_name);

	return psprintf("CONSTRAINT sagaz_ha_bounds CHECK (%s IS NOT NULL AND %s >= %s AND %s < %s)",
					column, column, key_datum_literal(kind, range->lower),
					column, key_datum_literal(kind, range->upper));
}

/*
 * Gives a partition that is about to become a table by itself the CHECK, if it
 * has none. Not validated, because that would be a scan under a lock. Inside
 * SPI, as the owner.
 */
void
bounds_check_remember(Oid partition, const char *key_name, const KeyKind *kind,
					  const KeyRange *range)
{
	KeyRange	known;

	if (range->lower_kind != PARTITION_RANGE_DATUM_VALUE ||
		range->upper_kind != PARTITION_RANGE_DATUM_VALUE ||
		bounds_check_find(partition, key_name, kind, &known))
		return;
	sql_run(psprintf("ALTER TABLE %s ADD %s NOT VALID", names_qualified(partition),
					 bounds_check_clause(key_name, kind, range)));
}
