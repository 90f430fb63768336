-- Partitions of saga_outbox as the specification names them, and what a pass
-- in plain SQL has to do. Variable: past (days back)
SELECT format('CREATE TABLE saga_outbox_%s PARTITION OF saga_outbox FOR VALUES FROM (%L) TO (%L)',
              to_char(day, '"y"YYYY"m"MM"d"DD'), day, day + interval '1 day')
  FROM generate_series(date_trunc('day', now()) - :past * interval '1 day',
                       date_trunc('day', now()) + interval '4 days', interval '1 day') AS day
\gexec

CREATE SCHEMA bench;
CREATE TABLE bench.expired (oid oid);

CREATE FUNCTION bench.statements() RETURNS SETOF text LANGUAGE sql AS $$
  (SELECT format('CREATE TABLE saga_outbox_%s PARTITION OF saga_outbox FOR VALUES FROM (%L) TO (%L)',
                 to_char(day, '"y"YYYY"m"MM"d"DD'), day, day + interval '1 day')
     FROM generate_series(date_trunc('day', now()) + interval '5 days',
                          date_trunc('day', now()) + interval '7 days', interval '1 day') AS day
    ORDER BY day)
  UNION ALL
  (SELECT format('DROP TABLE %s', oid::regclass) FROM bench.expired ORDER BY oid)
$$;

-- the same in one transaction, as the specification's function does it
CREATE FUNCTION bench.maintain() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  statement text;
BEGIN
  FOR statement IN SELECT * FROM bench.statements() LOOP
    EXECUTE statement;
  END LOOP;
END $$;
