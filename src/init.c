/*
 * init.c
 *		Loading the library: settings and registration, nothing else.
 */
#include "sagaz_ha.h"

#include <limits.h>

#include "access/xact.h"
#include "fmgr.h"
#include "guard.h"
#include "launcher.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication.h"
#include "shared.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

PG_MODULE_MAGIC;

bool		sagaz_enabled = true;
int			sagaz_naptime = 60;
char	   *sagaz_databases = NULL;
int			sagaz_lock_timeout = 1000;
int			sagaz_standby_drain_timeout = 3600;
char	   *sagaz_stop_at = NULL;

static char *clock_setting = NULL;

void		_PG_init(void);

/* An invalid time must be refused when it is set, not in the next pass. */
static bool
check_clock(char **newval, void **extra, GucSource source)
{
	TimestampTz parsed;

	if (*newval == NULL || **newval == '\0')
		return true;
	/* the time zone tables may not be there yet while the server starts */
	if (!IsUnderPostmaster)
		return true;
	parsed = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
													 CStringGetDatum(*newval),
													 ObjectIdGetDatum(InvalidOid),
													 Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(parsed))
	{
		GUC_check_errdetail("The clock must be a finite time.");
		return false;
	}
	return true;
}

TimestampTz
sagaz_now(void)
{
	if (clock_setting == NULL || clock_setting[0] == '\0')
		return GetCurrentTransactionStartTimestamp();
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(clock_setting),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

void
sagaz_process_reload(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/*
 * Until here a new process ignores SIGHUP, so settings may have changed since
 * it was forked.
 */
void
sagaz_take_signals(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	ConfigReloadPending = true;
	BackgroundWorkerUnblockSignals();
}

void
_PG_init(void)
{
	DefineCustomBoolVariable("sagaz_ha.enabled",
							 "Runs maintenance in the background.",
							 "Off stops passes at once.",
							 &sagaz_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sagaz_ha.naptime",
							"Time between two background passes over a database.",
							NULL,
							&sagaz_naptime, 60, 1, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("sagaz_ha.databases",
							   "Databases that background maintenance is limited to.",
							   "A comma-separated list; empty means every database that has the extension.",
							   &sagaz_databases, "",
							   PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
	DefineCustomIntVariable("sagaz_ha.lock_timeout",
							"Longest wait for a lock on a partitioned table.",
							NULL,
							&sagaz_lock_timeout, 1000, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sagaz_ha.standby_drain_timeout",
							"Longest wait for a standby that is gone but holds a replication slot.",
							NULL,
							&sagaz_standby_drain_timeout, 3600, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("sagaz_ha.clock",
							   "Time that maintenance takes for now, for tests.",
							   "Empty means the time of the transaction.",
							   &clock_setting, "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   check_clock, NULL, NULL);
	DefineCustomStringVariable("sagaz_ha.stop_at",
							   "Point at which a worker stops, for tests.",
							   NULL,
							   &sagaz_stop_at, "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	replication_define_gucs();

	/*
	 * Not while pg_upgrade runs the server: on the old one nothing may change
	 * once it is dumped, and the new one is still being filled.
	 */
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
	{
		shared_init();
		launcher_register();
		guard_register();
		replication_init();
	}
	MarkGUCPrefixReserved("sagaz_ha");
}
