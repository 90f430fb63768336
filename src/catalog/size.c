/*
 * size.c
 *		How large a table is on disk, without opening it.
 *
 * Invariant: to the byte what pg_total_relation_size() says, but with no lock on
 * the table, so it waits for nobody, and without building descriptors, which is
 * most of the work in a new session. The catalog rows that name the files are
 * looked at again where the files are empty: a table that was dropped or
 * rewritten meanwhile is noticed. For many tables the database's directory and
 * pg_index are read once as a whole; what isn't found there is looked for.
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
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
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

static bool
read_storage(Oid relid, Storage *storage)
{
	HeapTuple	tuple;
	Form_pg_class form;

	AcceptInvalidationMessages();
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	storage->node = form->relfilenode;
	storage->tablespace = OidIsValid(form->reltablespace) ? form->reltablespace : MyDatabaseTableSpace;
	storage->toast = form->reltoastrelid;
	storage->has_storage = RELKIND_HAS_STORAGE(form->relkind);
	storage->has_indexes = form->relhasindex;
	storage->unlogged = form->relpersistence == RELPERSISTENCE_UNLOGGED;
	storage->odd = form->relpersistence == RELPERSISTENCE_TEMP || form->relisshared ||
		(storage->has_storage && !OidIsValid(form->relfilenode));
	ReleaseSysCache(tuple);
	return true;
}

/* Which forks a relation has, by the number that its files are called after. */
typedef struct NodeFiles
{
	Oid			node;
	bool		fsm;
	bool		vm;
	bool		init;
} NodeFiles;

typedef struct TableIndexes
{
	Oid			table;
	List	   *indexes;
} TableIndexes;

struct SizeReader
{
	DIR		   *dir;			/* of this database in its own tablespace, or
								 * NULL */
	HTAB	   *files;			/* NodeFiles, or NULL */
	HTAB	   *indexes;		/* TableIndexes, or NULL */
};

static HTAB *
make_table(const char *name, int entries, Size entry_size)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = entry_size,.hcxt = CurrentMemoryContext};

	return hash_create(name, entries, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
note_file(HTAB *files, const char *name)
{
	char	   *rest;
	Oid			node = (Oid) strtoul(name, &rest, 10);
	NodeFiles  *entry;
	bool		found;

	/* no more segments here: a first one that is full leads to the next */
	if (rest == name || *rest == '.')
		return;
	entry = hash_search(files, &node, HASH_ENTER, &found);
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
read_directory(SizeReader *reader, int limit)
{
	char	   *path = GetDatabasePath(MyDatabaseId, MyDatabaseTableSpace);
	struct dirent *file;

	reader->dir = AllocateDir(path);
	reader->files = make_table("files of the database", limit, sizeof(NodeFiles));
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

static void
read_indexes(SizeReader *reader, int ntables)
{
	Relation	rel = table_open(IndexRelationId, AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;

	if (RelationGetNumberOfBlocks(rel) <= ntables)
	{
		reader->indexes = make_table("indexes of tables", ntables, sizeof(TableIndexes));
		scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);
			TableIndexes *entry;
			bool		found;

			/* one that is being dropped isn't counted by the server either */
			if (!index->indislive)
				continue;
			entry = hash_search(reader->indexes, &index->indrelid, HASH_ENTER, &found);
			if (!found)
				entry->indexes = NIL;
			entry->indexes = lappend_oid(entry->indexes, index->indexrelid);
		}
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
}

/* Makes ready for the sizes of so many tables. */
SizeReader *
size_begin(int ntables)
{
	SizeReader *reader = palloc0(sizeof(SizeReader));

	if (ntables >= MANY_TABLES)
	{
		read_directory(reader, ntables * FILES_PER_TABLE);
		read_indexes(reader, ntables);
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

/* Adds one fork's segments. All but the last are full. */
static int64
fork_bytes(int directory, const char *path, const char *fork)
{
	int64		bytes = 0;
	char		file[MAXPGPATH];
	struct stat st;

	snprintf(file, sizeof(file), "%s%s", path, fork);
	for (int segment = 1; fstatat(directory, file, &st, 0) == 0; segment++)
	{
		bytes += st.st_size;
		if (st.st_size < SEGMENT_BYTES)
			return bytes;
		snprintf(file, sizeof(file), "%s%s.%d", path, fork, segment);
	}
	if (errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", file)));
	return bytes;
}

static int64
storage_bytes(const SizeReader *reader, const Storage *storage)
{
	const NodeFiles *files = NULL;
	char		path[MAXPGPATH];
	int			directory = AT_FDCWD;
	int64		bytes;

	if (!storage->has_storage)
		return 0;
	if (reader->files != NULL && storage->tablespace == MyDatabaseTableSpace)
		files = hash_search(reader->files, &storage->node, HASH_FIND, NULL);
	if (files != NULL)
	{
		directory = dirfd(reader->dir);
		snprintf(path, sizeof(path), "%u", storage->node);
	}
	else
		sagaz_relation_path(path, sizeof(path), storage->tablespace, storage->node);
	bytes = fork_bytes(directory, path, "");
	if (files == NULL || files->fsm)
		bytes += fork_bytes(directory, path, "_fsm");
	if (files == NULL || files->vm)
		bytes += fork_bytes(directory, path, "_vm");
	if (files == NULL ? storage->unlogged : files->init)
		bytes += fork_bytes(directory, path, "_init");
	return bytes;
}

/* One relation's files; false when it is gone, or was rewritten just now. */
static bool
add_relation(const SizeReader *reader, Oid relid, const Storage *storage, int64 *bytes)
{
	Storage		after;
	int64		size = storage_bytes(reader, storage);

	*bytes += size;
	/* files that are given up are emptied first, and may stay for long */
	return size > 0 ||
		(read_storage(relid, &after) && after.node == storage->node &&
		 after.tablespace == storage->tablespace);
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
add_indexes(const SizeReader *reader, Oid relid, int64 *bytes)
{
	const TableIndexes *known = NULL;
	ListCell   *cell;

	if (reader->indexes != NULL)
		known = hash_search(reader->indexes, &relid, HASH_FIND, NULL);
	foreach(cell, known ? known->indexes : find_indexes(relid))
	{
		Storage		storage;

		if (!read_storage(lfirst_oid(cell), &storage) ||
			!add_relation(reader, lfirst_oid(cell), &storage, bytes))
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
		!(read_storage(storage->toast, &toast) && add_indexes(reader, storage->toast, bytes) &&
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
		CHECK_FOR_INTERRUPTS();
		if (!read_storage(relid, &storage))
			return -1;
		if (storage.odd)
			break;
		bytes = 0;
		/* what was read before is old in the second round */
		if (add_all(round == 0 ? reader : &nothing_known, relid, &storage, &bytes))
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

	if (!read_storage(relid, &storage) || !storage.has_storage || storage.odd)
		return false;
	sagaz_relation_path(path, sizeof(path), storage.tablespace, storage.node);
	return fork_bytes(AT_FDCWD, path, "") == 0;
}
