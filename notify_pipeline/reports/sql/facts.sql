-- The facts of the affected notifications, written anew. Every aggregate is independent of the order of its rows.
DELETE FROM report.facts.notifications WHERE notification_id IN (SELECT notification_id FROM stage.affected);
DELETE FROM report.facts.platform_reports WHERE notification_id IN (SELECT notification_id FROM stage.affected);
DELETE FROM report.facts.timeline WHERE notification_id IN (SELECT notification_id FROM stage.affected);
DELETE FROM report.facts.failures WHERE notification_id IN (SELECT notification_id FROM stage.affected);
DELETE FROM report.facts.actions WHERE notification_id IN (SELECT notification_id FROM stage.affected);
DELETE FROM report.facts.consumed WHERE notification_id IN (SELECT notification_id FROM stage.affected);
DELETE FROM report.facts.foreign_beacons WHERE notification_id IN (SELECT notification_id FROM stage.affected);

CREATE OR REPLACE TEMP TABLE measures AS
WITH grouped AS (
    SELECT
        notification,
        channel,
        platform,
        provider,
        count(*) AS recorded,
        count(*) FILTER (called) AS attempted,
        count(*) FILTER (outcome = 'accepted') AS accepted,
        count(*) FILTER (by_beacon) AS accepted_by_beacon,
        count(*) FILTER (outcome IN ('permanent', 'transient', 'throttled')) AS failed,
        count(*) FILTER (outcome = 'throttled') AS throttled,
        count(*) FILTER (outcome = 'invalid_recipient') AS invalid,
        count(*) FILTER (outcome = 'ambiguous') AS ambiguous,
        count(*) FILTER (outcome = 'skipped') AS skipped,
        count(*) FILTER (outcome = 'expired') AS expired,
        count(*) FILTER (outcome = 'dry_run') AS dry_run,
        count(total_us) AS received,
        count(*) FILTER (opened) AS opened,
        count(*) FILTER (clicked) AS clicked,
        coalesce(sum(hits), 0)::BIGINT AS hits,
        min(accepted_at) FILTER (outcome = 'accepted') AS first_accepted_at,
        max(accepted_at) FILTER (outcome = 'accepted') AS last_accepted_at,
        quantile_cont(total_us, [0.5, 0.9, 0.99]) AS total_us,
        count(*) FILTER (reports AND total_us <= 120_000_000)
            / nullif(count(*) FILTER (reports AND outcome = 'accepted'), 0) AS share_120s,
        grouping(channel) = 1 AS is_total
    FROM deliveries
    GROUP BY GROUPING SETS ((notification, channel, platform, provider), (notification))
)
SELECT r.tenant, r.notification_id, g.* EXCLUDE (notification, total_us)
    REPLACE (channel::VARCHAR AS channel, platform::VARCHAR AS platform, provider::VARCHAR AS provider),
    total_us[1] / 1e6 AS p50_s, total_us[2] / 1e6 AS p90_s, total_us[3] / 1e6 AS p99_s
FROM grouped AS g JOIN stage.numbered AS r USING (notification);

-- Who was planned for. Until a broadcast's audience has landed, those whose attempts are known stand in for it. Should
-- two providers serve a channel, each answers for the recipients it has, and the first also for those nobody has yet.
CREATE OR REPLACE TEMP TABLE platform_audience AS
WITH planned AS (
    SELECT
        tenant,
        notification_id,
        coalesce(channel, 'none') AS channel,
        coalesce(platform, 'unknown') AS platform,
        sum(recipients)::BIGINT AS recipients
    FROM stage.audiences
    GROUP BY ALL
),
recorded AS (
    SELECT tenant, notification_id, channel, platform, provider, recorded,
        sum(recorded) OVER same AS all_recorded,
        row_number() OVER (same ORDER BY provider) AS place
    FROM measures
    WHERE NOT is_total
    WINDOW same AS (PARTITION BY tenant, notification_id, channel, platform)
)
SELECT
    tenant,
    notification_id,
    channel,
    platform,
    coalesce(r.provider, channel) AS provider,
    (coalesce(r.recorded, 0)
        + CASE WHEN coalesce(r.place, 1) = 1 THEN coalesce(p.recipients - coalesce(r.all_recorded, 0), 0) ELSE 0 END
    )::BIGINT AS audience
