/*
 * unique_look.c
 *		Looking for duplicates among rows that exist.
 *
 * Invariant: a look at a whole table takes no lock but a reader's. It is made when
 * new rows are checked already, by a snapshot that is younger than that.
 *
 * A partition that is attached is looked at in the same transaction. If it has
 * rows, nobody else writes to the table until that ends: until then others
 * don't know of it, and couldn't look there.
 */
#include "ddl/unique_look.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "catalog/namespace.h"
#include "ddl/unique.h"
#include "ddl/unique_cache.h"
#include "ddl/unique_index.h"
#include "ddl/unique_probe.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* How many duplicates an error lists. */
#define MAX_LISTED	10

/* The condition for rows of partitions that are within; "" if all are. */
static char *
within_condition(Oid table, const char *name, TimestampTz now)
{
	Relation	rel = table_open(table, AccessShareLock);
	ListCell   *cell;
	char	   *condition = "";

	foreach(cell, unique_triggers(rel))
	{
		const Trigger *trigger = (const Trigger *) lfirst(cell);
		UniqueKey  *key = strcmp(trigger->tgname, name) == 0 ?
			unique_cache_key(trigger->tgoid) : NULL;
		ParentInfo	info;
		CalTime		cutoff;

		if (key == NULL || !key->has_within)
			continue;
		unique_cache_refresh(key);
		cutoff = unique_cache_cutoff(key, now);
		parent_require(rel, &info);
		for (int i = 0; i < info.nparts; i++)
		{
			if (info.bounds[i].upper <= cutoff)
				continue;
			if (cal_is_finite(info.bounds[i].lower))
			{
				const char *column = quote_identifier(parent_key_name(&info));

				condition = psprintf(" AND (%s >= %s OR %s IS NULL)", column,
									 key_literal(info.kind, info.bounds[i].lower), column);
			}
			break;
		}
	}
	table_close(rel, AccessShareLock);
	return condition;
}

/* SELECT of values that a table has more than once: value, times, partitions. */
static char *
duplicates_query(Oid table, List *columns, const char *condition)
{
	StringInfoData sql;
	StringInfoData list;
	StringInfoData texts;
	StringInfoData not_null;
	ListCell   *cell;

	initStringInfo(&sql);
	initStringInfo(&list);
	initStringInfo(&texts);
	initStringInfo(&not_null);
	foreach(cell, columns)
	{
		const char *column = quote_identifier((char *) lfirst(cell));
		bool		first = foreach_current_index(cell) == 0;

		appendStringInfo(&list, "%s%s", first ? "" : ", ", column);
		appendStringInfo(&texts, "%s%s::pg_catalog.text", first ? "" : ", ", column);
		appendStringInfo(&not_null, "%s%s IS DISTINCT FROM NULL", first ? "" : " AND ", column);
	}
	appendStringInfo(&sql,
					 "SELECT pg_catalog.concat('(', %s, ')=(', pg_catalog.concat_ws(', ', %s), ')'),"
					 " pg_catalog.count(*),"
					 " pg_catalog.string_agg(DISTINCT tableoid::pg_catalog.regclass::pg_catalog.text, ', ')"
					 " FROM %s WHERE %s%s GROUP BY %s HAVING pg_catalog.count(*) > 1 LIMIT %d",
					 quote_literal_cstr(list.data), texts.data, names_qualified(table),
					 not_null.data, condition, list.data, MAX_LISTED + 1);
	return sql.data;
}

/* The rows of the last result, for people. Inside SPI. */
static char *
list_duplicates(uint64 n)
{
	StringInfoData text;

	initStringInfo(&text);
	for (uint64 i = 0; i < Min(n, MAX_LISTED); i++)
		appendStringInfo(&text, "%sKey %s is there %s times, in %s.", i > 0 ? "\n" : "",
						 sql_text(i, 1), sql_text(i, 2), sql_text(i, 3));
	if (n > MAX_LISTED)
		appendStringInfoString(&text, "\nThere are more.");
	return text.data;
}

