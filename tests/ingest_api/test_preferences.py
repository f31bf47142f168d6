"""Preferences by the API and by the page behind a message's link: what they store, show, and say to whom."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from werkzeug.test import TestResponse

from notify_pipeline.core import unsubscribe_tokens, user_tokens
from notify_pipeline.core.ledger import preferences
from notify_pipeline.core.unsubscribe_tokens import Unsubscribing
from notify_pipeline.core.vocabulary import Channel
from tests.ingest_api.conftest import ADMIN, House, fields_of

PATH = "/users/ada/preferences"
ADA = "user:ada"


def of(shown: dict[str, Any]) -> Any:
    return shown["preferences"]


def test_preferences_are_replaced_changed_and_shown(any_house: House) -> None:
    api = any_house.secret
    assert of(api.ok("GET", PATH)) == {}
    whole = {"*": {"sms": False}, "offers": {"email": False, "*": True}}
    shown = api.ok("PUT", PATH, {"preferences": whole})
    assert of(shown) == whole
    assert {each["source"] for each in shown["said"]} == {"api"} and len(shown["said"]) == 3
    changed = api.ok("PATCH", PATH, {"preferences": {"offers": {"email": None}, "news": {"fcm": True}}})
    assert of(changed) == {"*": {"sms": False}, "offers": {"*": True}, "news": {"fcm": True}}
    assert of(api.ok("PUT", PATH, {"preferences": {}})) == {}
    assert of(any_house.stranger.ok("GET", PATH)) == {}


def test_a_user_says_it_with_their_own_token(house: House) -> None:
    secret = house.services.ledger.secret(user_tokens.SECRET)
    user = house.api(user_tokens.mint(secret, house.mine.tenant, "ada", house.clock()))
    shown = user.ok("PATCH", PATH, {"preferences": {"*": {"email": False}}})
    assert [each["source"] for each in shown["said"]] == ["user"]
    assert user.call("GET", "/users/bob/preferences").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"preferences": {"offers": {"pigeon": True}}}, "preferences"),
        ({"preferences": {"of fers": {"email": True}}}, "preferences"),
        ({"preferences": {"offers": {"email": None}}}, "preferences"),
        ({"preferences": {"offers": True}}, "preferences"),
        ({}, "preferences"),
        ({"preferences": {}, "more": 1}, "more"),
    ],
)
def test_what_cannot_be_meant_is_refused(house: House, body: dict[str, Any], field: str) -> None:
    refused = house.secret.call("PUT", PATH, body)
    assert refused.status_code == 422
    assert all(each.startswith(field) for each in fields_of(refused))


class _Page(HTMLParser):
    """What a reader perceives of a page: its texts, its buttons, and whether everything is closed again."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def of(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]

    @property
    def buttons(self) -> dict[str, str]:
        values = [str(attrs["value"]) for tag, attrs in self.attributes if tag == "button"]
        return dict(zip(values, self.of("button"), strict=True))


def link(house: House, category: str = "offers", who: str = ADA, channel: Channel = Channel.EMAIL) -> str:
    about = Unsubscribing(house.mine.tenant, who, category, channel)
    return "/unsubscribe/" + unsubscribe_tokens.mint(house.services.ledger.secret(unsubscribe_tokens.SECRET), about)


def page(answer: TestResponse) -> _Page:
    assert answer.status_code == 200 and answer.content_type == "text/html; charset=utf-8", answer.text
    found = _Page(answer.text)
    assert found.open == []
    return found


def said(house: House, who: str = ADA) -> dict[tuple[str, str], tuple[bool, str]]:
    found = preferences.get(house.services.ledger, house.mine.tenant, who)
    return {pair: (each.enabled, each.source) for pair, each in found.items()}


def press(house: House, url: str, choice: str) -> _Page:
    return page(house.client.post(url, data={"choice": choice}))


