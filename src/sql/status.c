/*
 * status.c
 *		What launcher and workers are doing, as rows.
 *
 * Invariant: reads shared memory only.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/rows.h"
#include "base/settings.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "shmem/calls.h"
#include "shmem/shared.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

SAGAZ_FUNCTION(sagaz_maintained);
SAGAZ_FUNCTION(sagaz_maintenance_status);

#define MAINTENANCE_STATUS_COLS	17
#define MAINTAINED_COLS	2

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

/* A process that isn't a database's; its pid is 0 when there is none. */
static void
add_process(FunctionCallInfo fcinfo, const char *process, pid_t pid, const char *phase,
			TimestampTz since)
{
	Datum		values[MAINTENANCE_STATUS_COLS] = {0};
	bool		nulls[MAINTENANCE_STATUS_COLS];

	memset(nulls, true, sizeof(nulls));
	values[0] = rows_text(process, &nulls[0]);
	values[1] = Int32GetDatum(pid);
	nulls[1] = pid == 0;
	values[3] = rows_text(phase, &nulls[3]);
	values[5] = rows_time(since, &nulls[5]);
	rows_add(fcinfo, values, nulls);
}

static void
add_launcher(FunctionCallInfo fcinfo)
{
	TimestampTz since;
	TimestampTz off_since;
	bool		enabled;
	pid_t		pid;

	LWLockAcquire(shared_state->lock, LW_SHARED);
	pid = shared_state->launcher_pid;
	enabled = shared_state->enabled;
	since = shared_state->launcher_since;
	off_since = shared_state->retire_off_since;
	LWLockRelease(shared_state->lock);
	add_process(fcinfo, "launcher", pid, pid == 0 ? "not running" : enabled ? "running" : "disabled",
				since);
	if (off_since != 0)
		add_process(fcinfo, "retirement", 0, "disabled", off_since);
}

/* Which of two processes, of which each has half of a pass, is shown. */
static const WorkState *
choose_half(const WorkState *creating, const WorkState *retiring)
{
	if (retiring->pid != 0)
		return retiring;
	if (creating->pid == 0 && creating->waiting_for[0] == '\0' && retiring->waiting_for[0] != '\0')
		return retiring;
	return creating;
}

/*
 * Both halves of a pass as one: what the one does that is at work, what is waited
 * for, and the sum of what has been done.
 */
static WorkState
both_halves(const DatabaseState *database)
{
	const WorkState *creating = &database->work[WORKER_PASS];
	const WorkState *retiring = &database->work[WORKER_RETIREMENT];
	WorkState	both = *choose_half(creating, retiring);

	if (both.waiting_for[0] == '\0' && retiring->pid == 0)
		strlcpy(both.waiting_for, retiring->waiting_for, SHARED_TEXT);
	strlcpy(both.last_error, retiring->last_error[0] != '\0' && retiring->last >= creating->last ?
			retiring->last_error : creating->last_error, SHARED_TEXT);
	if (both.last_error[0] == '\0')
		strlcpy(both.last_error, retiring->last_error, SHARED_TEXT);
	both.wanted = Max(creating->wanted, retiring->wanted);
	both.due = Min(creating->due, retiring->due);
	both.not_before = creating->due <= retiring->due ? creating->not_before : retiring->not_before;
	both.last = Max(creating->last, retiring->last);
	both.last_duration = creating->last_duration;
	both.passes = creating->passes + retiring->passes;
	both.actions = creating->actions + retiring->actions;
	both.errors = creating->errors + retiring->errors;
	return both;
}