static Oid
owner_of(Oid table)
{
	Relation	rel = table_open(table, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	table_close(rel, NoLock);
	return owner;
}

/*
 * Whether at most one partition has a page. New rows are
 * checked already, or kept out, so a partition without a page has no other rows.
 */
bool
unique_look_is_needless(Oid table)
{
	int			found = 0;
	ListCell   *cell;

	foreach(cell, unique_index_partitions(table, NULL))
	{
		Relation	rel = try_relation_open(((UniquePartition *) lfirst(cell))->relid, AccessShareLock);

		if (rel == NULL)
			continue;
		found += RelationGetNumberOfBlocks(rel) > 0;
		relation_close(rel, NoLock);
	}
	return found <= 1;
}

/*
 * Fails, and lists some, if rows that exist have equal columns, which are called
 * so now. By a snapshot of right now. If they are all in one partition, its index
 * has seen to that: so nothing is read in a table that has just been converted.
 */
void
unique_look(const UniqueKeyRow *row, List *columns, TimestampTz now)
{
	char	   *condition = within_condition(row->parent, row->name, now);
	SqlSession	session;
	uint64		n;

	if (unique_missing(row->parent, columns) == NIL && unique_look_is_needless(row->parent))
		return;
	sql_begin(&session, owner_of(row->parent));
	n = sql_execute_latest(NULL, duplicates_query(row->parent, columns, condition), NULL);
	if (n > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("table %s has duplicates of unique constraint \"%s\"",
						names_display(row->parent), row->name),
				 errdetail("%s", list_duplicates(n)),
				 errhint("Delete the surplus rows, then call sagaz_ha.add_unique() again.")));
	sql_end(&session);
}

static void
refuse_partition(Oid table, Oid partition, const char *name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("table %s can't be a partition of table %s because of unique constraint \"%s\"",
					names_display(partition), names_display(table), name),
			 errdetail("%s", detail),
			 errhint("Delete the duplicates, and attach it again.")));
}

/* Duplicates within a partition, which its index would refuse without saying whose they are. */
static void
look_inside(const UniqueKey *key, Oid partition, const char *name)
{
	List	   *columns = unique_column_names(key->table, key->columns, key->ncolumns);
	SqlSession	session;
	uint64		n;

	sql_begin(&session, owner_of(partition));
	n = sql_execute_latest(NULL, duplicates_query(partition, columns, ""), NULL);
	if (n > 0)
		refuse_partition(key->table, partition, name, list_duplicates(n));
	sql_end(&session);
}

/* Looks for one row of a new partition in the others. */
static void
look_for_row(UniqueKey *key, Oid partition, const char *name, TupleTableSlot *slot,
			 const AttrNumber *columns, TimestampTz now)
{
	Datum		values[INDEX_MAX_KEYS];
	UniqueRow	row = {partition, &slot->tts_tid, values};
	Oid			found;

	for (int i = 0; i < key->ncolumns; i++)
	{
		bool		isnull;

		values[i] = slot_getattr(slot, columns[i], &isnull);
		if (isnull)
			return;
	}
	found = unique_probe(key, &row, now);
	if (OidIsValid(found))
	{
		const char *value = unique_probe_describe(key, values);

		refuse_partition(key->table, partition, name,
						 psprintf("Key %s already exists in partition %s.",
								  value ? value : "of a row", names_display(found)));
	}
}

