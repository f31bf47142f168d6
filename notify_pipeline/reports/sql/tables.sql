-- The report tables of one published version. Times are TIMESTAMPTZ in UTC, durations are seconds.
-- A delivery is one recipient of one notification on one channel; it counts once, whatever its retries.

CREATE TABLE notifications (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    request_id VARCHAR NOT NULL,
    type VARCHAR NOT NULL,
    category VARCHAR,
    priority VARCHAR NOT NULL,
    title VARCHAR,
    topics VARCHAR[] NOT NULL,
    is_dry_run BOOLEAN NOT NULL,
    state VARCHAR NOT NULL,
    accepted_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    audience BIGINT NOT NULL,
    attempted BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    invalid BIGINT NOT NULL,
    ambiguous BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    dry_run BIGINT NOT NULL,
    received BIGINT NOT NULL,
    opened BIGINT NOT NULL,
    clicked BIGINT NOT NULL,
    hits BIGINT NOT NULL,
    first_accepted_at TIMESTAMPTZ,
    last_accepted_at TIMESTAMPTZ,
    p50_s DOUBLE,
    p90_s DOUBLE,
    p99_s DOUBLE,
    share_120s DOUBLE,
    received_through TIMESTAMPTZ,
    settled BOOLEAN NOT NULL
);

CREATE TABLE platform_reports (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    accepted_at TIMESTAMPTZ NOT NULL,
    audience BIGINT NOT NULL,
    attempted BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    invalid BIGINT NOT NULL,
    ambiguous BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    dry_run BIGINT NOT NULL,
    received BIGINT NOT NULL,
    opened BIGINT NOT NULL,
    clicked BIGINT NOT NULL,
    hits BIGINT NOT NULL,
    first_accepted_at TIMESTAMPTZ,
    last_accepted_at TIMESTAMPTZ,
    p50_s DOUBLE,
    p90_s DOUBLE,
    p99_s DOUBLE,
    share_120s DOUBLE
);

CREATE TABLE timeline (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    bucket_s INTEGER NOT NULL,
    accepted BIGINT NOT NULL,
    received BIGINT NOT NULL
);

CREATE TABLE failures (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    outcome VARCHAR NOT NULL,
    provider_code VARCHAR NOT NULL,
    deliveries BIGINT NOT NULL
);

COMMENT ON TABLE notifications IS 'One row per notification: what it was, and its figures over all platforms.';
COMMENT ON TABLE platform_reports IS 'One row per notification, platform and provider.';
COMMENT ON TABLE timeline IS 'Deliveries accepted by providers and received by devices, in buckets of ten seconds from acceptance.';
COMMENT ON TABLE failures IS 'Deliveries whose final outcome is not accepted, by what the provider said.';
COMMENT ON COLUMN platform_reports.audience IS 'Recipients that were planned.';
COMMENT ON COLUMN platform_reports.attempted IS 'Deliveries with a final outcome from a provider call: accepted + failed + invalid + ambiguous.';
COMMENT ON COLUMN platform_reports.accepted IS 'Deliveries that the provider accepted, or that a genuine beacon proves.';
COMMENT ON COLUMN platform_reports.failed IS 'Deliveries given up after permanent, transient or throttled answers.';
COMMENT ON COLUMN platform_reports.invalid IS 'Deliveries to recipients that the provider says do not exist.';
COMMENT ON COLUMN platform_reports.ambiguous IS 'Deliveries whose last call got no answer and that no beacon proves.';
COMMENT ON COLUMN platform_reports.received IS 'Distinct deliveries with a received beacon.';
COMMENT ON COLUMN platform_reports.hits IS 'Lines of received beacons, repeats included.';
COMMENT ON COLUMN platform_reports.p50_s IS 'Median seconds from API acceptance to the first received beacon of each delivery.';
COMMENT ON COLUMN platform_reports.share_120s IS 'Share of accepted deliveries received within 120 s of API acceptance.';
COMMENT ON COLUMN timeline.bucket_s IS 'Seconds from API acceptance to the start of the bucket; a multiple of 10.';
COMMENT ON COLUMN notifications.received_through IS 'How far the logs have been read.';
COMMENT ON COLUMN notifications.settled IS 'True once logs are read far enough past the last attempt that no change is expected.';
