"""The page script in a real Chromium, before a real ingress: a browser becomes a contact, stays one, and leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests as http

from notify_pipeline.core import vapid
from notify_pipeline.core.ids import new_id
from notify_pipeline.sandbox.tokens import fcm_token
from tests.browser.push_desk import Desk, page_of
from tests.browsers import Site, served
from tests.waiting import PATIENCE_S, wait_for

ICON = "https://example.com/domain.png"
# What a browser does when it changes a subscription by itself, while no page is open.
_CHANGE = """
async (subscription) => {
  const waits = [];
  const event = new ExtendableEvent("pushsubscriptionchange");
  event.newSubscription = { toJSON: () => subscription };
  event.waitUntil = (promise) => waits.push(promise);
  self.dispatchEvent(event);
  await Promise.all(waits);
}
"""
_REGISTRATION = "navigator.serviceWorker.getRegistration('/notify-push-scope')"


@dataclass(frozen=True)
class Shop:
    """A site whose page has the page script, and the domain that it speaks for."""

    desk: Desk
    name: str
    site: Site

    def put(self, *, enabled: bool = True) -> None:
        body = {"isPushFeatureEnabled": enabled, "allowedOrigins": [self.site.origin], "iconUrl": ICON}
        self.desk.call("PUT", f"/domains/{self.name}", body)

    def contacts(self) -> list[dict[str, Any]]:
        """Return the domain's contacts as their owner sees them."""
        found: list[dict[str, Any]] = self.desk.call("GET", f"/push-contacts?domain={self.name}")["items"]
        return found

    def only(self) -> dict[str, Any]:
        """Return its one active contact."""
        (found,) = [each for each in self.contacts() if each["isActive"]]
        return found


@pytest.fixture
def shop(desk: Desk) -> Iterator[Shop]:
    name = f"shop-{new_id()}.example"
    with served(page_of(desk.ingress.url, domain=name)) as site:
        found = Shop(desk, name, site)
        found.put()
        yield found
        desk.leave(site)


def test_a_visitor_becomes_a_contact_gets_a_message_and_clicks(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site, allows=False)
    visitor.run("NotifyPush.ready")
    assert visitor.run("NotifyPush.isEnabled()") is True
    assert visitor.run("NotifyPush.setEmail('Ada@example.com')") is False, "it waits for the contact"
    assert shop.contacts() == []
    desk.allow(shop.site)
    token = visitor.run("NotifyPush.subscribe()")
    contact = shop.only()
    assert (contact["deviceToken"], contact["platform"], contact["email"]) == (token, "webpush", "ada@example.com")
    status = visitor.run("NotifyPush.status()")
    assert (status["subscribed"], status["deviceToken"]) == (True, token)
    assert status["visitorGuid"] == contact["visitorGuid"]
    assert visitor.run("NotifyPush.setEmail('grace@example.com')") is True
    assert visitor.run("NotifyPush.setVisitorGuid('visitor-7')") is True
    contact = shop.only()
    assert (contact["email"], contact["visitorGuid"]) == ("grace@example.com", "visitor-7")

    buy = {"action": "buy", "title": "Buy", "link": "https://example.com/buy"}
    message = {
        "title": "Hello [[[name]]]",
        "body": "It works.",
        "onClickLink": "https://example.com/",
        "actions": [buy],
    }
    path = f"/push-contacts/{shop.name}/visitors/message"
    to = [{"visitorGuid": "visitor-7", "fields": {"name": "Grace"}}]
    message_id = desk.call("POST", path, message | {"visitors": to})["messageId"]
    plaintext = desk.aside(desk.deliver, message_id)
    visitor.push(plaintext)
    (shown,) = visitor.shown()
    assert (shown["title"], shown["body"], shown["icon"]) == ("Hello Grace", "It works.", ICON)
    assert visitor.click(shown["tag"], "buy") == [buy["link"]]
    expected = [("clicked", "buy"), ("opened", None), ("received", None)]
    wait_for(lambda: desk.receipts(message_id) == expected)


def test_each_visit_registers_again_once(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site)
    visitor.run("NotifyPush.ready")
    before = shop.only()
    visitor.run("NotifyPush.setEmail('ada@example.com')")
    desk.call("DELETE", f"/push-contacts/{before['deviceToken']}")
    visitor.page.reload()
    visitor.run("NotifyPush.ready")
    assert [each["isActive"] for each in shop.contacts()] == [False], "the same visit asks no more"
    again = desk.visit(shop.site)
    again.run("NotifyPush.ready")
    revived = shop.only()
    assert (revived["deviceToken"], revived["email"]) == (before["deviceToken"], "ada@example.com")
    assert revived["visitorGuid"] == before["visitorGuid"]


