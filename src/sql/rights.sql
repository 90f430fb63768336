--
-- Rights: readers need pg_monitor. Changing functions have to be granted, and
-- check themselves that the caller owns the table.
--

REVOKE ALL ON ALL TABLES IN SCHEMA sagaz_ha FROM PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA sagaz_ha TO pg_monitor;
GRANT SELECT ON @extschema@.partition_metadata TO pg_monitor;

REVOKE ALL ON ALL ROUTINES IN SCHEMA sagaz_ha FROM PUBLIC;
-- In the extension's own schema there may be functions of others.
REVOKE ALL ON FUNCTION
  @extschema@.maintain_all_partitions(),
  @extschema@.create_saga_executions_partition(date),
  @extschema@.create_saga_outbox_partition(date),
  @extschema@.create_saga_audit_log_partition(date),
  @extschema@.cleanup_consumer_inbox(integer),
  @extschema@.get_partition_statistics()
FROM PUBLIC;

-- A token says no more than pg_current_wal_lsn(), and applications need it. The
-- owner of a table must be allowed to make the triggers, which only refuse, and to
-- run the statements of a conversion: they check, or ask for the owner themselves.
GRANT EXECUTE ON ROUTINE
  sagaz_ha.clock(),
  sagaz_ha.commit_token(),
  sagaz_ha.has_replayed(text),
  sagaz_ha.wait_for_replay(text, interval),
  sagaz_ha.refuse_late_write(),
  sagaz_ha.check_unique(),
  sagaz_ha.skip_duplicate(),
  sagaz_ha.refuse_truncate(),
  sagaz_ha._require_attached(regclass, regclass),
  sagaz_ha._require_quick_attach(regclass, regclass),
  sagaz_ha._clone_index(regclass, regclass, name),
  sagaz_ha._keep_unique(regclass, name[]),
  sagaz_ha._replace_query(regclass, text),
  -- no more than pg_get_expr(); the owner of a table copies its policies with it
  sagaz_ha._expression(pg_node_tree, oid, name),
  sagaz_ha.uuidv7_at(timestamptz),
  sagaz_ha.ulid_at(timestamptz),
  sagaz_ha.unix_seconds_at(timestamptz),
  sagaz_ha.unix_milliseconds_at(timestamptz),
  sagaz_ha.unix_microseconds_at(timestamptz),
  sagaz_ha.snowflake_at(timestamptz, text)
TO PUBLIC;

-- Parts of import_pg_partman(), which do no more than the caller may.
GRANT EXECUTE ON FUNCTION
  sagaz_ha._require_primary(text),
  sagaz_ha._pg_partman_sets(),
  sagaz_ha._pg_partman_rest(regclass, jsonb),
  sagaz_ha._pg_partman_obstacles(regclass, jsonb, boolean),
  sagaz_ha._time_zone_of_bounds(regclass),
  sagaz_ha._drop_empty_default(regclass, boolean),
  sagaz_ha._policy_time_zone(regclass),
  sagaz_ha._rename_for_pg_partman(regclass, jsonb)
TO PUBLIC;

GRANT EXECUTE ON FUNCTION
  sagaz_ha._restored_at(),
  sagaz_ha._plain_saga_tables(),
  sagaz_ha.maintenance_status(),
  sagaz_ha._maintained(),
  sagaz_ha.plan_partition_maintenance(timestamptz),
  sagaz_ha.partitions(boolean),
  sagaz_ha._expired_state(regclass),
  sagaz_ha._problem_version(regclass, regclass),
  sagaz_ha._conversion_left(regclass),
  sagaz_ha._conversion_name(text, text),
  sagaz_ha._display_name(regclass, text),
  sagaz_ha._statistics(),
  sagaz_ha.coverage(),
  sagaz_ha.partition_timeline(integer),
  sagaz_ha._partition_tree(regclass),
  sagaz_ha._catalog_changes(),
  sagaz_ha._unique_flaws(regclass),
  sagaz_ha._drift(regclass),
  sagaz_ha._drift_indexes(regclass),
  sagaz_ha._not_whole(regclass),
  sagaz_ha._off_grid(regclass[]),
  sagaz_ha._key_samples(),
  @extschema@.get_partition_statistics(),
  sagaz_ha.partition_health(),
  sagaz_ha._thresholds(),
  sagaz_ha._node_state(),
  sagaz_ha._receiver_state(),
  sagaz_ha._sender_state(),
  sagaz_ha._wal_state(),
  sagaz_ha._lsn_age(pg_lsn),
  sagaz_ha._wal_speed(),
  sagaz_ha._status(sagaz_ha._reason[]),
  sagaz_ha._reason_lines(sagaz_ha._reason[]),
  sagaz_ha._replay_block(),
  sagaz_ha.lsn_timestamp(pg_lsn),
  sagaz_ha._standby_status(sagaz_ha._thresholds, sagaz_ha._receiver_state),
  sagaz_ha.standby_status(),
  sagaz_ha._standbys(sagaz_ha._thresholds),
  sagaz_ha.replication_standbys(),
  sagaz_ha._slots(sagaz_ha._thresholds, sagaz_ha._node_state, sagaz_ha._wal_state),
  sagaz_ha.replication_slot_risk(),
  sagaz_ha.wal_retention(),
  sagaz_ha._xmin_holders(),
  sagaz_ha.xmin_holders(),
  sagaz_ha._observe(),
  sagaz_ha._health(sagaz_ha._observation),
  sagaz_ha.replication_health(),
  sagaz_ha._promotion_checks(sagaz_ha._receiver_state),
  sagaz_ha.promotion_checks(),
  sagaz_ha.promotion_readiness(),
  sagaz_ha.node_ready(text, interval),
  sagaz_ha._replication_metrics(sagaz_ha._observation),
  sagaz_ha._partition_metrics(boolean),
  sagaz_ha.metrics(),
  sagaz_ha._prometheus_labels(jsonb),
  sagaz_ha.prometheus_metrics(),
  sagaz_ha.nagios_check()
TO pg_monitor;
