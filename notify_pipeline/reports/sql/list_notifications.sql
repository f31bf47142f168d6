-- Newest first. Parameters: tenant, since, until, type, platform, include_dry_run, after_at, after_id, limit.
SELECT n.*
FROM notifications AS n
WHERE n.tenant = $tenant
  AND ($since IS NULL OR n.accepted_at >= $since)
  AND ($until IS NULL OR n.accepted_at < $until)
  AND ($type IS NULL OR n.type = $type)
  AND ($include_dry_run OR NOT n.is_dry_run)
  AND (
    $after_at IS NULL
    OR n.accepted_at < $after_at
    OR (n.accepted_at = $after_at AND n.notification_id < $after_id)
  )
  AND (
    $platform IS NULL
    OR EXISTS (
        SELECT 1
        FROM platform_reports AS p
        WHERE p.tenant = $tenant
          AND p.platform = $platform
          AND p.notification_id = n.notification_id
          AND p.accepted_at = n.accepted_at
    )
  )
ORDER BY n.accepted_at DESC, n.notification_id DESC
LIMIT $limit
