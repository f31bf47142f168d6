-- What became of a tenant's tokens on the affected days. Each change of a token is one row, in however many files.
INSERT INTO report.facts.token_days
SELECT
    day, tenant, platform,
    count(*) FILTER (op = 'upsert' AND previous IS DISTINCT FROM 'upsert') AS registered,
    count(*) FILTER (op = 'upsert' AND previous = 'upsert') AS refreshed,
    count(*) FILTER (op = 'delete' AND previous = 'upsert') AS unregistered,
    count(*) FILTER (op = 'drop' AND previous = 'upsert') AS dropped
FROM stage.registrations
GROUP BY ALL
ORDER BY ALL;