/* What is judged to be late can be a part of the work that is shown. */
static void
add_work(FunctionCallInfo fcinfo, const NameData *database, const char *process,
		 const WorkState *work, const WorkState *judged)
{
	Datum		values[MAINTENANCE_STATUS_COLS] = {0};
	bool		nulls[MAINTENANCE_STATUS_COLS] = {0};
	TimestampTz now = GetCurrentTimestamp();

	values[0] = CStringGetTextDatum(process);
	values[1] = Int32GetDatum(work->pid);
	nulls[1] = work->pid == 0;
	values[2] = nonempty_or_null(NameStr(*database), &nulls[2]);
	values[3] = CStringGetTextDatum(shared_is_overdue(judged, now) ? "overdue" :
									work->pid == 0 ? "idle" :
									work->phase[0] == '\0' ? "starting" : work->phase);
	values[4] = nonempty_or_null(work->table, &nulls[4]);
	values[5] = rows_time(work->since, &nulls[5]);
	values[6] = Int32GetDatum(work->done);
	values[7] = Int32GetDatum(work->total);
	nulls[6] = nulls[7] = work->pid == 0 || work->total == 0;
	values[8] = nonempty_or_null(work->waiting_for, &nulls[8]);
	values[9] = rows_time(work->last, &nulls[9]);
	values[10] = rows_time(work->wanted == WISH_NOW ? 0 : Max(work->due, work->not_before), &nulls[10]);
	values[11] = Int64GetDatum(work->passes);
	values[12] = Int64GetDatum(work->actions);
	values[13] = nonempty_or_null(work->last_error, &nulls[13]);
	values[14] = rows_interval(work->last_duration);
	nulls[14] = work->last == 0;
	values[15] = Int64GetDatum(work->errors);
	values[16] = rows_interval(Max(now - judged->due, 0));
	rows_add(fcinfo, values, nulls);
}

/* The calls of before_drop functions; one without a process waits for a free slot. */
static void
add_calls(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < SHARED_MAX_CALLS; i++)
	{
		Call		call;
		NameData	database;

		if (!calls_copy(i, &call, &database))
			continue;
		/* it is only done when a pass asks for it */
		call.work.due = DT_NOEND;
		if (call.work.pid == 0)
			strlcpy(call.work.waiting_for, "a free background worker slot", SHARED_TEXT);
		add_work(fcinfo, &database, "before_drop", &call.work, &call.work);
	}
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
	for (int i = 0; i < sagaz_max_databases; i++)
	{
		DatabaseState database;
		WorkState	both;

		/* a copy: rows can go to disk, and no process has to wait for that */
		if (!shared_copy_database(i, &database) || !database.has_extension)
			continue;
		both = both_halves(&database);
		/* a retirement may last */
		add_work(fcinfo, &database.name, "worker", &both, &database.work[WORKER_PASS]);
		add_work(fcinfo, &database.name, "upkeep", &database.work[WORKER_UPKEEP],
				 &database.work[WORKER_UPKEEP]);
		add_work(fcinfo, &database.name, "conversion", &database.work[WORKER_CONVERSION],
				 &database.work[WORKER_CONVERSION]);
	}
	add_calls(fcinfo);
	return (Datum) 0;
}

/*
 * _maintained(): whether there is room for this database in shared memory, and by how
 * much its next pass is late; both null where no launcher runs.
 */
Datum
sagaz_maintained(PG_FUNCTION_ARGS)
{
	Datum		values[MAINTAINED_COLS] = {0};
	bool		nulls[MAINTAINED_COLS] = {true, true};
	TimestampTz now = GetCurrentTimestamp();

	if (shared_state != NULL)
	{
		const DatabaseState *database;
		bool		wanted = settings_want_database(get_database_name(MyDatabaseId));

		LWLockAcquire(shared_state->lock, LW_SHARED);
		database = shared_find_database(MyDatabaseId);
		nulls[0] = shared_state->launcher_pid == 0;
		values[0] = BoolGetDatum(database != NULL || !wanted || !shared_state->is_full);
		nulls[1] = nulls[0] || database == NULL ||
			!shared_is_overdue(&database->work[WORKER_PASS], now);
		if (!nulls[1])
			values[1] = rows_interval(now - database->work[WORKER_PASS].due);
		LWLockRelease(shared_state->lock);
	}
	return rows_one(fcinfo, values, nulls);
}
