/*
 * convert_lock.c
 *		The short, strong lock of a conversion.
 *
 * Invariant: the strong lock is asked for only while ShareUpdateExclusive is held.
 * That one no reader or writer notices; the server cancels an autovacuum for it,
 * and none can begin again, so the strong lock never waits behind one. Nor is it
 * asked for while a transaction that has lasted uses the table, or while a standby
 * has an old snapshot, behind which its replay would freeze.
 */
#include "ddl/convert_lock.h"

#include "access/transam.h"
#include "base/identity.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* A transaction or a snapshot is old after this, in us. */
#define OLD		USECS_PER_SEC

/*
 * Longest wait for a gentle lock, in ms: time for an autovacuum to end. Who has it
 * for longer, as a VACUUM by hand, holds up this table's conversion and no other.
 */
#define GENTLE_WAIT	"2000"

/* The newest transaction at a time that is OLD, and the one that will be. */
static struct
{
	TransactionId old;
	TransactionId next;
	TimestampTz next_at;
}			seen;

/* The tables in the order in which all take them. */
void
convert_lock_gently(List *relids)
{
	int			level = NewGUCNestLevel();
	ListCell   *cell;

	identity_set_local("lock_timeout", GENTLE_WAIT);
	foreach(cell, relids)
		LockRelationOid(lfirst_oid(cell), ShareUpdateExclusiveLock);
	AtEOXact_GUC(false, level);
}

static Datum
oid_array(List *relids)
{
	Datum	   *values = (Datum *) palloc(sizeof(Datum) * list_length(relids));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, relids)
		values[n++] = ObjectIdGetDatum(lfirst_oid(cell));
	return PointerGetDatum(construct_array(values, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* A transaction that has lasted and uses one of the tables. */
static char *
old_transaction(List *relids)
{
	static const char *const query =
		"SELECT coalesce(format('process %s, in a transaction for %s', l.pid,"
		"                       date_trunc('second', clock_timestamp() - a.xact_start)),"
		"                'a prepared transaction')"
		"  FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid"
		" WHERE l.locktype = 'relation' AND l.relation = ANY ($1) AND l.granted"
		"   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
		"   AND l.pid IS DISTINCT FROM pg_backend_pid()"
		"   AND (l.pid IS NULL OR a.xact_start < clock_timestamp() - $2 * interval '1 microsecond')"
		" ORDER BY a.xact_start LIMIT 1";
	SqlArgs		args = {0};

	sql_arg(&args, OIDARRAYOID, oid_array(relids));
	sql_arg(&args, INT8OID, Int64GetDatum(OLD));
	return sql_execute(query, &args) == 0 ? NULL : sql_text(0, 1);
}

/* Which transactions are old is known from an earlier look. */
static void
look_at_transactions(TimestampTz now)
{
	if (TransactionIdIsValid(seen.next) && now < seen.next_at + OLD)
		return;
	/* after a pause it would be older than need be */
	seen.old = now < seen.next_at + 3 * OLD ? seen.next : InvalidTransactionId;
	seen.next = XidFromFullTransactionId(ReadNextFullTransactionId());
	seen.next_at = now;
}

/* A standby whose feedback shows a snapshot that is old, or may be. */
static char *
old_standby(void)
{
	static const char *const query =
		"SELECT format('standby %s, which has a snapshot older than a second',"
		"              coalesce(nullif(application_name, ''), client_addr::text, pid::text)), backend_xmin"
		"  FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"
		" UNION ALL "
		"SELECT format('standby %s, which has a snapshot older than a second', slot_name), xmin"
		"  FROM pg_replication_slots"
		" WHERE slot_type = 'physical' AND xmin IS NOT NULL AND active";
	uint64		rows = sql_execute(query, NULL);

	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		TransactionId xmin = DatumGetTransactionId(sql_value(i, 2, &isnull));

		if (!TransactionIdIsValid(seen.old) || TransactionIdPrecedes(xmin, seen.old))
			return sql_text(i, 1);
	}
	return NULL;
}

/*
 * Who would make the strong lock one that is noticed; NULL: nobody. As the
 * extension, because others don't see when a transaction began.
 */
char *
convert_lock_blocker(List *relids)
{
	SqlSession	session;
	char	   *blocker;

	look_at_transactions(GetCurrentTimestamp());
	sql_begin_as_extension(&session);
	blocker = old_transaction(relids);
	if (blocker == NULL)
		blocker = old_standby();
	if (blocker != NULL)
		blocker = MemoryContextStrdup(session.caller, blocker);
	sql_end(&session);
	return blocker;
}

/* Takes the gentle locks, and fails if the strong ones would be noticed. */
void
convert_lock_prepare(List *relids)
{
	char	   *blocker;

	convert_lock_gently(relids);
	blocker = convert_lock_blocker(relids);
	if (blocker != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("table %s is in use by %s", names_display(linitial_oid(relids)), blocker)));
}

/* Takes locks until then, all together; what comes after has the time that is left. */
static void
take_until(List *relids, TimestampTz until)
{
	ListCell   *cell;

	foreach(cell, relids)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		/* 0 would be no limit */
		identity_set_local("lock_timeout", psprintf("%ld", Max(left, 1)));
		LockRelationOid(lfirst_oid(cell), AccessExclusiveLock);
	}
}

/*
 * Takes the strong locks, waiting sagaz_ha.conversion_lock_timeout at most for all
 * of them: on the tables, then on what the next statements lock besides. Since when
 * the tables are locked.
 */
TimestampTz
convert_lock_strongly(List *relids, List *companions)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), sagaz_conversion_lock_timeout);
	TimestampTz locked_at;

	take_until(relids, until);
	locked_at = GetCurrentTimestamp();
	take_until(companions, until);
	return locked_at;
}
