/*
 * settings.c
 *		The settings of maintenance, and its clock.
 */
#include "base/settings.h"

#include <limits.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

bool		sagaz_enabled = true;
bool		sagaz_retire = true;
int			sagaz_naptime = 60;
int			sagaz_max_databases = 1024;
int			sagaz_lock_timeout = 1000;
int			sagaz_conversion_lock_timeout = 100;
int			sagaz_standby_drain_timeout = 3600;
bool		sagaz_protect = true;
int			sagaz_condition_timeout = 30000;
int			sagaz_before_drop_timeout = 3600;
char	   *sagaz_stop_at = NULL;

static char *databases = NULL;
static char *clock_setting = NULL;

static TimestampTz
parse_time(const char *value)
{
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(value),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

/* An invalid time must be refused when it is set, not in the next pass. */
static bool
check_clock(char **newval, void **extra, GucSource source)
{
	if (*newval == NULL || **newval == '\0')
		return true;
	/* the time zone tables may not be there yet while the server starts */
	if (!IsUnderPostmaster)
		return true;
	if (TIMESTAMP_NOT_FINITE(parse_time(*newval)))
	{
		GUC_check_errdetail("The clock must be a finite time.");
		return false;
	}
	return true;
}

/* Defines the settings; to be called when the library is loaded. */
void
settings_define(void)
{
	DefineCustomBoolVariable("sagaz_ha.enabled",
							 "Runs maintenance in the background.",
							 "Off stops passes at once.",
							 &sagaz_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("sagaz_ha.retire",
							 "Retires expired partitions.",
							 "Off stops that at once, in passes by hand as well; partitions are made all the same.",
							 &sagaz_retire, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sagaz_ha.naptime",
							"Longest time until what had to be put off, or was written meanwhile, is looked at.",
							NULL,
							&sagaz_naptime, 60, 1, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	/* it sizes shared memory, which is there only if the library is preloaded */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("sagaz_ha.max_databases",
								"Databases that there is room for in shared memory.",
								"One beyond them is not maintained, and says so.",
								&sagaz_max_databases, 1024, 1, 100000,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("sagaz_ha.databases",
							   "Databases that background maintenance is limited to.",
							   "A comma-separated list; empty means every database that has the extension.",
							   &databases, "",
							   PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
	DefineCustomIntVariable("sagaz_ha.lock_timeout",
							"Longest wait for a lock on a partitioned table.",
							NULL,
							&sagaz_lock_timeout, 1000, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sagaz_ha.conversion_lock_timeout",
							"Longest wait for a strong lock on a table that is becoming partitioned.",
							NULL,
							&sagaz_conversion_lock_timeout, 100, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sagaz_ha.standby_drain_timeout",
							"Longest wait for a standby that is gone but holds a replication slot.",
							NULL,
							&sagaz_standby_drain_timeout, 3600, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("sagaz_ha.condition_timeout",
							"Longest time that one look at unfinished_when may take.",
							"0 means no limit.",
							&sagaz_condition_timeout, 30000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sagaz_ha.before_drop_timeout",
							"Longest time that one call of a before_drop function may take.",
							"0 means no limit.",
							&sagaz_before_drop_timeout, 3600, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable("sagaz_ha.protect",
							 "Refuses what would lose rows of protected partitions.",
							 "Off lets DROP, DETACH and TRUNCATE through.",
							 &sagaz_protect, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
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
}

/* The time that a test has set, or else that of the transaction. */
TimestampTz
settings_now(void)
{
	if (clock_setting == NULL || clock_setting[0] == '\0')
		return GetCurrentTransactionStartTimestamp();
	return parse_time(clock_setting);
}

/* sagaz_ha.naptime, in ms */
int
settings_naptime_ms(void)
{
	return sagaz_naptime * 1000;
}

/* Whether sagaz_ha.databases has this one, or has none at all. */
bool
settings_want_database(const char *name)
{
	List	   *names;
	ListCell   *cell;

	if (databases == NULL || databases[0] == '\0')
		return true;
	if (!SplitIdentifierString(pstrdup(databases), ',', &names))
		return false;
	foreach(cell, names)
	{
		if (strcmp((char *) lfirst(cell), name) == 0)
			return true;
	}
	return false;
}
