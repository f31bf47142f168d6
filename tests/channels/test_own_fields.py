"""Fields of a send's own: filled alike on every channel, in any case, and only where the send came with them."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected
from notify_pipeline.channels.codec import Codec
from notify_pipeline.channels.email import message as email
from notify_pipeline.channels.fcm.message import MAX_PAYLOAD_BYTES
from notify_pipeline.channels.push import PushSender
from notify_pipeline.channels.sms import message as sms
from notify_pipeline.channels.webpush import message as webpush
from notify_pipeline.channels.websocket import message as websocket
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.records import AttemptResult, Audience, Content, Notification, Recipient, Visitor
from notify_pipeline.core.vocabulary import Outcome, Platform
from tests.channels.email.relay import LETTERHEAD
from tests.channels.harness import APNS_IOS, FCM_ANDROID, FCM_WEB, RECEIPTS, Harness
from tests.channels.test_payloads import APNS, DEVICE, FCM, NOW, TOKEN, D, made
from tests.channels.test_personal import payload_of

VISITORS = Audience(domain="example.com", visitors=(Visitor("guid", {}),))


class Shown(NamedTuple):
    """What one recipient reads."""

    title: str
    data: str | None


class Piece(NamedTuple):
    """A part of a text as it is written, and the field that stands for it, in small letters, or the text itself."""

    written: str
    field: str | None
    text: str


def _by_codec(codec: Codec, platform: Platform, address: str) -> Callable[[Notification, Recipient], Shown]:
    def read(sent: Notification, recipient: Recipient) -> Shown:
        rendered = codec.renderer(codec.prepare(sent, platform), NOW)(recipient._replace(address=address), D)
        assert rendered is not None
        data, _, title = payload_of(platform, rendered[1])
        return Shown(title, data["key"])

    return read


def _webpush(sent: Notification, recipient: Recipient) -> Shown:
    data = orjson.loads(webpush.prepare(sent, Platform.WEBPUSH, RECEIPTS).plaintext(recipient, D))
    return Shown(data["title"], data["key"])


def _websocket(sent: Notification, recipient: Recipient) -> Shown:
    raw = websocket.prepare(sent, Platform.WEBSOCKET, RECEIPTS).payload(recipient, D)
    assert raw is not None
    shown = orjson.loads(raw)
    return Shown(shown["title"], shown["data"]["key"])


def _sms(sent: Notification, recipient: Recipient) -> Shown:
    text = sms.prepare(sent, Platform.SMS, 10).text_for(recipient)
    return Shown("" if text is None else text.removesuffix("\nend."), None)


def _email(sent: Notification, recipient: Recipient) -> Shown:
    to = recipient._replace(address="ada@example.com")
    at = datetime(2026, 11, 21, tzinfo=UTC)
    raw = email.render(email.prepare(sent, Platform.EMAIL, LETTERHEAD), LETTERHEAD, to, D, at)
    found = BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(raw)
    return Shown(str(found["Subject"]), None)


CHANNELS: dict[str, Callable[[Notification, Recipient], Shown]] = {
    "android": _by_codec(FCM, Platform.ANDROID, TOKEN),
    "web": _by_codec(FCM, Platform.WEB, TOKEN),
    "ios": _by_codec(APNS, Platform.IOS, DEVICE),
    "webpush": _webpush,
    "websocket": _websocket,
    "sms": _sms,
    "email": _email,
}
NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(lambda name: name.lower() != "brackets")
NAMES = NAME | st.sampled_from(["name", "Name", "NAME", "user_id", "Locale"])
VALUE = st.text(max_size=20) | st.sampled_from(['"', "\\", "%s", "%(d)b", "\x00\x1f", "[[[name]]]", "é\n🎉", ""])
FIELD = NAMES.map(lambda name: Piece(f"[[[{name}]]]", name.lower(), ""))
# Brackets that are no field, whatever stands beside them.
BRACKETS = st.sampled_from(["[[[ ", "]]] ", "[[ ", "[[[[ ", "[[[1]]]", "[[[a-b]]]", "[[[]]]", "[[[a b]]]"])
WORDS = BRACKETS | st.text(st.characters(exclude_characters="[]", exclude_categories=["Cs"]), max_size=10)
LITERAL = WORDS.map(lambda text: Piece(text, None, text))
ESCAPED = st.just(Piece("[[[brackets]]]name]]]", None, "[[[name]]]"))
PIECES = st.lists(FIELD | LITERAL | ESCAPED, min_size=1, max_size=6)


def written(pieces: list[Piece]) -> str:
    return "".join(piece.written for piece in pieces)


def expected(pieces: list[Piece], given: dict[str, str], recipient: Recipient) -> str:
    known = {"user_id": recipient.user_id, "locale": recipient.locale, **{k.lower(): v for k, v in given.items()}}
    return "".join(piece.text if piece.field is None else known.get(piece.field) or "" for piece in pieces)


@pytest.mark.parametrize("channel", ["android", "web", "ios", "webpush", "websocket"])
@given(title=PIECES, value=PIECES, fields=st.dictionaries(NAMES, VALUE, max_size=4), user_id=st.none() | VALUE)
@example(
    title=[Piece("[[[NAME]]]", "name", ""), Piece("[[[user_id]]]", "user_id", "")],
    value=[Piece("[[[name]]]", "name", "")],
    fields={"Name": '"}', "USER_ID": "given"},
    user_id="known",
)
def test_whatever_stands_in_texts_and_fields_arrives(
    channel: str, title: list[Piece], value: list[Piece], fields: dict[str, str], user_id: str | None
) -> None:
    # Where two are the same name in another case, the last is the one: as in one JSON object after another.
    given = {name.lower(): text for name, text in fields.items()}
    sent = made(audience=VISITORS, content=Content(written(title), "body", data={"key": written(value)}))
    recipient = Recipient("a", Platform.WEB, user_id, fields=orjson.dumps(fields).decode())
    read = CHANNELS[channel](sent, recipient)
    assert read == Shown(expected(title, given, recipient), expected(value, given, recipient))


@given(body=PIECES, fields=st.dictionaries(NAMES, VALUE, max_size=4), user_id=st.none() | VALUE)
def test_whatever_stands_in_them_is_read_in_mail_and_short_messages(
    body: list[Piece], fields: dict[str, str], user_id: str | None
) -> None:
    # Both end lines in their own way.
    assume("\r" not in written(body) and "\0" not in written(body))
    sent = made(audience=VISITORS, content=Content("T", written(body) or None))
    recipient = Recipient("a@example.com", Platform.EMAIL, user_id, fields=orjson.dumps(fields).decode())
    text = expected(body, {name.lower(): value for name, value in fields.items()}, recipient)
    rest = sms.prepare(sent, Platform.SMS, 10).text_for(recipient)
    assert rest == ("T\n" + text if written(body) else "T")
    raw = email.render(email.prepare(sent, Platform.EMAIL, LETTERHEAD), LETTERHEAD, recipient, D, NOW)
    part = BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(raw).get_body(("plain",))
    assert part is not None
    lines = text.replace("\r\n", "\n").replace("\r", "\n") if written(body) else "T"
    assert str(part.get_content()).replace("\r\n", "\n").rstrip("\n") == lines.rstrip("\n")


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_fills_them_alike(channel: str) -> None:
    read = CHANNELS[channel]
    content = Content(
        "[[[Name]]] of [[[CITY]]]: [[[user_id]]][[[locale]]][[[none]]][[[brackets]]]x]]]", "end.", data={"key": "k"}
    )
    sent, usual = made(audience=VISITORS, content=content), made(content=content)
    ann = Recipient("+447700900123", Platform.WEB, "u-1", "de", fields='{"name":"Ann","City":"Łódź","LOCALE":"xx"}')
    assert read(sent, ann).title == "Ann of Łódź: u-1xx[[[x]]]", "a name that was given goes before a registration's"
    assert read(sent, ann._replace(fields=None)).title.strip() == "of : u-1de[[[x]]]", "the others are empty"
    unknown = "[[[Name]]] of [[[CITY]]]: u-1de[[[none]]][[[x]]]"
    assert read(usual, ann).title == unknown, "no other send has fields of its own"


def test_in_html_a_field_of_ones_own_is_text() -> None:
    sent = made(audience=VISITORS, content=Content("T", html="<p>[[[Name]]]</p>"))
    prepared = email.prepare(sent, Platform.EMAIL, LETTERHEAD)
    ann = Recipient("a@example.com", Platform.EMAIL, fields='{"name":"<b>Ann & Co</b>"}')
    raw = email.render(prepared, LETTERHEAD, ann, D, NOW)
    assert b"<p>&lt;b&gt;Ann &amp; Co&lt;/b&gt;</p>" in raw


@pytest.mark.parametrize("filler", ["x", "é", '"', "\n"])
@pytest.mark.parametrize(("platform", "address"), [(Platform.ANDROID, TOKEN), (Platform.WEB, TOKEN)])
def test_fcm_limit_is_met_to_the_byte(platform: Platform, address: str, filler: str) -> None:
    sent = made(audience=VISITORS, content=Content("[[[a]]]", "[[[B]]]", data={"k": "[[[a]]] [[[b]]] [[[none]]]"}))
    render = FCM.renderer(FCM.prepare(sent, platform), NOW)
    sizes = {}
    for length in range(0, 2_200):
        fields = orjson.dumps({"A": filler * length, "b": "y"}).decode()
        rendered = render(Recipient(address, platform, fields=fields), D)
        if rendered is not None:
            sizes[length] = payload_of(platform, rendered[1])[1]
    assert sorted(sizes) == list(range(len(sizes))), "longer never fits where shorter does not"
    step = sizes[1] - sizes[0]
    assert MAX_PAYLOAD_BYTES - step < max(sizes.values()) <= MAX_PAYLOAD_BYTES


def test_what_is_too_large_with_empty_fields_is_refused_for_all() -> None:
    sent = made(audience=VISITORS, content=Content("[[[a]]]" + "x" * 4_100))
    for prepare in (
        lambda: FCM.prepare(sent, Platform.WEB),
        lambda: APNS.prepare(sent, Platform.IOS),
        lambda: webpush.prepare(sent, Platform.WEBPUSH, RECEIPTS),
    ):
        with pytest.raises(ContentRejected) as caught:
            prepare()
        assert caught.value.code == PAYLOAD_TOO_LARGE
    room = made(audience=VISITORS, content=Content("[[[a]]]" * 500))
    assert FCM.prepare(room, Platform.WEB) and webpush.prepare(room, Platform.WEBPUSH, RECEIPTS), "names do not count"


@pytest.mark.parametrize("opened", [FCM_ANDROID, FCM_WEB, APNS_IOS])
def test_who_has_too_much_fails_alone(tmp_path: Path, opened: Any) -> None:
    async def main() -> None:
        async with opened(tmp_path) as harness:
            await body(harness)

    async def body(harness: Harness) -> None:
        assert isinstance(harness.sender, PushSender)
        sent = made(audience=VISITORS, content=Content("Hi [[[name]]]"), expires_at=harness_time())
        message = harness.sender.prepare(sent, harness.platform)
        names = ["Ann", "x" * 5_000, None, 'O"Neill']
        recipients = [
            Recipient(harness.address(n), harness.platform, fields=orjson.dumps({"Name": name or ""}).decode())
            for n, name in enumerate(names)
        ]
        ids = DeliveryIds(b"s" * 32, "tenant-1", "notification-1", harness.sender.name)
        results: dict[int, AttemptResult] = {}
        await harness.sender.send(message, recipients, [ids.of(r.address) for r in recipients], results.__setitem__)
        outcomes = [results[n].outcome for n in range(4)]
        assert outcomes == [Outcome.ACCEPTED, Outcome.PERMANENT, Outcome.ACCEPTED, Outcome.ACCEPTED]
        assert (results[1].provider_code, results[1].drop_token) == (PAYLOAD_TOO_LARGE, False)
        titles = [payload_of(harness.platform, request.body)[2] for request in harness.peer.seen]
        assert sorted(titles) == ["Hi ", "Hi Ann", 'Hi O"Neill']

    asyncio.run(main())


def harness_time() -> datetime:
    return datetime(2100, 1, 1, tzinfo=UTC)
