/*
 * shared.c
 *		Shared memory of launcher, workers and SQL functions.
 *
 * Invariant: a change of policies or partitions asks for a pass after its commit,
 * so that the pass sees it.
 */
#include "shmem/shared.h"

#include "access/xact.h"
#include "base/restored.h"
#include "base/settings.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

/* Reasons to wake the launcher at commit. */
#define WAKE_FOR_POLICY		1
#define WAKE_FOR_DDL		2
#define WAKE_FOR_EXTENSION	4
#define WAKE_FOR_DATABASE	8

/* Work is late when it has been due for this and naptime, in ms. */
#define LATE	60000

/* The postmaster restarts a launcher within a second; not later than this, in s. */
#define RESTART_TIME	60

SharedState *shared_state = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;
static int	wake_at_commit = 0;
static bool callback_registered = false;

static Size
memory_size(void)
{
	return offsetof(SharedState, databases) + sagaz_max_databases * sizeof(DatabaseState);
}

static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(memory_size()));
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
	shared_state = ShmemInitStruct("sagaz_ha", memory_size(), &found);
	if (!found)
	{
		memset(shared_state, 0, memory_size());
		shared_state->launcher_since = GetCurrentTimestamp();
		shared_state->lock = &GetNamedLWLockTranche("sagaz_ha")[0].lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Asks for the memory; while shared_preload_libraries is processed. */
void
shared_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = attach_memory;
}

/* A database's entry, or NULL; of InvalidOid: a free one. Under the lock. */
DatabaseState *
shared_find_database(Oid database)
{
	Assert(LWLockHeldByMe(shared_state->lock));
	for (int i = 0; i < sagaz_max_databases; i++)
		if (shared_state->databases[i].database == database)
			return &shared_state->databases[i];
	return NULL;
}

/*
 * Copies an entry, so that it can be read without the lock. False: it is free.
 * Between two calls entries may come and go.
 */
bool
shared_copy_database(int index, DatabaseState *copy)
{
	const DatabaseState *state = &shared_state->databases[index];
	bool		used;

	LWLockAcquire(shared_state->lock, LW_SHARED);
	used = OidIsValid(state->database);
	if (used)
		memcpy(copy, state, sizeof(*copy));
	LWLockRelease(shared_state->lock);
	return used;
}

/*
 * Whether a worker does maintenance in this database, or will: a launcher that
 * restarts, or has yet to look for databases, will find it.
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

/* Whether the launcher has begun, or ended, at most so many seconds ago. */
bool
shared_launcher_is_younger_than(int seconds)
{
	TimestampTz since;

	if (shared_state == NULL)
		return false;
	LWLockAcquire(shared_state->lock, LW_SHARED);
	since = shared_state->launcher_since;
	LWLockRelease(shared_state->lock);
	return !TimestampDifferenceExceeds(since, GetCurrentTimestamp(), seconds * 1000);
}

/* A session knows of its own comparisons, and of others' where the launcher has the database. */
static int64 compared_here;
static TimestampTz compared_here_at = 0;

/* Whether this database's partitions were compared since then, and after so many changes. */
bool
shared_was_compared(int64 changes, TimestampTz since)
{
	DatabaseState *state;
	bool		was;

	if (compared_here == changes && compared_here_at >= since)
		return true;
	if (shared_state == NULL)
		return false;
	LWLockAcquire(shared_state->lock, LW_SHARED);
	state = shared_find_database(MyDatabaseId);
	was = state != NULL && state->compared == changes && state->compared_at >= since;
	LWLockRelease(shared_state->lock);
	return was;
}

/* They have been now. */
void
shared_note_comparison(int64 changes)
{
	DatabaseState *state;

	compared_here = changes;
	compared_here_at = GetCurrentTimestamp();
	if (shared_state == NULL)
		return;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(MyDatabaseId);
	if (state != NULL)
	{
		state->compared = changes;
		state->compared_at = GetCurrentTimestamp();
	}
	LWLockRelease(shared_state->lock);
}

