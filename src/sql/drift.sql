--
-- Partitions that differ from their table
--

-- A policy's expression that names its table must name the partition instead.
CREATE FUNCTION sagaz_ha._expression(tree pg_node_tree, relation oid, alias name) RETURNS text
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'sagaz_expression';
COMMENT ON FUNCTION sagaz_ha._expression(pg_node_tree, oid, name) IS
  'internal: as pg_get_expr(), with another name for the relation';

CREATE FUNCTION sagaz_ha._partition_tree(
  parent regclass,
  OUT partition oid, OUT tab oid, OUT root regclass
) RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
  WITH RECURSIVE tree AS (
    SELECT i.inhrelid, i.inhparent, r.root
      FROM (SELECT _partition_tree.parent AS root WHERE _partition_tree.parent IS NOT NULL
            UNION ALL
            SELECT p.parent FROM sagaz_ha.partition_policy AS p WHERE _partition_tree.parent IS NULL) AS r
      JOIN pg_inherits AS i ON i.inhparent = r.root
     WHERE NOT i.inhdetachpending
       -- what is being retired is about to go
       AND NOT EXISTS (SELECT FROM sagaz_ha.retirement AS r WHERE r.partition = i.inhrelid)
    UNION ALL
    SELECT i.inhrelid, i.inhparent, t.root FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.inhrelid
     WHERE NOT i.inhdetachpending
  )
  SELECT t.inhrelid, t.inhparent, t.root FROM tree AS t;
END;
COMMENT ON FUNCTION sagaz_ha._partition_tree(regclass) IS
  'internal: the partitions of a table, and theirs, each with the table that it is a partition of; of all managed tables for null';

CREATE FUNCTION sagaz_ha._catalog_changes() RETURNS bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
  -- what this session has not yet reported is counted apart
  SELECT sum(pg_stat_get_tuples_inserted(c) + pg_stat_get_tuples_updated(c) + pg_stat_get_tuples_deleted(c)
             + pg_stat_get_xact_tuples_inserted(c) + pg_stat_get_xact_tuples_updated(c)
             + pg_stat_get_xact_tuples_deleted(c))::bigint
    -- each a constant of its own: of an array, no dependency would be written down,
    -- and pg_upgrade would make this function before the tables
    FROM unnest(ARRAY['pg_class'::regclass, 'pg_index', 'pg_inherits', 'pg_constraint', 'pg_trigger', 'pg_attribute',
                      'pg_attrdef', 'pg_policy', 'sagaz_ha.partition_policy', 'sagaz_ha.asleep']) AS c
   WHERE current_setting('track_counts')::boolean;
END;
COMMENT ON FUNCTION sagaz_ha._catalog_changes() IS
  'internal: rows of the catalogs that a comparison reads that have been changed so far; null: not counted';

