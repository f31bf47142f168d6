"""The control API and its HTTP/1.1 server."""

import socket
from pathlib import Path

import orjson
import pytest
import requests

from notify_pipeline.sandbox.tokens import fcm_token
from tests.sandbox.client import Peer, fcm_message
from tests.waiting import PATIENCE_S


def test_the_root_tells_all_addresses(sandbox: Peer, tmp_path: Path) -> None:
    addresses = sandbox.get("/")
    assert addresses == sandbox.addresses
    for name in ("ca", "service_account", "apns_key"):
        assert Path(addresses[name]).is_relative_to(tmp_path / "sandbox")
        assert Path(addresses[name]).is_file()
    assert addresses["logs_root"] == str(tmp_path / "logs")
    assert orjson.loads(Path(addresses["service_account"]).read_bytes())["token_uri"] == addresses["token_url"]
    assert sandbox.get("/healthz") == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/", 405),
        ("DELETE", "/log", 405),
        ("GET", "/cdn/flush", 405),
        ("GET", "/log?since=-1", 400),
        ("GET", "/log?since=x", 400),
        ("GET", "/devices/log?since=1.5", 400),
        ("POST", "/token", 400),
    ],
)
def test_bad_requests_are_told_so(sandbox: Peer, method: str, path: str, status: int) -> None:
    answer = requests.request(method, sandbox.url + path, timeout=PATIENCE_S)
    assert answer.status_code == status
    assert "error" in answer.json()


def test_the_log_goes_on_from_a_number(sandbox: Peer) -> None:
    with sandbox.fcm() as client:
        for n in range(5):
            body = orjson.dumps({"message": fcm_message(fcm_token(str(n)))})
            client.post(sandbox.fcm_path, sandbox.fcm_headers, body)
    assert [line["n"] for line in sandbox.lines("/log?since=3")] == [4, 5]
    assert sandbox.lines("/log?since=5") == []
    assert sandbox.lines("/log?since=99") == []
    answer = requests.get(sandbox.url + "/log", timeout=PATIENCE_S)
    assert answer.headers["content-type"] == "application/x-ndjson"


def exchange(peer: Peer, request: bytes) -> bytes:
    """Send raw bytes and read until the server closes."""
    port = int(peer.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_pipelined_requests_are_answered_in_order(sandbox: Peer) -> None:
    beacon = b"GET /notification/received?d=%d HTTP/1.1\r\nHost: x\r\n\r\n"
    log = b"GET /cdn/log HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange(sandbox, beacon % 1 + beacon % 2 + log + beacon % 3 + last)
    statuses = [line[9:12] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses == [b"204", b"204", b"200", b"204", b"200"]
    assert answer.count(b'"d":"2"') == 1
    assert answer.count(b'"d":"3"') == 0


def test_requests_in_pieces_are_put_together(sandbox: Peer) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    request = b'PUT /faults HTTP/1.0\r\nContent-Length: 11\r\n\r\n{"seed": 7}'
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(request)):
            connection.sendall(request[at : at + 1])
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert sandbox.get("/faults")["seed"] == 7


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/2\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"PUT /faults HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"PUT /faults HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n", b"413"),
        (b"PUT /faults HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, b"431"),
    ],
)
def test_what_is_not_http_is_refused_and_closed(sandbox: Peer, request_bytes: bytes, status: bytes) -> None:
    assert exchange(sandbox, request_bytes)[9:12] == status


def test_a_client_may_ask_whether_to_go_on(sandbox: Peer) -> None:
    head = b"PUT /faults HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 11\r\n\r\n"
    port = int(sandbox.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"seed": 8}')
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK")
