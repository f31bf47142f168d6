"""The automation report of a domain with 100 messages and 50,000 contacts, against asking each message's details.

Run ``python -m benchmarks.automation_report``. A real ingress on granian, a real ledger, a published report version.
The messages are posted to the ingress. What the pipeline would then write is written in its place, into the same
tables: the contacts, each message's counts and moves, and its row among the reports of 20,000 other sends; nothing is
sent. Rounds ask for the report once and for the hundred details one after another, over one connection, in turns, so
that a noisy machine disturbs both alike; the two must say the same. The last line is JSON.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, insert, update

from benchmarks.ingress import Server
from notify_pipeline.commands.demo.traffic import Api
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import accepting, requests, tenants
from notify_pipeline.core.ledger.accepting import NewRequest
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.tables import DEVICES, REQUESTS
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import RequestState
from notify_pipeline.reports import versions
from notify_pipeline.reports.composed import attach_empty
from notify_pipeline.reports.database import connect
from notify_pipeline.reports.manifests import Build, Version
from notify_pipeline.reports.segments import write_all
from notify_pipeline.sandbox.tokens import fcm_token

DOMAIN = "shop.example.com"
TARGET_MS = 200.0
OTHERS = 20_000
_PATH = f"/push-contacts/{DOMAIN}/messages"
_PIECE = 1_000
_WAY = (RequestState.ACCEPTED, RequestState.ROUTED, RequestState.SENDING, RequestState.DONE)
_MESSAGE = {
    "title": "Summer sale",
    "body": "Everything at half the price, today only: come in before the doors close.",
    "onClickLink": "https://shop.example.com/sale",
    "actions": [{"action": "buy", "title": "Buy now", "link": "https://shop.example.com/cart"}],
}
_NOTIFICATIONS = """
INSERT INTO report.facts.notifications BY NAME
SELECT
    tenant, notification_id, request_id, type, 'normal' AS priority, title, []::VARCHAR[] AS topics, domain,
    ['web'] AS platforms, FALSE AS is_dry_run, make_timestamptz(accepted_at) AS accepted_at,
    make_timestamptz(expires_at) AS expires_at, 'done' AS state, $contacts AS audience, $contacts AS attempted,
    $contacts AS accepted, 0 AS accepted_by_beacon, 0 AS failed, 0 AS throttled, 0 AS invalid, 0 AS ambiguous,
    0 AS skipped, 0 AS expired, 0 AS dry_run, $contacts // 2 AS received, 0 AS opened, $contacts // 20 AS clicked,
    $contacts // 2 AS hits
FROM requests ORDER BY accepted_at, tenant, notification_id
"""
_ACTIONS = """
INSERT INTO report.facts.actions BY NAME
SELECT
    tenant, notification_id, domain, make_timestamptz(accepted_at) AS accepted_at, 'web' AS platform,
    'buy' AS action, $contacts // 50 AS clicked, $contacts // 50 AS hits
FROM requests WHERE domain IS NOT NULL ORDER BY ALL
"""


def register(ledger: Ledger, tenant: str, contacts: int, now: datetime) -> None:
    """Write a domain's contacts."""

    def handler(conn: Connection, pieces: Sequence[range]) -> list[None]:
        for piece in pieces:
            conn.execute(insert(DEVICES), [_contact(tenant, number, at) for number in piece])
        return [None for _ in pieces]

    at = to_micros(now)
    for start in range(0, contacts, _PIECE):
        ledger.write(handler, range(start, min(start + _PIECE, contacts)))


def _contact(tenant: str, number: int, at: int) -> dict[str, Any]:
    times = {"created_at": at, "registered_at": at, "changed_at": at}
    about = {"domain": DOMAIN, "email": f"reader{number}@example.com", "visitor_guid": f"v-{number}"}
    row = {"tenant": tenant, "token": fcm_token(str(number)), "platform": "web", "topics": "[]", "revision": 1}
    return {**row, **about, **times, "op": "upsert"}


def accept_others(ledger: Ledger, tenant: str, now: datetime) -> None:
    """Accept sends of the same tenant that are for others, over the days before."""
    for start in range(0, OTHERS, _PIECE):
        numbers = range(start, start + _PIECE)
        moments = {number: now - timedelta(minutes=OTHERS - number) for number in numbers}
        body = {"type": "news", "topics": ["uk"], "content": {"title": "News"}}
        news = [NewRequest(tenant, f"n-{n}", body, at, at + timedelta(days=1)) for n, at in moments.items()]
        accepting.accept_many(ledger, news)


def message_to(visitors: int) -> tuple[str, dict[str, Any]]:
    """Return where a message to so many visitors is posted, and its body; 0: to all contacts."""
    if not visitors:
        return f"/push-contacts/{DOMAIN}/message", _MESSAGE
    named = [{"visitorGuid": f"v-{number}", "fields": {"first_name": "Ada"}} for number in range(visitors)]
    return f"/push-contacts/{DOMAIN}/visitors/message", {**_MESSAGE, "visitors": named}


