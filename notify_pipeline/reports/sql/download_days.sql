-- The days of acceptance that have rows, and how many; parameters and braces as in list_reports.sql.
SELECT epoch_us(n.accepted_at) // 86_400_000_000 AS day, count(*) AS rows
FROM facts.notifications AS n
WHERE {where}
GROUP BY day
ORDER BY day
