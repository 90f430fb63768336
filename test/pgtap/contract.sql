-- The API contract: what there is, how it is called, what it returns, who may
-- call it, and that everything says what it is for. To be run by pg_prove in a
-- database that has neither extension.

\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
\set ON_ERROR_STOP on
BEGIN;
SET client_min_messages = warning;
SET intervalstyle = 'postgres';    -- defaults are shown in it
CREATE EXTENSION pgtap;
CREATE EXTENSION sagaz_ha;
SELECT no_plan();

-- Every function, and nothing else
--
CREATE TEMPORARY TABLE contract (
  schema name,
  name name,
  arguments text,
  result text,
  volatility text,              -- immutable, stable or volatile
  callers text                  -- owner, pg_monitor, public
);
INSERT INTO contract VALUES
  -- of the specification
  ('public', 'maintain_all_partitions', 'OUT action text, OUT table_name text, OUT partition_name text, OUT details text',
   'SETOF record', 'volatile', 'owner'),
  ('public', 'create_saga_executions_partition', 'date', 'text', 'volatile', 'owner'),
  ('public', 'create_saga_outbox_partition', 'date', 'text', 'volatile', 'owner'),
  ('public', 'create_saga_audit_log_partition', 'date', 'text', 'volatile', 'owner'),
  ('public', 'cleanup_consumer_inbox', 'retention_days integer DEFAULT 90', 'bigint', 'volatile', 'owner'),
  ('public', 'get_partition_statistics', 'OUT table_name text, OUT partition_count bigint, OUT oldest_partition text, OUT newest_partition text, OUT total_size_mb numeric, OUT estimated_rows bigint, OUT kept bigint, OUT covered_until timestamp with time zone',
   'SETOF record', 'stable', 'pg_monitor'),
  -- ours: changing
  ('sagaz_ha', 'create_saga_tables', '', 'void', 'volatile', 'owner'),
  ('sagaz_ha', 'manage_partitions', 'parent regclass, partition_interval interval, premake integer DEFAULT 4, retention interval DEFAULT NULL::interval, retention_action text DEFAULT ''drop''::text, unfinished_when text DEFAULT NULL::text, time_zone text DEFAULT ''UTC''::text, archive_schema regnamespace DEFAULT NULL::regnamespace, tablespace name DEFAULT NULL::name, storage_parameters text[] DEFAULT NULL::text[], auto_analyze boolean DEFAULT true, auto_freeze boolean DEFAULT true, before_drop regprocedure DEFAULT NULL::regprocedure, plain boolean DEFAULT false, key_encoding text DEFAULT NULL::text, protect boolean DEFAULT false',
   'void', 'volatile', 'owner'),
  ('sagaz_ha', 'stop_managing_partitions', 'parent regclass', 'void', 'volatile', 'owner'),
  ('sagaz_ha', 'maintain_partitions', 'parent regclass, OUT action text, OUT table_name text, OUT partition_name text, OUT details text',
   'SETOF record', 'volatile', 'owner'),
  ('sagaz_ha', 'repair_partitions', 'parent regclass, OUT action text, OUT table_name text, OUT partition_name text, OUT details text',
   'SETOF record', 'volatile', 'owner'),
  ('sagaz_ha', 'create_partition', 'parent regclass, at timestamp with time zone', 'text', 'volatile', 'owner'),
  ('sagaz_ha', 'resume_drops', 'parent regclass', 'boolean', 'volatile', 'owner'),
  ('sagaz_ha', 'hold_partition', 'partition regclass, reason text', 'void', 'volatile', 'owner'),
  ('sagaz_ha', 'release_partition', 'partition regclass', 'boolean', 'volatile', 'owner'),
  ('sagaz_ha', 'drop_partition', 'partition regclass', 'void', 'volatile', 'owner'),
  ('sagaz_ha', 'reattach_partition', 'partition regclass, parent regclass DEFAULT NULL::regclass', 'void', 'volatile', 'owner'),
  ('sagaz_ha', 'policy_changed', '', 'trigger', 'volatile', 'owner'),
  ('sagaz_ha', 'cancel_partition_table', 'parent regclass',
   'void', 'volatile', 'owner'),
  ('sagaz_ha', 'partition_table', 'parent regclass, key name, partition_interval interval, premake integer DEFAULT 4, retention interval DEFAULT NULL::interval, retention_action text DEFAULT ''drop''::text, unfinished_when text DEFAULT NULL::text, time_zone text DEFAULT ''UTC''::text, archive_schema regnamespace DEFAULT NULL::regnamespace, tablespace name DEFAULT NULL::name, storage_parameters text[] DEFAULT NULL::text[], auto_analyze boolean DEFAULT true, auto_freeze boolean DEFAULT true, before_drop regprocedure DEFAULT NULL::regprocedure, plain boolean DEFAULT false, key_encoding text DEFAULT NULL::text, protect boolean DEFAULT true, weaken_unique boolean DEFAULT false, publish_via_partition_root boolean DEFAULT false',
   'void', 'volatile', 'owner'),
  ('sagaz_ha', 'plan_partition_table', 'parent regclass, key name, partition_interval interval, premake integer DEFAULT 4, retention interval DEFAULT NULL::interval, retention_action text DEFAULT ''drop''::text, unfinished_when text DEFAULT NULL::text, time_zone text DEFAULT ''UTC''::text, archive_schema regnamespace DEFAULT NULL::regnamespace, tablespace name DEFAULT NULL::name, storage_parameters text[] DEFAULT NULL::text[], auto_analyze boolean DEFAULT true, auto_freeze boolean DEFAULT true, before_drop regprocedure DEFAULT NULL::regprocedure, plain boolean DEFAULT false, key_encoding text DEFAULT NULL::text, protect boolean DEFAULT true, weaken_unique boolean DEFAULT false, publish_via_partition_root boolean DEFAULT false',
   'TABLE(step text, lock text, statement text, meaning text)', 'volatile', 'owner'),
  ('sagaz_ha', 'unpartition_table', 'parent regclass',
   'void', 'volatile', 'owner'),
  -- ours: how a table is converted
  ('sagaz_ha', '_clone_index', 'index regclass, target regclass, name name',
   'void', 'volatile', 'public'),
  ('sagaz_ha', '_conflicting_statements', 'source regclass, key name',
   'text', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_building', 'source regclass, target text, key name',
   'SETOF sagaz_ha._conversion_statement', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_changes', 'source regclass, target regclass, key name, linked boolean, weaken_unique boolean',
   'text', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_check', 'source regclass, tables text[], key name, lower_bound text, upper_bound text',
   'SETOF sagaz_ha._conversion_statement', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_builds', 'source regclass, key name, weaken_unique boolean, OUT name name, OUT statement text, OUT meaning text',
   'SETOF record', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_companions', 'source regclass, phase text',
   'SETOF oid', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_finishing', 'target regclass',
   'SETOF sagaz_ha._conversion_statement', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_followers', 'source regclass, OUT what text, OUT owner oid, OUT namespace oid, OUT relation oid, OUT statement text',
   'SETOF record', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_indexes', 'source regclass, key name, OUT index oid, OUT name name, OUT constraint_oid oid, OUT contype "char", OUT is_unique boolean, OUT has_key boolean, OUT definition text, OUT tablespace text, OUT columns name[], OUT not_kept text',
   'SETOF record', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_left', 'source regclass',
   'regclass', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_conversion_lock', 'phase text, tables text[]',
   'SETOF sagaz_ha._conversion_statement', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_name', 'base text, suffix text',
   'name', 'immutable', 'pg_monitor'),
  ('sagaz_ha', '_conversion_named', 'source regclass, old_name text, publish_via_partition_root boolean DEFAULT false',
   'SETOF sagaz_ha._conversion_statement', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_next_index', 'source regclass, key name, weaken_unique boolean, OUT run_as oid, OUT statement text',
   'SETOF record', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_obstacles', 'source regclass, key name, weaken_unique boolean, publish_via_partition_root boolean, target regclass, OUT problem text, OUT hint text',
   'SETOF record', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_returning', 'source regclass, target regclass',
   'SETOF sagaz_ha._conversion_statement', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_sequences', 'source regclass, OUT sequence oid, OUT name name, OUT column_name name, OUT column_number bigint, OUT identity "char"',
   'SETOF record', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_steps', 'source regclass, target text, key name, upper_bound text, weaken_unique boolean, publish_via_partition_root boolean',
   'SETOF sagaz_ha._conversion_statement', 'stable', 'owner'),
  ('sagaz_ha', '_conversion_undoing', 'source regclass, target regclass, key name',
   'SETOF sagaz_ha._conversion_statement', 'stable', 'owner'),
  ('sagaz_ha', '_copy_privileges', 'source regclass, target text',
   'SETOF text', 'stable', 'owner'),
  ('sagaz_ha', '_display_name', 'relation regclass, name text',
   'text', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_keep_unique', 'parent regclass, columns name[]',
   'name', 'volatile', 'public'),
  ('sagaz_ha', '_rebound_steps', 'source regclass, parent regclass, key name, lower_bound text, upper_bound text',
   'SETOF sagaz_ha._conversion_statement', 'stable', 'owner'),
  ('sagaz_ha', '_replace_query', 'view regclass, query text',
   'void', 'volatile', 'public'),
  ('sagaz_ha', '_require_attached', 'source regclass, target regclass',
   'void', 'stable', 'public'),
  ('sagaz_ha', '_require_quick_attach', 'source regclass, target regclass',
   'void', 'stable', 'public'),
  ('sagaz_ha', '_require_unchanged', 'source regclass, target regclass, linked boolean, weaken_unique boolean',
   'void', 'stable', 'owner'),
  ('sagaz_ha', '_role_name', 'role oid',
   'text', 'stable', 'owner'),
  ('sagaz_ha', '_trigger_copy', 'trigger oid, target text',
   'SETOF text', 'stable', 'owner'),
  ('sagaz_ha', '_trigger_prefix', 'trigger oid',
   'text', 'stable', 'owner'),
  ('sagaz_ha', '_with_key', 'definition text, key text',
   'text', 'immutable', 'owner'),
  ('sagaz_ha', '_with_tablespace', 'definition text, tablespace text',
   'text', 'immutable', 'owner'),
  ('sagaz_ha', '_without_prefix', 'definition text, prefix text',
   'text', 'immutable', 'owner'),
  ('sagaz_ha', '_without_suffix', 'definition text, suffix text',
   'text', 'immutable', 'owner'),
  ('sagaz_ha', 'policy_arrived', '', 'trigger', 'volatile', 'owner'),
  -- as pg_get_expr(); the owner of a table copies its policies
  ('sagaz_ha', '_expression', 'tree pg_node_tree, relation oid, alias name', 'text', 'stable', 'public'),
  ('sagaz_ha', '_partition_tree', 'parent regclass, OUT partition oid, OUT tab oid, OUT root regclass', 'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_drift', 'parent regclass, OUT partition regclass, OUT kind text, OUT details text, OUT statement text, OUT root regclass',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_unique_flaws', 'parent regclass, OUT root regclass, OUT name name, OUT kind text, OUT details text',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_catalog_changes', '', 'bigint', 'volatile', 'pg_monitor'),
  ('sagaz_ha', '_drift_indexes', 'parent regclass, OUT partition oid, OUT relkind "char", OUT partition_owner oid, OUT bytes numeric, OUT tab oid, OUT tab_owner oid, OUT tab_index oid, OUT is_unique boolean, OUT tail text, OUT contype "char", OUT constraint_definition text, OUT deferral text, OUT attached oid, OUT found oid, OUT found_valid boolean, OUT found_constraint boolean',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_off_grid', 'parents regclass[], OUT parent regclass, OUT partition_start timestamp with time zone, OUT bounds text',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_not_whole', 'parent regclass, OUT reason text, OUT version text', 'record', 'volatile', 'pg_monitor'),
  -- the owner of a table makes the trigger, and the function does nothing but refuse
  ('sagaz_ha', 'add_unique', 'parent regclass, columns name[], within interval DEFAULT NULL::interval, on_duplicate text DEFAULT ''error''::text', 'name', 'volatile', 'owner'),
  ('sagaz_ha', 'drop_unique', 'parent regclass, columns name[]', 'boolean', 'volatile', 'owner'),
  ('sagaz_ha', 'check_unique', '', 'trigger', 'volatile', 'public'),
  ('sagaz_ha', 'skip_duplicate', '', 'trigger', 'volatile', 'public'),
  ('sagaz_ha', 'keep_unique', '', 'event_trigger', 'volatile', 'owner'),
  ('sagaz_ha', 'refuse_late_write', '', 'trigger', 'volatile', 'public'),
  ('sagaz_ha', 'refuse_truncate', '', 'trigger', 'volatile', 'public'),
  ('sagaz_ha', 'protect_partitions', '', 'event_trigger', 'volatile', 'owner'),
  ('sagaz_ha', 'forget_dropped_tables', '', 'event_trigger', 'volatile', 'owner'),
  -- ours: reading. The dry run is volatile because it looks at rows as of now
  ('sagaz_ha', 'plan_partition_maintenance', 'at timestamp with time zone DEFAULT sagaz_ha.clock(), OUT action text, OUT table_name text, OUT partition_name text, OUT details text',
   'SETOF record', 'volatile', 'pg_monitor'),
  ('sagaz_ha', 'partitions', 'sizes boolean DEFAULT true, OUT parent regclass, OUT table_name text, OUT partition regclass, OUT partition_name text, OUT partition_start timestamp with time zone, OUT partition_end timestamp with time zone, OUT state text, OUT total_bytes bigint, OUT estimated_rows bigint',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'coverage', 'OUT parent regclass, OUT table_name text, OUT covered_until timestamp with time zone, OUT premade_until timestamp with time zone, OUT holes integer, OUT first_hole timestamp with time zone, OUT default_partition regclass, OUT default_has_rows boolean, OUT pending_detach regclass, OUT pending_waits_for text, OUT problem text, OUT catch_all regclass',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'partition_timeline', 'width integer DEFAULT 50, OUT table_name text, OUT timeline text, OUT covered_until timestamp with time zone',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'partition_health', 'OUT table_name text, OUT check_name text, OUT status text, OUT value text, OUT details text',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'maintenance_status', 'OUT process text, OUT pid integer, OUT database text, OUT phase text, OUT table_name text, OUT since timestamp with time zone, OUT partitions_done integer, OUT partitions_total integer, OUT waiting_for text, OUT last_pass timestamp with time zone, OUT next_pass timestamp with time zone, OUT passes bigint, OUT actions bigint, OUT last_error text, OUT last_duration interval, OUT errors bigint, OUT overdue interval',
   'SETOF record', 'volatile', 'pg_monitor'),
  ('sagaz_ha', '_plain_saga_tables', 'OUT table_name text, OUT details text', 'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'import_pg_partman', 'parent regclass DEFAULT NULL::regclass, dry_run boolean DEFAULT true, OUT table_name text, OUT finding text, OUT item text, OUT details text',
   'SETOF record', 'volatile', 'owner'),
  ('sagaz_ha', 'return_to_pg_partman', 'parent regclass', 'void', 'volatile', 'owner'),
  ('sagaz_ha', '_require_primary', 'function text', 'void', 'stable', 'public'),
  ('sagaz_ha', '_pg_partman_sets', 'OUT schema name, OUT parent regclass, OUT table_name text, OUT config jsonb, OUT has_sub boolean', 'SETOF record', 'stable', 'public'),
  ('sagaz_ha', '_pg_partman_rest', 'parent regclass, config jsonb, OUT item text, OUT details text', 'SETOF record', 'stable', 'public'),
  ('sagaz_ha', '_pg_partman_obstacles', 'parent regclass, config jsonb, has_sub boolean, OUT item text, OUT details text', 'SETOF record', 'stable', 'public'),
  ('sagaz_ha', '_time_zone_of_bounds', 'parent regclass', 'text', 'stable', 'public'),
  ('sagaz_ha', '_policy_time_zone', 'parent regclass', 'text', 'stable', 'public'),
  ('sagaz_ha', '_rename_for_pg_partman', 'parent regclass, config jsonb', 'void', 'volatile', 'public'),
  ('sagaz_ha', '_drop_empty_default', 'parent regclass, dry_run boolean, OUT finding text, OUT item text, OUT details text', 'record', 'volatile', 'public'),
  ('sagaz_ha', '_restored_at', '', 'timestamp with time zone', 'stable', 'pg_monitor'),
  -- replication health, each on one line of arguments and one of results
  ('sagaz_ha', '_statistics', 'OUT parent regclass, OUT table_name text, OUT partitions bigint, OUT oldest_partition text, OUT newest_partition text, OUT total_bytes bigint, OUT estimated_rows bigint, OUT kept bigint, OUT covered_until timestamp with time zone, OUT premade_until timestamp with time zone',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_expired_state', 'partition regclass',
   'text', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_problem_version', 'parent regclass, partition regclass',
   'text', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_lsn_age', 'lsn pg_lsn',
   'interval', 'volatile', 'pg_monitor'),
  ('sagaz_ha', '_node_state', '',
   'sagaz_ha._node_state', 'volatile', 'pg_monitor'),
  ('sagaz_ha', '_partition_metrics', 'preloaded boolean',
   'TABLE(name text, type text, help text, labels jsonb, value double precision)', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_prometheus_labels', 'labels jsonb',
   'text', 'immutable', 'pg_monitor'),
  ('sagaz_ha', '_receiver_state', '',
   'sagaz_ha._receiver_state', 'volatile', 'pg_monitor'),
  ('sagaz_ha', '_replay_block', 'OUT replay_wait text, OUT blocking_pids integer[], OUT waiting_for interval',
   'record', 'volatile', 'pg_monitor'),
  ('sagaz_ha', '_replication_metrics', 'seen sagaz_ha._observation',
   'TABLE(name text, type text, help text, labels jsonb, value double precision)', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_sender_state', 'OUT pid integer, OUT effective_lag interval, OUT lag_source text, OUT reply_age interval, OUT clock_offset interval, OUT end_lsn pg_lsn',
   'SETOF record', 'volatile', 'pg_monitor'),
  ('sagaz_ha', '_status', 'reasons sagaz_ha._reason[]',
   'text', 'immutable', 'pg_monitor'),
  ('sagaz_ha', '_reason_lines', 'reasons sagaz_ha._reason[]',
   'text[]', 'immutable', 'pg_monitor'),
  ('sagaz_ha', '_thresholds', '',
   'sagaz_ha._thresholds', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_standbys', 'limits sagaz_ha._thresholds',
   'SETOF sagaz_ha._standby', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_slots', 'limits sagaz_ha._thresholds, node sagaz_ha._node_state, wal sagaz_ha._wal_state',
   'SETOF sagaz_ha._slot', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_standby_status', 'limits sagaz_ha._thresholds, receiver sagaz_ha._receiver_state',
   'TABLE(receiver_state text, receiver_pid integer, receiver_restarts bigint, upstream_host text, upstream_port integer, slot_name text, received_lsn pg_lsn, latest_end_lsn pg_lsn, replay_lsn pg_lsn, received_timeline bigint, replay_timeline bigint, receive_lag_bytes bigint, replay_backlog_bytes bigint, replay_lag interval, staleness_bound interval, message_age interval, replay_state text, blocking_pids integer[], blocked_for interval, replay_bytes_per_second double precision, catchup_eta interval, lag_source text, clock_offset interval, upstream_in_contact boolean, scope text, status text, reasons sagaz_ha._reason[])', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_observe', '',
   'sagaz_ha._observation', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_health', 'seen sagaz_ha._observation',
   'TABLE(checked_at timestamp with time zone, node_name text, role text, status text, reasons text[], summary text, system_identifier text, timeline_id bigint, current_lsn pg_lsn, standbys_streaming integer, standbys_expected integer, sync_required integer, sync_available integer, sync_waiters integer, replay_lag interval, replay_lag_bytes bigint, staleness_bound interval, upstream_contact_age interval, slots_at_risk integer, replication_xmin_age integer, wal_bytes bigint, wal_disk_free_bytes bigint, archive_ready_files bigint, lag_source text, archive_failing boolean, archive_waiting_age interval, wal_disk_full_in interval)', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_promotion_checks', 'receiver sagaz_ha._receiver_state',
   'TABLE(check_name text, passed boolean, severity text, observed text, required text, hint text)', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_xmin_holders', '',
   'TABLE(kind text, name text, pid integer, database text, xmin xid, age integer, catalog_only boolean, since timestamp with time zone, remedy text)', 'stable', 'pg_monitor'),
  ('sagaz_ha', '_wal_speed', '',
   'double precision', 'volatile', 'pg_monitor'),
  ('sagaz_ha', '_wal_state', '',
   'sagaz_ha._wal_state', 'volatile', 'pg_monitor'),
  ('sagaz_ha', 'uuidv7_at', 'at timestamp with time zone', 'uuid', 'immutable', 'public'),
  ('sagaz_ha', 'ulid_at', 'at timestamp with time zone', 'text', 'immutable', 'public'),
  ('sagaz_ha', 'unix_seconds_at', 'at timestamp with time zone', 'bigint', 'immutable', 'public'),
  ('sagaz_ha', 'unix_milliseconds_at', 'at timestamp with time zone', 'bigint', 'immutable', 'public'),
  ('sagaz_ha', 'unix_microseconds_at', 'at timestamp with time zone', 'bigint', 'immutable', 'public'),
  ('sagaz_ha', 'snowflake_at', 'at timestamp with time zone, encoding text DEFAULT ''snowflake''::text', 'bigint', 'immutable', 'public'),
  ('sagaz_ha', '_maintained', 'OUT has_room boolean, OUT overdue interval',
   'record', 'volatile', 'pg_monitor'),
  ('sagaz_ha', '_key_samples', 'OUT table_name text, OUT partition_name text, OUT wanted text, OUT sampled integer, OUT others integer',
   'SETOF record', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'commit_token', '',
   'text', 'volatile', 'public'),
  ('sagaz_ha', 'has_replayed', 'token text',
   'boolean', 'volatile', 'public'),
  ('sagaz_ha', 'lsn_timestamp', 'lsn pg_lsn',
   'timestamp with time zone', 'volatile', 'pg_monitor'),
  ('sagaz_ha', 'metrics', '',
   'TABLE(name text, type text, help text, labels jsonb, value double precision)', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'nagios_check', 'OUT code integer, OUT message text',
   'record', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'node_ready', 'purpose text, max_staleness interval DEFAULT NULL::interval',
   'boolean', 'volatile', 'pg_monitor'),
  ('sagaz_ha', 'prometheus_metrics', '',
   'text', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'promotion_checks', '',
   'TABLE(check_name text, passed boolean, severity text, observed text, required text, hint text)', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'promotion_readiness', '',
   'TABLE(ready boolean, data_loss_bytes bigint, data_loss_bound interval, time_to_promote interval, failed text[], advice text[])', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'replication_health', '',
   'TABLE(checked_at timestamp with time zone, node_name text, role text, status text, reasons text[], summary text, system_identifier text, timeline_id bigint, current_lsn pg_lsn, standbys_streaming integer, standbys_expected integer, sync_required integer, sync_available integer, sync_waiters integer, replay_lag interval, replay_lag_bytes bigint, staleness_bound interval, upstream_contact_age interval, slots_at_risk integer, replication_xmin_age integer, wal_bytes bigint, wal_disk_free_bytes bigint, archive_ready_files bigint, lag_source text, archive_failing boolean, archive_waiting_age interval, wal_disk_full_in interval)', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'replication_slot_risk', '',
   'TABLE(slot_name text, slot_type text, active boolean, active_pid integer, restart_lsn pg_lsn, retained_bytes bigint, retained_age interval, safe_wal_bytes bigint, bytes_to_loss bigint, time_to_loss interval, limited_by text, wal_status text, invalidation_reason text, xmin_age integer, catalog_xmin_age integer, status text, reasons text[], remedy text)', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'replication_standbys', '',
   'TABLE(standby_name text, client_addr inet, slot_name text, kind text, state text, sync_state text, sent_lsn pg_lsn, write_lsn pg_lsn, flush_lsn pg_lsn, replay_lsn pg_lsn, sent_lag_bytes bigint, write_lag_bytes bigint, flush_lag_bytes bigint, replay_lag_bytes bigint, reported_replay_lag interval, effective_replay_lag interval, reply_age interval, xmin_age integer, status text, reasons text[], pid integer, lag_source text, clock_offset interval)', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'standby_status', '',
   'TABLE(receiver_state text, receiver_pid integer, receiver_restarts bigint, upstream_host text, upstream_port integer, slot_name text, received_lsn pg_lsn, latest_end_lsn pg_lsn, replay_lsn pg_lsn, received_timeline bigint, replay_timeline bigint, receive_lag_bytes bigint, replay_backlog_bytes bigint, replay_lag interval, staleness_bound interval, message_age interval, replay_state text, blocking_pids integer[], blocked_for interval, replay_bytes_per_second double precision, catchup_eta interval, lag_source text, clock_offset interval, upstream_in_contact boolean, scope text, status text, reasons text[])', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'wait_for_replay', 'IN token text, IN timeout interval DEFAULT ''00:00:10''::interval',
   NULL, 'volatile', 'public'),
  ('sagaz_ha', 'wal_retention', '',
   'TABLE(cause text, name text, oldest_lsn pg_lsn, bytes bigint, age interval, binds boolean, details text)', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'xmin_holders', '',
   'TABLE(kind text, name text, pid integer, database text, xmin xid, age integer, catalog_only boolean, since timestamp with time zone, status text, remedy text)', 'stable', 'pg_monitor'),
  ('sagaz_ha', 'clock', '', 'timestamp with time zone', 'stable', 'public');

