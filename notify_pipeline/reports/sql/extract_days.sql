-- Days of acceptance, with a token that follows from their rows. hash() may change with DuckDB: then every settled day is
-- written once more, to the same bytes.
WITH notifications_of AS (
    SELECT accepted_at::DATE AS day, count(*) AS rows, bool_and(settled) AS settled, bit_xor(hash(r)) AS token
    FROM (SELECT * EXCLUDE (received_through) FROM notifications) AS r
    WHERE accepted_at >= $since AND accepted_at < $until GROUP BY 1
), platforms_of AS (
    SELECT accepted_at::DATE AS day, bit_xor(hash(r)) AS token
    FROM (SELECT * EXCLUDE (received_through) FROM platform_reports) AS r
    WHERE accepted_at >= $since AND accepted_at < $until GROUP BY 1
)
SELECT n.day, n.rows, n.settled, format('{:016x}{:016x}', n.token, coalesce(p.token, 0))
FROM notifications_of AS n LEFT JOIN platforms_of AS p USING (day)
