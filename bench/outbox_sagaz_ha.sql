-- Only the outbox is managed, with what the extension gives it: 7 days ahead,
-- 30 days kept, PENDING and FAILED events are unfinished.
SELECT sagaz_ha.stop_managing_partitions('saga_executions');
SELECT sagaz_ha.stop_managing_partitions('saga_audit_log');
