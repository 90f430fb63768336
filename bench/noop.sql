-- Databases for bench/noop.sh: daily partitions that are all there already,
-- known to sagaz_ha and, if it is installed, to pg_partman.
-- Variables: columns (what the tables have), tables, past (days back), partman, partman_5 (0 or 1), name_format
CREATE EXTENSION sagaz_ha;
SELECT format('CREATE TABLE t%s (%s) PARTITION BY RANGE (at)', t, :'columns')
  FROM generate_series(1, :tables) AS t
\gexec
-- named as pg_partman wants it; sagaz_ha takes any name
SELECT format('CREATE TABLE t%s_p%s PARTITION OF t%s FOR VALUES FROM (%L) TO (%L)',
              t, to_char(day, :'name_format'), t, day, day + interval '1 day')
  FROM generate_series(1, :tables) AS t,
       generate_series(date_trunc('day', now()) - :past * interval '1 day',
                       date_trunc('day', now()) + interval '7 days', interval '1 day') AS day
\gexec
-- pg_partman counts from the newest row
SELECT format('INSERT INTO t%s (n) VALUES (1)', t) FROM generate_series(1, :tables) AS t
\gexec
SELECT sagaz_ha.manage_partitions(format('t%s', t)::regclass, '1 day', premake => 7,
                                  retention => (:past + 1) * interval '1 day')
  FROM generate_series(1, :tables) AS t;
\if :partman
CREATE SCHEMA partman;
CREATE EXTENSION pg_partman SCHEMA partman;
INSERT INTO partman.part_config (parent_table, control, partition_type, partition_interval,
                                 premake, datetime_string, retention, retention_keep_table)
SELECT format('public.t%s', t), 'at', CASE WHEN :partman_5 = 1 THEN 'range' ELSE 'native' END, '1 day', 7,
       :'name_format', format('%s days', :past + 1), false
  FROM generate_series(1, :tables) AS t;
\endif
VACUUM ANALYZE;
