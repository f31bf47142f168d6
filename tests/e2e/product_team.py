"""What a product team does in its first week, on a running system and over HTTP only; ``test_crashes`` has one."""

import base64
import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from notify_pipeline.commands.demo.system import RunningSystem
from notify_pipeline.commands.demo.traffic import Api
from tests.waiting import wait_for

FINAL = ("done", "failed", "cancelled", "expired", "unrouted")


class Receiver:
    """An endpoint of the team's own that keeps what it was told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: list[tuple[dict[str, str], bytes]] = []

    def states(self, secret: str) -> dict[str, list[str]]:
        """Return what was told of each notification; every signature must be right."""
        found: dict[str, list[str]] = {}
        for headers, body in list(self.told):
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            key = base64.b64decode(secret.removeprefix("whsec_"))
            right = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
            assert f"v1,{right}" in headers["webhook-signature"].split()
            data = orjson.loads(body)["data"]
            found.setdefault(data["notification_id"], []).append(data["state"])
        return found


@contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.told.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


def ended(api: Api, accepted: dict[str, Any]) -> dict[str, Any]:
    """Return a send once it has come to its end."""

    def over() -> Any:
        shown = api.expect(200, "GET", accepted["status_url"])
        return shown if shown["state"] in FINAL else None

    found: dict[str, Any] = wait_for(over, what=f"the end of {accepted['notification_id']}")
    return found


def post(api: Api, notification_id: str, **body: Any) -> dict[str, Any]:
    send = {"id": notification_id, "type": "news", "users": ["ada"], "content": {"title": "Hello"}, **body}
    if "template" in send:
        del send["content"]
    accepted: dict[str, Any] = api.expect(202, "POST", "/notifications", send)
    return accepted


def first_week(system: RunningSystem) -> None:
    """From onboarding to the replay of dead letters. The system may call back private addresses."""
    with receiver() as hook:
        admin, sandbox = system.api(system.addresses["admin_key"]), Api(system.addresses["sandbox"])
        product = admin.expect(201, "POST", "/products", {"name": "Daily", "organizations": ["Sport"]})
        team, sport = product["organizations"][0], system.api(product["organizations"][0]["secret_key"])
        owner = system.api(product["secret_key"])
        secret = owner.expect(201, "POST", "/callbacks", {"url": hook.url})["secret"]
        registration = {"token": "cGhvbmU:" + "a" * 60, "platform": "android", "user_id": "ada"}
        system.api(team["publishable_key"]).expect(201, "POST", "/devices", registration)

        templates(owner, sport)
        schedules(sport)
        caps(sport)
        quiet(sport)
        letters(sport, sandbox)
        bulk(sport)
        keys(system, owner, sport, product)

        items = sport.expect(200, "GET", "/notifications?limit=100")["items"]
        wait_for(
            lambda: hook.states(secret) == {each["notification_id"]: [each["state"]] for each in items},
            what="a callback for each send",
        )
        histories(owner, items)
        assert owner.expect(200, "GET", "/notifications")["items"] == []
        spanning = owner.expect(200, "GET", "/notifications?include_organizations=true&limit=100")["items"]
        assert spanning == items
        day = sport.expect(200, "GET", "/usage")["days"][-1]
        assert day["requests"] == len(items)


def templates(owner: Api, sport: Api) -> None:
    goal = {"content": {"title": "{{ team }} scores", "body": "{{ score.home }}:{{ score.away }}"}}
    assert owner.expect(200, "PUT", "/templates/goal", goal)["version"] == 1
    missing = sport.call(
        "POST", "/notifications", {"type": "goal", "users": ["ada"], "template": {"name": "goal", "fields": {}}}
    )
    assert missing.status == 422
    assert sorted(each["field"] for each in missing.body["error"]["details"]) == [
        "template.fields.score.away",
        "template.fields.score.home",
        "template.fields.team",
    ]
    fields = {"team": "Ajax", "score": {"home": 2, "away": 1}}
    accepted = post(sport, "goal-1", template={"name": "goal", "fields": fields})
    assert ended(sport, accepted)["state"] == "done"
    shown = sport.expect(200, "GET", "/notifications/goal-1")["request"]
    assert shown["content"] == {"title": "Ajax scores", "body": "2:1"}
    assert shown["template"]["version"] == 1


def schedules(sport: Api) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    waiting = post(sport, "later-1", send_at=tomorrow)
    sport.expect(200, "PATCH", "/notifications/later-1", {"content": {"title": "Changed"}})
    assert sport.expect(200, "DELETE", "/notifications/later-1")["state"] == "cancelled"
    assert sport.expect(202, "POST", "/notifications", {**body_of("later-1"), "send_at": tomorrow})["duplicate"]
    assert ended(sport, waiting)["state"] == "cancelled"
    post(sport, "edited-1", send_at=tomorrow)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    edited = sport.expect(200, "PATCH", "/notifications/edited-1", {"send_at": soon, "content": {"title": "Now"}})
    assert ended(sport, edited)["state"] == "done"
    late = sport.call("DELETE", "/notifications/edited-1")
    assert (late.status, late.body["error"]["code"]) == (409, "already_ended")


def body_of(notification_id: str) -> dict[str, Any]:
    return {"id": notification_id, "type": "news", "users": ["ada"], "content": {"title": "Hello"}}


def caps(sport: Api) -> None:
    sport.expect(200, "PUT", "/policies/frequency-caps/promo", {"count": 1, "period_s": 3600})
    outcomes = []
    for number in range(2):
        end = ended(sport, post(sport, f"promo-{number}", category="promo"))
        (recipient,) = recipients(sport, end)
        outcomes.append((recipient["outcome"], recipient["provider_code"]))
    assert outcomes == [("accepted", None), ("skipped", "frequency_cap")]


def quiet(sport: Api) -> None:
    """It is night wherever one looks: who may wait waits, who may not is left out, and what is urgent goes out."""
    now = datetime.now(UTC)
    night = {
        "from": f"{now - timedelta(hours=1):%H:%M}",
        "until": f"{now + timedelta(hours=6):%H:%M}",
        "timezone": "UTC",
    }
    sport.expect(200, "PUT", "/policies/quiet-hours", night)
    (recipient,) = recipients(sport, ended(sport, post(sport, "quiet-1", quiet_hours="skip")))
    assert (recipient["outcome"], recipient["provider_code"]) == ("skipped", "quiet_hours")
    (recipient,) = recipients(sport, ended(sport, post(sport, "quiet-2", quiet_hours="ignore")))
    assert recipient["outcome"] == "accepted"
    (recipient,) = recipients(sport, ended(sport, post(sport, "quiet-3", ttl=3600)))
    assert (recipient["outcome"], recipient["provider_code"]) == ("skipped", "quiet_hours")
    sport.expect(204, "DELETE", "/policies/quiet-hours")


def recipients(api: Api, send: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.expect(200, "GET", f"{send['status_url']}/recipients")["items"]
    return found


def letters(sport: Api, sandbox: Api) -> None:
    sport.expect(200, "PUT", "/policies/retry/fcm", {"attempts": 2, "base_s": 0.05, "cap_s": 0.1})
    sandbox.expect(200, "PUT", "/faults", {"fcm": {"unavailable": 1.0}})
    failed = ended(sport, post(sport, "outage-1"))
    assert failed["state"] == "failed"
    (letter,) = sport.expect(200, "GET", "/dead-letters?notification_id=outage-1")["items"]
    assert (letter["reason"], letter["attempts"], letter["replayed_as"]) == ("attempts_exhausted", 2, None)
    sandbox.expect(200, "PUT", "/faults", {})
    (replay,) = sport.expect(202, "POST", "/dead-letters/replay", {"filter": {"notification_id": "outage-1"}})[
        "requests"
    ]
    again = ended(sport, {"status_url": f"/requests/{replay['request_id']}", "notification_id": "the replay"})
    assert (again["state"], again["replay_of"]) == ("done", failed["request_id"])
    assert sport.expect(200, "GET", f"/dead-letters/{letter['delivery_id']}")["replayed_as"] == again["request_id"]
    assert sport.expect(200, "GET", "/users/ada/messages")["items"]


def bulk(sport: Api) -> None:
    several = [body_of("bulk-1"), {**body_of("bulk-2"), "priority": "urgent"}, body_of("bulk-3"), body_of("bulk-1")]
    answers = sport.expect(200, "POST", "/notifications/bulk", {"notifications": several})["results"]
    assert [each["status"] for each in answers] == [202, 422, 202, 202]
    for number in (1, 3):
        shown = sport.expect(200, "GET", f"/notifications/bulk-{number}")
        assert ended(sport, shown)["state"] == "done"


def keys(system: RunningSystem, owner: Api, sport: Api, product: dict[str, Any]) -> None:
    organization = product["organizations"][0]["organization_id"]
    made = sport.expect(201, "POST", f"/organizations/{organization}/keys", {"scope": "secret", "label": "CI"})
    fresh = system.api(made["key"])
    fresh.expect(200, "GET", "/limits")
    sport.expect(204, "DELETE", f"/organizations/{organization}/keys/{made['key_id']}")
    assert {fresh.call("GET", "/limits").status for _ in range(50)} == {401}
    owner.expect(200, "PATCH", f"/organizations/{organization}", {"active": False})
    assert sport.call("GET", "/limits").status == 401
    owner.expect(200, "PATCH", f"/organizations/{organization}", {"active": True})
    sport.expect(200, "GET", "/limits")


def histories(owner: Api, items: list[dict[str, Any]]) -> None:
    """The audit tells each send's way, by request and by tenant and time."""
    for each in items:
        trail = owner.expect(200, "GET", f"/requests/{each['request_id']}/audit")["items"]
        moves = [(entry["from_state"], entry["to_state"]) for entry in trail if entry["to_state"]]
        assert moves[0] == (None, "accepted")
        assert all(before[1] == after[0] for before, after in zip(moves, moves[1:], strict=False))
        assert moves[-1][1] == each["state"]
    events = {
        entry["event"] for entry in owner.expect(200, "GET", "/audit?include_organizations=true&limit=500")["items"]
    }
    assert events >= {"key.created", "key.revoked", "policy.set", "request.edited", "request.cancelled"}
