"""The FCM stand-in over real sockets: what it takes, what it refuses and in which words."""

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from notify_pipeline.sandbox.tokens import fcm_token
from tests.sandbox.client import Answer, Peer, fcm_message

TOKEN = fcm_token("one")
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def send(peer: Peer, body: Any, **headers: str) -> Answer:
    with peer.fcm() as client:
        return client.post(peer.fcm_path, {**peer.fcm_headers, **headers}, orjson.dumps(body))


def details(answer: Answer) -> dict[str, Any]:
    return {detail["@type"]: detail for detail in answer.json["error"].get("details", [])}


def violations(answer: Answer) -> list[tuple[str | None, str]]:
    return [(v.get("field"), v["description"]) for v in details(answer)[BAD_REQUEST]["fieldViolations"]]


def test_a_good_message_is_accepted_and_logged(sandbox: Peer) -> None:
    message = fcm_message(TOKEN, d="dd", notification_id="nn", android={"collapse_key": "nn", "ttl": "60s"})
    answer = send(sandbox, {"message": message})
    assert answer.status == 200
    name = answer.json["name"]
    assert name.startswith(f"projects/{sandbox.addresses['fcm_project']}/messages/0:")
    (line,) = sandbox.lines("/log")
    at = line.pop("time")
    assert at.endswith("+00:00")
    assert line == {
        "n": 1,
        "channel": "fcm",
        "recipient": TOKEN,
        "notification_id": "nn",
        "d": "dd",
        "status": 200,
        "answer": {"name": name},
        "message_id": name,
        "how": None,
        "processed": True,
        "dry_run": False,
        "collapse_id": "nn",
        "headers": {},
        "body": {"message": message},
    }


def test_names_differ(sandbox: Peer) -> None:
    names = {send(sandbox, {"message": fcm_message(TOKEN)}).json["name"] for _ in range(3)}
    assert len(names) == 3


def test_validate_only_reaches_no_device(sandbox: Peer) -> None:
    answer = send(sandbox, {"message": fcm_message(TOKEN), "validate_only": True})
    assert answer.json["name"].endswith("/messages/fake_message_id")
    (line,) = sandbox.lines("/log")
    assert line["dry_run"] is True
    assert sandbox.get("/stats")["devices"]["pending"] == 0
    assert sandbox.lines("/devices/log") == []


def test_camel_case_null_and_every_section_are_taken(sandbox: Peer) -> None:
    message = fcm_message(
        TOKEN,
        fcmOptions={"analyticsLabel": "news"},
        topic=None,
        android={
            "collapseKey": "k",
            "priority": "high",
            "ttl": "3.5s",
            "directBootOk": True,
            "notification": {
                "titleLocArgs": ["a"],
                "eventTime": "2026-11-21T06:33:59Z",
                "vibrateTimings": ["1s"],
                "notificationCount": 3,
                "notification_priority": "PRIORITY_HIGH",
                "light_settings": {"color": {"red": 1, "alpha": 0.5}, "light_on_duration": "1s"},
            },
        },
        webpush={"headers": {"TTL": "60"}, "notification": {"anything": {"goes": 1}}, "fcm_options": {"link": "x"}},
        apns={"headers": {"apns-priority": "5"}, "payload": {"aps": {"badge": 1}}},
    )
    answer = send(sandbox, {"message": message, "validateOnly": False})
    assert answer.status == 200, answer.body
    assert sandbox.lines("/log")[0]["collapse_id"] == "k"


def test_a_pretty_printed_body_stays_one_log_line(sandbox: Peer) -> None:
    body = orjson.dumps({"message": fcm_message(TOKEN)}, option=orjson.OPT_INDENT_2)
    with sandbox.fcm() as client:
        assert client.post(sandbox.fcm_path, sandbox.fcm_headers, body).status == 200
    (line,) = sandbox.lines("/log")
    assert line["body"]["message"]["token"] == TOKEN


def test_actions_that_no_browser_would_show_are_refused(sandbox: Peer) -> None:
    def answered(actions: Any) -> int:
        shown = {"title": "T", "icon": "https://example.com/i.png", "actions": actions}
        return send(sandbox, {"message": {"token": TOKEN, "webpush": {"notification": shown}}}).status

    good = {"action": "read", "title": "Read"}
    assert answered([good, {**good, "icon": "https://example.com/r.png"}]) == 200
    for odd in ("read", ["read"], [{"action": "read"}], [{"title": "Read"}], [{**good, "icon": None}]):
        assert answered(odd) == 400, odd


