/*
 * calls.c
 *		Calls of before_drop functions, each by a process of its own.
 *
 * Invariant: a call goes free -> wanted -> started -> over, and only the launcher
 * frees it. There is one at a time for a table, so that a table with many expired
 * partitions leaves room for others, and half of them are the most for a database.
 * What is lost here is asked for again: that a partition waits for its function is
 * in sagaz_ha.retirement.
 */
#include "shmem/calls.h"

#include <signal.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

/* So many calls of one database are wanted or run at a time. */
#define MAX_OF_DATABASE		(SHARED_MAX_CALLS / 2)

/* Whether a call for the partition is wanted or runs. */
bool
calls_has(Oid partition)
{
	bool		found = false;

	LWLockAcquire(shared_state->lock, LW_SHARED);
	for (int i = 0; i < SHARED_MAX_CALLS; i++)
	{
		const Call *call = &shared_state->calls[i];

		if (call->database == MyDatabaseId && call->partition == partition &&
			(call->state == CALL_WANTED || call->state == CALL_STARTED))
			found = true;
	}
	LWLockRelease(shared_state->lock);
	return found;
}

/* Asks for a call, with a name for people. False: its table has one, or there is no room now. */
bool
calls_want(Oid parent, Oid partition, const char *name)
{
	Call	   *place = NULL;
	bool		has_one = false;
	int			of_database = 0;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_MAX_CALLS; i++)
	{
		Call	   *call = &shared_state->calls[i];

		if (call->state == CALL_FREE)
			place = call;
		else if (call->database == MyDatabaseId)
		{
			of_database++;
			has_one = has_one || call->parent == parent;
		}
	}
	if (of_database >= MAX_OF_DATABASE)
		place = NULL;
	if (!has_one && place != NULL)
	{
		memset(place, 0, sizeof(*place));
		place->state = CALL_WANTED;
		place->database = MyDatabaseId;
		place->parent = parent;
		place->partition = partition;
		place->work.since = GetCurrentTimestamp();
		memcpy(place->work.table, name, pg_mbcliplen(name, strlen(name), SHARED_TEXT - 1));
		shared_wake_launcher();
	}
	LWLockRelease(shared_state->lock);
	return !has_one && place != NULL;
}

/* Copies a call and the name of its database; false: there is none. */
bool
calls_copy(int index, Call *copy, NameData *database)
{
	const Call *call = &shared_state->calls[index];
	const DatabaseState *state = NULL;

	LWLockAcquire(shared_state->lock, LW_SHARED);
	if (call->state == CALL_WANTED || call->state == CALL_STARTED)
		state = shared_find_database(call->database);
	if (state != NULL)
	{
		*copy = *call;
		*database = state->name;
	}
	LWLockRelease(shared_state->lock);
	return state != NULL;
}

/*
 * Signals the processes of a database, or of all: InvalidOid; true when there are
 * none. Under the lock: a process clears its pid before it exits.
 */
bool
calls_end_in(Oid database)
{
	bool		gone = true;

	Assert(LWLockHeldByMe(shared_state->lock));
	for (int i = 0; i < SHARED_MAX_CALLS; i++)
	{
		const Call *call = &shared_state->calls[i];

		if (call->work.pid == 0 || (OidIsValid(database) && call->database != database))
			continue;
		gone = false;
		(void) kill(call->work.pid, SIGTERM);
	}
	return gone;
}

/* Makes this process the one of a call; NULL: it isn't wanted any more, or not now. */
Call *
calls_enter(int index, Oid partition)
{
	Call	   *call = &shared_state->calls[index];
	const DatabaseState *database;
	bool		wanted;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	database = shared_find_database(call->database);
	wanted = call->state == CALL_STARTED && call->work.pid == 0 &&
		call->partition == partition && database != NULL && database->reserved_by == 0;
	if (wanted)
	{
		call->work.pid = MyProcPid;
		call->work.since = GetCurrentTimestamp();
		call->work.started = call->work.since;
	}
	LWLockRelease(shared_state->lock);
	return wanted ? call : NULL;
}

/* Ends this process's call: what came of it is looked at at once. */
void
calls_leave(Call *call)
{
	DatabaseState *database;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	call->work.pid = 0;
	call->state = CALL_OVER;
	database = shared_find_database(call->database);
	if (database != NULL)
	{
		WorkState  *work = &database->work[WORKER_RETIREMENT];

		work->actions += call->work.actions;
		work->errors += call->work.errors;
		if (call->work.last_error[0] != '\0')
			strlcpy(work->last_error, call->work.last_error, SHARED_TEXT);
	}
	shared_want_retirement(call->database);
	LWLockRelease(shared_state->lock);
}
