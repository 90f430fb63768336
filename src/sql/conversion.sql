--
-- A plain table becomes partitioned in place
--
-- What has to be run is written here once: the worker and a person with psql run
-- the same statements. All of it is read from the table's own catalogs, with
-- everything quoted by the server, so it can be written again after a crash.
--

-- This isn't dumped: a conversion is of this database. See cancel_partition_table().
CREATE TABLE sagaz_ha.conversion (
  relation regclass PRIMARY KEY,
  parent regclass,
  kind text NOT NULL CHECK (kind IN ('table', 'partition', 'rows')),
  phase text NOT NULL CHECK (phase IN ('checking', 'validating', 'indexing', 'linking', 'attaching',
                                       'analyzing', 'renaming', 'moving', 'finishing', 'failed')),
  table_name name NOT NULL,
  key name NOT NULL,
  lower_bound text NOT NULL,
  upper_bound text NOT NULL,
  weaken_unique boolean NOT NULL,
  publish_via_partition_root boolean NOT NULL,
  since timestamptz NOT NULL,
  phase_since timestamptz NOT NULL,
  finish_by timestamptz,
  policy_before jsonb,
  longest_lock interval,
  tries integer NOT NULL DEFAULT 0,
  next_try timestamptz,
  waits_for text,
  error text
);
COMMENT ON TABLE sagaz_ha.conversion IS
  'tables that are becoming partitioned; a row goes when that has ended';
COMMENT ON COLUMN sagaz_ha.conversion.relation IS 'the table that has the rows';
COMMENT ON COLUMN sagaz_ha.conversion.parent IS 'the partitioned table that it becomes a partition of; null once that was taken back';
COMMENT ON COLUMN sagaz_ha.conversion.kind IS
  'table: a plain table; partition: a default or catch-all partition that gets bounds; rows: those of a default partition are moved out';
COMMENT ON COLUMN sagaz_ha.conversion.phase IS 'the step that is being done';
COMMENT ON COLUMN sagaz_ha.conversion.table_name IS 'the name that clients use, before and afterwards';
COMMENT ON COLUMN sagaz_ha.conversion.key IS 'the column that the table is partitioned by';
COMMENT ON COLUMN sagaz_ha.conversion.lower_bound IS 'where the partition will begin, as a bound in SQL';
COMMENT ON COLUMN sagaz_ha.conversion.upper_bound IS 'where the partition will end, as a bound in SQL';
COMMENT ON COLUMN sagaz_ha.conversion.weaken_unique IS 'whether unique constraints without the key get it; false: they are kept across partitions';
COMMENT ON COLUMN sagaz_ha.conversion.publish_via_partition_root IS
  'whether publications of the table are to publish by the name of the partitioned table';
COMMENT ON COLUMN sagaz_ha.conversion.since IS 'when it was asked for';
COMMENT ON COLUMN sagaz_ha.conversion.phase_since IS 'when the step began';
COMMENT ON COLUMN sagaz_ha.conversion.finish_by IS
  'after this time rows could reach the upper bound, so the worker begins again with a later one; null: none';
COMMENT ON COLUMN sagaz_ha.conversion.policy_before IS
  'the policy that the table had, if it was partitioned before: it comes back when the conversion is taken back; null: none';
COMMENT ON COLUMN sagaz_ha.conversion.longest_lock IS 'the longest time so far that a strong lock was held';
COMMENT ON COLUMN sagaz_ha.conversion.tries IS 'how often the step has been tried in vain';
COMMENT ON COLUMN sagaz_ha.conversion.next_try IS 'when the worker tries again; null: now';
COMMENT ON COLUMN sagaz_ha.conversion.waits_for IS 'session or standby that is waited for; null: none';
COMMENT ON COLUMN sagaz_ha.conversion.error IS 'why the step failed; null: it has not';
CREATE TRIGGER conversion_changed AFTER INSERT ON sagaz_ha.conversion
  FOR EACH STATEMENT EXECUTE FUNCTION sagaz_ha.policy_changed();
COMMENT ON TRIGGER conversion_changed ON sagaz_ha.conversion IS 'the worker begins at once';

CREATE TYPE sagaz_ha._conversion_statement AS (
  phase text, run_as oid, lock text, statement text, meaning text
);
COMMENT ON TYPE sagaz_ha._conversion_statement IS 'internal: a statement of a conversion';

CREATE FUNCTION sagaz_ha._conversion_name(base text, suffix text) RETURNS name
LANGUAGE sql IMMUTABLE STRICT
BEGIN ATOMIC
  -- one that is cut gets a hash of the whole, so that two names don't become one
  SELECT CASE WHEN octet_length(base) + octet_length(suffix) <= 63 THEN base || suffix
    ELSE (SELECT left(base, n) || '_' || left(md5(base), 6) || suffix
            FROM generate_series(length(base), 0, -1) AS n
           WHERE octet_length(left(base, n)) + octet_length(suffix) <= 56 LIMIT 1)
    END::name;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_name(text, text) IS
  'internal: a name with a suffix, cut to the length of a name';

