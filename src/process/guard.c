/*
 * guard.c
 *		On a standby: includes sessions without a snapshot in the feedback.
 *
 * Invariant: while a local session can have a lock on a partition whose detach
 * is pending, a snapshot from before the detach is held here.
 *
 * A session that is idle in a READ COMMITTED transaction holds its locks but no
 * snapshot, so hot_standby_feedback omits it, and the primary would drop a
 * partition that the session has locked. A guard per database always holds one
 * snapshot. It exchanges it for a newer one only when no session has a lock on a
 * partition whose detach is pending in the newer one, or an older snapshot, with
 * which it could still lock one. The feedback that the server sends anyway then
 * keeps the partition. The cost is an xmin that is up to GUARD_NAP old.
 *
 * After an exchange beside a pending detach, the guard has the feedback sent at
 * once, not at the end of wal_receiver_status_interval: on the primary the next
 * detach waits for it.
 */
#include "process/guard.h"

#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "base/compat.h"
#include "base/process.h"
#include "catalog/pg_inherits.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "process/databases.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* How old a guard's snapshot gets, in ms; and while partitions are detached. */
#define GUARD_NAP			1000
#define GUARD_NAP_FAST		100

/* So long after a pending detach the next one is expected, in ms. */
#define GUARD_FAST_FOR		10000

/* So long until a database without the extension is looked at again, in s. */
#define NO_EXTENSION_NAP	60

PGDLLEXPORT void sagaz_guards_main(Datum arg);
PGDLLEXPORT void sagaz_guard_main(Datum arg);

typedef struct Guarded
{
	Oid			database;
	BackgroundWorkerHandle *handle;
	TimestampTz next;			/* when to try again */
} Guarded;

static void
describe(BackgroundWorker *worker, const char *function, const char *type)
{
	process_describe(worker, function, type);
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
}

/* Registers the guards' launcher; while shared_preload_libraries is processed. */
void
guard_register(void)
{
	BackgroundWorker worker;

	describe(&worker, "sagaz_guards_main", "sagaz_ha standby launcher");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/* Waits; false after promotion, when the process has to end. */
static bool
nap(long timeout)
{
	process_nap(timeout);
	process_reload();
	return RecoveryInProgress();
}

static Guarded *
find_guarded(List *guarded, Oid database)
{
	ListCell   *cell;

	foreach(cell, guarded)
	{
		if (((Guarded *) lfirst(cell))->database == database)
			return (Guarded *) lfirst(cell);
	}
	return NULL;
}

/* Adds new databases; the list only grows, since databases are seldom dropped. */
static List *
add_databases(List *guarded)
{
	List	   *databases = databases_wanted();
	ListCell   *cell;

	foreach(cell, databases)
	{
		Oid			database = ((const Database *) lfirst(cell))->oid;

		if (find_guarded(guarded, database) == NULL)
		{
			Guarded    *entry = (Guarded *) palloc0(sizeof(Guarded));

			entry->database = database;
			guarded = lappend(guarded, entry);
		}
	}
	list_free_deep(databases);
	return guarded;
}

/* Starts the guard of a database that has none. */
static void
tend(Guarded *entry)
{
	TimestampTz now = GetCurrentTimestamp();
	BackgroundWorker worker;
	pid_t		pid;

	if (entry->handle != NULL)
	{
		if (GetBackgroundWorkerPid(entry->handle, &pid) != BGWH_STOPPED)
			return;
		pfree(entry->handle);
		entry->handle = NULL;
		entry->next = TimestampTzPlusMilliseconds(now, NO_EXTENSION_NAP * 1000);
	}
	if (now < entry->next)
		return;
	describe(&worker, "sagaz_guard_main", "sagaz_ha standby guard");
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &entry->database, sizeof(Oid));
	if (!RegisterDynamicBackgroundWorker(&worker, &entry->handle))
	{
		entry->handle = NULL;
		entry->next = TimestampTzPlusMilliseconds(now, NO_EXTENSION_NAP * 1000);
	}
}

/* The guards' launcher: keeps one in every database, while this is a standby. */
void
sagaz_guards_main(Datum arg)
{
	List	   *guarded = NIL;
	ListCell   *cell;

	process_begin();
	if (!RecoveryInProgress())
		proc_exit(0);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	CurrentMemoryContext = AllocSetContextCreate(TopMemoryContext, "sagaz_ha guards",
												 ALLOCSET_DEFAULT_SIZES);
	do
	{
		guarded = add_databases(guarded);
		foreach(cell, guarded)
			tend((Guarded *) lfirst(cell));
		pgstat_report_activity(STATE_IDLE, NULL);
	} while (nap(5000));

	/* exit status 0: the postmaster starts it again only with the server */
	proc_exit(0);
}

/*
 * Partitions whose detach is pending, as of the snapshot, and the latest of the
 * detaching transactions.
 */
