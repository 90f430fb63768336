/*
 * sql.h
 *	  The relay's SQL. README.md says why it is as it is.
 */
#ifndef SQL_H
#define SQL_H

/* Keys are shared out in so many slots; who publishes a key holds its slot. */
#define SLOTS "255"

#define UTC_TIME(expr) "to_char((" expr ") AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

/* The key that events are in order by: the client's events have one as well. */
#define KEY "coalesce(o.partition_key, o.aggregate_id)"

/*
 * A mark that a crash loses is an event that is published again, which is
 * allowed, so the commit needn't wait for the disk or a standby. A relay that
 * is gone without a word must not keep its slots.
 */
static const char begin_sql[] =
"BEGIN;"
"SET LOCAL synchronous_commit = off;"
"SET LOCAL idle_in_transaction_session_timeout = '60s';"
/* whatever the statistics say of a table that changes so fast */
"SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;"
"SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;"
"SELECT " UTC_TIME("now() - interval '1 day'") "," UTC_TIME("now() + interval '1 day'") ","
/*
 * Another one after a restart, a crash or a failover, which pools hide from us.
 * An ordinary role doesn't see which process is the checkpointer, but all see
 * those that have neither database nor user: none of them outlives a crash.
 */
" pg_postmaster_start_time()::text || ' ' ||"
" (SELECT min(pid) FROM pg_stat_activity WHERE datid IS NULL AND usesysid IS NULL)";

enum
{
	RANGE_FROM, RANGE_TO, RANGE_SERVER
};

/*
 * Transactions that begin from now on get higher positions. None where
 * positions aren't handed out one by one, or can't be looked at.
 */
static const char last_position_sql[] =
"SELECT pg_sequence_last_value(seqrelid) FROM pg_sequence"
" WHERE seqrelid = pg_get_serial_sequence('saga_outbox', 'position')::regclass"
" AND seqcache = 1 AND seqincrement > 0 AND has_sequence_privilege(seqrelid, 'SELECT')";

#define OUTBOX_LOCKS \
" FROM pg_locks WHERE locktype = 'relation'" \
" AND database = (SELECT oid FROM pg_database WHERE datname = current_database())" \
" AND relation IN (SELECT 'saga_outbox'::regclass UNION ALL" \
"  SELECT inhrelid FROM pg_inherits WHERE inhparent = 'saga_outbox'::regclass)" \
" AND mode = 'RowExclusiveLock'"

/* the transactions that may have a position and haven't ended */
static const char writers_sql[] =
"SELECT coalesce(array_agg(DISTINCT virtualtransaction), '{}')"
OUTBOX_LOCKS " AND pid IS DISTINCT FROM pg_backend_pid()";

/* whether all of $1 have ended; a prepared one has another name by now */
static const char writers_ended_sql[] =
"SELECT NOT EXISTS (SELECT" OUTBOX_LOCKS
" AND (virtualtransaction = ANY ($1::text[]) OR pid IS NULL))";

/*
 * $1 position to begin with, $2 and $3 time range, $4 how many events to look
 * at, $5 how many to take.
 *
 * Which slots are ours is decided once, before any row is locked; a row that
 * somebody published meanwhile is found out by locking it. Few events go to
 * one relay; of many, each relay takes the slots for its share.
 *
 * There is no join but the one by ctid, and no index fits there (therefore the
 * || ''): when a partition is so new that it has no statistics, the planner
 * would take 500 times a whole index for the best way.
 */
