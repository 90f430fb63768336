/*
 * unique_index.c
 *		The partitions of a table that have rows, and the index of each in which a
 *		unique key's values are looked for.
 *
 * Invariant: an index belongs to a unique key by its columns, never by its name:
 * any valid unique btree index on these columns alone, with the types' own
 * equality, will do. So what a user, a dump or a conversion has made counts.
 */
#include "ddl/unique_index.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_am.h"
#include "catalog/pg_inherits.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/*
 * Of two transactions that have attached something on the way to a partition, the
 * one that counts: this one, whatever its number, or the younger one.
 */
static TransactionId
that_counts(TransactionId above, TransactionId here)
{
	if (!TransactionIdIsValid(above))
		return here;
	if (!TransactionIdIsValid(here) || TransactionIdIsCurrentTransactionId(above))
		return above;
	if (TransactionIdIsCurrentTransactionId(here))
		return here;
	return TransactionIdFollows(above, here) ? above : here;
}

/* One level of partitions: appends to both lists. */
static void
add_children(Relation inherits, Oid table, const UniquePartition *above,
			 List **leaves, List **middle)
{
	List	   *below = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	ListCell   *cell;

	ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(table));
	scan = systable_beginscan(inherits, InheritsParentIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_inherits row = (Form_pg_inherits) GETSTRUCT(tuple);
		UniquePartition *part;
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

		if (row->inhdetachpending)
			continue;
		part = (UniquePartition *) palloc(sizeof(UniquePartition));
		part->relid = row->inhrelid;
		part->top = above ? above->top : row->inhrelid;
		part->attached_by = TransactionIdIsNormal(xmin) ? xmin : InvalidTransactionId;
		if (above)
			part->attached_by = that_counts(above->attached_by, part->attached_by);
		if (get_rel_relkind(part->relid) == RELKIND_PARTITIONED_TABLE)
			below = lappend(below, part);
		else
			*leaves = lappend(*leaves, part);
	}
	systable_endscan(scan);
	foreach(cell, below)
	{
		UniquePartition *part = (UniquePartition *) lfirst(cell);

		if (middle != NULL)
			*middle = lappend(*middle, part);
		add_children(inherits, part->relid, part, leaves, middle);
	}
}

/*
 * The partitions that have rows, and those in between, of UniquePartition *. By a
 * snapshot of right now, because pg_inherits has no cache: one whose detach is
 * pending is none of them, even for a transaction that still sees its rows.
 */
List *
unique_index_partitions(Oid table, List **middle)
{
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	List	   *leaves = NIL;

	add_children(inherits, table, NULL, &leaves, middle);
	table_close(inherits, AccessShareLock);
	return leaves;
}

/* The numbers that the table's columns have in a partition. */
void
unique_index_map_columns(Oid table, Oid partition, const AttrNumber *columns,
						 int n, AttrNumber *mapped)
{
	for (int i = 0; i < n; i++)
		mapped[i] = get_attnum(partition, get_attname(table, columns[i], false));
}

/* The column of the key that an index's column is; -1: none. */
static int
column_of(Relation heap, Relation index, int i, const AttrNumber *columns, int n)
{
	AttrNumber	attnum = index->rd_index->indkey.values[i];
	Form_pg_attribute attribute;
	TypeCacheEntry *type;
	Oid			equality;

	for (int c = 0; c < n; c++)
	{
		if (columns[c] != attnum)
			continue;
		attribute = TupleDescAttr(RelationGetDescr(heap), attnum - 1);
		type = lookup_type_cache(attribute->atttypid, TYPECACHE_EQ_OPR);
		equality = get_opfamily_member(index->rd_opfamily[i], index->rd_opcintype[i],
									   index->rd_opcintype[i], BTEqualStrategyNumber);
		return equality == type->eq_opr &&
			index->rd_indcollation[i] == attribute->attcollation ? c : -1;
	}
	return -1;
}

/* Whether an index is for these columns; if so, with which scan keys. */
static bool
index_fits(Relation heap, Relation index, const AttrNumber *columns, int n,
		   ScanKey keys, int *order)
{
	Form_pg_index row = index->rd_index;

	if (!row->indisunique || !row->indisvalid || !row->indisready || !row->indislive ||
		index->rd_rel->relam != BTREE_AM_OID || row->indnkeyatts != n ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL) ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < n; i++)
	{
		order[i] = column_of(heap, index, i, columns, n);
		if (order[i] < 0)
			return false;
	}
	for (int i = 0; keys != NULL && i < n; i++)
	{
		Oid			equality = get_opfamily_member(index->rd_opfamily[i], index->rd_opcintype[i],
												   index->rd_opcintype[i], BTEqualStrategyNumber);

		ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[i], get_opcode(equality), (Datum) 0);
	}
	return true;
}

/*
 * The index of a partition for these columns of it, or InvalidOid. keys, if
 * wanted, become the scan keys without values, keys[i] for column order[i];
 * their memory is the current context's. The partition is locked.
 */
Oid
unique_index_find(Relation heap, const AttrNumber *columns, int n, ScanKey keys, int *order)
{
	List	   *indexes = RelationGetIndexList(heap);
	int			scratch[INDEX_MAX_KEYS];
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = try_relation_open(lfirst_oid(cell), AccessShareLock);

		if (index == NULL)
			continue;
		if (index_fits(heap, index, columns, n, keys, order ? order : scratch))
			found = RelationGetRelid(index);
		relation_close(index, AccessShareLock);
		if (OidIsValid(found))
			break;
	}
	list_free(indexes);
	return found;
}

/* Keys with which rows are compared one by one, where there is no index. */
void
unique_index_equality(Relation heap, const AttrNumber *columns, int n,
					  ScanKey keys, int *order)
{
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(heap), columns[i] - 1);
		TypeCacheEntry *type = lookup_type_cache(attribute->atttypid, TYPECACHE_EQ_OPR);

		/* of a trigger that was made by hand: add_unique() has looked */
		if (!OidIsValid(type->eq_opr))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("could not identify an equality operator for type %s",
							format_type_be(attribute->atttypid)),
					 errhint("Make the trigger with sagaz_ha.add_unique().")));
		order[i] = i;
		ScanKeyEntryInitialize(&keys[i], 0, columns[i], BTEqualStrategyNumber, InvalidOid,
							   attribute->attcollation, get_opcode(type->eq_opr), (Datum) 0);
	}
}
