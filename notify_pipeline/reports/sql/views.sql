-- What people read. How far the logs have been read moves with every build, so it is joined and not stored per row.
CREATE VIEW report.main.notifications AS
SELECT n.*, b.received_through, coalesce(n.ended_at <= b.settled_through, FALSE) AS settled
FROM facts.notifications AS n CROSS JOIN main.build AS b;

CREATE VIEW report.main.platform_reports AS
SELECT p.*, b.received_through, coalesce(p.ended_at <= b.settled_through, FALSE) AS settled
FROM facts.platform_reports AS p CROSS JOIN main.build AS b;

CREATE VIEW report.main.timeline AS SELECT * FROM facts.timeline;
CREATE VIEW report.main.failures AS SELECT * FROM facts.failures;
CREATE VIEW report.main.actions AS SELECT * FROM facts.actions;
CREATE VIEW report.main.consumed AS SELECT * FROM facts.consumed;

-- A percentile of counted buckets is the upper bound of the one that holds it, and never more than the slowest.
CREATE VIEW report.main.channel_hours AS
WITH buckets AS (
    SELECT tenant, hour_at, channel, platform, provider, bucket, sum(attempts)::BIGINT AS attempts,
        coalesce(sum(attempts) FILTER (outcome = 'accepted'), 0)::BIGINT AS accepted,
        coalesce(sum(attempts) FILTER (outcome IN ('permanent', 'transient', 'throttled')), 0)::BIGINT AS failed,
        coalesce(sum(attempts) FILTER (outcome = 'throttled'), 0)::BIGINT AS throttled,
        coalesce(sum(attempts) FILTER (outcome = 'invalid_recipient'), 0)::BIGINT AS invalid,
        coalesce(sum(attempts) FILTER (outcome = 'ambiguous'), 0)::BIGINT AS ambiguous,
        coalesce(sum(attempts) FILTER (bucket IS NOT NULL), 0)::BIGINT AS answered,
        sum(answer_us)::BIGINT AS answer_us, max(slowest_us) AS slowest_us
    FROM facts.calls
    GROUP BY ALL
),
ranked AS (
    SELECT *,
        sum(answered) OVER (same ORDER BY bucket NULLS LAST) / sum(answered) OVER same AS rank,
        pow(2, bucket / 8) / 1e3 AS bound_s
    FROM buckets
    WINDOW same AS (PARTITION BY tenant, hour_at, channel, platform, provider)
)
SELECT
    tenant, hour_at, channel, platform, provider,
    sum(attempts)::BIGINT AS attempts, sum(accepted)::BIGINT AS accepted, sum(failed)::BIGINT AS failed,
    sum(throttled)::BIGINT AS throttled, sum(invalid)::BIGINT AS invalid, sum(ambiguous)::BIGINT AS ambiguous,
    sum(answered)::BIGINT AS answered,
    sum(answer_us) / sum(answered) / 1e6 AS mean_s,
    least(min(bound_s) FILTER (rank >= 0.5), max(slowest_us) / 1e6) AS p50_s,
    least(min(bound_s) FILTER (rank >= 0.9), max(slowest_us) / 1e6) AS p90_s,
    least(min(bound_s) FILTER (rank >= 0.99), max(slowest_us) / 1e6) AS p99_s,
    max(slowest_us) / 1e6 AS max_s
FROM ranked
GROUP BY ALL;

CREATE VIEW report.main.latencies AS SELECT * FROM facts.latencies;

-- What is counted of a day is that of the notifications accepted in it (UTC), whatever happened to them later.
CREATE VIEW report.main.topic_reach AS
SELECT
    tenant, (accepted_at AT TIME ZONE 'UTC')::DATE AS day, topic, count(*) AS notifications,
    sum(audience)::BIGINT AS audience, sum(accepted)::BIGINT AS accepted, sum(received)::BIGINT AS received,
    sum(opened)::BIGINT AS opened, sum(clicked)::BIGINT AS clicked
FROM (SELECT *, unnest(list_distinct(topics)) AS topic FROM facts.notifications WHERE NOT is_dry_run)
GROUP BY ALL;

CREATE VIEW report.main.tenant_usage AS
SELECT
    tenant, (accepted_at AT TIME ZONE 'UTC')::DATE AS day, channel, platform,
    count(DISTINCT notification_id) AS notifications,
    sum(audience)::BIGINT AS audience, sum(attempted)::BIGINT AS attempted, sum(accepted)::BIGINT AS accepted,
    sum(failed)::BIGINT AS failed, sum(invalid)::BIGINT AS invalid, sum(ambiguous)::BIGINT AS ambiguous,
    sum(skipped)::BIGINT AS skipped, sum(expired)::BIGINT AS expired, sum(dry_run)::BIGINT AS dry_run,
    sum(received)::BIGINT AS received, sum(opened)::BIGINT AS opened, sum(clicked)::BIGINT AS clicked
FROM facts.platform_reports
GROUP BY ALL;

-- Sums up from the first day that there is: over a range of days only if it begins before that.
CREATE VIEW report.main.token_churn AS
SELECT
    tenant, day, platform, registered, refreshed, unregistered, dropped,
    registered - unregistered - dropped AS net,
    sum(registered - unregistered - dropped) OVER (PARTITION BY tenant, platform ORDER BY day)::BIGINT AS active
FROM facts.token_days;
