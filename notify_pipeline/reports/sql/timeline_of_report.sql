-- As details_of_report.sql, in steps of a multiple of ten seconds. Parameters: its own, and step_s.
WITH found AS MATERIALIZED (FROM facts.timeline WHERE notification_id = $notification_id),
n AS (
    SELECT platform, bucket_s // $step_s * $step_s AS bucket_s, sum(accepted)::BIGINT AS accepted,
        sum(received)::BIGINT AS received
    FROM found
    WHERE tenant = $tenant
    GROUP BY ALL
)
SELECT {columns}
FROM n
ORDER BY {order}
LIMIT $limit OFFSET $offset
