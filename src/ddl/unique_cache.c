/*
 * unique_cache.c
 *		What a session knows of a unique key: its columns, and in which index of
 *		which partition a value has to be looked for.
 *
 * Invariant: a change of the partitions or of a partition's indexes invalidates
 * what is known, by the server's messages. So does CREATE OR REPLACE TRIGGER, which
 * keeps the OID. A partition is in the list only when the transaction that
 * attached it has sent its messages: see wait_for_messages().
 *
 * The trigger is the definition. Its WHEN, "a and b aren't null", names the
 * columns, so they stay the same when they are renamed, and in a dump; its
 * argument is the key's within.
 */
#include "ddl/unique_cache.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/parent.h"
#include "catalog/pg_trigger.h"
#include "ddl/unique_index.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static MemoryContext cache_context = NULL;
static HTAB *clones = NULL;		/* of UniqueClone, by trigger */
static List *keys = NIL;		/* of UniqueKey * */

static bool
key_has(const UniqueKey *key, Oid relid)
{
	if (key->table == relid)
		return true;
	for (int i = 0; i < key->nmiddle; i++)
		if (key->middle[i] == relid)
			return true;
	return false;
}

/* A table or an index has changed; InvalidOid: anything may have. */
static void
invalidate(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	UniqueClone *clone;
	ListCell   *cell;

	if (clones != NULL)
	{
		hash_seq_init(&scan, clones);
		while ((clone = (UniqueClone *) hash_seq_search(&scan)) != NULL)
			if (!OidIsValid(relid) || clone->heap == relid)
				clone->heap = InvalidOid;
	}
	foreach(cell, keys)
	{
		UniqueKey  *key = (UniqueKey *) lfirst(cell);

		if (!OidIsValid(relid) || key_has(key, relid))
		{
			key->current = false;
			key->valid = false;
			key->changes++;
		}
		for (int i = 0; i < key->nleaves; i++)
		{
			UniqueLeaf *leaf = key->leaves[i];

			if (!OidIsValid(relid) || leaf->heap == relid || leaf->index == relid)
			{
				leaf->valid = false;
				leaf->changes++;
			}
		}
	}
}

static void
begin_cache(void)
{
	HASHCTL		ctl = {0};

	if (clones != NULL)
		return;
	if (cache_context == NULL)
	{
		cache_context = AllocSetContextCreate(CacheMemoryContext, "sagaz_ha unique keys",
											  ALLOCSET_DEFAULT_SIZES);
		CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
	}
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(UniqueClone);
	ctl.hcxt = cache_context;
	clones = hash_create("sagaz_ha unique triggers", 64, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

typedef struct Columns
{
	int			n;
	AttrNumber *numbers;
} Columns;

static bool
add_column(Node *node, void *context)
{
	Columns    *columns = (Columns *) context;

	if (node == NULL)
		return false;
	if (IsA(node, Var) && columns->n < INDEX_MAX_KEYS)
	{
		columns->numbers[columns->n++] = ((Var *) node)->varattno;
		return false;
	}
	return expression_tree_walker(node, add_column, context);
}

/* The columns that a trigger's WHEN names, in their order. */
static int
columns_of(const char *qual, AttrNumber *numbers)
{
	Columns		columns = {0, numbers};

	bool		known = true;

	if (qual != NULL)
		(void) add_column((Node *) stringToNode(qual), &columns);
	/* neither the row as a whole nor a system column */
	for (int i = 0; i < columns.n; i++)
		known = known && numbers[i] > 0;
	if (columns.n == 0 || !known)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("the trigger's WHEN must name the columns of the unique key"),
				 errhint("Make the trigger with sagaz_ha.add_unique().")));
	return columns.n;
}

/* What pg_trigger says of one. */
typedef struct TriggerRow
{
	Oid			parent;
	Oid			table;
	char	   *qual;
	char	   *argument;		/* the first; NULL: none */
} TriggerRow;

static bool
read_trigger(Oid trigger, TriggerRow *result)
{
	Relation	triggers = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	memset(result, 0, sizeof(*result));
	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(triggers, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		Form_pg_trigger row = (Form_pg_trigger) GETSTRUCT(tuple);
		TupleDesc	desc = RelationGetDescr(triggers);
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_trigger_tgqual, desc, &isnull);

		result->parent = row->tgparentid;
		result->table = row->tgrelid;
		if (!isnull)
			result->qual = TextDatumGetCString(value);
		value = heap_getattr(tuple, Anum_pg_trigger_tgargs, desc, &isnull);
		if (!isnull && row->tgnargs > 0)
			result->argument = pstrdup(VARDATA_ANY(DatumGetByteaPP(value)));
	}
	systable_endscan(scan);
	table_close(triggers, AccessShareLock);
	return found;
}

