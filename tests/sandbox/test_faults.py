"""Faults: each shows on the wire as it should, the truth log says what happened, and draws repeat."""

import time
from collections import Counter
from datetime import datetime
from typing import Any

import orjson
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.sandbox.faults import Fault, FaultBook, Faults, ProviderFaults
from notify_pipeline.sandbox.tokens import apns_token, fcm_token
from tests.sandbox.client import Answer, Client, Peer, beacon_url, fcm_message
from tests.waiting import PATIENCE_S

CHANNELS = ["fcm", "apns"]


def connect(peer: Peer, channel: str) -> Client:
    client = peer.fcm() if channel == "fcm" else peer.apns()
    if channel == "apns":
        # One good request opens the connection up to many streams.
        peer.faults()
        client.post(*request(peer, channel, "opener"))
        client.wait_for_streams(1000)
    return client


def request(peer: Peer, channel: str, name: str) -> tuple[str, dict[str, str], bytes]:
    receipt = beacon_url(peer.addresses["receipt_url"], f"d-{name}")
    if channel == "fcm":
        message = fcm_message(fcm_token(name), d=f"d-{name}")
        message["data"]["receipt"] = receipt
        return peer.fcm_path, peer.fcm_headers, orjson.dumps({"message": message})
    body = {"aps": {"alert": "x"}, "notificationId": "n1", "d": f"d-{name}", "receipt": receipt}
    return f"/3/device/{apns_token(name)}", peer.apns_headers(), orjson.dumps(body)


def post_many(client: Client, peer: Peer, channel: str, names: list[str]) -> list[Answer]:
    streams = [client.open(*request(peer, channel, name)) for name in names]
    client.flush()
    return client.settle(*streams)


def truth(peer: Peer) -> list[dict[str, Any]]:
    return [line for line in peer.lines("/log") if line["d"] != "d-opener"]


def test_there_are_none_by_default(sandbox: Peer) -> None:
    assert Faults.model_validate(sandbox.get("/faults")) == Faults()
    for channel in CHANNELS:
        with connect(sandbox, channel) as client:
            answers = post_many(client, sandbox, channel, [str(n) for n in range(200)])
            assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize(
    ("fault", "status", "fcm_code", "apns_reason"),
    [
        ("throttled", 429, "QUOTA_EXCEEDED", "TooManyRequests"),
        ("unavailable", 503, "UNAVAILABLE", "ServiceUnavailable"),
        ("internal", 500, "INTERNAL", "InternalServerError"),
    ],
)
def test_failing_answers(sandbox: Peer, channel: str, fault: str, status: int, fcm_code: str, apns_reason: str) -> None:
    sandbox.faults(**{channel: {fault: 1, "retry_after_s": 7}})
    with sandbox.fcm() if channel == "fcm" else sandbox.apns() as client:
        answer = client.post(*request(sandbox, channel, "a"))
    assert answer.status == status
    if channel == "fcm":
        assert answer.json["error"]["details"][0]["errorCode"] == fcm_code
    else:
        assert answer.json == {"reason": apns_reason}
    if fault != "internal" or channel == "apns":
        assert answer.headers["retry-after"] == "7"
    (line,) = truth(sandbox)
    assert (line["status"], line["processed"]) == (status, False)


def test_retry_after_can_be_left_out(sandbox: Peer) -> None:
    sandbox.faults(fcm={"throttled": 1, "retry_after_s": None})
    with sandbox.fcm() as client:
        assert "retry-after" not in client.post(*request(sandbox, "fcm", "a")).headers


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_quota_has_room_again_in_the_next_window(sandbox: Peer, channel: str) -> None:
    with connect(sandbox, channel) as client:
        sandbox.faults(**{channel: {"quota": 3, "quota_window_s": 2}})
        before = len(truth(sandbox))
        answers = post_many(client, sandbox, channel, [str(n) for n in range(10)])
        assert Counter(answer.status for answer in answers) == {200: 3, 429: 7}
        left = {int(answer.headers["retry-after"]) for answer in answers if answer.status == 429}
        assert left <= {1, 2}
        time.sleep(max(left) + 0.1)
        assert client.post(*request(sandbox, channel, "a")).status == 200
    assert Counter(line["processed"] for line in truth(sandbox)[before:]) == {True: 4, False: 7}