CREATE FUNCTION sagaz_ha._with_key(definition text, key text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  depth integer := 0;
  quoted text;
  c text;
BEGIN
  FOR i IN 1 .. length(definition) LOOP
    c := substr(definition, i, 1);
    IF quoted IS NOT NULL THEN
      IF c = quoted THEN quoted := NULL; END IF;
    ELSIF c IN ('"', '''') THEN
      quoted := c;
    ELSIF c = '(' THEN
      depth := depth + 1;
    ELSIF c = ')' THEN
      depth := depth - 1;
      IF depth = 0 THEN
        RETURN left(definition, i - 1) || ', ' || quote_ident(key) || substr(definition, i);
      END IF;
    END IF;
  END LOOP;
  RAISE EXCEPTION 'no list of columns in "%"', definition;
END
$$;
COMMENT ON FUNCTION sagaz_ha._with_key(text, text) IS
  'internal: the definition of an index or constraint, with one more column in its first list';

CREATE FUNCTION sagaz_ha._without_prefix(definition text, prefix text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT starts_with(definition, prefix) THEN
    RAISE EXCEPTION 'definition "%" doesn''t begin with "%"', definition, prefix;
  END IF;
  RETURN substr(definition, length(prefix) + 1);
END
$$;
COMMENT ON FUNCTION sagaz_ha._without_prefix(text, text) IS
  'internal: a definition without what its object is called and what it is on';

CREATE FUNCTION sagaz_ha._role_name(role oid) RETURNS text
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
  SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END;
END;
COMMENT ON FUNCTION sagaz_ha._role_name(oid) IS 'internal: a role in a statement';

-- The indexes of a table, as they become those of a partitioned table.
CREATE FUNCTION sagaz_ha._conversion_indexes(
  source regclass, key name,
  OUT index oid, OUT name name, OUT constraint_oid oid, OUT contype "char", OUT is_unique boolean,
  OUT has_key boolean, OUT definition text, OUT tablespace text,
  OUT columns name[], OUT not_kept text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT i.indexrelid, c.relname, k.oid, k.contype, i.indisunique,
         a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]),
         CASE WHEN k.oid IS NOT NULL THEN pg_get_constraintdef(k.oid)
           ELSE sagaz_ha._without_prefix(pg_get_indexdef(i.indexrelid),
                  format('CREATE %sINDEX %I ON %s%s', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END,
                         c.relname, CASE WHEN c.relkind = 'I' THEN 'ONLY ' ELSE '' END, source)) END,
         CASE WHEN c.reltablespace <> 0 THEN
           (SELECT quote_ident(spcname) FROM pg_tablespace WHERE oid = c.reltablespace) END,
         p.columns,
         -- why add_unique() can't keep it
         CASE WHEN i.indexprs IS NOT NULL OR i.indpred IS NOT NULL THEN 'it has an expression or a condition'
           WHEN i.indnullsnotdistinct THEN 'it takes nulls for equal'
           WHEN k.condeferrable THEN 'it is deferrable'
           WHEN i.indisreplident AND NOT i.indisprimary THEN 'it is the replica identity'
           WHEN NOT p.are_usual THEN 'its operator class or collation isn''t its column''s own' END
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = key
    LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
                                AND k.contype IN ('p', 'u', 'x')
    CROSS JOIN LATERAL (
      SELECT array_agg(b.attname ORDER BY n.i),
             bool_and(o.opcdefault AND o.opcmethod = 403 AND (i.indcollation::oid[])[n.i] = b.attcollation)
        FROM generate_series(0, i.indnkeyatts - 1) AS n (i)
        JOIN pg_attribute AS b ON b.attrelid = i.indrelid AND b.attnum = (i.indkey::smallint[])[n.i]
        JOIN pg_opclass AS o ON o.oid = (i.indclass::oid[])[n.i]) AS p (columns, are_usual)
   WHERE i.indrelid = source AND i.indisvalid
     -- those that this conversion has made itself
     AND NOT EXISTS (SELECT FROM pg_index AS o JOIN pg_class AS oc ON oc.oid = o.indexrelid
                      WHERE o.indrelid = source AND o.indisunique
                        AND NOT a.attnum = ANY ((o.indkey::smallint[])[0:o.indnkeyatts - 1])
                        AND c.relname IN (sagaz_ha._conversion_name(oc.relname, '_with_key'),
                                          sagaz_ha._conversion_name(oc.relname, '_alone')))
   ORDER BY k.contype = 'p' DESC NULLS LAST, c.relname;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_indexes(regclass, name) IS
  'internal: the indexes of a table, as they become those of a partitioned table';

-- A trigger's definition up to the name of its table.
CREATE FUNCTION sagaz_ha._trigger_prefix(trigger oid) RETURNS text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('CREATE %sTRIGGER %I %s %s ON ', CASE WHEN t.tgconstraint <> 0 THEN 'CONSTRAINT ' ELSE '' END,
           t.tgname,
           CASE WHEN t.tgtype & 2 <> 0 THEN 'BEFORE' WHEN t.tgtype & 64 <> 0 THEN 'INSTEAD OF' ELSE 'AFTER' END,
           concat_ws(' OR ',
             CASE WHEN t.tgtype & 4 <> 0 THEN 'INSERT' END,
             CASE WHEN t.tgtype & 8 <> 0 THEN 'DELETE' END,
             CASE WHEN t.tgtype & 16 <> 0 THEN 'UPDATE'
               || coalesce((SELECT ' OF ' || string_agg(quote_ident(a.attname), ', ' ORDER BY o.n)
                              FROM unnest(t.tgattr::smallint[]) WITH ORDINALITY AS o (attnum, n)
                              JOIN pg_attribute AS a ON a.attrelid = t.tgrelid AND a.attnum = o.attnum), '') END,
             CASE WHEN t.tgtype & 32 <> 0 THEN 'TRUNCATE' END))
    FROM pg_trigger AS t WHERE t.oid = trigger;
END;
COMMENT ON FUNCTION sagaz_ha._trigger_prefix(oid) IS
  'internal: the definition of a trigger up to the name of its table';

-- A trigger on another table than its own: its statements.
CREATE FUNCTION sagaz_ha._trigger_copy(trigger oid, target text) RETURNS SETOF text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT s.statement
    FROM pg_trigger AS t
    CROSS JOIN LATERAL (
      SELECT 1, sagaz_ha._trigger_prefix(t.oid) || target
             || sagaz_ha._without_prefix(pg_get_triggerdef(t.oid),
                                         sagaz_ha._trigger_prefix(t.oid) || t.tgrelid::regclass)
       UNION ALL
      SELECT 2, format('ALTER TABLE %s %s TRIGGER %I', target,
                       CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                       t.tgname)
       WHERE t.tgenabled <> 'O'
       UNION ALL
      SELECT 3, format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, target, d)
        FROM obj_description(t.oid, 'pg_trigger') AS d WHERE d IS NOT NULL) AS s (n, statement)
   WHERE t.oid = trigger
   ORDER BY s.n;
END;
COMMENT ON FUNCTION sagaz_ha._trigger_copy(oid, text) IS
  'internal: the statements that make a table''s trigger on another table';

-- The rights to a relation, column by column, exactly as they are.
CREATE FUNCTION sagaz_ha._copy_privileges(source regclass, target text) RETURNS SETOF text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('REVOKE ALL ON TABLE %s FROM %s', target, string_agg(r.role, ', ' ORDER BY r.role))
    FROM (SELECT sagaz_ha._role_name(c.relowner) FROM pg_class AS c WHERE c.oid = source AND c.relacl IS NOT NULL
           UNION
          SELECT sagaz_ha._role_name(x.grantee)
            FROM pg_class AS c
            JOIN pg_default_acl AS d ON d.defaclrole = c.relowner AND d.defaclobjtype = 'r'
                                    AND d.defaclnamespace IN (0, c.relnamespace)
            CROSS JOIN aclexplode(d.defaclacl) AS x
           WHERE c.oid = source) AS r (role)
  HAVING count(*) > 0
  UNION ALL
  SELECT format('GRANT %s ON TABLE %s TO %s%s', string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type),
                target, sagaz_ha._role_name(x.grantee), CASE WHEN x.is_grantable AND x.grantee <> c.relowner THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class AS c CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS x
   WHERE c.oid = source AND NOT (c.relacl IS NULL AND x.grantee = c.relowner
                                 AND NOT EXISTS (SELECT FROM pg_default_acl AS d WHERE d.defaclrole = c.relowner))
   GROUP BY x.grantee, x.is_grantable, c.relowner
  UNION ALL
  SELECT format('GRANT %s (%I) ON TABLE %s TO %s%s', x.privilege_type, a.attname, target,
                sagaz_ha._role_name(x.grantee), CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_attribute AS a CROSS JOIN aclexplode(a.attacl) AS x
   WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped;
END;
COMMENT ON FUNCTION sagaz_ha._copy_privileges(regclass, text) IS
  'internal: the statements that give a table the rights of another one';

-- What is in the way of a conversion, each with a hint; of one that has begun, besides
-- what it has made itself.
CREATE FUNCTION sagaz_ha._conversion_obstacles(
  source regclass, key name, weaken_unique boolean, publish_via_partition_root boolean, target regclass,
  OUT problem text, OUT hint text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  version integer := current_setting('server_version_num')::integer;
  t pg_class;
  a pg_attribute;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  SELECT * INTO a FROM pg_attribute AS c WHERE c.attrelid = source AND c.attname = key AND c.attnum > 0;

  RETURN QUERY
  SELECT format('table %s belongs to extension %I', source, e.extname)::text,
         'Only the extension can change it.'
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
   WHERE d.classid = 'pg_class'::regclass AND d.objid = source AND d.deptype = 'e'
  UNION ALL
  SELECT format('table %s inherits from table %s', source, i.inhparent::regclass),
         format('ALTER TABLE %s NO INHERIT %s;', source, i.inhparent::regclass)
    FROM pg_inherits AS i WHERE i.inhrelid = source AND NOT t.relispartition
  UNION ALL
  SELECT format('table %s is a partition of table %s', source, i.inhparent::regclass),
         format('Convert table %s, or detach table %s first.', i.inhparent::regclass, source)
    FROM pg_inherits AS i WHERE i.inhrelid = source AND t.relispartition AND i.inhparent IS DISTINCT FROM target
  UNION ALL
  SELECT format('table %s inherits from table %s', i.inhrelid::regclass, source),
         format('ALTER TABLE %s NO INHERIT %s;', i.inhrelid::regclass, source)
    FROM pg_inherits AS i WHERE i.inhparent = source
  UNION ALL
  SELECT format('table %s is of type %s', source, t.reloftype::regtype), format('ALTER TABLE %s NOT OF;', source)
   WHERE t.reloftype <> 0
  UNION ALL
  SELECT format('table %s is unlogged, which a partitioned table can''t be', source),
         format('ALTER TABLE %s SET LOGGED;', source)
   WHERE t.relpersistence = 'u' AND version >= 180000
  UNION ALL
  SELECT format('column %I of table %s is generated, which a partition key can''t be', key, source),
         'Name another column as the key.'
   WHERE a.attgenerated <> ''
  UNION ALL
  SELECT format('role %I may not create tables in schema %I', pg_get_userbyid(t.relowner), n.nspname),
         format('GRANT CREATE ON SCHEMA %I TO %I;', n.nspname, pg_get_userbyid(t.relowner))
    FROM pg_namespace AS n
   WHERE n.oid = t.relnamespace AND NOT has_schema_privilege(t.relowner, n.oid, 'CREATE')
  UNION ALL
  SELECT format('the name %s.%I is taken', t.relnamespace::regnamespace, c.relname),
         format('Rename or remove %s.', c.oid::regclass)
    FROM pg_class AS c
   WHERE c.relnamespace = t.relnamespace AND c.oid IS DISTINCT FROM target
     AND c.relname IN (sagaz_ha._conversion_name(t.relname, '_sagaz_ha'), sagaz_ha._conversion_name(t.relname, '_before'))
  UNION ALL
  SELECT format('table %s has a constraint sagaz_ha_bounds already', source),
         format('ALTER TABLE %s DROP CONSTRAINT sagaz_ha_bounds;', source)
    FROM pg_constraint AS k WHERE k.conrelid = source AND k.conname = 'sagaz_ha_bounds' AND target IS NULL

  -- foreign keys
  UNION ALL
  SELECT format('foreign key %I of table %s references table %s %s', k.conname, k.conrelid::regclass, source,
                CASE WHEN k.conrelid = source THEN 'itself'
                  WHEN NOT a.attnum = ANY (k.confkey) THEN 'without column ' || quote_ident(key)
                  ELSE 'from a partitioned table, which needs PostgreSQL 18' END),
         format('Drop foreign key %I: one to a partitioned table has to contain column %I.', k.conname, key)
    FROM pg_constraint AS k
   WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0
     AND (k.conrelid = source OR NOT a.attnum = ANY (k.confkey)
          OR (version < 180000 AND (SELECT c.relkind FROM pg_class AS c WHERE c.oid = k.conrelid) = 'p'))
  UNION ALL
  SELECT format('foreign key %I of table %s to table %s is not validated', k.conname, k.conrelid::regclass, source),
         format('ALTER TABLE %s VALIDATE CONSTRAINT %I; or drop the foreign key.', k.conrelid::regclass, k.conname)
    FROM pg_constraint AS k
   WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source AND NOT k.convalidated
  UNION ALL
  SELECT format('role %I may not reference table %s, as foreign key %I does', pg_get_userbyid(t.relowner), k.confrelid::regclass, k.conname),
         format('GRANT REFERENCES ON %s TO %I;', k.confrelid::regclass, pg_get_userbyid(t.relowner))
    FROM pg_constraint AS k
   WHERE k.conrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND NOT has_any_column_privilege(t.relowner, k.confrelid, 'REFERENCES')
  UNION ALL
  SELECT format('constraint %I of table %s is not validated', k.conname, source),
         format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', source, k.conname)
    FROM pg_constraint AS k
   WHERE k.conrelid = source AND k.contype IN ('c', 'f', 'n') AND NOT k.convalidated
     AND k.confrelid <> source AND k.conname <> 'sagaz_ha_bounds'

  -- constraints and indexes
  UNION ALL
  SELECT format('exclusion constraint %I of table %s can''t be on a partitioned table%s', k.conname, source,
                CASE WHEN version < 170000 THEN ' before PostgreSQL 17'
                  ELSE format(' unless it compares %I with =', key) END),
         format('ALTER TABLE %s DROP CONSTRAINT %I;', source, k.conname)
    FROM pg_constraint AS k
   WHERE k.conrelid = source AND k.contype = 'x'
     AND (version < 170000
          OR NOT EXISTS (SELECT FROM unnest(k.conkey, k.conexclop) AS e (attnum, operator)
                          JOIN pg_operator AS o ON o.oid = e.operator AND o.oprname = '='
                         WHERE e.attnum = a.attnum))
  UNION ALL
  SELECT format('constraint %I of table %s is NO INHERIT', k.conname, source),
         format('Make constraint %I again without NO INHERIT: it has to hold for every partition.', k.conname)
    FROM pg_constraint AS k
   WHERE k.conrelid = source AND k.contype IN ('c', 'n') AND k.connoinherit
  UNION ALL
  SELECT format('index %s of table %s is not valid', i.indexrelid::regclass, source),
         format('REINDEX INDEX CONCURRENTLY %s; or drop the index.', i.indexrelid::regclass)
    FROM pg_index AS i WHERE i.indrelid = source AND NOT i.indisvalid
  UNION ALL
  SELECT format('%s %I of table %s doesn''t contain %I, and can''t be kept across partitions, because %s%s',
                CASE x.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique constraint' ELSE 'unique index' END,
                x.name, source, key, x.not_kept, sagaz_ha._conflicting_statements(source, key)),
         format('Call the function with weaken_unique => true if two rows may differ in column %I alone.', key)
    FROM sagaz_ha._conversion_indexes(source, key) AS x
   WHERE x.is_unique AND NOT x.has_key AND NOT weaken_unique AND x.not_kept IS NOT NULL
  UNION ALL
  SELECT DISTINCT format('%s groups by %s %I of table %s, which has to get %I', pg_describe_object(d.classid, d.objid, 0),
                CASE x.contype WHEN 'p' THEN 'primary key' ELSE 'unique constraint' END, x.name, source, key),
         'Drop this view or function, or write all its columns in its GROUP BY.'
    FROM sagaz_ha._conversion_indexes(source, key) AS x
    JOIN pg_depend AS d ON d.refclassid = 'pg_constraint'::regclass AND d.refobjid = x.constraint_oid AND d.deptype = 'n'
   WHERE x.is_unique AND NOT x.has_key AND d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass)

  -- triggers, types
  UNION ALL
  SELECT format('trigger %I of table %s has transition tables', g.tgname, source),
         format('Drop trigger %I, or make it again without REFERENCING: a partition can''t have such a trigger.', g.tgname)
    FROM pg_trigger AS g
   WHERE g.tgrelid = source AND NOT g.tgisinternal AND coalesce(g.tgoldtable, g.tgnewtable) IS NOT NULL
  UNION ALL
  SELECT format('%s uses the row type of table %s', pg_describe_object(d.classid, d.objid, d.objsubid), source),
         format('Drop %s, and make it again afterwards.', pg_describe_object(d.classid, d.objid, d.objsubid))
    FROM pg_depend AS d
   WHERE d.refclassid = 'pg_type'::regclass
     AND d.refobjid IN (t.reltype, (SELECT y.typarray FROM pg_type AS y WHERE y.oid = t.reltype))
     AND d.deptype = 'n' AND NOT (d.classid = 'pg_class'::regclass AND d.objid = source)

  -- what follows the name
  UNION ALL
  SELECT format('role %I, who owns %s, may not create in its schema', pg_get_userbyid(o.owner), o.what),
         format('GRANT CREATE ON SCHEMA %I TO %I;', n.nspname, pg_get_userbyid(o.owner))
    FROM sagaz_ha._conversion_followers(source) AS o JOIN pg_namespace AS n ON n.oid = o.namespace
   WHERE NOT has_schema_privilege(o.owner, n.oid, 'CREATE')
  UNION ALL
  SELECT format('publication %I publishes whole schemas or all tables by the name of their partitioned table', p.pubname),
         format('ALTER PUBLICATION %I SET (publish_via_partition_root = false); and call the function with publish_via_partition_root => true.', p.pubname)
    FROM pg_publication AS p
   WHERE p.pubviaroot
     AND (p.puballtables OR EXISTS (SELECT FROM pg_publication_namespace AS n
                                     WHERE n.pnpubid = p.oid AND n.pnnspid = t.relnamespace))
  UNION ALL
  SELECT format('publication %I belongs to role %I, who doesn''t own table %s', p.pubname, pg_get_userbyid(p.pubowner), source),
         format('ALTER PUBLICATION %I OWNER TO %I;', p.pubname, pg_get_userbyid(t.relowner))
    FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid
   WHERE r.prrelid = source AND NOT pg_has_role(p.pubowner, t.relowner, 'USAGE');
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_obstacles(regclass, name, boolean, boolean, regclass) IS
  'internal: what is in the way of a conversion, each with a hint';

-- Statements that name the columns of a unique constraint in ON CONFLICT.
CREATE FUNCTION sagaz_ha._conflicting_statements(source regclass, key name) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  schema name;
  found text;
BEGIN
  SELECT n.nspname INTO schema
    FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements';
  IF schema IS NULL THEN
    RETURN '; a statement with ON CONFLICT on its columns would fail';
  END IF;
  BEGIN
    EXECUTE format('SELECT string_agg(s.q, ''; '') FROM ('
                   'SELECT DISTINCT left(regexp_replace(query, ''\s+'', '' '', ''g''), 200) AS q'
                   '  FROM %I.pg_stat_statements'
                   ' WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())'
                   '   AND query ~* ''\mon\s+conflict\M'' AND query !~* ''\mon\s+conflict\s+do\s+nothing\M'''
                   '   AND position(lower($1) in lower(query)) > 0 LIMIT 10) AS s', schema)
       INTO found USING (SELECT c.relname::text FROM pg_class AS c WHERE c.oid = source);
  EXCEPTION WHEN object_not_in_prerequisite_state OR undefined_table THEN
    found := NULL;
  END;
  RETURN coalesce('; these statements would fail: ' || found, '');
END
$$;
COMMENT ON FUNCTION sagaz_ha._conflicting_statements(regclass, name) IS
  'internal: statements in pg_stat_statements that would fail with a weaker unique constraint';

-- What refers to a table by its OID and has to refer to another one of its name:
-- views, materialized views, rules and policies of other tables, and functions
-- whose body the server has parsed.
CREATE FUNCTION sagaz_ha._conversion_followers(
  source regclass,
  OUT what text, OUT owner oid, OUT namespace oid, OUT relation oid, OUT statement text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT DISTINCT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' ELSE 'a rule of table ' END
           || c.oid::regclass, c.relowner, c.relnamespace, c.oid,
         CASE WHEN r.rulename <> '_RETURN' THEN
             'CREATE OR REPLACE RULE ' || sagaz_ha._without_prefix(pg_get_ruledef(r.oid), 'CREATE RULE ')
           WHEN c.relkind = 'm' THEN
             format('SELECT sagaz_ha._replace_query(%L, %L)', c.oid::regclass::text, pg_get_viewdef(c.oid))
           ELSE format('CREATE OR REPLACE VIEW %s%s AS %s', c.oid::regclass,
                  coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', ''), pg_get_viewdef(c.oid)) END
    FROM pg_depend AS d
    JOIN pg_rewrite AS r ON r.oid = d.objid
    JOIN pg_class AS c ON c.oid = r.ev_class
   WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = source AND d.deptype = 'n' AND c.oid <> source
  UNION ALL
  SELECT DISTINCT 'function ' || p.oid::regprocedure, p.proowner, p.pronamespace, NULL::oid, pg_get_functiondef(p.oid)
    FROM pg_depend AS d JOIN pg_proc AS p ON p.oid = d.objid
   WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = source AND d.deptype = 'n' AND p.prosqlbody IS NOT NULL
  UNION ALL
  SELECT DISTINCT format('policy %I of table %s', o.polname, o.polrelid::regclass), c.relowner, c.relnamespace, c.oid,
         format('ALTER POLICY %I ON %s%s%s', o.polname, o.polrelid::regclass,
                ' USING (' || pg_get_expr(o.polqual, o.polrelid) || ')',
                ' WITH CHECK (' || pg_get_expr(o.polwithcheck, o.polrelid) || ')')
    FROM pg_depend AS d
    JOIN pg_policy AS o ON o.oid = d.objid
    JOIN pg_class AS c ON c.oid = o.polrelid
   WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = source AND d.deptype = 'n' AND o.polrelid <> source;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_followers(regclass) IS
  'internal: what has to follow a table''s name to another table, and how';

-- What the statements of a step under the short lock take locks on besides: tables
-- that the foreign keys name, and what follows the name. In the order of all.
CREATE FUNCTION sagaz_ha._conversion_companions(source regclass, phase text) RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT o.relation
    FROM (SELECT k.confrelid FROM pg_constraint AS k
           WHERE k.conrelid = source AND k.contype = 'f' AND phase IN ('attaching', 'undoing', 'returning')
           UNION
          SELECT k.conrelid FROM pg_constraint AS k
           WHERE k.confrelid = source AND k.contype = 'f' AND phase IN ('renaming', 'returning')
           UNION
          SELECT f.relation FROM sagaz_ha._conversion_followers(source) AS f
           WHERE f.relation IS NOT NULL AND phase IN ('renaming', 'returning')) AS o (relation)
   WHERE o.relation <> source
   ORDER BY o.relation;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_companions(regclass, text) IS
  'internal: what a step of a conversion locks besides the table, in the order in which all take it';

-- The statements of a short lock begin so. The worker takes the locks itself,
-- at a moment when they delay nobody: a statement that nobody runs is for a
-- person with psql.
CREATE FUNCTION sagaz_ha._conversion_lock(phase text, tables text[])
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT phase, NULL::oid, s.lock, s.statement, s.meaning
    FROM (VALUES
      (NULL, 'BEGIN', NULL),
      ('SHARE UPDATE EXCLUSIVE', format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', array_to_string(tables, ', ONLY ')),
       'ends an autovacuum of the table; no reader or writer notices'),
      (NULL, format('SET LOCAL lock_timeout = %L', coalesce(current_setting('sagaz_ha.conversion_lock_timeout', true), '100ms')),
       'if the next lock takes longer, this transaction fails: run it again'),
      ('ACCESS EXCLUSIVE', format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', array_to_string(tables, ', ONLY ')),
       'readers and writers wait from here to COMMIT')) AS s (lock, statement, meaning);
END;
COMMENT ON FUNCTION sagaz_ha._conversion_lock(text, text[]) IS
  'internal: how the statements of a short lock begin';

-- Making the partitioned table, empty, beside the table.
CREATE FUNCTION sagaz_ha._conversion_building(source regclass, target text, key name)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  t pg_class;
  schema text;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  schema := t.relnamespace::regnamespace::text;
  RETURN QUERY
  SELECT 'building', t.relowner, 'ACCESS SHARE on ' || source, s.statement, s.meaning
    FROM (
      SELECT 1, 0::bigint, format('CREATE %sTABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING STORAGE'
                       ' INCLUDING COMPRESSION INCLUDING CONSTRAINTS INCLUDING COMMENTS) PARTITION BY RANGE (%I)%s%s',
                       CASE t.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, target, source, key,
                       (SELECT format(' USING %I', m.amname) FROM pg_am AS m
                         WHERE m.oid = t.relam AND m.amname <> 'heap'
                           AND current_setting('server_version_num')::integer >= 170000),
                       (SELECT format(' TABLESPACE %I', p.spcname) FROM pg_tablespace AS p WHERE p.oid = t.reltablespace)),
             'the partitioned table, empty, under a name of its own'
      UNION ALL
      SELECT 1, 1, format('ALTER TABLE %s OWNER TO %s', target, sagaz_ha._role_name(t.relowner)), NULL
      UNION ALL
      SELECT 2, q.column_number, format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s.%I'
                       ' INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %sCYCLE)',
                       target, q.column_name, CASE q.identity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
                       schema, sagaz_ha._conversion_name(q.name, '_parent'),
                       p.seqincrement, p.seqmin, p.seqmax, p.seqstart, p.seqcache, CASE WHEN p.seqcycle THEN '' ELSE 'NO ' END),
             NULL
        FROM sagaz_ha._conversion_sequences(source) AS q JOIN pg_sequence AS p ON p.seqrelid = q.sequence
       WHERE q.identity <> ''
      UNION ALL
      SELECT 3, q.column_number, format('GRANT %s ON SEQUENCE %s.%I TO %s', string_agg(x.privilege_type, ', '),
                       schema, sagaz_ha._conversion_name(q.name, '_parent'), sagaz_ha._role_name(x.grantee)), NULL
        FROM sagaz_ha._conversion_sequences(source) AS q
        JOIN pg_class AS c ON c.oid = q.sequence
        CROSS JOIN aclexplode(c.relacl) AS x
       WHERE q.identity <> '' AND x.grantee <> c.relowner
       GROUP BY q.column_number, q.name, x.grantee
      UNION ALL
      SELECT 4, a.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', target, a.attname, a.attstattarget), NULL
        FROM pg_attribute AS a
       WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
      UNION ALL
      -- the server may keep options of its own there, which are no user's
      SELECT 5, a.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', target, a.attname, string_agg(o, ', ')), NULL
        FROM pg_attribute AS a CROSS JOIN unnest(a.attoptions) AS o
       WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped AND starts_with(o, 'n_distinct')
       GROUP BY a.attnum, a.attname
      UNION ALL
      SELECT 7, row_number() OVER (), format('SELECT sagaz_ha._clone_index(%L, %L, %L)', x.index::regclass, target,
                                             sagaz_ha._conversion_name(x.name, '_parent')),
             CASE WHEN x.constraint_oid IS NULL THEN '' ELSE 'CONSTRAINT ... ' END || x.definition
        FROM sagaz_ha._conversion_indexes(source, key) AS x
       WHERE x.has_key OR NOT x.is_unique
      UNION ALL
      SELECT 8, x.oid::bigint, sagaz_ha._without_suffix(format('CREATE STATISTICS %s.%I', schema, sagaz_ha._conversion_name(x.stxname, '_parent'))
                       || sagaz_ha._without_prefix(pg_get_statisticsobjdef(x.oid),
                            format('CREATE STATISTICS %s.%I', x.stxnamespace::regnamespace, x.stxname)),
                       ' FROM ' || source) || ' FROM ' || target, NULL
        FROM pg_statistic_ext AS x WHERE x.stxrelid = source
      UNION ALL
      SELECT 9, 0, format('ALTER STATISTICS %s.%I OWNER TO %s', schema, sagaz_ha._conversion_name(x.stxname, '_parent'),
                       sagaz_ha._role_name(t.relowner)), NULL
        FROM pg_statistic_ext AS x WHERE x.stxrelid = source
      UNION ALL
      SELECT 9, x.oid::bigint, format('ALTER STATISTICS %s.%I SET STATISTICS %s', schema,
                       sagaz_ha._conversion_name(x.stxname, '_parent'), x.stxstattarget), NULL
        FROM pg_statistic_ext AS x WHERE x.stxrelid = source AND x.stxstattarget >= 0
      UNION ALL
      SELECT 10, d.objsubid, CASE d.classoid
               WHEN 'pg_class'::regclass THEN format('COMMENT ON TABLE %s IS %L', target, d.description)
               WHEN 'pg_constraint'::regclass THEN
                 (SELECT format('COMMENT ON CONSTRAINT %I ON %s IS %L', sagaz_ha._conversion_name(x.name, '_parent'), target, d.description)
                    FROM sagaz_ha._conversion_indexes(source, key) AS x WHERE x.constraint_oid = d.objoid AND x.has_key)
               ELSE (SELECT format('COMMENT ON STATISTICS %s.%I IS %L', schema, sagaz_ha._conversion_name(x.stxname, '_parent'), d.description)
                       FROM pg_statistic_ext AS x WHERE x.oid = d.objoid) END, NULL
        FROM pg_description AS d
       WHERE (d.classoid, d.objoid) IN (SELECT 'pg_class'::regclass::oid, source::oid
                                        UNION ALL
                                        SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint AS k
                                         WHERE k.conrelid = source AND k.contype IN ('p', 'u', 'x')
                                        UNION ALL
                                        SELECT 'pg_statistic_ext'::regclass, x.oid FROM pg_statistic_ext AS x WHERE x.stxrelid = source)
         AND d.objsubid = 0
      UNION ALL
      SELECT 11, d.objoid::bigint, format('COMMENT ON INDEX %s.%I IS %L', schema, sagaz_ha._conversion_name(x.name, '_parent'), d.description), NULL
        FROM sagaz_ha._conversion_indexes(source, key) AS x
        JOIN pg_description AS d ON d.classoid = 'pg_class'::regclass AND d.objoid = x.index AND d.objsubid = 0
       WHERE x.has_key OR NOT x.is_unique
      UNION ALL
      SELECT 12, 0, format('SECURITY LABEL FOR %I ON %s IS %L', l.provider,
                       CASE l.objsubid WHEN 0 THEN 'TABLE ' || target
                         ELSE format('COLUMN %s.%I', target, (SELECT a.attname FROM pg_attribute AS a
                                                               WHERE a.attrelid = source AND a.attnum = l.objsubid)) END, l.label), NULL
        FROM pg_seclabel AS l WHERE l.classoid = 'pg_class'::regclass AND l.objoid = source
      UNION ALL
      SELECT 13, 0, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target), NULL WHERE t.relrowsecurity
      UNION ALL
      SELECT 14, 0, format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target), NULL WHERE t.relforcerowsecurity
      UNION ALL
      SELECT 15, 0, p, NULL FROM sagaz_ha._copy_privileges(source, target) AS p
      UNION ALL
      SELECT 16, 0, format('ALTER TABLE %s REPLICA IDENTITY %s', target, CASE t.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END), NULL
       WHERE t.relreplident IN ('f', 'n')
      UNION ALL
      SELECT 16, 0, format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', target, sagaz_ha._conversion_name(x.name, '_parent')), NULL
        FROM sagaz_ha._conversion_indexes(source, key) AS x JOIN pg_index AS i ON i.indexrelid = x.index
       WHERE t.relreplident = 'i' AND i.indisreplident AND x.has_key
      UNION ALL
      SELECT 17, g.oid::bigint * 10 + c.n, c.statement, NULL
        FROM pg_trigger AS g
        CROSS JOIN sagaz_ha._trigger_copy(g.oid, target) WITH ORDINALITY AS c (statement, n)
       WHERE g.tgrelid = source AND NOT g.tgisinternal AND g.tgtype & 1 = 0) AS s (part, n, statement, meaning)
   WHERE s.statement IS NOT NULL
   ORDER BY s.part, s.n;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_building(regclass, text, name) IS
  'internal: the statements that make the partitioned table beside a table';

