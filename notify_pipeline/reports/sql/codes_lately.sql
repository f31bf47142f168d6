-- Parameters: since, tenants (null: all). The most frequent five of each channel and provider; attempts of failures that
-- began before count with those that ended since.
SELECT channel, provider, provider_code, sum(attempts)::BIGINT AS attempts
FROM facts.failures
WHERE last_at >= $since AND ($tenants IS NULL OR list_contains($tenants, tenant))
GROUP BY channel, provider, provider_code
QUALIFY row_number() OVER (PARTITION BY channel, provider ORDER BY sum(attempts) DESC, provider_code) <= 5
ORDER BY channel, provider, attempts DESC, provider_code
