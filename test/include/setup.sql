\set ECHO none
-- Every regress test begins with this: a database of its own, so that no test
-- depends on another, the extension, a fixed clock, and a few helpers.
\set QUIET on
SET client_min_messages = warning;
SELECT pg_catalog.current_database() AS regression_db,
       'sagaz_ha_' || pg_catalog.split_part(pg_catalog.current_setting('application_name'), '/', 2) AS test_db \gset
DROP DATABASE IF EXISTS :"test_db";
CREATE DATABASE :"test_db" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c :"test_db"
SET client_min_messages = warning;
CREATE EXTENSION sagaz_ha;

CREATE SCHEMA test;
GRANT USAGE ON SCHEMA test TO PUBLIC;

-- What a statement fails with. Everything that a user gets to see, and
-- whatever is missing.
CREATE FUNCTION test.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  m text; d text; h text;
BEGIN
  EXECUTE statement;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
  RETURN SQLSTATE || ': ' || m
    || CASE WHEN d <> '' THEN E'\n  DETAIL: ' || d ELSE '' END
    || E'\n  HINT: ' || CASE WHEN h <> '' THEN h ELSE '(none)' END;
END $$;

-- The partitions of a table, by bound, whatever the session's settings are.
CREATE FUNCTION test.partitions(parent regclass)
RETURNS TABLE (partition regclass, bounds text)
LANGUAGE sql SET timezone = 'UTC' SET datestyle = 'ISO' SET search_path = pg_catalog AS $$
  SELECT c.oid::regclass, pg_get_expr(c.relpartbound, c.oid)
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
   WHERE i.inhparent = parent
   ORDER BY pg_get_expr(c.relpartbound, c.oid) COLLATE "C";
$$;

SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
RESET client_min_messages;
\set ECHO all
