-- Parameters: tenant, notification_id. Materialized, because the index serves a condition on the id alone. Times as in the list.
WITH found AS MATERIALIZED (FROM facts.notifications WHERE notification_id = $notification_id)
SELECT
    notification_id, request_id, type, category, priority, title, topics, is_dry_run, state,
    epoch_us(accepted_at) AS accepted_at, epoch_us(finished_at) AS finished_at,
    epoch_us(b.received_through) AS received_through, coalesce(ended_at <= b.settled_through, FALSE) AS settled,
    audience, attempted, accepted, failed, invalid, ambiguous, skipped, expired,
    dry_run, received, opened, clicked, hits, p50_s, p90_s, p99_s, share_120s,
    epoch_us(first_accepted_at) AS first_accepted_at, epoch_us(last_accepted_at) AS last_accepted_at
FROM found CROSS JOIN main.build AS b
WHERE found.tenant = $tenant
