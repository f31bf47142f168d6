"""Posting to push services: what only this channel does; what all channels do is in ``test_outcomes``."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from notify_pipeline.channels import public_http
from notify_pipeline.channels.base import BAD_ADDRESS, CREDENTIALS, HELD, NOT_PROCESSED, PAYLOAD_TOO_LARGE
from notify_pipeline.channels.each import EachSender
from notify_pipeline.channels.rates import Gate
from notify_pipeline.channels.webpush.answers import classify
from notify_pipeline.channels.webpush.carrier import Reach, WebPushCarrier
from notify_pipeline.channels.webpush.message import WebPushMessage
from notify_pipeline.channels.webpush.vapid import VapidTokens
from notify_pipeline.core.push_subscriptions import Subscription, token_of
from notify_pipeline.core.rates import Limits
from notify_pipeline.core.records import AttemptResult, Content, Recipient
from notify_pipeline.core.vapid import key_of
from notify_pipeline.core.vocabulary import Outcome, Platform
from tests.channels.buckets import OwnBucket
from tests.channels.harness import RECEIPTS, notification, utc_now
from tests.channels.webpush.browsers import ACCEPTED, Answer, Browser, Got, Service, running_service
from tests.channels.webpush.outcomes import WebPushHarness, open_webpush
from tests.waiting import PATIENCE_S

Sender = EachSender[WebPushMessage]


@asynccontextmanager
async def opened(reach: Reach, timeout_s: float = PATIENCE_S) -> AsyncIterator[Sender]:
    tokens = VapidTokens(key_of(b"k" * 32), "mailto:ops@example.com", utc_now)
    carrier = WebPushCarrier(tokens, reach, RECEIPTS, timeout_s, utc_now)
    sender = EachSender(carrier, Gate(OwnBucket(), Limits(None), utc_now), utc_now, 16)
    try:
        yield sender
    finally:
        await sender.aclose()


async def send(
    sender: Sender, addresses: list[str], users: list[str] | None = None, **changes: object
) -> list[AttemptResult]:
    message = sender.prepare(notification(**changes), Platform.WEBPUSH)
    names = users or ["ada"] * len(addresses)
    recipients = [Recipient(a, Platform.WEBPUSH, user) for a, user in zip(addresses, names, strict=True)]
    results: dict[int, AttemptResult] = {}
    await sender.send(message, recipients, [f"d{n:039d}" for n in range(len(addresses))], results.__setitem__)
    return [results[n] for n in range(len(addresses))]


def on(body: Callable[[WebPushHarness], Awaitable[None]], tmp_path: Path) -> None:
    async def main() -> None:
        async with open_webpush(tmp_path) as harness:
            await body(harness)

    asyncio.run(main())


def test_a_browser_reads_what_was_sent_and_the_service_only_the_headers(tmp_path: Path) -> None:
    async def body(harness: WebPushHarness) -> None:
        results = await send(harness.sender, [harness.address(3)], ["Ada"], content=Content("Hi [[[user_id]]]"))
        assert results[0].provider_message_id == "https://push.example/m/1"
        (got,) = harness.service.got
        assert got.message["title"] == "Hi Ada"
        assert got.message["d"] == f"d{0:039d}"
        assert b"Ada" not in got.body
        assert got.headers["Authorization"].startswith("vapid t=")
        assert got.headers["Content-Encoding"] == "aes128gcm"
        assert 3_500 < int(got.headers["TTL"]) <= 3_600

    on(body, tmp_path)


def test_connections_are_used_again(tmp_path: Path) -> None:
    async def body(harness: WebPushHarness) -> None:
        results = await send(harness.sender, [harness.address(n) for n in range(80)])
        assert {result.outcome for result in results} == {Outcome.ACCEPTED}
        assert len(harness.service.connections) <= 16

    on(body, tmp_path)


def test_who_has_too_much_fails_alone(tmp_path: Path) -> None:
    async def body(harness: WebPushHarness) -> None:
        addresses = [harness.address(n) for n in range(3)]
        results = await send(harness.sender, addresses, ["a", "b" * 4_000, "c"], content=Content("[[[user_id]]]"))
        assert [(each.outcome, each.provider_code) for each in results] == [
            (Outcome.ACCEPTED, None),
            (Outcome.PERMANENT, PAYLOAD_TOO_LARGE),
            (Outcome.ACCEPTED, None),
        ]
        assert sorted(harness.called) == sorted([addresses[0], addresses[2]])

    on(body, tmp_path)


def test_a_429_holds_that_service_and_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_webpush(tmp_path) as harness, running_service() as other:
            harness.service.answers = lambda _: (429, {"Retry-After": "30"})
            (first,) = await send(harness.sender, [harness.address(0)])
            assert first.provider_code == "http_429"
            mixed = [harness.address(1), other.token(1), harness.address(2), other.token(2)]
            results = await send(harness.sender, mixed)
            assert [each.provider_code for each in results] == [HELD, None, HELD, None]
            assert all(25 < (each.retry_after_s or 0) <= 30 for each in results[::2])
            assert len(harness.service.got) == 1
            assert len(other.got) == 2
            assert harness.sender.held_for_s == 0

    asyncio.run(main())


def test_a_short_pause_of_a_service_is_waited_for(tmp_path: Path) -> None:
    async def body(harness: WebPushHarness) -> None:
        answers: list[Answer] = [(429, {"Retry-After": "1"}), ACCEPTED]
        harness.service.answers = lambda _: answers.pop(0)
        results = [*await send(harness.sender, [harness.address(0)]), *await send(harness.sender, [harness.address(1)])]
        assert [each.outcome for each in results] == [Outcome.THROTTLED, Outcome.ACCEPTED]

    on(body, tmp_path)


def test_services_that_want_pauses_are_forgotten(tmp_path: Path) -> None:
    async def body(harness: WebPushHarness) -> None:
        carrier = harness.sender._carrier
        assert isinstance(carrier, WebPushCarrier)
        for number in range(3_000):
            carrier._hold(f"https://{number}.example", 60.0)
        assert len(carrier._held_until) <= 1_000

    on(body, tmp_path)


@pytest.mark.parametrize(
    ("status", "outcome", "drops", "credentials"),
    [
        (200, Outcome.ACCEPTED, False, False),
        (201, Outcome.ACCEPTED, False, False),
        (202, Outcome.ACCEPTED, False, False),
        (307, Outcome.TRANSIENT, False, False),
        (400, Outcome.TRANSIENT, False, True),
        (401, Outcome.TRANSIENT, False, True),
        (403, Outcome.TRANSIENT, False, True),
        (404, Outcome.INVALID_RECIPIENT, True, False),
        (405, Outcome.PERMANENT, False, False),
        (408, Outcome.TRANSIENT, False, False),
        (410, Outcome.INVALID_RECIPIENT, True, False),
        (413, Outcome.PERMANENT, False, False),
        (429, Outcome.THROTTLED, False, False),
        (500, Outcome.TRANSIENT, False, False),
        (503, Outcome.TRANSIENT, False, False),
    ],
)
def test_every_status_has_its_meaning(status: int, outcome: Outcome, drops: bool, credentials: bool) -> None:
    verdict = classify(status, "id", 5.0)
    assert (verdict.outcome, verdict.drop_token, verdict.credentials) == (outcome, drops, credentials)
    assert (verdict.message_id == "id") is (outcome is Outcome.ACCEPTED)
    assert not verdict.hold, "one service's pause is not everybody's"


def test_refused_credentials_drop_nobody(tmp_path: Path) -> None:
    async def body(harness: WebPushHarness) -> None:
        harness.service.answers = lambda _: (403, {})
        (result,) = await send(harness.sender, [harness.address(0)])
        assert (result.outcome, result.provider_code) == (Outcome.TRANSIENT, f"{CREDENTIALS}:http_403")
        assert not result.drop_token

    on(body, tmp_path)


def test_an_answer_that_does_not_come_in_time_is_ambiguous_and_one_that_could_not_be_asked_for_is_not() -> None:
    async def main() -> None:
        async with running_service() as service:
            async with opened(Reach(allow_private=True), timeout_s=0.5) as sender:
                service.hangs = True
                (hung,) = await send(sender, [service.token(0)])
                assert (hung.outcome, hung.provider_code) == (Outcome.AMBIGUOUS, "no_answer:timeout")
            nobody = token_of(Browser.numbered(0).subscription("http://127.0.0.1:1/push/0"))
            unknown = token_of(Browser.numbered(0).subscription("http://nowhere.invalid/push/0"))
            async with opened(Reach(allow_private=True)) as sender:
                results = await send(sender, [nobody, unknown])
                assert [each.outcome for each in results] == [Outcome.TRANSIENT] * 2
                assert [each.provider_code for each in results] == [
                    f"{NOT_PROCESSED}:not_connected",
                    f"{NOT_PROCESSED}:name_not_found",
                ]

    asyncio.run(main())


def test_cancelled_before_it_left_it_was_not_called() -> None:
    async def main() -> None:
        # Listens, and lets nobody in: the backlog is full after a few.
        async with opened(Reach(allow_private=True)) as sender:
            carrier = sender._carrier
            assert isinstance(carrier, WebPushCarrier)
            looked_up = asyncio.Event()

            async def resolve(*_: object, **__: object) -> list[object]:
                looked_up.set()
                await asyncio.Event().wait()
                return []

            carrier._public()
            assert carrier._opened is not None
            carrier._opened._resolver.resolve = resolve  # type: ignore[method-assign,assignment]
            token = token_of(Browser.numbered(0).subscription("https://push.example/0"))
            results: dict[int, AttemptResult] = {}
            message = sender.prepare(notification(), Platform.WEBPUSH)
            recipient = Recipient(token, Platform.WEBPUSH)
            task = asyncio.create_task(sender.send(message, [recipient], ["d"], results.__setitem__))
            await looked_up.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert results[0].provider_code == f"{NOT_PROCESSED}:cancelled"

    asyncio.run(main())


def test_no_endpoint_leads_into_our_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running_service() as service, opened(Reach()) as sender:
            _, _, port = service.url.rpartition(":")
            browser = Browser.numbered(0)
            told = [
                token_of(browser.subscription(f"{service.url}/push/0")),
                token_of(browser.subscription(f"https://127.0.0.1:{port}/push/0")),
                token_of(browser.subscription(f"https://localhost:{port}/push/0")),
            ]
            results = await send(sender, told)
            assert {(each.outcome, each.provider_code) for each in results} == {
                (Outcome.INVALID_RECIPIENT, BAD_ADDRESS)
            }
            # Names that look public and are not are found out when they are connected to.
            hidden = token_of(browser.subscription(f"https://push.example:{port}/push/0"))
            with monkeypatch.context() as names:
                names.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", int(port)))])
                (named,) = await send(sender, [hidden])

            async def lying(*_: object, **__: object) -> list[dict[str, object]]:
                return [{"hostname": "x", "host": "127.0.0.1", "port": int(port), "family": 2, "proto": 6, "flags": 0}]

            monkeypatch.setattr(public_http._Resolver, "resolve", lying)
            (rebound,) = await send(sender, [hidden])
            for result in (named, rebound):
                assert (result.outcome, result.provider_code) == (Outcome.PERMANENT, public_http.PRIVATE)
            assert service.got == []

    asyncio.run(main())


def test_a_redirection_is_not_followed(tmp_path: Path) -> None:
    async def body(harness: WebPushHarness) -> None:
        service = harness.service

        def to_another(got: Got) -> Answer:
            return (307, {"Location": f"{service.url}/push/9"}) if got.number == 0 else ACCEPTED

        service.answers = to_another
        (result,) = await send(harness.sender, [harness.address(0)])
        assert (result.outcome, result.provider_code) == (Outcome.TRANSIENT, "http_307")
        assert len(service.got) == 1

    on(body, tmp_path)


def test_without_a_subject_only_the_sandbox_is_called() -> None:
    async def main() -> None:
        async with running_service() as sandbox, running_service() as other:
            async with opened(Reach(allow_private=True, only_below=f"{sandbox.url}/")) as sender:
                results = await send(sender, [sandbox.token(0), other.token(0)])
            assert [each.provider_code for each in results] == [None, f"{NOT_PROCESSED}:not_the_sandbox"]
            assert (len(sandbox.got), len(other.got)) == (1, 0)

    asyncio.run(main())


def test_what_is_no_subscription_is_no_address(tmp_path: Path) -> None:
    async def body(harness: WebPushHarness) -> None:
        good: Service = harness.service
        off_the_curve = token_of(Subscription(f"{good.url}/push/0", b"\x04" + b"\1" * 64, b"a" * 16))
        addresses = ["wp.", "wp.x", "fcm:token", good.token(0) + "=", off_the_curve, good.token(1)]
        results = await send(harness.sender, addresses)
        assert [each.outcome for each in results] == [*[Outcome.INVALID_RECIPIENT] * 5, Outcome.ACCEPTED]
        assert not any(each.drop_token for each in results), "only the service's word drops"
        assert len(good.got) == 1

    on(body, tmp_path)
