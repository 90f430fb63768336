/*
 * launcher.c
 *		The one static process: finds databases and starts workers in them.
 *
 * Invariant: it connects to no database, so it blocks no statement that needs
 * one, and has neither snapshot nor lock while it waits, except the proxy locks
 * that workers ask for. Scans, registrations and log lines come without the
 * LWLock. That is safe, since no other process enters or forgets databases or
 * starts workers: others change only wishes, pids and reservations.
 */
#include "process/launcher.h"

#include "postgres.h"

#include <signal.h>

#include "base/compat.h"
#include "base/process.h"
#include "base/settings.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "process/call_start.h"
#include "process/databases.h"
#include "process/worker_start.h"
#include "shmem/proxy_lock.h"
#include "shmem/shared.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So many workers of a kind run at a time; a stuck database stops no other. */
#define MAX_WORKERS			3

/*
 * Background worker slots that others need: this launcher, the sampler, the
 * server's own for subscriptions, and one for a pass, which nothing may hold up.
 */
#define OTHER_SLOTS			4
#define SHARED_SLOTS		Max(max_worker_processes - OTHER_SLOTS, 1)

/* So many of the others may call before_drop functions, each for as long as it likes. */
#define CALL_SLOTS			Max(SHARED_SLOTS / 2, 1)

/* A database without the extension is looked at again after this, in s. */
#define NO_EXTENSION_NAP	3600

/* What is shown and logged when the postmaster has no room for a worker. */
#define NO_SLOT				"no free background worker slot; raise max_worker_processes"

/* Longest time until due work is looked for again, in ms. */
#define MAX_NAP				60000

/* The same, while work waits for a background worker slot. */
#define NO_SLOT_NAP			1000

/* After a worker that failed: 1 s, 2 s, … up to this, in s. */
#define MAX_BACK_OFF		600

PGDLLEXPORT void sagaz_launcher_main(Datum arg);

/* A worker that this launcher has started. */
typedef struct Job
{
	BackgroundWorkerHandle *handle; /* NULL: none runs */
	int			failures;		/* consecutive */
} Job;

/* By a database's entry in shared memory. */
static Job	jobs[SHARED_MAX_DATABASES][WORKER_KINDS];

