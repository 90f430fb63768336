/*
 * locks.c
 *		Locks on a partitioned table and what is tied to it.
 *
 * Invariant: a parent comes first, before its partitions and before tables that
 * foreign keys tie to it. On a parent, ShareUpdateExclusive may be waited for:
 * neither readers nor writers notice, and it is the mutex between two
 * maintainers. A lock that a reader or writer would notice is only taken when it
 * is available, because a waiting request stalls all behind it; it is waited for
 * only when inserts would fail otherwise, and no longer than that is worth. An
 * unavailable lock is lock_not_available, which callers report as DEFER. Before
 * the first of these strong locks, autovacuums are ended by ShareUpdateExclusive.
 */
#include "ddl/locks.h"

#include "access/table.h"
#include "base/attempt.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/*
 * An autovacuum is cancelled by who waits for it this long, in ms, or for the
 * server's deadlock_timeout, if that is shorter; and then has so much time to end.
 */
#define MAX_DEADLOCK_TIMEOUT	1000
#define CANCEL_TIME				1000

/* Opens the parent under a lock that may be waited for, but not for long. */
Relation
locks_open_parent(Oid parent, LOCKMODE mode)
{
	Relation	rel;

	identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
	rel = try_table_open(parent, mode);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", parent)));
	return rel;
}

static void
refuse_wait(Oid relid)
{
	char	   *holders = locks_holders(relid, false);

	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("table %s is in use by %s", names_display(relid),
					holders ? holders : "somebody")));
}

/* Takes a lock that must not be waited for. Inside SPI. */
void
locks_take_at_once(Oid relid, LOCKMODE mode)
{
	if (!ConditionalLockRelationOid(relid, mode))
		refuse_wait(relid);
}

/* The same of several tables. */
void
locks_take_all_at_once(List *relids, LOCKMODE mode)
{
	ListCell   *cell;

	foreach(cell, relids)
		locks_take_at_once(lfirst_oid(cell), mode);
}

/* Fails unless a lock can be had now, and doesn't keep it. Inside SPI. */
void
locks_probe(List *relids, LOCKMODE mode)
{
	ListCell   *cell;

	foreach(cell, relids)
	{
		locks_take_at_once(lfirst_oid(cell), mode);
		UnlockRelationOid(lfirst_oid(cell), mode);
	}
}

typedef struct WaitStep
{
	Oid			relid;
	LOCKMODE	mode;
	long		wait;
} WaitStep;

static void
wait_step(void *arg)
{
	WaitStep   *step = (WaitStep *) arg;

	identity_set_local("lock_timeout", psprintf("%ld", step->wait));
	LockRelationOid(step->relid, step->mode);
}

/* Takes locks that may be waited for until then, all together. Inside SPI. */
void
locks_take_until(List *relids, LOCKMODE mode, TimestampTz until)
{
	ListCell   *cell;

	foreach(cell, relids)
	{
		WaitStep	step = {lfirst_oid(cell), mode};
		ErrorData  *error;

		if (ConditionalLockRelationOid(step.relid, mode))
			continue;
		step.wait = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (step.wait <= 0)
			refuse_wait(step.relid);
		error = attempt_in_subtransaction_untimed(wait_step, &step);
		if (error != NULL && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			refuse_wait(step.relid);
		if (error != NULL)
			ReThrowError(error);
	}
}

/* The strongest lock on a partition and, if it has partitions itself, on those. */
void
locks_take_partition_at_once(Oid partition)
{
	locks_take_at_once(partition, AccessExclusiveLock);
	locks_take_all_at_once(find_all_inheritors(partition, NoLock, NULL), AccessExclusiveLock);
}

/*
 * Fails, and names who, if a reader of the relation, or of a partition of it, would
 * have to wait; with vacuum, if that would. Else tells whether it would. Takes no
 * lock. Inside SPI.
 */
bool
locks_look(Oid relid, bool vacuum)
{
	static const char *const query =
		"WITH RECURSIVE tree AS ("
		"  SELECT $1 AS relid"
		"  UNION ALL"
		"  SELECT i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.relid)"
		"SELECT l.relation, (l.mode = 'AccessExclusiveLock') AS stops_readers"
		"  FROM tree AS t JOIN pg_locks AS l ON l.locktype = 'relation' AND l.relation = t.relid"
		"   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
		"   AND l.pid IS DISTINCT FROM pg_backend_pid()"
		"   AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')"
	/* ANALYZE waits for the parent itself with no lock in hand */
		" WHERE $2 OR l.relation <> $1"
		" ORDER BY stops_readers DESC LIMIT 1";
	SqlArgs		args = {0};
	bool		isnull;

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
	sql_arg(&args, BOOLOID, BoolGetDatum(vacuum));
	if (sql_execute(query, &args) == 0)
		return false;
	if (vacuum || DatumGetBool(sql_value(0, 2, &isnull)))
		refuse_wait(sql_oid(0, 1));
	return true;
}

/* The autovacuum worker that a process is; the server cancels it for who waits for it. */
static bool
is_cancelled_for_us(int pid)
{
	PGPROC	   *process = BackendPidGetProc(pid);

	return process != NULL && (process->statusFlags & PROC_IS_AUTOVACUUM) != 0 &&
		(process->statusFlags & PROC_VACUUM_FOR_WRAPAROUND) == 0;
}

/* Whether nothing but an autovacuum that the server would cancel has such a lock. Inside SPI. */
static bool
only_autovacuum_has(Oid relid)
{
	static const char *const query =
		"SELECT l.pid FROM pg_locks AS l"
		" WHERE l.locktype = 'relation' AND l.relation = $1 AND l.granted"
		"   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
		"   AND l.pid IS DISTINCT FROM pg_backend_pid()"
		"   AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')";
	SqlArgs		args = {0};
	uint64		rows;

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
	rows = sql_execute(query, &args);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		int			pid = DatumGetInt32(sql_value(i, 1, &isnull));

		if (isnull || !is_cancelled_for_us(pid))
			return false;
	}
	return true;
}

