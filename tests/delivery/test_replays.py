"""Replays through everything: real channels to the sandbox, a drain, the API, and what devices say they showed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests as http

from ingest_api.app import create_app
from ingest_api.services import Services
from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.sandbox.tokens import apns_token, fcm_token
from tests.delivery.fakes import context
from tests.delivery.test_drain import drain_until
from tests.ingest_api.conftest import Api
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S

ANDROIDS = [fcm_token(f"a{n}") for n in range(12)]
IPHONES = [apns_token(f"i{n}") for n in range(8)]


@dataclass
class Installation:
    """An API and a drain on one ledger, and a sandbox."""

    api: Api
    ctx: DeliveryContext
    sandbox: str

    def fail(self, **faults: Any) -> None:
        answer = http.put(f"{self.sandbox}/faults", json={"fcm": faults, "apns": faults}, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text

    def drain(self, *request_ids: str) -> list[dict[str, Any]]:
        """Run a drain until these requests have ended; return them."""
        drain_until(self.ctx, lambda: all(self._of(each)["state"] in ("done", "failed") for each in request_ids), 60)
        return [self._of(each) for each in request_ids]

    def shown(self) -> tuple[Counter[str], Counter[str]]:
        """Return how often each device got a push, and how often it showed one."""
        with http.post(f"{self.sandbox}/cdn/flush", timeout=PATIENCE_S) as flushed:
            assert flushed.status_code == 200
        lines = [
            orjson.loads(line)
            for line in http.get(f"{self.sandbox}/devices/log", timeout=PATIENCE_S).content.splitlines()
        ]
        got = Counter(line["recipient"] for line in lines if line["received"])
        return got, Counter(line["recipient"] for line in lines if line["shown"])

    def dead(self, query: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.api.ok("GET", f"/dead-letters?limit=500{query}")["items"]
        return items

    def _of(self, request_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.api.ok("GET", f"/requests/{request_id}")
        return shown


@pytest.fixture
def installed(ledger: Ledger, ledger_url: str, tmp_path: Path) -> Iterator[Installation]:
    with running_sandbox(Settings(home=tmp_path / "sandbox")) as url:
        services = Services(Settings(home=tmp_path, ledger_url=ledger_url))
        product = tenants.create_product(ledger, "mine", (), utc_now())
        ctx = context(ledger, Lake(f"{tmp_path}/lake"), sandbox_url=url, retry_attempts=2, request_timeout_s=5.0)
        ctx = replace(ctx, open_channels=partial(open_channels, ctx.settings, ledger))
        api = Api(create_app(services=services).test_client(), product.secret_key)
        for platform, tokens in (("android", ANDROIDS), ("ios", IPHONES)):
            for token in tokens:
                api.ok("POST", "/devices", {"token": token, "platform": platform, "user_id": "u", "topics": []})
        yield Installation(api, ctx, url)
        services.close()


def test_an_outage_is_replayed_and_everybody_gets_it_once(installed: Installation) -> None:
    installed.fail(unavailable=1, retry_after_s=0)
    body = {"id": "n-1", "type": "news", "users": ["u"], "content": {"title": "Hello"}}
    first = installed.api.ok("POST", "/notifications", body)["request_id"]
    assert installed.drain(first)[0]["state"] == "failed"
    assert Counter(each["recipient"] for each in installed.dead()) == Counter([*ANDROIDS, *IPHONES])
    assert installed.shown() == (Counter(), Counter())
    done = installed.api.ok("POST", "/dead-letters/replay", {"filter": {"request_id": first}})
    made = {each["channel"]: each for each in done["requests"]}
    assert {channel: each["dead_letters"] for channel, each in made.items()} == {"fcm": 12, "apns": 8}
    # Still down: what dies again makes its own letters, linked to the replay.
    again = installed.drain(*(each["request_id"] for each in made.values()))
    assert [each["state"] for each in again] == ["failed", "failed"]
    assert Counter(each["request_id"] for each in installed.dead("&replayed=false")) == Counter(
        {each["request_id"]: each["dead_letters"] for each in made.values()}
    )
    installed.fail()
    done = installed.api.ok("POST", "/dead-letters/replay", {"filter": {}})
    assert (len(done["requests"]), done["left"]) == (2, 0)
    ended = installed.drain(*(each["request_id"] for each in done["requests"]))
    assert {channel: counts["accepted"] for each in ended for channel, counts in each["channels"].items()} == {
        "fcm": 12,
        "apns": 8,
    }
    once = Counter([*ANDROIDS, *IPHONES])
    assert installed.shown() == (once, once)
    assert installed.dead("&replayed=false") == []


def test_a_device_that_had_got_it_after_all_shows_it_once(installed: Installation) -> None:
    # Accepted and handed to the device, but every answer is lost: two attempts that nobody knows the end of.
    installed.fail(reset_after_processing=1)
    body = {"type": "news", "users": ["u"], "content": {"title": "Hello"}}
    first = installed.api.ok("POST", "/notifications", body)["request_id"]
    installed.drain(first)
    assert {(each["outcome"], each["reason"]) for each in installed.dead()} == {("ambiguous", "attempts_exhausted")}
    installed.fail()
    done = installed.api.ok("POST", "/dead-letters/replay", {"filter": {}})
    installed.drain(*(each["request_id"] for each in done["requests"]))
    got, shown = installed.shown()
    everybody = Counter([*ANDROIDS, *IPHONES])
    # A lost connection takes some requests with it that nobody had processed yet.
    assert set(got) == set(everybody) and max(got.values()) >= 2
    assert shown == everybody