FROM planned AS p
FULL JOIN recorded AS r USING (tenant, notification_id, channel, platform)
WHERE coalesce(p.recipients, r.recorded) > 0;

-- Where each request stands: a final state stays, whatever a clock says; otherwise the latest move counts. A request
-- has ended when it is final and its last attempt is made.
CREATE OR REPLACE TEMP TABLE progress AS
WITH states AS (
    SELECT
        tenant,
        notification_id,
        arg_max(to_state, (to_state IN (SELECT state FROM stage.final_states), "at", audit_id)) AS state,
        min("at") FILTER (to_state IN (SELECT state FROM stage.final_states)) AS finished_at
    FROM stage.audit
    WHERE to_state IS NOT NULL
    GROUP BY ALL
),
last_attempts AS (
    SELECT r.tenant, r.notification_id, a.last_attempt_at
    FROM (SELECT notification, max(sent_at) AS last_attempt_at FROM stage.attempts GROUP BY ALL) AS a
    JOIN stage.numbered AS r USING (notification)
)
SELECT
    tenant,
    notification_id,
    coalesce(s.state, 'accepted') AS state,
    s.finished_at,
    l.last_attempt_at,
    CASE WHEN s.finished_at IS NOT NULL THEN greatest(s.finished_at, l.last_attempt_at) END AS ended_at
FROM stage.requests
LEFT JOIN states AS s USING (tenant, notification_id)
LEFT JOIN last_attempts AS l USING (tenant, notification_id);

INSERT INTO report.facts.platform_reports
SELECT
    tenant, notification_id, r.accepted_at, e.ended_at, channel, platform, provider, a.audience,
    coalesce(m.attempted, 0), coalesce(m.accepted, 0), coalesce(m.accepted_by_beacon, 0), coalesce(m.failed, 0),
    coalesce(m.throttled, 0), coalesce(m.invalid, 0), coalesce(m.ambiguous, 0), coalesce(m.skipped, 0),
    coalesce(m.expired, 0), coalesce(m.dry_run, 0), coalesce(m.received, 0), coalesce(m.opened, 0),
    coalesce(m.clicked, 0), coalesce(m.hits, 0),
    m.first_accepted_at, m.last_accepted_at, m.p50_s, m.p90_s, m.p99_s, m.share_120s
FROM platform_audience AS a
JOIN stage.requests AS r USING (tenant, notification_id)
JOIN progress AS e USING (tenant, notification_id)
LEFT JOIN (FROM measures WHERE NOT is_total) AS m USING (tenant, notification_id, channel, platform, provider)
ORDER BY r.accepted_at, tenant, notification_id, channel, platform, provider;

INSERT INTO report.facts.notifications
WITH audiences AS (
    SELECT tenant, notification_id, sum(audience)::BIGINT AS audience, list_sort(list_distinct(list(platform))) AS platforms
    FROM platform_audience
    GROUP BY ALL
)
SELECT
    tenant, notification_id, r.request_id, r.type, r.category, r.priority, r.title, coalesce(r.topics, []), r.domain,
    coalesce(r.dry_run, FALSE), r.accepted_at, r.send_at, r.expires_at,
    e.state, e.finished_at, e.last_attempt_at, e.ended_at, coalesce(a.platforms, []), coalesce(a.audience, 0),
    coalesce(m.attempted, 0), coalesce(m.accepted, 0), coalesce(m.accepted_by_beacon, 0), coalesce(m.failed, 0),
    coalesce(m.throttled, 0), coalesce(m.invalid, 0), coalesce(m.ambiguous, 0), coalesce(m.skipped, 0),
    coalesce(m.expired, 0), coalesce(m.dry_run, 0), coalesce(m.received, 0), coalesce(m.opened, 0),
    coalesce(m.clicked, 0), coalesce(m.hits, 0),
    m.first_accepted_at, m.last_accepted_at, m.p50_s, m.p90_s, m.p99_s, m.share_120s
FROM stage.requests AS r
JOIN progress AS e USING (tenant, notification_id)
LEFT JOIN audiences AS a USING (tenant, notification_id)
LEFT JOIN (FROM measures WHERE is_total) AS m USING (tenant, notification_id)
ORDER BY r.accepted_at, tenant, notification_id;

