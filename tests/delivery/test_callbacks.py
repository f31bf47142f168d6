"""A drain tells callbacks: signed, until they have been told, at least once, and nobody who should not be."""

import asyncio
import base64
import hashlib
import hmac
import logging
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any

import pytest
from sqlalchemy import select, update

from notify_pipeline.channels import public_http
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import callback_claims, callback_messages, callbacks, devices, requests, tenants
from notify_pipeline.core.ledger.callback_messages import Message
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.requests import NewRequest
from notify_pipeline.core.ledger.tables import AUDIT
from notify_pipeline.core.ledger.tenant_tables import TENANTS
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import CallbackEvent, Channel, MessageState, Outcome, Platform
from notify_pipeline.delivery import callback_sending
from notify_pipeline.delivery.callback_schedule import WAITS
from notify_pipeline.delivery.drain import run_drain
from tests.delivery.fakes import FakeSender, context
from tests.delivery.receiver import Received, Receiver
from tests.ingest_api.conftest import change
from tests.waiting import PATIENCE_S, wait_for

ALL = list(CallbackEvent)


@pytest.fixture
def tenant(ledger: Ledger) -> str:
    made = tenants.create_product(ledger, "P", [], utc_now()).tenant
    devices.register(ledger, made, Registration("d1", Platform.ANDROID, user_id="u1"), utc_now())
    return made


