"""HTTP/2 server for the stand-ins: streams, limits, and the rude ways in which a connection can end.

Belongs here: frames and streams (RFC 9113) on top of ``h2``, and when bytes leave. Does not belong here: what a
request means (``standin``, ``fcm``, ``apns``).

All requests of one read are handled before anything is sent; then the service commits its log; then one write carries
all answers.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from h2 import events as ev
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from notify_pipeline.sandbox.h2connection import CONNECTION_WINDOW, new_connection
from notify_pipeline.sandbox.wire import MAX_BODY, Ending, Request, Service, Session, Verdict

# A connection that said GOAWAY is closed at the latest after this, even if streams still hang.
_GOAWAY_GRACE_S = 10.0
# Length 8, type 7, no flags, stream 0 (RFC 9113 section 6.8).
_GOAWAY_HEAD = bytes((0, 0, 8, 7, 0, 0, 0, 0, 0))


@dataclass(slots=True)
class _Stream:
    headers: dict[bytes, bytes]
    has_duplicates: bool
    body: list[bytes] = field(default_factory=list)
    size: int = 0


class H2Protocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, service: Service, live: "set[H2Protocol]") -> None:
        self._service = service
        self._live = live
        self._loop = asyncio.get_running_loop()
        self._session = Session()
        self._streams: dict[int, _Stream] = {}  # receiving
        self._waiting: dict[int, Verdict] = {}  # decided, not answered
        self._blocked: deque[tuple[int, bytes]] = deque()  # bodies that wait for the client's window
        self._limit: int | None = None  # None until the client acknowledged our settings
        self._full = False
        self._highest = 0
        self._last_allowed: int | None = None  # set by GOAWAY
        self._consumed = 0
        self._dirty = False
        self._in_read = False
        self._h2 = new_connection(service.first_streams)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our settings."""
        self._transport = cast(asyncio.Transport, transport)
        self._live.add(self)
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            self._transport.close()
            return
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; answers that were still due are counted as undelivered."""
        self._live.discard(self)
        for stream_id in list(self._waiting):
            self._lost(stream_id)
        self._streams.clear()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read our answers."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Handle all requests of one read, commit, then send all answers."""
        self._in_read = True
        try:
            for event in self._h2.receive_data(data):
                if self._transport.is_closing():
                    break
                react = _REACTIONS.get(type(event))
                if react is not None:
                    react(self, event)
        except ProtocolError:
            # h2 has queued the GOAWAY that names the error.
            self._flush()
            self._transport.close()
        finally:
            self._in_read = False
        self._flush()

    def close(self) -> None:
        """Say GOAWAY and close."""
        if not self._transport.is_closing():
            self._h2.close_connection()
            self._flush()
            self._transport.close()

    def _on_request(self, event: ev.Event) -> None:
        event = cast(ev.RequestReceived, event)
        headers = event.headers
        stream = _Stream(dict(headers), False)
        stream.has_duplicates = len(stream.headers) != len(headers)
        stream_id = event.stream_id
        if self._last_allowed is not None and stream_id > self._last_allowed:
            self._service.unprocessed(self._request(stream), Ending.GOAWAY)
        elif self._limit is not None and len(self._streams) + len(self._waiting) >= self._limit:
            self._service.unprocessed(self._request(stream), Ending.REFUSED_STREAM)
            self._h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
        else:
            self._streams[stream_id] = stream

    def _on_data(self, event: ev.Event) -> None:
        event = cast(ev.DataReceived, event)
        self._consumed += event.flow_controlled_length or 0
        if self._consumed >= CONNECTION_WINDOW // 4:
            self._h2.increment_flow_control_window(self._consumed)
            self._consumed = 0
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.body.append(event.data or b"")
        stream.size += len(event.data or b"")
        if stream.size > MAX_BODY:
            self._complete(event.stream_id, too_large=True)

    def _on_end(self, event: ev.Event) -> None:
        stream_id = cast(ev.StreamEnded, event).stream_id
        if stream_id in self._streams:
            self._complete(stream_id, too_large=False)

    def _on_reset(self, event: ev.Event) -> None:
        stream_id = cast(ev.StreamReset, event).stream_id
        self._streams.pop(stream_id, None)
        self._lost(stream_id)

    def _on_window(self, event: ev.Event) -> None:
        for _ in range(len(self._blocked)):
            stream_id, body = self._blocked.popleft()
            if stream_id in self._waiting:
                self._send_body(stream_id, body)

    def _on_settings_ack(self, event: ev.Event) -> None:
        if self._limit is None:
            self._limit = self._service.full_streams if self._full else self._service.first_streams

    def _on_terminated(self, event: ev.Event) -> None:
        self._transport.close()

    def _request(self, stream: _Stream, too_large: bool = False, can_goaway: bool = False) -> Request:
        body = stream.body[0] if len(stream.body) == 1 else b"".join(stream.body)
        return Request(stream.headers, stream.has_duplicates, body, too_large, self._session, can_goaway)

    def _complete(self, stream_id: int, *, too_large: bool) -> None:
        stream = self._streams.pop(stream_id)
        can_goaway = self._last_allowed is None and stream_id > self._highest
        verdict = self._service.handle(self._request(stream, too_large, can_goaway))
        if verdict.ending is Ending.GOAWAY:
            self._goaway()
            return
        self._highest = max(self._highest, stream_id)
        self._waiting[stream_id] = verdict
        if verdict.opens_up and not self._full:
            self._full = True
            self._limit = None if self._limit is None else self._service.full_streams
            if self._service.full_streams != self._service.first_streams:
                self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self._service.full_streams})
        if verdict.delay_s > 0:
            self._loop.call_later(verdict.delay_s, self._finish, stream_id, verdict, too_large)
        else:
            self._finish(stream_id, verdict, too_large)

    def _finish(self, stream_id: int, verdict: Verdict, too_large: bool) -> None:
        if stream_id not in self._waiting or verdict.ending is Ending.HANG:
            return
        try:
            self._end_stream(stream_id, verdict)
            if too_large:
                # RFC 9113 section 8.1: the answer is complete, the rest of the body is not wanted.
                self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        except ProtocolError:
            # The client reset the stream or left in the meantime.
            self._lost(stream_id)
        self._flush_soon()

    def _end_stream(self, stream_id: int, verdict: Verdict) -> None:
        if verdict.ending is Ending.ANSWER:
            self._h2.send_headers(stream_id, verdict.headers, end_stream=not verdict.body)
            if verdict.body:
                self._send_body(stream_id, verdict.body)
            else:
                self._answered(stream_id)
        elif verdict.ending is Ending.CLOSE:
            self._waiting.pop(stream_id, None)
            self._flush()
            self._transport.close()
        else:
            code = ErrorCodes.REFUSED_STREAM if verdict.ending is Ending.REFUSED_STREAM else ErrorCodes.INTERNAL_ERROR
            self._h2.reset_stream(stream_id, code)
            self._answered(stream_id)

    def _send_body(self, stream_id: int, body: bytes) -> None:
        room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
        while body and room > 0:
            chunk, body = body[:room], body[room:]
            self._h2.send_data(stream_id, chunk, end_stream=not body)
            room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
        if body:
            self._blocked.append((stream_id, body))
        else:
            self._answered(stream_id)

    def _lost(self, stream_id: int) -> None:
        verdict = self._waiting.pop(stream_id, None)
        if verdict is not None and verdict.ending is Ending.ANSWER:
            self._service.undelivered()

    def _answered(self, stream_id: int) -> None:
        self._waiting.pop(stream_id, None)
        if self._last_allowed is not None and not self._streams and not self._waiting:
            self._flush()
            self._transport.close()

    def _goaway(self) -> None:
        # h2's close_connection would forbid answering the streams that GOAWAY allows to finish.
        self._last_allowed = self._highest
        for stream_id in [s for s in self._streams if s > self._highest]:
            self._service.unprocessed(self._request(self._streams.pop(stream_id)), Ending.GOAWAY)
        self._flush()
        self._transport.write(_GOAWAY_HEAD + struct.pack(">II", self._highest, ErrorCodes.NO_ERROR))
        if self._streams or self._waiting:
            self._loop.call_later(_GOAWAY_GRACE_S, self._transport.close)
        else:
            self._transport.close()

    def _flush_soon(self) -> None:
        if not self._in_read and not self._dirty:
            self._dirty = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._dirty = False
        self._service.commit()
        if not self._transport.is_closing() and (data := self._h2.data_to_send()):
            self._transport.write(data)


_REACTIONS: dict[type[ev.Event], Callable[[H2Protocol, ev.Event], None]] = {
    ev.RequestReceived: H2Protocol._on_request,
    ev.DataReceived: H2Protocol._on_data,
    ev.StreamEnded: H2Protocol._on_end,
    ev.StreamReset: H2Protocol._on_reset,
    ev.WindowUpdated: H2Protocol._on_window,
    ev.RemoteSettingsChanged: H2Protocol._on_window,
    ev.SettingsAcknowledged: H2Protocol._on_settings_ack,
    ev.ConnectionTerminated: H2Protocol._on_terminated,
}
