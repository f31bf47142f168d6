-- As download_notifications.sql, a row for each channel, platform and provider.
SELECT {selected}
FROM (
    SELECT
        p.*, n.request_id, n.type, n.category, n.priority, n.title, n.topics, n.domain, n.is_dry_run, n.state, n.send_at,
        n.finished_at, b.received_through, coalesce(n.ended_at <= b.settled_through, FALSE) AS settled
    FROM facts.notifications AS n
    JOIN facts.platform_reports AS p
        ON p.accepted_at = n.accepted_at AND p.tenant = n.tenant AND p.notification_id = n.notification_id
    CROSS JOIN main.build AS b
    WHERE {where} AND p.accepted_at >= $since AND p.accepted_at < $until AND {of_platforms}
) AS r
ORDER BY
    r.accepted_at {order}, r.tenant {order}, r.notification_id {order}, r.platform, r.channel, r.provider