/* Looks for every row of a new partition in the others. */
static void
look_for_rows(UniqueKey *key, Relation partition, const char *name, TimestampTz now)
{
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "sagaz_ha row",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext context;
	AttrNumber	columns[INDEX_MAX_KEYS];
	TupleTableSlot *slot = table_slot_create(partition, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(partition, snapshot, 0, NULL);

	unique_index_map_columns(key->table, RelationGetRelid(partition), key->columns,
							 key->ncolumns, columns);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		context = MemoryContextSwitchTo(each);
		look_for_row(key, RelationGetRelid(partition), name, slot, columns, now);
		MemoryContextSwitchTo(context);
		MemoryContextReset(each);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(each);
}

/* A partition that this transaction has attached. */
static void
admit(UniqueKey *key, Oid partition, const char *name, TimestampTz now)
{
	Relation	rel = relation_open(partition, AccessShareLock);
	bool		has_rows = RelationGetNumberOfBlocks(rel) > 0;
	Oid			owner = rel->rd_rel->relowner;
	SqlSession	session;

	relation_close(rel, NoLock);
	if (!unique_probe_has_index(key, partition))
	{
		if (has_rows)
			look_inside(key, partition, name);
		unique_build(partition, owner,
					 unique_column_names(key->table, key->columns, key->ncolumns));
	}
	if (!has_rows)
		return;
	/* writers wait for it, and behind it */
	sql_begin(&session, GetUserId());
	identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
	LockRelationOid(key->table, ShareRowExclusiveLock);
	sql_end(&session);
	rel = relation_open(partition, AccessShareLock);
	look_for_rows(key, rel, name, now);
	relation_close(rel, NoLock);
}

static void
admit_all(UniqueKey *key, const char *name, TimestampTz now)
{
	List	   *partitions = NIL;
	ListCell   *cell;

	unique_cache_refresh(key);
	for (int i = 0; i < key->nleaves; i++)
	{
		UniqueLeaf *leaf = key->leaves[i];

		if (TransactionIdIsValid(leaf->attached_by) &&
			TransactionIdIsCurrentTransactionId(leaf->attached_by))
			partitions = lappend_oid(partitions, leaf->heap);
	}
	foreach(cell, partitions)
		admit(key, lfirst_oid(cell), name, now);
}

typedef struct NamedKey
{
	UniqueKey  *key;
	char	   *name;
} NamedKey;

/* The keys that a table has, of its own or of the table that it is a partition of. */
static List *
keys_of(Oid table)
{
	Relation	rel = try_relation_open(table, AccessShareLock);
	List	   *result = NIL;
	ListCell   *cell;

	if (rel == NULL)
		return NIL;
	foreach(cell, unique_triggers(rel))
	{
		const Trigger *trigger = (const Trigger *) lfirst(cell);
		NamedKey   *named = (NamedKey *) palloc(sizeof(NamedKey));

		named->key = unique_cache_clone(table, trigger)->key;
		named->name = pstrdup(trigger->tgname);
		result = lappend(result, named);
	}
	relation_close(rel, NoLock);
	return result;
}

/* Gives a new table the indexes that it needs before it is attached. It is empty. */
void
unique_look_prepare(Oid table, Oid partition)
{
	ListCell   *cell;

	/* what a partition with partitions needs comes when it is attached */
	if (get_rel_relkind(partition) != RELKIND_RELATION)
		return;

	foreach(cell, keys_of(table))
	{
		const UniqueKey *key = ((NamedKey *) lfirst(cell))->key;

		unique_build(partition, owner_of(partition),
					 unique_column_names(key->table, key->columns, key->ncolumns));
	}
}

/* The table whose partitions a statement may have added to; InvalidOid: none. */
static Oid
table_of(Node *statement)
{
	RangeVar   *name;
	Oid			relid;

	if (IsA(statement, CreateStmt) && ((CreateStmt *) statement)->partbound != NULL)
		name = ((CreateStmt *) statement)->relation;
	else if (IsA(statement, AlterTableStmt))
		name = ((AlterTableStmt *) statement)->relation;
	else
		return InvalidOid;
	relid = RangeVarGetRelid(name, NoLock, true);
	if (!OidIsValid(relid))
		return InvalidOid;
	if (IsA(statement, CreateStmt))
		return get_rel_relispartition(relid) ? get_partition_parent(relid, true) : InvalidOid;
	return get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE ? relid : InvalidOid;
}

/* After CREATE TABLE and ALTER TABLE: a new partition gets its indexes, or is refused. */
void
unique_look_after_ddl(Node *statement, TimestampTz now)
{
	Oid			table = table_of(statement);
	ListCell   *cell;

	if (!OidIsValid(table))
		return;
	foreach(cell, keys_of(table))
	{
		NamedKey   *named = (NamedKey *) lfirst(cell);

		admit_all(named->key, named->name, now);
	}
}
