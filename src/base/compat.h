/*
 * compat.h
 *		Differences between PostgreSQL versions, 15 and newer. No other file
 *		looks at the version.
 */
#ifndef SAGAZ_COMPAT_H
#define SAGAZ_COMPAT_H

#include "postgres.h"

/* 19's parsenodes.h needs it, and doesn't include it */
#include <limits.h>

#include "access/attmap.h"
#include "access/genam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "commands/defrem.h"
#include "common/relpath.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walreceiver.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

/* part of postgres.h before */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "sagaz_ha needs PostgreSQL 15 or newer"
#endif

/* all else is hidden: before 16 the server doesn't ask for that by itself */
#if PG_VERSION_NUM < 160000
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

/* A function that SQL can call. */
#define SAGAZ_FUNCTION(name) \
	extern PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

/* what transformRelOptions() takes an array of */
#if PG_VERSION_NUM >= 180000
typedef const char *const SagazOptionNamespace;
#else
typedef char *SagazOptionNamespace;
#endif

static inline bool
sagaz_owns_relation(Oid relid, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, roleid);
#else
	return pg_class_ownercheck(relid, roleid);
#endif
}

/* A wait event of our own: extensions share one name before 17. */
static inline uint32
sagaz_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* For assertions: whether this session has the lock, or a stronger one. */
static inline bool
sagaz_has_lock(Oid relid, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(&tag, mode, true);
#else
	for (LOCKMODE held = mode; held <= MaxLockMode; held++)
		if (LockHeldByMe(&tag, held))
			return true;
	return false;
#endif
}

static inline bool
sagaz_owns_database(Oid database, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, roleid);
#else
	return pg_database_ownercheck(database, roleid);
#endif
}

static inline bool
sagaz_owns_schema(Oid schema, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(NamespaceRelationId, schema, roleid);
#else
	return pg_namespace_ownercheck(schema, roleid);
#endif
}

static inline bool
sagaz_may_create_in(Oid schema, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, roleid, ACL_CREATE) == ACLCHECK_OK;
#else
	return pg_namespace_aclcheck(schema, roleid, ACL_CREATE) == ACLCHECK_OK;
#endif
}

static inline bool
sagaz_may_execute(Oid function, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, roleid, ACL_EXECUTE) == ACLCHECK_OK;
#else
	return pg_proc_aclcheck(function, roleid, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

/* A VACUUM of a worker may take longer than any transaction of a user. */
static inline void
sagaz_no_transaction_timeout(void)
{
#if PG_VERSION_NUM >= 170000
	SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_SESSION);
#endif
}

/* Asks the WAL receiver for a sign of life; whether it hasn't given it yet. */
static inline void
sagaz_ask_receiver(void)
{
#if PG_VERSION_NUM >= 190000
	WalRcvRequestApplyReply();
#else
	WalRcvForceReply();
#endif
}

static inline bool
sagaz_receiver_asked(void)
{
#if PG_VERSION_NUM >= 190000
	return WalRcv->apply_reply_requested;
#else
	return WalRcv->force_reply;
#endif
}

/* A state of its own since 19; before, it is streaming to nobody. */
static inline bool
sagaz_receiver_connects(WalRcvState state)
{
#if PG_VERSION_NUM >= 190000
	return state == WALRCV_CONNECTING;
#else
	return false;
#endif
}

static inline AttrMap *
sagaz_attribute_map(TupleDesc target, TupleDesc source)
{
#if PG_VERSION_NUM >= 160000
	return build_attrmap_by_name(target, source, false);
#else
	return build_attrmap_by_name(target, source);
#endif
}

/* CREATE INDEX, with the caller's rights. */
static inline void
sagaz_define_index(Oid table, IndexStmt *statement)
{
#if PG_VERSION_NUM >= 190000
	(void) DefineIndex(NULL, table, statement, InvalidOid, InvalidOid, InvalidOid,
					   -1, false, true, true, false, false);
#elif PG_VERSION_NUM >= 160000
	(void) DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid,
					   -1, false, true, true, false, false);
#else
	(void) DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid,
					   false, true, true, false, false);
#endif
}

/* Where the files of a relation of this database are, if it isn't a temporary one. */
static inline void
sagaz_relation_path(char *path, Size size, Oid tablespace, Oid node)
{
#if PG_VERSION_NUM >= 180000
	RelPathStr	copy = GetRelationPath(MyDatabaseId, tablespace, node, INVALID_PROC_NUMBER, MAIN_FORKNUM);

	snprintf(path, size, "%s", copy.str);
#else
	/* InvalidBackendId, INVALID_PROC_NUMBER since 17 */
	char	   *copy = GetRelationPath(MyDatabaseId, tablespace, node, -1, MAIN_FORKNUM);

	snprintf(path, size, "%s", copy);
	pfree(copy);
#endif
}

/* Tells this transaction from others of the session. */
static inline LocalTransactionId
sagaz_local_xid(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* A scan without ordering, of which no statistics are wanted. */
static inline IndexScanDesc
sagaz_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/* The same without the table: it finds entries, not rows. */
static inline IndexScanDesc
sagaz_index_beginscan_bitmap(Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan_bitmap(index, snapshot, NULL, nkeys);
#else
	return index_beginscan_bitmap(index, snapshot, nkeys);
#endif
}

/* How many rows were written in a database, as reported so far. */
static inline int64
sagaz_writes_in(Oid database)
{
	PgStat_StatDBEntry *entry = pgstat_fetch_stat_dbentry(database);
	int64		writes = 0;

	if (entry == NULL)
		return 0;
#if PG_VERSION_NUM >= 160000
	writes = entry->tuples_inserted + entry->tuples_updated + entry->tuples_deleted;
#else
	writes = entry->n_tuples_inserted + entry->n_tuples_updated + entry->n_tuples_deleted;
#endif
	pfree(entry);
	return writes;
}

static inline bool
sagaz_portal_run(Portal portal, DestReceiver *receiver, QueryCompletion *completion)
{
#if PG_VERSION_NUM >= 180000
	return PortalRun(portal, FETCH_ALL, true, receiver, receiver, completion);
#else
	return PortalRun(portal, FETCH_ALL, true, true, receiver, receiver, completion);
#endif
}

#endif							/* SAGAZ_COMPAT_H */