CREATE FUNCTION sagaz_ha._without_suffix(definition text, suffix text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF right(definition, length(suffix)) <> suffix THEN
    RAISE EXCEPTION 'definition "%" doesn''t end with "%"', definition, suffix;
  END IF;
  RETURN left(definition, -length(suffix));
END
$$;
COMMENT ON FUNCTION sagaz_ha._without_suffix(text, text) IS
  'internal: a definition without what it is on';

-- TABLESPACE comes before WHERE, which an index's definition ends with.
CREATE FUNCTION sagaz_ha._with_tablespace(definition text, tablespace text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  depth integer := 0;
  quoted text;
  c text;
BEGIN
  IF tablespace IS NULL THEN
    RETURN definition;
  END IF;
  FOR i IN 1 .. length(definition) LOOP
    c := substr(definition, i, 1);
    IF quoted IS NOT NULL THEN
      IF c = quoted THEN quoted := NULL; END IF;
    ELSIF c IN ('"', '''') THEN quoted := c;
    ELSIF c = '(' THEN depth := depth + 1;
    ELSIF c = ')' THEN depth := depth - 1;
    ELSIF depth = 0 AND substr(definition, i, 7) = ' WHERE ' THEN
      RETURN left(definition, i - 1) || ' TABLESPACE ' || tablespace || substr(definition, i);
    END IF;
  END LOOP;
  RETURN definition || ' TABLESPACE ' || tablespace;
END
$$;
COMMENT ON FUNCTION sagaz_ha._with_tablespace(text, text) IS
  'internal: the definition of an index, in a tablespace';

-- The sequences of serial ('') and identity ('a', 'd') columns.
CREATE FUNCTION sagaz_ha._conversion_sequences(
  source regclass,
  OUT sequence oid, OUT name name, OUT column_name name, OUT column_number bigint, OUT identity "char"
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT c.oid, c.relname, a.attname, a.attnum, a.attidentity
    FROM pg_depend AS d
    JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
    JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = source AND d.deptype IN ('a', 'i');
END;
COMMENT ON FUNCTION sagaz_ha._conversion_sequences(regclass) IS
  'internal: the sequences of a table''s serial and identity columns';

-- What has to be said again once another table has the name: these are the texts
-- as they are before.
CREATE FUNCTION sagaz_ha._conversion_named(source regclass, old_name text, publish_via_partition_root boolean DEFAULT false)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  t pg_class;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  RETURN QUERY
  SELECT 'renaming', s.run_as, s.lock, s.statement, s.meaning
    FROM (
      SELECT 6, o.oid::bigint, t.relowner, NULL, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', o.polname, source,
                           CASE WHEN o.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                           CASE o.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                           (SELECT string_agg(sagaz_ha._role_name(r), ', ') FROM unnest(o.polroles) AS r),
                           ' USING (' || pg_get_expr(o.polqual, o.polrelid) || ')',
                           ' WITH CHECK (' || pg_get_expr(o.polwithcheck, o.polrelid) || ')'), NULL
        FROM pg_policy AS o WHERE o.polrelid = source
      UNION ALL
      SELECT 7, o.oid::bigint, t.relowner, NULL, format('COMMENT ON POLICY %I ON %s IS %L', o.polname, source, d), NULL
        FROM pg_policy AS o CROSS JOIN obj_description(o.oid, 'pg_policy') AS d WHERE o.polrelid = source AND d IS NOT NULL
      UNION ALL
      SELECT 8, r.oid::bigint * 10 + s.n, t.relowner, NULL, s.statement, NULL
        FROM pg_rewrite AS r
        CROSS JOIN LATERAL (
          SELECT 1, pg_get_ruledef(r.oid)
          UNION ALL
          SELECT 2, format('ALTER TABLE %s %s RULE %I', source, CASE r.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, r.rulename)
           WHERE r.ev_enabled <> 'O'
          UNION ALL
          SELECT 3, format('COMMENT ON RULE %I ON %s IS %L', r.rulename, source, d)
            FROM obj_description(r.oid, 'pg_rewrite') AS d WHERE d IS NOT NULL) AS s (n, statement)
       WHERE r.ev_class = source
      UNION ALL
      SELECT 9, row_number() OVER (), f.owner, 'ACCESS EXCLUSIVE on it', f.statement, f.what || ' follows the name'
        FROM sagaz_ha._conversion_followers(source) AS f
      UNION ALL
      -- publications
      SELECT 10, p.oid::bigint * 10 + s.n, p.pubowner, NULL, s.statement, s.meaning
        FROM pg_publication AS p
        LEFT JOIN pg_publication_rel AS r ON r.prpubid = p.oid AND r.prrelid = source
        CROSS JOIN LATERAL (
          SELECT 1, format('ALTER PUBLICATION %I SET (publish_via_partition_root = true)', p.pubname),
                 'holds for every partitioned table of the publication'
           WHERE publish_via_partition_root AND NOT p.pubviaroot
          UNION ALL
          SELECT 2, format('ALTER PUBLICATION %I ADD TABLE %s%s%s', p.pubname, source,
                           (SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')'
                              FROM pg_attribute AS a WHERE a.attrelid = source AND a.attnum = ANY (r.prattrs::smallint[])),
                           ' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')'),
                 CASE WHEN NOT p.pubviaroot AND NOT publish_via_partition_root
                   THEN 'a subscriber that has no table of the partition''s name stops: call it with publish_via_partition_root => true' END
           WHERE r.oid IS NOT NULL
          UNION ALL
          SELECT 3, format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, old_name), NULL
           WHERE r.oid IS NOT NULL) AS s (n, statement, meaning)
       WHERE r.oid IS NOT NULL OR p.puballtables
          OR EXISTS (SELECT FROM pg_publication_namespace AS n WHERE n.pnpubid = p.oid AND n.pnnspid = t.relnamespace)
      UNION ALL
      -- foreign keys of other tables
      SELECT 11, k.oid::bigint * 10 + s.n, c.relowner, s.lock || k.conrelid::regclass, s.statement, s.meaning
        FROM pg_constraint AS k
        JOIN pg_class AS c ON c.oid = k.conrelid
        CROSS JOIN LATERAL (
          SELECT 2, 'SHARE ROW EXCLUSIVE on ', format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID', k.conrelid::regclass, k.conname,
                       regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '')), 'holds for new rows at once'
          UNION ALL
          SELECT 3, NULL, format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, k.conrelid::regclass, d), NULL
            FROM obj_description(k.oid, 'pg_constraint') AS d WHERE d IS NOT NULL) AS s (n, lock, statement, meaning)
       WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source) AS s (part, n, run_as, lock, statement, meaning)
   ORDER BY s.part, s.n;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_named(regclass, text, boolean) IS
  'internal: the statements that give what is found by a table''s name to the table that has it now';

-- The indexes that the first partition needs besides. A primary key gets the key
-- in any case, because a partition can have but one; its columns alone stay unique
-- by another index, since its own goes with its constraint.
CREATE FUNCTION sagaz_ha._conversion_builds(
  source regclass, key name, weaken_unique boolean, OUT name name, OUT statement text, OUT meaning text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT b.name, format('CREATE UNIQUE INDEX CONCURRENTLY %I ON %s%s', b.name, source,
                        sagaz_ha._with_tablespace(b.definition, x.tablespace)), b.meaning
    FROM sagaz_ha._conversion_indexes(source, key) AS x
    CROSS JOIN LATERAL (
      SELECT sagaz_ha._without_prefix(pg_get_indexdef(x.index), format('CREATE UNIQUE INDEX %I ON %s', x.name, source))) AS d (definition)
    CROSS JOIN LATERAL (
      SELECT sagaz_ha._conversion_name(x.name, '_with_key'), sagaz_ha._with_key(d.definition, key),
             format('takes the place of %I in the end', x.name)
       WHERE weaken_unique OR x.contype = 'p'
      UNION ALL
      SELECT sagaz_ha._conversion_name(x.name, '_alone'), d.definition, format('keeps the columns of %I unique', x.name)
       WHERE NOT weaken_unique AND x.contype = 'p') AS b (name, definition, meaning)
   WHERE x.is_unique AND NOT x.has_key;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_builds(regclass, name, boolean) IS
  'internal: the statements that make indexes for a conversion, without a lock that is noticed';

-- Everything after the partitioned table was made, step by step.
CREATE FUNCTION sagaz_ha._conversion_steps(
  source regclass, target text, key name, upper_bound text, weaken_unique boolean, publish_via_partition_root boolean
) RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  version integer := current_setting('server_version_num')::integer;
  exclusive text := 'ACCESS EXCLUSIVE on ' || source;
  t pg_class;
  schema text;
  old_name text;
  target_name name;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  schema := t.relnamespace::regnamespace::text;
  old_name := schema || '.' || quote_ident(sagaz_ha._conversion_name(t.relname, '_before'));
  target_name := sagaz_ha._conversion_name(t.relname, '_sagaz_ha');

  RETURN QUERY SELECT * FROM sagaz_ha._conversion_check(source, ARRAY[source::text], key, 'MINVALUE', upper_bound);

  RETURN QUERY
  SELECT 'indexing', t.relowner, 'SHARE UPDATE EXCLUSIVE on ' || source, b.statement, b.meaning
    FROM sagaz_ha._conversion_builds(source, key, weaken_unique) AS b;

  RETURN QUERY
  SELECT 'linking', s.run_as, s.lock, s.statement, s.meaning
    FROM (
      SELECT 1 AS part, 0::bigint AS n, NULL::oid AS run_as, NULL AS lock, 'BEGIN' AS statement, NULL AS meaning
      UNION ALL
      SELECT 2, 0, NULL, NULL, format('SET LOCAL lock_timeout = %L', current_setting('sagaz_ha.conversion_lock_timeout', true)), NULL
      UNION ALL
      SELECT 3, k.oid::bigint, t.relowner, 'SHARE ROW EXCLUSIVE on ' || k.confrelid::regclass,
             format('ALTER TABLE %s ADD CONSTRAINT %I %s', target, k.conname, pg_get_constraintdef(k.oid)),
             'the partitioned table is empty, so nothing is read'
        FROM pg_constraint AS k
       WHERE k.conrelid = source AND k.contype = 'f' AND k.conparentid = 0
         -- made before the bound came near, and it began again
         AND NOT EXISTS (SELECT FROM pg_constraint AS o WHERE o.conrelid = to_regclass(target) AND o.conname = k.conname)
      UNION ALL
      SELECT 4, k.oid::bigint, t.relowner, NULL,
             format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, target, d), NULL
        FROM pg_constraint AS k CROSS JOIN obj_description(k.oid, 'pg_constraint') AS d
       WHERE k.conrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND d IS NOT NULL
      UNION ALL
      SELECT 5, 0, NULL, NULL, 'COMMIT', NULL) AS s
   WHERE EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = source AND k.contype = 'f' AND k.conparentid = 0)
   ORDER BY s.part, s.n;

  RETURN QUERY SELECT * FROM sagaz_ha._conversion_lock('attaching', ARRAY[source::text]);
  RETURN QUERY
  SELECT 'attaching', t.relowner, s.lock, s.statement, s.meaning
    FROM (
      SELECT 1 AS part, 0::bigint AS n, NULL AS lock, format('SELECT sagaz_ha._require_quick_attach(%L, %L)', source, target) AS statement,
             'fails if the next statements would read or build anything' AS meaning
      UNION ALL
      SELECT 2, q.column_number * 10 + s.n, exclusive, s.statement, NULL
        FROM sagaz_ha._conversion_sequences(source) AS q
        CROSS JOIN LATERAL (VALUES
          (1, format('SELECT pg_catalog.setval(%L, s.last_value, s.is_called) FROM %s AS s',
                     schema || '.' || quote_ident(sagaz_ha._conversion_name(q.name, '_parent')), q.sequence::regclass)),
          (2, format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', source, q.column_name)),
          (3, format('ALTER SEQUENCE %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(q.name, '_parent'), q.name))) AS s (n, statement)
       WHERE version >= 170000 AND q.identity <> ''
      UNION ALL
      SELECT 3, g.oid::bigint * 10, exclusive, format('DROP TRIGGER %I ON %s', g.tgname, source), 'the partitioned table gets it, and so gives it to each partition'
        FROM pg_trigger AS g WHERE g.tgrelid = source AND NOT g.tgisinternal AND g.tgtype & 1 = 1
      UNION ALL
      SELECT 3, g.oid::bigint * 10 + c.n, NULL, c.statement, NULL
        FROM pg_trigger AS g CROSS JOIN sagaz_ha._trigger_copy(g.oid, target) WITH ORDINALITY AS c (statement, n)
       WHERE g.tgrelid = source AND NOT g.tgisinternal AND g.tgtype & 1 = 1
      UNION ALL
      SELECT 4, 0, exclusive, format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (MINVALUE) TO (%s)', target, source, upper_bound),
             'the CHECK implies the bounds, so nothing is read') AS s
   ORDER BY s.part, s.n;
  RETURN QUERY SELECT 'attaching', NULL::oid, NULL, 'COMMIT', NULL;

  RETURN QUERY SELECT 'analyzing', t.relowner, 'SHARE UPDATE EXCLUSIVE on ' || target, 'ANALYZE ' || target,
    'without statistics the first queries would read everything';

  RETURN QUERY SELECT * FROM sagaz_ha._conversion_lock('renaming', ARRAY[source::text, target]);
  RETURN QUERY
  SELECT 'renaming', s.run_as, coalesce(s.lock, exclusive), s.statement, s.meaning
    FROM (
      SELECT 0 AS part, 0::bigint AS n, t.relowner AS run_as, NULL AS lock, format('SELECT sagaz_ha._require_attached(%L, %L)', source, target) AS statement,
             'fails if the table is no partition yet' AS meaning
      UNION ALL
      SELECT 0, k.oid::bigint, c.relowner, 'ACCESS EXCLUSIVE on ' || k.conrelid::regclass,
             format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname), 'it is made again, to the partitioned table'
        FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
       WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source
      UNION ALL
      -- TRUNCATE fires those of each partition as well
      SELECT 0, g.oid::bigint, t.relowner, NULL, format('DROP TRIGGER %I ON %s', g.tgname, source), 'the partitioned table has it'
        FROM pg_trigger AS g WHERE g.tgrelid = source AND NOT g.tgisinternal AND g.tgtype & 33 = 32
      UNION ALL
      -- sequences
      SELECT 1, q.column_number * 10 + s.n, t.relowner, NULL, s.statement, NULL
        FROM sagaz_ha._conversion_sequences(source) AS q
        CROSS JOIN LATERAL (VALUES
          (1, format('SELECT pg_catalog.setval(%L, s.last_value, s.is_called) FROM %s AS s',
                     schema || '.' || quote_ident(sagaz_ha._conversion_name(q.name, '_parent')), q.sequence::regclass)),
          (2, format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', source, q.column_name)),
          (3, format('ALTER SEQUENCE %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(q.name, '_parent'), q.name))) AS s (n, statement)
       WHERE version < 170000 AND q.identity <> ''
      UNION ALL
      SELECT 1, q.column_number * 10, t.relowner, NULL,
             format('ALTER SEQUENCE %s OWNED BY %s.%I', q.sequence::regclass, target, q.column_name), 'or else it would go with the old partition'
        FROM sagaz_ha._conversion_sequences(source) AS q WHERE q.identity = ''
      UNION ALL
      -- indexes whose rows are unique: the name is given to those of the partitioned table
      SELECT 2, x.index::bigint * 10 + s.n, t.relowner, NULL, s.statement, s.meaning
        FROM sagaz_ha._conversion_indexes(source, key) AS x
        LEFT JOIN pg_constraint AS k ON k.oid = x.constraint_oid
        CROSS JOIN LATERAL (
          SELECT CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END AS kind,
                 CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END
                 || CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END AS deferrable) AS p
        CROSS JOIN LATERAL (
          SELECT 1, format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s USING INDEX %I%s', source, x.name,
                           sagaz_ha._conversion_name(x.name, '_before'), p.kind, sagaz_ha._conversion_name(x.name, '_with_key'), p.deferrable),
                 CASE WHEN weaken_unique THEN format('rows that differ in %I only may now have the same key', key) END
           WHERE k.oid IS NOT NULL
          UNION ALL
          SELECT 2, format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', target, x.name, sagaz_ha._with_key(x.definition, key),
                           ' USING INDEX TABLESPACE ' || x.tablespace), NULL
           WHERE k.oid IS NOT NULL
          UNION ALL
          SELECT 3, format('COMMENT ON CONSTRAINT %I ON %s IS %L', x.name, target, d), NULL
            FROM obj_description(k.oid, 'pg_constraint') AS d WHERE d IS NOT NULL
          UNION ALL
          SELECT 1, format('DROP INDEX %s.%I', schema, x.name), format('rows that differ in %I only may now be there', key)
           WHERE k.oid IS NULL
          UNION ALL
          SELECT 2, format('CREATE UNIQUE INDEX %I ON %s%s', x.name, target,
                           sagaz_ha._with_tablespace(sagaz_ha._with_key(x.definition, key), x.tablespace)), NULL
           WHERE k.oid IS NULL
          UNION ALL
          SELECT 3, format('ALTER INDEX %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(x.name, '_with_key'),
                           sagaz_ha._conversion_name(x.name, '_before')), NULL
           WHERE k.oid IS NULL
          UNION ALL
          SELECT 4, format('COMMENT ON INDEX %s.%I IS %L', schema, x.name, d), NULL
            FROM obj_description(x.index, 'pg_class') AS d WHERE d IS NOT NULL
          UNION ALL
          SELECT 5, format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', o.relation, o.index), NULL
            FROM pg_index AS i
            CROSS JOIN (VALUES (source::text, sagaz_ha._conversion_name(x.name, '_before')), (target, x.name)) AS o (relation, index)
           WHERE i.indexrelid = x.index AND i.indisreplident AND t.relreplident = 'i') AS s (n, statement, meaning)
       WHERE x.is_unique AND NOT x.has_key AND (weaken_unique OR x.contype = 'p')
      UNION ALL
      SELECT 3, x.index::bigint * 10 + s.n, t.relowner, 'SHARE UPDATE EXCLUSIVE on the index', s.statement, NULL
        FROM sagaz_ha._conversion_indexes(source, key) AS x
        CROSS JOIN LATERAL (VALUES
          (1, format('ALTER INDEX %s.%I RENAME TO %I', schema, x.name, sagaz_ha._conversion_name(x.name, '_before'))),
          (2, format('ALTER INDEX %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(x.name, '_parent'), x.name))) AS s (n, statement)
       WHERE x.has_key OR NOT x.is_unique
      UNION ALL
      SELECT 4, x.oid::bigint * 10 + s.n, s.run_as, NULL, s.statement, NULL
        FROM pg_statistic_ext AS x
        CROSS JOIN LATERAL (VALUES
          (1, x.stxowner, format('ALTER STATISTICS %s.%I RENAME TO %I', x.stxnamespace::regnamespace, x.stxname, sagaz_ha._conversion_name(x.stxname, '_before'))),
          (2, t.relowner, format('ALTER STATISTICS %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(x.stxname, '_parent'), x.stxname))) AS s (n, run_as, statement)
       WHERE x.stxrelid = source
      UNION ALL
      -- the two renames
      SELECT 5, 1, t.relowner, NULL, format('ALTER TABLE %s RENAME TO %I', source, sagaz_ha._conversion_name(t.relname, '_before')),
             'it is the first partition from now on'
      UNION ALL
      SELECT 5, 2, t.relowner, NULL, format('ALTER TABLE %s RENAME TO %I', target, t.relname), 'prepared statements and pooled sessions go on'
      UNION ALL
      -- by the name that the partitioned table has by now
      SELECT 5, 2 + x.index::bigint, t.relowner, NULL, format('SELECT sagaz_ha._keep_unique(%L, %L)', source, x.columns),
             format('keeps %s unique, across partitions%s', x.name, sagaz_ha._conflicting_statements(source, key))
        FROM sagaz_ha._conversion_indexes(source, key) AS x
       WHERE x.is_unique AND NOT x.has_key AND NOT weaken_unique
      UNION ALL
      SELECT 6, c.n, c.run_as, c.lock, c.statement, c.meaning
        FROM sagaz_ha._conversion_named(source, old_name, publish_via_partition_root) WITH ORDINALITY
          AS c (phase, run_as, lock, statement, meaning, n)) AS s
   ORDER BY s.part, s.n;
  RETURN QUERY SELECT 'renaming', NULL::oid, NULL, 'COMMIT', NULL;

  RETURN QUERY
  SELECT 'finishing', c.relowner, 'SHARE UPDATE EXCLUSIVE on ' || k.conrelid::regclass,
         format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.conrelid::regclass, k.conname), NULL
    FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
   WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_steps(regclass, text, name, text, boolean, boolean) IS
  'internal: the statements that turn a table into the first partition of a partitioned table';

-- The CHECK that implies the bounds.
CREATE FUNCTION sagaz_ha._conversion_check(source regclass, tables text[], key name, lower_bound text, upper_bound text)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  owner oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = source);
BEGIN
  RETURN QUERY SELECT * FROM sagaz_ha._conversion_lock('checking', tables);
  RETURN QUERY SELECT 'checking', owner, 'ACCESS EXCLUSIVE on ' || source,
    format('ALTER TABLE ONLY %s ADD CONSTRAINT sagaz_ha_bounds CHECK (%I IS NOT NULL AND %s%I < %s) NOT VALID',
           source, key, CASE WHEN lower_bound <> 'MINVALUE' THEN format('%I >= %s AND ', key, lower_bound) ELSE '' END,
           key, upper_bound),
    'a row without a time, or from this bound on, is refused until the end';
  RETURN QUERY SELECT 'checking', NULL::oid, NULL, 'COMMIT', NULL;
  RETURN QUERY SELECT 'validating', owner, 'SHARE UPDATE EXCLUSIVE on ' || source,
    format('ALTER TABLE ONLY %s VALIDATE CONSTRAINT sagaz_ha_bounds', source), 'reads the table once';
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_check(regclass, text[], name, text, text) IS
  'internal: the statements that make the constraint which implies a partition''s bounds';

-- A default or catch-all partition gets bounds.
CREATE FUNCTION sagaz_ha._rebound_steps(source regclass, parent regclass, key name, lower_bound text, upper_bound text)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  owner oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = parent);
BEGIN
  RETURN QUERY SELECT * FROM sagaz_ha._conversion_check(source, ARRAY[parent::text, source::text], key, lower_bound, upper_bound);
  RETURN QUERY SELECT * FROM sagaz_ha._conversion_lock('attaching', ARRAY[parent::text, source::text]);
  RETURN QUERY SELECT 'attaching', NULL::oid, NULL, 'SET LOCAL sagaz_ha.protect = off', 'what is detached comes back at once';
  RETURN QUERY SELECT 'attaching', owner, NULL, format('SELECT sagaz_ha._require_quick_attach(%L, %L)', source, parent),
    'fails if the next statements would read or build anything';
  RETURN QUERY SELECT 'attaching', owner, 'ACCESS EXCLUSIVE on ' || parent,
    format('ALTER TABLE %s DETACH PARTITION %s', parent, source), NULL;
  RETURN QUERY SELECT 'attaching', owner, 'ACCESS EXCLUSIVE on ' || source,
    format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)', parent, source, lower_bound, upper_bound),
    'the CHECK implies the bounds, so nothing is read';
  RETURN QUERY SELECT 'attaching', NULL::oid, NULL, 'COMMIT', NULL;
  RETURN QUERY SELECT 'analyzing', owner, 'SHARE UPDATE EXCLUSIVE on ' || parent, format('ANALYZE %s', parent), NULL;
END
$$;
COMMENT ON FUNCTION sagaz_ha._rebound_steps(regclass, regclass, name, text, text) IS
  'internal: the statements that give a default or catch-all partition bounds';

-- What has still to be indexed. An index that is invalid was left by a killed worker.
CREATE FUNCTION sagaz_ha._conversion_next_index(
  source regclass, key name, weaken_unique boolean, OUT run_as oid, OUT statement text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT t.relowner,
         CASE WHEN i.indexrelid IS NOT NULL THEN format('DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass)
           ELSE b.statement END
    FROM sagaz_ha._conversion_builds(source, key, weaken_unique) AS b
    JOIN pg_class AS t ON t.oid = source
    LEFT JOIN pg_class AS c ON c.relnamespace = t.relnamespace AND c.relname = b.name
    LEFT JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indrelid = source
   WHERE NOT coalesce(i.indisvalid, false)
   LIMIT 1;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_next_index(regclass, name, boolean) IS
  'internal: the next statement that makes an index for a conversion';

-- What takes a conversion back. The table may be a partition already.
CREATE FUNCTION sagaz_ha._conversion_undoing(source regclass, target regclass, key name)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  version integer := current_setting('server_version_num')::integer;
  attached boolean := EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = source AND i.inhparent = target);
  owner oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = source);
  schema text := (SELECT c.relnamespace::regnamespace::text FROM pg_class AS c WHERE c.oid = source);
BEGIN
  -- it was made by who owned the table then, and is to go; nobody else has it yet
  RETURN QUERY
  SELECT 'undoing', e.extowner, 'ACCESS EXCLUSIVE on ' || target, format('ALTER TABLE %s OWNER TO %s', target, sagaz_ha._role_name(owner)), NULL
    FROM pg_class AS c, pg_extension AS e
   WHERE c.oid = target AND c.relowner <> owner AND e.extname = 'sagaz_ha';
  RETURN QUERY
  SELECT CASE s.part WHEN 6 THEN 'undoing: check' ELSE 'undoing' END, owner, 'ACCESS EXCLUSIVE on ' || source, s.statement, NULL
    FROM (
      SELECT 1 AS part, 0::bigint AS n, format('ALTER TABLE %s DETACH PARTITION %s', target, source) AS statement WHERE attached
      UNION ALL
      SELECT 2, q.column_number * 10 + s.n, s.statement
        FROM sagaz_ha._conversion_sequences(target) AS q
        JOIN pg_sequence AS p ON p.seqrelid = q.sequence
        CROSS JOIN LATERAL (VALUES
          (1, format('ALTER SEQUENCE %s RENAME TO %I', q.sequence::regclass, sagaz_ha._conversion_name(q.name, '_parent'))),
          (2, format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s.%I'
                       ' INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %sCYCLE)',
                       source, q.column_name, CASE q.identity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
                       schema, q.name, p.seqincrement, p.seqmin, p.seqmax, p.seqstart, p.seqcache,
                       CASE WHEN p.seqcycle THEN '' ELSE 'NO ' END)),
          (3, format('SELECT pg_catalog.setval(%L, s.last_value, s.is_called) FROM %s.%I AS s', schema || '.' || quote_ident(q.name),
                     (SELECT c.relnamespace::regnamespace::text FROM pg_class AS c WHERE c.oid = q.sequence),
                     sagaz_ha._conversion_name(q.name, '_parent')))) AS s (n, statement)
       WHERE attached AND version >= 170000 AND q.identity <> ''
      UNION ALL
      SELECT 3, q.column_number, format('GRANT %s ON SEQUENCE %s.%I TO %s', string_agg(x.privilege_type, ', '),
                                        schema, q.name, sagaz_ha._role_name(x.grantee))
        FROM sagaz_ha._conversion_sequences(target) AS q
        JOIN pg_class AS c ON c.oid = q.sequence
        CROSS JOIN aclexplode(c.relacl) AS x
       WHERE attached AND version >= 170000 AND q.identity <> '' AND x.grantee <> c.relowner
       GROUP BY q.column_number, q.name, x.grantee
      UNION ALL
      SELECT 4, g.oid::bigint * 10 + c.n, c.statement
        FROM pg_trigger AS g CROSS JOIN sagaz_ha._trigger_copy(g.oid, source::text) WITH ORDINALITY AS c (statement, n)
       WHERE attached AND g.tgrelid = target AND NOT g.tgisinternal AND g.tgtype & 1 = 1
      UNION ALL
      SELECT 5, 0, format('DROP TABLE %s', target) WHERE target IS NOT NULL
      UNION ALL
      SELECT 6, 0, format('ALTER TABLE %s DROP CONSTRAINT sagaz_ha_bounds', source)
       WHERE EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = source AND k.conname = 'sagaz_ha_bounds')
      UNION ALL
      SELECT 7, c.oid::bigint, format('DROP INDEX %s', c.oid::regclass)
        FROM sagaz_ha._conversion_indexes(source, key) AS x
        JOIN pg_class AS c ON c.relname IN (sagaz_ha._conversion_name(x.name, '_with_key'),
                                            sagaz_ha._conversion_name(x.name, '_alone'))
        JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indrelid = source) AS s
   ORDER BY s.part, s.n;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_undoing(regclass, regclass, name) IS
  'internal: the statements that take a conversion back';

-- What differs between a table and its counterpart. Policies, rules and publications
-- come with the renames, row triggers with ATTACH, foreign keys when they are linked.
CREATE FUNCTION sagaz_ha._conversion_changes(
  source regclass, target regclass, key name, linked boolean, weaken_unique boolean
) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH relations AS (
    SELECT source AS relation, true AS is_source UNION ALL SELECT target, false),
  privileges AS (
    SELECT c.oid, 0 AS attnum, a.grantee, a.privilege_type, a.is_grantable
      FROM pg_class AS c CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
     WHERE c.oid IN (source, target)
    UNION
    SELECT t.attrelid, b.attnum, a.grantee, a.privilege_type, a.is_grantable
      FROM pg_attribute AS t
      JOIN pg_attribute AS b ON b.attrelid = source AND b.attname = t.attname
      CROSS JOIN LATERAL aclexplode(t.attacl) AS a
     WHERE t.attrelid IN (source, target) AND NOT t.attisdropped),
  sequences AS (
    SELECT r.relation, q.column_name,
           concat_ws(' ', p.seqtypid, p.seqstart, p.seqincrement, p.seqmin, p.seqmax, p.seqcache, p.seqcycle) AS options
      FROM relations AS r CROSS JOIN LATERAL sagaz_ha._conversion_sequences(r.relation) AS q
      JOIN pg_sequence AS p ON p.seqrelid = q.sequence
     WHERE q.identity <> ''),
  columns AS (
    SELECT r.is_source, a.attname AS name, x.what, x.definition
      FROM relations AS r
      JOIN pg_attribute AS a ON a.attrelid = r.relation AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      CROSS JOIN LATERAL (VALUES
        ('', ''),
        ('type of ', concat_ws(' ', a.atttypid, a.atttypmod, a.attcollation)),
        ('default of ', concat(a.attgenerated, pg_get_expr(d.adbin, d.adrelid))),
        ('NOT NULL of ', a.attnotnull::text),
        -- since 17 a partition has none of its own
        ('identity of ', concat(a.attidentity, coalesce(
           (SELECT q.options FROM sequences AS q WHERE q.relation = r.relation AND q.column_name = a.attname),
           (SELECT q.options FROM sequences AS q WHERE q.relation = target AND q.column_name = a.attname)))),
        ('storage of ', concat_ws(' ', a.attstorage, a.attcompression)),
        ('statistics of ', concat_ws(' ', nullif(a.attstattarget, -1),
                                     (SELECT string_agg(o, ' ' ORDER BY o) FROM unnest(a.attoptions) AS o WHERE starts_with(o, 'n_distinct')))),
        ('comment on ', col_description(a.attrelid, a.attnum))) AS x (what, definition)),
  objects AS (
    SELECT r.is_source, 'constraint ' AS what, k.conname AS name,
           concat_ws(' ', pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint')) AS definition
      FROM relations AS r JOIN pg_constraint AS k ON k.conrelid = r.relation
     WHERE (k.contype = 'c' AND NOT (r.is_source AND k.conname = 'sagaz_ha_bounds'))
        -- a part of one has the foreign key to a partitioned table as its parent
        OR (k.contype = 'f' AND linked AND (k.conparentid = 0 OR EXISTS (SELECT FROM pg_constraint AS o WHERE o.oid = k.conparentid AND o.conrelid = target AND o.conparentid = 0 AND r.is_source)))
    UNION ALL
    SELECT r.is_source, 'index ',
           CASE WHEN r.is_source THEN sagaz_ha._conversion_name(x.name, '_parent') ELSE x.name END,
           concat_ws(' ', x.contype, x.is_unique, x.definition, obj_description(x.index, 'pg_class'), obj_description(x.constraint_oid, 'pg_constraint'))
      FROM relations AS r CROSS JOIN LATERAL sagaz_ha._conversion_indexes(r.relation, key) AS x
     WHERE x.has_key OR NOT x.is_unique
    UNION ALL
    -- one that was made too late to get the key
    SELECT true, 'index ', x.name, ''
      FROM sagaz_ha._conversion_indexes(source, key) AS x
     WHERE x.is_unique AND NOT x.has_key AND linked AND weaken_unique
       AND NOT EXISTS (SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
                        WHERE i.indrelid = source AND i.indisvalid AND c.relname = sagaz_ha._conversion_name(x.name, '_with_key'))
    UNION ALL
    SELECT r.is_source, 'trigger ', t.tgname,
           concat_ws(' ', t.tgenabled, sagaz_ha._trigger_prefix(t.oid),
                     sagaz_ha._without_prefix(pg_get_triggerdef(t.oid), sagaz_ha._trigger_prefix(t.oid) || r.relation))
      FROM relations AS r JOIN pg_trigger AS t ON t.tgrelid = r.relation AND NOT t.tgisinternal
     WHERE (t.tgtype & 1 = 0 OR EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = source AND i.inhparent = target))
       AND t.tgfoid NOT IN (SELECT f.oid FROM pg_proc AS f WHERE f.pronamespace = 'sagaz_ha'::regnamespace)
    UNION ALL
    SELECT r.is_source, 'statistics ',
           CASE WHEN r.is_source THEN sagaz_ha._conversion_name(x.stxname, '_parent') ELSE x.stxname END,
           concat_ws(' ', x.stxkind, nullif(x.stxstattarget, -1), pg_get_statisticsobjdef_columns(x.oid), obj_description(x.oid, 'pg_statistic_ext'))
      FROM relations AS r JOIN pg_statistic_ext AS x ON x.stxrelid = r.relation)
  SELECT concat_ws(', ',
           CASE WHEN s.relowner <> t.relowner THEN 'the owner' END,
           CASE WHEN s.relnamespace <> t.relnamespace THEN 'the schema' END,
           CASE WHEN s.relpersistence <> t.relpersistence THEN 'persistence' END,
           CASE WHEN EXISTS (SELECT FROM privileges AS p GROUP BY p.attnum, p.grantee, p.privilege_type, p.is_grantable
                             HAVING count(*) <> 2) THEN 'privileges' END,
           CASE WHEN s.relrowsecurity <> t.relrowsecurity OR s.relforcerowsecurity <> t.relforcerowsecurity THEN 'row security' END,
           -- an index that has to get the key becomes it with the renames
           CASE WHEN s.relreplident <> t.relreplident AND NOT (s.relreplident = 'i' AND t.relreplident = 'd') THEN 'replica identity' END,
           CASE WHEN obj_description(source, 'pg_class') IS DISTINCT FROM obj_description(target, 'pg_class') THEN 'the comment' END,
           (SELECT string_agg(x.what, ', ' ORDER BY x.what) FROM (
              SELECT DISTINCT format('%scolumn %I', c.what, c.name) FROM columns AS c
               -- with the whole column, its properties are no news
               WHERE c.what = '' OR EXISTS (SELECT FROM columns AS o WHERE o.name = c.name AND o.is_source <> c.is_source)
               GROUP BY c.what, c.name, c.definition HAVING count(*) <> 2) AS x (what)),
           (SELECT string_agg(x.what, ', ' ORDER BY x.what) FROM (
              SELECT DISTINCT o.what || quote_ident(CASE WHEN o.what IN ('index ', 'statistics ') THEN regexp_replace(o.name, '_parent$', '') ELSE o.name END)
                FROM objects AS o GROUP BY o.what, o.name, o.definition HAVING count(*) <> 2) AS x (what)))
    FROM pg_class AS s, pg_class AS t WHERE s.oid = source AND t.oid = target;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_changes(regclass, regclass, name, boolean, boolean) IS
  'internal: what differs between a table and what is to take its place, as a list';

-- What was done to the table after its counterpart was made would be gone with the
-- renames: a privilege that was revoked would be back.
CREATE FUNCTION sagaz_ha._require_unchanged(
  source regclass, target regclass, linked boolean, weaken_unique boolean
) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  changes text := (SELECT sagaz_ha._conversion_changes(source, target, a.attname, linked, weaken_unique)
                     FROM pg_partitioned_table AS p
                     JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
                    WHERE p.partrelid = target);
BEGIN
  IF changes <> '' THEN
    RAISE EXCEPTION 'table % was changed while it became partitioned: %', source, changes
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Undo the change; or cancel the conversion with sagaz_ha.cancel_partition_table(), and begin again.';
  END IF;
END
$$;
COMMENT ON FUNCTION sagaz_ha._require_unchanged(regclass, regclass, boolean, boolean) IS
  'internal: fail if a table is not what its counterpart is';

CREATE FUNCTION sagaz_ha._require_attached(source regclass, target regclass) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = source AND i.inhparent = target AND NOT i.inhdetachpending) THEN
    RAISE EXCEPTION 'table % is no partition of table %', source, target
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run the statements before this one again, in their order.';
  END IF;
  PERFORM sagaz_ha._require_unchanged(source, target, true, false);
END
$$;
COMMENT ON FUNCTION sagaz_ha._require_attached(regclass, regclass) IS
  'internal: fail unless a table is a partition of another one, and is what that is';

-- ATTACH builds what an index of the partitioned table has no match for, and reads
-- the table where no constraint implies the bounds: both under the lock.
CREATE FUNCTION sagaz_ha._require_quick_attach(source regclass, target regclass) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  key name := (SELECT a.attname FROM pg_partitioned_table AS p
                 JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] WHERE p.partrelid = target);
  missing text;
BEGIN
  SELECT string_agg(format('index %I would be built', x.name), '; ') INTO missing
    FROM sagaz_ha._conversion_indexes(target, key) AS x
   WHERE NOT EXISTS (SELECT FROM sagaz_ha._conversion_indexes(source, key) AS y
                      WHERE y.definition = x.definition AND y.contype IS NOT DISTINCT FROM x.contype
                        AND y.is_unique = x.is_unique)
     -- a partition's own
     AND NOT EXISTS (SELECT FROM pg_inherits AS h JOIN pg_index AS i ON i.indexrelid = h.inhrelid
                      WHERE h.inhparent = x.index AND i.indrelid = source AND i.indisvalid);
  SELECT concat_ws('; ', missing, string_agg(format('constraint %I would be checked', k.conname), '; ')) INTO missing
    FROM pg_constraint AS k
   WHERE k.conrelid = target AND k.contype IN ('c', 'f') AND k.convalidated
     AND NOT EXISTS (SELECT FROM pg_constraint AS o
                      WHERE o.conrelid = source AND o.contype = k.contype AND o.convalidated
                        AND (pg_get_constraintdef(o.oid) = pg_get_constraintdef(k.oid)
                             OR o.conparentid = k.oid OR (o.coninhcount > 0 AND o.conname = k.conname)));
  IF NOT EXISTS (SELECT FROM pg_constraint AS k
                  WHERE k.conrelid = source AND k.conname = 'sagaz_ha_bounds' AND k.convalidated) THEN
    missing := concat_ws('; ', nullif(missing, ''), 'the bounds would be checked');
  END IF;
  IF missing <> '' THEN
    RAISE EXCEPTION 'attaching table % would take long under a lock: %', source, missing
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'The table was changed meanwhile: cancel its conversion, and begin again.';
  END IF;
END
$$;
COMMENT ON FUNCTION sagaz_ha._require_quick_attach(regclass, regclass) IS
  'internal: fail if attaching a table would read it, or build an index';

CREATE FUNCTION sagaz_ha._clone_index(index regclass, target regclass, name name) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'sagaz_clone_index';
COMMENT ON FUNCTION sagaz_ha._clone_index(regclass, regclass, name) IS
  'internal: make a table''s index, and its constraint, on another table with the same columns';

CREATE FUNCTION sagaz_ha._keep_unique(parent regclass, columns name[]) RETURNS name
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_keep_unique_columns';
COMMENT ON FUNCTION sagaz_ha._keep_unique(regclass, name[]) IS
  'internal: add_unique() for a table that has just been converted; fails if it isn''t in force at once';

CREATE FUNCTION sagaz_ha._replace_query(view regclass, query text) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'sagaz_replace_query';
COMMENT ON FUNCTION sagaz_ha._replace_query(regclass, text) IS
  'internal: give a materialized view another query with the same columns; its rows, indexes and rights stay';

CREATE FUNCTION sagaz_ha.partition_table(
  parent regclass,
  key name,
  partition_interval interval,
  premake integer DEFAULT 4,
  retention interval DEFAULT NULL,
  retention_action text DEFAULT 'drop',
  unfinished_when text DEFAULT NULL,
  time_zone text DEFAULT 'UTC',
  archive_schema regnamespace DEFAULT NULL,
  tablespace name DEFAULT NULL,
  storage_parameters text[] DEFAULT NULL,
  auto_analyze boolean DEFAULT true,
  auto_freeze boolean DEFAULT true,
  before_drop regprocedure DEFAULT NULL,
  plain boolean DEFAULT false,
  key_encoding text DEFAULT NULL,
  protect boolean DEFAULT true,
  weaken_unique boolean DEFAULT false,
  publish_via_partition_root boolean DEFAULT false
) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_partition_table';
COMMENT ON FUNCTION sagaz_ha.partition_table(regclass, name, interval, integer, interval, text, text, text, regnamespace, name, text[], boolean, boolean, regprocedure, boolean, text, boolean, boolean, boolean) IS
  'have a plain table, or a default partition with rows, partitioned in place by the worker, while it is written to';

CREATE FUNCTION sagaz_ha.plan_partition_table(
  parent regclass,
  key name,
  partition_interval interval,
  premake integer DEFAULT 4,
  retention interval DEFAULT NULL,
  retention_action text DEFAULT 'drop',
  unfinished_when text DEFAULT NULL,
  time_zone text DEFAULT 'UTC',
  archive_schema regnamespace DEFAULT NULL,
  tablespace name DEFAULT NULL,
  storage_parameters text[] DEFAULT NULL,
  auto_analyze boolean DEFAULT true,
  auto_freeze boolean DEFAULT true,
  before_drop regprocedure DEFAULT NULL,
  plain boolean DEFAULT false,
  key_encoding text DEFAULT NULL,
  protect boolean DEFAULT true,
  weaken_unique boolean DEFAULT false,
  publish_via_partition_root boolean DEFAULT false
) RETURNS TABLE (step text, lock text, statement text, meaning text)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_plan_partition_table';
COMMENT ON FUNCTION sagaz_ha.plan_partition_table(regclass, name, interval, integer, interval, text, text, text, regnamespace, name, text[], boolean, boolean, regprocedure, boolean, text, boolean, boolean, boolean) IS
  'what partition_table() would run, with each lock; what changes in meaning; what is in the way. Nothing is done';

CREATE FUNCTION sagaz_ha.cancel_partition_table(parent regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_cancel_partition_table';
COMMENT ON FUNCTION sagaz_ha.cancel_partition_table(regclass) IS
  'take a conversion back before its last step: everything is as it was';

CREATE FUNCTION sagaz_ha.unpartition_table(parent regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_unpartition_table';
COMMENT ON FUNCTION sagaz_ha.unpartition_table(regclass) IS
  'make a plain table of a converted one again, as long as its other partitions are empty';

CREATE VIEW sagaz_ha.conversions AS
SELECT c.table_name, c.relation, c.parent, c.kind, c.phase AS step, c.phase_since AS step_since, c.since,
       (SELECT round(100.0 * p.blocks_done / nullif(p.blocks_total, 0), 1)
          FROM pg_stat_progress_create_index AS p WHERE p.relid = c.relation LIMIT 1) AS progress,
       c.waits_for AS waiting_for, c.longest_lock, c.tries, c.next_try, c.finish_by, c.error
  FROM sagaz_ha.conversion AS c;
COMMENT ON VIEW sagaz_ha.conversions IS
  'tables that are becoming partitioned: how far that is, what it waits for, and the longest lock so far';
COMMENT ON COLUMN sagaz_ha.conversions.table_name IS 'the name that clients use, before and afterwards';
COMMENT ON COLUMN sagaz_ha.conversions.relation IS 'the table that has the rows';
COMMENT ON COLUMN sagaz_ha.conversions.parent IS 'the partitioned table that it becomes a partition of';
COMMENT ON COLUMN sagaz_ha.conversions.kind IS 'table, partition or rows; see sagaz_ha.conversion';
COMMENT ON COLUMN sagaz_ha.conversions.step IS 'the step that is being done';
COMMENT ON COLUMN sagaz_ha.conversions.step_since IS 'when the step began';
COMMENT ON COLUMN sagaz_ha.conversions.since IS 'when it was asked for';
COMMENT ON COLUMN sagaz_ha.conversions.progress IS 'percent of the index that is being made; null: the step has no measure';
COMMENT ON COLUMN sagaz_ha.conversions.waiting_for IS 'session or standby that is waited for; null: none';
COMMENT ON COLUMN sagaz_ha.conversions.longest_lock IS 'the longest time so far that a strong lock was held';
COMMENT ON COLUMN sagaz_ha.conversions.tries IS 'how often the step has been tried in vain';
COMMENT ON COLUMN sagaz_ha.conversions.next_try IS 'when the worker tries again; null: now';
COMMENT ON COLUMN sagaz_ha.conversions.finish_by IS 'after this time the worker begins again with a later bound';
COMMENT ON COLUMN sagaz_ha.conversions.error IS 'why the step failed; null: it has not';

-- The empty partitioned table that a conversion has made beside this one.
CREATE FUNCTION sagaz_ha._conversion_left(source regclass) RETURNS regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT p.oid::regclass
    FROM pg_class AS c
    JOIN pg_class AS p ON p.relnamespace = c.relnamespace AND p.relowner = c.relowner AND p.relkind = 'p'
                      AND p.relname = sagaz_ha._conversion_name(c.relname, '_sagaz_ha')
   WHERE c.oid = source AND c.relkind = 'r'
     AND EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.conname = 'sagaz_ha_bounds');
END;
COMMENT ON FUNCTION sagaz_ha._conversion_left(regclass) IS
  'internal: the partitioned table beside a table that is, or was, becoming partitioned';

CREATE FUNCTION sagaz_ha._display_name(relation regclass, name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN c.relnamespace = (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'sagaz_ha')
           THEN quote_ident(name) ELSE format('%s.%I', c.relnamespace::regnamespace, name) END
    FROM pg_class AS c WHERE c.oid = relation;
END;
COMMENT ON FUNCTION sagaz_ha._display_name(regclass, text) IS
  'internal: a name in the schema of a relation, as people read it';

CREATE FUNCTION sagaz_ha._conversion_finishing(target regclass)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT 'finishing', c.relowner, 'SHARE UPDATE EXCLUSIVE on ' || k.conrelid::regclass,
         format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.conrelid::regclass, k.conname), NULL
    FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
   WHERE k.confrelid = target AND k.contype = 'f' AND k.conparentid = 0 AND NOT k.convalidated;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_finishing(regclass) IS
  'internal: the statements that validate foreign keys to a table that was converted';

-- The way back after the end: the first partition takes the place of the table.
CREATE FUNCTION sagaz_ha._conversion_returning(source regclass, target regclass)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  t pg_class;
  schema text;
  old_name text;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  schema := t.relnamespace::regnamespace::text;
  old_name := schema || '.' || quote_ident(sagaz_ha._conversion_name(t.relname, '_sagaz_ha'));
  RETURN QUERY
  SELECT 'returning', s.run_as, 'ACCESS EXCLUSIVE on ' || source, s.statement, NULL
    FROM (
      -- or else the detach would read both tables
      SELECT 0 AS part, k.oid::bigint AS n, c.relowner AS run_as,
             format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname) AS statement
        FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
       WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source
      UNION ALL
      SELECT 1, 0, t.relowner, format('ALTER TABLE %s DETACH PARTITION %s', source, target)
      UNION ALL
      SELECT 2, q.column_number * 10 + s.n, t.relowner, s.statement
        FROM sagaz_ha._conversion_sequences(source) AS q
        JOIN pg_sequence AS p ON p.seqrelid = q.sequence
        CROSS JOIN LATERAL (VALUES
          (1, format('ALTER SEQUENCE %s RENAME TO %I', q.sequence::regclass, sagaz_ha._conversion_name(q.name, '_parent'))),
          (2, format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s.%I'
                       ' INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %sCYCLE)',
                       target, q.column_name, CASE q.identity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
                       schema, q.name, p.seqincrement, p.seqmin, p.seqmax, p.seqstart, p.seqcache,
                       CASE WHEN p.seqcycle THEN '' ELSE 'NO ' END)),
          (3, format('SELECT pg_catalog.setval(%L, s.last_value, s.is_called) FROM %s.%I AS s', schema || '.' || quote_ident(q.name),
                     schema, sagaz_ha._conversion_name(q.name, '_parent')))) AS s (n, statement)
       WHERE q.identity <> ''
      UNION ALL
      SELECT 3, q.column_number, t.relowner, format('GRANT %s ON SEQUENCE %s.%I TO %s', string_agg(x.privilege_type, ', '),
                                        schema, q.name, sagaz_ha._role_name(x.grantee))
        FROM sagaz_ha._conversion_sequences(source) AS q
        JOIN pg_class AS c ON c.oid = q.sequence
        CROSS JOIN aclexplode(c.relacl) AS x
       WHERE q.identity <> '' AND x.grantee <> c.relowner
       GROUP BY q.column_number, q.name, x.grantee
      UNION ALL
      SELECT 3, q.column_number, t.relowner, format('ALTER SEQUENCE %s OWNED BY %s.%I', q.sequence::regclass, target, q.column_name)
        FROM sagaz_ha._conversion_sequences(source) AS q WHERE q.identity = ''
      UNION ALL
      SELECT 4, g.oid::bigint * 10 + c.n, t.relowner, c.statement
        FROM pg_trigger AS g CROSS JOIN sagaz_ha._trigger_copy(g.oid, target::text) WITH ORDINALITY AS c (statement, n)
       WHERE g.tgrelid = source AND NOT g.tgisinternal
         -- a plain table's own indexes see to that
         AND g.tgfoid NOT IN ('sagaz_ha.check_unique'::regproc, 'sagaz_ha.skip_duplicate'::regproc)
         AND (g.tgtype & 1 = 1 OR NOT EXISTS (SELECT FROM pg_trigger AS o WHERE o.tgrelid = target AND o.tgname = g.tgname))
      UNION ALL
      SELECT 5, i.oid::bigint * 10 + s.n, t.relowner, s.statement
        FROM pg_index AS x
        JOIN pg_class AS i ON i.oid = x.indexrelid
        JOIN pg_inherits AS h ON h.inhparent = x.indexrelid
        JOIN pg_index AS y ON y.indexrelid = h.inhrelid AND y.indrelid = target
        JOIN pg_class AS yc ON yc.oid = y.indexrelid
        -- a primary key that was kept, by the index that its columns have alone
        LEFT JOIN LATERAL (
          SELECT ac.relname
            FROM pg_index AS a JOIN pg_class AS ac ON ac.oid = a.indexrelid
           WHERE a.indrelid = target AND ac.relname = sagaz_ha._conversion_name(i.relname, '_alone')
             AND a.indisunique AND a.indisvalid AND x.indisprimary AND NOT x.indisreplident
             AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.confrelid = source AND k.contype = 'f')) AS alone ON true
        CROSS JOIN LATERAL (VALUES
          (1, format('ALTER INDEX %s RENAME TO %I', i.oid::regclass, sagaz_ha._conversion_name(i.relname, '_parent'))),
          (2, CASE WHEN alone.relname IS NULL THEN format('ALTER INDEX %s RENAME TO %I', y.indexrelid::regclass, i.relname)
                ELSE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I PRIMARY KEY USING INDEX %I',
                            target, yc.relname, i.relname, alone.relname) END)) AS s (n, statement)
       WHERE x.indrelid = source
      UNION ALL
      SELECT 6, x.oid::bigint * 10 + s.n, s.run_as, s.statement
        FROM pg_statistic_ext AS x
        JOIN pg_statistic_ext AS y ON y.stxrelid = target AND y.stxname = sagaz_ha._conversion_name(x.stxname, '_before')
        CROSS JOIN LATERAL (VALUES
          (1, x.stxowner, format('ALTER STATISTICS %s.%I RENAME TO %I', x.stxnamespace::regnamespace, x.stxname, sagaz_ha._conversion_name(x.stxname, '_parent'))),
          (2, y.stxowner, format('ALTER STATISTICS %s.%I RENAME TO %I', y.stxnamespace::regnamespace, y.stxname, x.stxname))) AS s (n, run_as, statement)
       WHERE x.stxrelid = source
      UNION ALL
      SELECT 7, o.oid::bigint, t.relowner, format('DROP POLICY %I ON %s', o.polname, target) FROM pg_policy AS o WHERE o.polrelid = target
      UNION ALL
      SELECT 7, r.oid::bigint, t.relowner, format('DROP RULE %I ON %s', r.rulename, target) FROM pg_rewrite AS r WHERE r.ev_class = target
      UNION ALL
      SELECT 8, 0, t.relowner, format('REVOKE ALL ON TABLE %s FROM %s', target, string_agg(DISTINCT sagaz_ha._role_name(x.grantee), ', '))
        FROM pg_class AS c
        CROSS JOIN LATERAL (SELECT g.grantee FROM aclexplode(c.relacl) AS g
                            UNION ALL
                            SELECT g.grantee FROM pg_attribute AS a CROSS JOIN aclexplode(a.attacl) AS g WHERE a.attrelid = c.oid) AS x
       WHERE c.oid = target AND x.grantee <> c.relowner
      HAVING count(*) > 0
      UNION ALL
      SELECT 9, row_number() OVER (), t.relowner, p FROM sagaz_ha._copy_privileges(source, target::text) AS p
      UNION ALL
      SELECT 10, s.n, t.relowner, format('ALTER TABLE %s %s', target, s.what)
        FROM (VALUES
          (1, CASE WHEN t.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END || ' ROW LEVEL SECURITY'),
          (2, CASE WHEN t.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END || ' ROW LEVEL SECURITY'),
          (3, 'DROP CONSTRAINT IF EXISTS sagaz_ha_bounds')) AS s (n, what)
      UNION ALL
      SELECT 10, g.oid::bigint, t.relowner, format('DROP TRIGGER %I ON %s', g.tgname, target)
        FROM pg_trigger AS g WHERE g.tgrelid = target AND g.tgfoid = 'sagaz_ha.refuse_truncate'::regproc
      UNION ALL
      SELECT 11, 0, t.relowner, format('COMMENT ON TABLE %s IS %L', target, d)
        FROM obj_description(source, 'pg_class') AS d WHERE d IS DISTINCT FROM obj_description(target, 'pg_class')
      UNION ALL
      SELECT 12, 1, t.relowner, format('ALTER TABLE %s RENAME TO %I', source, sagaz_ha._conversion_name(t.relname, '_sagaz_ha'))
      UNION ALL
      SELECT 12, 2, t.relowner, format('ALTER TABLE %s RENAME TO %I', target, t.relname)
      UNION ALL
      SELECT 13, s.n, s.run_as, s.statement
        FROM sagaz_ha._conversion_named(source, old_name) WITH ORDINALITY AS s (phase, run_as, lock, statement, meaning, n)
      UNION ALL
      SELECT 14, 0, t.relowner, format('DROP TABLE %s', old_name)) AS s
   ORDER BY s.part, s.n;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_returning(regclass, regclass) IS
  'internal: the statements that make a plain table of a converted one again';
