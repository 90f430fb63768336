/*
 * drain.c
 *		Who may still see a partition whose detach is pending.
 *
 * FINALIZE and DROP take AccessExclusive on the partition. That lock is
 * replayed on standbys, where it would freeze replay behind a query that uses
 * the partition. So both wait until every standby's feedback says that its
 * oldest snapshot is younger than the detach. A standby without feedback
 * can't be waited for.
 */
#include "ddl/drain.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "shmem/progress.h"
#include "base/settings.h"
#include "shmem/shared.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* name, feedback xmin, its age in transactions, whether it is connected */
static const char *const standbys_sql =
	"SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text),"
	"       backend_xmin, age(backend_xmin), true"
	"  FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"
	" UNION ALL "
	"SELECT slot_name, xmin, age(xmin), active FROM pg_replication_slots"
	" WHERE slot_type = 'physical' AND xmin IS NOT NULL"
	"   AND wal_status IS DISTINCT FROM 'lost'";

/*
 * After a start, a standby that has a slot gets this many seconds to come back:
 * a crash may have left the slot without the xmin that it had.
 */
#define COMEBACK_TIME		15

/* The transaction that marked the partition as detached, from the catalog. */
static TransactionId
detaching_transaction(Oid partition)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(partition)};
	bool		isnull;

	if (SPI_execute_with_args("SELECT xmin FROM pg_inherits"
							  " WHERE inhrelid = $1 AND inhdetachpending",
							  1, types, values, NULL, true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		return InvalidTransactionId;
	return DatumGetTransactionId(SPI_getbinval(SPI_tuptable->vals[0],
											   SPI_tuptable->tupdesc, 1, &isnull));
}

/*
 * Whoever here may have a snapshot from before the detach, said for people, or
 * NULL; or one that is newer and lasts. FINALIZE would wait for both, with
 * strong locks. Others' snapshots are gone before that would matter. Inside SPI.
 */
static char *
local_blocker(TransactionId detached)
{
	static const char *const sql =
		"SELECT format('process %s, in a transaction for %s', pid,"
		"              date_trunc('second', clock_timestamp() - xact_start))"
		"  FROM pg_stat_activity"
		" WHERE datname = current_database() AND pid <> pg_backend_pid()"
		"   AND backend_xmin IS NOT NULL"
		"   AND (age(backend_xmin) >= age($1::text::xid)"
		"        OR xact_start < clock_timestamp() - interval '1 second')"
		"   AND query !~ '^autovacuum:'"
		" ORDER BY age(backend_xmin) DESC LIMIT 1";
	Oid			types[1] = {TEXTOID};
	Datum		values[1];

	values[0] = CStringGetTextDatum(psprintf("%u", detached));
	if (SPI_execute_with_args(sql, 1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look at the sessions");
	return SPI_processed == 0 ? NULL :
		SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/*
 * A standby that has not said yet what it can see, or NULL. To be asked before
 * what the others say: one that says it in between must not slip through. Inside
 * SPI.
 */
static char *
missing_standby(void)
{
	static const char *const sql =
		"SELECT format('standby %s, which has not come back yet', s.slot_name)"
		"  FROM pg_replication_slots AS s"
		"  LEFT JOIN pg_stat_replication AS r ON r.pid = s.active_pid"
		" WHERE s.slot_type = 'physical' AND s.xmin IS NULL AND s.restart_lsn IS NOT NULL"
		"   AND s.wal_status IS DISTINCT FROM 'lost'"
		"   AND (r.pid IS NULL OR r.backend_start > clock_timestamp() - interval '5 seconds')"
		" LIMIT 1";

	if (shared_state == NULL ||
		TimestampDifferenceExceeds(shared_state->launcher_since, GetCurrentTimestamp(),
								   Min(COMEBACK_TIME, sagaz_standby_drain_timeout) * 1000))
		return NULL;
	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look at the standbys");
	return SPI_processed == 0 ? NULL :
		SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/*
 * The standby, or else the session here, that may still have a snapshot from
 * before the detach, said for people, or NULL. A standby that is gone but left
 * a slot counts only for a while, from the moment on that something had to
 * wait. Inside SPI.
 */
char *
drain_blocker(Oid partition, TimestampTz since)
{
	TransactionId detached = detaching_transaction(partition);
	bool		patient = settings_now() - since < sagaz_standby_drain_timeout * USECS_PER_SEC;
	SPITupleTable *standbys;
	char	   *missing;

	if (!TransactionIdIsValid(detached))
		return NULL;
	missing = missing_standby();
	stop_point("drain:asked");
	if (missing != NULL)
		return missing;
	if (SPI_execute(standbys_sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look at the standbys");
	standbys = SPI_tuptable;
	for (uint64 i = 0; i < standbys->numvals; i++)
	{
		HeapTuple	row = standbys->vals[i];
		bool		isnull;
		TransactionId xmin = DatumGetTransactionId(SPI_getbinval(row, standbys->tupdesc,
																 2, &isnull));
		bool		connected = DatumGetBool(SPI_getbinval(row, standbys->tupdesc,
														   4, &isnull));

		if (TransactionIdFollows(xmin, detached) || (!connected && !patient))
			continue;
		return psprintf("standby %s%s with an xmin that is %s transactions old",
						SPI_getvalue(row, standbys->tupdesc, 1),
						connected ? "" : ", which is not connected,",
						SPI_getvalue(row, standbys->tupdesc, 3));
	}
	return local_blocker(detached);
}

/* Who holds a lock on the relation, said for people; NULL: nobody. Inside SPI. */
char *
drain_lock_holders(Oid relid)
{
	static const char *const sql =
		"SELECT string_agg(format('process %s%s', l.pid, ', in a transaction for '"
		"                         || date_trunc('second', clock_timestamp() - a.xact_start)), '; ')"
		"  FROM (SELECT DISTINCT pid FROM pg_locks"
		"         WHERE locktype = 'relation' AND relation = $1 AND granted"
		"           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
		"           AND pid IS DISTINCT FROM pg_backend_pid()) AS l"
		"  LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid";
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};

	if (SPI_execute_with_args(sql, 1, types, values, NULL, true, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		return NULL;
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/* Whether a standby would notice an AccessExclusive lock that is replayed. */
bool
drain_has_standbys(void)
{
	bool		found;

	SPI_connect();
	found = missing_standby() != NULL;
	if (!found && SPI_execute(standbys_sql, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look at the standbys");
	found = found || SPI_processed > 0;
	SPI_finish();
	return found;
}

/* Whether anybody streams from here, even without feedback. Inside SPI, as anybody. */
bool
drain_is_followed(void)
{
	if (SPI_execute("SELECT FROM pg_stat_replication"
					" UNION ALL "
					"SELECT FROM pg_replication_slots WHERE slot_type = 'physical'",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look at the standbys");
	return SPI_processed > 0;
}