CREATE TEMPORARY VIEW members AS
  SELECT d.classid, d.objid
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
   WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'sagaz_ha';
CREATE TEMPORARY VIEW functions AS
  SELECT n.nspname AS schema, p.proname AS name, pg_get_function_arguments(p.oid) AS arguments,
         pg_get_function_result(p.oid) AS result,
         CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
         p.*, p.oid AS id
    FROM members AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
    JOIN pg_namespace AS n ON n.oid = p.pronamespace;
-- who may call it besides its owner, and with which right to pass it on
CREATE TEMPORARY VIEW callers AS
  SELECT f.schema, f.name,
         coalesce(string_agg(CASE a.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(a.grantee) END
                             || CASE WHEN a.is_grantable THEN ' with grant option' ELSE '' END, ', '
                             ORDER BY 1) FILTER (WHERE a.grantee <> f.proowner), 'owner') AS callers
    FROM functions AS f, LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS a
   GROUP BY f.schema, f.name;

SELECT is_empty('SELECT schema, name FROM functions EXCEPT SELECT schema, name FROM contract',
                'no function but those of the contract');
SELECT ok(count(f.name) = 1, format('function %I.%I exists, once', c.schema, c.name))
  FROM contract AS c LEFT JOIN functions AS f USING (schema, name) GROUP BY c.schema, c.name ORDER BY c.schema, c.name;
