/*
 * call_start.c
 *		Starting the processes that call before_drop functions.
 *
 * Invariant: only the launcher calls these functions, and only they register
 * such processes and free calls. After a restart of the launcher, a process of the
 * one before is known by its pid; one that has not started yet finds its call
 * gone, and ends.
 */
#include "process/call_start.h"

#include "base/process.h"
#include "base/settings.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "shmem/calls.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static BackgroundWorkerHandle *handles[SHARED_MAX_CALLS];

/* Frees what is over, and what has no database any more; how many processes run. */
int
call_start_reap(void)
{
	int			running = 0;

	for (int i = 0; i < SHARED_MAX_CALLS; i++)
	{
		Call	   *call = &shared_state->calls[i];
		pid_t		pid;

		if (handles[i] != NULL && GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STOPPED)
		{
			pfree(handles[i]);
			handles[i] = NULL;
		}
		LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
		if (handles[i] != NULL || call->work.pid != 0)
			running++;
		else if (call->state != CALL_WANTED || shared_find_database(call->database) == NULL)
			call->state = CALL_FREE;
		LWLockRelease(shared_state->lock);
	}
	return running;
}

static bool
start(int index)
{
	const Call *call = &shared_state->calls[index];
	BackgroundWorker worker;
	MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);
	bool		started;

	process_describe(&worker, "sagaz_before_drop_main", "sagaz_ha before_drop");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "sagaz_ha before_drop for database %u",
			 call->database);
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(index);
	memcpy(worker.bgw_extra, &call->database, sizeof(Oid));
	memcpy(worker.bgw_extra + sizeof(Oid), &call->partition, sizeof(Oid));
	started = RegisterDynamicBackgroundWorker(&worker, &handles[index]);
	MemoryContextSwitchTo(context);
	return started;
}

/*
 * Whether another database has a claim to the last process, because this one has
 * one. Under the lock.
 */
static bool
leaves_last(Oid database)
{
	if (!call_start_is_in(database))
		return false;
	for (int i = 0; i < sagaz_max_databases; i++)
	{
		const DatabaseState *other = &shared_state->databases[i];

		if (OidIsValid(other->database) && other->database != database && other->has_extension)
			return true;
	}
	return false;
}

/* The call that has been wanted for longest, and marks it as started; -1: none. */
static int
take_wanted(bool last)
{
	int			found = -1;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_MAX_CALLS; i++)
	{
		const Call *call = &shared_state->calls[i];
		const DatabaseState *database;

		if (call->state != CALL_WANTED || handles[i] != NULL)
			continue;
		database = shared_find_database(call->database);
		if (database != NULL && database->reserved_by == 0 &&
			!(last && leaves_last(call->database)) &&
			(found < 0 || call->work.since < shared_state->calls[found].work.since))
			found = i;
	}
	if (found >= 0)
		shared_state->calls[found].state = CALL_STARTED;
	LWLockRelease(shared_state->lock);
	return found;
}

/* Starts what is wanted, as long as there is room; false: there is no slot left. */
bool
call_start_wanted(int running, int room)
{
	int			index;

	for (; running < room && (index = take_wanted(running + 1 == room)) >= 0; running++)
	{
		if (start(index))
			continue;
		LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
		shared_state->calls[index].state = CALL_WANTED;
		LWLockRelease(shared_state->lock);
		return false;
	}
	return true;
}

/* Ends all processes, and takes back what is wanted. */
void
call_start_end_all(void)
{
	for (int i = 0; i < SHARED_MAX_CALLS; i++)
		if (handles[i] != NULL)
			TerminateBackgroundWorker(handles[i]);
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	(void) calls_end_in(InvalidOid);
	for (int i = 0; i < SHARED_MAX_CALLS; i++)
		if (shared_state->calls[i].state == CALL_WANTED)
			shared_state->calls[i].state = CALL_FREE;
	LWLockRelease(shared_state->lock);
}

/* Whether a process runs in the database, or is about to. Under the lock. */
bool
call_start_is_in(Oid database)
{
	for (int i = 0; i < SHARED_MAX_CALLS; i++)
		if (shared_state->calls[i].state == CALL_STARTED &&
			shared_state->calls[i].database == database)
			return true;
	return false;
}
