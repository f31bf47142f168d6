"""What the HTTP/2 server and the stand-ins hand to each other.

Belongs here: requests, verdicts and the service protocol. Does not belong here: frames (``h2server``) or rules
(``fcm``, ``apns``).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Header = tuple[bytes, bytes]

# No push payload is allowed above 5,120 bytes (APNs VoIP); JSON around it never makes it this large.
MAX_BODY = 65_536


class Ending(StrEnum):
    """How a stream ends."""

    ANSWER = "answer"
    HANG = "hang"
    REFUSED_STREAM = "refused_stream"  # RST_STREAM; says that nothing was processed (RFC 9113 section 8.7)
    INTERNAL_ERROR = "internal_error"  # RST_STREAM; says nothing about processing
    GOAWAY = "goaway"  # graceful: this stream and later ones were not processed
    CLOSE = "close"  # the connection ends without a word


@dataclass(slots=True)
class Session:
    """What a service remembers of one connection."""

    provider_token: bytes | None = None
    issued_at: float = 0.0


@dataclass(slots=True)
class Request:
    """One complete request. ``can_goaway`` tells whether GOAWAY could still declare it unprocessed."""

    headers: dict[bytes, bytes]
    has_duplicates: bool
    body: bytes
    too_large: bool
    session: Session
    can_goaway: bool


@dataclass(slots=True)
class Verdict:
    """What to do with a request. ``opens_up`` raises the stream limit to the service's full one."""

    ending: Ending
    status: int = 0
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    delay_s: float = 0.0
    opens_up: bool = False


class Service(Protocol):
    """What stands behind a port."""

    first_streams: int
    full_streams: int

    def handle(self, request: Request) -> Verdict:
        """Decide on one request and log it. Must not block."""
        ...

    def unprocessed(self, request: Request, ending: Ending) -> None:
        """Log a request that the server itself turned away before the service saw it."""
        ...

    def undelivered(self) -> None:
        """Count an answer whose connection or stream was gone when it was due."""
        ...

    def commit(self) -> None:
        """Make everything logged so far durable. Called before any answer leaves."""
        ...
