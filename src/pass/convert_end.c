/*
 * convert_end.c
 *		Taking a conversion back, before its end and afterwards.
 *
 * Invariant: in the caller's transaction, which keeps the strong lock until it
 * ends. Each try for that lock is a subtransaction, so nothing is held between
 * two tries.
 */
#include "pass/convert_end.h"

#include <signal.h>

#include "base/attempt.h"
#include "base/process.h"
#include "catalog/conversion.h"
#include "catalog/history.h"
#include "catalog/names.h"
#include "miscadmin.h"
#include "pass/conversion.h"
#include "shmem/shared.h"
#include "utils/lsyscache.h"

/* Between two tries for a lock, in ms. */
#define RETRY_NAP	200

/* Ends this database's conversion worker, if it runs; whether it did. */
static bool
end_worker(void)
{
	DatabaseState *database;
	pid_t		pid = 0;

	if (shared_state == NULL)
		return false;
	LWLockAcquire(shared_state->lock, LW_SHARED);
	database = shared_find_database(MyDatabaseId);
	if (database != NULL)
		pid = database->work[WORKER_CONVERSION].pid;
	if (pid != 0)
		(void) kill(pid, SIGTERM);
	LWLockRelease(shared_state->lock);
	return pid != 0;
}

/*
 * Keeps the worker from the conversion until the transaction ends: one that begins
 * from now on finds its row locked.
 */
static void
keep_worker_out(Conversion *conversion)
{
	while (!conversion_lock(conversion))
	{
		Conversion	still;

		CHECK_FOR_INTERRUPTS();
		if (!conversion_find(conversion->relation, &still))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the conversion of table \"%s\" has just ended", conversion->table_name),
					 errhint("sagaz_ha.unpartition_table() makes a plain table of it again.")));
		(void) end_worker();
		process_nap(RETRY_NAP / 4);
	}
	while (end_worker())
		process_nap(RETRY_NAP / 4);
}

typedef struct Undo
{
	Conversion *conversion;
	TimestampTz now;
} Undo;

static void
undo_step(void *arg)
{
	Undo	   *undo = (Undo *) arg;

	conversion_undo(undo->conversion, undo->now);
}

/* Repeats a step until its locks are to be had. */
static void
until_locked(AttemptStep step, void *arg)
{
	ErrorData  *error;

	while ((error = attempt_in_subtransaction_untimed(step, arg)) != NULL)
	{
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
			ReThrowError(error);
		process_nap(RETRY_NAP);
	}
}

/* Takes a conversion back that hasn't ended. */
void
convert_cancel(Oid relid, TimestampTz now)
{
	Conversion	conversion;
	Undo		undo = {&conversion, now};
	Record		record = {{InvalidOid}, ACTION_CONVERT};

	if (!conversion_find(relid, &conversion))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not becoming partitioned", get_rel_name(relid)),
				 errhint("View sagaz_ha.conversions lists those that are.")));
	keep_worker_out(&conversion);
	if (conversion.phase == CONVERSION_FINISHING ||
		(conversion.phase == CONVERSION_ANALYZING && conversion.kind == CONVERSION_PARTITION))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is partitioned already", conversion.table_name),
				 errhint("sagaz_ha.unpartition_table() makes a plain table of it again.")));
	if (conversion.phase != CONVERSION_FAILED)
		until_locked(undo_step, &undo);
	conversion_end(conversion.relation);
	record.subject.parent = conversion.relation;
	record.subject.table_name = names_display(conversion.relation);
	record.details = "was cancelled: the table is as it was";
	history_add(&record, now);
}

/* Makes a plain table of a converted one again. */
void
convert_back(Oid relid, TimestampTz now)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("not yet")));
}
