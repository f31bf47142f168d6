"""What is sent: payloads of both providers for any content, and their limits."""

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notify_pipeline.channels.apns.message import MAX_PAYLOAD_BYTES as APNS_LIMIT
from notify_pipeline.channels.apns.message import ApnsCodec
from notify_pipeline.channels.base import ContentRejected
from notify_pipeline.channels.codec import Codec
from notify_pipeline.channels.fcm.message import MAX_PAYLOAD_BYTES as FCM_LIMIT
from notify_pipeline.channels.fcm.message import FcmCodec
from notify_pipeline.channels.payload import collapse_key
from notify_pipeline.core.ids import DELIVERY_ID_LENGTH, short_hash
from notify_pipeline.core.records import Action, Content, Notification, Recipient
from notify_pipeline.core.vocabulary import Platform, Priority
from notify_pipeline.sandbox import fcm_schema
from tests.channels.harness import RECEIPTS, notification

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
FCM = FcmCodec("project-1", RECEIPTS)
APNS = ApnsCodec("com.example.app", RECEIPTS)
TOKEN = "cTokenTokenTokenToken0:APA91b" + "x" * 134
DEVICE = "0f" * 32
D = "0123456789abcdef" * 2 + "01234567"


def made(**changes: object) -> Notification:
    return notification(**({"accepted_at": NOW, "expires_at": NOW + timedelta(hours=1)} | changes))


def rendered(codec: Codec, platform: Platform, sent: Notification, address: str, d: str = D) -> tuple[str, Any]:
    path, body = codec.renderer(codec.prepare(sent, platform), NOW)(Recipient(address, platform), d)
    return path, orjson.loads(body)


def test_android() -> None:
    path, request = rendered(FCM, Platform.ANDROID, made(), TOKEN)
    assert path == "/v1/projects/project-1/messages:send"
    assert list(request) == ["message"]
    message = request["message"]
    assert message["token"] == TOKEN
    assert message["android"] == {"collapse_key": collapse_key(made()), "priority": "high", "ttl": "3600s"}
    assert "notification" not in message, "a notification message would never call its beacon"
    assert message["data"] == {
        "key": "value",
        "title": "Title",
        "body": "Body",
        "link": "https://example.com/a",
        "image_url": "https://example.com/i.png",
        "notificationId": "notification-1",
        "platform": "android",
        "provider": "fcm",
        "d": D,
        "receipt": f"{RECEIPTS}/notification/received?notificationId=notification-1&platform=android&provider=fcm"
        f"&d={D}",
    }


def test_web() -> None:
    _, request = rendered(FCM, Platform.WEB, made(priority=Priority.LOW, collapse_key="k" * 64), TOKEN)
    web = request["message"]["webpush"]
    assert web["headers"] == {"TTL": "3600", "Urgency": "low", "Topic": short_hash("k" * 64)}
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", web["headers"]["Topic"])
    assert web["fcm_options"] == {"link": "https://example.com/a"}
    assert web["notification"]["title"] == "Title"
    assert web["notification"]["image"] == "https://example.com/i.png"
    assert "android" not in request["message"]
    assert request["message"]["data"]["platform"] == "web"


BUTTONS = Content(
    "T",
    icon_url="https://example.com/i.png",
    actions=(
        Action("read", 'R"ead', "https://example.com/1?a=%s", "https://example.com/r.png"),
        Action("mute", "Mute [[[user_id]]]"),
    ),
)


def test_fcm_shows_buttons_in_browsers_and_gives_their_links_as_data() -> None:
    _, request = rendered(FCM, Platform.WEB, made(content=BUTTONS), TOKEN)
    message = request["message"]
    assert message["webpush"]["notification"]["icon"] == message["data"]["icon_url"] == "https://example.com/i.png"
    assert message["webpush"]["notification"]["actions"] == [
        {"action": "read", "title": 'R"ead', "icon": "https://example.com/r.png"},
        {"action": "mute", "title": "Mute [[[user_id]]]"},
    ]
    assert orjson.loads(message["data"]["actions"]) == [action.stored for action in BUTTONS.actions]
    _, request = rendered(FCM, Platform.ANDROID, made(content=BUTTONS), TOKEN)
    assert request["message"]["data"]["icon_url"] == "https://example.com/i.png"
    assert orjson.loads(request["message"]["data"]["actions"]) == [action.stored for action in BUTTONS.actions]
    assert fcm_schema.check(request) == []
    _, payload = rendered(APNS, Platform.IOS, made(content=BUTTONS), DEVICE)
    assert not {"icon_url", "actions"} & payload.keys()


