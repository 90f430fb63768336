-- pg_partman's own set-up, and its best case: without the default partition
-- that it makes. Variables: past (days back), partman_5 (0 or 1)
CREATE SCHEMA bench;
CREATE SCHEMA partman;
CREATE EXTENSION pg_partman SCHEMA partman;
\if :partman_5
SELECT partman.create_parent('public.saga_outbox', 'created_at', '1 day',
                             p_start_partition => (current_date - :past)::text, p_default_table => false);
\else
SELECT partman.create_parent('public.saga_outbox', 'created_at', 'native', 'daily',
                             p_start_partition => (current_date - :past)::text);
DROP TABLE saga_outbox_default;
\endif
UPDATE partman.part_config
   SET premake = 7, retention = '30 days', retention_keep_table = false
 WHERE parent_table = 'public.saga_outbox';
