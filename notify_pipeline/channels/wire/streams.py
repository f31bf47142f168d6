"""The streams of a client's connection: requests out, answers in, and what the end of each is called.

Belongs here: everything that concerns one stream (RFC 9113 sections 5 and 8). Does not belong here: the connection as a
whole (``connection``), putting an answer together (``replies``), the peer's windows (``bodies``).

What a request's end is called follows from what the peer is bound to have said: REFUSED_STREAM and a GOAWAY below the
stream mean that nothing was processed (RFC 9113 section 8.7); everything else without an answer is unknown.
"""

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from notify_pipeline.channels.transport import Answer, End, Headers, NotProcessed, Unknown
from notify_pipeline.channels.wire import frames
from notify_pipeline.channels.wire.bodies import Bodies
from notify_pipeline.channels.wire.frames import HEAD, ErrorCode, fail, name_of
from notify_pipeline.channels.wire.heads import AnswerHeads, RequestHeads, path_field
from notify_pipeline.channels.wire.replies import CONNECTION_WINDOW, Block, Malformed, Reply

Tag = TypeVar("Tag")

# Frames that bring no answer further (PING, SETTINGS, WINDOW_UPDATE, empty DATA, streams long gone), counted between
# two answers or two calls of ``relax``. Beyond that a peer is at best confused.
_MAX_IDLE_FRAMES = 2_000


