/*
 * unique.c
 *		Making and removing a unique key across partitions.
 *
 * Invariant: the triggers are made when every partition has its index, under
 * locks that keep writers and new partitions out for that moment: what is written
 * from then on is checked.
 */
#include "ddl/unique.h"

#include "access/table.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/citus.h"
#include "catalog/dependency.h"
#include "catalog/names.h"
#include "catalog/pg_am.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "ddl/locks.h"
#include "ddl/unique_cache.h"
#include "ddl/unique_index.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

/* Longest wait, in ms, for a lock behind which writers would wait. */
#define SHORT_WAIT	100

static Oid
trigger_function(char *name)
{
	return LookupFuncName(list_make2(makeString(SAGAZ_SCHEMA), makeString(name)), 0, NULL, true);
}

/* The triggers on a table that check a unique key, its own and clones; of Trigger *. */
List *
unique_triggers(Relation rel)
{
	Oid			function = rel->trigdesc == NULL ? InvalidOid : trigger_function("check_unique");
	List	   *result = NIL;

	for (int i = 0; OidIsValid(function) && i < rel->trigdesc->numtriggers; i++)
		if (rel->trigdesc->triggers[i].tgfoid == function)
			result = lappend(result, &rel->trigdesc->triggers[i]);
	return result;
}

/* Names of columns, of char *. */
List *
unique_column_names(Oid table, const AttrNumber *columns, int n)
{
	List	   *names = NIL;

	for (int i = 0; i < n; i++)
		names = lappend(names, get_attname(table, columns[i], false));
	return names;
}

static bool
has_name(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		if (strcmp((char *) lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

static bool
same_columns(List *a, List *b)
{
	ListCell   *cell;

	foreach(cell, a)
	{
		if (!has_name(b, (char *) lfirst(cell)))
			return false;
	}
	return list_length(a) == list_length(b);
}

/* The columns, as they are called now, of a key that is in force; NIL: it isn't. */
List *
unique_enforced_columns(Oid table, const char *name)
{
	Relation	rel = table_open(table, AccessShareLock);
	List	   *columns = NIL;
	ListCell   *cell;

	foreach(cell, unique_triggers(rel))
	{
		const Trigger *trigger = (const Trigger *) lfirst(cell);
		UniqueKey  *key = strcmp(trigger->tgname, name) == 0 ?
			unique_cache_key(trigger->tgoid) : NULL;

		if (key != NULL && columns == NIL)
			columns = unique_column_names(table, key->columns, key->ncolumns);
	}
	table_close(rel, AccessShareLock);
	return columns;
}

/* The name of a table's key on these columns, in whatever order; NULL: none. */
char *
unique_find(Oid table, List *columns)
{
	ListCell   *cell;

	foreach(cell, unique_key_load(table))
	{
		UniqueKeyRow *row = (UniqueKeyRow *) lfirst(cell);
		List	   *now = unique_enforced_columns(table, row->name);

		if (same_columns(columns, now == NIL ? row->columns : now))
			return row->name;
	}
	return NULL;
}

static void
require_column(Oid table, const char *column, bool skips)
{
	AttrNumber	attnum = get_attnum(table, column);
	Oid			type;

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist", column, get_rel_name(table)),
				 errhint("Name columns of the table, such as ARRAY['event_id'].")));
	type = get_atttype(table, attnum);
	if (!OidIsValid(lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr) ||
		!OidIsValid(GetDefaultOpClass(type, BTREE_AM_OID)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("column \"%s\" of type %s can't be in a unique index", column, format_type_be(type)),
				 errhint("Use columns of a type with a default btree operator class.")));
	if (skips && get_attgenerated(table, attnum) != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" is generated, so a duplicate can't be dropped before it is written", column),
				 errhint("Use on_duplicate => 'error'.")));
}

/* Triggers are refused there, and rows are on other nodes. */
static void
refuse_distributed(Oid table)
{
	if (citus_distributes(table))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" is distributed by Citus", get_rel_name(table)),
				 errdetail("Its partitions have their rows on other nodes, where no trigger can look."),
				 errhint("Use a unique constraint that has the distribution column and the partition key.")));
}

/* Fails unless a table can have such a key. */
void
unique_require(Oid table, List *columns, bool skips)
{
	ListCell   *cell;

	if (get_rel_relkind(table) != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a partitioned table", get_rel_name(table)),
				 errhint("A plain table can have a unique constraint of its own.")));
	if (get_rel_persistence(table) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a temporary table", get_rel_name(table)),
				 errhint("Use a permanent table.")));
	if (get_rel_relispartition(table))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is itself a partition", get_rel_name(table)),
				 errhint("Add the key to the table that it is a partition of.")));
	if (columns == NIL || list_length(columns) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a unique key has 1 to %d columns", INDEX_MAX_KEYS),
				 errhint("Name them, such as ARRAY['event_id'].")));
	refuse_distributed(table);
	foreach(cell, columns)
	{
		const char *column = (const char *) lfirst(cell);

		require_column(table, column, skips);
		for (int i = 0; i < foreach_current_index(cell); i++)
			if (strcmp((char *) list_nth(columns, i), column) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("column \"%s\" appears twice in the unique key", column),
						 errhint("Name each column once.")));
	}
	foreach(cell, unique_index_partitions(table, NULL))
	{
		Oid			relid = ((UniquePartition *) lfirst(cell))->relid;

		if (get_rel_relkind(relid) != RELKIND_RELATION)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("partition %s is a foreign table, which can't have a unique index",
							names_display(relid)),
					 errhint("Detach it first.")));
	}
}

