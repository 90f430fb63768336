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
#include "base/identity.h"
#include "base/process.h"
#include "base/sql.h"
#include "catalog/conversion.h"
#include "catalog/history.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "ddl/convert.h"
#include "ddl/convert_lock.h"
#include "miscadmin.h"
#include "pass/conversion.h"
#include "shmem/shared.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

/* Between two tries for a lock, in ms. */
#define RETRY_NAP	200

/*
 * Ends this database's conversion worker, if it is at this table, and still this
 * one; its pid, or 0. Another table's work isn't ours to end.
 */
static pid_t
end_worker(Oid relation, pid_t only)
{
	DatabaseState *database;
	pid_t		pid = 0;

	if (shared_state == NULL)
		return 0;
	LWLockAcquire(shared_state->lock, LW_SHARED);
	database = shared_find_database(MyDatabaseId);
	if (database != NULL && database->work[WORKER_CONVERSION].subject == relation)
		pid = database->work[WORKER_CONVERSION].pid;
	if (only != 0 && pid != only)
		pid = 0;
	if (pid != 0)
		(void) kill(pid, SIGTERM);
	LWLockRelease(shared_state->lock);
	return pid;
}

/*
 * Keeps the worker from the conversion until the transaction ends: one that begins
 * from now on finds its row locked.
 */
static void
keep_worker_out(Conversion *conversion)
{
	pid_t		pid;

	while (!conversion_lock(conversion))
	{
		Conversion	still;

		CHECK_FOR_INTERRUPTS();
		if (!conversion_find(conversion->relation, &still))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the conversion of table \"%s\" has just ended", conversion->table_name),
					 errhint("sagaz_ha.unpartition_table() makes a plain table of it again.")));
		(void) end_worker(conversion->relation, 0);
		process_nap(RETRY_NAP / 4);
	}
	/* it may have read its statements before; a later one looks at the row */
	pid = end_worker(conversion->relation, 0);
	while (pid != 0 && end_worker(conversion->relation, pid) != 0)
		process_nap(RETRY_NAP / 4);
}

static void
undo_step(void *arg)
{
	conversion_undo((Conversion *) arg);
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

/* Whether clients use the partitioned table already: there is nothing to be taken back. */
static bool
is_partitioned(const Conversion *conversion)
{
	return conversion->phase == CONVERSION_FINISHING ||
		(conversion->phase == CONVERSION_ANALYZING && conversion->kind == CONVERSION_PARTITION);
}

/* Whether it is a plain table again, and foreign keys to it are being validated. */
static bool
is_back(const Conversion *conversion)
{
	return conversion->relation == conversion->parent;
}

/* Takes a conversion back that hasn't ended. */
void
convert_cancel(Oid relid, TimestampTz now)
{
	Conversion	conversion;
	Record		record = {{InvalidOid}, ACTION_CONVERT};

	if (conversion_find(relid, &conversion))
	{
		/* who made the partitioned table may own it still */
		identity_require_owner(conversion.relation);
		keep_worker_out(&conversion);
	}
	else if (!convert_find_left(relid, &conversion))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not becoming partitioned", get_rel_name(relid)),
				 errhint("View sagaz_ha.conversions lists those that are.")));
	if (is_partitioned(&conversion) && !is_back(&conversion))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is partitioned already", conversion.table_name),
				 errhint("sagaz_ha.unpartition_table() makes a plain table of it again.")));
	if (conversion.phase == CONVERSION_FAILED)
		conversion_restore_policy(&conversion);
	else if (!is_back(&conversion))
		until_locked(undo_step, &conversion);
	conversion_end(conversion.relation);
	record.subject.parent = conversion.relation;
	record.subject.table_name = names_display(conversion.relation);
	record.details = is_back(&conversion) ? "foreign keys to it stay not validated" :
		"was cancelled: the table is as it was";
	history_add(&record, now);
}

typedef struct Return
{
	Oid			parent;
	Oid			first;			/* its first partition */
	ParentInfo	info;			/* only in a step */
	bool		referenced;		/* by foreign keys, to be validated */
} Return;

/* The other partitions must be empty; they are locked. */
static void
require_empty(const ParentInfo *info)
{
	for (int i = 1; i <= info->nparts; i++)
	{
		Oid			partition = i < info->nparts ? info->relids[i] : info->default_relid;

		if (OidIsValid(partition) && convert_has_rows(partition))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("partition %s of table %s has rows", names_display(partition),
							names_display(info->relid)),
					 errhint("A converted table can be made plain again only as long as all rows are in its first partition.")));
	}
}

/* Reads the partitions again under the lock that keeps them as they are. */
static List *
lock_all(Return *back)
{
	List	   *relids = list_make1_oid(back->parent);

	LockRelationOid(back->parent, ShareUpdateExclusiveLock);
	parent_require_by_oid(back->parent, NoLock, &back->info);
	for (int i = 0; i < back->info.nparts; i++)
		relids = lappend_oid(relids, back->info.relids[i]);
	if (OidIsValid(back->info.default_relid))
		relids = lappend_oid(relids, back->info.default_relid);
	return relids;
}

static void
return_step(void *arg)
{
	Return	   *back = (Return *) arg;
	SqlSession	session;
	List	   *relids;
	List	   *companions;

	sql_begin(&session, GetUserId());
	relids = lock_all(back);
	if (back->info.nparts == 0 || back->info.bounds[0].lower != CAL_MINUS_INFINITY ||
		get_rel_relkind(back->info.relids[0]) != RELKIND_RELATION || OidIsValid(back->info.pending_relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no first partition that could be the table again", get_rel_name(back->parent)),
				 errhint("Only a table that sagaz_ha.partition_table() has converted can be made plain again.")));
	back->first = back->info.relids[0];
	back->referenced = parent_referencing_tables(back->parent) != NIL;
	companions = convert_companions(back->parent, "returning");
	convert_lock_prepare(list_concat_copy(relids, companions));
	require_empty(&back->info);
	{
		List	   *statements = convert_returning(back->parent, back->first);

		(void) convert_lock_strongly(relids, companions);
		require_empty(&back->info);
		convert_run(statements);
	}
	sql_end(&session);
}

/* Makes a plain table of a converted one again. */
void
convert_back(Oid relid, TimestampTz now)
{
	Return		back = {relid};
	Conversion	conversion = {0};
	Record		record = {{InvalidOid}, ACTION_CONVERT};
	char	   *key;

	if (conversion_find(relid, &conversion) && is_partitioned(&conversion) && !is_back(&conversion))
	{
		keep_worker_out(&conversion);
		conversion_end(conversion.relation);
		memset(&conversion, 0, sizeof(conversion));
	}
	else if (OidIsValid(conversion.relation))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("table \"%s\" is becoming partitioned", get_rel_name(relid)),
				 errhint("sagaz_ha.cancel_partition_table() takes that back.")));
	parent_require_by_oid(relid, AccessShareLock, &back.info);
	key = parent_key_name(&back.info);
	conversion.table_name = get_rel_name(relid);
	until_locked(return_step, &back);
	record.subject.parent = back.first;
	record.subject.table_name = names_display(back.first);
	record.details = "is a plain table again";
	history_add(&record, now);
	if (!back.referenced)
		return;
	/* the worker validates the foreign keys to the table */
	conversion.relation = conversion.parent = back.first;
	conversion.phase = CONVERSION_FINISHING;
	conversion.key = key;
	conversion.lower = conversion.upper = "";
	conversion_begin(&conversion, now);
}
