/*
 * shared.c
 *		What launcher, workers and SQL functions tell each other.
 */
#include "shmem/shared.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "base/restored.h"
#include "base/settings.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A launcher that ended is back within a second; not after so many, in s. */
#define RESTART_TIME	60

SharedState *shared_state = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;
static bool wake_at_commit = false;
static bool callback_registered = false;

static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(SharedState)));
	RequestNamedLWLockTranche("sagaz_ha", 1);
}

static void
attach_memory(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	if (!IsUnderPostmaster)
		restored_note();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared_state = ShmemInitStruct("sagaz_ha", sizeof(SharedState), &found);
	if (!found)
	{
		memset(shared_state, 0, sizeof(SharedState));
		shared_state->launcher_since = GetCurrentTimestamp();
		shared_state->lock = &GetNamedLWLockTranche("sagaz_ha")[0].lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* To be called while shared_preload_libraries is processed. */
void
shared_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = attach_memory;
}

/* A database's entry, or NULL. The caller holds the lock. */
DatabaseState *
shared_find_database(Oid database)
{
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
		if (shared_state->databases[i].database == database)
			return &shared_state->databases[i];
	return NULL;
}

/*
 * Whether a worker does maintenance in this database; or will, when a launcher
 * that is being restarted, or has not looked for databases yet, finds it.
 */
bool
shared_is_served(Oid database)
{
	bool		served = false;

	if (shared_state == NULL || !sagaz_enabled)
		return false;
	LWLockAcquire(shared_state->lock, LW_SHARED);
	if (shared_state->launcher_pid != 0)
		served = shared_state->rescan || shared_find_database(database) != NULL;
	else
		served = !TimestampDifferenceExceeds(shared_state->launcher_since,
											 GetCurrentTimestamp(), RESTART_TIME * 1000);
	LWLockRelease(shared_state->lock);
	return served;
}

/* The caller holds the lock. */
void
shared_wake_launcher(void)
{
	if (shared_state->launcher_latch != NULL)
		SetLatch(shared_state->launcher_latch);
}

static void
wake_database(Oid database)
{
	DatabaseState *state;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(database);
	if (state != NULL)
	{
		state->has_extension = true;
		for (int kind = 0; kind < WORKER_KINDS; kind++)
			state->work[kind].next = 0;
	}
	else
		shared_state->rescan = true;
	shared_wake_launcher();
	LWLockRelease(shared_state->lock);
}

static void
wake_callback(XactEvent event, void *arg)
{
	if (!wake_at_commit)
		return;
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
	{
		wake_at_commit = false;
		if (event == XACT_EVENT_COMMIT)
			wake_database(MyDatabaseId);
	}
}

/* A policy has changed: its database's pass is due when that is visible. */
void
shared_wake_database_at_commit(void)
{
	if (shared_state == NULL)
		return;
	if (!callback_registered)
	{
		RegisterXactCallback(wake_callback, NULL);
		callback_registered = true;
	}
	wake_at_commit = true;
}

/* Ends a database's workers; true when none is left. The caller holds the lock. */
static bool
end_workers(DatabaseState *state)
{
	bool		gone = true;

	for (int kind = 0; kind < WORKER_KINDS; kind++)
	{
		if (state->work[kind].pid == 0)
			continue;
		gone = false;
		(void) kill(state->work[kind].pid, SIGTERM);
	}
	return gone;
}

/*
 * Keeps workers out of a database that a statement needs for itself. They end
 * between two transactions at the latest, so this wait is a short one.
 */
void
shared_hold_database(Oid database)
{
	for (int tries = 0; tries < 500; tries++)
	{
		DatabaseState *state;
		bool		gone = true;

		LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
		state = shared_find_database(database);
		if (state != NULL)
		{
			state->held_by = MyProcPid;
			gone = end_workers(state);
		}
		LWLockRelease(shared_state->lock);
		if (gone)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
shared_release_database(Oid database)
{
	DatabaseState *state;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(database);
	if (state != NULL && state->held_by == MyProcPid)
		state->held_by = 0;
	shared_state->rescan = true;
	shared_wake_launcher();
	LWLockRelease(shared_state->lock);
}