def test_one_click_unsubscribes_and_looking_does_not(any_house: House) -> None:
    house, url = any_house, link(any_house)
    for method in ("GET", "HEAD", "GET"):
        assert house.client.open(url, method=method).status_code == 200
    assert said(house) == {}
    # As mail programs send it, with either of the encodings that RFC 8058 names.
    for content_type in ("application/x-www-form-urlencoded", "multipart/form-data"):
        answer = house.client.post(url, data={"List-Unsubscribe": "One-Click"}, content_type=content_type)
        assert answer.status_code == 200
    assert said(house) == {("offers", "email"): (False, "one_click")}
    audited = [each for each in house.secret.ok("GET", "/audit")["items"] if each["event"] == "preferences.changed"]
    assert [(each["actor"], each["detail"]["source"]) for each in audited] == [(ADA, "one_click")]


def test_the_page_stops_one_thing_or_everything_and_undoes_both(house: House) -> None:
    url = link(house)
    before = page(house.client.get(url))
    assert before.buttons == {
        "category": "Stop messages about “offers” by e-mail",
        "channel": "Stop everything by e-mail",
    }
    stopped = press(house, url, "category")
    assert said(house) == {("offers", "email"): (False, "page")}
    assert list(stopped.buttons) == ["channel", "again"]
    assert ("p", {"role": "status"}) in stopped.attributes
    press(house, url, "again")
    assert said(house) == {("offers", "email"): (True, "page")}
    # Everything is everything: what was wanted in particular too.
    everything = press(house, url, "channel")
    assert said(house) == {("", "email"): (False, "page")}
    assert list(everything.buttons) == ["again", "everything_again"]
    assert press(house, url, "everything_again").buttons == before.buttons
    assert said(house) == {}


def test_a_message_without_a_category_is_about_everything_on_its_channel(house: House) -> None:
    url = link(house, "", "device:ada@example.com", Channel.SMS)
    assert list(page(house.client.get(url)).buttons) == ["channel"]
    house.client.post(url, data={"List-Unsubscribe": "One-Click"})
    assert said(house, "device:ada@example.com") == {("", "sms"): (False, "one_click")}
    assert list(page(house.client.get(url)).buttons) == ["again"]
    told = json.dumps(house.secret.ok("GET", "/audit"))
    assert "one_click" in told and "ada@example" not in told


def test_the_page_says_what_cannot_be_refused(house: House) -> None:
    house.secret.ok("PUT", "/policies/preferences/offers", {"mandatory": True})
    shown = page(house.client.get(link(house)))
    assert "have to be sent" in shown.of("p")[0] and list(shown.buttons) == ["channel"]


def test_the_page_is_for_everybody_and_tells_nobody(house: House) -> None:
    answer = house.client.get(link(house))
    shown = page(answer)
    tags = [tag for tag, _ in shown.attributes]
    assert ("html", {"lang": "en"}) in shown.attributes and tags.count("h1") == tags.count("main") == 1
    assert shown.of("title") == [f"Unsubscribe: {shown.of('h1')[0]}"]
    assert not {"script", "img", "link", "iframe"} & set(tags) and "http" not in answer.text
    assert answer.headers["Referrer-Policy"] == "no-referrer" and answer.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_sender_s_name_is_text(house: House) -> None:
    change = {"name": "<b>A & B</b>", "active": True}
    assert house.api(ADMIN).call("PUT", f"/products/{house.mine.tenant}", change).status_code == 200
    text = house.client.get(link(house)).text
    assert "&lt;b&gt;A &amp; B&lt;/b&gt;" in text and not re.search(r"<b>", text)


@pytest.mark.parametrize(("form", "status"), [({}, 422), ({"choice": "all"}, 422), ({"List-Unsubscribe": "no"}, 422)])
def test_a_form_that_says_nothing_changes_nothing(house: House, form: dict[str, str], status: int) -> None:
    assert house.client.post(link(house), data=form).status_code == status
    assert said(house) == {}


def test_a_link_of_nobody_s_making_is_unknown(house: House) -> None:
    url = link(house)
    for forged in (url[:-2] + ("AA" if url[-2:] != "AA" else "BB"), "/unsubscribe/abc"):
        assert house.client.get(forged).status_code == 404
        assert house.client.post(forged, data={"List-Unsubscribe": "One-Click"}).status_code == 404
    browser = house.client.get(url[:-1], headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (browser.status_code, browser.mimetype) == (404, "text/html") and "does not work" in browser.text
    assert house.client.get(url[:-1], headers={"Accept": "*/*"}).json["error"]["code"] == "not_found"
    assert house.client.get("/unsubscribe/a b").status_code == 422