INSERT INTO report.facts.timeline
WITH moments AS (
    SELECT notification, platform, accepted_us // 10_000_000 * 10 AS bucket_s, 1 AS accepted, 0 AS received
    FROM deliveries WHERE outcome = 'accepted' AND accepted_us IS NOT NULL
    UNION ALL
    SELECT notification, platform, total_us // 10_000_000 * 10, 0, 1
    FROM deliveries WHERE total_us IS NOT NULL
),
buckets AS (
    SELECT notification, platform, bucket_s, sum(accepted)::BIGINT AS accepted, sum(received)::BIGINT AS received
    FROM moments
    GROUP BY ALL
)
SELECT r.tenant, r.notification_id, b.platform, b.bucket_s, b.accepted, b.received
FROM buckets AS b JOIN stage.numbered AS r USING (notification)
ORDER BY ALL;

INSERT INTO report.facts.failures
WITH ended AS (
    SELECT notification, channel, platform, provider, outcome, coalesce(provider_code, ''::stage.word) AS provider_code,
        count(*) AS deliveries
    FROM deliveries
    WHERE outcome NOT IN ('accepted', 'dry_run')
    GROUP BY ALL
),
failed AS (SELECT DISTINCT * FROM attempts WHERE outcome NOT IN ('accepted', 'dry_run'))
SELECT
    r.tenant, r.notification_id, a.report_channel, a.report_platform, coalesce(a.provider, p.provider), a.outcome,
    coalesce(a.provider_code, ''::stage.word), count(*), coalesce(any_value(e.deliveries), 0), min(a.sent_at), max(a.sent_at)
FROM failed AS a
JOIN stage.numbered AS r USING (notification)
JOIN providers AS p
    ON p.notification = a.notification
    AND p.report_channel = a.report_channel AND p.report_platform = a.report_platform
LEFT JOIN ended AS e
    ON e.notification = a.notification AND e.channel = a.report_channel
    AND e.platform = a.report_platform AND e.provider = coalesce(a.provider, p.provider)
    AND e.outcome = a.outcome AND e.provider_code = coalesce(a.provider_code, ''::stage.word)
GROUP BY r.tenant, r.notification_id, a.report_channel, a.report_platform, coalesce(a.provider, p.provider), a.outcome,
    coalesce(a.provider_code, ''::stage.word)
ORDER BY ALL;

-- An action's name is in nobody's signature: those that the notification does not have are left out.
INSERT INTO report.facts.actions
WITH clicks AS (
    SELECT notification_id, delivery_id, action, count(*) AS hits
    FROM stage.receipts
    WHERE event = 'clicked' AND action IS NOT NULL
    GROUP BY ALL
),
clicked AS (
    SELECT r.notification, c.delivery_id, c.action, min(a.report_platform) AS platform, any_value(c.hits) AS hits
    FROM clicks AS c
    JOIN stage.numbered AS r ON r.notification_id = c.notification_id AND list_contains(r.actions, c.action)
    JOIN attempts AS a ON a.is_call AND a.notification = r.notification AND a.delivery_id = c.delivery_id
    GROUP BY ALL
)
SELECT r.tenant, r.notification_id, r.domain, r.accepted_at, c.platform::VARCHAR, c.action, count(*),
    sum(c.hits)::BIGINT
FROM clicked AS c JOIN stage.numbered AS r USING (notification)
GROUP BY r.tenant, r.notification_id, r.domain, r.accepted_at, c.platform, c.action
ORDER BY r.accepted_at, r.tenant, r.notification_id, c.platform, c.action;

INSERT INTO report.facts.consumed
SELECT r.tenant, r.domain, r.notification_id, date_trunc('second', d.accepted_at) AS second_at, count(*)
FROM deliveries AS d JOIN stage.numbered AS r USING (notification)
WHERE r.domain IS NOT NULL AND d.outcome = 'accepted' AND NOT d.by_beacon
GROUP BY ALL
ORDER BY second_at, r.tenant, r.domain, r.notification_id;

INSERT INTO report.facts.foreign_beacons
SELECT b.notification_id, coalesce(min(r.accepted_at), min(b.first_at))::DATE, count(*), sum(b.lines)::BIGINT
FROM beacons AS b
LEFT JOIN (SELECT notification_id, min(accepted_at) AS accepted_at FROM stage.requests GROUP BY ALL) AS r
    USING (notification_id)
ANTI JOIN (FROM attempts JOIN stage.numbered USING (notification) WHERE is_call) AS a
    USING (notification_id, delivery_id)
GROUP BY b.notification_id
ORDER BY b.notification_id;