def finish(ledger: Ledger, request_ids: Sequence[str], contacts: int) -> None:
    """Write what sending leaves in the ledger: counts, and the moves with their audit."""

    def handler(conn: Connection, items: Sequence[str]) -> list[None]:
        now = utc_now()
        for number, request_id in enumerate(items):
            dead = number % 50
            counts = {
                "fcm": {"audience": contacts, "pending": 0, "accepted": contacts - dead, "invalid_recipient": dead}
            }
            for before, after in zip(_WAY, _WAY[1:], strict=False):
                requests.move(conn, request_id, [before], after, now=now, actor="bench", detail={"counts": counts})
            mine = REQUESTS.c.request_id == request_id
            conn.execute(update(REQUESTS).where(mine).values(counts=orjson.dumps(counts).decode()))
        return [None for _ in items]

    for request_id in request_ids:
        ledger.write(handler, request_id)


def publish(ledger: Ledger, root: Path, contacts: int) -> None:
    """Publish a report version that has all requests of the ledger."""
    names = ("tenant", "notification_id", "request_id", "type", "domain", "accepted_at", "expires_at")
    query = f"SELECT {', '.join(names)}, 'A title' AS title FROM read_json_auto($path)"  # noqa: S608 - constants
    folder = versions.building(root) / "first"
    folder.mkdir()
    rows = folder / "requests.ndjson"
    with ledger.read() as conn, rows.open("wb") as file:
        for row in conn.execute(REQUESTS.select()).mappings():
            file.write(orjson.dumps({name: row[name] for name in names}) + b"\n")
    connection = connect("500MB", 2)
    facts = attach_empty(connection)
    connection.execute(f"CREATE TEMP TABLE requests AS {query}", {"path": str(rows)})
    connection.execute(_NOTIFICATIONS, {"contacts": contacts})
    connection.execute(_ACTIONS, {"contacts": contacts})
    segments = write_all(connection, facts, folder)
    connection.close()
    now = utc_now()
    versions.publish(root, Version(1, now, "", Build(1, now, now, now, 0, 0, 0, 0), segments), folder, 2, 0)


def timed(api: Api, path: str) -> tuple[float, Any]:
    """Return the milliseconds that an answer takes, and the answer."""
    begin = time.perf_counter()
    body = api.expect(200, "GET", path)
    return (time.perf_counter() - begin) * 1e3, body


def measure(api: Api, messages: int, rounds: int) -> dict[str, list[float]]:
    """Ask for the report and for each message's details in turns; return the milliseconds of each round."""
    times: dict[str, list[float]] = {"report": [], "details": []}
    ids = [each["messageId"] for each in api.expect(200, "GET", f"{_PATH}?limit={messages}")["items"]]
    for _ in range(rounds):
        took, report = timed(api, f"{_PATH}?limit={messages}")
        answers = [timed(api, f"{_PATH}/{message_id}/details") for message_id in ids]
        if len(ids) != messages or report["items"] != [body for _, body in answers]:
            raise RuntimeError("the report is not the details of all messages")
        if any(each["sent"] != each["delivered"] + each["notDelivered"] for each in report["items"]):
            raise RuntimeError("sent is not delivered and not delivered")
        times["report"].append(took)
        times["details"].append(sum(took for took, _ in answers))
    return times


def run(arguments: argparse.Namespace, home: Path) -> dict[str, float]:
    """Make the world, measure, and return the figures."""
    settings = Settings(home=home)
    with Ledger.open(settings.ledger_dsn) as ledger:
        product = tenants.create_product(ledger, "bench", (), utc_now())
        register(ledger, product.tenant, arguments.contacts, utc_now())
        accept_others(ledger, product.tenant, utc_now())
        server = Server("ingest_api.worker:create_app", home, 1, 4)
        try:
            server.wait("/readyz")
            api = Api(f"http://127.0.0.1:{server.port}", product.secret_key)
            api.expect(200, "PUT", f"/domains/{DOMAIN}", {"isPushFeatureEnabled": True})
            path, body = message_to(arguments.visitors)
            sent = [api.expect(202, "POST", path, body)["requestId"] for _ in range(arguments.messages)]
            finish(ledger, sent, arguments.contacts)
            publish(ledger, settings.reports, arguments.contacts)
            cold_ms = timed(api, f"{_PATH}?limit={arguments.messages}")[0]
            times = measure(api, arguments.messages, arguments.rounds)
        finally:
            server.stop()
    report, details = times["report"], times["details"]
    return {
        "details_to_report": round(statistics.median(d / r for r, d in zip(report, details, strict=True)), 1),
        "report_p50_ms": round(statistics.median(report), 1),
        "report_max_ms": round(max(report), 1),
        "report_first_ms": round(cold_ms, 1),
        "details_p50_ms": round(statistics.median(details), 1),
        "target_ms": TARGET_MS,
        "messages": arguments.messages,
        "contacts": arguments.contacts,
        "visitors_named": arguments.visitors,
        "rounds": arguments.rounds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--contacts", type=int, default=50_000)
    parser.add_argument("--visitors", type=int, default=0, help="each message names so many; by default it is for all")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-automation-") as folder:
        figures = run(arguments, Path(folder))
    print(orjson.dumps(figures).decode())
    return 0 if figures["report_p50_ms"] < TARGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