/* Registers the launcher; while shared_preload_libraries is processed. */
void
launcher_register(void)
{
	BackgroundWorker worker;

	process_describe(&worker, "sagaz_launcher_main", "sagaz_ha launcher");
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

static void
leave_shared_memory(int code, Datum arg)
{
	/* after an error it may still be held */
	LWLockReleaseAll();
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->launcher_pid = 0;
	shared_state->launcher_latch = NULL;
	shared_state->launcher_since = GetCurrentTimestamp();
	LWLockRelease(shared_state->lock);
}

/* Workers of a launcher that was killed go on: their pids are in their entries. */
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

/* Enters a database that is new, if there is room. Under the lock. */
static void
enter_database(const Database *database)
{
	DatabaseState *state = shared_find_database(database->oid);

	Assert(LWLockHeldByMeInMode(shared_state->lock, LW_EXCLUSIVE));
	if (state == NULL)
	{
		state = shared_find_database(InvalidOid);
		if (state == NULL)
			return;
		memset(state, 0, sizeof(*state));
		memset(jobs[state - shared_state->databases], 0, sizeof(jobs[0]));
		state->database = database->oid;
		state->work[WORKER_RETIREMENT].due = DT_NOEND;
		shared_want_all(state);
	}
	namestrcpy(&state->name, NameStr(database->name));
}

/*
 * Forgets a database, under the lock. One that has workers is left to the next
 * scan.
 */
static void
forget_database(int index)
{
	DatabaseState *state = &shared_state->databases[index];

	Assert(LWLockHeldByMeInMode(shared_state->lock, LW_EXCLUSIVE));
	if (call_start_is_in(state->database))
	{
		shared_state->rescan = true;
		return;
	}
	for (int kind = 0; kind < WORKER_KINDS; kind++)
		if (state->work[kind].pid != 0 || jobs[index][kind].handle != NULL)
		{
			shared_state->rescan = true;
			return;
		}
	state->database = InvalidOid;
}

static bool
is_among(List *databases, Oid oid)
{
	ListCell   *cell;

	foreach(cell, databases)
	{
		if (((const Database *) lfirst(cell))->oid == oid)
			return true;
	}
	return false;
}

/* Makes the entries those of the databases that exist and are wanted. */
static void
scan_databases(void)
{
	List	   *databases;
	ListCell   *cell;

	/* before the snapshot: a later commit sets it again */
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->rescan = false;
	LWLockRelease(shared_state->lock);

	databases = databases_wanted();

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	foreach(cell, databases)
		enter_database((const Database *) lfirst(cell));
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
	{
		Oid			oid = shared_state->databases[i].database;

		if (OidIsValid(oid) && !is_among(databases, oid))
			forget_database(i);
	}
	LWLockRelease(shared_state->lock);
}

/* When the next worker of a kind is due after one has ended. */
static TimestampTz
next_due(const DatabaseState *database, WorkerKind kind, const Job *job)
{
	const WorkState *work = &database->work[kind];
	int64		delay = sagaz_naptime * INT64CONST(1000);

	if (kind == WORKER_RETIREMENT && job->failures == 0 && work->soon == 0)
		return DT_NOEND;
	if (job->failures > 0)
		delay = Min(MAX_BACK_OFF, 1 << Min(job->failures - 1, 16)) * INT64CONST(1000);
	else if (!database->has_extension)
		delay = NO_EXTENSION_NAP * INT64CONST(1000);
	else if (work->soon > 0)
		delay = Min(delay, work->soon);
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
}

/* Takes note of a worker that has ended; whether one still runs. */
static bool
reap(int index, WorkerKind kind)
{
	DatabaseState *database = &shared_state->databases[index];
	WorkState  *work = &database->work[kind];
	Job		   *job = &jobs[index][kind];
	pid_t		pid;

	if (job->handle == NULL)
		return false;
	if (GetBackgroundWorkerPid(job->handle, &pid) != BGWH_STOPPED)
		return true;
	pfree(job->handle);
	job->handle = NULL;

	/* it cleared its pid itself; one there now is a killed launcher's worker */
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	job->failures = work->finished ? 0 : job->failures + 1;
	work->due = next_due(database, kind, job);
	/* a wish that came while it ran stays, but doesn't end the back-off */
	if (!work->finished)
		work->wanted = false;
	LWLockRelease(shared_state->lock);
	return false;
}

/* Takes note of all workers that have ended, and counts those that run. */
static void
reap_all(int *running)
{
	memset(running, 0, sizeof(int) * WORKER_KINDS);
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
		for (int kind = 0; kind < WORKER_KINDS; kind++)
			if (reap(i, kind))
				running[kind]++;
}

/* Whether a backend needs the database for itself; a terminated one doesn't. */
static bool
is_reserved(DatabaseState *database)
{
	if (database->reserved_by != 0 && BackendPidGetProc(database->reserved_by) == NULL)
		database->reserved_by = 0;
	return database->reserved_by != 0;
}

/* A worker can start: all but a pass when one has found the extension. */
static bool
is_startable(const DatabaseState *database, int index, WorkerKind kind)
{
	/* a pid without a handle: a killed launcher's worker */
	return jobs[index][kind].handle == NULL && database->work[kind].pid == 0 &&
		(kind == WORKER_PASS || database->has_extension);
}

/*
 * How many more processes may run that can take long, besides a retirement: they
 * leave a slot for that, and all of them one for a pass.
 */
static int
room_for_long(const int *running, int calls)
{
	int			retiring = Max(running[WORKER_RETIREMENT], SHARED_SLOTS > 1 ? 1 : 0);

	return SHARED_SLOTS - retiring - running[WORKER_UPKEEP] - calls;
}

/* Whether one more worker of a kind may run. */
static bool
has_room(const int *running, int calls, WorkerKind kind)
{
	if (running[kind] >= MAX_WORKERS)
		return false;
	if (kind == WORKER_UPKEEP)
		return room_for_long(running, calls) > 0;
	return kind == WORKER_PASS ||
		running[WORKER_RETIREMENT] + running[WORKER_UPKEEP] + calls < SHARED_SLOTS;
}

/*
 * Chooses work that is due, and marks it as begun: from here on a wish means one
 * more run. False: there is none. *wake becomes the earliest of what is due later.
 */
static bool
take_due(const int *running, int calls, TimestampTz now, TimestampTz *wake, int *index, WorkerKind *kind)
{
	bool		found = false;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_MAX_DATABASES && !found; i++)
	{
		DatabaseState *database = &shared_state->databases[i];

		if (!OidIsValid(database->database) || is_reserved(database))
			continue;
		for (int k = 0; k < WORKER_KINDS && !found; k++)
		{
			WorkState  *work = &database->work[k];

			if (!is_startable(database, i, k))
				continue;
			if (!work->wanted && work->due > now)
				*wake = Min(*wake, work->due);
			else if (has_room(running, calls, k))
			{
				work->finished = false;
				work->soon = 0;
				work->wanted = false;
				work->due = now;
				*index = i;
				*kind = k;
				found = true;
			}
		}
	}
	LWLockRelease(shared_state->lock);
	return found;
}