/* "a, b", quoted for a statement. */
static char *
column_list(List *columns, const char *prefix, const char *suffix, const char *separator)
{
	StringInfoData list;
	ListCell   *cell;

	initStringInfo(&list);
	foreach(cell, columns)
		appendStringInfo(&list, "%s%s%s%s", foreach_current_index(cell) > 0 ? separator : "", prefix,
						 quote_identifier((char *) lfirst(cell)), suffix);
	return list.data;
}

static char *
name_addition(List *columns)
{
	StringInfoData name;
	ListCell   *cell;

	initStringInfo(&name);
	foreach(cell, columns)
		appendStringInfo(&name, "%s%s", foreach_current_index(cell) > 0 ? "_" : "",
						 (char *) lfirst(cell));
	return name.data;
}

/* A name that no constraint and no trigger of the table and its partitions has. */
char *
unique_choose_name(Oid table, List *columns)
{
	static const char *const query =
		"SELECT FROM pg_partition_tree($1) AS t"
		" WHERE EXISTS (SELECT FROM pg_constraint AS c"
		"                WHERE c.conrelid = t.relid AND c.conname = $2)"
		"    OR EXISTS (SELECT FROM pg_trigger AS g"
		"                WHERE g.tgrelid = t.relid AND g.tgname IN ($2, $3))"
		" LIMIT 1";
	SqlSession	session;
	char	   *name;
	int			n = 0;

	sql_begin_as_extension(&session);
	for (;;)
	{
		SqlArgs		args = {0};

		name = makeObjectName(get_rel_name(table), name_addition(columns),
							  n == 0 ? "unique" : psprintf("unique%d", n));
		sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(table));
		sql_arg_name(&args, name);
		sql_arg_name(&args, makeObjectName(name, NULL, "skip"));
		if (sql_execute(query, &args) == 0)
			break;
		n++;
	}
	name = MemoryContextStrdup(session.caller, name);
	sql_end(&session);
	return name;
}

/*
 * The name that a CONCURRENT build gives an index. It has the partition's OID,
 * so that it can be told from others after a failure, and never has the name of
 * one that a dump is just restoring.
 */
static char *
built_name(Oid partition, List *columns)
{
	return makeObjectName(get_rel_name(partition), name_addition(columns),
						  psprintf("u%u", partition));
}

static UniqueMissing *
missing_in(Oid partition, List *columns)
{
	UniqueMissing *missing = (UniqueMissing *) palloc0(sizeof(UniqueMissing));
	char	   *name = built_name(partition, columns);
	Oid			schema = get_rel_namespace(partition);
	Relation	rel = table_open(partition, AccessShareLock);

	missing->partition = partition;
	missing->name = names_display(partition);
	missing->owner = rel->rd_rel->relowner;
	table_close(rel, AccessShareLock);
	if (OidIsValid(get_relname_relid(name, schema)))
		missing->leftover = quote_qualified_identifier(get_namespace_name(schema), name);
	missing->statement = psprintf("CREATE UNIQUE INDEX CONCURRENTLY %s ON %s (%s)",
								  quote_identifier(name), names_qualified(partition),
								  column_list(columns, "", "", ", "));
	return missing;
}

/* The partitions that lack the index; of UniqueMissing *. */
List *
unique_missing(Oid table, List *columns)
{
	List	   *result = NIL;
	int			n = list_length(columns);
	AttrNumber	numbers[INDEX_MAX_KEYS];
	ListCell   *cell;

	foreach(cell, unique_index_partitions(table, NULL))
	{
		Oid			partition = ((UniquePartition *) lfirst(cell))->relid;
		Relation	rel = try_table_open(partition, AccessShareLock);
		bool		found;

		if (rel == NULL)
			continue;
		for (int i = 0; i < n; i++)
			numbers[i] = get_attnum(partition, (char *) list_nth(columns, i));
		found = OidIsValid(unique_index_find(rel, numbers, n, NULL, NULL));
		table_close(rel, AccessShareLock);
		if (!found)
			result = lappend(result, missing_in(partition, columns));
	}
	return result;
}

/* How large all partitions are, in blocks. */
int64
unique_blocks(Oid table)
{
	int64		blocks = 0;
	ListCell   *cell;

	foreach(cell, unique_index_partitions(table, NULL))
	{
		Relation	rel = try_table_open(((UniquePartition *) lfirst(cell))->relid, AccessShareLock);

		if (rel == NULL)
			continue;
		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
			blocks += RelationGetNumberOfBlocks(rel);
		table_close(rel, AccessShareLock);
	}
	return blocks;
}

