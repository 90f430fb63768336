/*
 * unique_probe.c
 *		Looking for a row's values in the other partitions.
 *
 * Invariant: a row is written first and looked for afterwards, so of two
 * transactions that write equal rows at least one finds the other's. That needs
 * an up-to-date list of partitions after the row was written.
 *
 * The lock on a partition is held only while it is read: with all of them, one
 * insert would fill the table of locks. Its partitions can't go away meanwhile,
 * because the table is locked. Nothing is locked while another transaction is
 * waited for.
 */
#include "ddl/unique_probe.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "base/compat.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

typedef enum ProbeResult
{
	PROBE_NONE,
	PROBE_FOUND,
	PROBE_WAIT,					/* for the transaction that has the row */
	PROBE_CHANGED				/* what was known of the partition isn't true
								 * any more */
} ProbeResult;

typedef struct Probe
{
	ScanKeyData keys[INDEX_MAX_KEYS];
	int			nkeys;
	ItemPointer self;
	SnapshotData snapshot;
	TransactionId wait_for;
	uint32		speculative;
} Probe;

/* A live row with these values, as of right now. */
static ProbeResult
judge(Probe *probe)
{
	SnapshotData *snapshot = &probe->snapshot;

	probe->speculative = snapshot->speculativeToken;
	probe->wait_for = TransactionIdIsValid(snapshot->xmin) ? snapshot->xmin : snapshot->xmax;
	return TransactionIdIsValid(probe->wait_for) ? PROBE_WAIT : PROBE_FOUND;
}

/*
 * One look at an index. *seen becomes a number that tells the entries that were
 * there, all of dead rows, from others; 0: there were none.
 */
static ProbeResult
look_at_index(Probe *probe, Relation heap, Relation index, uint64 *seen)
{
	IndexScanDesc scan = sagaz_index_beginscan(heap, index, &probe->snapshot, probe->nkeys);
	TupleTableSlot *slot = NULL;
	ProbeResult result = PROBE_NONE;
	ItemPointer tid;

	*seen = 0;
	index_rescan(scan, probe->keys, probe->nkeys, NULL, 0);
	while (result == PROBE_NONE &&
		   (tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		if (probe->self != NULL && ItemPointerEquals(probe->self, tid))
			continue;
		*seen = *seen * 31 + (((uint64) ItemPointerGetBlockNumber(tid) << 16) |
							  ItemPointerGetOffsetNumber(tid));
		if (slot == NULL)
			slot = table_slot_create(heap, NULL);
		if (index_fetch_heap(scan, slot))
			result = judge(probe);
	}
	index_endscan(scan);
	if (slot != NULL)
		ExecDropSingleTupleTableSlot(slot);
	return result;
}

/*
 * A row that another transaction updates just now can be missed: its old version
 * was live when the index was read, and dead when the row was; the new version
 * wasn't in the index yet. So dead rows are believed only if a second look finds
 * the same ones: then they were dead before it began.
 */
static ProbeResult
probe_index(Probe *probe, Relation heap, Relation index)
{
	uint64		seen;
	uint64		before = 0;
	ProbeResult result;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		result = look_at_index(probe, heap, index, &seen);
		if (result != PROBE_NONE || seen == 0 || seen == before)
			return result;
		before = seen;
	}
}

static bool
row_matches(Probe *probe, TupleTableSlot *slot)
{
	for (int i = 0; i < probe->nkeys; i++)
	{
		ScanKey		key = &probe->keys[i];
		bool		isnull;
		Datum		value = slot_getattr(slot, key->sk_attno, &isnull);

		if (isnull || !DatumGetBool(FunctionCall2Coll(&key->sk_func, key->sk_collation,
													  value, key->sk_argument)))
			return false;
	}
	return true;
}