def test_a_contact_that_is_gone_is_made_again_when_it_is_named(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site)
    visitor.run("NotifyPush.ready")
    desk.call("DELETE", f"/push-contacts/{shop.only()['deviceToken']}")
    assert visitor.run("NotifyPush.setEmail('ada@example.com')") is True
    assert shop.only()["email"] == "ada@example.com"


def test_who_unsubscribes_is_gone_and_stays_so(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site)
    visitor.run("NotifyPush.ready")
    visitor.run("NotifyPush.unsubscribe()")
    (contact,) = shop.contacts()
    assert (contact["isActive"], contact["deleteReason"]) == (False, "unsubscribed")
    assert visitor.run(f"{_REGISTRATION}.then((it) => it.pushManager.getSubscription())") is None
    later = desk.visit(shop.site)
    later.run("NotifyPush.ready")
    assert later.run("NotifyPush.status()")["subscribed"] is False
    assert [each["isActive"] for each in shop.contacts()] == [False]
    assert later.run("NotifyPush.subscribe()") == shop.only()["deviceToken"]


def test_a_subscription_with_another_key_or_address_is_replaced_and_the_contact_moves(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site)
    visitor.run("NotifyPush.ready")
    visitor.run("NotifyPush.setEmail('ada@example.com')")
    first = shop.only()
    other_key = vapid.public_text(vapid.key_of(b"another key's 32 bytes, of tests"))
    subscribes = "pushManager.subscribe({ applicationServerKey: it })"
    visitor.run(f"{_REGISTRATION}.then((registration) => registration.{subscribes}).then(() => null)", other_key)
    again = desk.visit(shop.site)
    again.run("NotifyPush.ready")
    second = shop.only()
    assert second["token"] != first["token"]
    kept = again.run("""JSON.parse(localStorage.getItem("the browser's subscription")).applicationServerKey""")
    assert kept == desk.call("GET", f"/domains/{shop.name}/push-configuration")["applicationServerKey"] != other_key
    assert (second["email"], second["visitorGuid"]) == ("ada@example.com", first["visitorGuid"])
    # The browser does so by itself, while no page is open.
    moved = http.post(f"{desk.sandbox}/webpush/subscriptions", timeout=PATIENCE_S).json()
    again.worker().evaluate(_CHANGE, moved)
    third = shop.only()
    assert third["token"] not in (first["token"], second["token"])
    assert (third["email"], third["visitorGuid"]) == ("ada@example.com", first["visitorGuid"])
    assert again.run("NotifyPush.setEmail('grace@example.com')") is True
    assert shop.only()["email"] == "grace@example.com"


def test_a_page_with_firebase_registers_its_tokens(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site)
    visitor.run("NotifyPush.ready")
    guid = shop.only()["visitorGuid"]
    for token in (fcm_token("one"), fcm_token("two")):
        options = {"domain": shop.name, "ingress": desk.ingress.url}
        visitor.run(
            "NotifyPush.init({ ...it.options, getToken: async (worker) => worker.scope && it.token })",
            {"options": options, "token": token},
        )
        assert visitor.run("NotifyPush.subscribe()") == token
        contact = shop.only()
        assert (contact["deviceToken"], contact["platform"], contact["visitorGuid"]) == (token, "web", guid)


def test_what_is_refused_is_said(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site, allows=False)
    visitor.run("NotifyPush.ready")
    assert visitor.run("NotifyPush.subscribe()") == {"failed": "permission_denied"}
    desk.allow(shop.site)
    shop.put(enabled=False)
    assert visitor.run("NotifyPush.subscribe()") == {"failed": "domain_disabled"}
    assert shop.contacts() == []


def test_a_foreign_page_gets_nowhere(desk: Desk, shop: Shop) -> None:
    with served(page_of(desk.ingress.url, domain=shop.name)) as foreign:
        visitor = desk.visit(foreign)
        assert visitor.run("NotifyPush.subscribe()") == {"failed": "unreachable"}
        assert shop.contacts() == []
        desk.leave(foreign)


def test_an_element_that_poses_as_the_script_leads_nobody_elsewhere(desk: Desk, shop: Shop) -> None:
    pages = page_of(desk.ingress.url, domain=shop.name)
    posing = '<img name="currentScript" src="https://evil.example/push/x.png" data-domain="evil.example">'
    with served({**pages, "/": pages["/"].replace("<body>", f"<body>{posing}")}) as site:
        visitor = desk.visit(site)
        assert visitor.run("document.currentScript.localName") == "img"
        assert visitor.run("NotifyPush.isEnabled()") == {"failed": "invalid_options"}, "nobody was asked"
        desk.leave(site)


