/*
 * process.c
 *		What each background process is registered with, begins with and waits by.
 */
#include "base/process.h"

#include <signal.h>

#include "base/compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

/* Who waits for a lock looks for a deadlock after this, in ms: before others do. */
#define DEADLOCK_TIMEOUT	100

bool		process_is_ours = false;

/*
 * Fills in what our processes have in common. The caller adds when it starts
 * and whether it starts again; its type is also its name.
 */
void
process_describe(BackgroundWorker *worker, const char *function, const char *type)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	strlcpy(worker->bgw_library_name, "sagaz_ha", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_type, type, sizeof(worker->bgw_type));
	strlcpy(worker->bgw_name, type, sizeof(worker->bgw_name));
}

/*
 * Sets the signal handlers. Until here a new process ignores SIGHUP, so
 * settings may have changed since it was forked.
 */
void
process_begin(void)
{
	process_is_ours = true;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	ConfigReloadPending = true;
	BackgroundWorkerUnblockSignals();
}

/*
 * Settings of ALTER DATABASE and ALTER ROLE must not stop or change maintenance:
 * those that autovacuum overrides, too. search_path is for the statements that
 * commit inside, and so lose the pinned one.
 */
void
process_ignore_settings(void)
{
	/* an unavailable synchronous standby must not stop maintenance */
	SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("search_path", "", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_deferrable", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("zero_damaged_pages", "off", PGC_SUSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);

	/*
	 * of a deadlock with somebody else's DDL, a restore's say, this process
	 * is the one that ends
	 */
	if (DeadlockTimeout > DEADLOCK_TIMEOUT)
		SetConfigOption("deadlock_timeout", psprintf("%d", DEADLOCK_TIMEOUT), PGC_SUSET, PGC_S_SESSION);
	sagaz_no_transaction_timeout();
}

/* Takes over changed settings, if there are any. */
void
process_reload(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* Waits for the latch, for so many ms at most; -1: however long it takes. */
void
process_nap(long timeout)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;

	(void) WaitLatch(MyLatch, timeout < 0 ? events : events | WL_TIMEOUT,
					 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