/*
 * Takes the lock that an autovacuum has, so that none can begin until the end of
 * the transaction. The server cancels a running one for who has waited for
 * deadlock_timeout, which is why lock_timeout must be longer here.
 */
static void
end_vacuum(Oid relid, bool required)
{
	int			deadlock_timeout = Min(DeadlockTimeout, MAX_DEADLOCK_TIMEOUT);
	int			level;

	if (ConditionalLockRelationOid(relid, ShareUpdateExclusiveLock))
		return;
	if (!only_autovacuum_has(relid))
	{
		if (required)
			refuse_wait(relid);
		return;
	}
	level = NewGUCNestLevel();
	identity_set_local_by_superuser("deadlock_timeout", psprintf("%d", deadlock_timeout));
	identity_set_local("lock_timeout", psprintf("%d", deadlock_timeout + CANCEL_TIME));
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	AtEOXact_GUC(false, level);
}

/*
 * Makes autovacuum no obstacle to stronger locks on these tables: to be called
 * before the first lock that a reader or writer could notice, because it waits for
 * a second beside one. What can't be cancelled (a VACUUM by hand, an autovacuum
 * that prevents wraparound) is not waited for, but named; or left to the stronger
 * lock, which will name it, if it isn't required. Inside SPI.
 */
void
locks_end_vacuums(List *relids, bool required)
{
	ListCell   *cell;

	foreach(cell, relids)
		end_vacuum(lfirst_oid(cell), required);
}

/* The same of a partition and, if it has partitions itself, of those. */
void
locks_end_vacuums_of_partition(Oid partition, bool required)
{
	locks_end_vacuums(find_all_inheritors(partition, NoLock, NULL), required);
}

/* What kind of process it is, where that says whether it can be ended. */
static const char *
describe_process(int pid)
{
	PGPROC	   *process = BackendPidGetProc(pid);
	int			flags = process != NULL ? process->statusFlags : 0;

	if (flags & PROC_VACUUM_FOR_WRAPAROUND)
		return ", an autovacuum that prevents wraparound";
	if (flags & PROC_IS_AUTOVACUUM)
		return ", an autovacuum";
	return flags & PROC_IN_VACUUM ? ", a VACUUM" : "";
}

/*
 * The holders of a lock on the relation, for people; NULL: none. In brief, it is
 * the same at each look. A prepared transaction has no process. Inside SPI.
 */
char *
locks_holders(Oid relid, bool brief)
{
	static const char *const query =
		"SELECT l.pid, p.gid,"
		"       date_trunc('second', clock_timestamp() - coalesce(a.xact_start, p.prepared))"
		"  FROM (SELECT DISTINCT pid, virtualtransaction FROM pg_locks"
		"         WHERE locktype = 'relation' AND relation = $1 AND granted"
		"           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
		"           AND pid IS DISTINCT FROM pg_backend_pid()) AS l"
		"  LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid"
		"  LEFT JOIN pg_locks AS t ON l.pid IS NULL AND t.pid IS NULL"
		"   AND t.locktype = 'transactionid' AND t.virtualtransaction = l.virtualtransaction"
		"  LEFT JOIN pg_prepared_xacts AS p ON p.transaction = t.transactionid"
		" ORDER BY l.pid, p.gid";
	SqlArgs		args = {0};
	StringInfoData holders;
	uint64		rows;

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
	rows = sql_execute(query, &args);
	initStringInfo(&holders);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		int			pid = DatumGetInt32(sql_value(i, 1, &isnull));
		char	   *gid = sql_text(i, 2);
		char	   *duration = sql_text(i, 3);

		if (i > 0)
			appendStringInfoString(&holders, "; ");
		if (isnull)
			appendStringInfo(&holders, "prepared transaction \"%s\"", gid ? gid : "");
		else
			appendStringInfo(&holders, "process %d%s", pid, describe_process(pid));
		if (!brief && duration != NULL)
			appendStringInfo(&holders, ", in a transaction for %s", duration);
	}
	return rows == 0 ? NULL : holders.data;
}