CREATE FUNCTION sagaz_ha._drift(
  parent regclass,
  OUT partition regclass, OUT kind text, OUT details text, OUT statement text, OUT root regclass
) RETURNS SETOF record
LANGUAGE plpgsql STABLE -- planned once a session: that takes long
SET search_path = pg_catalog, pg_temp
-- the planner takes this for work that is worth compiling, which takes longer
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH pair AS MATERIALIZED (
    SELECT c.*, t.tab, t.root, p.relowner AS tab_owner, p.relacl AS tab_acl,
           p.relrowsecurity AS tab_rowsecurity, p.relforcerowsecurity AS tab_forcerowsecurity,
           p.relreplident AS tab_replident
      FROM sagaz_ha._partition_tree(_drift.parent) AS t
      JOIN pg_class AS c ON c.oid = t.partition
      JOIN pg_class AS p ON p.oid = t.tab
  ), indexes AS MATERIALIZED (
    SELECT x.oid AS part, x.relkind, x.tab, p.indexrelid AS tab_index, p.indisvalid AS tab_valid,
           p.indisreplident AS tab_ident, c.indexrelid, c.indisvalid, c.indisreplident
      FROM pair AS x
      JOIN pg_index AS p ON p.indrelid = x.tab AND p.indislive
      LEFT JOIN (pg_index AS c JOIN pg_inherits AS i ON i.inhrelid = c.indexrelid)
        ON c.indrelid = x.oid AND i.inhparent = p.indexrelid
     WHERE x.relkind IN ('r', 'p')
  ), columns AS MATERIALIZED (
    SELECT x.oid AS part, x.tab, p.attname, p.attnum AS tab_attnum, c.attnum,
           p.attnotnull AS tab_notnull, c.attnotnull, p.attacl AS tab_acl, c.attacl,
           p.attidentity = '' AND p.attgenerated = '' AND c.attidentity = '' AND c.attgenerated = ''
             AND (p.atthasdef OR c.atthasdef) AS has_default
      FROM pair AS x
      JOIN pg_attribute AS p ON p.attrelid = x.tab AND p.attnum > 0 AND NOT p.attisdropped
      JOIN pg_attribute AS c ON c.attrelid = x.oid AND c.attname = p.attname
                            AND c.attnum > 0 AND NOT c.attisdropped
  ), grants AS (
    SELECT g.oid, array_agg(ROW(g.grantee, g.privilege_type, g.is_grantable)::text
                            ORDER BY g.grantee, g.privilege_type) AS list
      -- two may have given the same, of which the partition needs one
      FROM (SELECT r.oid, a.grantee, a.privilege_type, bool_or(a.is_grantable) AS is_grantable
              FROM (SELECT x.oid, x.relacl AS acl, x.relowner AS owner FROM pair AS x
                     WHERE x.relacl IS DISTINCT FROM x.tab_acl
                    UNION
                    SELECT x.tab, x.tab_acl, x.tab_owner FROM pair AS x) AS r,
                   aclexplode(r.acl) AS a
             WHERE a.grantee <> r.owner GROUP BY r.oid, a.grantee, a.privilege_type) AS g
     GROUP BY g.oid
  ), policies AS (
    SELECT p.polrelid, array_agg(ROW(p.polname, p.polcmd, p.polpermissive,
                                     (SELECT array_agg(o ORDER BY o) FROM unnest(p.polroles) AS o),
                                     sagaz_ha._expression(p.polqual, p.polrelid, 't'),
                                     sagaz_ha._expression(p.polwithcheck, p.polrelid, 't'))::text
                                 ORDER BY p.polname) AS list
      FROM pg_policy AS p
     WHERE p.polrelid IN (SELECT x.oid FROM pair AS x UNION SELECT x.tab FROM pair AS x)
     GROUP BY p.polrelid
  )
  SELECT d.partition, d.kind, d.details, d.statement, r.root FROM (
  SELECT i.part::regclass AS partition, 'index' AS kind,
         CASE WHEN i.indexrelid IS NULL THEN format('has nothing for index %s', i.tab_index::regclass)
              ELSE format('index %s is not valid', i.indexrelid::regclass) END AS details, NULL::text AS statement
    FROM indexes AS i
   WHERE i.indexrelid IS NULL OR NOT i.indisvalid AND i.relkind = 'r'
  UNION ALL
  -- every partition has it, and still
  SELECT i.tab::regclass, 'index', format('index %s is not valid', i.tab_index::regclass), NULL
    FROM indexes AS i
   GROUP BY i.tab, i.tab_index HAVING NOT bool_and(i.tab_valid) AND bool_and(i.indisvalid IS TRUE)
  UNION ALL
  SELECT x.oid::regclass, 'constraint',
         CASE WHEN c.oid IS NULL THEN format('lacks constraint %I', p.conname)
              ELSE format('constraint %I is not validated', c.conname) END,
         CASE WHEN c.oid IS NOT NULL
              THEN format('ALTER TABLE %s VALIDATE CONSTRAINT %I', x.oid::regclass, c.conname) END
    FROM pair AS x
    JOIN pg_constraint AS p ON p.conrelid = x.tab
    LEFT JOIN pg_constraint AS c ON c.conrelid = x.oid AND c.contype = p.contype
          AND CASE p.contype WHEN 'f' THEN c.conparentid = p.oid ELSE c.conname = p.conname END
   WHERE (p.contype = 'c' AND NOT p.connoinherit
          -- each partition of a referenced table has a row of its own here
          OR p.contype = 'f' AND NOT EXISTS (SELECT FROM pg_constraint AS s
                                              WHERE s.oid = p.conparentid AND s.conrelid = p.conrelid))
     AND (c.oid IS NULL OR p.convalidated AND NOT c.convalidated)
  UNION ALL
  SELECT x.oid::regclass, 'trigger',
         CASE WHEN c.oid IS NULL THEN format('lacks trigger %I', p.tgname)
              ELSE format('trigger %I is %s, the table''s is %s', c.tgname, s.name, t.name) END,
         CASE WHEN c.oid IS NOT NULL
              THEN format('ALTER TABLE %s %s TRIGGER %I', x.oid::regclass, t.verb, c.tgname) END
    FROM pair AS x
    JOIN pg_trigger AS p ON p.tgrelid = x.tab AND NOT p.tgisinternal AND p.tgtype & 1 = 1
    LEFT JOIN pg_trigger AS c ON c.tgrelid = x.oid AND c.tgparentid = p.oid
    JOIN (VALUES ('O', 'enabled', 'ENABLE'), ('D', 'disabled', 'DISABLE'),
                 ('R', 'enabled on replicas', 'ENABLE REPLICA'),
                 ('A', 'always enabled', 'ENABLE ALWAYS')) AS t (code, name, verb)
      ON t.code = p.tgenabled::text
    LEFT JOIN (VALUES ('O', 'enabled'), ('D', 'disabled'), ('R', 'enabled on replicas'),
                      ('A', 'always enabled')) AS s (code, name) ON s.code = c.tgenabled::text
   WHERE c.tgenabled IS DISTINCT FROM p.tgenabled
  UNION ALL
  SELECT d.part::regclass, 'default',
         format('default of column %I is %s, the table''s is %s', d.attname,
                coalesce(d.own, 'none'), coalesce(d.tabs, 'none')),
         format('ALTER TABLE %s ALTER COLUMN %I %s', d.part::regclass, d.attname,
                coalesce('SET DEFAULT ' || d.tabs, 'DROP DEFAULT'))
    FROM (SELECT c.part, c.attname, pg_get_expr(o.adbin, o.adrelid) AS own,
                 pg_get_expr(p.adbin, p.adrelid) AS tabs
            FROM columns AS c
            LEFT JOIN pg_attrdef AS o ON o.adrelid = c.part AND o.adnum = c.attnum
            LEFT JOIN pg_attrdef AS p ON p.adrelid = c.tab AND p.adnum = c.tab_attnum
           WHERE c.has_default AND o.adbin::text IS DISTINCT FROM p.adbin::text) AS d
   WHERE d.own IS DISTINCT FROM d.tabs
  UNION ALL
  -- a primary key of its own needs it
  SELECT c.part::regclass, 'not null',
         format(CASE WHEN c.attnotnull THEN 'column %I is NOT NULL, the table''s isn''t'
                     ELSE 'column %I isn''t NOT NULL, the table''s is' END, c.attname),
         format('ALTER TABLE %s ALTER COLUMN %I %s NOT NULL', c.part::regclass, c.attname,
                CASE WHEN c.attnotnull THEN 'DROP' ELSE 'SET' END)
    FROM columns AS c
   WHERE c.attnotnull <> c.tab_notnull
     AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.part AND i.indisprimary
                        AND c.attnum = ANY (i.indkey) AND c.attnotnull)
  UNION ALL
  SELECT x.oid::regclass, 'owner',
         format('belongs to %I, the table to %I', pg_get_userbyid(x.relowner), pg_get_userbyid(x.tab_owner)),
         format('ALTER TABLE %s OWNER TO %I', x.oid::regclass, pg_get_userbyid(x.tab_owner))
    FROM pair AS x WHERE x.relowner <> x.tab_owner
  UNION ALL
  SELECT x.oid::regclass, 'privileges', 'privileges differ from the table''s', NULL
    FROM pair AS x
    LEFT JOIN grants AS c ON c.oid = x.oid
    LEFT JOIN grants AS p ON p.oid = x.tab
   WHERE x.relowner = x.tab_owner AND x.relacl IS DISTINCT FROM x.tab_acl AND c.list IS DISTINCT FROM p.list
  UNION ALL
  SELECT c.part::regclass, 'privileges',
         format('privileges on column %s differ from the table''s', string_agg(quote_ident(c.attname), ', ' ORDER BY c.attnum)), NULL
    FROM columns AS c JOIN pair AS x ON x.oid = c.part
   WHERE x.relowner = x.tab_owner AND c.attacl IS DISTINCT FROM c.tab_acl
     AND ARRAY(SELECT ROW(a.grantee, a.privilege_type, bool_or(a.is_grantable))::text FROM aclexplode(c.attacl) AS a
                WHERE a.grantee <> x.relowner GROUP BY a.grantee, a.privilege_type ORDER BY 1)
         <> ARRAY(SELECT ROW(a.grantee, a.privilege_type, bool_or(a.is_grantable))::text FROM aclexplode(c.tab_acl) AS a
                   WHERE a.grantee <> x.relowner GROUP BY a.grantee, a.privilege_type ORDER BY 1)
   GROUP BY c.part
  UNION ALL
  SELECT x.oid::regclass, 'row security',
         concat_ws(', ',
           CASE WHEN x.relrowsecurity <> x.tab_rowsecurity
                THEN CASE WHEN x.tab_rowsecurity THEN 'row security is off, the table''s is on'
                          ELSE 'row security is on, the table''s is off' END END,
           CASE WHEN x.relforcerowsecurity <> x.tab_forcerowsecurity
                THEN CASE WHEN x.tab_forcerowsecurity THEN 'row security isn''t forced on its owner, the table''s is'
                          ELSE 'row security is forced on its owner, the table''s isn''t' END END,
           CASE WHEN c.list IS DISTINCT FROM p.list THEN 'policies of row security differ from the table''s' END),
         NULL
    FROM pair AS x
    LEFT JOIN policies AS c ON c.polrelid = x.oid
    LEFT JOIN policies AS p ON p.polrelid = x.tab
   WHERE x.relkind IN ('r', 'p') -- a foreign table can have none
     AND (x.relrowsecurity <> x.tab_rowsecurity OR x.relforcerowsecurity <> x.tab_forcerowsecurity
          OR c.list IS DISTINCT FROM p.list)
  UNION ALL
  SELECT x.oid::regclass, 'replica identity', 'replica identity differs from the table''s', NULL
    FROM pair AS x
   WHERE x.relkind IN ('r', 'p')
     AND (x.relreplident <> x.tab_replident
          OR x.tab_replident = 'i'
             AND EXISTS (SELECT FROM indexes AS i
                          WHERE i.part = x.oid AND i.tab_ident AND i.indisreplident IS NOT TRUE))
  UNION ALL
  SELECT x.oid::regclass, 'storage parameter', format('lacks storage parameter %s', s.parameter),
         format('ALTER TABLE %s SET (%s = %L)', x.oid::regclass, split_part(s.parameter, '=', 1),
                substr(s.parameter, strpos(s.parameter, '=') + 1))
    FROM sagaz_ha.partition_policy AS p, unnest(p.storage_parameters) AS s (parameter), pair AS x
    LEFT JOIN pg_class AS t ON t.oid = x.reltoastrelid
   WHERE p.parent = x.root AND x.relkind = 'r'
     AND CASE WHEN starts_with(s.parameter, 'toast.')
              THEN t.oid IS NOT NULL AND NOT coalesce(substr(s.parameter, 7) = ANY (t.reloptions), false)
              ELSE NOT coalesce(s.parameter = ANY (x.reloptions), false) END
  UNION ALL
  -- moving it copies it, under a lock that keeps everybody out
  SELECT x.oid::regclass, 'tablespace',
         format('is in tablespace %I, the policy says %I', t.spcname, p.tablespace), NULL
    FROM sagaz_ha.partition_policy AS p, pair AS x
    JOIN pg_database AS d ON d.datname = current_database()
    JOIN pg_tablespace AS t ON t.oid = coalesce(nullif(x.reltablespace, 0), d.dattablespace)
   WHERE p.parent = x.root AND x.relkind = 'r' AND t.spcname <> p.tablespace
  ) AS d
  JOIN (SELECT x.oid, x.root FROM pair AS x UNION SELECT x.tab, x.root FROM pair AS x) AS r ON r.oid = d.partition;
