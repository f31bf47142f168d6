"""The demo's editors and analysts: they read the broadcast's report in every other way there is.

Belongs here: the same figures as timeline, failures, files, an earlier version and a page, held against each other.
Does not belong here: whether they are true (``reconcile``).
"""

import csv
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from notify_pipeline.commands.demo.traffic import Answer, Api

Check = Callable[[str, Answer, int, bool], None]

_FORM = "application/x-www-form-urlencoded"
# A version may be published between two questions, which then differ rightly.
_TRIES = 5
_TIMEOUT_S = 30.0


def judge(api: Api, base: str, key: str, notification_id: str, check: Check) -> None:
    """Say whether a report reads the same everywhere.

    Args:
        api: The tenant's client.
        base: The ingress.
        key: The tenant's secret key.
        notification_id: A notification that is reported on.
        check: Takes what was tried, the answer, the status that it should have, and whether it says what it should.
    """
    path = f"/reports/{notification_id}"
    timeline = api.call("GET", f"{path}/timeline")
    failures = api.call("GET", f"{path}/failures")
    adds_up = _adds_up(api, path, timeline, ("accepted", "received"))
    check("the broadcast's timeline adds up to its report", timeline, 200, adds_up)
    check("... and so do its failures by code", failures, 200, _explains(api, path, failures))
    again = _again(api, path)
    check("the same report again: unchanged, not sent", again, 304, True)
    _files(api, check)
    check("the dashboard, signed in with the key", _page(base, key, notification_id), 200, True)


def _as_of(api: Api, path: str, answer: Answer) -> Mapping[str, Any]:
    """Return the totals of the report in the version that gave an answer."""
    found: dict[str, Any] = api.expect(200, "GET", f"{path}?as_of={quote(answer.body['published_at'])}")
    totals: dict[str, Any] = found["totals"]
    return totals


def _adds_up(api: Api, path: str, answer: Answer, names: tuple[str, ...]) -> bool:
    totals, rows = _as_of(api, path, answer), answer.body["items"]
    return all(sum(row[name] for row in rows) == totals[name] for name in names)


def _explains(api: Api, path: str, answer: Answer) -> bool:
    """Tell whether each recipient that is not accepted ended with one of the codes."""
    totals, rows = _as_of(api, path, answer), answer.body["items"]
    ended = sum(row["deliveries"] for row in rows)
    missing = sum(totals[name] for name in ("failed", "invalid", "ambiguous", "skipped", "expired"))
    # Those that only a beacon proves ended with a code too.
    return bool(missing <= ended <= missing + totals["accepted_by_beacon"])


def _again(api: Api, path: str) -> Answer:
    for _ in range(_TRIES):
        known = api.call("GET", path).headers["ETag"]
        answer = api.call("GET", path, headers={"If-None-Match": known})
        if answer.status == 304:
            break
    return answer


def _files(api: Api, check: Check) -> None:
    """Download every platform's figures of every send twice, as of one version, and compare."""
    published = api.expect(200, "GET", "/reports?limit=1")["published_at"]
    asked = urlencode({"rows": "platforms", "as_of": published})
    rows = list(api.lines(f"/reports.ndjson?{asked}"))
    table = list(csv.DictReader(api.text(f"/reports.csv?{asked}").splitlines()))
    same = [(row["notification_id"], row["platform"], str(row["received"])) for row in rows] == [
        (row["notification_id"], row["platform"], row["received"]) for row in table
    ]
    answer = api.call("GET", f"/reports.csv?{asked}")
    check(f"{len(rows)} rows as NDJSON and as CSV", answer, 200, bool(rows) and same)


def _page(base: str, key: str, notification_id: str) -> Answer:
    """Sign in as a browser does, and open the notification's page."""
    pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT_S)
    headers = {"Content-Type": _FORM, "Origin": base}
    entered = pool.request(
        "POST", f"{base}/dashboard/sign-in", body=urlencode({"key": key}), headers=headers, redirect=False
    )
    cookie = entered.headers.get("Set-Cookie", "").partition(";")[0]
    page = pool.request(
        "GET", f"{base}/dashboard/notifications/{notification_id}", headers={"Cookie": cookie}, redirect=False
    )
    return Answer(page.status, None, page.headers)
