-- Any range-partitioned table: key types, intervals, time zones.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

-- One function to see what a new policy makes, at a time, in an empty table
CREATE FUNCTION made(type text, partition_interval interval, at timestamptz, premake integer DEFAULT 1, zone text DEFAULT 'UTC')
RETURNS TABLE (partition_name text, details text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TABLE t (at %s NOT NULL) PARTITION BY RANGE (at)', type);
  PERFORM sagaz_ha.manage_partitions('t', partition_interval, premake, time_zone => zone);
  PERFORM set_config('sagaz_ha.clock', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"+00" BC'), true);
  RETURN QUERY SELECT m.partition_name, m.details FROM sagaz_ha.maintain_partitions('t') AS m;
  IF EXISTS (SELECT FROM sagaz_ha.maintain_partitions('t')) THEN
    RAISE EXCEPTION 'the second pass is not empty';
  END IF;
  -- and a row of now has a place
  IF type LIKE 'timestamptz%' THEN
    INSERT INTO t VALUES (at);
  ELSE
    INSERT INTO t VALUES (at AT TIME ZONE zone);
  END IF;
  DROP TABLE t;
END $$;

-- Intervals, on a timestamptz key
SELECT * FROM made('timestamptz', '1 hour', '2025-01-15 10:30:00+00');
SELECT * FROM made('timestamptz', '6 hours', '2025-01-15 10:30:00+00', 4);
SELECT * FROM made('timestamptz', '24 hours', '2025-01-15 10:30:00+00');
SELECT * FROM made('timestamptz', '1 day', '2025-01-15 10:30:00+00');
SELECT * FROM made('timestamptz', '10 days', '2025-01-15 10:30:00+00');
SELECT * FROM made('timestamptz', '1 week', '2025-01-15 10:30:00+00');
SELECT * FROM made('timestamptz', '2 weeks', '2025-01-15 10:30:00+00');
SELECT * FROM made('timestamptz', '1 month', '2025-01-31 23:59:59+00');
SELECT * FROM made('timestamptz', '3 months', '2025-06-15 10:30:00+00', 3);
SELECT * FROM made('timestamptz', '1 year', '2025-06-15 10:30:00+00');
SELECT * FROM made('timestamptz', '10 years', '2025-06-15 10:30:00+00');
-- two that the server writes the same
SELECT * FROM made('timestamptz', '12 months', '2025-06-15 10:30:00+00');
SELECT * FROM made('timestamptz', '7 days', '2025-01-15 10:30:00+00');

-- Months end where they end
SELECT * FROM made('timestamptz', '1 month', '2024-02-29 12:00:00+00');
SELECT * FROM made('timestamptz', '1 day', '2024-02-28 12:00:00+00', 2);
SELECT * FROM made('timestamptz', '1 day', '2100-02-28 12:00:00+00');

-- Keys without a time zone hold the wall clock of the policy's zone
SELECT * FROM made('timestamp', '1 day', '2025-01-15 23:30:00+00');
SELECT * FROM made('timestamp', '1 day', '2025-01-15 23:30:00+00', 1, 'Asia/Tokyo');
SELECT * FROM made('timestamp', '6 hours', '2025-01-15 23:30:00+00', 1, 'Asia/Tokyo');
SELECT * FROM made('date', '1 day', '2025-01-15 23:30:00+00');
SELECT * FROM made('date', '1 day', '2025-01-15 23:30:00+00', 1, 'Asia/Tokyo');
SELECT * FROM made('date', '1 month', '2025-01-31 23:30:00+00', 1, 'Asia/Tokyo');
SELECT * FROM made('date', '1 year', '2025-01-31 23:30:00+00');
-- a precision is no reason to refuse
SELECT * FROM made('timestamptz(0)', '1 day', '2025-01-15 10:30:00+00');
SELECT * FROM made('timestamp(3)', '1 day', '2025-01-15 10:30:00+00');

-- Days of a time zone: 23 and 25 hours long when the clock changes
SELECT * FROM made('timestamptz', '1 day', '2025-03-29 12:00:00+00', 2, 'Europe/Berlin');
SELECT * FROM made('timestamptz', '1 day', '2025-10-25 12:00:00+00', 2, 'Europe/Berlin');
SELECT * FROM made('timestamptz', '1 month', '2025-03-15 12:00:00+00', 2, 'America/New_York');
SELECT * FROM made('timestamptz', '1 day', '2025-01-15 20:00:00+00', 1, 'Asia/Kolkata');
SELECT * FROM made('timestamptz', '1 day', '2025-01-15 20:00:00+00', 1, 'Pacific/Kiritimati');
-- midnight doesn't exist on that day in Santiago
SELECT * FROM made('timestamptz', '1 day', '2024-09-07 12:00:00+00', 3, 'America/Santiago');
-- this whole day never was in Samoa
SELECT * FROM made('timestamptz', '1 day', '2011-12-29 12:00:00+00', 3, 'Pacific/Apia');
-- hours are hours, whatever the wall clock shows
SELECT * FROM made('timestamptz', '1 hour', '2025-10-26 00:30:00+00', 3, 'Europe/Berlin');
SELECT * FROM made('timestamptz', '6 hours', '2025-10-26 00:30:00+00', 2, 'Europe/Berlin');

-- Far away
SELECT * FROM made('timestamptz', '1 month', '0001-01-15 00:00:00+00');
SELECT * FROM made('timestamptz', '1 year', '0001-01-15 00:00:00+00 BC');
SELECT * FROM made('timestamptz', '1 month', '9999-12-15 00:00:00+00');
SELECT * FROM made('timestamptz', '1 month', '10000-12-15 00:00:00+00');
SELECT * FROM made('date', '1 day', '200000-01-01 00:00:00+00');

-- Another schema, and a parent that isn't on the search path
CREATE SCHEMA app;
CREATE TABLE app.events (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('app.events', '1 day', 1, retention => '1 day');
SELECT * FROM sagaz_ha.plan_partition_maintenance();
SELECT * FROM maintain_all_partitions();
SELECT * FROM test.partitions('app.events');
SELECT sagaz_ha.create_partition('app.events', '2025-02-01 00:00:00+00');
SELECT table_name, partition_count FROM get_partition_statistics();

-- A policy is replaced by the next one
SELECT sagaz_ha.manage_partitions('app.events', '1 week', 2, time_zone => 'Europe/Berlin',
                                  storage_parameters => '{fillfactor=70,autovacuum_enabled=off}', auto_freeze => false);
SELECT parent, partition_interval, premake, retention, time_zone, storage_parameters, auto_analyze, auto_freeze
  FROM sagaz_ha.partition_policy;
-- the new width goes on from the last bound, and ends where a partition begins
SELECT * FROM maintain_all_partitions();
SELECT * FROM sagaz_ha.maintain_partitions('app.events');
SELECT sagaz_ha.stop_managing_partitions('app.events');
SELECT count(*) FROM sagaz_ha.partition_policy;
SELECT count(*) FROM test.partitions('app.events');

-- One table at a time
CREATE TABLE one (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE two (at date NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('one', '1 day', 1), sagaz_ha.manage_partitions('two', '1 day', 1);
SELECT * FROM sagaz_ha.maintain_partitions('two');
SELECT * FROM maintain_all_partitions();

-- One partition at a time: the period that an instant lies in
SELECT sagaz_ha.create_partition('one', '2025-01-15 23:59:59+00');
SELECT sagaz_ha.create_partition('one', '2025-01-20 00:00:00+00');
SELECT sagaz_ha.create_partition('one', '2024-06-01 12:00:00+00');
SELECT sagaz_ha.create_partition('one', '2024-06-01 12:00:00+00');
SELECT * FROM test.partitions('one');
SELECT action, partition_name, details FROM sagaz_ha.partition_history WHERE table_name = 'one' ORDER BY id;

\i :teardown
