-- Where each part of so many notifications of a range begins, in microseconds. Parameters: size, and the filter's.
SELECT epoch_us(accepted_at)
FROM (
    SELECT n.accepted_at, row_number() OVER (ORDER BY n.accepted_at) - 1 AS place
    FROM facts.notifications AS n
    WHERE {where}
)
WHERE place % $size = 0
GROUP BY accepted_at
ORDER BY accepted_at
