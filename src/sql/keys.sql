--
-- Times as keys, for queries
--

CREATE FUNCTION sagaz_ha.uuidv7_at(at timestamptz) RETURNS uuid
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_uuidv7_at';
COMMENT ON FUNCTION sagaz_ha.uuidv7_at(timestamptz) IS
  'the least UUID of a time: every UUIDv7 made then or later is at or above it';

CREATE FUNCTION sagaz_ha.ulid_at(at timestamptz) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_ulid_at';
COMMENT ON FUNCTION sagaz_ha.ulid_at(timestamptz) IS
  'the least ULID of a time: every ULID made then or later is at or above it';

CREATE FUNCTION sagaz_ha.unix_seconds_at(at timestamptz) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_unix_seconds_at';
COMMENT ON FUNCTION sagaz_ha.unix_seconds_at(timestamptz) IS
  'seconds from 1970 to a time, rounded up';

CREATE FUNCTION sagaz_ha.unix_milliseconds_at(at timestamptz) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_unix_milliseconds_at';
COMMENT ON FUNCTION sagaz_ha.unix_milliseconds_at(timestamptz) IS
  'milliseconds from 1970 to a time, rounded up';

CREATE FUNCTION sagaz_ha.unix_microseconds_at(at timestamptz) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_unix_microseconds_at';
COMMENT ON FUNCTION sagaz_ha.unix_microseconds_at(timestamptz) IS
  'microseconds from 1970 to a time';

CREATE FUNCTION sagaz_ha.snowflake_at(at timestamptz, encoding text DEFAULT 'snowflake') RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_snowflake_at';
COMMENT ON FUNCTION sagaz_ha.snowflake_at(timestamptz, text) IS
  'the least Snowflake of a time; encoding as key_encoding of manage_partitions()';

CREATE FUNCTION sagaz_ha._key_samples(
  OUT table_name text, OUT partition_name text, OUT wanted text,
  OUT sampled integer, OUT others integer
) RETURNS SETOF record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'sagaz_key_samples';
COMMENT ON FUNCTION sagaz_ha._key_samples() IS
  'internal: of tables keyed by UUIDv7 or ULID, how many rows of a sample of the newest partition with rows have another key';
