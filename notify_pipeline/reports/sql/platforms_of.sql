-- Parameters: tenant, ids, platform.
SELECT *
FROM platform_reports
WHERE notification_id IN (SELECT unnest($ids))
  AND tenant = $tenant
  AND ($platform IS NULL OR platform = $platform)
ORDER BY notification_id, platform, provider
