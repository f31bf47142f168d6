"""The sandbox's push service: what it refuses, and what it says. What it takes is in tests/channels/webpush."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from notify_pipeline.channels.webpush.encryption import encrypted
from notify_pipeline.core import vapid
from notify_pipeline.core.push_subscriptions import Subscription, from_base64url
from tests.sandbox.client import Peer
from tests.sandbox.conftest import Start
from tests.waiting import PATIENCE_S

KEY = vapid.key_of(b"k" * 32)


def subscribe(peer: Peer, **body: str) -> Subscription:
    made = requests.post(f"{peer.addresses['webpush_url']}/subscriptions", json=body, timeout=PATIENCE_S).json()
    assert set(made) == {"endpoint", "expirationTime", "keys"}
    return Subscription(made["endpoint"], **{name: from_base64url(text) for name, text in made["keys"].items()})


def signed(peer: Peer, key: Any = KEY, **changes: Any) -> str:
    exp = int(datetime.now(UTC).timestamp()) + 3_600
    claims = {"aud": peer.addresses["control_url"], "exp": exp, "sub": "mailto:a@example.com"} | changes
    token = jwt.encode({name: value for name, value in claims.items() if value is not None}, key, "ES256")
    return f"vapid t={token}, k={vapid.public_text(key)}"


def post(peer: Peer, to: Subscription, body: bytes | None = None, **headers: str | None) -> requests.Response:
    given = {"TTL": "60", "Content-Encoding": "aes128gcm", "Authorization": signed(peer)} | headers
    kept = {name: value for name, value in given.items() if value is not None}
    return requests.post(to.endpoint, body or encrypted(b'{"a": "b"}', to), headers=kept, timeout=PATIENCE_S)


def test_what_is_good_is_taken(sandbox: Peer) -> None:
    to = subscribe(sandbox)
    answer = post(sandbox, to, Urgency="high", Topic="t")
    assert answer.status_code == 201
    assert answer.headers["Location"].startswith(sandbox.addresses["control_url"])
    (line,) = sandbox.lines("/log")
    assert line["body"] == {"a": "b"}
    assert line["collapse_id"] == "t"


def test_what_is_refused(sandbox: Peer) -> None:
    to = subscribe(sandbox)
    cases: list[tuple[int, dict[str, str | None]]] = [
        (401, {"Authorization": None}),
        (401, {"Authorization": "Bearer x"}),
        (403, {"Authorization": "vapid t=x, k=y"}),
        (403, {"Authorization": signed(sandbox, aud="https://elsewhere.example")}),
        (403, {"Authorization": signed(sandbox, exp=1)}),
        (403, {"Authorization": signed(sandbox, exp=int(datetime.now(UTC).timestamp()) + 90_000)}),
        (403, {"Authorization": signed(sandbox, exp=None)}),
        (403, {"Authorization": signed(sandbox, sub=None)}),
        (403, {"Authorization": signed(sandbox).replace("k=", "k=BA")}),
        (400, {"TTL": None}),
        (400, {"TTL": "soon"}),
        (400, {"TTL": "99999999"}),
        (400, {"Topic": "x" * 33}),
        (400, {"Urgency": "very"}),
        (415, {"Content-Encoding": None}),
        (415, {"Content-Encoding": "aesgcm"}),
    ]
    for status, headers in cases:
        answer = post(sandbox, to, **headers)
        assert answer.status_code == status, (headers, answer.text)
    assert post(sandbox, to, b"x" * 4_097).status_code == 413
    assert post(sandbox, to, b"x" * 200).status_code == 400, "no browser opens this"
    other = subscribe(sandbox)
    assert post(sandbox, to, encrypted(b"{}", other)).status_code == 400, "this browser cannot open it"
    nobody = to._replace(endpoint=to.endpoint + "x")
    assert post(sandbox, nobody).status_code == 404
    assert not any(line["processed"] for line in sandbox.lines("/log"))
    assert requests.get(sandbox.addresses["control_url"] + "/stats", timeout=PATIENCE_S).json()["webpush"]["403"] == 7


def test_a_subscription_is_bound_to_the_key_it_was_made_with(sandbox: Peer) -> None:
    to = subscribe(sandbox, applicationServerKey=vapid.public_text(KEY))
    assert post(sandbox, to).status_code == 201
    assert post(sandbox, to, Authorization=signed(sandbox, vapid.key_of(b"o" * 32))).status_code == 403
    url = f"{sandbox.addresses['webpush_url']}/subscriptions"
    for bad in ("x", "BA", 1, []):
        assert requests.post(url, json={"applicationServerKey": bad}, timeout=PATIENCE_S).status_code == 422


def test_a_cancelled_subscription_is_gone(sandbox: Peer) -> None:
    to = subscribe(sandbox)
    name = to.endpoint.rpartition("/")[2]
    url = f"{sandbox.addresses['webpush_url']}/subscriptions/{name}"
    assert requests.delete(url, timeout=PATIENCE_S).status_code == 204
    assert post(sandbox, to).status_code == 410
    assert requests.get(url, timeout=PATIENCE_S).status_code == 404


def test_subscriptions_outlive_a_restart(start: Start, tmp_path: Path) -> None:
    with start(tmp_path) as peer:
        to = subscribe(peer)
    with start(tmp_path) as peer:
        assert post(peer, to).status_code == 201


@pytest.mark.parametrize(("fault", "status"), [("throttled", 429), ("unavailable", 503), ("internal", 500)])
def test_faults(sandbox: Peer, fault: str, status: int) -> None:
    faults = {"webpush": {fault: 1, "retry_after_s": 9, "latency_ms": 5}}
    requests.put(sandbox.addresses["control_url"] + "/faults", json=faults, timeout=PATIENCE_S).raise_for_status()
    answer = post(sandbox, subscribe(sandbox))
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, "9")