def test_fcm_counts_buttons_where_they_are_shown_and_where_they_are_data() -> None:
    def size_of(length: int) -> int:
        content = dataclasses.replace(BUTTONS, actions=(Action("a", "x" * 50, "https://example.com/" + "y" * length),))
        _, request = rendered(FCM, Platform.WEB, made(content=content), TOKEN)
        data, shown = request["message"]["data"], request["message"]["webpush"]["notification"]
        return sum(len(key) + len(value) for key, value in data.items()) + len(orjson.dumps(shown))

    room = FCM_LIMIT - size_of(0)
    assert size_of(room) == FCM_LIMIT
    with pytest.raises(ContentRejected):
        size_of(room + 1)


def test_a_link_that_fcm_would_refuse_is_left_to_the_service_worker() -> None:
    _, request = rendered(FCM, Platform.WEB, made(content=Content("T", link="myapp://x")), TOKEN)
    assert "fcm_options" not in request["message"]["webpush"]
    assert request["message"]["data"]["link"] == "myapp://x"


def test_ios() -> None:
    path, payload = rendered(APNS, Platform.IOS, made(category="cat"), DEVICE)
    assert path == f"/3/device/{DEVICE}"
    assert payload["aps"] == {"alert": {"title": "Title", "body": "Body"}, "mutable-content": 1, "thread-id": "cat"}
    assert payload["notificationId"] == "notification-1"
    assert payload["key"] == "value"
    assert payload["link"] == "https://example.com/a"
    headers = dict(APNS.headers(APNS.prepare(made(), Platform.IOS), "JWT"))
    assert headers == {
        "authorization": "bearer JWT",
        "apns-topic": "com.example.app",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": str(int((NOW + timedelta(hours=1)).timestamp())),
        "apns-collapse-id": collapse_key(made()),
        "content-type": "application/json",
    }


def test_nothing_to_show_goes_in_the_background() -> None:
    silent = made(content=Content(data={"k": "v"}))
    _, payload = rendered(APNS, Platform.IOS, silent, DEVICE)
    assert payload["aps"] == {"content-available": 1}
    headers = dict(APNS.headers(APNS.prepare(silent, Platform.IOS), "JWT"))
    assert (headers["apns-push-type"], headers["apns-priority"]) == ("background", "5")
    _, request = rendered(FCM, Platform.WEB, silent, TOKEN)
    assert "notification" not in request["message"]["webpush"]


@pytest.mark.parametrize(
    ("priority", "android", "ios"),
    [(Priority.HIGH, "high", "10"), (Priority.NORMAL, "normal", "5"), (Priority.LOW, "normal", "5")],
)
def test_priority(priority: Priority, android: str, ios: str) -> None:
    _, request = rendered(FCM, Platform.ANDROID, made(priority=priority), TOKEN)
    assert request["message"]["android"]["priority"] == android
    assert dict(APNS.headers(APNS.prepare(made(priority=priority), Platform.IOS), "J"))["apns-priority"] == ios


def test_time_to_live_counts_from_sending() -> None:
    message = FCM.prepare(made(), Platform.ANDROID)
    for passed, left in ((0, "3600s"), (1800, "1800s"), (7200, "0s"), (-(10**7), "2419200s")):
        _, body = FCM.renderer(message, NOW + timedelta(seconds=passed))(Recipient(TOKEN, Platform.ANDROID), D)
        assert orjson.loads(body)["message"]["android"]["ttl"] == left


def test_validate_only_in_a_dry_run() -> None:
    _, request = rendered(FCM, Platform.ANDROID, made(dry_run=True), TOKEN)
    assert request["validate_only"] is True


def test_the_collapse_key_is_the_senders_or_this_notifications_own() -> None:
    assert collapse_key(made(collapse_key="mine")) == "mine"
    assert collapse_key(made()) == collapse_key(made(content=Content("other")))
    others = {collapse_key(made(notification_id="n2")), collapse_key(made(tenant="t2")), collapse_key(made())}
    assert len(others) == 3
    for key in ("x" * 65, "ä", "a\r\nb: c", " "):
        headers = dict(APNS.headers(APNS.prepare(made(collapse_key=key), Platform.IOS), "J"))
        assert re.fullmatch(r"[!-~]{1,64}", headers["apns-collapse-id"])


