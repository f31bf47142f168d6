"""The same logs parsed with chdb (ClickHouse in a process): what ``benchmarks.receipts`` compares itself with.

Belongs here: the SQL. It reads gzip files of lines, parses their JSON and query strings, checks what the rule checks,
and writes Parquet: events, and quarantined lines with their reasons. Run by ``benchmarks.receipts`` with a folder of
chdb's own on the path, since it is no dependency of this project; prints its seconds and counts as JSON.

What SQL leaves out of the rule is work that it is spared: line numbers, repeated fields, bytes that are no UTF-8 and
encoded NULs (it writes them as they are), what can be saved of a damaged file (it would fail as a whole), a result per
log file, to be replaced when the file is, and fsync.

    python -m benchmarks.receipts_chdb <glob of log files> <output folder> <latest moment>
"""

import json
import sys
import time
from pathlib import Path

_SETTINGS = "SETTINGS output_format_parquet_compression_method = 'zstd', engine_file_truncate_on_insert = 1"
_RECORD = (
    "Tuple("
    + ", ".join(
        (
            "datetime Nullable(String)",
            "event Nullable(String)",
            "querystring Nullable(String)",
            "method Nullable(String)",
            "status Nullable(UInt16)",
        )
    )
    + ")"
)
_SQL = """
INSERT INTO FUNCTION file('{out}/{{_partition_id}}.parquet', 'Parquet') PARTITION BY kind
WITH
    JSONExtract(line, '{record}') AS r,
    indexOf(['/notification/received', '/notification/opened', '/notification/clicked'], r.event) AS n,
    concat('?', r.querystring) AS q,
    decodeURLFormComponent(extractURLParameter(q, 'notificationId')) AS notification,
    decodeURLFormComponent(extractURLParameter(q, 'platform')) AS its_platform,
    decodeURLFormComponent(extractURLParameter(q, 'provider')) AS its_provider,
    decodeURLFormComponent(extractURLParameter(q, 'd')) AS d,
    decodeURLFormComponent(extractURLParameter(q, 'action')) AS its_action,
    parseDateTime64BestEffortOrNull(r.datetime, 6, 'UTC') AS moment,
    multiIf(
        r.event IS NULL AND NOT isValidJSON(line), 'broken_json',
        r.event IS NULL, 'missing_field',
        n = 0 OR r.status >= 400 AND r.status != 499 OR r.method NOT IN ('GET', 'POST'), 'other',
        r.datetime IS NULL OR r.querystring IS NULL, 'missing_field',
        moment IS NULL, 'bad_time',
        moment > toDateTime64('{latest}', 6, 'UTC'), 'future_time',
        notification = '' OR its_platform = '' OR its_provider = '' OR d = '', 'missing_field',
        its_platform NOT IN ('ios', 'android', 'web'), 'unknown_platform',
        NOT match(d, '^[0-9a-f]{{40}}$'), 'bad_delivery_id',
        '') AS reason
SELECT
    if(reason = '', 'events', 'quarantine') AS kind,
    if(reason = '', ['received', 'opened', 'clicked'][n], '') AS event,
    if(reason = '', notification, '') AS notification_id,
    if(reason = '', its_platform, '') AS platform,
    if(reason = '', its_provider, '') AS provider,
    if(reason = '', d, '') AS delivery_id,
    if(reason = '', moment, NULL) AS at,
    if(n = 3 AND match(its_action, '^[A-Za-z0-9._-]{{1,64}}$'), its_action, NULL) AS action,
    reason,
    if(reason = '', '', substring(line, 1, 1024)) AS raw
FROM file('{files}', 'LineAsString', 'line String')
WHERE NOT (reason = 'other' OR empty(trimBoth(line)))
{settings}
"""
_COUNT = "SELECT kind, count() FROM file('{out}/*.parquet', 'Parquet') GROUP BY kind FORMAT JSONCompactEachRow"


def main() -> None:
    import chdb  # from the benchmark's own packages

    files, out, latest = sys.argv[1:]
    Path(out).mkdir(parents=True, exist_ok=True)
    chdb.query("SELECT 1")
    begin = time.perf_counter()
    chdb.query(_SQL.format(files=files, out=out, latest=latest, record=_RECORD, settings=_SETTINGS))
    seconds = time.perf_counter() - begin
    counts = dict(json.loads(row) for row in str(chdb.query(_COUNT.format(out=out))).splitlines())
    print(json.dumps({"seconds": seconds, **{kind: int(count) for kind, count in counts.items()}}))


if __name__ == "__main__":
    main()
