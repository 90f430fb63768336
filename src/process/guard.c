/*
 * guard.c
 *		On a standby: makes feedback speak for sessions that have no snapshot.
 *
 * A session that is idle in a READ COMMITTED transaction holds its locks but
 * no snapshot, so hot_standby_feedback says nothing of it, and the primary
 * would drop a partition that it still has locked. A guard per database
 * always holds one snapshot. It lets go of it for a newer one only when
 * nobody here has a lock on a partition whose detach is pending in the newer
 * one, and nobody has an older snapshot, with which it could still be locked.
 * So the feedback that the server sends anyway says "not yet". The cost is an
 * xmin that is up to GUARD_NAP old.
 *
 * When it has let go beside a pending detach, it has the feedback sent now
 * and not at the end of wal_receiver_status_interval, because on the primary
 * the next detach waits for that.
 */
#include "process/guard.h"

#include "base/compat.h"
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "catalog/pg_inherits.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "process/launcher.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "replication/walreceiver.h"
#include "base/process.h"
#include "base/settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

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
fill_worker(BackgroundWorker *worker, const char *function, const char *type)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
	strlcpy(worker->bgw_library_name, "sagaz_ha", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_type, type, sizeof(worker->bgw_type));
	strlcpy(worker->bgw_name, type, sizeof(worker->bgw_name));
}

void
guard_register(void)
{
	BackgroundWorker worker;

	fill_worker(&worker, "sagaz_guards_main", "sagaz_ha standby launcher");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/* Waits; false when this is no standby any more, and the process should end. */
static bool
nap(long timeout)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	process_reload();
	return RecoveryInProgress();
}

static Guarded *
find_guarded(List *guarded, Oid database)
{
	ListCell   *cell;

	foreach(cell, guarded)
		if (((Guarded *) lfirst(cell))->database == database)
			return (Guarded *) lfirst(cell);
	return NULL;
}

/* Enters new databases; the list only grows, as databases seldom go. */
static List *
scan_databases(List *guarded)
{
	MemoryContext context = CurrentMemoryContext;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		if (row->datallowconn && !row->datistemplate &&
			settings_want_database(NameStr(row->datname)) &&
			find_guarded(guarded, row->oid) == NULL)
		{
			MemoryContext transaction = MemoryContextSwitchTo(context);
			Guarded    *entry = (Guarded *) palloc0(sizeof(Guarded));

			entry->database = row->oid;
			guarded = lappend(guarded, entry);
			MemoryContextSwitchTo(transaction);
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
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
	fill_worker(&worker, "sagaz_guard_main", "sagaz_ha standby guard");
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &entry->database, sizeof(Oid));
	if (!RegisterDynamicBackgroundWorker(&worker, &entry->handle))
	{
		entry->handle = NULL;
		entry->next = TimestampTzPlusMilliseconds(now, NO_EXTENSION_NAP * 1000);
	}
}

/* Sees to it that every database has its guard, while this is a standby. */
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
		guarded = scan_databases(guarded);
		foreach(cell, guarded)
			tend((Guarded *) lfirst(cell));
		pgstat_report_activity(STATE_IDLE, NULL);
	} while (nap(5000));

	/* exit status 0: not to be started again before the server is */
	proc_exit(0);
}

/*
 * Partitions whose detach is pending, as of the snapshot, and the latest of
 * the transactions that did it.
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
anybody_has_locked(List *relids)
{
	ListCell   *cell;

	foreach(cell, relids)
	{
		LOCKTAG		tag;
		int			count;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(cell));
		/* the guard's transaction, and so what is allocated in it, never ends */
		pfree(GetLockConflicts(&tag, AccessExclusiveLock, &count));
		if (count > 0)
			return true;
	}
	return false;
}

/*
 * Has feedback sent once it would say that nobody here can see a partition
 * any more. A reload is what makes the walreceiver send it.
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
 * Whether anybody here may have such a lock once the snapshot is gone: who has
 * it, and who may still take it with a snapshot from before the detach.
 * Snapshots come first: without one from then nobody finds the partition.
 */
static bool
is_in_use(List *pending, TransactionId detached)
{
	int			count = 0;

	if (pending == NIL)
		return false;
	pfree(GetCurrentVirtualXIDs(detached, true, false, 0, &count));
	return count > 0 || anybody_has_locked(pending);
}

/*
 * Whether replay waits for somebody's snapshot. Feedback prevents that, but
 * for what the primary did while it had none, as after a crash.
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
begin(void)
{
	StartTransactionCommand();
	/* another default would keep the first snapshot to the end */
	XactIsoLevel = XACT_READ_COMMITTED;
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

			/*
			 * Replay waits for the end of a transaction, not of its
			 * snapshot. While it waits, no detach is replayed, so being
			 * without a snapshot for a moment does no harm.
			 */
			if (replay_waits())
			{
				UnregisterSnapshot(held);
				CommitTransactionCommand();
				begin();
				held = RegisterSnapshot(GetLatestSnapshot());
				pending = NIL;
			}
		}
		if (pending != NIL)
			fast_until = TimestampTzPlusMilliseconds(now, GUARD_FAST_FOR);
		list_free(pending);
		/* what the catalogs were read with would be kept until they change */
		InvalidateCatalogSnapshot();
		timeout = now < fast_until ? GUARD_NAP_FAST : GUARD_NAP;
	} while (nap(timeout));
	UnregisterSnapshot(held);
}

void
sagaz_guard_main(Datum arg)
{
	Oid			database;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	process_begin();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetConfigOption("application_name", "sagaz_ha standby guard", PGC_USERSET, PGC_S_SESSION);

	begin();
	if (RecoveryInProgress() && hot_standby_feedback &&
		OidIsValid(get_extension_oid("sagaz_ha", true)))
		keep_guard();
	CommitTransactionCommand();
	proc_exit(0);
}