static List *
pending_partitions(Snapshot snapshot, TransactionId *detached)
{
	Relation	rel = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *pending = NIL;

	*detached = InvalidTransactionId;
	ScanKeyInit(&key, Anum_pg_inherits_inhdetachpending, BTEqualStrategyNumber,
				F_BOOLEQ, BoolGetDatum(true));
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TransactionId xid = HeapTupleHeaderGetRawXmin(tuple->t_data);

		pending = lappend_oid(pending, ((Form_pg_inherits) GETSTRUCT(tuple))->inhrelid);
		if (!TransactionIdIsValid(*detached) || TransactionIdFollows(xid, *detached))
			*detached = xid;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return pending;
}

static bool
is_any_locked(List *relids)
{
	ListCell   *cell;

	foreach(cell, relids)
	{
		LOCKTAG		tag;
		int			count;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(cell));
		/* the guard's transaction never ends, so free what it allocates */
		pfree(GetLockConflicts(&tag, AccessExclusiveLock, &count));
		if (count > 0)
			return true;
	}
	return false;
}

/*
 * Has feedback sent as soon as it shows that no local session can see a detached
 * partition. The walreceiver sends it when it reloads.
 */
static void
send_feedback_once(TransactionId detached)
{
	static TransactionId sent = InvalidTransactionId;
	TransactionId xmin;
	TransactionId catalog_xmin;
	pid_t		pid;

	GetReplicationHorizons(&xmin, &catalog_xmin);
	if (!TransactionIdIsValid(detached) || TransactionIdEquals(detached, sent) ||
		!TransactionIdFollows(xmin, detached))
		return;
	sent = detached;
	SpinLockAcquire(&WalRcv->mutex);
	pid = WalRcv->pid;
	SpinLockRelease(&WalRcv->mutex);
	if (pid != 0)
		(void) kill(pid, SIGHUP);
}

/*
 * Whether a session has a lock on a pending partition, or can take one with a
 * snapshot from before the detach. Snapshots are looked at first: without such a
 * snapshot no session finds the partition.
 */
static bool
is_in_use(List *pending, TransactionId detached)
{
	int			count = 0;

	if (pending == NIL)
		return false;
	pfree(GetCurrentVirtualXIDs(detached, true, false, 0, &count));
	return count > 0 || is_any_locked(pending);
}

/*
 * Whether replay waits for a snapshot. Feedback prevents that, except for what
 * the primary did without feedback, as after a crash.
 */
static bool
replay_waits(void)
{
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
		if (ProcGlobal->allProcs[i].wait_event_info == WAIT_EVENT_RECOVERY_CONFLICT_SNAPSHOT)
			return true;
	return false;
}

static void
begin_transaction(void)
{
	StartTransactionCommand();
	/* the other levels keep their first snapshot to the end */
	XactIsoLevel = XACT_READ_COMMITTED;
}

/*
 * Replay waits for the end of a transaction, not of its snapshot. While it
 * waits, no detach is replayed, so a moment without a snapshot does no harm.
 */
static Snapshot
renew_transaction(Snapshot held)
{
	UnregisterSnapshot(held);
	CommitTransactionCommand();
	begin_transaction();
	return RegisterSnapshot(GetLatestSnapshot());
}

/* Holds a snapshot of this database, for as long as this is a standby. */
static void
keep_guard(void)
{
	Snapshot	held = NULL;
	TimestampTz fast_until = 0;
	long		timeout;

	pgstat_report_activity(STATE_RUNNING, "holding a snapshot for sessions without one");
	do
	{
		Snapshot	newer = RegisterSnapshot(GetLatestSnapshot());
		TransactionId detached;
		List	   *pending = pending_partitions(newer, &detached);
		TimestampTz now = GetCurrentTimestamp();

		if (held != NULL && is_in_use(pending, detached))
			UnregisterSnapshot(newer);
		else
		{
			if (held != NULL)
				UnregisterSnapshot(held);
			held = newer;
			send_feedback_once(detached);
			if (replay_waits())
			{
				held = renew_transaction(held);
				pending = NIL;
			}
		}
		if (pending != NIL)
			fast_until = TimestampTzPlusMilliseconds(now, GUARD_FAST_FOR);
		list_free(pending);
		/* the catalogs' own snapshot would live until they change */
		InvalidateCatalogSnapshot();
		timeout = now < fast_until ? GUARD_NAP_FAST : GUARD_NAP;
	} while (nap(timeout));
	UnregisterSnapshot(held);
}

/* A guard's entry point. */
void
sagaz_guard_main(Datum arg)
{
	Oid			database;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	process_begin();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetConfigOption("application_name", "sagaz_ha standby guard", PGC_USERSET, PGC_S_SESSION);

	begin_transaction();
	if (RecoveryInProgress() && hot_standby_feedback &&
		OidIsValid(get_extension_oid("sagaz_ha", true)))
		keep_guard();
	CommitTransactionCommand();
	proc_exit(0);
}
