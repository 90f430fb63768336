/*
 * worker.c
 *		A short-lived process that does one piece of work in one database.
 *
 * It ends when there is nothing to be done now: what has to wait is looked at
 * by the next one, so waiting costs no process, lock or snapshot.
 */
#include "process/worker.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "base/compat.h"
#include "shmem/hold.h"
#include "base/identity.h"
#include "pass/maintain.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shmem/progress.h"
#include "pass/retire.h"
#include "base/process.h"
#include "base/settings.h"
#include "storage/ipc.h"
#include "pass/upkeep.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/*
 * A partition that drains is looked at again after this, in ms. A lock that
 * could not be had is tried again after this, twice this, and so on.
 */
#define WAITING_NAP		1000

PGDLLEXPORT void sagaz_worker_main(Datum arg);

static const char *const kind_names[] = {
	[WORKER_PASS] = "sagaz_ha worker",
	[WORKER_UPKEEP] = "sagaz_ha upkeep"
};

static WorkState *my_work;

/* Asks the postmaster for a worker. False when there is no free slot. */
bool
worker_start(Oid database, WorkerKind kind, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);
	bool		started;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(kind);
	memcpy(worker.bgw_extra, &database, sizeof(Oid));
	strlcpy(worker.bgw_library_name, "sagaz_ha", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "sagaz_worker_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "%s for database %u",
			 kind_names[kind], database);
	strlcpy(worker.bgw_type, kind_names[kind], sizeof(worker.bgw_type));
	started = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(context);
	return started;
}

static void
leave(int code, Datum arg)
{
	LWLockReleaseAll();
	hold_release();
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	my_work->pid = 0;
	my_work->phase[0] = '\0';
	my_work->table[0] = '\0';
	/* the postmaster tells the launcher that started us, but no later one */
	if (MyBgworkerEntry->bgw_notify_pid != shared_state->launcher_pid)
		shared_wake_launcher();
	LWLockRelease(shared_state->lock);
}

/* Finds the database's entry; false when it is wanted no more. */
static bool
enter(Oid database, WorkerKind kind)
{
	DatabaseState *state;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(database);
	if (state != NULL && state->held_by == 0)
	{
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

/*
 * Runs a step in a transaction of its own. Returns NULL, or the error that
 * undid it. The step's memory lives until the worker ends.
 */
static ErrorData *
attempt_in_transaction(MaintainStep step, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	process_reload();
	CHECK_FOR_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PG_TRY();
	{
		/* a lock that somebody keeps on one table must not hold up the others */
		identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
		PushActiveSnapshot(GetTransactionSnapshot());
		MemoryContextSwitchTo(context);
		step(arg);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

static void
look_for_extension(void *arg)
{
	*(bool *) arg = OidIsValid(get_extension_oid("sagaz_ha", true));
}

static void
ignore_entry(const JournalEntry *entry, void *arg)
{
}

static void
clock_step(void *arg)
{
	*(TimestampTz *) arg = settings_now();
}

/* One pass; how soon, in ms, the next is wanted, or 0. */
static int
run_pass(WorkerKind kind)
{
	Pass		pass = {0, attempt_in_transaction, retire_background, ignore_entry, NULL, true};
	ErrorData  *error = attempt_in_transaction(clock_step, &pass.now);

	if (error != NULL)
		ReThrowError(error);
	if (kind == WORKER_UPKEEP)
	{
		upkeep_run(&pass);
		return 0;
	}
	retire_leftovers(&pass);
	maintain_run(&pass, InvalidOid);
	my_work->deferrals = pass.deferred ? my_work->deferrals + 1 : 0;
	if (pass.waiting)
		return WAITING_NAP;
	return pass.deferred ? WAITING_NAP << Min(my_work->deferrals - 1, 10) : 0;
}

/* Whether it's there shows at once: a first pass can be a long one. */
static void
note_extension(Oid database, bool has_extension)
{
	DatabaseState *state;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(database);
	if (state != NULL)
		state->has_extension = has_extension;
	LWLockRelease(shared_state->lock);
}

static void
note_end(Oid database, int soon)
{
	DatabaseState *state;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(database);
	if (state != NULL)
	{
		my_work->finished = true;
		my_work->soon = soon;
		my_work->last = GetCurrentTimestamp();
		my_work->last_duration = Max(my_work->last - my_work->started, 0);
		my_work->passes++;
		if (soon == 0)
			my_work->waiting_for[0] = '\0';
	}
	LWLockRelease(shared_state->lock);
}

/*
 * What ALTER DATABASE and ALTER ROLE set for people must not stop or change
 * maintenance; the same that autovacuum doesn't want. search_path is for the
 * statements that commit inside, which leave the pinned one behind.
 */
static void
ignore_settings(void)
{
	/* a synchronous standby that is gone must not stop maintenance */
	SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("search_path", "", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_deferrable", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("zero_damaged_pages", "off", PGC_SUSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	sagaz_no_transaction_timeout();
}

void
sagaz_worker_main(Datum arg)
{
	WorkerKind	kind = (WorkerKind) DatumGetInt32(arg);
	Oid			database;
	bool		has_extension = false;
	int			soon = 0;
	ErrorData  *error;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	if (!enter(database, kind))
		proc_exit(0);
	process_begin();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetConfigOption("application_name", kind_names[kind], PGC_USERSET, PGC_S_SESSION);
	ignore_settings();
	CurrentMemoryContext = AllocSetContextCreate(TopMemoryContext, "sagaz_ha worker",
												 ALLOCSET_DEFAULT_SIZES);

	error = attempt_in_transaction(look_for_extension, &has_extension);
	if (error != NULL)
		ReThrowError(error);
	note_extension(database, has_extension);
	if (has_extension)
		soon = run_pass(kind);
	note_end(database, soon);
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(true);
	proc_exit(0);
}