SELECT is(f.arguments, c.arguments, format('%I.%I: arguments', c.schema, c.name))
  FROM contract AS c LEFT JOIN functions AS f USING (schema, name) ORDER BY c.schema, c.name;
SELECT is(f.result, c.result, format('%I.%I: result', c.schema, c.name))
  FROM contract AS c LEFT JOIN functions AS f USING (schema, name) ORDER BY c.schema, c.name;
SELECT is(f.volatility, c.volatility, format('%I.%I: volatility', c.schema, c.name))
  FROM contract AS c LEFT JOIN functions AS f USING (schema, name) ORDER BY c.schema, c.name;
SELECT is(a.callers, c.callers, format('%I.%I: who may call it', c.schema, c.name))
  FROM contract AS c LEFT JOIN callers AS a USING (schema, name) ORDER BY c.schema, c.name;

-- Safety
--
SELECT is_empty('SELECT schema, name FROM functions WHERE prosecdef AND NOT coalesce(proconfig::text LIKE ''%search_path=%'', false)',
                'no SECURITY DEFINER function without a pinned search_path');
SELECT is_empty('SELECT schema, name FROM functions AS f JOIN pg_language AS l ON l.oid = f.prolang WHERE l.lanname = ''sql''
                 AND f.prosqlbody IS NULL', 'SQL functions have a parsed body');
SELECT is_empty('SELECT schema, name FROM functions AS f JOIN pg_language AS l ON l.oid = f.prolang WHERE l.lanname <> ''c''
                 AND f.prosqlbody IS NULL AND NOT coalesce(proconfig::text LIKE ''%search_path=pg_catalog, pg_temp%'', false)',
                'functions that are parsed when called have a pinned search_path');
SELECT is_empty('SELECT schema, name FROM functions AS f JOIN pg_language AS l ON l.oid = f.prolang WHERE l.lanname NOT IN (''c'', ''sql'', ''plpgsql'')',
                'C, SQL and PL/pgSQL functions only');
SELECT is_empty('SELECT schema, name FROM functions WHERE proparallel = ''s'' AND name NOT LIKE ''\_%'' AND volatility <> ''immutable''',
                'no function claims to be parallel safe, but those that only compute');
SELECT is_empty('SELECT schema, name FROM functions WHERE proisstrict AND name NOT LIKE ''\_%'' AND name NOT IN (''lsn_timestamp'', ''has_replayed'') AND volatility <> ''immutable''',
                'no function is strict, but where nothing is known of no position: a NULL is an error or is handled');
SELECT is_empty($$SELECT f.schema, f.name, a.name FROM functions AS f, unnest(f.proargnames) AS a (name)
                   WHERE a.name = '' $$, 'named arguments have names');
SELECT is_empty($$SELECT objid FROM members WHERE classid IN ('pg_cast'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass, 'pg_type'::regclass)
                   AND objid NOT IN (SELECT reltype FROM pg_class) AND objid NOT IN (SELECT t.oid FROM pg_type AS t WHERE t.typelem <> 0 OR t.typrelid <> 0)$$,
                'no casts, operators or types');

-- Every object says what it is for
--
SELECT is_empty('SELECT schema, name FROM functions WHERE obj_description(id, ''pg_proc'') IS NULL', 'every function has a comment');
SELECT is_empty($$SELECT c.oid::regclass FROM members AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
                   WHERE c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL$$, 'every table and view has a comment');
SELECT is_empty($$SELECT c.oid::regclass, a.attname
                    FROM members AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
                    JOIN pg_attribute AS a ON a.attrelid = c.oid
                   WHERE c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
                     AND col_description(c.oid, a.attnum) IS NULL$$, 'every column has a comment');
SELECT is_empty($$SELECT n.nspname FROM members AS m JOIN pg_namespace AS n ON m.classid = 'pg_namespace'::regclass AND n.oid = m.objid
                   WHERE obj_description(n.oid, 'pg_namespace') IS NULL$$, 'every schema has a comment');
SELECT is_empty($$SELECT t.evtname FROM members AS m JOIN pg_event_trigger AS t ON m.classid = 'pg_event_trigger'::regclass AND t.oid = m.objid
                   WHERE obj_description(t.oid, 'pg_event_trigger') IS NULL$$, 'every event trigger has a comment');
SELECT isnt(obj_description(oid, 'pg_extension'), NULL, 'the extension has a comment') FROM pg_extension WHERE extname = 'sagaz_ha';
SELECT is_empty($$SELECT pg_describe_object(m.classid, m.objid, 0) FROM members AS m
                   WHERE m.classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass,
                                           'pg_event_trigger'::regclass, 'pg_type'::regclass)$$,
                'no object of a kind that these tests do not look at');

