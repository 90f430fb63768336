/*
 * replication.c
 *		Replication health: its settings and its shared memory.
 *
 * The module only reads. What it knows beyond the server's own shared memory
 * comes from the sampler (sampler.c).
 */
#include "replication/state.h"

#include "base/compat.h"
#include <limits.h>

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replication/settings.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

ReplShared *repl_shared = NULL;

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

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

SAGAZ_FUNCTION(sagaz_thresholds);
SAGAZ_FUNCTION(sagaz_status);

static Size
shared_size(void)
{
	return add_size(offsetof(ReplShared, senders),
					mul_size(sizeof(ReplSender), max_wal_senders));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("sagaz_ha_replication", 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	repl_shared = ShmemInitStruct("sagaz_ha replication", shared_size(), &found);
	if (!found)
	{
		memset(repl_shared, 0, shared_size());
		repl_shared->lock = &GetNamedLWLockTranche("sagaz_ha_replication")->lock;
		repl_shared->nsenders = max_wal_senders;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* To be called while shared_preload_libraries is processed. */
void
replication_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
	sampler_register();
}

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
				 int value, int least, int most, int unit)
{
	DefineCustomIntVariable(name, description, NULL, variable, value,
							least, most, PGC_SIGHUP, unit, NULL, NULL, NULL);
}

void
replication_define_gucs(void)
{
	define_threshold("sagaz_ha.sample_interval",
					 "Time between two samples of the WAL's end.",
					 &repl_sample_interval, 1000, 100, 60000, GUC_UNIT_MS);
	define_threshold("sagaz_ha.replay_lag_warning",
					 "Replay lag from which replication health is a warning.",
					 &replay_lag_warning, 30, 0, INT_MAX, GUC_UNIT_S);
	define_threshold("sagaz_ha.replay_lag_critical",
					 "Replay lag from which replication health is critical.",
					 &replay_lag_critical, 120, 0, INT_MAX, GUC_UNIT_S);
	define_threshold("sagaz_ha.replay_lag_bytes_warning",
					 "Unreplayed WAL from which replication health is a warning.",
					 &replay_lag_bytes_warning, 1024, 0, INT_MAX, GUC_UNIT_MB);
	define_threshold("sagaz_ha.replay_lag_bytes_critical",
					 "Unreplayed WAL from which replication health is critical.",
					 &replay_lag_bytes_critical, 8192, 0, INT_MAX, GUC_UNIT_MB);
	define_threshold("sagaz_ha.slot_retained_warning",
					 "WAL kept by a slot from which it is a warning.",
					 &slot_retained_warning, 1024, 0, INT_MAX, GUC_UNIT_MB);
	define_threshold("sagaz_ha.slot_time_to_loss_critical",
					 "Time left before a slot is lost from which it is critical.",
					 &slot_time_to_loss_critical, 3600, 0, INT_MAX, GUC_UNIT_S);
	define_threshold("sagaz_ha.expected_standbys",
					 "Number of standbys that should be streaming, 0 for any.",
					 &expected_standbys, 0, 0, INT_MAX, 0);
	define_threshold("sagaz_ha.contact_grace",
					 "Silence of the other side that is not yet taken for its loss.",
					 &repl_contact_grace, 45, 1, INT_MAX, GUC_UNIT_S);
	define_threshold("sagaz_ha.xmin_age_warning",
					 "Age in transactions from which a held-back xmin is a warning.",
					 &xmin_age_warning, 10000000, 0, INT_MAX, 0);
	define_threshold("sagaz_ha.wal_disk_free_critical",
					 "Free space for WAL below which replication health is critical.",
					 &wal_disk_free_critical, 1024, 0, INT_MAX, GUC_UNIT_MB);
	DefineCustomStringVariable("sagaz_ha.expected_standby_names",
							   "Names (application_name) of standbys that should be streaming.",
							   "A comma-separated list.",
							   &expected_standby_names, "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_names, NULL, NULL);
}

/*
 * Who may see the numbers. The functions are granted to pg_monitor; a role
 * that they are granted to besides would otherwise get NULLs from the
 * server's views, and a healthy look from them.
 */
void
repl_require_monitor(const char *function)
{
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", function),
				 errdetail("Replication details are visible to roles with privileges of pg_read_all_stats."),
				 errhint("Grant pg_monitor to the role.")));
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

/*
 * The thresholds in the units that the SQL functions compare with. Reading
 * them with current_setting() would fail before the library is loaded.
 */
Datum
sagaz_thresholds(PG_FUNCTION_ARGS)
{
	Datum		values[12];
	bool		nulls[12] = {0};

	values[0] = rows_interval((TimeOffset) replay_lag_warning * USECS_PER_SEC);
	values[1] = rows_interval((TimeOffset) replay_lag_critical * USECS_PER_SEC);
	values[2] = Int64GetDatum((int64) replay_lag_bytes_warning << 20);
	values[3] = Int64GetDatum((int64) replay_lag_bytes_critical << 20);
	values[4] = Int64GetDatum((int64) slot_retained_warning << 20);
	values[5] = rows_interval((TimeOffset) slot_time_to_loss_critical * USECS_PER_SEC);
	/* a primary's expectation: a standby often has the same configuration */
	values[6] = Int32GetDatum(RecoveryInProgress() ? 0 : expected_standbys);
	values[7] = expected_names_array();
	values[8] = rows_interval((TimeOffset) repl_contact_grace * USECS_PER_SEC);
	values[9] = Int32GetDatum(xmin_age_warning);
	values[10] = Int64GetDatum((int64) wal_disk_free_critical << 20);
	values[11] = rows_interval((TimeOffset) repl_sample_interval * 1000);
	PG_RETURN_DATUM(rows_one(fcinfo, values, nulls));
}

/* The worst severity that one of the reasons begins with. */
Datum
sagaz_status(PG_FUNCTION_ARGS)
{
	static const char *const severities[] = {"critical", "warning", "unknown"};
	int			worst = lengthof(severities);
	Datum	   *reasons;
	bool	   *nulls;
	int			n;
	int			i;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false,
					  TYPALIGN_INT, &reasons, &nulls, &n);
	for (i = 0; i < n; i++)
	{
		char	   *reason = nulls[i] ? "" : TextDatumGetCString(reasons[i]);
		int			s;

		for (s = 0; s < worst; s++)
		{
			size_t		len = strlen(severities[s]);

			if (strncmp(reason, severities[s], len) == 0 && reason[len] == ':')
				worst = s;
		}
	}
	PG_RETURN_TEXT_P(cstring_to_text(worst < lengthof(severities) ?
									 severities[worst] : "ok"));
}