/* The work stays wanted; unless our own workers have all slots, this is an error. */
static void
note_no_slot(int index, WorkerKind kind, bool report)
{
	static TimestampTz said = 0;
	WorkState  *work = &shared_state->databases[index].work[kind];
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	work->wanted = true;
	if (report)
		strlcpy(work->last_error, NO_SLOT, SHARED_TEXT);
	LWLockRelease(shared_state->lock);

	/* once a minute at most */
	if (!report || now - said < 60 * USECS_PER_SEC)
		return;
	said = now;
	ereport(LOG,
			(errmsg("sagaz_ha: could not start a worker for database %u: %s",
					shared_state->databases[index].database, NO_SLOT)));
}

/* Starts what is due; when the next will be. */
static TimestampTz
start_workers(int *running, int calls)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz wake = TimestampTzPlusMilliseconds(now, MAX_NAP);
	int			index;
	WorkerKind	kind;

	while (sagaz_enabled && take_due(running, calls, now, &wake, &index, &kind))
	{
		if (!worker_start(shared_state->databases[index].database, kind,
						  &jobs[index][kind].handle))
		{
			note_no_slot(index, kind, running[WORKER_PASS] + running[WORKER_RETIREMENT] + running[WORKER_UPKEEP] == 0);
			/* again when a worker ends, which sets our latch, or soon */
			return Min(wake, TimestampTzPlusMilliseconds(now, NO_SLOT_NAP));
		}
		running[kind]++;
	}
	if (sagaz_enabled && sagaz_retire &&
		!call_start_wanted(calls, Min(CALL_SLOTS, calls + room_for_long(running, calls))))
		return Min(wake, TimestampTzPlusMilliseconds(now, NO_SLOT_NAP));
	return wake;
}

static void
want_all(void)
{
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->rescan = true;
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
		shared_want_all(&shared_state->databases[i]);
	LWLockRelease(shared_state->lock);
}

/* Ends the workers of a kind: this launcher's by their handles, a killed one's by their pids. */
static void
end_workers(WorkerKind kind)
{
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
		if (jobs[i][kind].handle != NULL)
			TerminateBackgroundWorker(jobs[i][kind].handle);

	/* under the lock, a pid is that of a worker that hasn't exited */
	LWLockAcquire(shared_state->lock, LW_SHARED);
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
		if (jobs[i][kind].handle == NULL && shared_state->databases[i].work[kind].pid != 0)
			(void) kill(shared_state->databases[i].work[kind].pid, SIGTERM);
	LWLockRelease(shared_state->lock);
}

/* Changed settings take effect at once. Off ends what runs. */
static void
take_over_settings(void)
{
	process_reload();
	want_all();
	for (int kind = 0; kind < WORKER_KINDS; kind++)
		if (!sagaz_enabled || (kind == WORKER_RETIREMENT && !sagaz_retire))
			end_workers(kind);
	if (!sagaz_enabled || !sagaz_retire)
		call_start_end_all();
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->enabled = sagaz_enabled;
	if (sagaz_retire)
		shared_state->retire_off_since = 0;
	else if (shared_state->retire_off_since == 0)
		shared_state->retire_off_since = GetCurrentTimestamp();
	LWLockRelease(shared_state->lock);
}

/*
 * Does all that there is to do now; returns when there will be more. Workers are
 * reaped before the scan, which forgets no database that has one. No scan while
 * a transaction is open for proxy locks: it would keep the scan's snapshot.
 */
static TimestampTz
run_once(void)
{
	static TimestampTz previous = 0;
	static TimestampTz next_scan = 0;
	TimestampTz now = GetCurrentTimestamp();
	int			running[WORKER_KINDS];
	int			calls;

	/* the clock was set back: what is due would wait for the old time */
	if (now < previous)
		want_all();
	previous = now;
	if (ConfigReloadPending)
		take_over_settings();
	reap_all(running);
	calls = call_start_reap();
	if (!proxy_lock_serve() && sagaz_enabled && (shared_state->rescan || now >= next_scan))
	{
		scan_databases();
		next_scan = TimestampTzPlusMilliseconds(now, sagaz_naptime * INT64CONST(1000));
	}
	return Min(start_workers(running, calls), Max(next_scan, now + USECS_PER_SEC));
}

/* The launcher's entry point. */
void
sagaz_launcher_main(Datum arg)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "sagaz_ha launcher",
												  ALLOCSET_DEFAULT_SIZES);

	process_begin();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", "sagaz_ha launcher", PGC_USERSET, PGC_S_SESSION);
	sagaz_no_transaction_timeout();
	enter_shared_memory();
	ereport(LOG, (errmsg("sagaz_ha launcher started")));

	for (;;)
	{
		TimestampTz wake;

		MemoryContextSwitchTo(context);
		wake = run_once();
		MemoryContextReset(context);
		pgstat_report_activity(STATE_IDLE, NULL);
		process_nap(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), wake));
	}
}
