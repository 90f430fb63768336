/*
 * settings.c
 *		The settings (GUCs) of replication health, and the thresholds as a row.
 *
 * Invariant: every threshold is compared in SQL only, in the unit that the row
 * has it in.
 */
#include "replication/settings.h"

#include <limits.h>

#include "access/xlog.h"
#include "base/compat.h"
#include "base/rows.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#define THRESHOLD_COLS	12

int			repl_sample_interval = 1000;
int			repl_contact_grace = 45;

static int	replay_lag_warning = 30;
static int	replay_lag_critical = 120;
static int	replay_lag_bytes_warning = 1024;
static int	replay_lag_bytes_critical = 8192;
static int	slot_retained_warning = 1024;
static int	slot_time_to_loss_critical = 3600;
static int	expected_standbys = 0;
static char *expected_standby_names = NULL;
static int	xmin_age_warning = 10000000;
static int	wal_disk_free_critical = 1024;

SAGAZ_FUNCTION(sagaz_thresholds);

static bool
check_names(char **newval, void **extra, GucSource source)
{
	char	   *raw = pstrdup(*newval);
	List	   *names;

	if (!SplitIdentifierString(raw, ',', &names))
	{
		GUC_check_errdetail("List syntax is invalid.");
		pfree(raw);
		return false;
	}
	list_free(names);
	pfree(raw);
	return true;
}

static void
define_threshold(const char *name, const char *description, int *variable,
				 int least, int most, int unit)
{
	DefineCustomIntVariable(name, description, NULL, variable, *variable,
							least, most, PGC_SIGHUP, unit, NULL, NULL, NULL);
}

/* Defines the settings; called from _PG_init(). */
void
replication_settings_define(void)
{
	define_threshold("sagaz_ha.sample_interval",
					 "Time between two samples of the WAL's end.",
					 &repl_sample_interval, 100, 60000, GUC_UNIT_MS);
	define_threshold("sagaz_ha.replay_lag_warning",
					 "Replay lag from which replication health is a warning.",
					 &replay_lag_warning, 0, INT_MAX, GUC_UNIT_S);
	define_threshold("sagaz_ha.replay_lag_critical",
					 "Replay lag from which replication health is critical.",
					 &replay_lag_critical, 0, INT_MAX, GUC_UNIT_S);
	define_threshold("sagaz_ha.replay_lag_bytes_warning",
					 "Unreplayed WAL from which replication health is a warning.",
					 &replay_lag_bytes_warning, 0, INT_MAX, GUC_UNIT_MB);
	define_threshold("sagaz_ha.replay_lag_bytes_critical",
					 "Unreplayed WAL from which replication health is critical.",
					 &replay_lag_bytes_critical, 0, INT_MAX, GUC_UNIT_MB);
	define_threshold("sagaz_ha.slot_retained_warning",
					 "WAL kept by a slot from which it is a warning.",
					 &slot_retained_warning, 0, INT_MAX, GUC_UNIT_MB);
	define_threshold("sagaz_ha.slot_time_to_loss_critical",
					 "Time left before a slot is lost from which it is critical.",
					 &slot_time_to_loss_critical, 0, INT_MAX, GUC_UNIT_S);
	define_threshold("sagaz_ha.expected_standbys",
					 "Number of standbys that should be streaming, 0 for any.",
					 &expected_standbys, 0, INT_MAX, 0);
	define_threshold("sagaz_ha.contact_grace",
					 "Silence of the other side that is not yet taken for its loss.",
					 &repl_contact_grace, 1, INT_MAX, GUC_UNIT_S);
	define_threshold("sagaz_ha.xmin_age_warning",
					 "Age in transactions from which a held-back xmin is a warning.",
					 &xmin_age_warning, 0, INT_MAX, 0);
	define_threshold("sagaz_ha.wal_disk_free_critical",
					 "Free space for WAL below which replication health is critical.",
					 &wal_disk_free_critical, 0, INT_MAX, GUC_UNIT_MB);
	DefineCustomStringVariable("sagaz_ha.expected_standby_names",
							   "Names (application_name) of standbys that should be streaming.",
							   "A comma-separated list.",
							   &expected_standby_names, "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_names, NULL, NULL);
}

static Datum
expected_names_array(void)
{
	List	   *names;
	ListCell   *lc;
	Datum	   *elems;
	int			n = 0;

	if (RecoveryInProgress() ||
		!SplitIdentifierString(pstrdup(expected_standby_names), ',', &names))
		names = NIL;
	elems = palloc(sizeof(Datum) * (list_length(names) + 1));
	foreach(lc, names)
		elems[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

static int64
megabytes(int value)
{
	return (int64) value << 20;
}

static Datum
seconds(int value)
{
	return rows_interval((TimeOffset) value * USECS_PER_SEC);
}

/*
 * Returns the thresholds in the units that the SQL functions compare with.
 * current_setting() fails in a session that hasn't loaded the library yet.
 */
Datum
sagaz_thresholds(PG_FUNCTION_ARGS)
{
	Datum		values[THRESHOLD_COLS];
	bool		nulls[THRESHOLD_COLS] = {0};

	values[0] = seconds(replay_lag_warning);
	values[1] = seconds(replay_lag_critical);
	values[2] = Int64GetDatum(megabytes(replay_lag_bytes_warning));
	values[3] = Int64GetDatum(megabytes(replay_lag_bytes_critical));
	values[4] = Int64GetDatum(megabytes(slot_retained_warning));
	values[5] = seconds(slot_time_to_loss_critical);
	/* a primary's expectation: a standby often has the same configuration */
	values[6] = Int32GetDatum(RecoveryInProgress() ? 0 : expected_standbys);
	values[7] = expected_names_array();
	values[8] = seconds(repl_contact_grace);
	values[9] = Int32GetDatum(xmin_age_warning);
	values[10] = Int64GetDatum(megabytes(wal_disk_free_critical));
	values[11] = rows_interval((TimeOffset) repl_sample_interval * 1000);
	PG_RETURN_DATUM(rows_one(fcinfo, values, nulls));
}
