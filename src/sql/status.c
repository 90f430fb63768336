/*
 * status.c
 *		What launcher and workers are doing, as rows.
 *
 * Invariant: reads shared memory only.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/rows.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "shmem/shared.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

SAGAZ_FUNCTION(sagaz_maintenance_status);

#define MAINTENANCE_STATUS_COLS	16

/*
 * A text that a worker wrote, maybe in a database of another encoding: what
 * isn't valid here is shown in ASCII, or the status could not be read at all.
 */
static Datum
nonempty_or_null(const char *value, bool *isnull)
{
	char	   *shown = pstrdup(value);

	if (!pg_verifymbstr(shown, strlen(shown), true))
		for (char *c = shown; *c != '\0'; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	return rows_text(shown[0] == '\0' ? NULL : shown, isnull);
}

static void
add_launcher(FunctionCallInfo fcinfo)
{
	Datum		values[MAINTENANCE_STATUS_COLS] = {0};
	bool		nulls[MAINTENANCE_STATUS_COLS];
	TimestampTz since;
	bool		enabled;
	pid_t		pid;

	LWLockAcquire(shared_state->lock, LW_SHARED);
	pid = shared_state->launcher_pid;
	enabled = shared_state->enabled;
	since = shared_state->launcher_since;
	LWLockRelease(shared_state->lock);
	memset(nulls, true, sizeof(nulls));
	values[0] = rows_text("launcher", &nulls[0]);
	values[1] = Int32GetDatum(pid);
	nulls[1] = pid == 0;
	values[3] = rows_text(pid == 0 ? "not running" : enabled ? "running" : "disabled", &nulls[3]);
	values[5] = rows_time(since, &nulls[5]);
	rows_add(fcinfo, values, nulls);
}

static void
add_work(FunctionCallInfo fcinfo, const DatabaseState *database, WorkerKind kind)
{
	const WorkState *work = &database->work[kind];
	Datum		values[MAINTENANCE_STATUS_COLS] = {0};
	bool		nulls[MAINTENANCE_STATUS_COLS] = {0};

	values[0] = CStringGetTextDatum(kind == WORKER_PASS ? "worker" :
									kind == WORKER_UPKEEP ? "upkeep" : "conversion");
	values[1] = Int32GetDatum(work->pid);
	nulls[1] = work->pid == 0;
	values[2] = nonempty_or_null(NameStr(database->name), &nulls[2]);
	values[3] = work->pid == 0 ? CStringGetTextDatum("idle") :
		CStringGetTextDatum(work->phase[0] == '\0' ? "starting" : work->phase);
	values[4] = nonempty_or_null(work->table, &nulls[4]);
	values[5] = rows_time(work->since, &nulls[5]);
	values[6] = Int32GetDatum(work->done);
	values[7] = Int32GetDatum(work->total);
	nulls[6] = nulls[7] = work->pid == 0 || work->total == 0;
	values[8] = nonempty_or_null(work->waiting_for, &nulls[8]);
	values[9] = rows_time(work->last, &nulls[9]);
	values[10] = rows_time(work->wanted ? 0 : work->due, &nulls[10]);
	values[11] = Int64GetDatum(work->passes);
	values[12] = Int64GetDatum(work->actions);
	values[13] = nonempty_or_null(work->last_error, &nulls[13]);
	values[14] = rows_interval(work->last_duration);
	nulls[14] = work->last == 0;
	values[15] = Int64GetDatum(work->errors);
	rows_add(fcinfo, values, nulls);
}

/* maintenance_status(): launcher and workers. */
Datum
sagaz_maintenance_status(PG_FUNCTION_ARGS)
{
	if (shared_state == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sagaz_ha is not preloaded, so there is no worker"),
				 errhint("Add sagaz_ha to shared_preload_libraries and restart the server.")));
	InitMaterializedSRF(fcinfo, 0);
	add_launcher(fcinfo);
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
	{
		DatabaseState database;

		/* a copy: rows can go to disk, and no process has to wait for that */
		if (!shared_copy_database(i, &database) || !database.has_extension)
			continue;
		for (int kind = 0; kind < WORKER_KINDS; kind++)
			add_work(fcinfo, &database, kind);
	}
	return (Datum) 0;
}
