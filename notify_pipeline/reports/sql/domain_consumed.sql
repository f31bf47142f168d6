-- Parameters: tenant, domain, since, until (of the provider's word, whole seconds).
SELECT coalesce(sum(c.accepted), 0)::BIGINT, epoch_us(any_value(b.built_at))
FROM main.build AS b
LEFT JOIN facts.consumed AS c
    ON c.second_at >= $since AND c.second_at < $until AND c.tenant = $tenant AND c.domain = $domain
HAVING count(b.version) > 0
