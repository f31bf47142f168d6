"""The APNs stand-in over real sockets: what it takes, what it refuses and with which reason."""

import re
import time
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from notify_pipeline.sandbox.tokens import apns_token
from tests.sandbox.client import Answer, Peer

TOKEN = apns_token("one")
BODY = orjson.dumps({"aps": {"alert": {"title": "Hello"}}, "notificationId": "n1", "d": "d1", "platform": "ios"})
APNS_ID = "123E4567-E89B-12D3-A456-4266554400A0"


def push(peer: Peer, body: bytes = BODY, token: str = TOKEN, **changes: str | None) -> Answer:
    with peer.apns() as client:
        return client.post(f"/3/device/{token}", peer.apns_headers(**changes), body)


def refused(answer: Answer, status: int, reason: str) -> bool:
    return (answer.status, answer.json) == (status, {"reason": reason})


def test_an_accepted_push_ends_with_its_headers(sandbox: Peer) -> None:
    answer = push(sandbox, apns_id=APNS_ID, apns_collapse_id="n1")
    assert (answer.status, answer.body, answer.data_frames) == (200, b"", 0)
    assert answer.headers["apns-id"] == APNS_ID
    (line,) = sandbox.lines("/log")
    assert line["processed"] is True
    assert (line["recipient"], line["notification_id"], line["d"]) == (TOKEN, "n1", "d1")
    assert (line["status"], line["answer"], line["message_id"]) == (200, None, APNS_ID)
    assert line["collapse_id"] == "n1"
    assert line["body"] == orjson.loads(BODY)
    assert line["headers"] == {
        "apns-id": APNS_ID,
        "apns-topic": sandbox.addresses["apns_topic"],
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": "0",
        "apns-collapse-id": "n1",
    }


def test_an_id_is_made_when_none_is_given(sandbox: Peer) -> None:
    ids = {push(sandbox).headers["apns-id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-A[0-9A-F]{3}-[0-9A-F]{12}", i) for i in ids)


def test_app_data_may_lie_below_data(sandbox: Peer) -> None:
    body = {"aps": {"alert": "x"}, "data": {"notificationId": "n2", "d": "d2"}}
    assert push(sandbox, orjson.dumps(body)).status == 200
    (line,) = sandbox.lines("/log")
    assert (line["notification_id"], line["d"]) == ("n2", "d2")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"authorization": None}, 403, "MissingProviderToken"),
        ({"authorization": "bearer "}, 403, "MissingProviderToken"),
        ({"authorization": "bearer x.y.z"}, 403, "InvalidProviderToken"),
        ({"apns_topic": None}, 400, "MissingTopic"),
        ({"apns_topic": "com.other.app"}, 400, "TopicDisallowed"),
        ({"apns_topic": "not a topic"}, 400, "BadTopic"),
        ({"apns_push_type": None}, 400, "InvalidPushType"),
        ({"apns_push_type": "loud"}, 400, "InvalidPushType"),
        ({"apns_priority": "7"}, 400, "BadPriority"),
        ({"apns_push_type": "background"}, 400, "BadPriority"),
        ({"apns_expiration": "soon"}, 400, "BadExpirationDate"),
        ({"apns_expiration": "-1"}, 400, "BadExpirationDate"),
        ({"apns_id": "x"}, 400, "BadMessageId"),
        ({"apns_collapse_id": "x" * 65}, 400, "BadCollapseId"),
    ],
)
def test_a_bad_header_has_its_reason(sandbox: Peer, changes: dict[str, str | None], status: int, reason: str) -> None:
    answer = push(sandbox, **changes)
    assert refused(answer, status, reason), answer
    assert "apns-id" in answer.headers
    (line,) = sandbox.lines("/log")
    assert (line["status"], line["answer"], line["processed"]) == (status, {"reason": reason}, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"apns_priority": "1"},
        {"apns_priority": "5", "apns_push_type": "background"},
        {"apns_priority": None, "apns_expiration": None},
        {"apns_collapse_id": "x" * 64},
        {"apns_expiration": str(int(time.time()) + 60)},
    ],
)
def test_what_apple_allows_is_taken(sandbox: Peer, changes: dict[str, str | None]) -> None:
    assert push(sandbox, **changes).status == 200


def test_a_token_of_the_same_app_but_another_topic_does_not_match(sandbox: Peer) -> None:
    answer = push(sandbox, apns_topic=sandbox.addresses["apns_topic"] + ".voip")
    assert refused(answer, 400, "DeviceTokenNotForTopic")


def test_repeated_headers_are_refused(sandbox: Peer) -> None:
    with sandbox.apns() as client:
        stream = client.h2.get_next_available_stream_id()
        pairs = [(":method", "POST"), (":path", f"/3/device/{TOKEN}"), (":scheme", "https"), (":authority", "x")]
        client.h2.send_headers(stream, [*pairs, *sandbox.apns_headers().items(), ("apns-priority", "10")])
        client.h2.send_data(stream, BODY, end_stream=True)
        client.answers[stream] = Answer()
        client.flush()
        assert refused(client.settle(stream)[0], 400, "DuplicateHeaders")


@pytest.mark.parametrize("token", ["abc", "xyz" * 30, TOKEN + "a", "ab" * 101])
def test_a_token_that_is_not_hex_is_bad(sandbox: Peer, token: str) -> None:
    assert refused(push(sandbox, token=token), 400, "BadDeviceToken")


