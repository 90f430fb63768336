/*
 * drain.c
 *		Which sessions and standbys may still see a partition whose detach is
 *		pending.
 *
 * Invariant: nothing here takes a lock. FINALIZE and DROP take AccessExclusive on
 * the partition, which is replayed on standbys, where it would freeze replay
 * behind a query that uses the partition. So both wait until every standby's
 * feedback says that its oldest snapshot is younger than the detach. A standby
 * without feedback can't be waited for.
 */
#include "ddl/drain.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "shmem/progress.h"
#include "shmem/shared.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Processes that call a before_drop function, for as long as that takes. */
#define CALL_TYPE	"sagaz_ha before_drop"

/* name, feedback xmin, its age in transactions, whether it is connected */
static const char *const standbys_query =
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

/* A detach, and when it was known here to be committed. */
static TransactionId seen = InvalidTransactionId;
static TimestampTz seen_at;

/* The transaction that marked the partition as detached, from the catalog. */
static TransactionId
detaching_transaction(Oid partition)
{
	SqlArgs		args = {0};
	bool		isnull;

	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	if (sql_execute("SELECT xmin FROM pg_inherits WHERE inhrelid = $1 AND inhdetachpending", &args) == 0)
		return InvalidTransactionId;
	return DatumGetTransactionId(sql_value(0, 1, &isnull));
}

/*
 * The session here that may have a snapshot from before the detach; or a newer
 * one that lasts. FINALIZE would wait for both, with strong locks. Other
 * snapshots are gone before that would matter. Inside SPI.
 */
static void
find_session(TransactionId detached, DrainBlocker *blocker)
{
	/*
	 * a prepared transaction makes the snapshots of those that have just
	 * begun look old; so does a call of a before_drop function that has
	 * written, but what began after the detach was seen sees it
	 */
	static const char *const query =
		"SELECT coalesce('prepared transaction \"' || p.gid || '\"', 'process ' || s.pid),"
		"       format('%s, in a transaction for %s',"
		"              coalesce('prepared transaction \"' || p.gid || '\"', 'process ' || s.pid),"
		"              date_trunc('second', clock_timestamp() - coalesce(p.prepared, s.xact_start)))"
		"  FROM pg_stat_activity AS s"
		"  LEFT JOIN LATERAL ("
		"       SELECT x.gid, x.prepared FROM pg_prepared_xacts AS x"
		"        WHERE x.database = s.datname AND age(x.transaction) >= age($1::text::xid)"
		"          AND s.xact_start > clock_timestamp() - interval '1 second'"
		"        ORDER BY x.prepared LIMIT 1) AS p ON true"
		" WHERE s.datname = current_database() AND s.pid <> pg_backend_pid()"
		"   AND s.backend_xmin IS NOT NULL"
		"   AND (age(s.backend_xmin) >= age($1::text::xid)"
		"        OR s.xact_start < clock_timestamp() - interval '1 second')"
		"   AND s.query !~ '^autovacuum:'"
		"   AND s.backend_type <> '" CALL_TYPE "'"
		"   AND NOT (p.gid IS NULL AND s.xact_start > $2"
		"            AND s.xact_start > clock_timestamp() - interval '1 second'"
		"            AND EXISTS ("
		"                SELECT FROM pg_stat_activity AS c"
		"                 WHERE c.datname = s.datname AND c.backend_type = '" CALL_TYPE "'"
		"                   AND age(c.backend_xid) >= age(s.backend_xmin)))"
		" ORDER BY age(s.backend_xmin) DESC LIMIT 1";
	SqlArgs		args = {0};

	sql_arg_text(&args, psprintf("%u", detached));
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(seen_at));
	if (sql_execute(query, &args) == 0)
		return;
	blocker->name = sql_text(0, 1);
	blocker->details = sql_text(0, 2);
}

/*
 * A standby that has not said yet what it can see, or NULL. To be asked before
 * what the others say: one that says it in between must not slip through. Inside
 * SPI.
 */
