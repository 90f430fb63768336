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
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* A transaction or a snapshot is old after this, in us. */
#define OLD		USECS_PER_SEC

/* The newest transaction at a time that is OLD, and the one that will be. */
static struct
{
	TransactionId old;
	TransactionId next;
	TimestampTz next_at;
}			seen;

/* Waits as long as it takes; the tables in the order in which all take them. */
void
convert_lock_gently(List *relids)
{
	ListCell   *cell;

	identity_set_local("lock_timeout", "0");
	foreach(cell, relids)
		LockRelationOid(lfirst_oid(cell), ShareUpdateExclusiveLock);
}

static char *
old_transaction(Oid relid)
{
	static const char *const query =
		"SELECT coalesce(format('process %s, in a transaction for %s', l.pid,"
		"                       date_trunc('second', clock_timestamp() - a.xact_start)),"
		"                'a prepared transaction')"
		"  FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid"
		" WHERE l.locktype = 'relation' AND l.relation = $1 AND l.granted"
		"   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
		"   AND l.pid IS DISTINCT FROM pg_backend_pid()"
		"   AND (l.pid IS NULL OR a.xact_start < clock_timestamp() - $2 * interval '1 microsecond')"
		" ORDER BY a.xact_start LIMIT 1";
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
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

/* Who would make the strong lock one that is noticed; NULL: nobody. Inside SPI. */
char *
convert_lock_blocker(List *relids)
{
	ListCell   *cell;

	look_at_transactions(GetCurrentTimestamp());
	foreach(cell, relids)
	{
		char	   *blocker = old_transaction(lfirst_oid(cell));

		if (blocker != NULL)
			return blocker;
	}
	return old_standby();
}

/*
 * Takes the strong locks, waiting sagaz_ha.conversion_lock_timeout at most, for
 * these and for those that the next statements take. Since when they are held.
 */
TimestampTz
convert_lock_strongly(List *relids)
{
	ListCell   *cell;

	identity_set_local("lock_timeout", psprintf("%d", sagaz_conversion_lock_timeout));
	foreach(cell, relids)
		LockRelationOid(lfirst_oid(cell), AccessExclusiveLock);
	return GetCurrentTimestamp();
}
