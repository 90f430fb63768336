/*
 * before_drop.c
 *		A process that calls a before_drop function once.
 *
 * Invariant: it is nobody's but that table's: no other one waits for it.
 */
#include "postgres.h"

#include "base/attempt.h"
#include "base/compat.h"
#include "base/process.h"
#include "base/settings.h"
#include "miscadmin.h"
#include "pass/before_drop.h"
#include "pass/run.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "shmem/calls.h"
#include "shmem/progress.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

PGDLLEXPORT void sagaz_before_drop_main(Datum arg);

static Call *my_call = NULL;

static void
leave(int code, Datum arg)
{
	/* after an error it may still be held */
	LWLockReleaseAll();
	calls_leave(my_call);
}

static void
clock_step(void *arg)
{
	*(TimestampTz *) arg = settings_now();
}

/* The entry point; the argument is the number of the call. */
void
sagaz_before_drop_main(Datum arg)
{
	Oid			database;
	Oid			partition;
	TimestampTz now;
	Pass		pass;
	ErrorData  *error;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	memcpy(&partition, MyBgworkerEntry->bgw_extra + sizeof(Oid), sizeof(Oid));
	my_call = calls_enter(DatumGetInt32(arg), partition);
	if (my_call == NULL)
		proc_exit(0);
	before_shmem_exit(leave, (Datum) 0);
	progress_attach(&my_call->work);
	process_begin();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_type, PGC_USERSET, PGC_S_SESSION);
	process_ignore_settings();
	CurrentMemoryContext = AllocSetContextCreate(TopMemoryContext, "sagaz_ha before_drop",
												 ALLOCSET_DEFAULT_SIZES);

	error = attempt_in_transaction(clock_step, &now);
	if (error != NULL)
		ReThrowError(error);
	run_init_background(&pass, now, WORKER_RETIREMENT, 0);
	run_load_problems(&pass);
	before_drop_call(&pass, partition);
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(true);
	proc_exit(0);
}
