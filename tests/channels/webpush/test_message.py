"""What a service worker gets: all of it, to the byte that push services take."""

from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected
from notify_pipeline.channels.webpush.message import MAX_PLAINTEXT_BYTES, WebPushMessage, prepare
from notify_pipeline.core.records import Action, Content, Recipient
from notify_pipeline.core.vocabulary import Channel, Platform, Priority
from tests.channels.harness import RECEIPTS, notification, utc_now

D = "0123456789abcdef" * 2 + "01234567"


def made(**changes: object) -> WebPushMessage:
    return prepare(notification(**changes), Platform.WEBPUSH, RECEIPTS)


def read(message: WebPushMessage, user_id: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(message.plaintext(Recipient("a", Platform.WEBPUSH, user_id), D))
    return found


def test_everything_is_there() -> None:
    content = Content("Tïtle", 'B"ody %s', "https://example.com/a", "https://example.com/i.png", {"key": "v", "d": "x"})
    got = read(made(content=content))
    tag = got.pop("tag")
    assert 0 < len(tag) <= 32
    assert got == {
        "notificationId": "notification-1",
        "platform": "webpush",
        "provider": "webpush",
        "d": D,
        "receipt": f"{RECEIPTS}/notification/received"
        f"?notificationId=notification-1&platform=webpush&provider=webpush&d={D}",
        "title": "Tïtle",
        "body": 'B"ody %s',
        "link": "https://example.com/a",
        "image_url": "https://example.com/i.png",
        "key": "v",
    }


def test_icon_and_buttons_are_in_the_same_object() -> None:
    actions = (Action("read", "Re%ad", "https://example.com/1", "https://example.com/r.png"), Action("mute", "Mute"))
    got = read(made(content=Content("T", icon_url="https://example.com/i.png", actions=actions, data={"actions": "x"})))
    assert got["icon_url"] == "https://example.com/i.png"
    assert got["actions"] == [
        {"action": "read", "title": "Re%ad", "link": "https://example.com/1", "icon_url": "https://example.com/r.png"},
        {"action": "mute", "title": "Mute"},
    ]
    with pytest.raises(ContentRejected) as caught:
        made(content=Content("T", actions=(Action("a", "T", "https://example.com/" + "x" * 4_000),)))
    assert caught.value.code == PAYLOAD_TOO_LARGE


def test_a_channels_own_content_goes_before_the_others() -> None:
    got = read(made(overrides={Channel.WEBPUSH: Content("For browsers")}))
    assert (got["title"], "body" in got) == ("For browsers", False)


def test_headers() -> None:
    now = utc_now()
    message = made(expires_at=now + timedelta(seconds=90, milliseconds=900), priority=Priority.LOW, collapse_key="a b")
    headers = message.headers(now)
    assert headers == {
        "TTL": "90",
        "Urgency": "low",
        "Topic": read(message)["tag"],
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
    }
    assert made(collapse_key="a b").topic == message.topic != made().topic
    assert message.headers(now + timedelta(hours=1))["TTL"] == "0"
    assert made(expires_at=now + timedelta(days=400)).headers(now)["TTL"] == "2419200"


@given(st.text(max_size=40), st.text(max_size=40), st.none() | st.text(max_size=40))
def test_any_text_arrives(title: str, value: str, user_id: str | None) -> None:
    try:
        message = made(content=Content(f"{title}[[[user_id]]]", data={"key": value}))
    except ContentRejected as rejected:
        assert rejected.code == "invalid_text"
        return
    shown = (user_id or "").encode("utf-8", "replace").decode()
    assert read(message, user_id)["title"].endswith(shown)


def test_the_limit_is_met_to_the_byte() -> None:
    room = MAX_PLAINTEXT_BYTES - len(made(content=Content("")).plaintext(Recipient("a", Platform.WEBPUSH), D))
    most = made(content=Content("x" * room))
    assert len(most.plaintext(Recipient("a", Platform.WEBPUSH), D)) == MAX_PLAINTEXT_BYTES
    for content in (Content("x" * (room + 1)), Content("[[[user_id]]]" + "x" * (room + 1))):
        with pytest.raises(ContentRejected) as caught:
            made(content=content)
        assert caught.value.code == PAYLOAD_TOO_LARGE
    personal = made(content=Content("[[[user_id]]]" + "x" * room))
    assert len(personal.plaintext(Recipient("a", Platform.WEBPUSH), D)) == MAX_PLAINTEXT_BYTES
    assert len(personal.plaintext(Recipient("a", Platform.WEBPUSH, "é"), D)) == MAX_PLAINTEXT_BYTES + 2
