-- Notifications of a range that a filter fits. Braces: see list_reports.sql.
SELECT {selected}
FROM (
    SELECT n.*, b.received_through, coalesce(n.ended_at <= b.settled_through, FALSE) AS settled
    FROM facts.notifications AS n CROSS JOIN main.build AS b
    WHERE {where}
) AS r
ORDER BY r.accepted_at {order}, r.tenant {order}, r.notification_id {order}
