-- Parameters as in messages_reported.sql.
SELECT notification_id, action, sum(clicked)::BIGINT
FROM facts.actions
WHERE accepted_at BETWEEN $first_at AND $last_at
  AND tenant = $tenant
  AND list_contains($ids, notification_id)
GROUP BY ALL
ORDER BY ALL
