-- Sums over all that a filter fits, by period. Parameters: the filter's; braces: see list_reports.sql.
-- Shares are of whole deliveries, so that a notification's count is its share times what it is a share of.
SELECT {period} AS period, count(*) AS notifications, {sums},
    sum(round(n.share_120s * n.accepted)) AS within_120s
FROM facts.notifications AS n
WHERE {where}
GROUP BY ALL
ORDER BY ALL