@contextmanager
def draining(
    ledger: Ledger, lake: Lake, answer: Outcome = Outcome.ACCEPTED, **settings: Any
) -> Iterator[threading.Event]:
    """Run a drain beside the test; ends when the block does."""
    quick = {"callback_allow_private": True, "callback_retry_base_s": 0.01, "callback_timeout_s": 5.0}
    ctx = context(ledger, lake, FakeSender(Channel.FCM, lambda *_: Outcome.ACCEPTED), **{**quick, **settings})
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            run_drain(ctx, stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert failures == []


def send(ledger: Ledger, tenant: str, notification_id: str, **body: Any) -> str:
    now = datetime.now(UTC)
    content = {"type": "news", "users": ["u1"], "content": {"title": "x"}, **body}
    new = NewRequest(tenant, notification_id, content, now, now + timedelta(hours=1))
    return requests.accept(ledger, new).request_id


def register(ledger: Ledger, tenant: str, url: str, events: Any = ALL) -> tuple[str, str]:
    secret = callbacks.new_secret()
    return callbacks.create(ledger, tenant, url, events, secret, "k", utc_now()).callback_id, secret


def messages(ledger: Ledger, callback_id: str) -> list[Message]:
    return callback_messages.page(ledger, callback_id, None, 500, None)[::-1]


def settled(ledger: Ledger, callback_id: str, number: int = 1) -> list[Message]:
    def over() -> list[Message] | None:
        found = messages(ledger, callback_id)
        ended = [each for each in found if each.ended_at is not None]
        return found if len(found) == len(ended) == number else None

    return wait_for(over, what="all messages over")  # type: ignore[return-value]


def events_of(ledger: Ledger) -> list[str]:
    with ledger.read() as conn:
        found = conn.execute(select(AUDIT.c.event).order_by(AUDIT.c.audit_id)).scalars()
        return [each for each in found if each.startswith("callback")]


def verify(received: Received, *secrets: str) -> None:
    """Check a signature by the specification alone."""
    stamp = received.headers["webhook-timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    content = b".".join([received.headers["webhook-id"].encode(), stamp.encode(), received.body])
    expected = [
        "v1," + base64.b64encode(hmac.new(base64.b64decode(s[6:]), content, hashlib.sha256).digest()).decode()
        for s in secrets
    ]
    assert received.headers["webhook-signature"].split(" ") == expected


def test_a_send_that_ends_is_told_signed_and_once(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    with Receiver() as receiver, draining(ledger, folder_lake):
        callback_id, secret = register(ledger, tenant, f"{receiver.url}/hook?token=x")
        request_id = send(ledger, tenant, "n-1")
        (message,) = settled(ledger, callback_id)
        send(ledger, tenant, "n-2", devices=["unknown"], users=[])
        settled(ledger, callback_id, 2)
    first, second = receiver.received
    assert first.path == "/hook?token=x" and first.headers["content-type"] == "application/json"
    verify(first, secret)
    assert first.id == message.message_id and first.body == message.payload.encode()
    assert (message.state, message.status, message.attempts, message.error) == ("delivered", 204, 1, None)
    assert first.json["type"] == "notification.done"
    assert first.json["data"]["request_id"] == request_id
    assert first.json["data"]["channels"]["fcm"] == {"audience": 1, "pending": 0, "accepted": 1}
    assert second.json["data"]["notification_id"] == "n-2"


def test_it_is_repeated_with_the_same_id_until_it_is_taken(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    answers = [500, (302, {"Location": "/elsewhere"}), 404, 200]
    with Receiver() as receiver, draining(ledger, folder_lake, callback_retry_base_s=0.001):
        receiver.reply = lambda _: answers.pop(0)
        callback_id, secret = register(ledger, tenant, receiver.url)
        send(ledger, tenant, "n-1")
        (message,) = settled(ledger, callback_id)
    assert [each.path for each in receiver.received] == ["/"] * 4
    assert {each.id for each in receiver.received} == {message.message_id}
    assert len({each.body for each in receiver.received}) == 1
    for each in receiver.received:
        verify(each, secret)
    assert (message.state, message.status, message.attempts) == ("delivered", 200, 4)
    assert "callback.failed" not in events_of(ledger)


def test_it_is_given_up_after_the_last_attempt_and_sent_again_by_hand(
    ledger: Ledger, folder_lake: Lake, tenant: str
) -> None:
    with Receiver(lambda _: 500) as receiver, draining(ledger, folder_lake, callback_retry_base_s=0.00001):
        callback_id, _ = register(ledger, tenant, receiver.url)
        callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
        (message,) = settled(ledger, callback_id)
        assert (message.state, message.status, message.error) == ("failed", 500, "refused")
        assert message.attempts == len(receiver.received) == len(WAITS) + 1
        receiver.reply = lambda _: 200
        callback_messages.send_again(ledger, tenant, callback_id, message.message_id, "k", utc_now())
        wait_for(lambda: messages(ledger, callback_id)[0].state == "delivered")
    assert {each.id for each in receiver.received} == {message.message_id}
    assert events_of(ledger) == [f"callback.{each}" for each in ("created", "tested", "failed", "retried")]


def test_a_receiver_that_is_gone_is_told_nothing_more(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    with Receiver(lambda _: 410) as receiver:
        callback_id, _ = register(ledger, tenant, receiver.url)
        for _ in range(5):
            callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
        with draining(ledger, folder_lake):
            found = settled(ledger, callback_id, 5)
            assert {each.state for each in found} == {"failed"}
            assert {each.error for each in found} == {"gone", callbacks.INACTIVE}
            stored = callbacks.get(ledger, tenant, callback_id)
            assert stored is not None and not stored.active
            request_id = send(ledger, tenant, "n-1")
            wait_for(lambda: requests.get(ledger, tenant, request_id).state.is_final)  # type: ignore[union-attr]
    assert len(receiver.received) == 1
    assert len(messages(ledger, callback_id)) == 5
    assert events_of(ledger)[-2:] == ["callback.failed", "callback.deactivated"]


def test_retry_after_is_honoured(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    with Receiver(lambda _: (429, {"Retry-After": "900"})) as receiver, draining(ledger, folder_lake):
        callback_id, _ = register(ledger, tenant, receiver.url)
        for _ in range(3):
            callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
        wait_for(lambda: any(each.status for each in messages(ledger, callback_id)))
        first, *others = messages(ledger, callback_id)
    assert first.next_attempt_at is not None
    assert timedelta(seconds=890) < first.next_attempt_at - datetime.now(UTC) < timedelta(seconds=1_090)
    # The others were not tried in the meantime either.
    assert len(receiver.received) == 1
    assert [(each.state, each.attempts) for each in others] == [("waiting", 0)] * 2


def test_endpoints_that_hang_delay_neither_lanes_nor_others(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    other = tenants.create_product(ledger, "Q", [], utc_now()).tenant
    with Receiver() as hanging, Receiver() as quick:
        hanging.reply = lambda _: hanging.released.wait(60) and 200 or 200
        stuck = [register(ledger, tenant, f"{hanging.url}/{n}")[0] for n in range(5)]
        for callback_id in stuck:
            for _ in range(40):
                callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
        callback_id, _ = register(ledger, other, quick.url)
        with draining(ledger, folder_lake, callback_timeout_s=30.0):
            wait_for(lambda: hanging.received)
            for _ in range(20):
                callback_messages.test(ledger, other, callback_id, "k", utc_now())
            request_id = send(ledger, tenant, "n-1")
            settled(ledger, callback_id, 20)
            wait_for(lambda: requests.get(ledger, tenant, request_id).state.is_final)  # type: ignore[union-attr]
            assert len(hanging.received) == 1
        # The drain has ended, and did not wait for the one that hangs; that attempt was none.
        found = [each for each in messages(ledger, stuck[0]) if each.event == callback_messages.TEST_EVENT]
        assert {(each.state, each.attempts) for each in found} == {("waiting", 0)}


def test_what_times_out_or_talks_nonsense_is_repeated(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    with Receiver() as receiver:
        first = threading.Event()

        def reply(_: Received) -> int:
            if not first.is_set():
                first.set()
                receiver.released.wait(20)
            return 200

        receiver.reply = reply
        with draining(ledger, folder_lake, callback_timeout_s=0.3):
            callback_id, _ = register(ledger, tenant, receiver.url)
            callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
            wait_for(lambda: messages(ledger, callback_id)[0].error == "timeout" or len(receiver.received) > 1)
            (message,) = settled(ledger, callback_id)
    assert (message.state, message.attempts, message.error) == ("delivered", 2, None)


def test_a_rotated_secret_signs_beside_the_old_one_for_a_while(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    with Receiver() as receiver, draining(ledger, folder_lake):
        callback_id, old = register(ledger, tenant, receiver.url)
        newer, newest = callbacks.new_secret(), callbacks.new_secret()
        for secret, until in ((newer, timedelta(hours=1)), (newest, timedelta(0))):
            callbacks.rotate(ledger, tenant, callback_id, secret, utc_now() + until, "k", utc_now())
            callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
            wait_for(lambda: all(each.ended_at for each in messages(ledger, callback_id)))
    verify(receiver.received[0], newer, old)
    verify(receiver.received[1], newest)


def test_private_addresses_are_not_called(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    with Receiver() as receiver, draining(ledger, folder_lake, callback_allow_private=False):
        port = receiver.url.rpartition(":")[2]
        ids = [
            register(ledger, tenant, f"https://{host}:{port}/")[0]
            for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "localtest.invalid")
        ]
        ids.append(register(ledger, tenant, receiver.url)[0])
        for callback_id in ids:
            callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
        wait_for(lambda: all(messages(ledger, each)[0].error for each in ids))
        errors = {messages(ledger, each)[0].error for each in ids[:5] + ids[6:]}
    assert errors == {"private_address"}
    assert messages(ledger, ids[5])[0].error == "name_not_found"
    assert receiver.received == []


def test_no_log_line_holds_a_secret_a_signature_or_a_token(
    sqlite_ledger: Ledger, folder_lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = sqlite_ledger
    tenant = tenants.create_product(ledger, "P", [], utc_now()).tenant
    caplog.set_level(logging.DEBUG)
    replies = chain([500, 410], repeat(200))
    with Receiver(lambda _: next(replies)) as receiver, draining(ledger, folder_lake):
        ids = [register(ledger, tenant, f"{receiver.url}/?token=private{n}") for n in range(2)]
        for callback_id, _ in ids:
            callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
        wait_for(lambda: len(receiver.received) >= 3)
    words = ["private0", "private1", "whsec", *[secret[6:] for _, secret in ids]]
    words += [each.headers["webhook-signature"][3:] for each in receiver.received]
    assert not [word for word in words if word in caplog.text]


def test_a_clock_that_is_set_leaves_nothing_stuck(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    callback_id, _ = register(ledger, tenant, "http://127.0.0.1:9/")
    now = datetime.now(UTC)
    callback_messages.test(ledger, tenant, callback_id, "k", now)

    def claim(owner: str, at: datetime) -> int:
        due = callback_claims.due(ledger, owner, at, 16.0)
        found = callback_claims.claim(ledger, owner, {callback_id: 5}, at, 16.0)
        assert bool(due) == bool(found)
        return len(found)

    # Queued by a clock an hour ahead, claimed by one that is right.
    assert claim("a", now - timedelta(hours=1)) == 1
    assert claim("b", now - timedelta(hours=1)) == 0
    # Forward: the lease has run out for others, not for its owner, who knows better.
    assert claim("a", now) == 0
    assert claim("b", now) == 1
    # Back: a lease that ends in an hour was given by a clock that was wrong.
    assert claim("c", now - timedelta(hours=1)) == 1
    assert claim("d", now - timedelta(hours=1) + timedelta(seconds=15)) == 0
    assert claim("d", now - timedelta(hours=1) + timedelta(seconds=17)) == 1


def test_a_late_answer_counts_only_if_it_is_a_delivery(ledger: Ledger, tenant: str) -> None:
    callback_id, _ = register(ledger, tenant, "http://127.0.0.1:9/")
    now = datetime.now(UTC)
    callback_messages.test(ledger, tenant, callback_id, "k", now)
    (first,) = callback_claims.claim(ledger, "a", {callback_id: 1}, now, 16.0)
    later = now + timedelta(seconds=20)
    (second,) = callback_claims.claim(ledger, "b", {callback_id: 1}, later, 16.0)
    assert (first.attempt_no, second.attempt_no) == (1, 2)
    failed = callback_claims.Told(first, MessageState.FAILED, 500, "refused")
    callback_claims.record(ledger, [failed], later)
    assert messages(ledger, callback_id)[0].state == "sending"
    callbacks.change(ledger, tenant, callback_id, "k", later, active=False)
    assert messages(ledger, callback_id)[0].state == "failed"
    delivered = callback_claims.Told(second, MessageState.DELIVERED, 200)
    callback_claims.record(ledger, [delivered], later)
    assert messages(ledger, callback_id)[0].state == "delivered"


def test_what_is_long_over_is_forgotten(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    with Receiver() as receiver:
        callback_id, _ = register(ledger, tenant, receiver.url)
        with draining(ledger, folder_lake):
            for _ in range(3):
                callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
            settled(ledger, callback_id, 3)
        waiting = callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
        assert callback_claims.forget(ledger, utc_now() - timedelta(days=1)) == 0
        assert callback_claims.forget(ledger, utc_now() + timedelta(days=1)) == 3
        assert [each.message_id for each in messages(ledger, callback_id)] == [waiting.message_id]  # type: ignore[union-attr]


def test_an_inactive_tenant_is_told_when_it_is_active_again(ledger: Ledger, folder_lake: Lake, tenant: str) -> None:
    other = tenants.create_product(ledger, "Q", [], utc_now()).tenant
    with Receiver() as receiver:
        ids = [register(ledger, each, f"{receiver.url}/{each}")[0] for each in (tenant, other)]
        for owner, callback_id in zip((tenant, other), ids, strict=True):
            callback_messages.test(ledger, owner, callback_id, "k", utc_now())
        for active in (False, True):
            change(ledger, update(TENANTS).where(TENANTS.c.tenant == tenant).values(active=active))
            with draining(ledger, folder_lake):
                settled(ledger, ids[active is False])
            assert messages(ledger, ids[0])[0].state == ("delivered" if active else "waiting")


RAW = {
    "garbage": (b"\x00\x01 what\r\n\r\n", "waiting", None, "no_http_answer"),
    "silence": (b"", "waiting", None, "connection_lost"),
    "half": (b"HTTP/1.1 200 O", "waiting", None, "connection_lost"),
    "endless header": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "waiting", None, "no_http_answer"),
    "many headers": (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 100_000, "waiting", None, "no_http_answer"),
    "endless body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 500_000, "delivered", 200, None),
    "body to the end": (b"HTTP/1.1 201 OK\r\n\r\nthanks", "delivered", 201, None),
    "no body": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "delivered", 200, None),
}


@pytest.mark.parametrize("name", RAW)
def test_whatever_a_receiver_says_harms_nobody(sqlite_ledger: Ledger, folder_lake: Lake, name: str) -> None:
    says, state, status, error = RAW[name]
    ledger, tenant = sqlite_ledger, tenants.create_product(sqlite_ledger, "P", [], utc_now()).tenant

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            with suppress(OSError):
                self.request.sendall(says)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        callback_id, _ = register(ledger, tenant, f"http://127.0.0.1:{server.server_address[1]}/")
        callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
        with draining(ledger, folder_lake, callback_retry_base_s=900.0):
            wait_for(lambda: messages(ledger, callback_id)[0].state in ("waiting", "delivered"))
            wait_for(lambda: messages(ledger, callback_id)[0].status or messages(ledger, callback_id)[0].error)
        server.shutdown()
    (message,) = messages(ledger, callback_id)
    assert (message.state, message.status, message.error) == (state, status, error)


def test_a_proxy_of_the_environment_is_not_used(
    sqlite_ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, tenant = sqlite_ledger, tenants.create_product(sqlite_ledger, "P", [], utc_now()).tenant
    with Receiver() as receiver, Receiver() as proxy:
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        callback_id, _ = register(ledger, tenant, receiver.url)
        callback_messages.test(ledger, tenant, callback_id, "k", utc_now())
        with draining(ledger, folder_lake):
            settled(ledger, callback_id)
    assert (len(receiver.received), len(proxy.received)) == (1, 0)


def test_a_name_that_resolves_to_something_else_at_the_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be arranged here is a name server that lies; the socket is asked for by the client itself."""
    looks: list[str] = []

    async def lying(_self: object, host: str, port: int = 0, family: object = None) -> list[dict[str, Any]]:
        looks.append(host)
        return [
            {"hostname": host, "host": address, "port": port, "family": 2, "proto": 0, "flags": 0} for address in bad
        ]

    monkeypatch.setattr(public_http._Resolver, "resolve", lying)
    bad = ["127.0.0.1", "169.254.169.254", "10.0.0.1"]
    message = callback_claims.Claimed("m", "c", "t", "https://rebind.example/", (callbacks.new_secret(),), "{}", 1, "o")

    async def attempt() -> list[callback_sending.Answer]:
        async with callback_sending.CallbackClient(Settings()) as client:
            return [await client.send(message, utc_now()) for _ in range(2)]

    with Receiver() as receiver:
        answers = asyncio.run(attempt())
    assert {answer.error for answer in answers} == {"private_address"}
    assert looks == ["rebind.example"] * 2 and receiver.received == []
