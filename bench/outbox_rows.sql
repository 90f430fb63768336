-- Rows in every partition that can have some, all of them finished.
-- Variables: past (days back), timescaledb (0 or 1)
INSERT INTO saga_outbox (topic, payload, status, created_at)
SELECT 'bench.topic', '{"n": 1}', 'PUBLISHED',
       least(date_trunc('day', now()) + day * interval '1 day' + n * interval '1 minute', now())
  FROM generate_series(-:past, 0) AS day, generate_series(0, 999) AS n;
VACUUM ANALYZE saga_outbox;

CREATE TABLE IF NOT EXISTS bench.expired (oid oid);
\if :timescaledb
INSERT INTO bench.expired
SELECT format('%I.%I', chunk_schema, chunk_name)::regclass
  FROM timescaledb_information.chunks
 WHERE hypertable_name = 'saga_outbox' AND range_end <= now() - interval '30 days';
\else
INSERT INTO bench.expired
SELECT inhrelid
  FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
 WHERE inhparent = 'saga_outbox'::regclass
   AND substring(pg_get_expr(relpartbound, inhrelid) FROM $$TO \('([^']*)$$)::timestamptz
       <= now() - interval '30 days';
\endif

-- Looks at catalogs only, so it locks nothing that a pass needs.
CREATE FUNCTION bench.watch_query() RETURNS text LANGUAGE sql AS $$
  SELECT format('SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,'
                ' (SELECT count(*) FROM pg_inherits WHERE inhparent = %s AND inhrelid > %s),'
                ' (SELECT count(*) FROM pg_class WHERE oid IN (%s))',
                'saga_outbox'::regclass::oid,
                (SELECT max(inhrelid::bigint) FROM pg_inherits WHERE inhparent = 'saga_outbox'::regclass),
                (SELECT string_agg(oid::text, ', ') FROM bench.expired))
$$;
