"""The page script and the service worker in a real Chromium, before a real ingress."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from notify_pipeline.channels.fcm.message import FcmCodec
from notify_pipeline.channels.webpush import message as webpush
from notify_pipeline.core.ids import DeliveryIds, new_id
from notify_pipeline.core.records import Action, Content, Notification, Recipient
from notify_pipeline.core.vocabulary import Platform
from notify_pipeline.delivery.context import DELIVERY_SECRET
from tests.browser.push_desk import WORKER, Desk, Dropping, Visitor, page_of
from tests.browsers import Site, served
from tests.channels.harness import notification
from tests.waiting import wait_for

BUY = Action("buy", "Buy", "https://example.com/buy", "https://example.com/buy.png")
LATER = Action("later", "Later")
CONTENT = Content(
    title="Price drop — 40 %",
    body="Only today.",
    link="https://example.com/offer?a=1&b=ü",
    image_url="https://example.com/offer.png",
    icon_url="https://example.com/icon.png",
    actions=(BUY, LATER),
    data={"campaign": "november"},
)

# A page of the scope waits until a worker is active.
_INSTALL = """
navigator.serviceWorker.register("/push-worker.js", {scope: "/"})
  .then(() => navigator.serviceWorker.ready).then(() => null)
"""


@pytest.fixture
def site(desk: Desk) -> Iterator[Site]:
    """A site whose page has a worker and no page script."""
    pages = page_of(desk.ingress.url)
    with served({path: pages[path] for path in (WORKER, "/offers")}) as found:
        yield found


@pytest.fixture
def visitor(desk: Desk, site: Site) -> Iterator[Visitor]:
    """Its visitor, with the worker installed."""
    found = desk.visit(site, scope="/")
    found.run(_INSTALL)
    yield found
    found.page.close()


def sent(desk: Desk, platform: Platform, content: Content = CONTENT) -> tuple[Notification, Any]:
    """Return a notification, and what a browser gets of it: the very bytes of our channel."""
    now = datetime.now(UTC)
    made = notification(
        tenant=desk.tenant,
        notification_id=new_id(),
        content=content,
        accepted_at=now,
        expires_at=now + timedelta(hours=1),
    )
    recipient = Recipient("wp.token" if platform is Platform.WEBPUSH else "token", platform)
    ids = DeliveryIds(desk.ledger.secret(DELIVERY_SECRET), made.tenant, made.notification_id, platform.channel.value)
    d, receipts = ids.of(recipient.address), desk.ingress.url
    if platform is Platform.WEBPUSH:
        return made, webpush.prepare(made, platform, receipts).plaintext(recipient, d).decode()
    codec = FcmCodec("project", receipts)
    rendered = codec.renderer(codec.prepare(made, platform), now)(recipient, d)
    assert rendered is not None
    message = orjson.loads(rendered[1])["message"]
    # What FCM makes of it, as its own service worker reads it (firebase-js-sdk, MessagePayloadInternal).
    shown, options = message["webpush"]["notification"], message["webpush"]["fcm_options"]
    return made, {
        "data": message["data"],
        "notification": {**shown, "click_action": options["link"]},
        "fcmOptions": options,
        "from": "1234567890",
        "fcmMessageId": new_id(),
        "priority": "normal",
    }


@pytest.mark.parametrize("platform", [Platform.WEBPUSH, Platform.WEB])
def test_a_push_is_shown_and_said_to_have_arrived(desk: Desk, visitor: Visitor, platform: Platform) -> None:
    made, payload = sent(desk, platform)
    visitor.push(payload)
    (shown,) = visitor.shown()
    assert (shown["title"], shown["body"]) == (CONTENT.title, CONTENT.body)
    assert (shown["icon"], shown["image"]) == (CONTENT.icon_url, CONTENT.image_url)
    assert shown["actions"] == [
        {"action": "buy", "title": "Buy", "icon": BUY.icon_url},
        {"action": "later", "title": "Later", "icon": ""},
    ]
    wait_for(lambda: desk.receipts(made.notification_id) == [("received", None)])
    tag = shown["tag"]
    # The same again, as after a lost answer, replaces it.
    visitor.push(payload)
    wait_for(lambda: len(desk.receipts(made.notification_id)) == 2)
    assert [each["tag"] for each in visitor.shown()] == [tag]
    assert visitor.click(tag, "buy") == [BUY.link]
    expected = [("clicked", "buy"), ("opened", None), ("received", None), ("received", None)]
    wait_for(lambda: desk.receipts(made.notification_id) == expected)
    assert visitor.shown() == [], "a click closes it"
    visitor.push(payload)
    assert visitor.click(tag) == ["https://example.com/offer?a=1&b=%C3%BC"]
    wait_for(lambda: ("clicked", None) in desk.receipts(made.notification_id))
    visitor.push(payload)
    assert visitor.click(tag, "later") == [], "a button without a link opens nothing"
    wait_for(lambda: ("clicked", "later") in desk.receipts(made.notification_id))


def test_an_open_tab_with_the_link_is_shown_again(desk: Desk, visitor: Visitor) -> None:
    link = f"{visitor.site.origin}/offers"
    visitor.push({"title": "Offers", "tag": "t", "link": link})
    assert visitor.click("t") == [link]
    with desk.context.new_page() as tab:
        tab.goto(link)
        visitor.push({"title": "Offers", "tag": "t", "link": link})
        assert visitor.click("t") == [f"focused {link}"]


ODD: list[tuple[Any, str, str | None]] = [
    ("", "localhost", None),
    ("not JSON", "localhost", None),
    ("[1, 2]", "localhost", None),
    ("null", "localhost", None),
    ({"title": 5, "body": ["b"], "actions": 7, "data": [], "notification": "n", "receipt": 1}, "localhost", None),
    (
        {"title": "T", "actions": [None, {"action": "a"}, {"title": "t"}], "image_url": "ftp://x", "link": "::"},
        "T",
        None,
    ),
    ({"title": "T", "receipt": "javascript:alert(1)", "actions": "[{"}, "T", None),
    ({"title": "T", "link": "javascript:alert(1)"}, "T", None),
    ({"title": "T", "link": "http://example.com/"}, "T", None),
    (
        {"data": {"title": "Only data"}, "fcmOptions": {"link": "https://example.com/f"}},
        "Only data",
        "https://example.com/f",
    ),
    ({"notification": {"title": "Console"}, "from": "1"}, "Console", None),
]


def test_whatever_arrives_something_is_shown_and_nothing_unsafe_is_kept(visitor: Visitor) -> None:
    for payload, _, _ in ODD:
        visitor.push(payload)
    shown = visitor.shown()
    assert len(shown) == len(ODD)
    for payload, title, link in ODD:
        found = next(each for each in shown if each["title"] == title and each["data"].get("link") == link)
        shown.remove(found)
        assert found["actions"] == [] and found["image"] == "" and not found["data"]["receipt"], payload


def test_an_action_may_have_any_name(visitor: Visitor) -> None:
    visitor.push({"title": "T", "tag": "t", "actions": [{"action": "constructor", "title": "Build"}]})
    assert visitor.click("t", "constructor") == [], "it has no link"


def test_a_site_s_own_notifications_are_left_alone(visitor: Visitor) -> None:
    options = {"tag": "own", "data": {"link": "https://example.com/"}}
    visitor.worker().evaluate("(options) => self.registration.showNotification('Own', options)", options)
    assert visitor.click("own") == []
    assert [each["title"] for each in visitor.shown()] == ["Own"]


def test_a_beacon_that_got_no_answer_is_sent_again(visitor: Visitor) -> None:
    with Dropping() as service:
        visitor.push({"title": "T", "receipt": f"{service.url}/notification/received?d=1"})
        wait_for(lambda: service.asked == ["POST /notification/received?d=1 HTTP/1.1"] * 2)
