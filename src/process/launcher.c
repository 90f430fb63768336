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
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
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

/* What is shown and logged when the postmaster has no room for a worker. */
#define NO_SLOT				"no free background worker slot; raise max_worker_processes"

/*
 * Longest time until the clock and the counters of writes are looked at again, in ms; or
 * naptime, if that is shorter. To wake up is most of what a server at rest pays for us.
 */
#define MAX_NAP				60000

/* A clock that differs from the monotonic one by more than this was set, in us. */
#define CLOCK_JUMP			USECS_PER_SEC

/* Between two passes over a database, however often one is wanted, in ms. */
#define LEAST_NAP			200

/* The same, while work waits for a background worker slot. */
#define NO_SLOT_NAP			1000

/* Until a database is looked at again that a backend needs for itself, in ms. */
#define RESERVED_NAP		5000

/* After a worker that failed: 1 s, 2 s, … up to this, in s. */
#define MAX_BACK_OFF		600

PGDLLEXPORT void sagaz_launcher_main(Datum arg);

/* A worker that this launcher has started. */
typedef struct Job
{
	BackgroundWorkerHandle *handle; /* NULL: none runs */
	int			failures;		/* consecutive */
	int64		writes;			/* in the database, when it began */
} Job;

/* By a database's entry in shared memory. */
static Job	(*jobs)[WORKER_KINDS];

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

/* Enters a database that is new; false: there is no room. Under the lock. */
static bool
enter_database(const Database *database)
{
	DatabaseState *state = shared_find_database(database->oid);

	Assert(LWLockHeldByMeInMode(shared_state->lock, LW_EXCLUSIVE));
	if (state == NULL)
	{
		state = shared_find_database(InvalidOid);
		if (state == NULL)
			return false;
		memset(state, 0, sizeof(*state));
		memset(jobs[state - shared_state->databases], 0, sizeof(jobs[0]));
		state->database = database->oid;
		for (int kind = 0; kind < WORKER_KINDS; kind++)
			state->work[kind].due = DT_NOEND;
		shared_want_all(state);
	}
	namestrcpy(&state->name, NameStr(database->name));
	return true;
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

/* Names the databases that have found no room, when they have become others. */
static void
tell_left_out(List *left_out)
{
	static char said[1024] = "";
	StringInfoData names;
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, left_out)
		appendStringInfo(&names, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
						 quote_identifier(NameStr(((const Database *) lfirst(cell))->name)));
	if (names.len >= sizeof(said))
		strcpy(names.data + sizeof(said) - 5, " ...");
	if (strcmp(names.data, said) == 0)
		return;
	strlcpy(said, names.data, sizeof(said));
	if (left_out != NIL)
		ereport(LOG,
				(errmsg("sagaz_ha: databases that are not maintained, because there is room for %d only: %s",
						sagaz_max_databases, said),
				 errhint("Raise sagaz_ha.max_databases and restart the server, or list the others in sagaz_ha.databases.")));
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
	/* first, since that makes room */
	for (int i = 0; i < sagaz_max_databases; i++)
	{
		Oid			oid = shared_state->databases[i].database;

		if (OidIsValid(oid) && !is_among(databases, oid))
			forget_database(i);
	}
	/* what is left in the list has found no room */
	foreach(cell, databases)
	{
		if (enter_database((const Database *) lfirst(cell)))
			databases = foreach_delete_current(databases, cell);
	}
	shared_state->is_full = databases != NIL;
	LWLockRelease(shared_state->lock);
	tell_left_out(databases);
}

/* Notes when the next worker of a kind is due after one has ended. Under the lock. */
static void
note_next(DatabaseState *database, WorkerKind kind, Job *job)
{
	WorkState  *work = &database->work[kind];
	TimestampTz now = GetCurrentTimestamp();

	if (!work->finished)
	{
		int			delay = Min(MAX_BACK_OFF, 1 << Min(job->failures, 16));

		job->failures++;
		work->not_before = TimestampTzPlusMilliseconds(now, delay * INT64CONST(1000));
		/* a wish that came while it ran doesn't end the back-off */
		work->wanted = WISH_NONE;
		return;
	}
	job->failures = 0;

	/*
	 * others may queue behind us for a lock that is waited for: not each time
	 * that something happens
	 */
	work->not_before = work->deferrals > 0 ? TimestampTzPlusMilliseconds(now, work->soon) : 0;
	work->due = work->wanted != WISH_NONE ? now : kind == WORKER_RETIREMENT && work->soon == 0 ? DT_NOEND :
		TimestampTzPlusMilliseconds(now, work->soon > 0 ? work->soon :
									kind == WORKER_PASS ? SHARED_NET_NAP : SHARED_LONG_NAP);
}

/* Takes note of a worker that has ended; whether one still runs. */
static bool
reap(int index, WorkerKind kind)
{
	DatabaseState *database = &shared_state->databases[index];
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
	note_next(database, kind, job);
	LWLockRelease(shared_state->lock);
	return false;
}

/* Takes note of all workers that have ended, and counts those that run. */
static void
reap_all(int *running)
{
	memset(running, 0, sizeof(int) * WORKER_KINDS);
	for (int i = 0; i < sagaz_max_databases; i++)
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

	return SHARED_SLOTS - retiring - running[WORKER_UPKEEP] - running[WORKER_CONVERSION] - calls;
}

/* Whether one more worker of a kind may run. */
static bool
has_room(const int *running, int calls, WorkerKind kind)
{
	if (running[kind] >= MAX_WORKERS)
		return false;
	if (kind == WORKER_UPKEEP || kind == WORKER_CONVERSION)
		return room_for_long(running, calls) > 0;
	return kind == WORKER_PASS ||
		running[WORKER_RETIREMENT] + running[WORKER_UPKEEP] + running[WORKER_CONVERSION] + calls <
		SHARED_SLOTS;
}