def test_fid_topic_and_condition_are_targets(sandbox: Peer) -> None:
    for target, value in (("fid", "c" + "x" * 21), ("topic", "news"), ("condition", "'a' in topics")):
        message = {target: value, "data": {"a": "b"}}
        assert send(sandbox, {"message": message}).status == 200
    recipients = [line["recipient"] for line in sandbox.lines("/log")]
    assert recipients == ["c" + "x" * 21, "topic:news", "condition:'a' in topics"]


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [(None, "CREDENTIALS_MISSING"), ("Bearer ya29.bad", "ACCESS_TOKEN_TYPE_UNSUPPORTED"), ("Basic eA==", None)],
)
def test_without_our_token_it_is_401(sandbox: Peer, authorization: str | None, reason: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    with sandbox.fcm() as client:
        answer = client.post(sandbox.fcm_path, headers, orjson.dumps({"message": fcm_message(TOKEN)}))
    assert answer.status == 401
    assert answer.json["error"]["status"] == "UNAUTHENTICATED"
    assert "www-authenticate" in answer.headers
    (detail,) = answer.json["error"]["details"]
    assert detail["reason"] == (reason or "ACCESS_TOKEN_TYPE_UNSUPPORTED")
    (line,) = sandbox.lines("/log")
    assert (line["status"], line["processed"]) == (401, False)


def test_another_project_is_forbidden(sandbox: Peer) -> None:
    with sandbox.fcm() as client:
        body = orjson.dumps({"message": fcm_message(TOKEN)})
        answer = client.post("/v1/projects/other/messages:send", sandbox.fcm_headers, body)
    assert answer.status == 403
    assert answer.json["error"]["status"] == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", None), ("POST", "/v1/projects/p/messages"), ("POST", "/fcm/send")]
)
def test_other_paths_and_methods_are_404(sandbox: Peer, method: str, path: str | None) -> None:
    with sandbox.fcm() as client:
        answer = client.post(path or sandbox.fcm_path, sandbox.fcm_headers, b"{}", method)
    assert answer.status == 404
    assert answer.body.startswith(b"<!DOCTYPE html>")
    assert len(sandbox.lines("/log")) == 1


def test_an_unknown_field_is_named(sandbox: Peer) -> None:
    answer = send(sandbox, {"message": {**fcm_message(TOKEN), "time_to_live": 3}, "to": "x"})
    assert answer.status == 400
    assert violations(answer) == [
        ("message", "Invalid JSON payload received. Unknown name \"time_to_live\" at 'message': Cannot find field."),
        (None, 'Invalid JSON payload received. Unknown name "to": Cannot find field.'),
    ]
    assert FCM_ERROR not in details(answer)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"data": {"a": 12}}, "message.data[0].value", "(TYPE_STRING), 12"),
        ({"data": []}, "message.data", "(Map)"),
        ({"notification": {"title": 5}}, "message.notification.title", "(TYPE_STRING), 5"),
        ({"notification": "x"}, "message.notification", "Notification"),
        ({"token": 5}, "message.token", "(TYPE_STRING), 5"),
        ({"android": {"ttl": "60"}}, "message.android.ttl", "Duration"),
        ({"android": {"ttl": 60}}, "message.android.ttl", "Duration"),
        ({"android": {"priority": "urgent"}}, "message.android.priority", "AndroidMessagePriority"),
        ({"android": {"direct_boot_ok": 1}}, "message.android.direct_boot_ok", "TYPE_BOOL"),
        ({"android": {"notification": {"body_loc_args": [1]}}}, "message.android.notification.body_loc_args[0]", "1"),
        ({"android": {"notification": {"notification_count": 2**31}}}, None, "TYPE_INT32"),
        ({"apns": {"payload": []}}, "message.apns.payload", "Struct"),
        ({"apns": {"headers": {"a": 1}}}, "message.apns.headers[0].value", "TYPE_STRING"),
    ],
)
def test_a_wrong_type_is_named(sandbox: Peer, change: dict[str, Any], field: str | None, words: str) -> None:
    answer = send(sandbox, {"message": {**fcm_message(TOKEN), **change}})
    assert answer.status == 400
    ((named, description),) = violations(answer)
    assert field is None or named == field
    assert words in description
    assert FCM_ERROR not in details(answer)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b'{"message": {"token": NaN}}'])
def test_what_is_not_a_json_object_is_400(sandbox: Peer, body: bytes) -> None:
    with sandbox.fcm() as client:
        answer = client.post(sandbox.fcm_path, sandbox.fcm_headers, body)
    assert answer.status == 400
    assert answer.json["error"]["status"] == "INVALID_ARGUMENT"
    assert len(sandbox.lines("/log")) == 1


@pytest.mark.parametrize("token", ["short", "with space" * 5, "x" * 5000, TOKEN + "/", TOKEN[:-1] + "é"])
def test_a_malformed_token_is_named(sandbox: Peer, token: str) -> None:
    answer = send(sandbox, {"message": fcm_message(token)})
    text = "The registration token is not a valid FCM registration token"
    assert answer.status == 400
    assert answer.json["error"]["message"] == text
    assert details(answer)[FCM_ERROR]["errorCode"] == "INVALID_ARGUMENT"
    assert [detail["errorCode"] for detail in answer.json["error"]["details"]] == ["INVALID_ARGUMENT"]


