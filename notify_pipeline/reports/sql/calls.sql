-- Calls of providers by the hour they were made in: attempts, not deliveries.
DELETE FROM report.facts.calls WHERE notification_id IN (SELECT notification_id FROM stage.affected);

INSERT INTO report.facts.calls
WITH answered AS (
    SELECT notification, report_channel, report_platform, provider, outcome, is_call,
        epoch_us(sent_at) // 3_600_000_000 AS hour,
        CASE WHEN answered_at IS NOT NULL THEN greatest(0, epoch_us(answered_at) - epoch_us(sent_at)) END AS us
    FROM (SELECT *, hash(notification, delivery_id) AS hash_ FROM attempts) ANTI JOIN repeated USING (hash_)
    UNION ALL
    SELECT notification, report_channel, report_platform, provider, outcome, is_call,
        epoch_us(sent_at) // 3_600_000_000 AS hour,
        CASE WHEN answered_at IS NOT NULL THEN greatest(0, epoch_us(answered_at) - epoch_us(sent_at)) END AS us
    FROM repeats
),
counted AS (
    SELECT notification, hour, report_channel, report_platform, provider, outcome,
        CASE WHEN us IS NOT NULL THEN ceil(8 * log2(greatest(us, 1) / 1e3))::SMALLINT END AS bucket,
        count(*) AS attempts, sum(us)::BIGINT AS answer_us, max(us) AS slowest_us
    FROM answered
    WHERE is_call
    GROUP BY ALL
)
SELECT r.tenant, r.notification_id, make_timestamptz(c.hour * 3_600_000_000) AS hour_at,
    c.report_channel::VARCHAR AS channel, c.report_platform::VARCHAR AS platform,
    coalesce(c.provider, p.provider)::VARCHAR AS provider, c.outcome::VARCHAR AS outcome, c.bucket,
    sum(c.attempts)::BIGINT, sum(c.answer_us)::BIGINT, max(c.slowest_us)
FROM counted AS c
JOIN stage.numbered AS r USING (notification)
JOIN providers AS p USING (notification, report_channel, report_platform)
GROUP BY ALL
ORDER BY hour_at, tenant, notification_id, channel, platform, provider, outcome, bucket;
