-- Parameters: since, tenants (null: all). A percentile is the upper bound of the bucket that holds it (``calls``).
WITH buckets AS (
    SELECT channel, provider, bucket,
        sum(attempts)::BIGINT AS attempts,
        coalesce(sum(attempts) FILTER (outcome = 'accepted'), 0)::BIGINT AS accepted,
        coalesce(sum(attempts) FILTER (outcome = 'throttled'), 0)::BIGINT AS throttled,
        coalesce(sum(attempts) FILTER (outcome IN ('permanent', 'transient', 'throttled')), 0)::BIGINT AS failed,
        coalesce(sum(attempts) FILTER (outcome = 'invalid_recipient'), 0)::BIGINT AS invalid,
        coalesce(sum(attempts) FILTER (outcome = 'ambiguous'), 0)::BIGINT AS ambiguous,
        coalesce(sum(attempts) FILTER (bucket IS NOT NULL), 0)::BIGINT AS answered,
        sum(answer_us)::BIGINT AS answer_us,
        max(slowest_us) AS slowest_us
    FROM facts.calls
    WHERE hour_at >= $since AND ($tenants IS NULL OR list_contains($tenants, tenant))
    GROUP BY ALL
),
ranked AS (
    SELECT *,
        sum(answered) OVER (same ORDER BY bucket NULLS LAST) / sum(answered) OVER same AS rank,
        pow(2, bucket / 8) / 1e3 AS bound_s
    FROM buckets
    WINDOW same AS (PARTITION BY channel, provider)
)
SELECT
    channel, provider,
    sum(attempts)::BIGINT AS attempts, sum(accepted)::BIGINT AS accepted, sum(throttled)::BIGINT AS throttled,
    sum(failed)::BIGINT AS failed, sum(invalid)::BIGINT AS invalid, sum(ambiguous)::BIGINT AS ambiguous,
    (sum(answer_us) / nullif(sum(answered), 0) / 1e6)::DOUBLE AS mean_s,
    least(min(bound_s) FILTER (rank >= 0.5), max(slowest_us) / 1e6) AS p50_s,
    least(min(bound_s) FILTER (rank >= 0.99), max(slowest_us) / 1e6) AS p99_s
FROM ranked
GROUP BY channel, provider
ORDER BY channel, provider
