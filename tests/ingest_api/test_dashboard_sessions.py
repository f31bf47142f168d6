"""Signing in to the dashboard, and what stands between strangers and its pages."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ingest_api.dashboard import sessions
from ingest_api.services import Services
from tests.ingest_api.apps import client_of
from tests.ingest_api.conftest import ADMIN, House, build, copied
from tests.ingest_api.dashboards import HOME, OURS, SHOWN, SIGN_IN, UPDATE, called, show, sign_in

CALL = called(SHOWN, [("address", "pathname", HOME), ("address", "search", "")])


@pytest.fixture
def browser(house: House) -> FlaskClient:
    """A client that keeps cookies, as browsers do."""
    return house.client.application.test_client()


def is_signed_in(browser: FlaskClient) -> bool:
    status = browser.get("/dashboard/session").status_code
    assert status in (204, 401)
    assert browser.get(HOME).status_code == (200 if status == 204 else 303)
    assert show(browser, HOME).status_code == (200 if status == 204 else 401)
    return status == 204


def cookie_of(response: TestResponse) -> tuple[str, set[str]]:
    """Return the cookie's value and its attributes."""
    value, *attributes = response.headers["Set-Cookie"].split("; ")
    return value.partition("=")[2], set(attributes)


def test_a_secret_key_opens_a_session_that_a_sign_out_ends(house: House, browser: FlaskClient) -> None:
    assert not is_signed_in(browser)
    answer = sign_in(browser, house.mine.secret_key)
    assert (answer.status_code, answer.headers["Location"]) == (303, HOME)
    value, attributes = cookie_of(answer)
    assert {"HttpOnly", "SameSite=Strict", "Path=/dashboard", "Max-Age=43200"} <= attributes
    assert "Secure" not in attributes
    assert is_signed_in(browser)
    assert house.mine.secret_key not in value + browser.get(HOME).text + browser.get("/dashboard/_dash-layout").text
    assert browser.post("/dashboard/sign-out", headers=OURS).status_code == 303
    assert not is_signed_in(browser)


def test_a_copied_cookie_ends_with_the_session_in_every_process(house: House, browser: FlaskClient) -> None:
    value, _ = cookie_of(sign_in(browser, house.mine.secret_key))
    other = house.client.application.test_client()
    assert sign_in(other, house.mine.secret_key).status_code == 303
    elsewhere = Services(house.services.settings, house.clock)
    with client_of(elsewhere) as process:
        thief = process.application.test_client()
        thief.set_cookie(sessions.COOKIE, value, path=sessions.PATH)
        assert is_signed_in(thief)
        assert browser.post("/dashboard/sign-out", headers=OURS).status_code == 303
        assert not is_signed_in(thief)
    again = house.client.application.test_client()
    again.set_cookie(sessions.COOKIE, value, path=sessions.PATH)
    assert not is_signed_in(again)
    assert is_signed_in(other), "another session of the same key, begun at the same moment, goes on"
    assert sign_in(browser, house.mine.secret_key).status_code == 303
    assert is_signed_in(browser)


def test_on_https_the_cookie_is_for_https(migrated: Path, tmp_path: Path) -> None:
    for house in build(copied(migrated, tmp_path), public_url="https://notify.example"):
        browser = house.client.application.test_client()
        assert "Secure" in cookie_of(sign_in(browser, house.mine.secret_key))[1]


def test_who_shows_no_good_secret_key_gets_no_session(house: House, browser: FlaskClient) -> None:
    for key in ("", "nsk_unknown", "é", "x" * 9_999, house.mine.publishable_key):
        answer = sign_in(browser, key)
        assert answer.status_code == 401
        assert 'role="alert"' in answer.text
        assert "Set-Cookie" not in answer.headers
        assert key == "" or key not in answer.text
    house.revoke(house.mine.secret_key)
    assert sign_in(browser, house.mine.secret_key).status_code == 401


