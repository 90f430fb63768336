-- A plain outbox of :rows rows, and what its clients run: insert, claim, update.
CREATE TABLE saga_outbox (
  event_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), saga_id varchar NOT NULL, aggregate_id varchar NOT NULL,
  event_type varchar NOT NULL, payload jsonb NOT NULL, status varchar NOT NULL DEFAULT 'pending',
  created_at timestamptz NOT NULL DEFAULT now(), claimed_at timestamptz, sent_at timestamptz, worker_id varchar);
INSERT INTO saga_outbox (saga_id, aggregate_id, event_type, payload, status, created_at, sent_at)
  SELECT 's' || n % 100000, 'a', 'e', '{"n": 1}', 'sent', now() - (:rows - n) * interval '1 second', now()
    FROM generate_series(1, :rows) AS n;
CREATE INDEX ON saga_outbox (created_at) WHERE status = 'pending';
CREATE INDEX ON saga_outbox (saga_id);
VACUUM (ANALYZE) saga_outbox;
