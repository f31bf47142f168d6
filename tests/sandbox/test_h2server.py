"""The HTTP/2 server by itself: windows, limits, and clients that misbehave."""

import socket
import ssl

import h2.exceptions
import h2.settings
import orjson
import pytest

from notify_pipeline.sandbox.tokens import fcm_token
from tests.sandbox.client import Answer, Client, Peer, fcm_message
from tests.waiting import PATIENCE_S


def open_many(client: Client, peer: Peer, count: int) -> list[int]:
    streams = []
    for n in range(count):
        body = orjson.dumps({"message": fcm_message(fcm_token(str(n)))})
        streams.append(client.open(peer.fcm_path, peer.fcm_headers, body))
    client.flush()
    return streams


def test_answers_wait_for_a_client_that_does_not_open_its_window(sandbox: Peer) -> None:
    sandbox.faults(fcm={"throttled": 1})  # the longest answers
    with sandbox.fcm(acknowledge=False) as client:
        streams = open_many(client, sandbox, 400)
        sandbox.wait_for("all requests", lambda: sandbox.get("/stats")["requests"] == 400)
        while sum(len(a.body) for a in client.answers.values()) < 65_535:
            client.read()
        assert not all(a.ended for a in client.answers.values())
        client.h2.increment_flow_control_window(1 << 20)
        client.flush()
        answers = client.settle(*streams)
    assert {a.status for a in answers} == {429}
    assert len({a.body for a in answers}) == 1
    assert answers[0].json["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_answers_are_cut_to_a_tiny_window(sandbox: Peer) -> None:
    with sandbox.fcm() as client:
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
        client.flush()
        (stream,) = open_many(client, sandbox, 1)
        while len(client.answers[stream].body) < 10:
            client.read()
        (answer,) = client.settle(stream)
    assert answer.json["name"].startswith("projects/")
    assert answer.data_frames > 3


def test_more_than_a_thousand_streams_are_refused(sandbox: Peer) -> None:
    sandbox.faults(fcm={"hang": 1})
    with sandbox.fcm() as client:
        client.wait_for_streams(1000)
        client.h2.remote_settings.max_concurrent_streams = 2000
        client.h2.remote_settings.acknowledge()
        streams = open_many(client, sandbox, 1005)
        refused = client.settle(*streams[1000:])
    assert [answer.reset for answer in refused] == [7] * 5
    lines = sandbox.lines("/log")
    assert len([line for line in lines if line["answer"] == "hang"]) == 1000
    assert [line["how"] for line in lines if line["answer"] == "reset"] == ["refused_stream"] * 5


def test_many_requests_on_one_connection_leave_nothing_behind(sandbox: Peer) -> None:
    with sandbox.fcm() as client:
        for _ in range(10):
            assert {a.status for a in client.settle(*open_many(client, sandbox, 300))} == {200}
            client.answers.clear()
    assert sandbox.get("/stats")["fcm"] == {"200": 3000, "processed": 3000}


def test_a_request_that_the_client_takes_back_is_no_request(sandbox: Peer) -> None:
    with sandbox.fcm() as client:
        stream = client.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":path", sandbox.fcm_path), (":scheme", "https"), (":authority", "x")]
        client.h2.send_headers(stream, [*head, *sandbox.fcm_headers.items()])
        client.h2.reset_stream(stream)
        (good,) = client.settle(*open_many(client, sandbox, 1))
    assert good.status == 200
    assert len(sandbox.lines("/log")) == 1


def test_a_client_that_takes_a_request_back_before_its_answer_is_counted(sandbox: Peer) -> None:
    sandbox.faults(fcm={"latency_ms": 60_000})
    with sandbox.fcm() as client:
        (stream,) = open_many(client, sandbox, 1)
        sandbox.wait_for("the request", lambda: sandbox.get("/stats")["requests"] == 1)
        client.h2.reset_stream(stream)
        client.flush()
        sandbox.wait_for("the count", lambda: sandbox.get("/stats")["fcm"].get("answers_undelivered") == 1)


def test_broken_frames_end_the_connection_with_its_error(sandbox: Peer) -> None:
    with sandbox.fcm() as client:
        client.socket.sendall(b"\x00\x00\x08\x06\x00\x00\x00\x00\x01" + b"x" * 8)  # PING on a stream
        while not client.gone:
            client.read()
    assert client.goaway is not None
    assert client.goaway.error_code == 1  # PROTOCOL_ERROR
    with sandbox.fcm() as client:
        (answer,) = client.settle(*open_many(client, sandbox, 1))
    assert answer.status == 200


def test_headers_that_http2_forbids_are_refused(sandbox: Peer) -> None:
    with sandbox.fcm() as client:
        client.h2.config.validate_outbound_headers = False
        client.h2.config.normalize_outbound_headers = False
        stream = client.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":path", sandbox.fcm_path), (":scheme", "https"), (":authority", "x")]
        client.h2.send_headers(stream, [*head, ("Authorization", "Bearer x")], end_stream=True)
        client.answers[stream] = Answer()
        client.flush()
        while not client.gone:
            client.read()
    assert client.goaway is not None
    assert sandbox.lines("/log") == []


def test_only_http2_is_spoken(sandbox: Peer) -> None:
    context = ssl.create_default_context(cafile=sandbox.addresses["ca"])
    host, port = sandbox.addresses["fcm_url"].removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE_S) as raw,
        context.wrap_socket(raw, server_hostname=host) as tls,
    ):
        tls.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert tls.recv(100) == b""


def test_a_client_that_does_not_trust_our_authority_refuses_us(sandbox: Peer) -> None:
    host, port = sandbox.addresses["fcm_url"].removeprefix("https://").split(":")
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE_S) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(raw, server_hostname=host)