-- Tables, view, schema, event trigger
--
SELECT columns_are('sagaz_ha', 'partition_policy', '{parent,partition_interval,premake,retention,retention_action,archive_schema,unfinished_when,time_zone,tablespace,storage_parameters,auto_analyze,auto_freeze,plain,protect,drops_held_since,restored_at,before_drop,key_encoding}'::name[]);
SELECT columns_are('sagaz_ha', 'partition_hold', '{partition,reason,since,held_by}'::name[]);
SELECT columns_are('sagaz_ha', 'unique_key', '{parent,name,columns,within,on_duplicate,phase,since}'::name[]);
SELECT columns_are('sagaz_ha', 'retirement', '{partition,parent,phase,since,detach_is_ours,waits_for,calls,called_at}'::name[]);
SELECT columns_are('sagaz_ha', 'problem', '{id,table_name,partition_name,parent,partition,action,sqlstate,details,since,times,next_try,found_by,version}'::name[]);
SELECT columns_are('sagaz_ha', 'partition_times', '{partition,parent,created_at,frozen_at,detached_at}'::name[]);
SELECT columns_are('sagaz_ha', 'partition_history', '{id,recorded_at,action,parent,table_name,partition,partition_name,details}'::name[]);
SELECT columns_are('public', 'partition_metadata', '{table_name,partition_name,partition_start,partition_end,created_at,state,total_bytes,estimated_rows,parent,partition}'::name[]);
SELECT is((SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = 'partition_metadata'::regclass AND attnum BETWEEN 1 AND 5),
          'table_name,partition_name,partition_start,partition_end,created_at',
          'partition_metadata begins with the columns of the specification, in their order');
