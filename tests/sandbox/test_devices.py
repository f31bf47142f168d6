"""Simulated devices: what they receive, show and call, and that the logs agree with each other."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import orjson

from notify_pipeline.sandbox.tokens import apns_token, fcm_token
from tests.sandbox.client import Peer, beacon_url, fcm_message
from tests.waiting import PATIENCE_S


def send(
    peer: Peer, names: list[str], receipt_base: str | None = None, actions: str | None = None, **more: Any
) -> None:
    base = receipt_base or peer.addresses["receipt_url"]
    with peer.fcm() as client:
        streams = []
        for name in names:
            message = fcm_message(fcm_token(name), d=f"d-{name}", **more)
            message["data"]["receipt"] = beacon_url(base, f"d-{name}")
            if actions is not None:
                message["data"]["actions"] = actions
            streams.append(client.open(peer.fcm_path, peer.fcm_headers, orjson.dumps({"message": message})))
            if len(streams) % 100 == 0:
                client.flush()
                client.settle(*streams)
        client.flush()
        assert {answer.status for answer in client.settle(*streams)} == {200}


def names(count: int) -> list[str]:
    return [str(n) for n in range(count)]


def test_every_accepted_push_is_received_and_reported_once(sandbox: Peer) -> None:
    send(sandbox, names(300))
    sandbox.settle()
    devices = sandbox.lines("/devices/log")
    assert {line["received"] for line in devices} == {True}
    assert Counter(line["d"] for line in devices) == Counter(f"d-{n}" for n in names(300))
    beacons = sandbox.lines("/cdn/log")
    assert Counter(line["d"] for line in beacons) == Counter(f"d-{n}" for n in names(300))
    assert {line["event"] for line in beacons} == {"received"}
    assert sandbox.get("/stats")["notifications"] == {"n1": {"received": 300}}


def test_the_devices_log_tells_when_what_was_accepted_arrived(sandbox: Peer) -> None:
    send(sandbox, ["a"], android={"collapse_key": "k"})
    sandbox.settle()
    (line,) = sandbox.lines("/devices/log")
    accepted = sandbox.lines("/log")[0]["time"]
    assert line.pop("time") >= accepted
    assert line == {
        "n": 1,
        "accepted_at": accepted,
        "channel": "fcm",
        "recipient": fcm_token("a"),
        "notification_id": "n1",
        "d": "d-a",
        "collapse_id": "k",
        "received": True,
        "shown": True,
        "beacons": ["received"],
    }


def test_rates_hold_and_logs_agree(sandbox: Peer) -> None:
    sandbox.faults(seed=9, devices={"receive": 0.9, "open": 0.4, "click": 0.5, "twice": 0.1, "delay_mean_ms": 20})
    send(sandbox, names(1000))
    sandbox.settle()
    devices = sandbox.lines("/devices/log")
    assert len(devices) == 1000
    received = [line for line in devices if line["received"]]
    assert 860 < len(received) < 940
    called = Counter((line["d"], event) for line in received for event in line["beacons"])
    assert called == Counter((line["d"], line["event"]) for line in sandbox.lines("/cdn/log"))
    opened = {d for d, event in called if event == "opened"}
    clicked = {d for d, event in called if event == "clicked"}
    assert 290 < len(opened) < 430
    assert clicked < opened
    assert 50 < sum(count == 2 for count in called.values()) < 300
    assert all(not line["beacons"] for line in devices if not line["received"])


def test_about_half_of_those_who_click_click_an_action(sandbox: Peer) -> None:
    sandbox.faults(seed=9, devices={"open": 1, "click": 1, "twice": 0.2})
    send(sandbox, names(200), actions='[{"action":"read","title":"Read"},{"action":"later","title":"Later"}]')
    send(sandbox, [f"odd {number}" for number in range(9)], actions="[no actions")
    sandbox.settle()
    by_delivery: dict[str, set[str]] = {}
    for line in sandbox.lines("/cdn/log"):
        found = parse_qs(line["querystring"]).get("action", [""])
        assert line["event"] == "clicked" or found == [""]
        if line["event"] == "clicked":
            by_delivery.setdefault(line["d"], set()).add(*found)
    assert {len(each) for each in by_delivery.values()} == {1}, "whoever clicks twice clicks the same"
    clicked = Counter(action for each in by_delivery.values() for action in each)
    assert clicked.keys() == {"read", "later", ""}
    assert 30 < clicked["read"] < 70 and 30 < clicked["later"] < 70


def test_a_repetition_is_received_and_reported_but_shown_once(sandbox: Peer) -> None:
    sandbox.faults(devices={"open": 1})
    send(sandbox, ["a"], android={"collapse_key": "k"})
    send(sandbox, ["a"], android={"collapse_key": "k"})
    sandbox.settle()
    lines = sandbox.lines("/devices/log")
    assert [(line["received"], line["shown"], line["beacons"]) for line in lines] == [
        (True, True, ["received", "opened"]),
        (True, False, ["received"]),
    ]
    assert Counter(line["event"] for line in sandbox.lines("/cdn/log")) == {"received": 2, "opened": 1}


def test_another_device_or_collapse_id_shows_on_its_own(sandbox: Peer) -> None:
    send(sandbox, ["a", "b"], android={"collapse_key": "k"})
    send(sandbox, ["a"], android={"collapse_key": "l"})
    sandbox.settle()
    assert [line["shown"] for line in sandbox.lines("/devices/log")] == [True, True, True]


def test_an_apns_push_reaches_its_device(sandbox: Peer) -> None:
    body = {
        "aps": {"alert": "x"},
        "notificationId": "n1",
        "d": "d-ios",
        "receipt": beacon_url(sandbox.url, "d-ios", platform="ios", provider="apns"),
    }
    with sandbox.apns() as client:
        path = f"/3/device/{apns_token('a')}"
        assert client.post(path, sandbox.apns_headers(), orjson.dumps(body)).status == 200
    sandbox.settle()
    (line,) = sandbox.lines("/cdn/log")
    assert (line["d"], line["platform"], line["provider"]) == ("d-ios", "ios", "apns")
    assert "iOS" in line["user_agent"]


def test_delays_are_kept(sandbox: Peer) -> None:
    sandbox.faults(devices={"delay_ms": 60_000, "delay_max_ms": 60_000})
    send(sandbox, names(5))
    stats = sandbox.get("/stats")["devices"]
    assert stats["pending"] == 5
    assert sandbox.lines("/devices/log") == []


def test_a_push_without_a_usable_receipt_is_received_in_silence(sandbox: Peer) -> None:
    with sandbox.fcm() as client:
        for receipt in (None, "not a url", "http://", "http://127.0.0.1:1x/", "ftp://a/b", "http://h/a b"):
            message = fcm_message(fcm_token("a"), d=f"d-{receipt}")
            if receipt:
                message["data"]["receipt"] = receipt
            assert client.post(sandbox.fcm_path, sandbox.fcm_headers, orjson.dumps({"message": message})).status == 200
    sandbox.settle()
    assert len(sandbox.lines("/devices/log")) == 6
    assert sandbox.get("/stats")["devices"]["beacons"] == {"bad_url": 5}


@contextmanager
def server(script: list[bytes | None]) -> Iterator[tuple[str, list[bytes]]]:
    """Answer one request per script entry, each on a connection of its own; None closes without an answer."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve() -> None:
            for answer in script:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(20)
                    seen.append(connection.recv(65_536))
                    if answer is not None:
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_beacon_is_tried_again_when_the_server_fails(sandbox: Peer) -> None:
    ok = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"
    with server([None, busy, ok]) as (base, seen):
        send(sandbox, ["a"], receipt_base=base)
        sandbox.settle()
    assert len({request.splitlines()[0] for request in seen}) == 1
    assert seen[0].startswith(b"GET /notification/received?notificationId=n1")
    assert sandbox.get("/stats")["devices"]["beacons"] == {"retried": 2, "ok": 1}


def test_a_beacon_is_given_up_after_three_tries(sandbox: Peer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"http://127.0.0.1:{listener.getsockname()[1]}"
    send(sandbox, ["a"], receipt_base=dead)
    sandbox.settle()
    counts = sandbox.get("/stats")["devices"]["beacons"]
    assert (counts["failed"], counts["retried"]) == (1, 2)


def test_a_refusal_is_counted_and_not_tried_again(sandbox: Peer) -> None:
    refusal = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    with server([refusal]) as (base, _):
        send(sandbox, ["a"], receipt_base=base)
        sandbox.settle()
    assert sandbox.get("/stats")["devices"]["beacons"] == {"http_404": 1}