static void
begin_as_owner(SqlSession *session, Oid owner)
{
	sql_begin(session, owner);
	identity_set_local("lock_timeout", psprintf("%d", Min(sagaz_lock_timeout, SHORT_WAIT)));
}

/* Makes the index of one partition, which its writers wait for. */
void
unique_build(Oid partition, Oid owner, List *columns)
{
	SqlSession	session;

	begin_as_owner(&session, owner);
	sql_run(psprintf("CREATE UNIQUE INDEX ON %s (%s)", names_qualified(partition),
					 column_list(columns, "", "", ", ")));
	sql_end(&session);
}

/* The same of all partitions that lack it: for small tables. */
void
unique_build_all(Oid table, List *columns)
{
	ListCell   *cell;

	foreach(cell, unique_missing(table, columns))
	{
		UniqueMissing *missing = (UniqueMissing *) lfirst(cell);

		unique_build(missing->partition, missing->owner, columns);
	}
}

/*
 * The trigger goes with the extension. Not by ALTER TRIGGER, which would lock
 * out readers.
 */
static void
depend_on_extension(Oid table, const char *trigger)
{
	ObjectAddress object;
	ObjectAddress extension;

	ObjectAddressSet(object, TriggerRelationId, get_trigger_oid(table, trigger, false));
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("sagaz_ha", false));
	recordDependencyOn(&object, &extension, DEPENDENCY_AUTO_EXTENSION);
}

/* Subscribers apply rows with triggers off, but for those that are ALWAYS on. */
static void
finish_trigger(Oid table, const char *trigger)
{
	sql_run(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", names_qualified(table),
					 quote_identifier(trigger)));
	depend_on_extension(table, trigger);
}

static Oid
owner_of(Oid table)
{
	Relation	rel = table_open(table, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	/* ALTER TABLE refuses a table that this session has open */
	table_close(rel, NoLock);
	return owner;
}

/* Whether the table has a trigger of this name that is ours. */
static bool
has_trigger(Oid table, const char *name)
{
	Relation	rel = table_open(table, AccessShareLock);
	Oid			check = trigger_function("check_unique");
	Oid			skip = trigger_function("skip_duplicate");
	bool		found = false;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		found = found || (strcmp(trigger->tgname, name) == 0 &&
						  (trigger->tgfoid == check || trigger->tgfoid == skip));
	}
	/* ALTER TABLE refuses a table that this session has open */
	table_close(rel, NoLock);
	return found;
}

/*
 * Locks out readers and writers for a moment. They wait behind this for SHORT_WAIT
 * at most, not for as long as somebody uses the table. Inside SPI.
 */
static void
lock_all(Oid table)
{
	List	   *relids = find_all_inheritors(table, NoLock, NULL);

	locks_end_vacuums(relids, false);
	locks_take_until(relids, AccessExclusiveLock,
					 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SHORT_WAIT));
}

static void
drop_trigger(Oid table, const char *name)
{
	if (has_trigger(table, name))
		sql_run(psprintf("DROP TRIGGER %s ON %s", quote_identifier(name), names_qualified(table)));
}

/* What there is of a key's triggers. */
static void
drop_triggers(Oid table, const char *name)
{
	char	   *skip = makeObjectName(name, NULL, "skip");

	if (!has_trigger(table, name) && !has_trigger(table, skip))
		return;
	lock_all(table);
	drop_trigger(table, skip);
	drop_trigger(table, name);
}

/*
 * Has rows checked from now on. Partitions have their indexes, or it is an
 * error: the lock that CREATE TRIGGER takes keeps new partitions out. What is left
 * of its triggers is replaced.
 */
void
unique_enforce(const UniqueKeyRow *row)
{
	char	   *table = names_qualified(row->parent);
	const char *within = "";
	char	   *skip = makeObjectName(row->name, NULL, "skip");
	SqlSession	session;

	begin_as_owner(&session, owner_of(row->parent));
	drop_triggers(row->parent, row->name);
	if (row->within != NULL)	/* by the pinned IntervalStyle */
		within = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(row->within)));
	sql_run(psprintf("CREATE CONSTRAINT TRIGGER %s AFTER INSERT OR UPDATE ON %s FOR EACH ROW"
					 " WHEN (%s) EXECUTE FUNCTION sagaz_ha.check_unique(%s)",
					 quote_identifier(row->name), table,
					 column_list(row->columns, "NEW.", " IS DISTINCT FROM NULL", " AND "),
					 quote_literal_cstr(within)));
	finish_trigger(row->parent, row->name);
	if (row->skips)
	{
		sql_run(psprintf("CREATE TRIGGER %s BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW"
						 " EXECUTE FUNCTION sagaz_ha.skip_duplicate(%s)",
						 quote_identifier(skip), table, quote_literal_cstr(row->name)));
		finish_trigger(row->parent, skip);
	}
	if (unique_missing(row->parent, row->columns) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("a partition of table \"%s\" has come without its unique index",
						get_rel_name(row->parent))));
	sql_end(&session);
}

/* Removes the triggers; the indexes stay. */
void
unique_end(Oid table, const char *name)
{
	SqlSession	session;

	begin_as_owner(&session, owner_of(table));
	drop_triggers(table, name);
	sql_end(&session);
}
