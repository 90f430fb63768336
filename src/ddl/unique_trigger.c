/*
 * unique_trigger.c
 *		The two triggers of a unique key, when they fire.
 *
 * Invariant: the constraint trigger raises unique_violation only for a duplicate
 * that is committed, or this transaction's own. The other one drops a row only if
 * it was inserted, never one that an UPDATE moves from another partition: that is
 * deleted there by then.
 */
#include "ddl/unique_trigger.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "base/compat.h"
#include "ddl/unique_cache.h"
#include "ddl/unique_probe.h"
#include "executor/tuptable.h"
#include "replication/logicalworker.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* The last row that an UPDATE was about to write, and the last one that it moved. */
static struct
{
	ItemPointerData updating;
	Oid			updating_in;
	TimestampTz moved_at;		/* start of the client's statement */
	LocalTransactionId moved_by;
}			moves;

/* The key's values of a row; false if one is null. */
static bool
read_values(const UniqueClone *clone, TupleTableSlot *slot, Datum *values)
{
	for (int i = 0; i < clone->key->ncolumns; i++)
	{
		bool		isnull;

		values[i] = slot_getattr(slot, clone->columns[i], &isnull);
		if (isnull)
			return false;
	}
	return true;
}

/* Whether an UPDATE leaves the key as it is, byte by byte. */
static bool
is_unchanged(const UniqueClone *clone, TupleTableSlot *old, const Datum *values)
{
	for (int i = 0; i < clone->key->ncolumns; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(old->tts_tupleDescriptor,
													clone->columns[i] - 1);
		bool		isnull;
		Datum		value = slot_getattr(old, clone->columns[i], &isnull);

		if (isnull || !datum_image_eq(value, values[i], attribute->attbyval, attribute->attlen))
			return false;
	}
	return true;
}

/*
 * Whether the row still has these values. What fires before this trigger may have
 * moved, changed or deleted it, and a version that came of that has been checked
 * by itself, but for one that has the same values in the same partition.
 */
static bool
is_still_there(const UniqueClone *clone, Relation rel, ItemPointer written, const Datum *values)
{
	TableScanDesc scan = table_beginscan_tid(rel, SnapshotSelf);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ItemPointerData tid = *written;
	bool		result;

	table_tuple_get_latest_tid(scan, &tid);
	table_endscan(scan);
	result = table_tuple_fetch_row_version(rel, &tid, SnapshotSelf, slot) &&
		is_unchanged(clone, slot, values);
	ExecDropSingleTupleTableSlot(slot);
	return result;
}

static void
refuse(const UniqueKey *key, Relation rel, const char *name, const Datum *values, Oid found)
{
	char	   *value = unique_probe_describe(key, values);

	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("duplicate key value violates unique constraint \"%s\"", name),
			 value != NULL ?
			 errdetail("Key %s already exists in partition \"%s\".", value, get_rel_name(found)) : 0,
			 errtableconstraint(rel, name)));
}

/* The constraint trigger, on a row of a partition that is written. */
void
unique_trigger_check(TriggerData *data, TimestampTz now)
{
	Trigger    *trigger = data->tg_trigger;
	Oid			heap = RelationGetRelid(data->tg_relation);
	bool		is_update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	TupleTableSlot *slot = is_update ? data->tg_newslot : data->tg_trigslot;
	UniqueClone *clone = unique_cache_clone(heap, trigger);
	Datum		values[INDEX_MAX_KEYS];
	UniqueRow	row = {heap, &slot->tts_tid, values};
	Oid			found;

	if (!read_values(clone, slot, values))
		return;
	if (is_update && is_unchanged(clone, data->tg_trigslot, values) &&
		unique_probe_has_index(clone->key, heap))
		return;
	found = unique_probe(clone->key, &row, now);
	if (OidIsValid(found) && is_still_there(clone, data->tg_relation, &slot->tts_tid, values))
		refuse(clone->key, data->tg_relation, trigger->tgname, values, found);
}

static const Trigger *
find_trigger(Relation rel, const char *name)
{
	for (int i = 0; i < rel->trigdesc->numtriggers; i++)
		if (strcmp(rel->trigdesc->triggers[i].tgname, name) == 0)
			return &rel->trigdesc->triggers[i];
	return NULL;
}

/*
 * A row is first updated, then deleted, and then inserted where it belongs now.
 * A subscriber deletes and inserts it.
 */
static void
note_move(const TriggerData *data)
{
	ItemPointer tid = &data->tg_trigtuple->t_self;

	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		moves.updating = *tid;
		moves.updating_in = RelationGetRelid(data->tg_relation);
	}
	else if (IsLogicalWorker() ||
			 (moves.updating_in == RelationGetRelid(data->tg_relation) &&
			  ItemPointerEquals(&moves.updating, tid)))
	{
		moves.moved_at = GetCurrentStatementStartTimestamp();
		moves.moved_by = sagaz_local_xid();
	}
}

/*
 * The trigger BEFORE a row is written: false if the row is a duplicate to be
 * dropped. The constraint trigger, which its argument names, knows the key.
 */
bool
unique_trigger_keeps(TriggerData *data, TimestampTz now)
{
	Relation	rel = data->tg_relation;
	const Trigger *constraint;
	UniqueClone *clone;
	Datum		values[INDEX_MAX_KEYS];
	UniqueRow	row = {RelationGetRelid(rel), NULL, values};

	if (!TRIGGER_FIRED_BY_INSERT(data->tg_event))
	{
		note_move(data);
		return true;
	}
	if (moves.moved_at == GetCurrentStatementStartTimestamp() &&
		moves.moved_by == sagaz_local_xid())
		return true;
	constraint = data->tg_trigger->tgnargs < 1 ? NULL :
		find_trigger(rel, data->tg_trigger->tgargs[0]);
	if (constraint == NULL)
		return true;
	clone = unique_cache_clone(RelationGetRelid(rel), constraint);
	return !read_values(clone, data->tg_trigslot, values) ||
		!OidIsValid(unique_probe(clone->key, &row, now));
}