/* Wakes the launcher. Under the lock: the latch is gone with the launcher. */
void
shared_wake_launcher(void)
{
	Assert(LWLockHeldByMeInMode(shared_state->lock, LW_EXCLUSIVE));
	if (shared_state->launcher_latch != NULL)
		SetLatch(shared_state->launcher_latch);
}

static void
want(WorkState *work, Wish wish)
{
	work->wanted = Max(work->wanted, wish);
	work->due = Min(work->due, GetCurrentTimestamp());
}

/* Has all work done in a database. Retirement follows a pass. Under the lock. */
void
shared_want_all(DatabaseState *database)
{
	Assert(LWLockHeldByMeInMode(shared_state->lock, LW_EXCLUSIVE));
	for (int kind = 0; kind < WORKER_KINDS; kind++)
		if (kind != WORKER_RETIREMENT)
			want(&database->work[kind], WISH_NOW);
}

/* Has expired partitions looked at in a database. Under the lock. */
void
shared_want_retirement(Oid database)
{
	DatabaseState *state = shared_find_database(database);

	if (state != NULL)
		want(&state->work[WORKER_RETIREMENT], WISH_NOW);
	shared_wake_launcher();
}

/* Has work of a kind done in this database. */
void
shared_want(WorkerKind kind)
{
	DatabaseState *state;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(MyDatabaseId);
	if (state != NULL)
		want(&state->work[kind], WISH_SOON);
	shared_wake_launcher();
	LWLockRelease(shared_state->lock);
}

/*
 * Whether work that is due waits for a process. One that begins within naptime and a
 * minute isn't late.
 */
bool
shared_is_overdue(const WorkState *work, TimestampTz now)
{
	return work->pid == 0 &&
		TimestampDifferenceExceeds(work->due, now, settings_naptime_ms() + LATE);
}

/* Asks for work in a database; the launcher looks for one that it doesn't know. */
static void
wake_database(Oid database, int reasons)
{
	DatabaseState *state;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(database);
	if (reasons & WAKE_FOR_POLICY && state != NULL)
	{
		state->has_extension = true;
		shared_want_all(state);
	}
	else if (state != NULL && (state->has_extension || reasons & WAKE_FOR_EXTENSION))
		want(&state->work[WORKER_PASS], reasons & WAKE_FOR_EXTENSION ? WISH_NOW : WISH_SOON);
	if (reasons & WAKE_FOR_DATABASE || (state == NULL && reasons & ~WAKE_FOR_DDL))
		shared_state->rescan = true;
	shared_wake_launcher();
	LWLockRelease(shared_state->lock);
}

/* What is prepared is seen later, by what its commit has written. */
static void
wake_callback(XactEvent event, void *arg)
{
	int			reasons = wake_at_commit;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	wake_at_commit = 0;
	if (reasons != 0 && event == XACT_EVENT_COMMIT)
		wake_database(MyDatabaseId, reasons);
}

static void
wake_at_commit_for(int reason)
{
	if (shared_state == NULL)
		return;
	if (!callback_registered)
	{
		RegisterXactCallback(wake_callback, NULL);
		callback_registered = true;
	}
	wake_at_commit |= reason;
}

/* A policy has changed: work in this database is wanted once that is visible. */
void
shared_wake_database_at_commit(void)
{
	wake_at_commit_for(WAKE_FOR_POLICY);
}

/* The same of partitions: a pass is wanted, where the extension is. */
void
shared_wake_for_ddl_at_commit(void)
{
	wake_at_commit_for(WAKE_FOR_DDL);
}

/* The same of an extension that comes or goes: whether it is ours is seen there. */
void
shared_wake_for_extension_at_commit(void)
{
	wake_at_commit_for(WAKE_FOR_EXTENSION);
}

/* A database comes, goes or changes: the launcher looks which there are. */
void
shared_rescan_at_commit(void)
{
	wake_at_commit_for(WAKE_FOR_DATABASE);
}