SELECT col_is_pk('sagaz_ha', 'partition_policy', 'parent', 'one policy per table');
SELECT col_type_is('sagaz_ha', 'partition_policy', 'parent', 'regclass', 'a policy follows its table through renames, and a dump by name');
SELECT col_not_null('sagaz_ha', 'partition_policy', c) FROM unnest('{partition_interval,premake,retention_action,time_zone,auto_analyze,auto_freeze,protect}'::name[]) AS c;
SELECT col_is_null('sagaz_ha', 'partition_policy', c) FROM unnest('{retention,archive_schema,unfinished_when,tablespace,storage_parameters}'::name[]) AS c;
SELECT is_empty($$SELECT c.oid::regclass, a.attname FROM members AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
                    JOIN pg_attribute AS a ON a.attrelid = c.oid
                   WHERE c.relkind = 'r' AND a.attnum > 0
                     AND a.atttypid IN ('regnamespace'::regtype, 'regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype,
                                        'regoperator'::regtype, 'regcollation'::regtype, 'regconfig'::regtype, 'regdictionary'::regtype)$$,
                'no column of a type that pg_upgrade refuses');
SELECT is(extconfig, ARRAY['sagaz_ha.partition_policy', 'sagaz_ha.partition_hold', 'sagaz_ha.unique_key']::regclass[]::oid[], 'policies, holds and unique keys, and nothing else, are dumped') FROM pg_extension WHERE extname = 'sagaz_ha';
SELECT is(extcondition, ARRAY['', '', ''], 'all of them') FROM pg_extension WHERE extname = 'sagaz_ha';
SELECT is((SELECT count(*) FROM sagaz_ha.partition_policy), 0::bigint, 'CREATE EXTENSION makes no policy: a restore would collide');
SELECT is((SELECT count(*) FROM sagaz_ha.partition_history), 0::bigint, 'nor history');
SELECT table_privs_are('sagaz_ha', t, 'pg_monitor', '{SELECT}'::name[]) FROM unnest('{partition_policy,partition_hold,unique_key,retirement,problem,asleep,partition_times,partition_history}'::name[]) AS t;
SELECT table_privs_are('public', 'partition_metadata', 'pg_monitor', '{SELECT}'::name[]);
SELECT is_empty($$SELECT c.oid::regclass FROM members AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid,
                         aclexplode(c.relacl) AS a WHERE a.grantee = 0$$, 'PUBLIC may do nothing with tables and views');
