-- Newest first. Parameters: tenant, since, until, type, platform, include_dry_run, after_at, after_id, limit.
-- Times come as microseconds: DuckDB's own conversion of them to Python takes longer than the query.
-- Bounds are always given, however wide, so that row groups outside them are not read.
WITH page AS (
    SELECT n.*
    FROM facts.notifications AS n
    WHERE n.accepted_at >= $since
      AND n.accepted_at < $until
      AND n.accepted_at <= $after_at
      AND n.tenant = $tenant
      AND ($type IS NULL OR n.type = $type)
      AND ($platform IS NULL OR list_contains(n.platforms, $platform))
      AND ($include_dry_run OR NOT n.is_dry_run)
      AND (n.accepted_at < $after_at OR n.notification_id < $after_id)
    ORDER BY n.accepted_at DESC, n.notification_id DESC
    LIMIT $limit
)
SELECT
    notification_id, request_id, type, category, priority, title, topics, is_dry_run, state,
    epoch_us(accepted_at) AS accepted_at, epoch_us(finished_at) AS finished_at,
    epoch_us(b.received_through) AS received_through, coalesce(ended_at <= b.settled_through, FALSE) AS settled,
    audience, attempted, accepted, failed, invalid, ambiguous, skipped, expired,
    dry_run, received, opened, clicked, hits, p50_s, p90_s, p99_s, share_120s,
    epoch_us(first_accepted_at) AS first_accepted_at, epoch_us(last_accepted_at) AS last_accepted_at
FROM page CROSS JOIN main.build AS b
ORDER BY page.accepted_at DESC, page.notification_id DESC
