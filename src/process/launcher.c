/*
 * launcher.c
 *		The one static process: finds databases and starts workers for them.
 *
 * It is connected to no database, so it is in nobody's way, and holds neither
 * snapshot nor lock while it waits.
 */
#include "process/launcher.h"

#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "base/compat.h"
#include "shmem/hold.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "base/process.h"
#include "base/settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "process/worker.h"

/* So many workers of a kind run at a time; a stuck database stops no other. */
#define MAX_WORKERS			3

/* A database without the extension is looked at again after this, in s. */
#define NO_EXTENSION_NAP	3600

/* What is shown and logged when the postmaster has no room for a worker. */
#define NO_SLOT				"no free background worker slot; raise max_worker_processes"

/* After a worker that didn't come to its end: 1 s, 2 s, … up to this, in s. */
#define MAX_BACK_OFF		600

PGDLLEXPORT void sagaz_launcher_main(Datum arg);

typedef struct Job
{
	BackgroundWorkerHandle *handle; /* NULL: none runs */
	int			failures;
} Job;

static Job	jobs[SHARED_MAX_DATABASES][WORKER_KINDS];
static ProcessUtility_hook_type previous_utility_hook = NULL;

/* The database that a statement needs for itself, or InvalidOid. */
static Oid
needed_database(Node *statement)
{
	ListCell   *cell;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return get_database_oid(((DropdbStmt *) statement)->dbname, true);
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return get_database_oid(((RenameStmt *) statement)->subname, true);
			break;
		case T_AlterDatabaseStmt:
			foreach(cell, ((AlterDatabaseStmt *) statement)->options)
				if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
					return get_database_oid(((AlterDatabaseStmt *) statement)->dbname, true);
			break;
		case T_CreatedbStmt:
			foreach(cell, ((CreatedbStmt *) statement)->options)
			{
				DefElem    *option = lfirst_node(DefElem, cell);

				if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
					return get_database_oid(defGetString(option), true);
			}
			return get_database_oid("template1", true);
		default:
			break;
	}
	return InvalidOid;
}

/* Statements that need a database for themselves find no worker in it. */
static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest,
				QueryCompletion *completion)
{
	volatile Oid database = InvalidOid;

	if (shared_state != NULL && !RecoveryInProgress())
		database = needed_database(pstmt->utilityStmt);
	/* whose statement will be refused must not be able to end workers */
	if (OidIsValid(database) && !sagaz_owns_database(database, GetUserId()))
		database = InvalidOid;
	PG_TRY();
	{
		/* inside, because it may be cancelled */
		if (OidIsValid(database))
			shared_hold_database(database);
		if (previous_utility_hook)
			previous_utility_hook(pstmt, query, read_only_tree, context, params,
								  environment, dest, completion);
		else
			standard_ProcessUtility(pstmt, query, read_only_tree, context, params,
									environment, dest, completion);
	}
	PG_FINALLY();
	{
		if (OidIsValid(database))
			shared_release_database(database);
	}
	PG_END_TRY();
}

void
launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "sagaz_ha", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "sagaz_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "sagaz_ha launcher", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "sagaz_ha launcher", sizeof(worker.bgw_type));
	RegisterBackgroundWorker(&worker);

	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}

static void
leave_shared_memory(int code, Datum arg)
{
	/* an error may have come while it was held; not all releases do this */
	LWLockReleaseAll();
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->launcher_pid = 0;
	shared_state->launcher_latch = NULL;
	shared_state->launcher_since = GetCurrentTimestamp();
	LWLockRelease(shared_state->lock);
}

/* A launcher that was killed has left its workers running; they are let go. */
static void
enter_shared_memory(void)
{
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->launcher_pid = MyProcPid;
	shared_state->launcher_latch = MyLatch;
	shared_state->launcher_since = GetCurrentTimestamp();
	shared_state->rescan = true;
	LWLockRelease(shared_state->lock);
	before_shmem_exit(leave_shared_memory, (Datum) 0);
}

/* Enters a database that is new. The caller holds the lock. */
static void
enter_database(Oid database, const char *name)
{
	DatabaseState *state = shared_find_database(database);

	if (state == NULL)
	{
		state = shared_find_database(InvalidOid);
		if (state == NULL)
			return;
		memset(state, 0, sizeof(*state));
		memset(jobs[state - shared_state->databases], 0, sizeof(jobs[0]));
		state->database = database;
	}
	namestrcpy(&state->name, name);
}

/* Makes the entries those of the databases that exist and are wanted. */
static void
scan_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	List	   *found = NIL;

	/* before the snapshot: who commits after that asks again */
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->rescan = false;
	LWLockRelease(shared_state->lock);

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		/* a limit of -2: DROP DATABASE was interrupted, and nobody can connect */
		if (!row->datallowconn || row->datistemplate || row->datconnlimit == -2 ||
			!settings_want_database(NameStr(row->datname)))
			continue;
		enter_database(row->oid, NameStr(row->datname));
		found = lappend_oid(found, row->oid);
	}
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
	{
		DatabaseState *state = &shared_state->databases[i];

		if (!OidIsValid(state->database) || list_member_oid(found, state->database))
			continue;
		/* it is forgotten when its workers have ended */
		if (state->work[WORKER_PASS].pid != 0 || state->work[WORKER_UPKEEP].pid != 0)
			shared_state->rescan = true;
		else
			state->database = InvalidOid;
	}
	LWLockRelease(shared_state->lock);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

