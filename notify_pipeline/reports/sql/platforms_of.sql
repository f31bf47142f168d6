-- Parameters: tenant, ids, first_at, last_at (of the ids' acceptance, so that other row groups are not read), platform.
-- Times as in the list.
SELECT
    notification_id, platform, provider, audience, attempted, accepted, failed, invalid, ambiguous, skipped, expired,
    dry_run, received, opened, clicked, hits, p50_s, p90_s, p99_s, share_120s,
    epoch_us(first_accepted_at) AS first_accepted_at, epoch_us(last_accepted_at) AS last_accepted_at
FROM facts.platform_reports
WHERE accepted_at BETWEEN $first_at AND $last_at
  AND tenant = $tenant
  AND list_contains($ids, notification_id)
  AND ($platform IS NULL OR platform = $platform)
ORDER BY notification_id, platform, channel, provider
