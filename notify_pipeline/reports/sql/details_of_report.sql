-- Parameters: tenant, notification_id, limit (null: none), offset. Materialized as in one_report.sql; braces: see list_reports.sql.
WITH found AS MATERIALIZED (FROM facts.{table} WHERE notification_id = $notification_id)
SELECT {columns}
FROM found AS n
WHERE n.tenant = $tenant
ORDER BY {order}
LIMIT $limit OFFSET $offset
