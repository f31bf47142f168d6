"""The transport against servers that others wrote, where the machine has them."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from notify_pipeline.channels.transport import Answer, NotProcessed, Request, Unknown
from notify_pipeline.channels.wire.transport import WireTransport
from tests.channels.wire.script import HEADERS
from tests.channels.wire.servers import (
    DOCUMENT,
    H2O_ERROR,
    NGINX_ERROR,
    Server,
    h2o,
    needs_h2o,
    needs_nghttpd,
    needs_nginx,
    needs_node,
    nghttpd,
    nginx,
    node,
)
from tests.channels.wire.test_transport import Ends
from tests.waiting import PATIENCE_S

OWN_HEADERS = (*HEADERS, ("apns-topic", "com.example"))


def requests(count: int, path: str, body: bytes = b"{}") -> Iterator[Request]:
    for number in range(count):
        yield Request(number, path, HEADERS, body)


def numbered(count: int, mode: str, body: bytes | None = None) -> Iterator[Request]:
    for number in range(count):
        headers = HEADERS if number % 3 else OWN_HEADERS
        yield Request(number, f"/{mode}/{number}", headers, b"%d" % number * 20 if body is None else body)


async def post(server: Server, items: Iterator[Request]) -> Ends:
    transport = WireTransport(server.url, ca=server.ca, max_in_flight=200, timeout_s=PATIENCE_S)
    ends = Ends()
    await transport.post_many(items, ends)
    await transport.aclose()
    return ends


async def post_until_taken(server: Server, items: Iterator[Request]) -> Ends:
    """Send refused requests again: a server may count a stream that it has answered a moment longer than we."""
    waiting = {request.number: request for request in items}
    found = Ends()
    for _ in range(5):
        ends = await post(server, iter(waiting.values()))
        for number, end in ends.items():
            if isinstance(end, NotProcessed):
                assert end.reason == "refused", end
            else:
                del waiting[number]
                found(number, end)
        if not waiting:
            return found
    raise AssertionError(f"{len(waiting)} requests were refused again and again")


@needs_nghttpd
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--padding=200",),
        ("--trailer", "checksum: 1"),
        ("--window-bits=10", "--connection-window-bits=16"),
        ("--header-table-size=0",),
        ("--header-table-size=65536", "--encoder-header-table-size=65536"),
        ("--max-concurrent-streams=7",),
        ("--early-response",),
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_nghttpd_answers_everything(tmp_path: Path, options: tuple[str, ...]) -> None:
    with nghttpd(tmp_path, *options) as server:
        found = asyncio.run(post(server, requests(2000, "/send", b"x" * 3000)))
        assert len(found) == 2000
        assert {(end.status, end.body) for end in found.values() if isinstance(end, Answer)} == {(200, DOCUMENT)}
        assert found.kinds() == {"Answer": 2000}
        missing = asyncio.run(post(server, requests(300, "/nothing")))
        assert missing.kinds() == {"Answer": 300}
        assert {end[0] for end in missing.values()} == {404}
        assert all(b"404" in end.body for end in missing.values() if isinstance(end, Answer))


@needs_nghttpd
def test_nghttpd_killed_under_way(tmp_path: Path) -> None:
    async def main(server: Server) -> Ends:
        transport = WireTransport(server.url, ca=server.ca, max_in_flight=100, timeout_s=PATIENCE_S)
        ends = Ends()
        task = asyncio.create_task(transport.post_many(requests(3000, "/send"), ends))
        while len(ends) < 500:
            await asyncio.sleep(0.001)
        server.process.kill()
        while "NotProcessed" not in ends.kinds():
            await asyncio.sleep(0.05)
        await transport.aclose()
        await task
        return ends

    with nghttpd(tmp_path) as server:
        ends = asyncio.run(main(server))
    assert len(ends) == 3000
    assert ends.kinds()["Answer"] >= 500
    assert ends.kinds()["Unknown"] <= 100


def all_answered(ends: Ends, count: int) -> None:
    """Each with its own answer: no header of one request is read into another's."""
    assert ends.kinds() == {"Answer": count}
    for number, end in ends.items():
        assert isinstance(end, Answer)
        assert (end.status, end.headers["path"], end.body) == (200, f"/send/{number}", b"{}")