static void
read_within(UniqueKey *key, const char *argument)
{
	Interval   *within;

	if (argument == NULL || argument[0] == '\0')
		return;
	within = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(argument),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
	key->has_within = true;
	key->within.months = within->month;
	key->within.days = within->day;
	key->within.usec = within->time;
}

static bool
same_definition(const UniqueKey *a, const UniqueKey *b)
{
	return a->table == b->table && a->ncolumns == b->ncolumns &&
		memcmp(a->columns, b->columns, sizeof(AttrNumber) * a->ncolumns) == 0 &&
		a->has_within == b->has_within &&
		a->within.months == b->within.months && a->within.days == b->within.days &&
		a->within.usec == b->within.usec;
}

/* The key of a table's own trigger, or NULL if that is gone. */
UniqueKey *
unique_cache_key(Oid trigger)
{
	UniqueKey	key = {.trigger = trigger};
	UniqueKey  *kept = NULL;
	uint64		changes = 0;
	TriggerRow	row;
	MemoryContext context;
	ListCell   *cell;

	begin_cache();
	foreach(cell, keys)
	{
		if (((UniqueKey *) lfirst(cell))->trigger == trigger)
			kept = (UniqueKey *) lfirst(cell);
	}
	if (kept != NULL)
	{
		if (kept->current)
			return kept;
		changes = kept->changes;
	}
	if (!read_trigger(trigger, &row))
		return NULL;
	key.table = row.table;
	key.ncolumns = columns_of(row.qual, key.columns);
	read_within(&key, row.argument);
	if (kept != NULL)
	{
		kept->current = kept->changes == changes;
		if (same_definition(kept, &key))
			return kept;
		/* not in its place: who is looking for a row may be using it */
		kept->trigger = InvalidOid;
	}
	context = MemoryContextSwitchTo(cache_context);
	kept = (UniqueKey *) palloc(sizeof(UniqueKey));
	*kept = key;
	keys = lappend(keys, kept);
	MemoryContextSwitchTo(context);
	return kept;
}

/* A partition's columns are those of the table, or values would be taken for other types. */
static void
require_same_columns(const UniqueClone *clone, int n)
{
	bool		same = n == clone->key->ncolumns;

	for (int i = 0; same && i < n; i++)
		same = get_atttype(clone->heap, clone->columns[i]) ==
			get_atttype(clone->key->table, clone->key->columns[i]);
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("the trigger's WHEN must name the columns of the unique key"),
				 errhint("Make the trigger with sagaz_ha.add_unique().")));
}

/* What the trigger of a partition stands for. */
UniqueClone *
unique_cache_clone(Oid heap, const Trigger *trigger)
{
	UniqueClone *clone;
	UniqueClone made = {trigger->tgoid, heap};
	TriggerRow	row;
	Oid			top = trigger->tgoid;
	int			n;

	begin_cache();
	clone = (UniqueClone *) hash_search(clones, &trigger->tgoid, HASH_FIND, NULL);
	if (clone != NULL && clone->heap == heap && clone->key->current)
		return clone;
	n = columns_of(trigger->tgqual, made.columns);
	while (read_trigger(top, &row) && OidIsValid(row.parent))
		top = row.parent;
	made.key = unique_cache_key(top);
	if (made.key == NULL)
		elog(ERROR, "trigger %u does not exist", top);
	require_same_columns(&made, n);
	clone = (UniqueClone *) hash_search(clones, &trigger->tgoid, HASH_ENTER, NULL);
	*clone = made;
	return clone;
}

/*
 * A partition that this session learns of may have been attached by a
 * transaction that is committed, but has not yet sent its messages. A session
 * that inserts an equal row elsewhere then still has the list without it, and
 * this one would be done looking for that row before it is written: neither
 * would see the other. A transaction's lock on itself goes after its messages.
 */
static void
wait_for_messages(TransactionId *attached_by)
{
	if (!TransactionIdIsValid(*attached_by) ||
		TransactionIdIsCurrentTransactionId(*attached_by))
		return;
	XactLockTableWait(*attached_by, NULL, NULL, XLTW_None);
	*attached_by = InvalidTransactionId;
}

/* A partition as it is known already, or a new one. */
static UniqueLeaf *
keep_leaf(UniqueKey *key, const UniquePartition *part)
{
	UniqueLeaf *leaf = unique_cache_leaf(key, part->relid);
	bool		is_new = leaf == NULL;

	if (is_new)
	{
		leaf = (UniqueLeaf *) MemoryContextAllocZero(cache_context, sizeof(UniqueLeaf) +
													 key->ncolumns * (sizeof(ScanKeyData) + sizeof(int)));
		leaf->keys = (ScanKey) (leaf + 1);
		leaf->order = (int *) (leaf->keys + key->ncolumns);
		leaf->heap = part->relid;
	}
	/* one that was detached in between, and attached again, is as good as new */
	if (is_new || TransactionIdIsValid(leaf->attached_by) || leaf->attached_last != part->attached_by)
		leaf->attached_by = part->attached_by;
	leaf->attached_last = part->attached_by;
	leaf->top = part->top;
	leaf->upper = CAL_INFINITY;
	leaf->listed = true;
	return leaf;
}

