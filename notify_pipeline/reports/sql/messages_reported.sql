-- Parameters: tenant, ids, first_at, last_at (of the ids' acceptance, so that other row groups are not read).
SELECT notification_id, accepted_by_beacon, received, clicked
FROM facts.notifications
WHERE accepted_at BETWEEN $first_at AND $last_at
  AND tenant = $tenant
  AND list_contains($ids, notification_id)