/* When work may begin. A wish ends no pause between two passes. */
static TimestampTz
begin_of(const WorkState *work, WorkerKind kind, TimestampTz now)
{
	TimestampTz begin = work->wanted == WISH_NOW ? 0 : Max(work->due, work->not_before);

	/* a clock that was set back delays nothing */
	if (kind != WORKER_PASS || work->wanted == WISH_NONE || work->last > now)
		return begin;
	return Max(begin, TimestampTzPlusMilliseconds(work->last, LEAST_NAP));
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
	for (int i = 0; i < sagaz_max_databases && !found; i++)
	{
		DatabaseState *database = &shared_state->databases[i];

		if (!OidIsValid(database->database))
			continue;
		if (is_reserved(database))
		{
			/* a backend that was terminated meanwhile doesn't say so */
			*wake = Min(*wake, TimestampTzPlusMilliseconds(now, RESERVED_NAP));
			continue;
		}
		for (int k = 0; k < WORKER_KINDS && !found; k++)
		{
			WorkState  *work = &database->work[k];

			if (!is_startable(database, i, k))
				continue;
			if (begin_of(work, k, now) > now)
				*wake = Min(*wake, begin_of(work, k, now));
			else if (has_room(running, calls, k))
			{
				work->finished = false;
				work->soon = 0;
				work->wanted = WISH_NONE;
				work->due = Min(work->due, now);
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
	work->wanted = WISH_NOW;
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
		if (kind == WORKER_UPKEEP)
			jobs[index][kind].writes = sagaz_writes_in(shared_state->databases[index].database);
		if (!worker_start(shared_state->databases[index].database, kind,
						  &jobs[index][kind].handle))
		{
			note_no_slot(index, kind, running[WORKER_PASS] + running[WORKER_RETIREMENT] +
						 running[WORKER_UPKEEP] + running[WORKER_CONVERSION] == 0);
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

/*
 * Upkeep is due in databases in which rows were written since it began the last time:
 * partitions that were filled or analyzed, and what the catalogs tell of (repair.c
 * wants a pass then). Without statistics, each is taken for written.
 */
static void
look_for_writes(TimestampTz now)
{
	for (int i = 0; i < sagaz_max_databases; i++)
	{
		DatabaseState *database = &shared_state->databases[i];
		Job		   *job = &jobs[i][WORKER_UPKEEP];
		WorkState  *work = &database->work[WORKER_UPKEEP];
		int64		writes;

		if (!OidIsValid(database->database) || !database->has_extension || job->handle != NULL)
			continue;
		writes = sagaz_writes_in(database->database);
		if (writes == job->writes && pgstat_track_counts)
			continue;
		LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
		work->due = Min(work->due, Max(now, TimestampTzPlusMilliseconds(work->last, settings_naptime_ms())));
		LWLockRelease(shared_state->lock);
	}
}

/* Whether the clock was set since the last time, by comparing it with one that can't be. */
static bool
clock_was_set(TimestampTz now)
{
	static int64 previous = 0;
	instr_time	monotonic;
	int64		difference;
	bool		was_set;

	INSTR_TIME_SET_CURRENT(monotonic);
	difference = now - (int64) INSTR_TIME_GET_MICROSEC(monotonic);
	was_set = previous != 0 && (difference - previous > CLOCK_JUMP || previous - difference > CLOCK_JUMP);
	previous = difference;
	return was_set;
}

static void
want_all(void)
{
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->rescan = true;
	for (int i = 0; i < sagaz_max_databases; i++)
		shared_want_all(&shared_state->databases[i]);
	LWLockRelease(shared_state->lock);
}

/* Ends the workers of a kind: this launcher's by their handles, a killed one's by their pids. */
static void
end_workers(WorkerKind kind)
{
	for (int i = 0; i < sagaz_max_databases; i++)
		if (jobs[i][kind].handle != NULL)
			TerminateBackgroundWorker(jobs[i][kind].handle);

	/* under the lock, a pid is that of a worker that hasn't exited */
	LWLockAcquire(shared_state->lock, LW_SHARED);
	for (int i = 0; i < sagaz_max_databases; i++)
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
	static TimestampTz next_scan = 0;
	static TimestampTz next_look = 0;
	TimestampTz now = GetCurrentTimestamp();
	int			running[WORKER_KINDS];
	int			calls;

	/* times that were noted before mean others now */
	if (clock_was_set(now))
	{
		want_all();
		next_scan = next_look = 0;
	}
	if (ConfigReloadPending)
	{
		take_over_settings();
		next_look = 0;
	}
	reap_all(running);
	calls = call_start_reap();
	if (!proxy_lock_serve() && sagaz_enabled && (shared_state->rescan || now >= next_scan))
	{
		scan_databases();
		next_scan = TimestampTzPlusMilliseconds(now, settings_naptime_ms());
	}
	if (now >= next_look)
	{
		if (sagaz_enabled)
			look_for_writes(now);
		next_look = TimestampTzPlusMilliseconds(now, Min(settings_naptime_ms(), MAX_NAP));
	}
	return Min(Min(start_workers(running, calls), next_look), Max(next_scan, now + USECS_PER_SEC));
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
	SetConfigOption("stats_fetch_consistency", "none", PGC_USERSET, PGC_S_SESSION);
	sagaz_no_transaction_timeout();
	jobs = MemoryContextAllocZero(TopMemoryContext, sagaz_max_databases * sizeof(jobs[0]));
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
