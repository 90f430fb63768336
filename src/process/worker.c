/*
 * worker.c
 *		A short-lived process that does one piece of work in one database.
 *
 * Invariant: it ends when there is nothing to do now. A later one looks at what
 * has to wait, so waiting costs no process, lock or snapshot. While its pid is
 * in the database's entry, the launcher doesn't forget the entry.
 */
#include "postgres.h"

#include "base/attempt.h"
#include "base/compat.h"
#include "base/limit.h"
#include "base/process.h"
#include "base/settings.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pass/conversion.h"
#include "pass/run.h"
#include "pass/upkeep.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "shmem/progress.h"
#include "shmem/proxy_lock.h"
#include "shmem/shared.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * A draining partition is looked at again after this, in ms. An unavailable lock
 * is tried again after this, twice this, and so on.
 */
#define WAITING_NAP		1000

PGDLLEXPORT void sagaz_worker_main(Datum arg);

static DatabaseState *my_database = NULL;
static WorkState *my_work = NULL;

static void
leave(int code, Datum arg)
{
	/* after an error it may still be held */
	LWLockReleaseAll();
	proxy_lock_release();
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	my_work->pid = 0;
	my_work->stuck = limit_given_up();
	my_work->phase[0] = '\0';
	my_work->table[0] = '\0';
	my_work->subject = InvalidOid;
	/* the postmaster tells the launcher that started us, but no later one */
	if (MyBgworkerEntry->bgw_notify_pid != shared_state->launcher_pid)
		shared_wake_launcher();
	LWLockRelease(shared_state->lock);
}

/*
 * Enters this process in shared memory. False: the database is forgotten or
 * reserved, or has a worker of this kind that a killed launcher started.
 */
static bool
enter(Oid database, WorkerKind kind)
{
	DatabaseState *state;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(database);
	if (state != NULL && state->reserved_by == 0 && state->work[kind].pid == 0)
	{
		my_database = state;
		my_work = &state->work[kind];
		my_work->pid = MyProcPid;
		my_work->since = GetCurrentTimestamp();
		my_work->started = my_work->since;
		my_work->waiting_for[0] = '\0';
	}
	LWLockRelease(shared_state->lock);
	if (my_work == NULL)
		return false;
	before_shmem_exit(leave, (Datum) 0);
	progress_attach(my_work);
	return true;
}

static void
look_for_extension(void *arg)
{
	*(bool *) arg = OidIsValid(get_extension_oid("sagaz_ha", true));
}

static void
clock_step(void *arg)
{
	*(TimestampTz *) arg = settings_now();
}

/* How soon, in ms, what couldn't be done is tried again; 0: there is nothing. */
static int
next_try(const Pass *pass)
{
	int			soon = 0;

	my_work->deferrals = pass->deferred ? my_work->deferrals + 1 : 0;
	if (pass->waiting)
		soon = WAITING_NAP;
	else if (pass->deferred)
		soon = pass->defer_nap;
	if (!pass->waiting && pass->next_try != 0)
	{
		long		until = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), pass->next_try);

		until = Max(until, 1);
		soon = soon == 0 ? until : Min(soon, until);
	}
	return Min(soon, settings_naptime_ms());
}

/* A pass that found something to retire has that begin. */
static void
want_retirement(void)
{
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_want_retirement(my_database->database);
	LWLockRelease(shared_state->lock);
}

/*
 * The work of a kind; in how many ms the next is due, 0: when it is wanted. Sets
 * whether that is because something couldn't be done.
 */
static int
run(WorkerKind kind, bool *waits)
{
	Pass		pass;
	TimestampTz now;
	ErrorData  *error = attempt_in_transaction(clock_step, &now);
	int			soon;

	if (error != NULL)
		ReThrowError(error);
	run_init_background(&pass, now, kind, WAITING_NAP << Min(my_work->deferrals, 10));
	limit_note_stuck(my_work->stuck);
	if (kind == WORKER_UPKEEP || kind == WORKER_CONVERSION)
	{
		soon = kind == WORKER_UPKEEP ? upkeep_run(&pass, waits) : conversion_run(&pass);
		*waits = *waits || (kind == WORKER_CONVERSION && soon > 0);
		return soon;
	}
	run_pass(&pass, InvalidOid);
	if (pass.found_expired)
		want_retirement();
	/* it goes on by itself, unless one came with a prepared transaction */
	if (pass.found_conversion)
		shared_want(WORKER_CONVERSION);
	soon = next_try(&pass);
	*waits = soon > 0;
	if (kind == WORKER_RETIREMENT)
		return soon;
	return soon > 0 ? Min(soon, pass.due) : pass.due;
}

/* Set before the pass, since the status shows only databases that have it. */
static void
note_extension(bool has_extension)
{
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	my_database->has_extension = has_extension;
	LWLockRelease(shared_state->lock);
}

static void
note_end(int soon, bool waits)
{
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	my_work->finished = true;
	my_work->soon = soon;
	my_work->last = GetCurrentTimestamp();
	my_work->last_duration = Max(my_work->last - my_work->started, 0);
	my_work->passes++;
	if (!waits)
		my_work->waiting_for[0] = '\0';
	LWLockRelease(shared_state->lock);
}

/* A worker's entry point; the argument is its WorkerKind. */
void
sagaz_worker_main(Datum arg)
{
	WorkerKind	kind = (WorkerKind) DatumGetInt32(arg);
	Oid			database;
	bool		has_extension = false;
	int			soon = 0;
	bool		waits = false;
	ErrorData  *error;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	if (!enter(database, kind))
		proc_exit(0);
	process_begin();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_type, PGC_USERSET, PGC_S_SESSION);
	process_ignore_settings();
	CurrentMemoryContext = AllocSetContextCreate(TopMemoryContext, "sagaz_ha worker",
												 ALLOCSET_DEFAULT_SIZES);

	error = attempt_in_transaction(look_for_extension, &has_extension);
	if (error != NULL)
		ReThrowError(error);
	note_extension(has_extension);
	if (has_extension)
		soon = run(kind, &waits);
	note_end(soon, waits);
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(true);
	proc_exit(0);
}
