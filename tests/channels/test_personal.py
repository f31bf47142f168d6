"""Personal fields: filled for each recipient, whatever text they hold, and only for whom it fits."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected
from notify_pipeline.channels.codec import Codec
from notify_pipeline.channels.push import PushSender
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.personal import PERSONAL_FIELDS, unknown_in
from notify_pipeline.core.records import AttemptResult, Content, Recipient
from notify_pipeline.core.vocabulary import Outcome, Platform
from tests.channels.harness import APNS_IOS, FCM_ANDROID, FCM_WEB, Harness, notification
from tests.channels.test_payloads import APNS, APNS_LIMIT, DEVICE, FCM, FCM_LIMIT, NOW, TOKEN, D, made

CODECS: list[tuple[Codec, Platform, str]] = [
    (FCM, Platform.ANDROID, TOKEN),
    (FCM, Platform.WEB, TOKEN),
    (APNS, Platform.IOS, DEVICE),
]
VALUE = (
    st.none() | st.text(max_size=30) | st.sampled_from(['"', "\\", "%s", "%(d)b", "\x00\x1f", "[[[locale]]]", "é\n🎉"])
)
PIECE = st.text(max_size=10) | st.sampled_from([f"[[[{name}]]]" for name in PERSONAL_FIELDS])
TEXT = st.lists(PIECE, min_size=1, max_size=5).map("".join)


def filled(text: str, recipient: Recipient) -> str:
    """What the recipient should see: all fields replaced at once, so that a value is no field itself."""
    parts = [text]
    for name in PERSONAL_FIELDS:
        value = getattr(recipient, name) or ""
        parts = [
            piece
            for part in parts
            for number, whole in enumerate([part] if isinstance(part, _Done) else part.split(f"[[[{name}]]]"))
            for piece in ([_Done(value), whole] if number else [whole])
        ]
    return "".join(parts)


class _Done(str):
    """Text that was put in."""


def payload_of(platform: Platform, raw: bytes) -> tuple[dict[str, Any], int, Any]:
    """Return the app's data, the size that the provider counts, and what is shown as title."""
    body = orjson.loads(raw)
    if platform is Platform.IOS:
        return body, len(raw), body["aps"]["alert"]["title"]
    data: dict[str, str] = body["message"]["data"]
    size = sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
    if platform is Platform.ANDROID:
        return data, size, data["title"]
    shown = body["message"]["webpush"]["notification"]
    return data, size + len(orjson.dumps(shown)), shown["title"]


@given(st.sampled_from(CODECS), TEXT, TEXT, VALUE, VALUE)
@example(CODECS[0], "[[[user_id]]][[[user_id]]]", "x", "[[[locale]]]", "de")
@example(CODECS[1], "%b [[[user_id]]]", "[[[locale]]]", '"}', "\\")
def test_any_text_in_the_fields_leaves_the_json_as_it_should_be(
    target: tuple[Codec, Platform, str], title: str, value: str, user_id: str | None, locale: str | None
) -> None:
    codec, platform, address = target
    try:
        message = codec.prepare(made(content=Content(title, "body", data={"key": value})), platform)
    except ContentRejected as rejected:
        assert rejected.code == "invalid_content"
        return
    render = codec.renderer(message, NOW)
    for recipient in (Recipient(address, platform), Recipient(address, platform, user_id, locale, "Europe/London")):
        rendered = render(recipient, D)
        assert rendered is not None
        data, _, shown = payload_of(platform, rendered[1])
        assert shown == filled(title, recipient)
        assert data["key"] == filled(value, recipient)
        assert data["d"] == D


@pytest.mark.parametrize(("codec", "platform", "address"), CODECS)
@pytest.mark.parametrize("filler", ["x", "é", '"', "\n"])
def test_the_limit_is_met_to_the_byte(codec: Codec, platform: Platform, address: str, filler: str) -> None:
    sent = made(content=Content("[[[user_id]]]", "b", data={"k": "[[[user_id]]] [[[locale]]]"}))
    limit = APNS_LIMIT if platform is Platform.IOS else FCM_LIMIT
    render = codec.renderer(codec.prepare(sent, platform), NOW)
    sizes = {}
    for length in range(0, 2_200):
        rendered = render(Recipient(address, platform, filler * length), D)
        if rendered is not None:
            sizes[length] = payload_of(platform, rendered[1])[1]
    assert sorted(sizes) == list(range(len(sizes))), "longer never fits where shorter does not"
    step = sizes[1] - sizes[0]
    assert limit - step < max(sizes.values()) <= limit
    with pytest.raises(ContentRejected) as caught:
        codec.prepare(made(content=Content("[[[user_id]]]" + "x" * 4_100)), platform)
    assert caught.value.code == PAYLOAD_TOO_LARGE, "too large for anybody"


def test_a_message_without_fields_is_rendered_the_short_way() -> None:
    for codec, platform, _ in CODECS:
        plain = codec.prepare(made(content=Content("[[[", "]]] [[[unknown]]] [[[1]]] [[locale]]")), platform)
        assert plain.personal is None  # type: ignore[attr-defined]


def test_names() -> None:
    assert list(unknown_in("[[[locale]]] [[[nobody]]] [[[Locale]]] [[[[x]]]]")) == ["nobody", "Locale", "x"]
    assert list(unknown_in('[[[1]]] [[["a"]]] [[[]]] [[[a b]]]')) == [], "nested lists in somebody's JSON"


@pytest.mark.parametrize("opened", [FCM_ANDROID, FCM_WEB, APNS_IOS])
def test_who_has_too_much_fails_alone(tmp_path: Path, opened: Any) -> None:
    async def main() -> None:
        async with opened(tmp_path) as harness:
            await body(harness)

    async def body(harness: Harness) -> None:
        assert isinstance(harness.sender, PushSender)
        message = harness.sender.prepare(notification(content=Content("Hi [[[user_id]]]")), harness.platform)
        users = ["Ann", "x" * 5_000, None, 'O"Neill']
        recipients = [Recipient(harness.address(n), harness.platform, user) for n, user in enumerate(users)]
        ids = DeliveryIds(b"s" * 32, "tenant-1", "notification-1", harness.sender.name)
        results: dict[int, AttemptResult] = {}
        await harness.sender.send(message, recipients, [ids.of(r.address) for r in recipients], results.__setitem__)
        outcomes = [results[n].outcome for n in range(4)]
        assert outcomes == [Outcome.ACCEPTED, Outcome.PERMANENT, Outcome.ACCEPTED, Outcome.ACCEPTED]
        assert results[1].provider_code == PAYLOAD_TOO_LARGE
        assert not results[1].drop_token
        titles = [payload_of(harness.platform, request.body)[2] for request in harness.peer.seen]
        assert sorted(titles) == ["Hi ", "Hi Ann", 'Hi O"Neill']

    asyncio.run(main())
