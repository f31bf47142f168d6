-- How long deliveries took, by stage: exact percentiles, from the microseconds of each. A stage without deliveries that
-- went through it has no row. Stage by stage, so that only one's values are in memory at a time.
DELETE FROM report.facts.latencies WHERE notification_id IN (SELECT notification_id FROM stage.affected);

CREATE OR REPLACE TEMP TABLE spans AS
SELECT notification, channel, platform, provider, 'queued' AS stage, count(*) AS deliveries,
    quantile_cont(queued_us, [0.5, 0.9, 0.99]) AS us, max(queued_us) AS max_us
FROM deliveries WHERE queued_us IS NOT NULL GROUP BY ALL;

INSERT INTO spans
SELECT notification, channel, platform, provider, 'provider', count(*),
    quantile_cont(provider_us, [0.5, 0.9, 0.99]), max(provider_us)
FROM deliveries WHERE provider_us IS NOT NULL GROUP BY ALL;

INSERT INTO spans
SELECT notification, channel, platform, provider, 'device', count(*),
    quantile_cont(device_us, [0.5, 0.9, 0.99]), max(device_us)
FROM deliveries WHERE device_us IS NOT NULL GROUP BY ALL;

INSERT INTO spans
SELECT notification, channel, platform, provider, 'total', count(*),
    quantile_cont(total_us, [0.5, 0.9, 0.99]), max(total_us)
FROM deliveries WHERE total_us IS NOT NULL GROUP BY ALL;

INSERT INTO report.facts.latencies
SELECT r.tenant, r.notification_id, s.channel::VARCHAR, s.platform::VARCHAR, s.provider::VARCHAR, s.stage, s.deliveries,
    s.us[1] / 1e6, s.us[2] / 1e6, s.us[3] / 1e6, s.max_us / 1e6
FROM spans AS s JOIN stage.numbered AS r USING (notification)
ORDER BY r.accepted_at, r.tenant, r.notification_id, s.channel, s.platform, s.provider, s.stage;