@pytest.mark.parametrize(
    ("message", "field", "fcm"),
    [
        ({"data": {"a": "b"}}, "message", True),
        ({"token": "", "data": {"a": "b"}}, "message", True),
        ({"token": TOKEN, "topic": "news"}, "message", False),
        ({"topic": "/topics/news"}, "message.topic", True),
        ({"fid": "x"}, "message.fid", True),
        ({"token": TOKEN, "data": {"from": "x"}}, "message.data", True),
        ({"token": TOKEN, "android": {"data": {"google.x": "y"}}}, "message.android.data", True),
        ({"token": TOKEN, "android": {"ttl": "2419201s"}}, "message.android.ttl", True),
        ({"token": TOKEN, "android": {"ttl": "-1s"}}, "message.android.ttl", True),
        ({"token": TOKEN, "fcm_options": {"analytics_label": "a b"}}, "message.fcm_options.analytics_label", True),
    ],
)
def test_a_wrong_value_is_named(sandbox: Peer, message: dict[str, Any], field: str, fcm: bool) -> None:
    answer = send(sandbox, {"message": message})
    assert answer.status == 400
    assert [named for named, _ in violations(answer)] == [field]
    assert (FCM_ERROR in details(answer)) is fcm


def _data(size: int) -> dict[str, Any]:
    return {"token": TOKEN, "data": {"k": "x" * (size - 1)}}


def _apns(size: int) -> dict[str, Any]:
    empty = len(orjson.dumps({"aps": {"alert": ""}}))
    return {"token": TOKEN, "apns": {"payload": {"aps": {"alert": "x" * (size - empty)}}}}


def _notification(size: int) -> dict[str, Any]:
    return {"token": TOKEN, "notification": {"body": "é" * ((size - len('{"body":""}')) // 2)}}


@pytest.mark.parametrize(("make", "limit"), [(_data, 4096), (_apns, 4096), (_notification, 4095)])
def test_a_payload_above_4096_bytes_is_too_big(sandbox: Peer, make: Callable[[int], Any], limit: int) -> None:
    assert send(sandbox, {"message": make(limit)}).status == 200
    answer = send(sandbox, {"message": make(limit + 2)})
    assert answer.status == 400
    assert answer.json["error"]["message"].endswith("message is too big")
    assert details(answer)[FCM_ERROR]["errorCode"] == "INVALID_ARGUMENT"


def test_a_topic_payload_above_2048_bytes_is_too_big(sandbox: Peer) -> None:
    assert send(sandbox, {"message": {"topic": "t", "data": {"k": "x" * 2047}}}).status == 200
    assert send(sandbox, {"message": {"topic": "t", "data": {"k": "x" * 2048}}}).status == 400


def test_a_huge_body_is_answered_without_being_read_whole(sandbox: Peer) -> None:
    with sandbox.fcm() as client:
        stream = client.open(sandbox.fcm_path, sandbox.fcm_headers, b"x" * 65_000)
        client.flush()
        client.settle(stream)
        client.h2.send_headers(
            stream := client.h2.get_next_available_stream_id(),
            [(":method", "POST"), (":path", sandbox.fcm_path), (":scheme", "https"), (":authority", "x")]
            + list(sandbox.fcm_headers.items()),
        )
        client.answers[stream] = Answer()
        for _ in range(5):
            client.h2.send_data(stream, b"x" * 16_384)
        client.flush()
        (answer,) = client.settle(stream)
    assert answer.status == 400
    assert "too big" in answer.json["error"]["message"]


def test_an_access_token_expires(sandbox: Peer) -> None:
    answer = sandbox.token_answer(sandbox.assertion()).json()
    assert answer["expires_in"] == 3600
    assert answer["token_type"] == "Bearer"
    head, expires, proof = answer["access_token"].split(".")
    assert abs(int(expires, 16) - time.time() - 3600) < 60
    moved = f"{head}.{int(expires, 16) + 1:x}.{proof}"
    assert send(sandbox, {"message": fcm_message(TOKEN)}, authorization=f"Bearer {moved}").status == 401


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"iss": "someone@else"}, "invalid_grant"),
        ({"aud": "https://example.com/token"}, "invalid_grant"),
        ({"exp": 1, "iat": 0}, "invalid_grant"),
        ({"exp": int(time.time()) + 90_000}, "invalid_grant"),
        ({"iat": "now"}, "invalid_grant"),
        ({"scope": "email"}, "invalid_scope"),
    ],
)
def test_the_token_endpoint_checks_the_assertion(sandbox: Peer, changes: dict[str, Any], error: str) -> None:
    answer = sandbox.token_answer(sandbox.assertion(**changes))
    assert answer.status_code == 400
    assert answer.json()["error"] == error


def test_the_token_endpoint_refuses_other_signatures_and_grants(sandbox: Peer) -> None:
    good = sandbox.assertion()
    head, payload, signature = good.split(".")
    forged = ".".join((head, payload, signature[:-8] + "AAAAAAAA"))
    assert sandbox.token_answer(forged).json()["error_description"] == "Invalid JWT Signature."
    assert sandbox.token_answer("no jwt").json()["error"] == "invalid_grant"
    assert sandbox.token_answer(good, grant_type="password").json()["error"] == "unsupported_grant_type"


def test_googles_own_audience_is_taken(sandbox: Peer) -> None:
    assertion = sandbox.assertion(aud="https://oauth2.googleapis.com/token")
    assert sandbox.token_answer(assertion).status_code == 200
