-- As report_totals.sql, of some platforms' figures alone; the filter fits notifications that have such platforms.
WITH wanted AS MATERIALIZED (SELECT n.accepted_at, n.tenant, n.notification_id FROM facts.notifications AS n WHERE {where}),
sums AS (
    SELECT {period} AS period, {sums}, sum(round(n.share_120s * n.accepted)) AS within_120s
    FROM (
        FROM facts.platform_reports AS p
        SEMI JOIN wanted AS w
            ON p.accepted_at = w.accepted_at AND p.tenant = w.tenant AND p.notification_id = w.notification_id
        WHERE p.accepted_at >= $since AND p.accepted_at < $until AND {of_platforms}
    ) AS n
    GROUP BY ALL
),
counts AS (SELECT {period} AS period, count(*) AS notifications FROM wanted AS n GROUP BY ALL)
SELECT c.notifications, s.*
FROM counts AS c JOIN sums AS s ON c.period IS NOT DISTINCT FROM s.period
ORDER BY s.period
