"""The transport against servers that others wrote: nghttpd and Node's http2, where the machine has them."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from notify_pipeline.channels.transport import Answer, NotProcessed, Request, Unknown
from notify_pipeline.channels.wire.transport import WireTransport
from tests.channels.peer import make_certificates
from tests.channels.wire.script import HEADERS
from tests.channels.wire.test_transport import Ends

DOCUMENT = b'{"name": "projects/p/messages/1"}\n'
needs_nghttpd = pytest.mark.skipif(
    shutil.which("nghttpd") is None, reason="nghttpd is not installed (Debian: nghttp2-server)"
)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")


@contextlib.contextmanager
def nghttpd(folder: Path, *options: str) -> Iterator[tuple[str, Path, "subprocess.Popen[bytes]"]]:
    ca, leaf = make_certificates(folder)
    (folder / "www").mkdir()
    (folder / "www" / "send").write_bytes(DOCUMENT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["nghttpd", "-d", str(folder / "www"), "-a", "127.0.0.1", *options, str(port), str(leaf), str(leaf)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield f"https://127.0.0.1:{port}", ca, process
        finally:
            process.kill()


def requests(count: int, path: str, body: bytes = b"{}") -> Iterator[Request]:
    for number in range(count):
        yield Request(number, path, HEADERS, body)


async def post(url: str, ca: Path, items: Iterator[Request], **more: int) -> Ends:
    transport = WireTransport(url, ca=ca, max_in_flight=200, timeout_s=20, **more)
    ends = Ends()
    await transport.post_many(items, ends)
    await transport.aclose()
    return ends


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
    with nghttpd(tmp_path, *options) as (url, ca, _):
        found = asyncio.run(post(url, ca, requests(2000, "/send", b"x" * 3000)))
        assert len(found) == 2000
        assert {(end.status, end.body) for end in found.values() if isinstance(end, Answer)} == {(200, DOCUMENT)}
        assert found.kinds() == {"Answer": 2000}
        missing = asyncio.run(post(url, ca, requests(300, "/nothing")))
        assert missing.kinds() == {"Answer": 300}
        assert {end[0] for end in missing.values()} == {404}
        assert all(b"404" in end.body for end in missing.values() if isinstance(end, Answer))


@needs_nghttpd
def test_nghttpd_killed_under_way(tmp_path: Path) -> None:
    async def main(url: str, ca: Path, process: "subprocess.Popen[bytes]") -> Ends:
        transport = WireTransport(url, ca=ca, max_in_flight=100, timeout_s=20)
        ends = Ends()
        task = asyncio.create_task(transport.post_many(requests(3000, "/send"), ends))
        while len(ends) < 500:
            await asyncio.sleep(0.001)
        process.kill()
        while "NotProcessed" not in ends.kinds():
            await asyncio.sleep(0.05)
        await transport.aclose()
        await task
        return ends

    with nghttpd(tmp_path) as (url, ca, process):
        ends = asyncio.run(main(url, ca, process))
    assert len(ends) == 3000
    assert ends.kinds()["Answer"] >= 500
    assert ends.kinds()["Unknown"] <= 100


@contextlib.contextmanager
def node(folder: Path) -> Iterator[tuple[str, Path]]:
    ca, leaf = make_certificates(folder)
    script = Path(__file__).with_name("node_peer.js")
    with subprocess.Popen(["node", str(script), str(leaf)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"https://127.0.0.1:{process.stdout.readline().strip()}", ca
        finally:
            process.kill()


def numbered(count: int, mode: str) -> Iterator[Request]:
    for number in range(count):
        yield Request(number, f"/{mode}/{number}", HEADERS, b"%d" % number * 20)


@needs_node
def test_node_answers_refuses_resets_and_hints(tmp_path: Path) -> None:
    with node(tmp_path) as (url, ca):
        ends = asyncio.run(post(url, ca, numbered(2000, "mixed")))
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
    with node(tmp_path) as (url, ca):
        ends = asyncio.run(post(url, ca, numbered(3000, "goaway")))
    assert len(ends) == 3000
    kinds = ends.kinds()
    assert kinds["Unknown"] == 0, {end for end in ends.values() if isinstance(end, Unknown)}
    assert kinds["Answer"] >= 2000
    for number, end in ends.items():
        assert not isinstance(end, Answer) or end.body == b"%d" % number * 20