@pytest.mark.parametrize("key", ["from", "message_type", "notification", "google.x", "gcm.notification.title"])
def test_keys_that_fcm_keeps_for_itself_are_rejected(key: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        FCM.prepare(made(content=Content("T", data={key: "v"})), Platform.ANDROID)
    assert caught.value.code == "reserved_data_key"


def _largest(fits: Any) -> int:
    return max(size for size in range(2000, 4200) if fits(size))


def test_the_limit_is_met_to_the_byte() -> None:
    def body_of(size: int) -> Notification:
        return made(content=Content("T", "x" * size))

    def fits(codec: Codec, platform: Platform, size: int) -> bool:
        try:
            codec.prepare(body_of(size), platform)
        except ContentRejected as rejected:
            assert rejected.code == "payload_too_large"
            return False
        return True

    size = _largest(lambda size: fits(APNS, Platform.IOS, size))
    _, body = APNS.renderer(APNS.prepare(body_of(size), Platform.IOS), NOW)(Recipient(DEVICE, Platform.IOS), D)
    assert len(body) == APNS_LIMIT

    size = _largest(lambda size: fits(FCM, Platform.ANDROID, size))
    _, request = rendered(FCM, Platform.ANDROID, body_of(size), TOKEN)
    data = request["message"]["data"]
    assert sum(len(key.encode()) + len(value.encode()) for key, value in data.items()) == FCM_LIMIT


TEXT = st.text(max_size=40)
OURS = ("notificationId", "platform", "provider", "d", "receipt")
KEYS = st.sampled_from([*OURS, "aps", "title", "%(d)b", "%s"]) | TEXT
CONTENT = st.builds(
    Content,
    title=st.none() | TEXT,
    body=st.none() | TEXT,
    link=st.none() | TEXT,
    image_url=st.none() | TEXT,
    data=st.dictionaries(KEYS, TEXT, max_size=5),
    icon_url=st.none() | TEXT,
    actions=st.lists(
        st.builds(Action, action=TEXT, title=TEXT, link=st.none() | TEXT, icon_url=st.none() | TEXT), max_size=3
    ).map(tuple),
)
TOKENS = st.from_regex(FCM.address, fullmatch=True)
IDS = st.from_regex(rf"[A-Za-z0-9_-]{{1,{DELIVERY_ID_LENGTH}}}", fullmatch=True)


def _check_data(data: dict[str, Any], sent: Notification, platform: Platform, provider: str, d: str) -> None:
    assert data["notificationId"] == sent.notification_id
    assert (data["platform"], data["provider"], data["d"]) == (platform.value, provider, d)
    url = urlsplit(data["receipt"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{RECEIPTS}/notification/received"
    assert parse_qs(url.query, keep_blank_values=True, strict_parsing=True) == {
        "notificationId": [sent.notification_id],
        "platform": [platform.value],
        "provider": [provider],
        "d": [d],
    }
    for key, value in sent.content.data.items():
        if key not in (*OURS, "aps", "title", "body", "link", "image_url", "icon_url", "actions"):
            assert data[key] == value


@given(CONTENT, TEXT.filter(bool), st.sampled_from([Platform.ANDROID, Platform.WEB]), TOKENS, IDS)
@example(Content("%(token)b %% %s", "%"), "%2F&d=x", Platform.ANDROID, "a:b.c-d_e", "d")
def test_fcm_bodies_are_valid_json_for_any_content(
    content: Content, notification_id: str, platform: Platform, token: str, d: str
) -> None:
    sent = made(content=content, notification_id=notification_id)
    try:
        _, request = rendered(FCM, platform, sent, token, d)
    except ContentRejected as rejected:
        assert rejected.code in ("reserved_data_key", "invalid_content")
        return
    message = request["message"]
    assert message["token"] == token
    _check_data(message["data"], sent, platform, "fcm", d)
    if platform is Platform.ANDROID and content.title is not None:
        assert message["data"]["title"] == content.title
    if content.actions:
        assert orjson.loads(message["data"]["actions"]) == [action.stored for action in content.actions]
    assert all("token" in field for field, _ in fcm_schema.check(request))


@given(CONTENT, TEXT.filter(bool), IDS)
@example(Content("%(d)b %% %s", "%"), "%2F&d=x", "d")
def test_apns_bodies_are_valid_json_for_any_content(content: Content, notification_id: str, d: str) -> None:
    sent = made(content=content, notification_id=notification_id)
    _, payload = rendered(APNS, Platform.IOS, sent, DEVICE, d)
    _check_data(payload, sent, Platform.IOS, "apns", d)
    if content.title is not None:
        assert payload["aps"]["alert"]["title"] == content.title
