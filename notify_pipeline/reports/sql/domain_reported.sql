-- Parameters: tenant, domain, since, until (of acceptance). Days since the epoch, UTC.
SELECT epoch_us(accepted_at) // 86_400_000_000 AS day, sum(accepted_by_beacon)::BIGINT, sum(received)::BIGINT,
    sum(clicked)::BIGINT
FROM facts.notifications
WHERE accepted_at >= $since
  AND accepted_at < $until
  AND tenant = $tenant
  AND domain = $domain
GROUP BY day
