--
-- Replication health: a primary or a standby as it is, read only
--
-- Names that begin with an underscore are internal. A public function reads each
-- source once, and hands it to the internal ones as an argument. A reason is
-- (severity, message) until it is shown, and a status is the worst severity.
-- Internal PL/pgSQL functions are planned once per session: without
-- plan_cache_mode, arguments would have each of the first five calls planned.
--

CREATE TYPE sagaz_ha._reason AS (severity text, message text);
COMMENT ON TYPE sagaz_ha._reason IS
  'internal: why a status is not ok; severity is unknown, warning or critical';

CREATE FUNCTION sagaz_ha._status(reasons sagaz_ha._reason[]) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_status';
COMMENT ON FUNCTION sagaz_ha._status(sagaz_ha._reason[]) IS
  'internal: the worst severity among reasons; ok without any';

CREATE FUNCTION sagaz_ha._reason_lines(reasons sagaz_ha._reason[]) RETURNS text[]
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_reason_lines';
COMMENT ON FUNCTION sagaz_ha._reason_lines(sagaz_ha._reason[]) IS
  'internal: reasons as they are shown, "severity: message"';

CREATE TYPE sagaz_ha._thresholds AS (
  replay_lag_warning interval, replay_lag_critical interval,
  replay_lag_bytes_warning bigint, replay_lag_bytes_critical bigint,
  slot_retained_warning bigint, slot_time_to_loss_critical interval,
  expected_standbys integer, expected_standby_names text[],
  contact_grace interval, xmin_age_warning integer,
  wal_disk_free_critical bigint, sample_interval interval);
COMMENT ON TYPE sagaz_ha._thresholds IS
  'internal: the thresholds of replication health';

CREATE FUNCTION sagaz_ha._thresholds() RETURNS sagaz_ha._thresholds
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_thresholds';
COMMENT ON FUNCTION sagaz_ha._thresholds() IS
  'internal: the thresholds of replication health, in the units they are compared in';

CREATE TYPE sagaz_ha._node_state AS (
  node_name text, in_recovery boolean, promoting boolean,
  system_identifier text, timeline_id bigint, lsn pg_lsn,
  sync_required integer, sampler_running boolean, sampled_at timestamptz);
COMMENT ON TYPE sagaz_ha._node_state IS
  'internal: role, timeline and position of a server';

CREATE FUNCTION sagaz_ha._node_state() RETURNS sagaz_ha._node_state
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_node_state';
COMMENT ON FUNCTION sagaz_ha._node_state() IS
  'internal: role, timeline and position of this server';

CREATE TYPE sagaz_ha._receiver_state AS (
  receiver_pid integer, receiver_state text, receiver_restarts bigint,
  starts_unheard integer, upstream_host text, upstream_port integer,
  slot_name text, received_lsn pg_lsn, latest_end_lsn pg_lsn,
  replay_lsn pg_lsn, received_timeline bigint, replay_timeline bigint,
  message_age interval, in_contact boolean, responsive boolean,
  replay_lag interval, lag_source text, staleness_bound interval,
  clock_offset interval, stuck_for interval, replay_speed float8,
  wal_speed float8, promoting boolean, paused boolean,
  receive_lag_bytes bigint, replay_backlog_bytes bigint,
  streaming_configured boolean, loss_bound interval);
COMMENT ON TYPE sagaz_ha._receiver_state IS
  'internal: what a standby knows of its upstream and of its replay';

CREATE FUNCTION sagaz_ha._receiver_state() RETURNS sagaz_ha._receiver_state
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_receiver_state';
COMMENT ON FUNCTION sagaz_ha._receiver_state() IS
  'internal: what a standby knows of its upstream and of its replay; NULL on a primary';

CREATE FUNCTION sagaz_ha._sender_state(
  OUT pid integer, OUT effective_lag interval, OUT lag_source text,
  OUT reply_age interval, OUT clock_offset interval, OUT end_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'sagaz_sender_state';
COMMENT ON FUNCTION sagaz_ha._sender_state() IS
  'internal: of each walsender''s other side, its lag and the age of its last reply';

CREATE TYPE sagaz_ha._wal_state AS (
  wal_bytes bigint, oldest_lsn pg_lsn, disk_free_bytes bigint,
  archive_ready_files bigint, oldest_ready_lsn pg_lsn,
  archives boolean, archive_waiting_age interval,
  archived_at timestamptz, archive_failed_at timestamptz, wal_speed float8);
COMMENT ON TYPE sagaz_ha._wal_state IS
  'internal: the WAL directory';

CREATE FUNCTION sagaz_ha._wal_state() RETURNS sagaz_ha._wal_state
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_wal_state';
COMMENT ON FUNCTION sagaz_ha._wal_state() IS
  'internal: the WAL directory: its size, its free space and the files that wait for the archiver';

CREATE FUNCTION sagaz_ha._lsn_age(lsn pg_lsn) RETURNS interval
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_lsn_age';
COMMENT ON FUNCTION sagaz_ha._lsn_age(pg_lsn) IS
  'internal: time since the end of WAL reached this position; a lower bound before the first sample';

CREATE FUNCTION sagaz_ha._wal_speed() RETURNS float8
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_wal_speed';
COMMENT ON FUNCTION sagaz_ha._wal_speed() IS
  'internal: bytes of WAL per second over the last five minutes; NULL without the LSN clock';

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
