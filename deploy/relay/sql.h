/*
 * sql.h
 *	  The relay's SQL. README.md says why it is as it is.
 */
#ifndef SQL_H
#define SQL_H

/* Keys are shared out in so many slots; who publishes a key holds its slot. */
#define SLOTS "255"

#define UTC_TIME(expr) "to_char((" expr ") AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

/*
 * A mark that a crash loses is an event that is published again, which is
 * allowed, so the commit needn't wait for the disk or a standby. A relay that
 * is gone without a word must not keep its slots.
 */
static const char begin_sql[] =
"BEGIN;"
"SET LOCAL synchronous_commit = off;"
"SET LOCAL idle_in_transaction_session_timeout = '60s';"
"SET LOCAL jit = off;"
"SELECT " UTC_TIME("now() - interval '1 day'") "," UTC_TIME("now() + interval '1 day'") ","
/* another one after a restart, a crash or a failover, which pools hide from us */
" pg_postmaster_start_time()::text || (SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer')";

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
 */
static const char claim_sql[] =
"WITH head AS MATERIALIZED ("
" SELECT position, created_at, ctid AS tid, partition_key, pg_column_size(payload) AS bytes,"
"  hashtext(coalesce(partition_key, id::text)) & " SLOTS " AS slot"
" FROM saga_outbox"
" WHERE status = 'PENDING' AND position >= $1::bigint"
"  AND created_at > $2::timestamptz AND created_at < $3::timestamptz"
" ORDER BY position LIMIT $4::integer),"
" slots AS MATERIALIZED ("
" SELECT slot FROM (SELECT slot FROM head GROUP BY slot ORDER BY min(position)) AS s"
" WHERE pg_try_advisory_xact_lock('saga_outbox'::regclass::oid::integer, slot)"
" LIMIT (SELECT ceil(count(DISTINCT slot) * least(1, $5::integer / greatest(count(*), 1)::float8))"
"  FROM head)),"
" mine AS MATERIALIZED ("
" SELECT row_number() OVER (ORDER BY position) AS n, position, created_at, tid, partition_key"
" FROM (SELECT h.*, sum(bytes) OVER (ORDER BY position) - bytes AS bytes_before"
"  FROM head AS h JOIN slots USING (slot)) AS h"
" WHERE bytes_before < 16 * 1024 * 1024 ORDER BY position LIMIT $5),"
" locked AS MATERIALIZED ("
" SELECT m.n, o.ctid AS tid, o.created_at, o.id, o.topic, o.partition_key, o.saga_id, o.payload, o.headers"
" FROM mine AS m JOIN saga_outbox AS o ON o.ctid = m.tid AND o.created_at = m.created_at"
" WHERE o.status = 'PENDING' AND o.created_at > $2::timestamptz AND o.created_at < $3::timestamptz"
" FOR UPDATE OF o SKIP LOCKED),"
/* one that can't be had stops its key: those after it have to wait for it */
" ready AS ("
" SELECT m.n, l.tid, l.created_at, l.id, l.topic, l.partition_key, l.saga_id, l.payload, l.headers,"
"  m.partition_key IS NULL OR bool_and(l.id IS NOT NULL) OVER (PARTITION BY m.partition_key ORDER BY m.n) AS in_turn"
" FROM mine AS m LEFT JOIN locked AS l USING (n))"
" SELECT w.events, w.lowest, w.outside, extract(epoch FROM now() - w.oldest)::bigint,"
"  r.id, r.topic, r.partition_key, r.saga_id, r.payload, r.headers, " UTC_TIME("r.created_at") ", r.tid"
" FROM (SELECT count(*) AS events, min(position) AS lowest, min(created_at) AS oldest,"
"  min(created_at) <= now() - interval '1 day' OR max(created_at) >= now() + interval '1 day' AS outside"
"  FROM head) AS w"
" LEFT JOIN ready AS r ON r.in_turn AND r.id IS NOT NULL"
" ORDER BY r.n";

enum
{
	COL_EVENTS, COL_LOWEST, COL_OUTSIDE, COL_AGE,
	COL_ID, COL_TOPIC, COL_KEY, COL_SAGA, COL_PAYLOAD, COL_HEADERS, COL_CREATED, COL_TID
};

/* $1 tids and $2 times of the events, $3 and $4 the range of the times */
static const char publish_sql[] =
"UPDATE saga_outbox AS o"
" SET status = 'PUBLISHED', published_at = clock_timestamp(), attempts = o.attempts + 1"
" FROM unnest($1::tid[], $2::timestamptz[]) AS e(tid, created_at)"
" WHERE o.ctid = e.tid AND o.created_at = e.created_at"
" AND o.created_at >= $3::timestamptz AND o.created_at <= $4::timestamptz";

/* Redis refused this one: $1 id, $2 time, $3 what it said */
static const char fail_sql[] =
"UPDATE saga_outbox SET status = 'FAILED', published_at = NULL, last_error = $3"
" WHERE id = $1::uuid AND created_at = $2::timestamptz";

#endif
