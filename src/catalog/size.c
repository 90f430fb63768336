/*
 * size.c
 *		How large a table is on disk, without opening it.
 *
 * Invariant: to the byte what pg_total_relation_size() says, but with no lock on
 * the table, so it waits for nobody, and without building descriptors, which is
 * most of the work in a new session. Where a file is empty, no row of pg_class may
 * have changed since it was read, or it is read again: a table that was dropped or
 * rewritten meanwhile is noticed. For many tables the database's directory, pg_class
 * and pg_index are read once as a whole; what isn't found there is looked for.
 */
#include "catalog/size.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "base/compat.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define MAX_ROUNDS 10
/* fewer tables than this are looked up one by one */
#define MANY_TABLES 64
/* a directory with more files than this for each table isn't worth reading */
#define FILES_PER_TABLE 16
#define SEGMENT_BYTES ((int64) RELSEG_SIZE * BLCKSZ)

/* What of a row of pg_class leads to files. */
typedef struct Storage
{
	Oid			node;
	Oid			tablespace;
	Oid			toast;
	bool		has_storage;
	bool		has_indexes;
	bool		unlogged;
	bool		odd;			/* temporary or mapped: its path isn't in the
								 * row */
} Storage;

/* A relation of the database. */
typedef struct Known
{
	Oid			oid;
	char		status;
	Storage		storage;
	Oid			first_index;	/* of a table */
	Oid			next_index;		/* of an index: its table's next one */
} Known;

#define SH_PREFIX known
#define SH_ELEMENT_TYPE Known
#define SH_KEY_TYPE Oid
#define SH_KEY oid
#define SH_HASH_KEY(table, key) murmurhash32(key)
#define SH_EQUAL(table, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Which forks a relation has, by the number that its files are called after. */
typedef struct NodeFiles
{
	Oid			node;
	char		status;
	bool		fsm;
	bool		vm;
	bool		init;
} NodeFiles;

#define SH_PREFIX files
#define SH_ELEMENT_TYPE NodeFiles
#define SH_KEY_TYPE Oid
#define SH_KEY node
#define SH_HASH_KEY(table, key) murmurhash32(key)
#define SH_EQUAL(table, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct SizeReader
{
	uint64		changes;		/* of pg_class, when reading began */
	DIR		   *dir;			/* of this database in its own tablespace, or
								 * NULL */
	struct files_hash *files;	/* or NULL */
	struct known_hash *relations;	/* or NULL */
};

/* How often this session was told that a row of pg_class has changed. */
static uint64 pg_class_changes = 0;

static void
note_change(Datum arg, int cache, uint32 hash)
{
	pg_class_changes++;
}

static void
begin_to_note_changes(void)
{
	if (pg_class_changes > 0)
		return;
	CacheRegisterSyscacheCallback(RELOID, note_change, (Datum) 0);
	pg_class_changes = 1;
}

static void
take_storage(Form_pg_class form, Storage *storage)
{
	storage->node = form->relfilenode;
	storage->tablespace = OidIsValid(form->reltablespace) ? form->reltablespace : MyDatabaseTableSpace;
	storage->toast = form->reltoastrelid;
	storage->has_storage = RELKIND_HAS_STORAGE(form->relkind);
	storage->has_indexes = form->relhasindex;
	storage->unlogged = form->relpersistence == RELPERSISTENCE_UNLOGGED;
	storage->odd = form->relpersistence == RELPERSISTENCE_TEMP || form->relisshared ||
		(storage->has_storage && !OidIsValid(form->relfilenode));
}

static bool
read_storage_now(Oid relid, Storage *storage)
{
	HeapTuple	tuple;

	AcceptInvalidationMessages();
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return false;
	take_storage((Form_pg_class) GETSTRUCT(tuple), storage);
	ReleaseSysCache(tuple);
	return true;
}

static Known *
find_known(const SizeReader *reader, Oid relid)
{
	return reader->relations == NULL ? NULL : known_lookup(reader->relations, relid);
}

static bool
read_storage(const SizeReader *reader, Oid relid, Storage *storage)
{
	Known	   *known = find_known(reader, relid);

	if (known == NULL)
		return read_storage_now(relid, storage);
	*storage = known->storage;
	return true;
}

