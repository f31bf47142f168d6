"""Browsers beside phones: real channels, the real engine, the sandbox's browsers."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests as http

from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core import vapid
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import devices
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.push_subscriptions import Subscription, from_base64url, subscription_of, token_of
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Platform, RequestState
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.sandbox.tokens import fcm_token
from tests.delivery.fakes import TENANT, accept, context, land, rows_of, utc_now
from tests.delivery.test_broadcast import routed
from tests.delivery.test_drain import drain_to_end, found
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The control address of a sandbox that these tests share."""
    with running_sandbox(Settings(home=tmp_path_factory.mktemp("sandbox"))) as url:
        yield url


def opened(ledger: Ledger, lake: Lake, sandbox: str) -> DeliveryContext:
    ctx = context(ledger, lake, sandbox_url=sandbox, retry_base_s=0.1)
    return replace(ctx, open_channels=partial(open_channels, ctx.settings, ledger))


def subscribe(ledger: Ledger, sandbox: str, topics: tuple[str, ...] = ()) -> str:
    """Subscribe a browser with this installation's key, and register it; return its token."""
    key = vapid.public_text(vapid.installation_key(Settings(), ledger))
    made = http.post(f"{sandbox}/webpush/subscriptions", json={"applicationServerKey": key}, timeout=PATIENCE_S).json()
    keys = {name: from_base64url(text) for name, text in made["keys"].items()}
    token = token_of(Subscription(made["endpoint"], **keys))
    devices.register(ledger, TENANT, Registration(token, Platform.WEBPUSH, "u", topics), utc_now())
    return token


def unsubscribe(token: str) -> None:
    """Take the permission back in the browser."""
    subscription = subscription_of(token)
    assert subscription is not None
    http.delete(subscription.endpoint.replace("/push/", "/subscriptions/"), timeout=PATIENCE_S).raise_for_status()


def said(sandbox: str, notification_id: str) -> dict[str, dict[str, Any]]:
    """What the sandbox got of a send, by recipient."""
    lines = http.get(f"{sandbox}/log?since=0", timeout=PATIENCE_S).content.splitlines()
    mine = [line for line in map(orjson.loads, lines) if line["notification_id"] == notification_id]
    assert len({line["recipient"] for line in mine}) == len(mine), "nobody got it twice"
    return {line["recipient"]: line for line in mine}


def test_a_users_browsers_and_phones_get_a_send_and_a_browser_that_is_gone_is_dropped(
    ledger: Ledger, folder_lake: Lake, sandbox: str
) -> None:
    ctx = opened(ledger, folder_lake, sandbox)
    here, gone = subscribe(ledger, sandbox), subscribe(ledger, sandbox)
    unsubscribe(gone)
    phone = fcm_token("phone")
    devices.register(ledger, TENANT, Registration(phone, Platform.ANDROID, "u", ()), utc_now())
    request_id = accept(ledger, users=["u"])
    drain_to_end(ctx, request_id)
    sent = found(ledger, request_id)
    assert sent.state is RequestState.DONE
    assert sent.counts["webpush"] == {"audience": 2, "pending": 0, "accepted": 1, "invalid_recipient": 1}
    assert sent.counts["fcm"]["accepted"] == 1
    assert set(said(sandbox, sent.notification_id)) == {here, phone}
    assert devices.get(ledger, TENANT, gone) is None
    assert devices.get(ledger, TENANT, here) is not None
    land(ledger, folder_lake)
    attempts = {row["recipient"]: row for row in rows_of(folder_lake, "attempts")}
    assert {attempts[token]["platform"] for token in (here, gone)} == {"webpush"}
    assert {attempts[token]["provider"] for token in (here, gone)} == {"webpush"}
    assert (attempts[gone]["outcome"], attempts[gone]["provider_code"]) == ("invalid_recipient", "http_410")
    assert attempts[here]["provider_message_id"]
    (audience,) = [row for row in rows_of(folder_lake, "audiences") if row["channel"] == "webpush"]
    assert (audience["platform"], audience["recipients"]) == ("webpush", 2)


def test_a_broadcast_to_a_topic_reaches_browsers(ledger: Ledger, folder_lake: Lake, sandbox: str) -> None:
    ctx = opened(ledger, folder_lake, sandbox)
    tokens = [subscribe(ledger, sandbox, ("t",)) for _ in range(12)]
    unsubscribe(tokens[0])
    land(ledger, folder_lake)
    request_id = routed(ctx, topics=["t"])
    (ref,) = broadcast.snapshot(ctx, request_id)
    totals = broadcast.send_shard(ctx, request_id, ref.shard)
    assert totals.outcomes == {"accepted": 11, "invalid_recipient": 1}
    sent = found(ledger, request_id)
    assert set(said(sandbox, sent.notification_id)) == set(tokens[1:])
    assert devices.get(ledger, TENANT, tokens[0]) is None


def test_a_push_service_that_throttles_is_waited_for(sqlite_ledger: Ledger, folder_lake: Lake, tmp_path: Path) -> None:
    with running_sandbox(Settings(home=tmp_path / "throttling")) as sandbox:
        ctx = opened(sqlite_ledger, folder_lake, sandbox)
        tokens = [subscribe(sqlite_ledger, sandbox) for _ in range(20)]
        faults = {"webpush": {"quota": 15, "quota_window_s": 2}}
        http.put(f"{sandbox}/faults", json=faults, timeout=PATIENCE_S).raise_for_status()
        request_id = accept(sqlite_ledger, users=["u"])
        drain_to_end(ctx, request_id)
        sent = found(sqlite_ledger, request_id)
        assert sent.counts["webpush"] == {"audience": 20, "pending": 0, "accepted": 20}
        lines = http.get(f"{sandbox}/log?since=0", timeout=PATIENCE_S).content.splitlines()
        taken = [line["recipient"] for line in map(orjson.loads, lines) if line["status"] == 201]
        assert sorted(taken) == sorted(tokens)
