-- What people read. How far the logs have been read moves with every build, so it is joined and not stored per row.
CREATE VIEW report.main.notifications AS
SELECT
    n.*,
    b.received_through,
    coalesce(
        n.finished_at IS NOT NULL
        AND b.received_through >= greatest(n.finished_at, n.last_attempt_at) + to_microseconds((b.settle_s * 1e6)::BIGINT),
        FALSE
    ) AS settled
FROM facts.notifications AS n CROSS JOIN main.build AS b;

CREATE VIEW report.main.platform_reports AS
SELECT
    p.*,
    b.received_through,
    coalesce(
        n.finished_at IS NOT NULL
        AND b.received_through >= greatest(n.finished_at, n.last_attempt_at) + to_microseconds((b.settle_s * 1e6)::BIGINT),
        FALSE
    ) AS settled
FROM facts.platform_reports AS p
JOIN facts.notifications AS n USING (tenant, notification_id)
CROSS JOIN main.build AS b;

CREATE VIEW report.main.timeline AS SELECT * FROM facts.timeline;
CREATE VIEW report.main.failures AS SELECT * FROM facts.failures;
