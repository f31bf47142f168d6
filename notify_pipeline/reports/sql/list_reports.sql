-- One page of notifications, each as facts.notifications has it, and how far the logs were read.
-- What stands in braces is put there from constants (reading_lists, reading_filters). Parameters: the filter's, absent
-- (what stands for no figure, beyond all), limit; of the place: after_key, after_at, after_tenant, after_id. The page is
-- found by few columns first; the others are read of its rows alone.
WITH keys AS MATERIALIZED (
    SELECT n.tenant, n.notification_id, n.accepted_at, coalesce({key}, $absent)::DOUBLE AS sort_key
    FROM facts.notifications AS n
    WHERE {where} AND {after}
    ORDER BY sort_key {order}, n.accepted_at {order}, n.tenant {order}, n.notification_id {order}
    LIMIT $limit
)
SELECT
    {columns}, epoch_us(b.received_through) AS received_through, coalesce(n.ended_at <= b.settled_through, FALSE) AS settled,
    k.sort_key
FROM facts.notifications AS n
JOIN keys AS k USING (accepted_at, tenant, notification_id)
CROSS JOIN main.build AS b
WHERE n.accepted_at >= $since AND n.accepted_at < $until
ORDER BY k.sort_key {order}, n.accepted_at {order}, n.tenant {order}, n.notification_id {order}
