-- The report database: facts that the models fill. A row belongs to a day: a notification's to that of its acceptance, by
-- tenant and notification_id; a row that is of no notification has a day of its own.
CREATE SCHEMA report.facts;

CREATE TABLE report.facts.notifications (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    request_id VARCHAR NOT NULL,
    type VARCHAR NOT NULL,
    category VARCHAR,
    priority VARCHAR NOT NULL,
    title VARCHAR,
    topics VARCHAR[] NOT NULL,
    domain VARCHAR,
    is_dry_run BOOLEAN NOT NULL,
    accepted_at TIMESTAMPTZ NOT NULL,
    send_at TIMESTAMPTZ,
    expires_at TIMESTAMPTZ NOT NULL,
    state VARCHAR NOT NULL,
    finished_at TIMESTAMPTZ,
    last_attempt_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    platforms VARCHAR[] NOT NULL,
    audience BIGINT NOT NULL,
    attempted BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    accepted_by_beacon BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    throttled BIGINT NOT NULL,
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

CREATE TABLE report.facts.platform_reports (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    accepted_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    channel VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    audience BIGINT NOT NULL,
    attempted BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    accepted_by_beacon BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    throttled BIGINT NOT NULL,
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

CREATE TABLE report.facts.timeline (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    bucket_s BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    received BIGINT NOT NULL
);

CREATE TABLE report.facts.failures (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    channel VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    outcome VARCHAR NOT NULL,
    provider_code VARCHAR NOT NULL,
    attempts BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    first_at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL
);

-- Clicks on the actions (buttons) that a notification has. With the notification's domain and acceptance, so that a
-- domain's are added up without a join.
CREATE TABLE report.facts.actions (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    domain VARCHAR,
    accepted_at TIMESTAMPTZ NOT NULL,
    platform VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    clicked BIGINT NOT NULL,
    hits BIGINT NOT NULL
);

-- When providers accepted a domain's deliveries, by the second: a message's are accepted within a few.
CREATE TABLE report.facts.consumed (
    tenant VARCHAR NOT NULL,
    domain VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    second_at TIMESTAMPTZ NOT NULL,
    accepted BIGINT NOT NULL
);

-- How long a notification's deliveries took, stage by stage.
CREATE TABLE report.facts.latencies (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    channel VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    deliveries BIGINT NOT NULL,
    p50_s DOUBLE NOT NULL,
    p90_s DOUBLE NOT NULL,
    p99_s DOUBLE NOT NULL,
    max_s DOUBLE NOT NULL
);

-- A notification's calls of providers, by the hour in which they were made, what became of them, and how long the
-- answer took: between 2^((bucket - 1) / 8) and 2^(bucket / 8) milliseconds. Unlike percentiles, these counts add up.
CREATE TABLE report.facts.calls (
    tenant VARCHAR NOT NULL,
    notification_id VARCHAR NOT NULL,
    hour_at TIMESTAMPTZ NOT NULL,
    channel VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    outcome VARCHAR NOT NULL,
    bucket SMALLINT,
    attempts BIGINT NOT NULL,
    answer_us BIGINT,
    slowest_us BIGINT
);

-- Beacons that belong to no delivery of the notification that they name. Their day is that of the first notification of
-- that name, or that of the first beacon if there is none.
CREATE TABLE report.facts.foreign_beacons (
    notification_id VARCHAR NOT NULL,
    day DATE NOT NULL,
    deliveries BIGINT NOT NULL,
    hits BIGINT NOT NULL
);

-- Changes of registered tokens by the day (UTC) on which the API heard of them.
CREATE TABLE report.facts.token_days (
    day DATE NOT NULL,
    tenant VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    registered BIGINT NOT NULL,
    refreshed BIGINT NOT NULL,
    unregistered BIGINT NOT NULL,
    dropped BIGINT NOT NULL
);

-- Built with the version; kept in its manifest.
CREATE TABLE report.main.build (
    version BIGINT NOT NULL,
    built_at TIMESTAMPTZ NOT NULL,
    received_through TIMESTAMPTZ,
    settled_through TIMESTAMPTZ,
    files BIGINT NOT NULL,
    recomputed BIGINT NOT NULL,
    foreign_deliveries BIGINT NOT NULL,
    foreign_hits BIGINT NOT NULL
);
