-- Parameters: tenant, notification_id. Materialized, because the index serves a condition on the id alone.
-- Braces: see list_reports.sql.
WITH found AS MATERIALIZED (FROM facts.notifications WHERE notification_id = $notification_id)
SELECT
    {columns}, epoch_us(b.received_through) AS received_through, coalesce(n.ended_at <= b.settled_through, FALSE) AS settled
FROM found AS n CROSS JOIN main.build AS b
WHERE n.tenant = $tenant
