"""A TLS peer that writes frames by hand: what it does with a connection is a coroutine of the test's."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import hpack

from notify_pipeline.channels.wire import frames
from tests.channels.peer import make_certificates
from tests.channels.wire import script


class RawConnection:
    """One connection as the test's coroutine sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.frames_seen: list[int] = []
        self._decoder = hpack.Decoder()

    def hello(self, **settings: int) -> None:
        self.write(script.settings(**settings) + script.window(0, 2**30))

    def write(self, data: bytes) -> None:
        if not self.writer.transport.is_closing():
            self.writer.write(data)

    async def frames(self) -> AsyncIterator[tuple[int, int, int, bytes]]:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            await self.reader.readexactly(len(frames.PREFACE))
            while True:
                high, low, kind, flags, stream = frames.HEAD.unpack(await self.reader.readexactly(9))
                assert high == 0
                payload = await self.reader.readexactly(low)
                self.frames_seen.append(kind)
                yield kind, flags, stream, payload

    async def requests(self, *, pong: bool = True) -> AsyncIterator[tuple[int, int]]:
        """Pairs of a stream and the number at the end of its path, once the request is whole."""
        numbers: dict[int, int] = {}
        async for kind, flags, stream, payload in self.frames():
            if kind == frames.HEADERS:
                headers = dict(self._decoder.decode(payload))
                numbers[stream] = int(headers[":path"].rpartition("/")[2])
            elif kind == frames.DATA and flags & frames.END_STREAM:
                yield stream, numbers.pop(stream)
            elif kind == frames.PING and pong and not flags & frames.ACK:
                self.write(frames.frame(frames.PING, frames.ACK, 0, payload))


Serve = Callable[[RawConnection], Awaitable[None]]


class RawPeer:
    """Where it listens, and its connections so far."""

    def __init__(self, url: str, ca: Path) -> None:
        self.url = url
        self.ca = ca
        self.connections: list[RawConnection] = []


@contextlib.asynccontextmanager
async def raw_peer(
    folder: Path, serve: Serve, *, alpn: str | None = "h2", host: str = "127.0.0.1"
) -> AsyncIterator[RawPeer]:
    """Run a peer in this event loop. When ``serve`` returns, the connection is closed."""
    ca, leaf = folder / "ca.pem", folder / "leaf.pem"
    if not ca.exists():
        ca, leaf = make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    if alpn:
        context.set_alpn_protocols([alpn])
    peer = RawPeer("", ca)
    tasks: set[asyncio.Task[None]] = set()
    problems: list[BaseException] = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        connection = RawConnection(len(peer.connections) + 1, reader, writer)
        peer.connections.append(connection)
        try:
            await serve(connection)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
        except Exception as error:  # the test's own mistake, told at the end
            problems.append(error)
            writer.transport.abort()

    server = await asyncio.start_server(run, host, 0, ssl=context)
    peer.url = f"https://{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield peer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)
    if problems:
        raise problems[0]