@pytest.mark.parametrize(
    ("path", "method", "status", "reason"),
    [
        ("/3/device/", "POST", 400, "MissingDeviceToken"),
        ("/2/device/" + TOKEN, "POST", 404, "BadPath"),
        ("/3/device/" + TOKEN, "GET", 405, "MethodNotAllowed"),
    ],
)
def test_path_and_method(sandbox: Peer, path: str, method: str, status: int, reason: str) -> None:
    with sandbox.apns() as client:
        assert refused(client.post(path, sandbox.apns_headers(), BODY, method), status, reason)


def _payload(size: int) -> bytes:
    empty = len(orjson.dumps({"aps": {"alert": ""}}))
    return orjson.dumps({"aps": {"alert": "x" * (size - empty)}})


@pytest.mark.parametrize(("push_type", "limit"), [("alert", 4096), ("voip", 5120)])
def test_the_payload_has_a_limit(sandbox: Peer, push_type: str, limit: int) -> None:
    assert push(sandbox, _payload(limit), apns_push_type=push_type).status == 200
    assert refused(push(sandbox, _payload(limit + 1), apns_push_type=push_type), 413, "PayloadTooLarge")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"aps": 1}', b'{"data": {}}', b"\xff"])
def test_a_payload_without_aps_is_empty(sandbox: Peer, body: bytes) -> None:
    assert refused(push(sandbox, body), 400, "PayloadEmpty")
    assert sandbox.lines("/log")[0]["processed"] is False


def _other_key() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"key": "other"}, "InvalidProviderToken"),
        ({"kid": "OTHERKEYID"}, "InvalidProviderToken"),
        ({"iss": "OTHERTEAM1"}, "InvalidProviderToken"),
        ({"iat": "now"}, "InvalidProviderToken"),
        ({"iat": 1_000_000}, "ExpiredProviderToken"),
        ({"iat": int(time.time()) - 3700}, "ExpiredProviderToken"),
        ({"iat": int(time.time()) + 3600}, "InvalidProviderToken"),
    ],
)
def test_a_provider_token_is_checked(sandbox: Peer, claims: dict[str, Any], reason: str) -> None:
    if claims.get("key"):
        claims = {"key": _other_key()}
    token = sandbox.provider_token(**claims)
    assert refused(push(sandbox, authorization=f"bearer {token}"), 403, reason)


def test_an_unsigned_token_is_refused(sandbox: Peer) -> None:
    claims = {"iss": sandbox.addresses["apns_team_id"], "iat": int(time.time())}
    token = jwt.encode(claims, None, algorithm="none", headers={"kid": sandbox.addresses["apns_key_id"]})
    assert refused(push(sandbox, authorization=f"bearer {token}"), 403, "InvalidProviderToken")


def test_a_token_renewed_too_soon_is_refused_on_that_connection_only(sandbox: Peer) -> None:
    now = int(time.time())
    tokens = {age: f"bearer {sandbox.provider_token(iat=now - age)}" for age in (3000, 2400, 1500)}
    path = f"/3/device/{TOKEN}"
    with sandbox.apns() as client:
        assert client.post(path, sandbox.apns_headers(authorization=tokens[3000]), BODY).status == 200
        soon = client.post(path, sandbox.apns_headers(authorization=tokens[2400]), BODY)
        assert refused(soon, 429, "TooManyProviderTokenUpdates")
        assert client.post(path, sandbox.apns_headers(authorization=tokens[1500]), BODY).status == 200
    with sandbox.apns() as client:
        assert client.post(path, sandbox.apns_headers(authorization=tokens[2400]), BODY).status == 200


def test_one_stream_until_the_first_good_provider_token(sandbox: Peer) -> None:
    with sandbox.apns() as client:
        client.wait_for_streams(1)
        bad = client.post(f"/3/device/{TOKEN}", sandbox.apns_headers(authorization="bearer x"), BODY)
        assert bad.status == 403
        assert client.max_streams == [1]
        assert client.post(f"/3/device/{TOKEN}", sandbox.apns_headers(), BODY).status == 200
        client.wait_for_streams(1000)
        streams = [client.open(f"/3/device/{TOKEN}", sandbox.apns_headers(), BODY) for _ in range(100)]
        client.flush()
        assert {answer.status for answer in client.settle(*streams)} == {200}


def test_a_stream_above_the_limit_is_refused_unprocessed(sandbox: Peer) -> None:
    with sandbox.apns() as client:
        client.wait_for_streams(1)
        client.h2.remote_settings.max_concurrent_streams = 100  # what a careless client does
        client.h2.remote_settings.acknowledge()
        head = [(":method", "POST"), (":path", f"/3/device/{TOKEN}"), (":scheme", "https"), (":authority", "x")]
        opened = []
        for _ in range(2):
            stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream, [*head, *sandbox.apns_headers().items()])
            client.answers[stream] = Answer()
            opened.append(stream)
        client.h2.send_data(opened[0], BODY, end_stream=True)
        client.flush()
        good, refusal = client.settle(*opened)
    assert good.status == 200
    assert refusal.reset == 7  # REFUSED_STREAM
    turned_away = [line for line in sandbox.lines("/log") if line["how"] == "refused_stream"]
    assert [(line["processed"], line["answer"]) for line in turned_away] == [(False, "reset")]