/* Every row of a partition that lacks the index: slow, but right. */
static ProbeResult
probe_rows(Probe *probe, Relation heap)
{
	TableScanDesc scan = table_beginscan(heap, &probe->snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(heap, NULL);
	ProbeResult result = PROBE_NONE;

	while (result == PROBE_NONE && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (probe->self != NULL && ItemPointerEquals(probe->self, &slot->tts_tid))
			continue;
		if (row_matches(probe, slot))
			result = judge(probe);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return result;
}

/* Whether an index has such an entry at all: mostly it hasn't, and the partition needn't be opened. */
static bool
has_entry(Probe *probe, Relation index)
{
	IndexScanDesc scan = sagaz_index_beginscan_bitmap(index, &probe->snapshot, probe->nkeys);
	bool		found;

	index_rescan(scan, probe->keys, probe->nkeys, NULL, 0);
	found = index_getnext_tid(scan, ForwardScanDirection) != NULL;
	index_endscan(scan);
	return found;
}

/* A partition that is locked and known, and has rows. */
static ProbeResult
probe_known(Probe *probe, const UniqueLeaf *leaf)
{
	ProbeResult result = PROBE_NONE;
	Relation	heap = NULL;
	Relation	index;

	if (!OidIsValid(leaf->index))
	{
		heap = RelationIdGetRelation(leaf->heap);
		result = probe_rows(probe, heap);
		RelationClose(heap);
		return result;
	}
	LockRelationOid(leaf->index, AccessShareLock);
	if (leaf->valid)
	{
		index = RelationIdGetRelation(leaf->index);
		if (has_entry(probe, index))
		{
			heap = RelationIdGetRelation(leaf->heap);
			result = probe_index(probe, heap, index);
			RelationClose(heap);
		}
		RelationClose(index);
	}
	else
		result = PROBE_CHANGED;
	UnlockRelationOid(leaf->index, AccessShareLock);
	return result;
}

/*
 * What isn't known of a locked partition; false if it isn't there any more. One
 * without a page has no row that was written before this look: a row that comes
 * later will find ours.
 */
static bool
learn(UniqueKey *key, UniqueLeaf *leaf)
{
	Relation	heap = RelationIdGetRelation(leaf->heap);

	if (heap == NULL)
		return false;
	if (!leaf->valid)
		unique_cache_load(key, leaf, heap);
	leaf->has_rows = RelationGetNumberOfBlocks(heap) > 0;
	RelationClose(heap);
	return leaf->valid;
}

static ProbeResult
probe_leaf(Probe *probe, UniqueKey *key, UniqueLeaf *leaf, const UniqueRow *row)
{
	ProbeResult result = PROBE_NONE;

	LockRelationOid(leaf->heap, AccessShareLock);
	if (!key->valid || (!(leaf->valid && leaf->has_rows) && !learn(key, leaf)))
	{
		UnlockRelationOid(leaf->heap, AccessShareLock);
		key->valid = false;
		return PROBE_CHANGED;
	}
	if (leaf->has_rows)
	{
		probe->self = leaf->heap == row->heap ? row->self : NULL;
		probe->nkeys = key->ncolumns;
		memcpy(probe->keys, leaf->keys, probe->nkeys * sizeof(ScanKeyData));
		for (int i = 0; i < probe->nkeys; i++)
		{
			probe->keys[i].sk_argument = row->values[leaf->order[i]];
			probe->keys[i].sk_func.fn_mcxt = CurrentMemoryContext;
		}
		result = probe_known(probe, leaf);
	}
	UnlockRelationOid(leaf->heap, AccessShareLock);
	return result;
}

/* What is to be known of a row's own partition, which its writer has locked. */
static void
load_own(UniqueKey *key, UniqueLeaf *own)
{
	Relation	heap;

	if (own->valid)
		return;
	heap = relation_open(own->heap, AccessShareLock);
	unique_cache_load(key, own, heap);
	relation_close(heap, NoLock);
}

/*
 * The list as of now. Until a transaction that has attached a partition commits,
 * others don't know of it: so that it may write there, they must not write.
 * NULL: the row's own partition isn't in the table any more.
 */
static UniqueLeaf *
prepare(UniqueKey *key, const UniqueRow *row)
{
	UniqueLeaf *own;

	LockRelationOid(key->table, RowExclusiveLock);
	pg_memory_barrier();
	AcceptInvalidationMessages();
	unique_cache_refresh(key);
	own = unique_cache_leaf(key, row->heap);
	if (own != NULL && TransactionIdIsValid(own->attached_by))
	{
		if (TransactionIdIsCurrentTransactionId(own->attached_by))
			LockRelationOid(key->table, ShareRowExclusiveLock);
		else
			own->attached_by = InvalidTransactionId;
	}
	if (own != NULL)
		load_own(key, own);
	return own;
}

/*
 * Whether an update that leaves the key as it is needs no look: the server sees to
 * the partition itself, or the partition isn't in the table any more.
 */
bool
unique_probe_has_index(UniqueKey *key, Oid heap)
{
	UniqueLeaf *own;

	unique_cache_refresh(key);
	own = unique_cache_leaf(key, heap);
	if (own == NULL)
		return true;
	load_own(key, own);
	return OidIsValid(own->index);
}

static void
wait_for_transaction(const Probe *probe)
{
	if (probe->speculative != 0)
		SpeculativeInsertionWait(probe->wait_for, probe->speculative);
	else
		XactLockTableWait(probe->wait_for, NULL, NULL, XLTW_None);
}

/* One round over all partitions; *found is the one with an equal row. */
static ProbeResult
probe_all(Probe *probe, UniqueKey *key, const UniqueRow *row, TimestampTz now, Oid *found)
{
	UniqueLeaf *own = prepare(key, row);
	CalTime		cutoff = unique_cache_cutoff(key, now);
	bool		own_is_checked;

	if (own == NULL || own->upper <= cutoff)
		return PROBE_NONE;
	own_is_checked = row->self != NULL && OidIsValid(own->index);
	for (int i = 0; i < key->nleaves; i++)
	{
		UniqueLeaf *leaf = key->leaves[i];
		ProbeResult result;

		if (leaf->upper <= cutoff || (leaf == own && own_is_checked))
			continue;
		result = probe_leaf(probe, key, leaf, row);
		*found = leaf->heap;
		if (result == PROBE_NONE && !key->valid)
			result = PROBE_CHANGED;
		if (result == PROBE_NONE || (result == PROBE_WAIT && row->self == NULL))
			continue;
		return result;
	}
	return PROBE_NONE;
}

/*
 * The partition that has a row equal to this one, or InvalidOid. A transaction
 * that has one is waited for.
 */
Oid
unique_probe(UniqueKey *key, const UniqueRow *row, TimestampTz now)
{
	Probe		probe;
	Oid			found;

	InitDirtySnapshot(probe.snapshot);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		switch (probe_all(&probe, key, row, now, &found))
		{
			case PROBE_NONE:
				return InvalidOid;
			case PROBE_FOUND:
				return found;
			case PROBE_WAIT:
				wait_for_transaction(&probe);
				break;
			case PROBE_CHANGED:
				break;
		}
	}
}

/*
 * "(a, b)=(1, 2)", or NULL if the current role may not see that: the server's own
 * rule for unique indexes, asked of the table.
 */
char *
unique_probe_describe(const UniqueKey *key, const Datum *values)
{
	StringInfoData names;
	StringInfoData texts;

	if (check_enable_rls(key->table, InvalidOid, true) == RLS_ENABLED)
		return NULL;
	initStringInfo(&names);
	initStringInfo(&texts);
	for (int i = 0; i < key->ncolumns; i++)
	{
		Oid			output;
		bool		varlena;

		if (pg_class_aclcheck(key->table, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
			pg_attribute_aclcheck(key->table, key->columns[i], GetUserId(), ACL_SELECT) != ACLCHECK_OK)
			return NULL;
		getTypeOutputInfo(get_atttype(key->table, key->columns[i]), &output, &varlena);
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 get_attname(key->table, key->columns[i], false));
		appendStringInfo(&texts, "%s%s", i > 0 ? ", " : "",
						 OidOutputFunctionCall(output, values[i]));
	}
	return psprintf("(%s)=(%s)", names.data, texts.data);
}