static char *
missing_standby(void)
{
	static const char *const query =
		"SELECT format('standby %s, which has not come back yet', s.slot_name)"
		"  FROM pg_replication_slots AS s"
		"  LEFT JOIN pg_stat_replication AS r ON r.pid = s.active_pid"
		" WHERE s.slot_type = 'physical' AND s.xmin IS NULL AND s.restart_lsn IS NOT NULL"
		"   AND s.wal_status IS DISTINCT FROM 'lost'"
		"   AND (r.pid IS NULL OR r.backend_start > clock_timestamp() - interval '5 seconds')"
		" LIMIT 1";
	int			comeback = Min(COMEBACK_TIME, sagaz_standby_drain_timeout);

	if (!shared_launcher_is_younger_than(comeback))
		return NULL;
	return sql_execute(query, NULL) == 0 ? NULL : sql_text(0, 1);
}

/*
 * The standby that may have a snapshot from before the detach. One that is gone
 * but left a slot counts only while the caller is patient.
 */
static void
find_standby(TransactionId detached, bool patient, DrainBlocker *blocker)
{
	uint64		rows = sql_execute(standbys_query, NULL);

	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		TransactionId xmin = DatumGetTransactionId(sql_value(i, 2, &isnull));
		bool		connected = DatumGetBool(sql_value(i, 4, &isnull));

		if (TransactionIdFollows(xmin, detached) || (!connected && !patient))
			continue;
		blocker->name = psprintf("standby %s", sql_text(i, 1));
		blocker->details = psprintf("%s%s with an xmin that is %s transactions old",
									blocker->name, connected ? "" : ", which is not connected,",
									sql_text(i, 3));
		return;
	}
}

/*
 * Finds the standby, or else the session here, that may still have a snapshot
 * from before the detach. A standby that is gone but left a slot counts only for
 * sagaz_ha.standby_drain_timeout, from since on. Inside SPI.
 */
void
drain_find_blocker(Oid partition, TimestampTz since, TimestampTz now, DrainBlocker *blocker)
{
	TransactionId detached = detaching_transaction(partition);
	bool		patient = now - since < sagaz_standby_drain_timeout * USECS_PER_SEC;

	memset(blocker, 0, sizeof(*blocker));
	if (!TransactionIdIsValid(detached))
		return;
	if (detached != seen)
	{
		seen = detached;
		seen_at = GetCurrentTimestamp();
	}
	blocker->name = blocker->details = missing_standby();
	stop_point("drain:asked");
	if (blocker->name == NULL)
		find_standby(detached, patient, blocker);
	if (blocker->name == NULL)
		find_session(detached, blocker);
}

/*
 * The oldest xmin of the processes here that call a before_drop function, which no
 * drain waits for; InvalidTransactionId: there is none. Inside SPI.
 */
TransactionId
drain_oldest_call(void)
{
	static const char *const query =
		"SELECT backend_xmin FROM pg_stat_activity"
		" WHERE datname = current_database() AND backend_xmin IS NOT NULL"
		"   AND backend_type = '" CALL_TYPE "'"
		" ORDER BY age(backend_xmin) DESC LIMIT 1";
	bool		isnull;

	return sql_execute(query, NULL) == 0 ? InvalidTransactionId :
		DatumGetTransactionId(sql_value(0, 1, &isnull));
}

/* Whether a standby would notice an AccessExclusive lock that is replayed. */
bool
drain_has_standbys(void)
{
	SqlSession	session;
	bool		found;

	sql_begin(&session, GetUserId());
	found = missing_standby() != NULL || sql_execute(standbys_query, NULL) > 0;
	sql_end(&session);
	return found;
}

/* Whether any standby streams from here, even without feedback. Inside SPI, as any role. */
bool
drain_is_followed(void)
{
	return sql_execute("SELECT FROM pg_stat_replication"
					   " UNION ALL "
					   "SELECT FROM pg_replication_slots WHERE slot_type = 'physical'", NULL) > 0;
}

/*
 * The same, or whether a standby may be fed from the archive, of which nothing is
 * known here. Inside SPI, as any role.
 */
bool
drain_may_be_followed(void)
{
	return XLogArchivingActive() || drain_is_followed();
}
