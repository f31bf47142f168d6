"""SMS routes: what a text takes, and what Twilio posts: replies, and what became of messages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from werkzeug.test import TestResponse

from ingest_api.sms.models import MessageShown, StopShown, TextShown
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger import suppressions
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.twilio_signature import HEADER, signature
from notify_pipeline.core.vocabulary import Channel
from tests.ingest_api.conftest import ADMIN, House, build, copied, fields_of
from tests.ingest_api.test_receipts import logged
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S

NUMBER = "+447700900123"
TOKEN = "s3cret"  # noqa: S105 - a test's own
PUBLIC = "https://notify.example/api"
TWILIO = {"sms_provider": "twilio", "twilio_auth_token": TOKEN, "public_url": PUBLIC + "/"}
INBOUND = "/sms/inbound/twilio"


@pytest.fixture
def twilio(tmp_path: Path, migrated: Path) -> Iterator[House]:
    """An ingress that is known outside by another address, and sends through Twilio."""
    yield from build(copied(migrated, tmp_path), **TWILIO)


def post(house: House, path: str, token: str = TOKEN, base: str = PUBLIC, **form: str) -> TestResponse:
    headers = {HEADER: signature(token, base + path, form.items())}
    return house.client.post(path, data=form, headers=headers)


def reply(house: House, body: str, number: str = NUMBER, **more: str) -> TestResponse:
    answered = post(house, INBOUND, From=number, To="+15005550006", Body=body, MessageSid="SM1", **more)
    assert (answered.status_code, answered.text) == (200, "<Response/>"), answered.text
    assert answered.mimetype == "text/xml"
    return answered


def suppressed(house: House, tenant: str | None = None, number: str = NUMBER) -> str | None:
    with house.services.ledger.read() as conn:
        found = suppressions.find(conn, tenant or house.mine.tenant, Channel.SMS, [number])
        listed = suppressions.any_of(conn, [tenant or house.mine.tenant])
    assert (Channel.SMS in listed.get(tenant or house.mine.tenant, ())) or not found
    return found.get(number)


def test_what_a_text_takes(house: House) -> None:
    shown = house.secret.ok("POST", "/sms/segments", {"text": "ж" * 71})
    TextShown.model_validate(shown)
    assert shown == {"encoding": "ucs2", "units": 71, "segments": 2, "max_segments": 10, "allowed": True}
    assert not house.secret.ok("POST", "/sms/segments", {"text": "a" * 1_531})["allowed"]
    assert fields_of(house.secret.call("POST", "/sms/segments", {"text": 7})) == {"text"}


def test_a_template_s_preview_shows_the_message(house: House) -> None:
    template: dict[str, Any] = {"content": {"title": "Order {{ id }}", "body": "It left.", "link": "https://e.x/"}}
    house.secret.ok("PUT", "/templates/order", template)
    shown = house.secret.ok("POST", "/templates/order/preview", {"fields": {"id": 7}})["sms"]
    MessageShown.model_validate(shown)
    assert (shown["text"], shown["segments"]) == ("Order 7\nIt left.\nhttps://e.x/", 1)
    template["overrides"] = {"sms": {"body": "Left: {{ id }}"}}
    house.secret.ok("PUT", "/templates/order", template)
    assert house.secret.ok("POST", "/templates/order/preview", {"fields": {"id": 7}})["sms"]["text"] == "Left: 7"
    house.secret.ok("PUT", "/templates/silent", {"content": {"data": {"k": "v"}}})
    assert house.secret.ok("POST", "/templates/silent/preview", {})["sms"] is None


def test_stop_holds_for_every_tenant_until_start(twilio: House) -> None:
    reply(twilio, "Stop")
    assert suppressed(twilio) == suppressed(twilio, twilio.other.tenant) == "stop"
    assert suppressed(twilio, number="+447700900124") is None
    # Whose customer it is, is nobody else's business.
    assert twilio.secret.ok("GET", "/suppressions")["items"] == []
    assert twilio.secret.call("DELETE", f"/suppressions/sms/{NUMBER}").status_code == 404
    reply(twilio, "what is this?")
    assert suppressed(twilio) == "stop"
    reply(twilio, "START")
    assert suppressed(twilio) is suppressed(twilio, twilio.other.tenant) is None


def test_start_lifts_what_stop_did_and_nothing_else(twilio: House) -> None:
    now, other = twilio.clock(), "+447700900124"
    for number, reason in ((NUMBER, "stop"), (other, "manual")):
        new = suppressions.NewSuppression(
            twilio.mine.tenant, Channel.SMS, number, suppressions.SuppressionReason(reason), None, "delivery"
        )
        suppressions.add(twilio.services.ledger, new, now)
        reply(twilio, "yes", number)
    assert suppressed(twilio) is None
    assert suppressed(twilio, number=other) == "manual"


def test_twilios_own_word_counts_before_ours(twilio: House) -> None:
    reply(twilio, "Basta", OptOutType="STOP")
    assert suppressed(twilio) == "stop"
    reply(twilio, "Dale", OptOutType="START")
    assert suppressed(twilio) is None
    reply(twilio, "HELP", OptOutType="HELP")
    reply(twilio, "STOP", number="whatsapp:+447700900123")
    assert suppressed(twilio) is None


def test_an_admin_sees_and_lifts_a_stop(twilio: House) -> None:
    admin, path = twilio.api(ADMIN), "/sms/stops/+44 (0)7700 900123"
    assert admin.call("GET", path).status_code == 404
    reply(twilio, "STOP")
    shown = admin.ok("GET", path)
    StopShown.model_validate(shown)
    assert shown == {"number": NUMBER, "stopped_at": "2026-11-21T06:33:59.123456Z"}
    assert admin.call("DELETE", path).status_code == 204
    assert admin.call("DELETE", path).status_code == 404
    assert suppressed(twilio) is None
    assert fields_of(admin.call("GET", "/sms/stops/+44 7700 9001")) == {"number"}


@pytest.mark.parametrize(
    ("token", "base"), [("another", PUBLIC), ("", PUBLIC), (TOKEN, "https://elsewhere.example"), (TOKEN, "")]
)
def test_who_is_not_twilio_changes_nothing(twilio: House, token: str, base: str) -> None:
    answered = post(twilio, INBOUND, token, base, From=NUMBER, Body="STOP")
    assert (answered.status_code, answered.json and answered.json["error"]["code"]) == (403, "forged")
    assert twilio.client.post(INBOUND, data={"From": NUMBER, "Body": "STOP"}).status_code == 403
    assert suppressed(twilio) is None


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
        (b"\xff", "application/x-www-form-urlencoded", 400),
        (b"&a=" * 300, "application/x-www-form-urlencoded", 400),
        (b"Body=" + b"a" * 65_536, "application/x-www-form-urlencoded", 413),
    ],
)
def test_what_is_no_form_is_told_so(twilio: House, body: bytes, kind: str, status: int) -> None:
    answered = twilio.client.post(INBOUND, data=body, content_type=kind)
    assert answered.status_code == status
    fields_of(answered)


@pytest.mark.parametrize("settings", [{"sms_provider": "sns"}, {"provider_mode": "real"}])
def test_without_twilio_there_is_nothing_to_post_to(tmp_path: Path, migrated: Path, settings: dict[str, Any]) -> None:
    for house in build(copied(migrated, tmp_path), **settings):
        assert post(house, INBOUND, From=NUMBER, Body="STOP").status_code == 404


def status_path(house: House, number: str = NUMBER, tenant: str | None = None) -> str:
    ids = DeliveryIds(house.services.delivery_secret, house.mine.tenant, "n-1", "sms")
    query = {"notificationId": "n-1", "platform": "sms", "provider": "twilio", "d": ids.of(number)}
    return f"/sms/status/twilio/{tenant or house.mine.tenant}?{urlencode(query)}"


def status(house: House, path: str, status: str, number: str = NUMBER, **more: str) -> int:
    return post(house, path, MessageStatus=status, To=number, MessageSid="SM1", **more).status_code


def test_a_delivery_is_a_receipt(twilio: House) -> None:
    path = status_path(twilio)
    for word in ("queued", "sending", "sent", "delivered", "delivered"):
        assert status(twilio, path, word) == 204
    (lines,) = logged(twilio).values()
    query = path.partition("?")[2]
    assert [(line["event"], line["querystring"]) for line in lines] == [("/notification/received", query)] * 2


def test_a_number_of_no_phone_is_suppressed_for_who_texted_it(twilio: House) -> None:
    path = status_path(twilio)
    for code in ("30003", "30006", "30007", "", "x" * 99):
        assert status(twilio, path, "undelivered", ErrorCode=code) == 204
    assert suppressed(twilio) is None
    assert status(twilio, path, "failed", ErrorCode="30005") == 204
    assert suppressed(twilio) == "hard_bounce"
    assert suppressed(twilio, twilio.other.tenant) is None
    assert logged(twilio) == {}


def test_a_status_of_another_message_is_forged(twilio: House) -> None:
    for path, number in (
        (status_path(twilio, tenant=twilio.other.tenant), NUMBER),
        (status_path(twilio), "+447700900124"),
        (status_path(twilio)[:-40] + "a" * 40, NUMBER),
    ):
        assert status(twilio, path, "failed", number, ErrorCode="30005") == 400
    assert status(twilio, f"/sms/status/twilio/{twilio.mine.tenant}", "delivered") == 422
    assert suppressed(twilio) is None
    assert logged(twilio) == {}


def test_the_sandbox_is_known_by_its_own_token(tmp_path: Path, migrated: Path) -> None:
    home = copied(migrated, tmp_path)
    with running_sandbox(Settings(home=home)) as url:
        token = Path(requests.get(f"{url}/", timeout=PATIENCE_S).json()["sms_auth_token"]).read_text()
        for house in build(home, sandbox_url=url):
            base = house.services.settings.public
            assert post(house, INBOUND, token, base, From=NUMBER, Body="STOP").status_code == 200
            assert post(house, INBOUND, TOKEN, base, From=NUMBER, Body="START").status_code == 403
            assert suppressed(house) == "stop"


def test_without_its_sandbox_nobody_is_believed(tmp_path: Path, migrated: Path) -> None:
    for house in build(copied(migrated, tmp_path), sandbox_url="http://127.0.0.1:9"):
        assert post(house, INBOUND, TOKEN, From=NUMBER, Body="START").status_code == 503


def test_what_was_not_delivered_is_logged_without_its_number(twilio: House, caplog: pytest.LogCaptureFixture) -> None:
    assert status(twilio, status_path(twilio), "undelivered", ErrorCode="30007") == 204
    assert "a message to +…23 was undelivered: 30007" in caplog.text
    assert NUMBER not in caplog.text
