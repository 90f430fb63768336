-- pg_partman's own set-up, and its best case: without the default partition
-- that it makes.
CREATE SCHEMA bench;
CREATE SCHEMA partman;
CREATE EXTENSION pg_partman SCHEMA partman;
SELECT partman.create_parent('public.saga_outbox', 'created_at', 'native', 'daily',
                             p_start_partition => (current_date - 40)::text);
DROP TABLE saga_outbox_default;
UPDATE partman.part_config
   SET premake = 7, retention = '30 days', retention_keep_table = false
 WHERE parent_table = 'public.saga_outbox';
