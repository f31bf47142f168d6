-- Parameters and days as in domain_reported.sql.
SELECT epoch_us(accepted_at) // 86_400_000_000 AS day, action, sum(clicked)::BIGINT
FROM facts.actions
WHERE accepted_at >= $since
  AND accepted_at < $until
  AND tenant = $tenant
  AND domain = $domain
GROUP BY ALL