def test_a_revoked_key_and_an_inactive_owner_end_sessions(house: House) -> None:
    product, branch = (house.client.application.test_client() for _ in range(2))
    made = house.organization(house.mine, "another")
    sign_in(product, house.mine.secret_key)
    sign_in(branch, made.secret_key)
    assert is_signed_in(product) and is_signed_in(branch)
    house.deactivate(made.tenant)
    house.services.keys.forget_everywhere()
    assert is_signed_in(product) and not is_signed_in(branch)
    house.revoke(house.mine.secret_key)
    house.services.keys.forget_everywhere()
    assert not is_signed_in(product)


def test_a_session_is_over_in_time(house: House, browser: FlaskClient) -> None:
    sign_in(browser, house.mine.secret_key)
    house.clock.advance(hours=11, minutes=59)
    assert is_signed_in(browser)
    house.clock.advance(minutes=2)
    assert not is_signed_in(browser)


def test_a_cookie_that_we_did_not_sign_is_none(house: House, browser: FlaskClient) -> None:
    value, _ = cookie_of(sign_in(browser, house.mine.secret_key))
    for forged in ("", "x", "é", value[:-2], value[:8] + "AAAA" + value[12:], "A" * 300, value + "=", "=" * 8):
        browser.set_cookie("notify-dashboard", forged, path="/dashboard")
        assert not is_signed_in(browser), forged
    browser.set_cookie("notify-dashboard", value, path="/dashboard")
    assert is_signed_in(browser)


def test_an_address_has_so_many_attempts(house: House, browser: FlaskClient) -> None:
    for _ in range(10):
        assert sign_in(browser, "nsk_wrong").status_code == 401
    refused = sign_in(browser, house.mine.secret_key)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    assert not is_signed_in(browser)
    house.clock.advance(minutes=1)
    assert sign_in(browser, house.mine.secret_key).status_code == 303


def test_other_sites_change_nothing(house: House, browser: FlaskClient) -> None:
    key = house.mine.secret_key
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"}):
        assert sign_in(browser, key, **headers).status_code == 403
    form = {"key": key}
    for origin in ("https://evil.example", "null", "", "http://[", "http://localhost@evil.example"):
        assert browser.post(SIGN_IN, data=form, headers={"Origin": origin}).status_code == 403
    assert browser.post(SIGN_IN, data=form).status_code == 403
    assert browser.post(SIGN_IN, data=form, headers={"Origin": "http://localhost"}).status_code == 303
    assert show(browser, HOME, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert browser.post("/dashboard/sign-out", headers={"Origin": "https://evil.example"}).status_code == 403
    assert is_signed_in(browser)


@pytest.mark.parametrize(
    ("wanted", "followed"),
    [
        ("/dashboard/notifications/n-1?with=n-2", "/dashboard/notifications/n-1?with=n-2"),
        ("//evil.example/dashboard/", HOME),
        ("https://evil.example/dashboard/", HOME),
        ("/dashboard/\\evil.example", HOME),
        ("/dashboard/\r\nSet-Cookie: a=b", HOME),
        ("/reports", HOME),
        ("", HOME),
    ],
)
def test_after_the_sign_in_comes_the_page_that_was_asked_for(
    house: House, browser: FlaskClient, wanted: str, followed: str
) -> None:
    assert sign_in(browser, house.mine.secret_key, wanted).headers["Location"] == followed


def test_who_is_not_signed_in_is_sent_there_and_back(browser: FlaskClient) -> None:
    asked = browser.get("/dashboard/notifications/a%20b?with=c")
    assert asked.headers["Location"].startswith(f"{SIGN_IN}?next=%2Fdashboard%2Fnotifications%2Fa")
    assert browser.get("/dashboard/_dash-layout").status_code == 401
    assert browser.get("/dashboard/_dash-dependencies").status_code == 401


def test_an_administrator_sees_no_notifications(house: House, browser: FlaskClient) -> None:
    assert sign_in(browser, ADMIN).status_code == 303
    shown = show(browser, HOME).json
    assert shown is not None
    assert shown["response"]["page"]["data-title"] == "Not found"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"output": "page.children"}, 404),
        ({"output": 5}, 422),
        ({"output": "x" * 5_000}, 422),
        ({"inputs": []}, 422),
        ({"inputs": "pathname"}, 422),
        ({"inputs": [{"id": "address", "property": "hash"}, {"id": "address", "property": "search"}]}, 422),
        ({"state": [{"id": "x", "property": "y"}]}, 422),
        ({"outputs": {}}, 422),
        ({"outputs": []}, 422),
        ({"changedPropIds": 7}, 422),
        ({"changedPropIds": ["{.x"]}, 422),
    ],
)
def test_a_call_that_no_page_makes_is_refused(
    house: House, browser: FlaskClient, change: dict[str, Any], status: int
) -> None:
    sign_in(browser, house.mine.secret_key)
    answer = browser.post(UPDATE, json=CALL | change, headers=OURS)
    assert answer.status_code == status
    assert answer.json is not None and answer.json["error"]["code"]


