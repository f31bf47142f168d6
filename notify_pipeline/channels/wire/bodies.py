"""Request bodies on their way out, as fast as the peer's windows let them (RFC 9113 section 5.2).

Belongs here: the peer's windows and the bodies that wait for them. Does not belong here: our own window (``replies``),
which streams there are (``connection``).
"""

from notify_pipeline.channels.wire.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    FRAME_LIMIT,
    LARGEST_WINDOW,
    ErrorCode,
    Violation,
    fail,
    frame,
)


class _Body:
    """What is left of a body, and the window of its stream."""

    __slots__ = ("rest", "window")

    def __init__(self, rest: memoryview, window: int) -> None:
        self.rest = rest
        self.window = window


class Bodies:
    """The sending side of one connection's flow control.

    A body that fits is not kept here: whoever sends it takes it off ``window``.

    Attributes:
        window: Bytes that the peer takes on the connection now; not above 0 when it takes none.
        at_once: The longest body that a new stream takes in one frame.
    """

    def __init__(self, out: list[bytes]) -> None:
        """Args: out: takes the frames."""
        self.window = DEFAULT_WINDOW
        self.at_once = FRAME_LIMIT
        self._out = out
        self._initial = DEFAULT_WINDOW
        self._waiting: dict[int, _Body] = {}

    def start(self, stream: int, body: bytes) -> None:
        """Send what the windows let through of a body, and keep the rest for later."""
        waiting = self._waiting[stream] = _Body(memoryview(body), self._initial)
        self._send(stream, waiting)

    def drop(self, stream: int) -> bool:
        """Forget a stream; tell whether some of its body had not been sent."""
        return self._waiting.pop(stream, None) is not None

    def grow(self, increment: int) -> None:
        """Take a WINDOW_UPDATE of the connection."""
        self.window += increment
        if increment == 0 or self.window > LARGEST_WINDOW:
            fail(ErrorCode.FLOW_CONTROL_ERROR, f"WINDOW_UPDATE by {increment}")
        self._send_all()

    def grow_stream(self, stream: int, increment: int) -> None:
        """Take a WINDOW_UPDATE of a stream. Of one whose body is sent, it has no meaning any more."""
        waiting = self._waiting.get(stream)
        if waiting is None:
            return
        waiting.window += increment
        if increment == 0 or waiting.window > LARGEST_WINDOW:
            raise Violation(ErrorCode.FLOW_CONTROL_ERROR, f"WINDOW_UPDATE of stream {stream} by {increment}")
        self._send(stream, waiting)

    def start_from(self, initial: int) -> None:
        """Take a new INITIAL_WINDOW_SIZE; it moves open streams' windows too, even below 0."""
        change = initial - self._initial
        self._initial = initial
        self.at_once = min(initial, FRAME_LIMIT)
        for waiting in self._waiting.values():
            waiting.window += change
            if waiting.window > LARGEST_WINDOW:
                fail(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {initial}")
        self._send_all()

    def _send_all(self) -> None:
        for stream, waiting in list(self._waiting.items()):
            if self.window <= 0:
                return
            self._send(stream, waiting)

    def _send(self, stream: int, waiting: _Body) -> None:
        while (size := min(len(waiting.rest), waiting.window, self.window, FRAME_LIMIT)) > 0:
            piece = bytes(waiting.rest[:size])
            waiting.rest = waiting.rest[size:]
            waiting.window -= size
            self.window -= size
            self._out.append(frame(DATA, 0 if waiting.rest else END_STREAM, stream, piece))
            if not waiting.rest:
                del self._waiting[stream]
                return