static void
note_file(struct files_hash *files, const char *name)
{
	char	   *rest;
	Oid			node = (Oid) strtoul(name, &rest, 10);
	NodeFiles  *entry;
	bool		found;

	/* no more segments here: a first one that is full leads to the next */
	if (rest == name || *rest == '.')
		return;
	entry = files_insert(files, node, &found);
	if (!found)
		entry->fsm = entry->vm = entry->init = false;
	if (strcmp(rest, "_fsm") == 0)
		entry->fsm = true;
	else if (strcmp(rest, "_vm") == 0)
		entry->vm = true;
	else if (strcmp(rest, "_init") == 0)
		entry->init = true;
}

static void
read_directory(SizeReader *reader, int ntables)
{
	char	   *path = GetDatabasePath(MyDatabaseId, MyDatabaseTableSpace);
	int			limit = ntables * FILES_PER_TABLE;
	struct dirent *file;

	reader->dir = AllocateDir(path);
	reader->files = files_create(CurrentMemoryContext,
								 reader->relations ? reader->relations->members : ntables, NULL);
	while ((file = ReadDir(reader->dir, path)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (limit-- <= 0)
		{
			reader->files = NULL;
			return;
		}
		note_file(reader->files, file->d_name);
	}
}

static Known *
add_known(struct known_hash *relations, Oid relid)
{
	bool		found;
	Known	   *known = known_insert(relations, relid, &found);

	if (!found)
		known->first_index = known->next_index = InvalidOid;
	return known;
}

static void
add_class(struct known_hash *relations, HeapTuple tuple)
{
	Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

	take_storage(form, &add_known(relations, form->oid)->storage);
}

static void
add_index(struct known_hash *relations, HeapTuple tuple)
{
	Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
	Known	   *table = known_lookup(relations, form->indrelid);
	Known	   *index = known_lookup(relations, form->indexrelid);
	Storage		storage;

	/* one that is being dropped isn't counted by the server either */
	if (!form->indislive || table == NULL)
		return;
	if (index == NULL)
	{
		/* made since pg_class was read */
		if (!read_storage_now(form->indexrelid, &storage))
			return;
		index = add_known(relations, form->indexrelid);
		index->storage = storage;
		table = known_lookup(relations, form->indrelid);
	}
	index->next_index = table->first_index;
	table->first_index = form->indexrelid;
}

static void
read_rows(struct known_hash *relations, Oid catalog, void (*add) (struct known_hash *, HeapTuple))
{
	Relation	rel = table_open(catalog, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		add(relations, tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* pg_index is smaller than pg_class. */
static void
read_catalogs(SizeReader *reader, int ntables)
{
	Relation	classes = table_open(RelationRelationId, AccessShareLock);
	bool		worthwhile = RelationGetNumberOfBlocks(classes) <= ntables;
	int			entries = Max(ntables, (int) classes->rd_rel->reltuples);

	table_close(classes, AccessShareLock);
	if (!worthwhile)
		return;
	reader->relations = known_create(CurrentMemoryContext, entries, NULL);
	read_rows(reader->relations, RelationRelationId, add_class);
	read_rows(reader->relations, IndexRelationId, add_index);
}

/* Makes ready for the sizes of so many tables. */
SizeReader *
size_begin(int ntables)
{
	SizeReader *reader = palloc0(sizeof(SizeReader));

	begin_to_note_changes();
	reader->changes = pg_class_changes;
	if (ntables >= MANY_TABLES)
	{
		read_catalogs(reader, ntables);
		read_directory(reader, ntables);
	}
	return reader;
}

/* Closes the directory; memory is the caller's context's. */
void
size_end(SizeReader *reader)
{
	if (reader->dir != NULL)
		FreeDir(reader->dir);
}

/* Adds one fork's segments. All but the last are full. The path has room, and so many characters. */
static int64
fork_bytes(int directory, char *path, int length, const char *fork)
{
	int64		bytes = 0;
	struct stat st;

	strcpy(path + length, fork);
	for (int segment = 1; fstatat(directory, path, &st, 0) == 0; segment++)
	{
		bytes += st.st_size;
		if (st.st_size < SEGMENT_BYTES)
			return bytes;
		snprintf(path + length, MAXPGPATH - length, "%s.%d", fork, segment);
	}
	if (errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	return bytes;
}

static int64
storage_bytes(const SizeReader *reader, const Storage *storage)
{
	const NodeFiles *files = NULL;

	/* more than a path and the longest suffix of a fork's segment */
	char		path[MAXPGPATH];
	int			directory = AT_FDCWD;
	int			length;
	int64		bytes;

	if (!storage->has_storage)
		return 0;
	if (reader->files != NULL && storage->tablespace == MyDatabaseTableSpace)
		files = files_lookup(reader->files, storage->node);
	if (files != NULL)
	{
		directory = dirfd(reader->dir);
		length = pg_ultoa_n(storage->node, path);
	}
	else
	{
		sagaz_relation_path(path, sizeof(path), storage->tablespace, storage->node);
		length = strlen(path);
	}
	bytes = fork_bytes(directory, path, length, "");
	if (files == NULL || files->fsm)
		bytes += fork_bytes(directory, path, length, "_fsm");
	if (files == NULL || files->vm)
		bytes += fork_bytes(directory, path, length, "_vm");
	if (files == NULL ? storage->unlogged : files->init)
		bytes += fork_bytes(directory, path, length, "_init");
	return bytes;
}

/*
 * Whether the files are still those of the relation. Who gives files up tells of the
 * change before they are emptied, so that who finds them empty has been told.
 */
static bool
is_current(const SizeReader *reader, Oid relid, const Storage *storage)
{
	Storage		now;

	AcceptInvalidationMessages();
	return pg_class_changes == reader->changes ||
		(read_storage_now(relid, &now) && now.node == storage->node &&
		 now.tablespace == storage->tablespace);
}

/* One relation's files; false when it is gone, or was rewritten just now. */
static bool
add_relation(const SizeReader *reader, Oid relid, const Storage *storage, int64 *bytes)
{
	int64		size = storage_bytes(reader, storage);

	*bytes += size;
	/* files that are given up are emptied first, and may stay for long */
	return size > 0 || is_current(reader, relid, storage);
}

static List *
find_indexes(Oid relid)
{
	Relation	rel = table_open(IndexRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *indexes = NIL;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

		if (index->indislive)
			indexes = lappend_oid(indexes, index->indexrelid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return indexes;
}

static bool
add_one_index(const SizeReader *reader, Oid index, int64 *bytes)
{
	Storage		storage;

	return read_storage(reader, index, &storage) &&
		add_relation(reader, index, &storage, bytes);
}

static bool
add_indexes(const SizeReader *reader, Oid relid, int64 *bytes)
{
	const Known *known = find_known(reader, relid);
	ListCell   *cell;

	if (known != NULL)
	{
		for (Oid index = known->first_index; OidIsValid(index); index = find_known(reader, index)->next_index)
			if (!add_one_index(reader, index, bytes))
				return false;
		return true;
	}
	foreach(cell, find_indexes(relid))
	{
		if (!add_one_index(reader, lfirst_oid(cell), bytes))
			return false;
	}
	return true;
}

static bool
add_all(const SizeReader *reader, Oid relid, const Storage *storage, int64 *bytes)
{
	Storage		toast;

	if (storage->has_indexes && !add_indexes(reader, relid, bytes))
		return false;
	if (OidIsValid(storage->toast) &&
		!(read_storage(reader, storage->toast, &toast) && add_indexes(reader, storage->toast, bytes) &&
		  add_relation(reader, storage->toast, &toast, bytes)))
		return false;
	return add_relation(reader, relid, storage, bytes);
}

/* As the server counts it, under a lock: for what is rare. */
static int64
ask_server(Oid relid)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		size;

	/* not DirectFunctionCall1(): a table that is just gone has size NULL */
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(relid);
	fcinfo->args[0].isnull = false;
	size = pg_total_relation_size(fcinfo);
	return fcinfo->isnull ? -1 : DatumGetInt64(size);
}

/* All forks of a table, its indexes and its TOAST table; -1 when it is gone. */
int64
size_of_table(SizeReader *reader, Oid relid)
{
	static const SizeReader nothing_known = {0};
	Storage		storage;
	int64		bytes;

	/* each round but the last means that somebody has just rewritten it */
	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		/* what was read before is old in the second round */
		const SizeReader *known = round == 0 ? reader : &nothing_known;

		CHECK_FOR_INTERRUPTS();
		if (!read_storage(known, relid, &storage))
			return -1;
		if (storage.odd)
			break;
		bytes = 0;
		if (add_all(known, relid, &storage, &bytes))
			return bytes;
	}
	return ask_server(relid);
}

/*
 * Whether a table has no page, and so no row, committed or not. False for what has
 * no pages itself.
 */
bool
size_has_no_page(Oid relid)
{
	char		path[MAXPGPATH];
	Storage		storage;

	if (!read_storage_now(relid, &storage) || !storage.has_storage || storage.odd)
		return false;
	sagaz_relation_path(path, sizeof(path), storage.tablespace, storage.node);
	return fork_bytes(AT_FDCWD, path, strlen(path), "") == 0;
}
