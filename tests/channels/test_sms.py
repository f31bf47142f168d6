"""SMS: what a recipient reads, what the providers are asked, and what their answers mean."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from notify_pipeline.channels.base import OPTED_OUT, PAYLOAD_TOO_LARGE, ContentRejected, CredentialsRejected
from notify_pipeline.channels.each import NotCalled
from notify_pipeline.channels.opening import Around, ChannelsMisconfigured
from notify_pipeline.channels.sms import sns, twilio_answers
from notify_pipeline.channels.sms.message import NO_TEXT, prepare
from notify_pipeline.channels.sms.opening import open_sms
from notify_pipeline.channels.sms.sns import SnsCarrier, Target
from notify_pipeline.channels.sms.twilio import Account, TwilioCarrier
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import AttemptResult, Content, Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, Priority
from notify_pipeline.sandbox.faults import Faults, SmsFaults
from notify_pipeline.sandbox.server import Sandbox
from tests.channels.harness import notification, utc_now
from tests.channels.outcomes import Case
from tests.channels.peer import make_certificates
from tests.channels.sms_harness import SENDER, SID, SNS, STATUS_URL, TOKEN, TWILIO, Server, running_server
from tests.waiting import PATIENCE_S

NUMBER = "+447700900123"
ADA = Recipient(NUMBER, Platform.SMS, "ada", locale="en-GB")
DELIVERY = "d" * 40


def text(content: Content, to: Recipient = ADA, most: int = 10) -> str | None:
    return prepare(notification(content=content), Platform.SMS, most).text_for(to)


def test_personal_fields_are_filled_and_an_unknown_one_is_text() -> None:
    content = Content(
        "Dear [[[user_id]]]", "[[[timezone]]][[[brackets]]]x]]] [[[nothing]]]", "https://e.x/[[[locale]]]"
    )
    assert text(content) == "Dear ada\n[[[x]]] [[[nothing]]]\nhttps://e.x/[[[locale]]]"


def test_what_a_recipient_adds_counts() -> None:
    content = Content(body="[[[user_id]]]" + "a" * 159)
    assert text(content, most=1) is None
    assert text(content, Recipient(NUMBER, Platform.SMS, "x"), most=1) == "x" + "a" * 159
    assert text(content, Recipient(NUMBER, Platform.SMS, "ж"), most=1) is None, "one letter makes all of them wide"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (Content(data={"k": "v"}), NO_TEXT),
        (Content(body=" \n"), NO_TEXT),
        (Content(body="a" * 1_531), PAYLOAD_TOO_LARGE),
        (Content(body="ж" * 671), PAYLOAD_TOO_LARGE),
    ],
)
def test_what_nobody_can_get_is_refused_for_all(content: Content, code: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        text(content)
    assert caught.value.code == code


def twilio(
    server_url: str, sender: str = SENDER, status_url: str | None = STATUS_URL, ca: Path | None = None
) -> TwilioCarrier:
    account = Account(server_url, SID, TOKEN, sender, status_url, ca)
    return TwilioCarrier(account, utc_now, at_once=2, timeout_s=PATIENCE_S, most_segments=10)


async def _asked(sender: str, status_url: str | None, **changes: Any) -> Server:
    async with running_server() as server:
        server.answering = TWILIO[Case.ACCEPTED]
        carrier = twilio(server.url, sender, status_url)
        message = carrier.prepare(notification(**changes), Platform.SMS)
        verdict = await carrier.call(message, ADA, DELIVERY)
        await carrier.aclose()
        assert verdict == (Outcome.ACCEPTED, None, "SM" + "1" * 32, None, False, None, False, False, False)
    return server


def test_twilio_is_asked_in_its_own_words() -> None:
    content = Content("Hi +&=", "ж\n2")
    server = asyncio.run(_asked(SENDER, STATUS_URL, content=content, expires_at=utc_now() + timedelta(seconds=90)))
    (seen,) = server.seen
    assert seen.path == f"/2010-04-01/Accounts/{SID}/Messages.json"
    assert seen.headers["Authorization"].startswith("Basic ")
    callback = f"{STATUS_URL}/tenant-1?notificationId=notification-1&platform=sms&provider=twilio&d={DELIVERY}"
    validity = seen.form.pop("ValidityPeriod")
    assert seen.form == {"To": NUMBER, "From": SENDER, "Body": "Hi +&=\nж\n2", "StatusCallback": callback}
    assert 80 < int(validity) <= 90


def test_a_messaging_service_is_named_as_one_and_nothing_is_called_back_without_an_address() -> None:
    service = "MG" + "2" * 32
    server = asyncio.run(_asked(service, None, expires_at=utc_now() + timedelta(days=2)))
    form = server.seen[0].form
    assert form["MessagingServiceSid"] == service
    assert not {"From", "StatusCallback"} & form.keys()
    assert form["ValidityPeriod"] == "36000"


@pytest.mark.parametrize(
    ("status", "pieces", "outcome", "code", "message_id"),
    [
        (b"201 Created", [b'{"sid": ', b'"SM1"}'], Outcome.ACCEPTED, None, "SM1"),
        (b"201 Created", [b'{"sid": "S'], Outcome.ACCEPTED, None, None),
        (b"400 Bad Request", [b'{"code"', b": 21610}"], Outcome.INVALID_RECIPIENT, f"{OPTED_OUT}:21610", None),
        (b"400 Bad Request", [b'{"code": 216'], Outcome.PERMANENT, "http_400", None),
        (b"503 Service Unavailable", [], Outcome.TRANSIENT, "http_503", None),
    ],
)
def test_an_answer_may_come_in_pieces_or_break_off(
    status: bytes, pieces: list[bytes], outcome: Outcome, code: str | None, message_id: str | None
) -> None:
    length = sum(map(len, pieces)) if pieces and pieces[-1].endswith(b"}") else 99

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, length))
        for piece in pieces:
            await writer.drain()
            await asyncio.sleep(0.02)  # in a segment of its own
            writer.write(piece)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        carrier = twilio(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        verdict = await carrier.call(carrier.prepare(notification(), Platform.SMS), ADA, DELIVERY)
        await carrier.aclose()
        server.close()
        await server.wait_closed()
        assert (verdict.outcome, verdict.code, verdict.message_id) == (outcome, code, message_id)

    asyncio.run(main())


def test_a_sender_id_that_looks_like_a_messaging_service_is_none() -> None:
    assert asyncio.run(_asked("MGM", None)).seen[0].form["From"] == "MGM"


@pytest.mark.parametrize("provider", ["twilio", "sns"])
def test_a_certificate_of_somebody_else_s_is_not_believed(provider: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ca, leaf = make_certificates(tmp_path)
    other, _ = make_certificates(tmp_path / "other")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(leaf)

    async def main() -> None:
        async with running_server(tls) as server:
            server.answering = {"twilio": TWILIO, "sns": SNS}[provider][Case.ACCEPTED]
            for bundle, is_good in ((ca, True), (other, False)):
                carrier: TwilioCarrier | SnsCarrier = sns_carrier(server.url, ca=bundle)
                if provider == "twilio":
                    carrier = twilio(server.url, ca=bundle)
                message = carrier.prepare(notification(), Platform.SMS)
                if is_good:
                    assert (await carrier.call(message, ADA, DELIVERY)).outcome is Outcome.ACCEPTED
                else:
                    with pytest.raises(NotCalled):
                        await carrier.call(message, ADA, DELIVERY)
                await carrier.aclose()
            assert len(server.seen) == 1

    with mock.patch.dict("os.environ", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}):
        asyncio.run(main())


def test_who_was_not_connected_was_not_called() -> None:
    async def main() -> None:
        carrier = twilio("http://127.0.0.1:9")  # discard: nobody listens
        message = carrier.prepare(notification(), Platform.SMS)
        with pytest.raises(NotCalled):
            await carrier.call(message, ADA, DELIVERY)
        await carrier.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "code", "outcome", "drops", "is_ours"),
    [
        (400, 21211, Outcome.INVALID_RECIPIENT, True, False),
        (400, 21614, Outcome.INVALID_RECIPIENT, True, False),
        (400, 21610, Outcome.INVALID_RECIPIENT, True, False),
        (400, 21612, Outcome.PERMANENT, False, False),
        (400, 21408, Outcome.PERMANENT, False, False),
        (400, 21617, Outcome.PERMANENT, False, False),
        (400, None, Outcome.PERMANENT, False, False),
        (400, 21606, Outcome.TRANSIENT, False, True),
        (401, 20003, Outcome.TRANSIENT, False, True),
        (403, None, Outcome.TRANSIENT, False, True),
        (404, 20404, Outcome.TRANSIENT, False, True),
        (302, None, Outcome.TRANSIENT, False, True),
        (429, 20429, Outcome.THROTTLED, False, False),
        (400, 21611, Outcome.THROTTLED, False, False),
        (500, 20500, Outcome.TRANSIENT, False, False),
        (503, None, Outcome.TRANSIENT, False, False),
    ],
)
def test_twilios_answers(status: int, code: int | None, outcome: Outcome, drops: bool, is_ours: bool) -> None:
    body = b"<html>" if code is None else b'{"code": %d}' % code
    verdict = twilio_answers.classify(status, None, body, utc_now())
    assert (verdict.outcome, verdict.drop_token, verdict.credentials) == (outcome, drops, is_ours)
    word = f"http_{status}" if code is None else str(code)
    assert verdict.code == (f"{OPTED_OUT}:{word}" if code == 21610 else word)
    assert verdict.hold is (outcome is Outcome.THROTTLED)


@given(st.integers(100, 599), st.none() | st.text(max_size=80), st.binary(max_size=200))
def test_twilio_may_answer_anything(status: int, retry_after: str | None, body: bytes) -> None:
    verdict = twilio_answers.classify(status, retry_after, body, utc_now())
    assert (verdict.outcome is Outcome.ACCEPTED) is (200 <= status < 300)
    assert not verdict.drop_token


@pytest.mark.parametrize(
    ("status", "word", "said", "outcome", "code", "drops", "is_ours"),
    [
        (400, "OptedOut", "", Outcome.INVALID_RECIPIENT, f"{OPTED_OUT}:OptedOut", True, False),
        (400, "InvalidParameter", "PhoneNumber is opted out", Outcome.INVALID_RECIPIENT, None, True, False),
        (400, "InvalidParameter", "Invalid parameter: PhoneNumber", Outcome.INVALID_RECIPIENT, None, True, False),
        (400, "InvalidParameter", "Invalid parameter: Message", Outcome.PERMANENT, None, False, False),
        (400, "Throttling", "", Outcome.THROTTLED, None, False, False),
        (429, "", "", Outcome.THROTTLED, "http_429", False, False),
        (403, "AuthorizationError", "", Outcome.TRANSIENT, None, False, True),
        (403, "InvalidClientTokenId", "", Outcome.TRANSIENT, None, False, True),
        (403, "Whatever", "", Outcome.TRANSIENT, None, False, True),
        (500, "InternalError", "", Outcome.TRANSIENT, None, False, False),
        (503, "", "", Outcome.TRANSIENT, "http_503", False, False),
        (404, "NotFound", "", Outcome.PERMANENT, None, False, False),
    ],
)
def test_snss_answers(
    status: int, word: str, said: str, outcome: Outcome, code: str | None, drops: bool, is_ours: bool
) -> None:
    answer = {"Error": {"Code": word, "Message": said}, "ResponseMetadata": {"HTTPStatusCode": status}}
    verdict = sns.classify(answer)
    assert (verdict.outcome, verdict.drop_token, verdict.credentials) == (outcome, drops, is_ours)
    opted_out = "opted out" in said
    assert verdict.code == (code or (f"{OPTED_OUT}:{word}" if opted_out else word))


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    with mock.patch.dict("os.environ", keys):
        yield f"http://{host}:{port}"
    server.stop()


def sns_carrier(url: str, **target: Any) -> SnsCarrier:
    return SnsCarrier(Target("eu-west-1", url, **target), at_once=4, timeout_s=PATIENCE_S, most_segments=10)


def test_sns_itself_takes_a_message(moto: str) -> None:
    async def main() -> None:
        carrier = sns_carrier(moto, sender_id="Daily", max_price="0.05")
        message = carrier.prepare(notification(content=Content("Title", "Grüße ☀")), Platform.SMS)
        verdicts = await asyncio.gather(*(carrier.call(message, ADA, DELIVERY) for _ in range(6)))
        await carrier.aclose()
        assert {verdict.outcome for verdict in verdicts} == {Outcome.ACCEPTED}
        backend = requests.get(f"{moto}/moto-api/data.json", timeout=PATIENCE_S)
        assert backend.ok
        assert len({verdict.message_id for verdict in verdicts}) == 6
        assert all(verdict.message_id for verdict in verdicts)

    asyncio.run(main())


def test_sns_is_told_what_kind_of_message_it_is() -> None:
    carrier = sns_carrier("http://127.0.0.1:9", sender_id="Daily", max_price="0.05")
    kinds = {p: carrier._attributes(p)["AWS.SNS.SMS.SMSType"]["StringValue"] for p in Priority}
    assert kinds == {
        Priority.HIGH: "Transactional",
        Priority.NORMAL: "Transactional",
        Priority.LOW: "Promotional",
    }
    others = {name: each["StringValue"] for name, each in carrier._attributes(Priority.LOW).items()}
    assert (others["AWS.SNS.SMS.SenderID"], others["AWS.SNS.SMS.MaxPrice"]) == ("Daily", "0.05")


def test_sns_that_is_not_there_was_not_called_and_nobody_without_credentials(tmp_path: Path) -> None:
    async def main() -> None:
        carrier = sns_carrier("http://127.0.0.1:9")
        message = carrier.prepare(notification(), Platform.SMS)
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        with mock.patch.dict("os.environ", keys), pytest.raises(NotCalled):
            await carrier.call(message, ADA, DELIVERY)
        await carrier.aclose()
        nowhere = {
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "c"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "s"),
        }
        with mock.patch.dict("os.environ", nowhere, clear=True):
            carrier = sns_carrier("http://127.0.0.1:9")
            with pytest.raises(CredentialsRejected):
                await carrier.call(message, ADA, DELIVERY)
            await carrier.aclose()

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() <= before, "threads end with their carrier"


SANDBOX = {"sms_url": "http://127.0.0.1:1/sms", "sms_account_sid": SID, "sms_from": SENDER}
TWILIO_SETTINGS = {"twilio_account_sid": SID, "twilio_auth_token": TOKEN, "twilio_from": SENDER}


@pytest.mark.parametrize(
    ("settings", "sandbox", "provider"),
    [
        ({}, SANDBOX, "twilio"),
        ({}, None, None),
        ({"sms_provider": "sns"}, None, "sns"),
        ({"sms_provider": "twilio", **TWILIO_SETTINGS}, SANDBOX, "twilio"),
    ],
)
def test_the_settings_say_who_sends(
    settings: dict[str, Any],
    sandbox: dict[str, str] | None,
    provider: str | None,
    sqlite_ledger: Ledger,
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text(TOKEN)

    async def main() -> None:
        said = None if sandbox is None else {**sandbox, "sms_auth_token": str(tmp_path / "token")}
        around = Around(Settings(**settings), sqlite_ledger, utc_now, "http://r", said)
        sender = await open_sms(around)
        assert (sender and sender.provider) == provider
        if sender is not None:
            assert sender.name is Channel.SMS
            await sender.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("missing", TWILIO_SETTINGS)
def test_half_an_account_is_told(missing: str, sqlite_ledger: Ledger) -> None:
    given_settings: Any = {name: value for name, value in TWILIO_SETTINGS.items() if name != missing}
    settings = Settings(sms_provider="twilio", **given_settings)
    with pytest.raises(ChannelsMisconfigured, match="NOTIFY_TWILIO_FROM"):
        asyncio.run(open_sms(Around(settings, sqlite_ledger, utc_now, "http://r", None)))


FAULTS = SmsFaults(
    unregistered=0.1, throttled=0.1, unavailable=0.1, internal=0.1, reset=0.1, reset_after_processing=0.1
)


def test_the_sandbox_and_we_agree_on_what_became_of_each_message(tmp_path: Path, sqlite_ledger: Ledger) -> None:
    async def main() -> None:
        settings, results = Settings(home=tmp_path, sandbox_port=0), dict[str, AttemptResult]()
        async with Sandbox(settings) as sandbox:
            sandbox.book.set(Faults(sms=FAULTS))
            sender = await open_sms(Around(settings, sqlite_ledger, utc_now, "http://r", sandbox.addresses))
            assert sender is not None
            sent = notification()
            numbers = [f"+447700{number:06d}" for number in range(120)]
            ids = DeliveryIds(b"s" * 32, sent.tenant, sent.notification_id, sender.name)
            deliveries = dict(zip(map(ids.of, numbers), numbers, strict=True))
            recipients = [Recipient(number, Platform.SMS) for number in numbers]
            message = sender.prepare(sent, Platform.SMS)
            await sender.send(
                message, recipients, [*deliveries], lambda index, result: results.setdefault(numbers[index], result)
            )
            await sender.aclose()
            lines = [line async for block in sandbox.log.stream(0) for line in block.splitlines()]
        truth = {line["recipient"]: line for line in map(orjson.loads, lines)}
        assert len(lines) == len(truth) == len(results) == len(numbers)
        for number, line in truth.items():
            result = results[number]
            assert deliveries[line["d"]] == number
            if line["status"] is None:
                assert result.outcome is Outcome.AMBIGUOUS
            else:
                assert (result.outcome is Outcome.ACCEPTED) is line["processed"]
                assert result.provider_message_id == line["message_id"]
            assert result.drop_token is (line["status"] == 400)
        assert len({result.outcome for result in results.values()}) == 5

    asyncio.run(main())
