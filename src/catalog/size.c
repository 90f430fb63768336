/*
 * size.c
 *		How large a table is on disk, without opening it.
 *
 * Invariant: to the byte what pg_total_relation_size() says, but with no lock on
 * the table, so it waits for nobody, and without building descriptors, which is
 * most of the work in a new session. The catalog rows that name the files are
 * looked at again once the files have been: a table that was dropped or
 * rewritten meanwhile is noticed.
 */
#include "catalog/size.h"

#include <sys/stat.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "base/compat.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#define MAX_ROUNDS 10
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
	bool		odd;			/* temporary or mapped: its path isn't in the row */
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

/* Adds one fork's segments. All but the last are full. */
static int64
fork_bytes(const char *path, const char *fork)
{
	int64		bytes = 0;
	char		file[MAXPGPATH];
	struct stat st;

	strlcpy(file, path, sizeof(file));
	strlcat(file, fork, sizeof(file));
	for (int segment = 1; stat(file, &st) == 0; segment++)
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

/* One relation's files; false when it is gone, or was rewritten just now. */
static bool
add_relation(Oid relid, const Storage *storage, int64 *bytes)
{
	char		path[MAXPGPATH];
	Storage		after;

	if (storage->has_storage)
	{
		sagaz_relation_path(path, sizeof(path), storage->tablespace, storage->node);
		*bytes += fork_bytes(path, "") + fork_bytes(path, "_fsm") + fork_bytes(path, "_vm");
		if (storage->unlogged)
			*bytes += fork_bytes(path, "_init");
	}
	return read_storage(relid, &after) && after.node == storage->node &&
		after.tablespace == storage->tablespace;
}

static bool
add_indexes(Oid relid, int64 *bytes)
{
	Relation	rel = table_open(IndexRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		whole = true;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (whole && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);
		Storage		storage;

		/* one that is being dropped isn't counted by the server either */
		if (index->indislive)
			whole = read_storage(index->indexrelid, &storage) &&
				add_relation(index->indexrelid, &storage, bytes);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return whole;
}

static bool
add_all(Oid relid, const Storage *storage, int64 *bytes)
{
	Storage		toast;

	if (storage->has_indexes && !add_indexes(relid, bytes))
		return false;
	if (OidIsValid(storage->toast) &&
		!(read_storage(storage->toast, &toast) && add_indexes(storage->toast, bytes) &&
		  add_relation(storage->toast, &toast, bytes)))
		return false;
	return add_relation(relid, storage, bytes);
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
size_of_table(Oid relid)
{
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
		if (add_all(relid, &storage, &bytes))
			return bytes;
	}
	return ask_server(relid);
}
