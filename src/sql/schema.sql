-- sagaz_ha 1.0
\echo Use "CREATE EXTENSION sagaz_ha" to load this file. \quit

-- What the specification names lives in the extension's own schema; all else
-- lives here, where it collides with nothing.
--
-- What is not qualified below must mean pg_catalog: the extension's own schema
-- may be one that others can create objects in, and functions made BEGIN ATOMIC
-- are bound to what is found now.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE SCHEMA sagaz_ha;
COMMENT ON SCHEMA sagaz_ha IS 'partition maintenance and replication health';
GRANT USAGE ON SCHEMA sagaz_ha TO PUBLIC;