static const char claim_sql[] =
"WITH head AS MATERIALIZED ("
" SELECT position, created_at, tableoid AS part, ctid AS tid, " KEY " AS partition_key, pg_column_size(payload) AS bytes,"
"  hashtext(coalesce(" KEY ", event_id::text)) & " SLOTS " AS slot"
" FROM saga_outbox AS o"
" WHERE status IN ('PENDING', 'pending') AND position >= $1::bigint"
"  AND created_at > $2::timestamptz AND created_at < $3::timestamptz"
" ORDER BY position LIMIT $4::integer),"
" slots AS MATERIALIZED ("
/* OFFSET: or it would lock them all, and only then count */
" SELECT slot FROM (SELECT slot FROM head GROUP BY slot ORDER BY min(position) OFFSET 0) AS s"
" WHERE pg_try_advisory_xact_lock('saga_outbox'::regclass::oid::integer, slot)"
" LIMIT (SELECT ceil(count(DISTINCT slot) * least(1, $5::integer / greatest(count(*), 1)::float8))"
"  FROM head)),"
" mine AS MATERIALIZED ("
" SELECT position, part, tid, partition_key,"
"  row_number() OVER (PARTITION BY partition_key ORDER BY position) AS place"
" FROM (SELECT *, sum(bytes) OVER (ORDER BY position) - bytes AS bytes_before FROM head"
"  WHERE slot = ANY (ARRAY (SELECT slot FROM slots))) AS h"
" WHERE bytes_before < 16 * 1024 * 1024 ORDER BY position LIMIT $5),"
" locked AS MATERIALIZED ("
" SELECT m.position, m.partition_key AS key, m.place,"
"  o.tableoid AS part, o.ctid AS tid, o.created_at, o.event_id, coalesce(o.topic, o.event_type) AS topic, " KEY " AS partition_key, o.saga_id, o.payload, o.headers"
" FROM mine AS m JOIN saga_outbox AS o ON o.ctid = m.tid AND o.tableoid = m.part"
" WHERE o.status || '' IN ('PENDING', 'pending') AND o.created_at > $2::timestamptz AND o.created_at < $3::timestamptz"
" FOR UPDATE OF o SKIP LOCKED),"
/* one that can't be had stops its key: those after it have to wait for it */
" ready AS ("
" SELECT *, key IS NULL OR place = row_number() OVER (PARTITION BY key ORDER BY place) AS in_turn"
" FROM locked)"
" SELECT w.events, w.lowest, w.outside, extract(epoch FROM now() - w.oldest)::bigint,"
"  r.event_id, r.topic, r.partition_key, r.saga_id, r.payload, r.headers, " UTC_TIME("r.created_at") ", r.part, r.tid"
" FROM (SELECT count(*) AS events, min(position) AS lowest, min(created_at) AS oldest,"
"  min(created_at) <= now() - interval '1 day' OR max(created_at) >= now() + interval '1 day' AS outside"
"  FROM head) AS w"
" LEFT JOIN ready AS r ON r.in_turn"
" ORDER BY r.position";

enum
{
	COL_EVENTS, COL_LOWEST, COL_OUTSIDE, COL_AGE,
	COL_ID, COL_TOPIC, COL_KEY, COL_SAGA, COL_PAYLOAD, COL_HEADERS, COL_CREATED, COL_PART, COL_TID
};

/* $1 partitions and $2 tids of the events, $3 and $4 the range of their times */
static const char publish_sql[] =
"UPDATE saga_outbox AS o"
" SET status = CASE o.status WHEN 'pending' THEN 'sent' ELSE 'PUBLISHED' END,"
"  sent_at = clock_timestamp(), published_at = clock_timestamp(), attempts = o.attempts + 1"
" FROM unnest($1::oid[], $2::tid[]) AS e(part, tid)"
" WHERE o.ctid = e.tid AND o.tableoid = e.part"
" AND o.created_at >= $3::timestamptz AND o.created_at <= $4::timestamptz";

/* Redis refused this one: $1 event_id, $2 time, $3 what it said */
static const char fail_sql[] =
"UPDATE saga_outbox SET status = CASE status WHEN 'sent' THEN 'failed' ELSE 'FAILED' END,"
"  sent_at = NULL, published_at = NULL, last_error = $3, retry_count = retry_count + 1"
" WHERE event_id = $1::uuid AND created_at = $2::timestamptz";

#endif
