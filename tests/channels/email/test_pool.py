"""E-mail against a real relay: encrypted or not, connections used again, lost ones, and what is known then."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from notify_pipeline.channels.base import CREDENTIALS, PAYLOAD_TOO_LARGE, ChannelSender
from notify_pipeline.channels.email import pool as pools
from notify_pipeline.channels.email.relay import Relay as Target
from notify_pipeline.channels.email.relay import Tls
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.records import AttemptResult, Content, Recipient
from notify_pipeline.core.vocabulary import Outcome, Platform
from tests.channels.email.relay import HOST, USER, Relay, Script, plain, running, sender_over, small
from tests.channels.harness import notification
from tests.waiting import PATIENCE_S


async def send(sender: ChannelSender, count: int = 1, **changes: Any) -> list[AttemptResult]:
    sent = notification(**changes)
    ids = DeliveryIds(b"s" * 32, sent.tenant, sent.notification_id, sender.name)
    recipients = [Recipient(f"r{number}@example.com", Platform.EMAIL) for number in range(count)]
    results: dict[int, AttemptResult] = {}
    message = sender.prepare(sent, Platform.EMAIL)
    await sender.send(message, recipients, [ids.of(each.address) for each in recipients], results.__setitem__)
    return [results[number] for number in range(count)]


def outcomes(results: list[AttemptResult]) -> dict[Outcome, int]:
    return dict(Counter(result.outcome for result in results))


def on(folder: Path, body: Callable[[Relay], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with running(folder, **options) as relay:
            await body(relay)

    asyncio.run(main())


def test_many_messages_go_over_few_connections_and_arrive_as_they_were_sent(tmp_path: Path) -> None:
    async def body(relay: Relay) -> None:
        sender, _, pool = sender_over(relay, at_once=4)
        text = "..\r\n.\r\n.x\r\n" + "ü" * 400 + "\n" + "y" * 2_000
        results = await send(sender, 100, content=Content("T", text))
        results += await send(sender, 100)
        assert outcomes(results) == {Outcome.ACCEPTED: 200}
        assert {result.provider_message_id for result in results} == {f"Q{number}" for number in range(1, 201)}
        assert (relay.connections, relay.logins, pool.opened) == (4, 4, 4)
        assert {seen.to for seen in relay.seen} == {f"r{number}@example.com" for number in range(100)}
        assert {seen.sender for seen in relay.seen} == {"news@example.org"}
        assert relay.seen[0].part("plain") == text.replace("\r\n", "\n")
        await sender.aclose()

    on(tmp_path, body)


@pytest.mark.parametrize("rudely", [False, True])
def test_a_relay_that_closes_after_some_messages_gets_the_others_over_new_connections(
    tmp_path: Path, rudely: bool
) -> None:
    async def body(relay: Relay) -> None:
        relay.script = Script(close_after=10, rudely=rudely)
        sender, _, _ = sender_over(relay, at_once=2)
        assert outcomes(await send(sender, 100)) == {Outcome.ACCEPTED: 100}
        assert relay.connections >= 10 and len(relay.seen) == 100
        await sender.aclose()

    on(tmp_path, body)


def test_a_refused_recipient_does_not_spoil_the_connection(tmp_path: Path) -> None:
    async def body(relay: Relay) -> None:
        sender, _, _ = sender_over(relay, at_once=1)
        relay.script = Script(rcpt="550 5.1.1 nobody")
        assert outcomes(await send(sender, 5)) == {Outcome.INVALID_RECIPIENT: 5}
        relay.script = Script(content="554 5.6.0 no")
        assert outcomes(await send(sender, 5)) == {Outcome.PERMANENT: 5}
        relay.script = Script()
        assert outcomes(await send(sender, 5)) == {Outcome.ACCEPTED: 5}
        assert relay.connections == 1
        await sender.aclose()

    on(tmp_path, body)


def test_a_refusal_counts_though_the_relay_hangs_up_on_us(tmp_path: Path) -> None:
    async def body(relay: Relay) -> None:
        sender, _, _ = sender_over(relay, at_once=1)
        relay.script = Script(rcpt="550 5.1.1 nobody, goodbye")
        assert outcomes(await send(sender, 5)) == {Outcome.INVALID_RECIPIENT: 5}
        relay.script = Script()
        assert outcomes(await send(sender, 2)) == {Outcome.ACCEPTED: 2}
        await sender.aclose()

    on(tmp_path, body)


def test_idle_connections_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE_S", 0.05)

    async def body(relay: Relay) -> None:
        sender, _, _ = sender_over(relay)
        await send(sender, 8)
        async with asyncio.timeout(PATIENCE_S):
            while any(conversation.transport is not None for conversation in relay.open):
                await asyncio.sleep(0.01)
        assert outcomes(await send(sender, 1)) == {Outcome.ACCEPTED: 1}
        await sender.aclose()

    on(tmp_path, body)


@pytest.mark.parametrize(
    ("script", "outcome", "code"),
    [
        (Script(mail="drop"), Outcome.TRANSIENT, "not_processed:connection_lost"),
        (Script(rcpt="drop"), Outcome.TRANSIENT, "not_processed:connection_lost"),
        (Script(mail="hang"), Outcome.TRANSIENT, "not_processed:timeout"),
        (Script(rcpt="hang"), Outcome.TRANSIENT, "not_processed:timeout"),
        (Script(content="drop"), Outcome.AMBIGUOUS, "no_answer:connection_lost"),
        (Script(content="hang"), Outcome.AMBIGUOUS, "no_answer:timeout"),
    ],
)
def test_only_who_may_have_got_it_is_ambiguous(tmp_path: Path, script: Script, outcome: Outcome, code: str) -> None:
    async def body(relay: Relay) -> None:
        hangs = "hang" in (script.mail, script.rcpt, script.content)
        sender, _, _ = sender_over(relay, timeout_s=1.5 if hangs else PATIENCE_S)
        await send(sender)  # over a connection that is used again, and over a new one
        relay.script = script
        for result in [*await send(sender), *([] if hangs else await send(sender))]:
            assert (result.outcome, result.provider_code) == (outcome, code)
            assert (result.answered_at is None) is (outcome is Outcome.AMBIGUOUS)
        await sender.aclose()

    on(tmp_path, body)


def test_encrypted_from_the_first_byte(tmp_path: Path) -> None:
    async def body(relay: Relay) -> None:
        sender, _, _ = sender_over(relay, relay.url("smtps", user=""))
        assert outcomes(await send(sender)) == {Outcome.ACCEPTED: 1}
        await sender.aclose()

    on(tmp_path, body, make=plain, implicit=True)


def test_without_a_password_encryption_is_used_where_it_is_offered(tmp_path: Path) -> None:
    async def body(relay: Relay) -> None:
        sender, _, _ = sender_over(relay, relay.url(user=""))
        assert outcomes(await send(sender)) == {Outcome.ACCEPTED: 1}
        await sender.aclose()
        never, _, _ = sender_over(relay, relay.url(user="") + "?starttls=required")
        (result,) = await send(never)
        assert (result.outcome, result.provider_code) == (Outcome.TRANSIENT, f"{CREDENTIALS}:not_offered")
        await never.aclose()

    on(tmp_path, body, make=plain)


def test_a_relay_that_does_not_know_us_is_asked_once_for_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(relay: Relay) -> None:
        sender, _, _ = sender_over(relay, relay.url(user=f"{USER.replace('@', '%40')}:wrong-secret@"), at_once=1)
        results = await send(sender, 50)
        assert {(result.outcome, result.provider_code) for result in results} == {
            (Outcome.TRANSIENT, f"{CREDENTIALS}:535")
        }
        assert relay.connections == 1 and not any(result.drop_token for result in results)
        assert "wrong-secret" not in caplog.text
        await sender.aclose()

    on(tmp_path, body)


def test_a_certificate_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    async def body(relay: Relay) -> None:
        strange = Target(HOST, relay.port, Tls.REQUIRED, USER, "x", None, 5.0, 5.0)
        with pytest.raises(pools.NotCalled) as caught:
            await pools.Pool(strange).deliver("a@example.org", "b@example.com", b"x\r\n")
        assert caught.value.reason == "tls" and relay.logins == 0

    on(tmp_path, body)


def test_nobody_there(tmp_path: Path) -> None:
    async def body(relay: Relay) -> None:
        gone = Relay(port=1, ca=relay.ca)
        sender, _, _ = sender_over(gone)
        assert {result.provider_code for result in await send(sender, 20)} == {"not_processed:unreachable"}
        await sender.aclose()

    on(tmp_path, body)


def test_a_size_that_the_relay_does_not_take(tmp_path: Path) -> None:
    async def body(relay: Relay) -> None:
        sender, _, _ = sender_over(relay, relay.url(user=""), at_once=1)
        (result,) = await send(sender, content=Content("T", "x" * 9_000))
        assert (result.outcome, result.provider_code) == (Outcome.PERMANENT, PAYLOAD_TOO_LARGE)
        assert relay.asked == [], "the announced size was enough"
        assert outcomes(await send(sender, 2)) == {Outcome.ACCEPTED: 2}
        await sender.aclose()

    on(tmp_path, body, make=small)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "username", "password"),
    [
        ("smtp://relay.example", "relay.example", 587, Tls.OFFERED, None, None),
        ("smtp://u:p@relay.example:25", "relay.example", 25, Tls.REQUIRED, "u", "p"),
        ("smtps://a%40b:%2F%3A@relay.example", "relay.example", 465, Tls.IMPLICIT, "a@b", "/:"),
        ("smtp://relay.example?starttls=never", "relay.example", 587, Tls.NEVER, None, None),
    ],
)
def test_how_a_relay_is_named(
    url: str, host: str, port: int, tls: Tls, username: str | None, password: str | None
) -> None:
    assert Target.of_url(url, None, 1.0, 2.0) == Target(host, port, tls, username, password, None, 1.0, 2.0)


@pytest.mark.parametrize(
    "url",
    [
        "http://relay",
        "smtp://",
        "smtp://u:secret@relay?starttls=never",
        "smtp://u:secret@relay?x=1",
        "smtps://r?starttls=never",
    ],
)
def test_what_names_no_relay(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        Target.of_url(url, None, 1.0, 2.0)
    assert "secret" not in str(caught.value)