/* The upper bounds, which tell what lies beyond the key's within. */
static void
read_bounds(UniqueKey *key, UniqueLeaf **leaves, int n)
{
	Relation	rel;
	ParentInfo	info;
	ParentProblem problem;
	List	   *policies;

	if (!key->has_within)
		return;
	rel = table_open(key->table, AccessShareLock);
	if (parent_read(rel, &info, &problem))
	{
		key->kind = info.kind;
		policies = policy_load(key->table);
		if (policies != NIL)
			key->zone.tz = ((Policy *) linitial(policies))->tz;
		if (key->zone.tz == NULL)
			key->zone.tz = policy_time_zone("UTC");
		for (int i = 0; i < n; i++)
		{
			int			at = parent_find(&info, leaves[i]->top);

			if (at >= 0)
				leaves[i]->upper = info.bounds[at].upper;
		}
	}
	table_close(rel, AccessShareLock);
}

/* Puts new lists in place of the old ones. Nothing here can fail. */
static void
replace_lists(UniqueKey *key, UniqueLeaf **leaves, int nleaves, Oid *middle, int nmiddle)
{
	UniqueLeaf **old = key->leaves;
	int			nold = key->nleaves;
	Oid		   *old_middle = key->middle;

	key->leaves = leaves;
	key->nleaves = nleaves;
	key->middle = middle;
	key->nmiddle = nmiddle;
	for (int i = 0; i < nold; i++)
		if (!old[i]->listed)
			pfree(old[i]);
	if (old != NULL)
		pfree(old);
	if (old_middle != NULL)
		pfree(old_middle);
}

static void
make_lists(UniqueKey *key)
{
	List	   *below = NIL;
	List	   *parts = unique_index_partitions(key->table, &below);
	int			n = list_length(parts);
	UniqueLeaf **leaves = (UniqueLeaf **)
		MemoryContextAlloc(cache_context, sizeof(UniqueLeaf *) * Max(n, 1));
	Oid		   *middle = (Oid *)
		MemoryContextAlloc(cache_context, sizeof(Oid) * Max(list_length(below), 1));

	for (int i = 0; i < key->nleaves; i++)
		key->leaves[i]->listed = false;
	for (int i = 0; i < n; i++)
		leaves[i] = keep_leaf(key, (UniquePartition *) list_nth(parts, i));
	for (int i = 0; i < list_length(below); i++)
		middle[i] = ((UniquePartition *) list_nth(below, i))->relid;
	replace_lists(key, leaves, n, middle, list_length(below));
	for (int i = 0; i < n; i++)
		wait_for_messages(&leaves[i]->attached_by);
	for (int i = 0; i < list_length(below); i++)
		wait_for_messages(&((UniquePartition *) list_nth(below, i))->attached_by);
	read_bounds(key, leaves, n);
}

/*
 * Brings the list of partitions up to date. In the caller's context, of which it
 * leaves garbage.
 */
void
unique_cache_refresh(UniqueKey *key)
{
	while (!key->valid)
	{
		uint64		changes = key->changes;

		make_lists(key);
		key->valid = key->changes == changes;
	}
}

/* A partition that is in the list, or NULL. */
UniqueLeaf *
unique_cache_leaf(const UniqueKey *key, Oid heap)
{
	for (int i = 0; i < key->nleaves; i++)
		if (key->leaves[i]->heap == heap)
			return key->leaves[i];
	return NULL;
}

/* Reads what is to be known of a partition, which is open and locked. */
void
unique_cache_load(const UniqueKey *key, UniqueLeaf *leaf, Relation heap)
{
	AttrNumber	columns[INDEX_MAX_KEYS];
	uint64		changes = leaf->changes;

	leaf->has_rows = false;
	unique_index_map_columns(key->table, leaf->heap, key->columns, key->ncolumns, columns);
	leaf->index = unique_index_find(heap, columns, key->ncolumns, leaf->keys, leaf->order);
	if (!OidIsValid(leaf->index))
		unique_index_equality(heap, columns, key->ncolumns, leaf->keys, leaf->order);
	leaf->valid = leaf->changes == changes;
}

/* What ends before this time is beyond the key's within. */
CalTime
unique_cache_cutoff(const UniqueKey *key, TimestampTz now)
{
	PlanPolicy	plan;
	CalTime		cutoff;

	if (!key->has_within || key->kind == NULL)
		return CAL_MINUS_INFINITY;
	policy_plan(&key->zone, key->kind, &plan);
	if (!cal_add(&plan.cal, policy_key_time(&key->zone, key->kind, now),
				 &key->within, -1, &cutoff))
		return CAL_MINUS_INFINITY;
	return cutoff;
}
