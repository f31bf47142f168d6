"""E-mail's routes: subscriptions, html in sends and templates, and bounces that are reported with a key."""

from tests.ingest_api.conftest import House, fields_of, send


def test_an_address_is_subscribed_once_however_it_is_spelled(any_house: House) -> None:
    api = any_house.secret
    made = api.ok("POST", "/email-subscriptions", {"email": "Ada@Example.com", "topics": ["a", "b/c", "not one!"]})
    assert (made["email"], made["topics"]) == ("ada@example.com", ["a", "b/c"])
    api.ok("POST", "/email-subscriptions", {"email": "ada@example.COM", "user_id": "u", "topics": ["a"]})
    assert api.ok("GET", "/email-subscriptions/ADA@example.com")["user_id"] == "u"
    assert api.ok("PUT", "/email-subscriptions/ada@example.com/topics", {"topics": ["x"]})["topics"] == ["x"]
    assert any_house.stranger.call("GET", "/email-subscriptions/ada@example.com").status_code == 404
    statuses = [api.call("DELETE", "/email-subscriptions/Ada@example.com").status_code for _ in range(2)]
    assert statuses == [204, 404]
    assert fields_of(api.call("POST", "/email-subscriptions", {"email": "ada"})) == {"email"}


def test_a_page_s_key_subscribes_and_learns_nothing_of_an_address(house: House) -> None:
    page = house.publishable
    page.ok("POST", "/email-subscriptions", {"email": "ada@example.com", "topics": ["a"]})
    address = "/email-subscriptions/ada@example.com"
    calls = [("GET", address, None), ("PUT", f"{address}/topics", {"topics": []}), ("DELETE", address, None)]
    assert [page.call(method, path, body).status_code for method, path, body in calls] == [403, 403, 403]
    assert house.secret.ok("GET", address)["topics"] == ["a"]


def test_bounces_and_complaints_that_a_tenant_reports(any_house: House) -> None:
    api = any_house.secret
    for kind, reason in [("bounce", "hard_bounce"), ("complaint", "complaint"), ("bounce", "complaint")]:
        assert api.ok("POST", "/email/events", {"address": "Ada@example.com", "kind": kind})["reason"] == reason
    assert [item["address"] for item in api.ok("GET", "/suppressions")["items"]] == ["ada@example.com"]
    assert any_house.publishable.call("POST", "/email/events", {}).status_code == 403


def test_a_send_may_have_html_for_e_mail_and_for_nothing_else(house: House) -> None:
    content = {"title": "T", "body": "B", "html": "<p>[[[user_id]]]</p>"}
    body = send(channels=["email"], content=content, overrides={"email": {"html": "<p>other</p>"}})
    house.secret.ok("POST", "/notifications", body)
    wrong = send(id="n-2", content=content, overrides={"fcm": {"html": "<p>"}})
    assert fields_of(house.secret.call("POST", "/notifications", wrong)) == {"overrides.fcm.html"}
    wrong = send(id="n-2", content=content | {"html": "[[[nope]]]"})
    assert fields_of(house.secret.call("POST", "/notifications", wrong)) == {"content.html"}


def test_a_template_s_html_escapes_its_values(house: House) -> None:
    api = house.secret
    page = '<a title="{{ who }}">{{ who|e }} {{ "<b>" }}</a>{% if n < 2 %}<i>{{ n }}</i>{% endif %} [[[user_id]]]'
    api.ok("PUT", "/templates/t", {"content": {"title": "{{ who }}", "html": page}})
    shown = api.ok("POST", "/templates/t/preview", {"fields": {"who": '<"&>[[[user_id]]]', "n": 1}})["channels"]
    text = "&lt;&quot;&amp;&gt;[[[brackets]]]user_id]]]"
    assert shown["email"]["html"] == f'<a title="{text}">{text} &lt;b&gt;</a><i>1</i> [[[user_id]]]'
    assert "html" not in shown["fcm"]
    wrong = {"content": {"title": "T"}, "overrides": {"sms": {"html": "<p>"}}}
    assert fields_of(api.call("PUT", "/templates/w", wrong)) == {"overrides.sms.html"}