class Streams(Generic[Tag]):
    """Streams of one connection, each with the caller's tag.

    Attributes:
        streams: The open ones, in the order of their ids.
        ends: Pairs of a tag and how its request ended; the caller takes them away.
        limit: Streams that the peer takes at once; 0 until its settings have come.
        bodies: The peer's windows.
        draining: No new streams; it can be closed once ``streams`` is empty.
        closed: Nothing comes in any more; what is in the output is the last.
        answered: Requests that were answered.
        next_stream: The id that the next stream gets.
    """

    def __init__(self, authority: str, unindexed: Collection[str] = (), first_stream: int = 1) -> None:
        """Args: authority, unindexed: see ``RequestHeads``. first_stream: odd."""
        self._out: list[bytes] = []
        self.streams: dict[int, Tag] = {}
        self.ends: list[tuple[Tag, End]] = []
        self.limit = 0
        self.bodies = Bodies(self._out)
        self.draining = self.closed = False
        self.answered = 0
        self.next_stream = first_stream
        self._request_heads = RequestHeads(authority, unindexed)
        self._answer_heads = AnswerHeads()
        self._replies: dict[int, Reply] = {}
        self._block: Block | None = None
        self._unacknowledged = 0
        self._idle_frames = 0

    @property
    def room(self) -> int:
        """How many streams may be opened now."""
        if self.draining or self.closed or self.bodies.window <= 0:
            return 0
        ids_left = (frames.LARGEST_STREAM - self.next_stream) // 2 + 1
        return min(self.limit - len(self.streams), ids_left)

    def open(self, tag: Tag, path: str, headers: Headers, body: bytes) -> None:
        """Send a request on a new stream. There must be room.

        Raises:
            ValueError: It cannot be sent; nothing was done.
        """
        size = len(body)
        if not size:
            raise ValueError("a request needs a body")
        field = path_field(path)
        stream = self.next_stream
        before, after = self._request_heads.around_path(headers, stream)
        self.next_stream = stream + 2
        if self.next_stream > frames.LARGEST_STREAM:
            self.draining = True
        self.streams[stream] = tag
        length = len(before) + len(field) + len(after)
        bodies = self.bodies
        if size <= bodies.at_once and size <= bodies.window and length <= frames.FRAME_LIMIT:
            bodies.window -= size
            self._out += (
                HEAD.pack(0, length, frames.HEADERS, frames.END_HEADERS, stream),
                before,
                field,
                after,
                HEAD.pack(0, size, frames.DATA, frames.END_STREAM, stream),
                body,
            )
        else:
            self._out.append(frames.header_frames(stream, before + field + after))
            bodies.start(stream, body)

    def _idle_frame(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > _MAX_IDLE_FRAMES:
            fail(ErrorCode.ENHANCE_YOUR_CALM, "frame after frame that brings nothing")

    def relax(self) -> None:
        """Say that time has passed, so that frames which bring nothing are counted anew."""
        self._idle_frames = 0

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = frames.stripped(flags, payload)
        if flags & frames.END_HEADERS:
            self._on_block(stream, bool(flags & frames.END_STREAM), payload)
        else:
            self._block = Block(stream, bool(flags & frames.END_STREAM), payload)

    def _on_block(self, stream: int, end: bool, block: bytes) -> None:
        head = self._answer_heads.read(block)
        if stream not in self.streams:
            self._on_unknown_stream(stream)
            return
        reply = self._replies.get(stream)
        if reply is None:
            if end and head.status >= 200 and not head.fault and not head.length:
                self._finish(stream, head.answer)
                return
            reply = self._replies[stream] = Reply()
        try:
            answer = reply.take_head(head, end)
        except Malformed as malformed:
            self._give_up(stream, ErrorCode.PROTOCOL_ERROR, "malformed", str(malformed))
            return
        if answer is not None:
            self._finish(stream, answer)

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._unacknowledged += size
        if self._unacknowledged > CONNECTION_WINDOW:
            fail(ErrorCode.FLOW_CONTROL_ERROR, "more than the connection's window")
        if self._unacknowledged >= CONNECTION_WINDOW // 4:
            self._out.append(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0
        if flags & frames.PADDED:
            payload = frames.stripped(frames.PADDED, payload)
        if stream not in self.streams:
            self._on_unknown_stream(stream)
            return
        end = bool(flags & frames.END_STREAM)
        if not payload and not end:
            self._idle_frame()
        try:
            reply = self._replies.get(stream)
            if reply is None:
                raise Malformed("a body before its head")
            answer = reply.take_data(payload, end)
            if answer is None:
                self._out.append(reply.acknowledge(stream, size))
        except Malformed as malformed:
            self._give_up(stream, ErrorCode.PROTOCOL_ERROR, "malformed", str(malformed))
            return
        if answer is not None:
            self._finish(stream, answer, cut=not end)

    def _finish(self, stream: int, answer: Answer, *, cut: bool = False) -> None:
        self._replies.pop(stream, None)
        if self.bodies.drop(stream) or cut:
            # RFC 9113 section 8.1: the answer is complete, or all that we take; the rest is of no use.
            self._out.append(frames.reset(stream, ErrorCode.CANCEL))
        self._idle_frames = 0
        self.answered += 1
        self.ends.append((self.streams.pop(stream), answer))

    def _give_up(self, stream: int, code: ErrorCode, reason: str, detail: str) -> None:
        """Tell the peer that a stream is over, and end its request."""
        self._out.append(frames.reset(stream, code))
        self._cut(stream, Unknown(reason, detail))

    def _cut(self, stream: int, end: End) -> None:
        """End a request whose answer will not come, or not all of it."""
        tag = self.streams.pop(stream)
        self.bodies.drop(stream)
        reply = self._replies.pop(stream, None)
        answer = reply.so_far() if reply is not None else None
        if answer is not None:
            # The verdict arrived and its explanation did not, or not all. A success stays one; a refusal had no
            # effect, and asking again tells why.
            torn = NotProcessed("torn_answer", f"status {answer.status}, then {end[0]}")
            end = answer if answer.status < 300 else torn
        self.ends.append((tag, end))

    def _on_unknown_stream(self, stream: int) -> None:
        """Let late frames of a stream that is over pass; others break the protocol."""
        if stream % 2 == 0 or stream >= self.next_stream:
            fail(ErrorCode.PROTOCOL_ERROR, f"a frame of stream {stream}, which never was")
        self._idle_frame()

    def _on_reset(self, flags: int, stream: int, payload: bytes) -> None:
        code = frames.number(payload, "RST_STREAM")
        if stream not in self.streams:
            self._on_unknown_stream(stream)
        elif code == ErrorCode.REFUSED_STREAM and stream not in self._replies:
            self._cut(stream, NotProcessed("refused", "the peer refused the stream"))
        else:
            self._cut(stream, Unknown("reset", f"the peer reset the stream: {name_of(code)}"))

    def expire(self, before: int) -> int:
        """Give up streams below this id for want of an answer; return how many there were."""
        late = [stream for stream in self.streams if stream < before]
        for stream in late:
            self._give_up(stream, ErrorCode.CANCEL, "timeout", "no answer in time")
        return len(late)

    def abandon(self, belongs: Callable[[Tag], bool], reason: str) -> None:
        """Give up the streams with these tags."""
        for stream in [stream for stream, tag in self.streams.items() if belongs(tag)]:
            self._give_up(stream, ErrorCode.CANCEL, reason, "")

    def lost(self, reason: str, detail: str) -> None:
        """Take note that the connection is gone."""
        self.closed = True
        for stream in list(self.streams):
            self._cut(stream, Unknown(reason, detail))
