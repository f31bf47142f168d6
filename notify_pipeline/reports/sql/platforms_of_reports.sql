-- The platforms of some notifications. Parameters: tenants, ids and moments (side by side, one of each notification),
-- first_at, last_at (of the moments), and the filter's platform and channel. Braces: see list_reports.sql.
WITH wanted AS (SELECT unnest($tenants) AS tenant, unnest($ids) AS notification_id, unnest($moments) AS accepted_at)
SELECT p.tenant, p.notification_id, {columns}
FROM facts.platform_reports AS p
SEMI JOIN wanted AS w ON p.accepted_at = w.accepted_at AND p.tenant = w.tenant AND p.notification_id = w.notification_id
WHERE p.accepted_at BETWEEN $first_at AND $last_at AND {of_platforms}
ORDER BY p.notification_id, p.platform, p.channel, p.provider
