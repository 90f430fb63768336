/*
 * progress.c
 *		What a worker does, for maintenance_status() and pg_stat_activity.
 *
 * Invariant: texts in shared memory are whole characters of the encoding of the
 * database that wrote them, and end with a NUL.
 */
#include "shmem/progress.h"

#include "base/process.h"
#include "base/settings.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"

static WorkState *my_work = NULL;

/* Makes this process the worker whose progress is shown there. */
void
progress_attach(WorkState *work)
{
	my_work = work;
}

/* Clips the text to whole characters: readers refuse invalid text. */
static void
set_text(char *field, const char *text)
{
	int			len = pg_mbcliplen(text, strlen(text), SHARED_TEXT - 1);

	memcpy(field, text, len);
	field[len] = '\0';
}

/* Begins a phase of work on a table; on all of them: NULL. */
void
progress_phase(const char *phase, const char *table)
{
	char	   *activity;

	if (my_work == NULL)
		return;
	if (table == NULL)
		table = "";
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	set_text(my_work->phase, phase);
	set_text(my_work->table, table);
	my_work->since = GetCurrentTimestamp();
	my_work->done = 0;
	my_work->total = 0;
	LWLockRelease(shared_state->lock);
	activity = psprintf("%s %s", phase, table);
	pgstat_report_activity(STATE_RUNNING, activity);
	pfree(activity);
}

/* Sets which table is worked on, for who wants to end that work and no other. */
void
progress_subject(Oid table)
{
	if (my_work == NULL)
		return;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	my_work->subject = table;
	LWLockRelease(shared_state->lock);
}

/* Sets how many of the phase's steps are done. */
void
progress_count(int done, int total)
{
	if (my_work == NULL)
		return;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	my_work->done = done;
	my_work->total = total;
	LWLockRelease(shared_state->lock);
}

/* Sets what the worker waits for; "": nothing. */
void
progress_waiting_for(const char *what)
{
	if (my_work == NULL)
		return;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	set_text(my_work->waiting_for, what);
	LWLockRelease(shared_state->lock);
}

/* Counts something that was done to a table. */
void
progress_action(void)
{
	if (my_work == NULL)
		return;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	my_work->actions++;
	LWLockRelease(shared_state->lock);
}

/*
 * Counts an error, and keeps a worker's as its last one. The history can't tell
 * the number: old rows are deleted from it, and it has a lasting error once.
 * Errors of foreground passes count as the worker's.
 */
void
progress_error(const char *error)
{
	DatabaseState *database;

	if (shared_state == NULL)
		return;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	if (my_work != NULL)
	{
		set_text(my_work->last_error, error);
		my_work->errors++;
	}
	else if ((database = shared_find_database(MyDatabaseId)) != NULL)
		database->work[WORKER_PASS].errors++;
	LWLockRelease(shared_state->lock);
}

/*
 * For tests: a worker waits here while sagaz_ha.stop_at names this point, so
 * that a test can kill it, or the server, in a known state.
 */
void
stop_point(const char *name)
{
	if (my_work == NULL || sagaz_stop_at == NULL || strcmp(sagaz_stop_at, name) != 0)
		return;
	progress_waiting_for(psprintf("stop point %s", name));
	elog(LOG, "stopped at %s", name);

	/*
	 * before the first nap as well: a lock's wait may have used up the
	 * signal's latch
	 */
	for (process_reload(); strcmp(sagaz_stop_at, name) == 0; process_reload())
		process_nap(-1);
	progress_waiting_for("");
}
