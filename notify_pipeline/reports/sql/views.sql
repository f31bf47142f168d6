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
