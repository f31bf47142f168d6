"""What Amazon SES reports through SNS: believed only with its signature, from our topics, about our own messages."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_api.email.certificates import SnsCalls, SnsUnreachable
from notify_pipeline.core import mail_origin
from notify_pipeline.core.mail_origin import Origin
from notify_pipeline.core.sns_messages import NotSns, SnsMessage
from tests.examples import examples
from tests.ingest_api.conftest import House, build, copied

TOPIC = "arn:aws:sns:eu-west-1:123456789012:bounces"
CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
SUBSCRIBE = f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336"
SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


@dataclass
class Amazon:
    """Signs as SNS does, and answers what it is asked."""

    key: rsa.RSAPrivateKey
    pem: bytes
    asked: list[str] = field(default_factory=list)
    down: bool = False

    def get(self, url: str) -> bytes:
        self.asked.append(url)
        if self.down:
            raise SnsUnreachable("SNS is down")
        return self.pem if url == CERTIFICATE else b"<ok/>"

    def signed(self, message: str, version: str = "2", **changes: Any) -> dict[str, Any]:
        fields = {
            "Type": "Notification",
            "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
            "TopicArn": TOPIC,
            "Message": message,
            "Timestamp": "2026-11-21T06:33:59.123Z",
            "SignatureVersion": version,
            "SigningCertURL": CERTIFICATE,
            **changes,
        }
        names = SIGNED[fields["Type"]]
        text = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields).encode()
        algorithm = hashes.SHA1() if version == "1" else hashes.SHA256()
        signature = self.key.sign(text, padding.PKCS1v15(), algorithm)
        return fields | {"Signature": base64.b64encode(signature).decode()}


@pytest.fixture(scope="module")
def signer() -> tuple[rsa.RSAPrivateKey, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    from datetime import UTC, datetime

    begins = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(begins).not_valid_after(begins + timedelta(days=365))
    return key, made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def amazon(signer: tuple[rsa.RSAPrivateKey, bytes]) -> Amazon:
    return Amazon(*signer)


@pytest.fixture
def house(tmp_path: Path, migrated: Path, amazon: Amazon) -> Iterator[House]:
    for house in build(copied(migrated, tmp_path), ses_topic_arns=(TOPIC,)):
        house.services.sns = SnsCalls(amazon.get)
        yield house


def post(house: House, body: Any) -> int:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return house.anonymous.call("POST", "/email/events/ses", raw, content_type="text/plain; charset=UTF-8").status_code


def record(house: House, kind: str, mark: str | None = None, key: str = "notificationType", **said: Any) -> str:
    secret = house.services.ledger.secret(mail_origin.SECRET)
    mine = mail_origin.mint(secret, Origin(house.mine.tenant, "d" * 40)) if mark is None else mark
    headers = [{"name": "From", "value": "news@example.org"}, {"name": mail_origin.HEADER.lower(), "value": mine}]
    return orjson.dumps({key: kind, "mail": {"headers": headers}, kind.lower(): said}).decode()


def bounce(house: House, kind: str = "Permanent", **more: Any) -> str:
    people = [{"emailAddress": "Ada <Ada@example.com>", "status": "5.1.1"}, {"emailAddress": "no address"}]
    return record(house, "Bounce", bounceType=kind, bounceSubType="General", bouncedRecipients=people, **more)


def suppressed(house: House) -> list[tuple[str, str, str]]:
    items = house.secret.ok("GET", "/suppressions")["items"]
    return [(item["address"], item["reason"], item["detail"]) for item in items]


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_hard_bounce_is_suppressed_once_for_the_tenant_that_sent(house: House, amazon: Amazon, version: str) -> None:
    message = amazon.signed(bounce(house), version, Subject="Amazon SES Email Event Notification")
    assert [post(house, message) for _ in range(3)] == [204] * 3
    assert suppressed(house) == [("ada@example.com", "hard_bounce", "SES: Permanent/General 5.1.1")]
    assert house.stranger.ok("GET", "/suppressions")["items"] == []
    assert amazon.asked == [CERTIFICATE], "a certificate is fetched once"
    events = [entry["event"] for entry in house.secret.ok("GET", "/audit")["items"]]
    assert events.count("suppression.added") == 1


def test_complaints_come_before_bounces_and_what_may_pass_changes_nothing(house: House, amazon: Amazon) -> None:
    people = {"complainedRecipients": [{"emailAddress": "ada@example.com"}]}
    for text in (
        bounce(house, "Transient"),
        bounce(house, "Undetermined"),
        record(house, "Complaint", complaintFeedbackType="not-spam", **people),
        record(house, "Delivery", key="eventType"),
        "Successfully validated SNS topic for Amazon SES event publishing.",
        "[1]",
        record(house, "Bounce", bounceType="Permanent", bouncedRecipients="?"),
    ):
        assert post(house, amazon.signed(text)) == 204
    assert suppressed(house) == []
    complaint = record(house, "Complaint", key="eventType", complaintFeedbackType="abuse", **people)
    for text in (bounce(house), complaint, bounce(house)):
        assert post(house, amazon.signed(text)) == 204
    assert suppressed(house) == [("ada@example.com", "complaint", "SES: abuse")]


def test_messages_that_are_not_ours_are_let_go(house: House, amazon: Amazon) -> None:
    forged = mail_origin.mint(b"x" * 32, Origin(house.mine.tenant, "d" * 40))
    people = [{"emailAddress": "ada@example.com"}]
    for text in (
        record(house, "Bounce", mark=forged, bounceType="Permanent", bouncedRecipients=people),
        orjson.dumps(
            {"notificationType": "Bounce", "bounce": {"bounceType": "Permanent", "bouncedRecipients": people}}
        ),
    ):
        assert post(house, amazon.signed(text if isinstance(text, str) else text.decode())) == 204
    assert suppressed(house) == []


def test_a_subscription_is_confirmed_and_only_at_amazon(house: House, amazon: Amazon) -> None:
    confirm = {"Type": "SubscriptionConfirmation", "Token": "2336", "SubscribeURL": SUBSCRIBE}
    assert post(house, amazon.signed("You have chosen to subscribe", **confirm)) == 204
    assert amazon.asked == [CERTIFICATE, SUBSCRIBE]
    for elsewhere in (
        "https://sns.eu-west-1.amazonaws.com.evil.example/",
        "http://127.0.0.1/",
        "https://s3.amazonaws.com/",
    ):
        assert post(house, amazon.signed("x", **confirm | {"SubscribeURL": elsewhere})) == 400
    other = amazon.signed("x", **confirm, TopicArn=TOPIC + "2")
    assert post(house, other) == 403
    assert amazon.asked == [CERTIFICATE, SUBSCRIBE]
    amazon.down = True
    assert post(house, amazon.signed("x", **confirm)) == 503


def test_what_amazon_did_not_sign_lately_is_refused(house: House, amazon: Amazon) -> None:
    text = bounce(house)
    good = amazon.signed(text)
    for name, value in {
        "Message": text + " ",
        "MessageId": "x",
        "Subject": "x",
        "Signature": "AAAA",
        "SignatureVersion": "3",
    }.items():
        assert post(house, good | {name: value}) == 403
    assert post(house, good | {"SignatureVersion": "1"}) == 403
    assert post(house, amazon.signed(text, Timestamp="2026-11-21T04:00:00.000Z")) == 403
    for url in ("https://evil.example/a.pem", CERTIFICATE.replace("https", "http"), CERTIFICATE + "?x"):
        assert post(house, amazon.signed(text, SigningCertURL=url)) == 400
    for raw in (b"", b"{}", b"[]", b"null", b"\xff", b'{"Type":"Notification"}'):
        assert post(house, raw) == 400
    assert post(house, b"x" * 700_000) == 413
    house.clock.advance(days=300)
    expired = amazon.signed(text, Timestamp="2027-09-17T06:33:59.123Z")
    assert post(house, expired) == 403
    assert suppressed(house) == []


def test_a_certificate_that_cannot_be_fetched_is_asked_for_again(house: House, amazon: Amazon) -> None:
    amazon.down = True
    assert post(house, amazon.signed(bounce(house))) == 503
    amazon.down = False
    assert post(house, amazon.signed(bounce(house))) == 204
    assert len(suppressed(house)) == 1


def test_without_a_topic_in_the_settings_there_is_no_such_thing(tmp_path: Path, migrated: Path, amazon: Amazon) -> None:
    for house in build(copied(migrated, tmp_path)):
        assert post(house, amazon.signed("x")) == 404


@given(st.text(max_size=60))
@settings(max_examples=examples(300))
def test_no_other_host_is_ever_called(text: str) -> None:
    fields = {name: "x" for name in (*SIGNED["Notification"], "Signature", "SignatureVersion")}
    fields |= {"Type": "Notification", "Timestamp": "2026-11-21T06:33:59Z"}
    for url in (
        text,
        f"https://{text}",
        f"https://sns.eu-west-1.amazonaws.com{text}",
        f"https://{text}.amazonaws.com/",
    ):
        if url.startswith("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-"):
            continue
        with pytest.raises(NotSns):
            SnsMessage.of(orjson.dumps(fields | {"SigningCertURL": url.encode("utf-8", "replace").decode()}))
