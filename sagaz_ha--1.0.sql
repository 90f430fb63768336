-- sagaz_ha 1.0
\echo Use "CREATE EXTENSION sagaz_ha" to load this file. \quit

-- What the specification names lives in the extension's own schema; all else
-- lives here, where it collides with nothing.
CREATE SCHEMA sagaz_ha;
COMMENT ON SCHEMA sagaz_ha IS 'partition maintenance and replication health';
GRANT USAGE ON SCHEMA sagaz_ha TO PUBLIC;