SELECT is((SELECT string_agg(privilege_type, ',') FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'sagaz_ha' AND grantee = 0),
          'USAGE', 'PUBLIC may use the schema, not create in it');
SELECT is(string_agg(format('%s on %s, %s: %s %s', evtname, evtevent, evttags, evtfoid::regproc, evtenabled), chr(10) ORDER BY evtname),
          'sagaz_ha_forget_dropped_tables on sql_drop, {"DROP TABLE","DROP SCHEMA","DROP OWNED","DROP EXTENSION","DROP TYPE"}: sagaz_ha.forget_dropped_tables O
sagaz_ha_keep_unique on ddl_command_end, {"CREATE TABLE","ALTER TABLE"}: sagaz_ha.keep_unique A
sagaz_ha_protect_partitions on ddl_command_start, {"DROP TABLE","ALTER TABLE","DROP SCHEMA","DROP OWNED","DROP EXTENSION","DROP TYPE","DROP DOMAIN","DROP COLLATION","DROP FUNCTION","DROP ROUTINE","DROP LANGUAGE","DROP OPERATOR CLASS","DROP OPERATOR FAMILY","DROP ACCESS METHOD"}: sagaz_ha.protect_partitions O',
          'two event triggers') FROM pg_event_trigger;

-- Settings
--
SELECT is_empty(format($$SELECT name FROM pg_settings WHERE name LIKE 'sagaz\_ha.%%' EXCEPT SELECT unnest(%L::text[])$$,
                       '{sagaz_ha.retire,sagaz_ha.condition_timeout,sagaz_ha.before_drop_timeout,sagaz_ha.conversion_lock_timeout,sagaz_ha.clock,sagaz_ha.databases,sagaz_ha.max_databases,sagaz_ha.enabled,sagaz_ha.lock_timeout,sagaz_ha.naptime,sagaz_ha.protect,sagaz_ha.standby_drain_timeout,sagaz_ha.sample_interval,sagaz_ha.stop_at,sagaz_ha.replay_lag_warning,sagaz_ha.replay_lag_critical,sagaz_ha.replay_lag_bytes_warning,sagaz_ha.replay_lag_bytes_critical,sagaz_ha.slot_retained_warning,sagaz_ha.slot_time_to_loss_critical,sagaz_ha.expected_standbys,sagaz_ha.expected_standby_names,sagaz_ha.contact_grace,sagaz_ha.xmin_age_warning,sagaz_ha.wal_disk_free_critical}'),
                'no setting but those of the design, the clock, and the stop points of tests');