@pytest.mark.parametrize("strange", [None, 5, [], {}, "", "/", "/dashboard/../x", "/dashboard/\x00", "\ud800"])
def test_any_address_shows_something(house: House, browser: FlaskClient, strange: Any) -> None:
    sign_in(browser, house.mine.secret_key)
    if strange != "\ud800":
        assert show(browser, strange, strange).status_code == 200
    else:
        # Within a call that is one of ours otherwise.
        where = [("address", "pathname", f"{HOME}dead-letters/\ud800"), ("address", "search", "?q=\ud800")]
        raw = json.dumps(called(SHOWN, where))
        assert browser.post(UPDATE, data=raw, content_type="application/json", headers=OURS).status_code == 400


def test_a_file_that_dash_does_not_have_is_not_found(house: House, browser: FlaskClient) -> None:
    sign_in(browser, house.mine.secret_key)
    for path in ("nope/x.js", "dash/../x.js", "dash/deps/nope.js", "dash/..%2f..%2fapplication.py"):
        assert browser.get(f"/dashboard/_dash-component-suites/{path}").status_code == 404


def test_no_dead_letter_is_called_what_no_store_takes(any_house: House) -> None:
    browser = any_house.client.application.test_client()
    sign_in(browser, any_house.mine.secret_key)
    for path in ("dead-letters/%00", "notifications/a%00b"):
        shown = show(browser, HOME + path).json
        assert shown is not None and shown["response"]["page"]["data-title"] == "Not found"


def test_bodies_that_are_no_json_are_refused(house: House, browser: FlaskClient) -> None:
    sign_in(browser, house.mine.secret_key)
    half = b'{"x": "\\ud800"}'
    for body in (b"{", b"[" * 100_000, b"\xff", half):
        assert browser.post(UPDATE, data=body, content_type="application/json", headers=OURS).status_code == 400
    assert browser.post(UPDATE, data=b"x", content_type="text/plain", headers=OURS).status_code == 415
    assert browser.post("/dashboard/_dash-layout", json={}, headers=OURS).status_code == 404


def test_every_answer_says_what_a_browser_may_do(house: House, browser: FlaskClient) -> None:
    asked = browser.get(SIGN_IN)
    sign_in(browser, house.mine.secret_key)
    for answer in (asked, browser.get(HOME), browser.get("/dashboard/_dash-layout"), show(browser, HOME)):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert len({browser.get(HOME).headers["Content-Security-Policy"] for _ in range(2)}) == 2, "a nonce counts once"


def test_files_are_served_to_anybody_and_nothing_beside_them(browser: FlaskClient) -> None:
    for name, kind in (("style.css", "text/css"), ("theme.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = browser.get(f"/dashboard/assets/{name}")
        assert answer.status_code == 200 and answer.content_type.startswith(kind)
        again = {"If-None-Match": answer.headers["ETag"]}
        assert browser.get(f"/dashboard/assets/{name}", headers=again).status_code == 304
    for name in ("none.css", "__init__.py", "routes.py"):
        assert browser.get(f"/dashboard/assets/{name}").status_code == 404
