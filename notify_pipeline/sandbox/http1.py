"""A lean HTTP/1.1 server for the control API and the beacons.

Belongs here: parsing requests (RFC 9112), keep-alive, pipelining, streamed answers. Does not belong here: routes
(``control``).

Every beacon of every device passes here, so the way of a plain GET is short: no task, no header objects.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

MAX_HEAD = 32_768
MAX_BODY = 1_048_576

log = logging.getLogger(__name__)


@dataclass(slots=True)
class HttpRequest:
    """One complete request."""

    method: str
    path: str
    query: str
    headers: dict[bytes, bytes]
    body: bytes
    peer: str


@dataclass(slots=True)
class Response:
    """One answer: a body at once, or a stream of blocks."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    stream: AsyncIterator[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)


NO_CONTENT = Response(204)
Handler = Callable[[HttpRequest], Response | Awaitable[Response]]
_NO_CONTENT_BYTES = b"HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\n"


class NoAnswer(Exception):
    """Raised by an awaited handler: the connection ends without an answer."""


class _Malformed(Exception):
    """Carries the status of a request that cannot be read."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Http1Protocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, handler: Handler, live: "set[Http1Protocol]") -> None:
        self._handler = handler
        self._live = live
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._continued = False
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        self._live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was under way for this client."""
        self._live.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Hold streams back while the client is slow."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()

    def close(self) -> None:
        """Close after what is under way."""
        self._closing = True
        if self._task is None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once: what hangs would be under way forever."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer every complete request that has arrived."""
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while self._task is None and not self._transport.is_closing():
            try:
                request = self._parse()
            except _Malformed as problem:
                self._closing = True
                self._send(Response(problem.status, b"", "text/plain"))
                return
            if request is None:
                return
            response = self._handler(request)
            if isinstance(response, Response) and response.stream is None:
                self._send(response)
            else:
                self._transport.pause_reading()
                self._task = asyncio.get_running_loop().create_task(self._later(response))

    async def _later(self, response: Response | Awaitable[Response]) -> None:
        try:
            answer = response if isinstance(response, Response) else await response
            if answer.stream is None:
                self._send(answer)
            else:
                await self._send_stream(answer, answer.stream)
        except NoAnswer:
            self._transport.abort()
        except Exception:
            # The client must not take a broken stream for a whole one: no final chunk, and the connection ends.
            log.exception("a control request failed")
            self._transport.abort()
        finally:
            self._task = None
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._advance()

    def _parse(self) -> HttpRequest | None:
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > MAX_HEAD:
                raise _Malformed(431)
            return None
        first, *rest = bytes(buffer[:end]).split(b"\r\n")
        headers = {}
        for line in rest:
            name, colon, value = line.partition(b":")
            if not colon:
                raise _Malformed(400)
            headers[name.lower()] = value.strip()
        length = self._body_length(headers)
        if len(buffer) < end + 4 + length:
            if headers.get(b"expect", b"").lower() == b"100-continue" and not self._continued:
                self._continued = True
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(buffer[end + 4 : end + 4 + length])
        del buffer[: end + 4 + length]
        self._continued = False
        return self._request(first, headers, body)

    @staticmethod
    def _body_length(headers: dict[bytes, bytes]) -> int:
        if b"transfer-encoding" in headers:
            raise _Malformed(411)
        text = headers.get(b"content-length", b"0")
        if not text.isdigit():
            raise _Malformed(400)
        if int(text) > MAX_BODY:
            raise _Malformed(413)
        return int(text)

    def _request(self, first: bytes, headers: dict[bytes, bytes], body: bytes) -> HttpRequest:
        parts = first.split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            raise _Malformed(400)
        if parts[2] == b"HTTP/1.0" or headers.get(b"connection", b"").lower() == b"close":
            self._closing = True
        path, _, query = parts[1].decode("latin-1").partition("?")
        return HttpRequest(parts[0].decode("latin-1"), path, query, headers, body, self._peer)

    def _send(self, response: Response) -> None:
        if response is NO_CONTENT and not self._closing:
            self._transport.write(_NO_CONTENT_BYTES)
            return
        head = self._head(response)
        if response.status != 204:
            head += f"Content-Length: {len(response.body)}\r\n"
        self._transport.write(f"{head}\r\n".encode("latin-1") + response.body)
        if self._closing:
            self._transport.close()

    async def _send_stream(self, response: Response, stream: AsyncIterator[bytes]) -> None:
        self._transport.write(f"{self._head(response)}Transfer-Encoding: chunked\r\n\r\n".encode("latin-1"))
        async for block in stream:
            if block:
                self._transport.write(b"%x\r\n%b\r\n" % (len(block), block))
                await self._writable.wait()
        self._transport.write(b"0\r\n\r\n")
        if self._closing:
            self._transport.close()

    def _head(self, response: Response) -> str:
        lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
        if response.status != 204:
            lines.append(f"Content-Type: {response.content_type}")
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        lines.append("Cache-Control: no-store")
        if self._closing:
            lines.append("Connection: close")
        return "\r\n".join(lines) + "\r\n"