SELECT is(s.context, e.context, format('%s: who may set it', e.name))
  FROM (VALUES ('sagaz_ha.clock', 'superuser'), ('sagaz_ha.databases', 'sighup'), ('sagaz_ha.enabled', 'sighup'),
               ('sagaz_ha.lock_timeout', 'user'), ('sagaz_ha.conversion_lock_timeout', 'user'), ('sagaz_ha.naptime', 'sighup'), ('sagaz_ha.standby_drain_timeout', 'sighup')) AS e (name, context)
  LEFT JOIN pg_settings AS s USING (name);
SELECT is_empty($$SELECT name FROM pg_settings WHERE name LIKE 'sagaz\_ha.%' AND coalesce(short_desc, '') = ''$$, 'every setting has a description');

-- The extension itself
--
SELECT is((SELECT extversion FROM pg_extension WHERE extname = 'sagaz_ha'),
          (SELECT default_version FROM pg_available_extensions WHERE name = 'sagaz_ha'), 'the default version is installed');
SELECT ok(NOT relocatable, 'not relocatable: bodies and views name the schema') FROM pg_available_extension_versions
 WHERE name = 'sagaz_ha' AND installed;
SELECT ok(superuser, 'created by superusers only') FROM pg_available_extension_versions WHERE name = 'sagaz_ha' AND installed;
SELECT is_empty($$SELECT p.proname FROM pg_proc AS p WHERE p.probin LIKE '%sagaz_ha%' AND p.oid NOT IN (SELECT id FROM functions)$$,
                'no C function that is no member of the extension');

SELECT * FROM finish();
ROLLBACK;