@needs_nginx
@pytest.mark.parametrize("options", ["", "http2_body_preread_size 1k;", "http2_max_concurrent_streams 3;"])
def test_nginx_answers_everything(tmp_path: Path, options: str) -> None:
    with nginx(tmp_path, options) as server:
        found = asyncio.run(post_until_taken(server, numbered(800, "send", b"x" * 3000)))
        all_answered(found, 800)
        assert len({end.headers["apns-id"] for end in found.values() if isinstance(end, Answer)}) == 800
        missing = asyncio.run(post_until_taken(server, requests(300, "/nothing", b"x" * 3000)))
        assert {(end[0], end[2]) for end in missing.values() if isinstance(end, Answer)} == {(404, NGINX_ERROR)}
        assert missing.kinds() == {"Answer": 300}


@needs_nginx
def test_nginx_says_goodbye_after_some_requests(tmp_path: Path) -> None:
    with nginx(tmp_path, "keepalive_requests 100;") as server:
        ends = asyncio.run(post(server, numbered(1000, "send")))
    assert len(ends) == 1000
    kinds = ends.kinds()
    assert kinds["Unknown"] == 0, {end for end in ends.values() if isinstance(end, Unknown)}
    assert "goaway" in {end[0] for end in ends.values() if isinstance(end, NotProcessed)} <= {"goaway", "refused"}
    assert kinds["Answer"] >= 350


@needs_h2o
@pytest.mark.parametrize("options", ["", "http2-max-concurrent-requests-per-connection: 3"])
def test_h2o_answers_everything(tmp_path: Path, options: str) -> None:
    """It keeps inserting into a table that we asked not to have."""
    with h2o(tmp_path, options) as server:
        all_answered(asyncio.run(post_until_taken(server, numbered(800, "send", b"x" * 3000))), 800)
        missing = asyncio.run(post_until_taken(server, requests(300, "/nothing")))
        assert {end[2] for end in missing.values() if isinstance(end, Answer)} == {H2O_ERROR}
        assert missing.kinds() == {"Answer": 300}


@needs_h2o
def test_h2o_shuts_down_under_way(tmp_path: Path) -> None:
    async def main(server: Server) -> Ends:
        transport = WireTransport(server.url, ca=server.ca, max_in_flight=100, timeout_s=PATIENCE_S)
        ends = Ends()
        task = asyncio.create_task(transport.post_many(numbered(20_000, "send"), ends))
        while len(ends) < 500:
            await asyncio.sleep(0.001)
        server.process.send_signal(signal.SIGTERM)
        while "NotProcessed" not in ends.kinds():
            await asyncio.sleep(0.02)
        await transport.aclose()
        await task
        return ends

    with h2o(tmp_path) as server:
        ends = asyncio.run(main(server))
    assert len(ends) == 20_000
    assert ends.kinds()["Answer"] >= 500
    assert ends.kinds()["Unknown"] == 0, {end for end in ends.values() if isinstance(end, Unknown)}


@needs_node
def test_node_answers_refuses_resets_and_hints(tmp_path: Path) -> None:
    with node(tmp_path) as server:
        ends = asyncio.run(post(server, numbered(2000, "mixed")))
    assert len(ends) == 2000
    for number, end in ends.items():
        if number % 10 == 3:
            assert isinstance(end, NotProcessed)
            assert end.reason == "refused"
        elif number % 10 == 4:
            assert isinstance(end, Unknown)
            assert end.reason == "reset"
        else:
            assert isinstance(end, Answer)
            if number % 10 == 6:
                assert (end.status, end.body) == (404, b"e" * 5000)
            else:
                assert (end.status, end.headers["n"], end.body) == (200, str(number), b"%d" % number * 20)


@needs_node
def test_node_says_goodbye_again_and_again(tmp_path: Path) -> None:
    with node(tmp_path) as server:
        ends = asyncio.run(post(server, numbered(3000, "goaway")))
    assert len(ends) == 3000
    kinds = ends.kinds()
    assert kinds["Unknown"] == 0, {end for end in ends.values() if isinstance(end, Unknown)}
    assert kinds["Answer"] >= 2000
    for number, end in ends.items():
        assert not isinstance(end, Answer) or end.body == b"%d" % number * 20
