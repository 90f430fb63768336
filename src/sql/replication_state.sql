--
-- Replication health: a primary or a standby as it is, read only
--
-- Functions that begin with an underscore are the C below the others. A reason
-- begins with its severity, and a status is the worst of its reasons.
--

CREATE FUNCTION sagaz_ha._thresholds(
  OUT replay_lag_warning interval, OUT replay_lag_critical interval,
  OUT replay_lag_bytes_warning bigint, OUT replay_lag_bytes_critical bigint,
  OUT slot_retained_warning bigint, OUT slot_time_to_loss_critical interval,
  OUT expected_standbys integer, OUT expected_standby_names text[],
  OUT contact_grace interval, OUT xmin_age_warning integer,
  OUT wal_disk_free_critical bigint, OUT sample_interval interval)
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_thresholds';
COMMENT ON FUNCTION sagaz_ha._thresholds() IS
  'internal: the thresholds of replication health, in the units they are compared in';

CREATE FUNCTION sagaz_ha._node_state(
  OUT node_name text, OUT in_recovery boolean, OUT promoting boolean,
  OUT system_identifier text, OUT timeline_id bigint, OUT lsn pg_lsn,
  OUT sync_required integer, OUT sampler_running boolean, OUT sampled_at timestamptz)
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_node_state';
COMMENT ON FUNCTION sagaz_ha._node_state() IS
  'internal: role, timeline and position of this server';

CREATE FUNCTION sagaz_ha._receiver_state(
  OUT receiver_pid integer, OUT receiver_state text, OUT receiver_restarts bigint,
  OUT starts_unheard integer, OUT upstream_host text, OUT upstream_port integer,
  OUT slot_name text, OUT received_lsn pg_lsn, OUT latest_end_lsn pg_lsn,
  OUT replay_lsn pg_lsn, OUT received_timeline bigint, OUT replay_timeline bigint,
  OUT message_age interval, OUT in_contact boolean, OUT responsive boolean,
  OUT replay_lag interval, OUT lag_source text, OUT staleness_bound interval,
  OUT clock_offset interval, OUT stuck_for interval, OUT replay_speed float8,
  OUT wal_speed float8, OUT promoting boolean, OUT paused boolean,
  OUT receive_lag_bytes bigint, OUT replay_backlog_bytes bigint,
  OUT streaming_configured boolean, OUT loss_bound interval)
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_receiver_state';
COMMENT ON FUNCTION sagaz_ha._receiver_state() IS
  'internal: what a standby knows of its upstream and of its replay; NULL on a primary';

CREATE FUNCTION sagaz_ha._sender_state(
  OUT pid integer, OUT effective_lag interval, OUT lag_source text,
  OUT reply_age interval, OUT clock_offset interval, OUT end_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'sagaz_sender_state';
COMMENT ON FUNCTION sagaz_ha._sender_state() IS
  'internal: lag and age of the last reply of each WAL sender''s other side';

CREATE FUNCTION sagaz_ha._wal_state(
  OUT wal_bytes bigint, OUT oldest_lsn pg_lsn, OUT disk_free_bytes bigint,
  OUT archive_ready_files bigint, OUT oldest_ready_lsn pg_lsn)
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_wal_state';
COMMENT ON FUNCTION sagaz_ha._wal_state() IS
  'internal: the WAL directory: its size, its free space and what waits for the archiver';

CREATE FUNCTION sagaz_ha._lsn_age(lsn pg_lsn) RETURNS interval
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_lsn_age';
COMMENT ON FUNCTION sagaz_ha._lsn_age(pg_lsn) IS
  'internal: how long ago the end of WAL reached this position; of one before the first sample, at least';

CREATE FUNCTION sagaz_ha._wal_speed() RETURNS float8
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_wal_speed';
COMMENT ON FUNCTION sagaz_ha._wal_speed() IS
  'internal: bytes of WAL per second over the last five minutes; NULL without the LSN clock';

CREATE FUNCTION sagaz_ha._status(reasons text[]) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_status';
COMMENT ON FUNCTION sagaz_ha._status(text[]) IS
  'internal: the worst severity among reasons';

CREATE FUNCTION sagaz_ha.lsn_timestamp(lsn pg_lsn) RETURNS timestamptz
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_lsn_timestamp';
COMMENT ON FUNCTION sagaz_ha.lsn_timestamp(pg_lsn) IS
  'when the end of WAL reached this position, by the LSN clock; NULL when that was not seen';

CREATE FUNCTION sagaz_ha.commit_token() RETURNS text
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_commit_token';
COMMENT ON FUNCTION sagaz_ha.commit_token() IS
  'timeline and position that cover everything committed before; call it after COMMIT';

CREATE FUNCTION sagaz_ha.has_replayed(token text) RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_has_replayed';
COMMENT ON FUNCTION sagaz_ha.has_replayed(text) IS
  'whether this server shows everything that the token covers; an error when it never will';

CREATE PROCEDURE sagaz_ha.wait_for_replay(token text, timeout interval DEFAULT '10 s')
LANGUAGE C AS 'MODULE_PATHNAME', 'sagaz_wait_for_replay';
COMMENT ON PROCEDURE sagaz_ha.wait_for_replay(text, interval) IS
  'waits until this server shows everything that the token covers; SQLSTATE SH001 timeout, SH002 promoted, SH003 lost timeline';