END
$$;
COMMENT ON FUNCTION sagaz_ha._drift(regclass) IS
  'internal: in what the partitions of a table, or of all for null, differ from it, and what would mend that';

CREATE FUNCTION sagaz_ha._drift_indexes(
  parent regclass,
  OUT partition oid, OUT relkind "char", OUT partition_owner oid, OUT bytes numeric,
  OUT tab oid, OUT tab_owner oid, OUT tab_index oid, OUT is_unique boolean, OUT tail text,
  OUT contype "char", OUT constraint_definition text, OUT deferral text,
  OUT attached oid, OUT found oid, OUT found_valid boolean, OUT found_constraint boolean
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
-- the planner takes this for work that is worth compiling, which takes longer
SET jit = off
BEGIN ATOMIC
  WITH lacking AS MATERIALIZED (
    SELECT x.oid AS part, x.relkind, x.relowner, t.tab, o.relowner AS tab_owner, p.indexrelid, p.indisunique,
           a.indexrelid AS attached, a.indisvalid AS attached_valid
      FROM sagaz_ha._partition_tree(_drift_indexes.parent) AS t
      JOIN pg_class AS x ON x.oid = t.partition AND x.relkind IN ('r', 'p')
      JOIN pg_class AS o ON o.oid = t.tab
      JOIN pg_index AS p ON p.indrelid = t.tab AND p.indislive
      LEFT JOIN (pg_index AS a JOIN pg_inherits AS i ON i.inhrelid = a.indexrelid)
        ON a.indrelid = x.oid AND i.inhparent = p.indexrelid
     WHERE a.indexrelid IS NULL OR NOT a.indisvalid AND x.relkind = 'r'
        -- all have it, and one stands for all: to look at the table's again
        OR NOT p.indisvalid AND x.oid = (SELECT min(i.inhrelid) FROM pg_inherits AS i WHERE i.inhparent = t.tab)
           AND NOT EXISTS (SELECT FROM pg_inherits AS h
                            WHERE h.inhparent = t.tab
                              AND NOT EXISTS (SELECT FROM pg_index AS c JOIN pg_inherits AS i ON i.inhrelid = c.indexrelid
                                               WHERE c.indrelid = h.inhrelid AND i.inhparent = p.indexrelid AND c.indisvalid))
  ), definitions AS (
    SELECT r.oid, substr(pg_get_indexdef(r.oid),
             length(format('CREATE %sINDEX %I ON %s%s USING ', CASE WHEN i.indisunique THEN 'UNIQUE ' END,
                           r.relname, CASE r.relkind WHEN 'I' THEN 'ONLY ' END, i.indrelid::regclass)) + 1) AS tail
      FROM pg_index AS i JOIN pg_class AS r ON r.oid = i.indexrelid
     WHERE i.indrelid IN (SELECT l.part FROM lacking AS l UNION SELECT l.tab FROM lacking AS l)
  )
  SELECT l.part, l.relkind, l.relowner,
         (SELECT sum(pg_relation_size(t.relid)) FROM pg_partition_tree(l.part) AS t WHERE t.isleaf), l.tab, l.tab_owner, l.indexrelid, l.indisunique, d.tail,
         k.contype, pg_get_constraintdef(k.oid),
         CASE WHEN k.condeferrable THEN ' DEFERRABLE' END || CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END,
         l.attached, f.indexrelid, coalesce(l.attached_valid, f.indisvalid), f.contype IS NOT NULL
    FROM lacking AS l
    JOIN definitions AS d ON d.oid = l.indexrelid
    LEFT JOIN pg_constraint AS k ON k.conindid = l.indexrelid AND k.conrelid = l.tab AND k.contype IN ('p', 'u', 'x')
    LEFT JOIN LATERAL (
      SELECT i.indexrelid, i.indisvalid, c.contype
        FROM pg_index AS i
        JOIN definitions AS e ON e.oid = i.indexrelid AND e.tail = d.tail
        LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.conrelid = l.part AND c.contype IN ('p', 'u', 'x')
       WHERE i.indrelid = l.part AND i.indisunique = l.indisunique
         AND NOT EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhrelid = i.indexrelid)
         AND (c.contype IS NULL OR c.contype = k.contype)
       ORDER BY i.indisvalid DESC, c.contype IS NOT NULL DESC, i.indexrelid LIMIT 1) AS f ON l.attached IS NULL
   ORDER BY l.part, l.indexrelid;