/* When the next worker of a kind is due after one has ended. */
static TimestampTz
next_time(const WorkState *work, const DatabaseState *database, Job *job)
{
	int64		delay = sagaz_naptime * INT64CONST(1000);

	if (!work->finished)
	{
		delay = Min(MAX_BACK_OFF, 1 << Min(job->failures, 16)) * INT64CONST(1000);
		job->failures++;
	}
	else
	{
		job->failures = 0;
		if (!database->has_extension)
			delay = NO_EXTENSION_NAP * INT64CONST(1000);
		else if (work->soon > 0)
			delay = Min(delay, work->soon);
	}
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
}

/* Takes note of workers that have ended. The caller holds the lock. */
static int
reap(DatabaseState *database, WorkerKind kind)
{
	WorkState  *work = &database->work[kind];
	Job		   *job = &jobs[database - shared_state->databases][kind];
	pid_t		pid;

	if (job->handle == NULL)
		return 0;
	if (GetBackgroundWorkerPid(job->handle, &pid) != BGWH_STOPPED)
		return 1;
	pfree(job->handle);
	job->handle = NULL;
	work->pid = 0;
	/* a wish that came while it ran isn't overwritten */
	if (work->next != 0 || !work->finished)
		work->next = next_time(work, database, job);
	return 0;
}

static bool
is_held(DatabaseState *database)
{
	if (database->held_by != 0 && BackendPidGetProc(database->held_by) == NULL)
		database->held_by = 0;
	return database->held_by != 0;
}

/*
 * No slot is free, and not because our own workers have them all. Said once a
 * minute at most. The caller holds the lock.
 */
static void
report_no_slot(const DatabaseState *database, WorkState *work)
{
	static TimestampTz said = 0;
	TimestampTz now = GetCurrentTimestamp();

	strlcpy(work->last_error, NO_SLOT, SHARED_TEXT);
	if (now - said < 60 * USECS_PER_SEC)
		return;
	said = now;
	ereport(LOG,
			(errmsg("sagaz_ha: could not start a worker for database %u: %s",
					database->database, NO_SLOT)));
}

/* Starts what is due; when the next will be. */
static TimestampTz
start_workers(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz wake = TimestampTzPlusMilliseconds(now, 60000);
	int			running[WORKER_KINDS] = {0};

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
		for (int kind = 0; kind < WORKER_KINDS; kind++)
			if (OidIsValid(shared_state->databases[i].database))
				running[kind] += reap(&shared_state->databases[i], kind);
	for (int i = 0; sagaz_enabled && i < SHARED_MAX_DATABASES; i++)
	{
		DatabaseState *database = &shared_state->databases[i];

		if (!OidIsValid(database->database) || is_held(database))
			continue;
		for (int kind = 0; kind < WORKER_KINDS; kind++)
		{
			WorkState  *work = &database->work[kind];
			Job		   *job = &jobs[i][kind];

			/* upkeep waits until a pass has found the extension */
			if (job->handle != NULL || work->pid != 0 ||
				(kind == WORKER_UPKEEP && !database->has_extension))
				continue;
			if (work->next > now)
			{
				wake = Min(wake, work->next);
				continue;
			}
			if (running[kind] >= MAX_WORKERS)
				continue;
			work->finished = false;
			work->soon = 0;
			work->next = now;
			if (!worker_start(database->database, kind, &job->handle))
			{
				work->next = 0;
				if (running[WORKER_PASS] + running[WORKER_UPKEEP] == 0)
					report_no_slot(database, work);
				LWLockRelease(shared_state->lock);
				/* tried again when a worker ends, which sets our latch, or soon */
				return Min(wake, TimestampTzPlusMilliseconds(now, 1000));
			}
			running[kind]++;
		}
	}
	LWLockRelease(shared_state->lock);
	return wake;
}

static void
make_all_due(void)
{
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->rescan = true;
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
		for (int kind = 0; kind < WORKER_KINDS; kind++)
			shared_state->databases[i].work[kind].next = 0;
	LWLockRelease(shared_state->lock);
}

/* Changed settings are acted on at once. Off means that what runs is ended. */
static void
take_over_settings(void)
{
	process_reload();
	make_all_due();
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	for (int i = 0; !sagaz_enabled && i < SHARED_MAX_DATABASES; i++)
		for (int kind = 0; kind < WORKER_KINDS; kind++)
		{
			pid_t		pid = shared_state->databases[i].work[kind].pid;

			if (jobs[i][kind].handle != NULL)
				TerminateBackgroundWorker(jobs[i][kind].handle);
			else if (pid != 0)
				kill(pid, SIGTERM); /* of a launcher before this one */
		}
	shared_state->enabled = sagaz_enabled;
	LWLockRelease(shared_state->lock);
}

void
sagaz_launcher_main(Datum arg)
{
	TimestampTz next_scan = 0;
	TimestampTz previous = 0;

	process_begin();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", "sagaz_ha launcher", PGC_USERSET, PGC_S_SESSION);
	sagaz_no_transaction_timeout();
	enter_shared_memory();
	ereport(LOG, (errmsg("sagaz_ha launcher started")));

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz wake;

		/* a clock that was set back would have everything wait until it's there again */
		if (now < previous)
			make_all_due();
		previous = now;
		if (ConfigReloadPending)
			take_over_settings();
		if (!hold_serve() && sagaz_enabled &&
			(shared_state->rescan || now >= next_scan))
		{
			scan_databases();
			next_scan = TimestampTzPlusMilliseconds(now, sagaz_naptime * INT64CONST(1000));
		}
		wake = Min(start_workers(), Max(next_scan, now + USECS_PER_SEC));
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(GetCurrentTimestamp(), wake),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
