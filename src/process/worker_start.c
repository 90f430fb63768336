/*
 * worker_start.c
 *		Asking the postmaster for a worker.
 *
 * Invariant: the postmaster signals the process that asked when the worker
 * starts and when it ends, and never restarts a worker.
 */
#include "process/worker_start.h"

#include "base/process.h"
#include "miscadmin.h"
#include "utils/memutils.h"

static const char *const types[] = {
	[WORKER_PASS] = "sagaz_ha worker",
	[WORKER_RETIREMENT] = "sagaz_ha retirement",
	[WORKER_UPKEEP] = "sagaz_ha upkeep"
};

/*
 * Registers a worker; false when there is no free slot. The handle is allocated
 * in TopMemoryContext.
 */
bool
worker_start(Oid database, WorkerKind kind, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);
	bool		started;

	process_describe(&worker, "sagaz_worker_main", types[kind]);
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "%s for database %u",
			 types[kind], database);
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(kind);
	memcpy(worker.bgw_extra, &database, sizeof(Oid));
	started = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(context);
	return started;
}
