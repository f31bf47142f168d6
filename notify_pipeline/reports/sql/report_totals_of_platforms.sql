-- As report_totals.sql, of some platforms' figures alone.
WITH wanted AS (SELECT n.accepted_at, n.tenant, n.notification_id FROM facts.notifications AS n WHERE {where}),
found AS (
    SELECT p.*
    FROM facts.platform_reports AS p
    SEMI JOIN wanted AS w
        ON p.accepted_at = w.accepted_at AND p.tenant = w.tenant AND p.notification_id = w.notification_id
    WHERE p.accepted_at >= $since AND p.accepted_at < $until AND {of_platforms}
)
SELECT {period} AS period, count(DISTINCT (n.tenant, n.notification_id)) AS notifications, {sums},
    sum(round(n.share_120s * n.accepted)) / nullif(sum(n.accepted), 0) AS share_120s
FROM found AS n
GROUP BY ALL
ORDER BY ALL