def test_a_dead_fcm_token_stays_dead(sandbox: Peer) -> None:
    sandbox.faults(fcm={"unregistered": 0.3})
    names = [str(n) for n in range(200)]
    with connect(sandbox, "fcm") as client:
        first, second = (post_many(client, sandbox, "fcm", names) for _ in range(2))
    assert [a.status for a in first] == [a.status for a in second]
    dead = [a for a in first if a.status == 404]
    assert 30 < len(dead) < 90  # 60 expected; beyond 4.6 standard deviations something is wrong
    assert dead[0].json["error"]["details"] == [
        {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED"}
    ]
    assert {line["processed"] for line in truth(sandbox) if line["status"] == 404} == {False}


def test_tokens_that_are_named_are_dead_and_a_dry_run_says_so(sandbox: Peer) -> None:
    sandbox.faults(fcm={"dead": [fcm_token("gone")]})
    with connect(sandbox, "fcm") as client:
        for changes in ({}, {"validate_only": True}):
            path, headers, body = request(sandbox, "fcm", "gone")
            assert client.post(path, headers, orjson.dumps(orjson.loads(body) | changes)).status == 404
        assert client.post(*request(sandbox, "fcm", "here")).status == 200


def test_a_dead_apns_token_says_since_when(sandbox: Peer) -> None:
    sandbox.faults(apns={"unregistered": 1, "unregistered_age_s": 3600})
    with sandbox.apns() as client:
        answer = client.post(*request(sandbox, "apns", "a"))
    assert answer.status == 410
    (line,) = truth(sandbox)
    assert answer.json["reason"] == "Unregistered"
    at = datetime.fromisoformat(line["time"])
    assert answer.json["timestamp"] == pytest.approx(at.timestamp() * 1000 - 3_600_000, abs=1)


@pytest.mark.parametrize("channel", CHANNELS)
def test_resets_come_in_every_kind_and_process_nothing(sandbox: Peer, channel: str) -> None:
    kinds: dict[str, int] = {}
    sent = 0
    for seed in range(12):
        client = connect(sandbox, channel)
        before = len(sandbox.lines("/log"))
        sandbox.faults(seed=seed, **{channel: {"reset": 1}})
        name = f"r{seed}"
        with client:
            (answer,) = post_many(client, sandbox, channel, [name])
            sent += 1
            (line,) = sandbox.lines(f"/log?since={before}")
            kinds[line["how"]] = kinds.get(line["how"], 0) + 1
            assert (line["answer"], line["status"], line["processed"]) == ("reset", None, False)
            _shows(client, answer, line["how"])
    assert set(kinds) == {"refused_stream", "internal_error", "goaway", "close"}
    sandbox.settle()
    accepted = [line["d"] for line in sandbox.lines("/log") if line["processed"]]
    assert sorted(line["d"] for line in sandbox.lines("/devices/log")) == sorted(accepted)


def _shows(client: Client, answer: Answer, how: str) -> None:
    assert answer.status == 0
    if how == "refused_stream":
        assert answer.reset == 7
    elif how == "internal_error":
        assert answer.reset == 2
    else:
        while not client.gone:
            client.read()
        assert (client.goaway is not None) is (how == "goaway")
        if client.goaway is not None:
            assert client.goaway.error_code == 0
            assert client.goaway.last_stream_id < max(client.answers)


def test_goaway_lets_earlier_streams_finish_and_processes_no_later_one(sandbox: Peer) -> None:
    # Latency keeps earlier streams open while a later one is told to go.
    names = [str(n) for n in range(300)]
    for seed in range(30):
        sandbox.faults(seed=seed, fcm={"reset": 0.01, "latency_ms": 50})
        before = sandbox.get("/stats")["requests"]
        with sandbox.fcm() as client:
            answers = post_many(client, sandbox, "fcm", names)
        lines = sandbox.lines(f"/log?since={before}")
        hows = [line["how"] for line in lines if line["how"]]
        if "goaway" in hows and "close" not in hows:
            break
    else:
        pytest.fail("no seed gave a GOAWAY without a closed connection before it")
    assert client.goaway is not None
    by_name = {line["d"]: line for line in lines if line["d"]}
    for stream, answer, name in zip(sorted(client.answers), answers, names, strict=True):
        if stream > (client.goaway.last_stream_id or 0):
            assert answer.status == 0
            assert by_name.get(f"d-{name}", {"processed": False})["processed"] is False
        elif answer.reset is None:
            assert answer.status == 200
            assert by_name[f"d-{name}"]["processed"] is True


@pytest.mark.parametrize("channel", CHANNELS)
def test_reset_after_processing_reaches_the_device(sandbox: Peer, channel: str) -> None:
    sandbox.faults(**{channel: {"reset_after_processing": 1}})
    hows = set()
    for n in range(8):
        with sandbox.fcm() if channel == "fcm" else sandbox.apns() as client:
            answer = client.post(*request(sandbox, channel, str(n)))
            assert answer.status == 0
        line = truth(sandbox)[-1]
        assert (line["processed"], line["status"], line["answer"]) == (True, None, "reset")
        hows.add(line["how"])
    assert hows == {"internal_error", "close"}
    sandbox.settle()
    assert sorted(line["d"] for line in sandbox.lines("/devices/log")) == [f"d-{n}" for n in range(8)]
    assert sorted(line["d"] for line in sandbox.lines("/cdn/log")) == [f"d-{n}" for n in range(8)]


def test_a_hanging_request_is_never_answered_but_logged(sandbox: Peer) -> None:
    sandbox.faults(fcm={"hang": 1})
    with sandbox.fcm() as client:
        stream = client.open(*request(sandbox, "fcm", "a"))
        client.flush()
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.settle(stream)
        (line,) = truth(sandbox)
        assert (line["answer"], line["status"], line["processed"]) == ("hang", None, False)
        client.socket.settimeout(10)
        sandbox.faults()
        assert client.post(*request(sandbox, "fcm", "b")).status == 200


def test_latency_delays_answers_and_a_client_that_left_is_counted(sandbox: Peer) -> None:
    sandbox.faults(fcm={"latency_ms": 300, "latency_jitter_ms": 10})
    with sandbox.fcm() as client:
        client.open(*request(sandbox, "fcm", "a"))
        client.flush()
        sandbox.wait_for("the request", lambda: bool(truth(sandbox)))
    undelivered = lambda: sandbox.get("/stats")["fcm"].get("answers_undelivered") == 1  # noqa: E731
    sandbox.wait_for("the count", undelivered)
    with sandbox.fcm() as client:
        assert client.post(*request(sandbox, "fcm", "b")).status == 200


def test_faults_are_validated_and_kept_when_wrong(sandbox: Peer) -> None:
    sandbox.faults(seed=5, cdn={"late": 0.5})
    for body, field in (
        ({"fcm": {"reset": 1.5}}, "fcm.reset"),
        ({"fcm": {"resets": 0.1}}, "fcm.resets"),
        ({"apns": {"reset": 0.6, "hang": 0.6}}, "apns"),
        ({"seed": -1}, "seed"),
        ({"devices": {"delay_ms": -1}}, "devices.delay_ms"),
        ({"devices": "many"}, "devices"),
    ):
        answer = requests.put(sandbox.url + "/faults", json=body, timeout=PATIENCE_S)
        assert answer.status_code == 422
        assert [d["field"] for d in answer.json()["error"]["details"]] == [field]
    assert requests.put(sandbox.url + "/faults", data=b"{", timeout=PATIENCE_S).status_code == 422
    assert sandbox.get("/faults")["cdn"]["late"] == 0.5


@given(st.integers(min_value=0, max_value=2**63 - 1), st.text(max_size=20))
def test_shares_belong_to_seed_subject_and_purpose(seed: int, subject: str) -> None:
    book, again = FaultBook(Faults(seed=seed)), FaultBook(Faults(seed=seed))
    share = book.share(subject, "receive")
    assert 0 <= share < 1
    assert share == again.share(subject, "receive")
    assert share != book.share(subject, "open")
    assert share != book.share(subject + "x", "receive")


def test_draws_follow_their_rates() -> None:
    rates = ProviderFaults(throttled=0.1, unavailable=0.05, reset=0.2, hang=0.3)
    book = FaultBook(Faults(seed=3))
    drawn = [book.draw(rates) for _ in range(20_000)]
    for fault in Fault:
        assert drawn.count(fault) / 20_000 == pytest.approx(getattr(rates, fault), abs=0.015)
    again = FaultBook(Faults(seed=3))
    assert [again.draw(rates) for _ in range(100)] == drawn[:100]