def test_what_got_no_answer_is_said_again_at_the_next_visit(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site)
    visitor.run("NotifyPush.ready")
    visitor.page.route("**/push-contacts/**", lambda route: route.abort())
    assert visitor.run("NotifyPush.setEmail('ada@example.com')") == {"failed": "unreachable"}
    visitor.run("NotifyPush.unsubscribe()")
    assert shop.only()["email"] is None, "the ingress knows of neither"
    again = desk.visit(shop.site)
    again.run("NotifyPush.ready")
    assert [each["isActive"] for each in shop.contacts()] == [False]
    again.page.route("**/push-contacts", lambda route: route.abort())
    assert again.run("NotifyPush.subscribe({ email: 'grace@example.com' })") == {"failed": "unreachable"}
    again.page.unroute("**/push-contacts")
    again.page.reload()
    again.run("NotifyPush.ready")
    assert shop.only()["email"] == "grace@example.com"


def test_who_is_told_to_wait_waits(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site, allows=False)
    visitor.run("NotifyPush.ready")
    desk.allow(shop.site)
    asked: list[str] = []

    def too_many(route: Any) -> None:
        asked.append(route.request.method)
        cors = {"Access-Control-Allow-Origin": shop.site.origin, "Access-Control-Expose-Headers": "Retry-After"}
        route.fulfill(status=429, headers={"Retry-After": "1800", **cors}, body="{}")

    visitor.page.route("**/push-contacts", too_many)
    refused = "NotifyPush.subscribe().catch(({ code, retryAfter }) => ({ code, retryAfter }))"
    assert visitor.run(refused) == {"code": "rate_limited", "retryAfter": 1800}
    assert visitor.run(refused)["code"] == "rate_limited"
    visitor.page.reload()
    visitor.run("NotifyPush.ready")
    assert asked == ["POST"], "it was asked once"


def test_an_address_that_is_refused_keeps_nobody_out(desk: Desk, shop: Shop) -> None:
    visitor = desk.visit(shop.site, allows=False)
    visitor.run("NotifyPush.ready")
    desk.allow(shop.site)
    assert visitor.run("NotifyPush.setEmail('not an address')") is False
    visitor.run("void NotifyPush.addEventListener('error', ({ detail }) => (window.said = detail.fields))")
    assert visitor.run("NotifyPush.subscribe()") == shop.only()["deviceToken"]
    assert visitor.run("said") == ["email"]
    visitor.run("NotifyPush.setEmail('ada@example.com')")
    assert "failed" in visitor.run("NotifyPush.setEmail('nor this')")
    assert visitor.run("NotifyPush.status()")["email"] == shop.only()["email"] == "ada@example.com"


def test_a_developer_tries_it_on_the_demo_page(desk: Desk) -> None:
    own = Site(desk.ingress.port)
    shop = Shop(desk, f"demo-{new_id()}.example", own)
    shop.put()
    visitor = desk.visit(own, "/push/demo?domain=a$(b)", "/push/notify-push-scope")
    page, troubles = visitor.page, list[str]()
    assert "$(b)" not in page.locator("#put").text_content()
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: "Content Security Policy" in said.text and troubles.append(said.text))
    page.get_by_label("Domain", exact=True).fill("https://nobody.example/offers")
    page.get_by_role("button", name="Use it").click()
    visitor.soon(lambda: "unknown_domain" in page.get_by_role("alert").text_content(), "the reason, before any click")
    assert "/domains/nobody.example " in page.locator("#put").text_content()
    page.get_by_label("Domain", exact=True).fill(f" {shop.name.upper()}")
    page.get_by_role("button", name="Use it").click()
    badge = page.locator("#badge")
    visitor.soon(lambda: badge.text_content() == "subscribed", "the visit's registration")
    page.get_by_role("button", name="Unsubscribe").click()
    visitor.soon(lambda: badge.text_content() == "not subscribed", "the end")
    page.get_by_role("button", name="Subscribe", exact=True).click()
    visitor.soon(lambda: badge.text_content() == "subscribed", "another beginning")
    page.get_by_label("E-mail address").fill("ada@example.com")
    page.get_by_role("button", name="Save").click()
    visitor.soon(lambda: page.get_by_text("Saved.").count(), "the e-mail address")
    assert shop.only()["email"] == "ada@example.com"
    message = desk.call("POST", f"/push-contacts/{shop.name}/message", {"title": "Hello", "body": "It works."})
    visitor.push(desk.aside(desk.deliver, message["messageId"]))
    assert "It works." in page.get_by_role("listitem").text_content()
    assert shop.name in page.locator("#send").text_content()
    assert not troubles, "its policy lets it do all that it does"
    desk.leave(own)