END;
COMMENT ON FUNCTION sagaz_ha._drift_indexes(regclass) IS
  'internal: the indexes that partitions of a table lack, and what there is to make of it';

CREATE FUNCTION sagaz_ha.repair_partitions(
  parent regclass,
  OUT action text, OUT table_name text, OUT partition_name text, OUT details text
) RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_repair_partitions';
COMMENT ON FUNCTION sagaz_ha.repair_partitions(regclass) IS
  'make the partitions of a table what the table is, as far as short locks allow; what was done';

CREATE FUNCTION sagaz_ha._off_grid(
  parents regclass[], OUT parent regclass, OUT partition_start timestamptz, OUT bounds text
) RETURNS SETOF record
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'sagaz_off_grid';
COMMENT ON FUNCTION sagaz_ha._off_grid(regclass[]) IS
  'internal: the odd partition of each table after which its bounds are the time zone''s again; no row if they are';

--
-- Restores
--

CREATE FUNCTION sagaz_ha._not_whole(parent regclass, OUT reason text, OUT version text) RETURNS record
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
-- the planner takes this for work that is worth compiling, which takes longer
SET jit = off
BEGIN ATOMIC
  WITH tree AS MATERIALIZED (
    SELECT t.partition AS oid FROM sagaz_ha._partition_tree(_not_whole.parent) AS t
    UNION ALL SELECT _not_whole.parent
  ), rels AS MATERIALIZED (
    SELECT t.oid FROM tree AS t
    UNION ALL SELECT i.indexrelid FROM tree AS t JOIN pg_index AS i ON i.indrelid = t.oid
  )
  SELECT coalesce(
    (SELECT format('index %s is not valid', min(i.indexrelid::regclass::text)) FROM pg_index AS i
      WHERE i.indrelid = _not_whole.parent AND NOT i.indisvalid HAVING count(*) > 0),
    (SELECT format('process %s, which brought the policy, is still at work', s.pid)
       FROM sagaz_ha.asleep AS a
       JOIN pg_stat_activity AS s ON s.pid = a.brought_by AND s.backend_start = a.brought_by_since
      WHERE a.parent = _not_whole.parent AND s.pid <> pg_backend_pid()
        AND (s.state <> 'idle' OR s.state_change > clock_timestamp() - interval '1 minute')),
    (SELECT format('process %s of pg_restore is still at work', min(s.pid)) FROM pg_stat_activity AS s
      WHERE s.datname = current_database() AND s.application_name = 'pg_restore' HAVING count(*) > 0),
    (SELECT format('process %s changes or loads it', min(l.pid)) FROM pg_locks AS l
       JOIN pg_stat_activity AS s ON s.pid = l.pid AND s.backend_type = 'client backend'
       JOIN rels AS r ON r.oid = l.relation
      WHERE l.locktype = 'relation' AND l.pid <> pg_backend_pid()
        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
        AND (l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
             OR EXISTS (SELECT FROM pg_stat_progress_copy AS c WHERE c.pid = l.pid AND c.relid = l.relation))
     HAVING count(*) > 0)),
    (SELECT md5(string_agg(v.version, ' ' ORDER BY v.version)) FROM (
       SELECT concat(c.oid, ' ', c.xmin) FROM rels AS r JOIN pg_class AS c ON c.oid = r.oid
       UNION ALL SELECT concat(i.indexrelid, ' ', i.xmin) FROM tree AS r JOIN pg_index AS i ON i.indrelid = r.oid
       UNION ALL SELECT concat(c.oid, ' ', c.xmin) FROM tree AS r JOIN pg_constraint AS c ON c.conrelid = r.oid
       UNION ALL SELECT concat(t.oid, ' ', t.xmin) FROM tree AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid
       UNION ALL SELECT concat(p.oid, ' ', p.xmin) FROM tree AS r JOIN pg_policy AS p ON p.polrelid = r.oid
       UNION ALL SELECT concat(a.attrelid, ' ', a.attnum, ' ', a.xmin) FROM tree AS r
                   JOIN pg_attribute AS a ON a.attrelid = r.oid) AS v (version));
END;
COMMENT ON FUNCTION sagaz_ha._not_whole(regclass) IS
  'internal: why a restored table isn''t whole yet, null if it is; and what changes with it';

CREATE FUNCTION sagaz_ha.policy_arrived() RETURNS trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_policy_arrived';
COMMENT ON FUNCTION sagaz_ha.policy_arrived() IS
  'trigger function: a policy that manage_partitions() doesn''t write comes in a restore';
CREATE TRIGGER policy_arrived AFTER INSERT ON sagaz_ha.partition_policy
  FOR EACH ROW EXECUTE FUNCTION sagaz_ha.policy_arrived();
COMMENT ON TRIGGER policy_arrived ON sagaz_ha.partition_policy IS
  'a restored table is left alone until it is whole';
