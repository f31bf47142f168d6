"""The push sender around its transport: credentials and gate between one slice of a send and the next."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from notify_pipeline.channels.base import CREDENTIALS, HELD, CredentialsRejected
from notify_pipeline.channels.push import PushSender
from notify_pipeline.channels.rates import Gate
from notify_pipeline.channels.transport import Answer, End, Request
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.rates import Limits
from notify_pipeline.core.records import AttemptResult, Recipient
from notify_pipeline.core.vocabulary import Outcome, Platform
from tests.channels.buckets import OwnBucket
from tests.channels.harness import notification
from tests.channels.test_payloads import APNS

ACCEPTED = Answer(200, {"apns-id": "A"}, b"")


def utc_now() -> datetime:
    return datetime.now(UTC)


class Instant:
    """A transport that answers at once, as told by the request's number."""

    def __init__(self, answer: Callable[[Request], End] = lambda request: ACCEPTED) -> None:
        self.answer = answer
        self.bearers: list[str] = []
        self.calls = 0

    async def post_many(self, requests: Iterable[Request], on_end: Callable[[int, End], None]) -> None:
        self.calls += 1
        for request in requests:
            self.bearers.append(dict(request.headers)["authorization"])
            on_end(request.number, self.answer(request))

    async def aclose(self) -> None:
        pass


class Tokens:
    """Gives a new token at each question, and fails from some question on."""

    def __init__(self, fails_from: int = 10**9) -> None:
        self.asked = 0
        self.fails_from = fails_from

    async def bearer(self) -> str:
        self.asked += 1
        if self.asked >= self.fails_from:
            raise CredentialsRejected("gone", "a test wants it")
        return f"t{self.asked}"

    async def renew(self, refused: str) -> str:
        return await self.bearer()

    async def aclose(self) -> None:
        pass


class Late(Instant):
    """Draws nothing before something else has happened, as where other sends are under way."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens = happens

    async def post_many(self, requests: Iterable[Request], on_end: Callable[[int, End], None]) -> None:
        self.happens()
        await super().post_many(requests, on_end)


def send(tokens: Tokens, transport: Instant, count: int, per_minute: float | None) -> list[AttemptResult]:
    results: dict[int, AttemptResult] = {}

    def report(index: int, result: AttemptResult) -> None:
        assert index not in results
        results[index] = result

    async def main() -> None:
        gate = Gate(OwnBucket(), Limits(per_minute), utc_now)
        sender = PushSender(APNS, tokens, transport, utc_now, gate)
        recipients = [Recipient(f"{n:064x}", Platform.IOS) for n in range(count)]
        ids = DeliveryIds(b"s" * 32, "t", "n", sender.name)
        message = sender.prepare(notification(), Platform.IOS)
        await sender.send(message, recipients, [ids.of(r.address) for r in recipients], report)
        await sender.aclose()

    asyncio.run(main())
    assert sorted(results) == list(range(count))
    return [results[index] for index in range(count)]


def test_the_token_is_asked_for_once_and_not_per_recipient() -> None:
    tokens, transport = Tokens(), Instant()
    results = send(tokens, transport, 5_000, None)
    assert {result.outcome for result in results} == {Outcome.ACCEPTED}
    assert (tokens.asked, transport.calls) == (1, 1)


def test_a_send_that_outlives_its_token_goes_on_with_the_next() -> None:
    tokens, transport = Tokens(), Instant()
    results = send(tokens, transport, 60, per_minute=60_000)  # a hundred per second at first
    assert {result.outcome for result in results} == {Outcome.ACCEPTED}
    assert transport.calls == tokens.asked > 1
    assert set(transport.bearers) == {f"bearer t{n}" for n in range(1, tokens.asked + 1)}


def test_credentials_that_fail_half_way_leave_nobody_without_a_result() -> None:
    tokens, transport = Tokens(fails_from=2), Instant()
    results = send(tokens, transport, 60, per_minute=60_000)
    sent = len(transport.bearers)
    assert 1 <= sent < 60
    assert {result.outcome for result in results[:sent]} == {Outcome.ACCEPTED}
    assert {(r.outcome, r.provider_code) for r in results[sent:]} == {(Outcome.TRANSIENT, f"{CREDENTIALS}:gone")}


def test_credentials_that_fail_while_refused_ones_are_asked_again() -> None:
    expired = Answer(403, {}, b'{"reason": "ExpiredProviderToken"}')
    tokens = Tokens(fails_from=2)
    results = send(tokens, Instant(lambda request: expired if request.number % 2 else ACCEPTED), 10, None)
    assert {result.outcome for result in results[::2]} == {Outcome.ACCEPTED}
    again = {(r.outcome, r.provider_code) for r in results[1::2]}
    assert again == {(Outcome.TRANSIENT, f"{CREDENTIALS}:ExpiredProviderToken")}


def test_a_pause_that_begins_before_the_first_request_is_drawn_holds_all_of_them() -> None:
    results: dict[int, AttemptResult] = {}

    async def main() -> None:
        gate = Gate(OwnBucket(), Limits(None), utc_now)
        transport = Late(lambda: gate.hold(30))
        sender = PushSender(APNS, Tokens(), transport, utc_now, gate)
        recipients = [Recipient(f"{n:064x}", Platform.IOS) for n in range(5)]
        await sender.send(sender.prepare(notification(), Platform.IOS), recipients, ["d"] * 5, results.__setitem__)
        await sender.aclose()
        assert transport.bearers == []

    asyncio.run(main())
    assert {(result.outcome, result.provider_code) for result in results.values()} == {(Outcome.THROTTLED, HELD)}
    assert len(results) == 5
