"""What a channel asks of the thing that carries its requests: POSTs over HTTP/2 to one host, each with a certain end.

Belongs here: the interface and its value types. Does not belong here: an implementation (``wire``,
``library``), or anything that knows a provider.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

Headers: TypeAlias = tuple[tuple[str, str], ...]


class Request(NamedTuple):
    """One POST.

    Attributes:
        number: The caller's own number for it, handed back with its end.
        path: Path and query, beginning with a slash.
        headers: Names (lower case) and values beyond the pseudo-headers. Requests that share one tuple object share
            the work of encoding it.
        body: Not empty: whether any of it was handed over is how a transport knows that a request was never sent.
    """

    number: int
    path: str
    headers: Headers
    body: bytes


class Answer(NamedTuple):
    """The peer answered; what it said is the channel's to read. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotProcessed(NamedTuple):
    """The request certainly had no effect: it never left, or the peer said that it did not process it.

    ``reason`` is one of few words, fit for counting; ``detail`` is for people.
    """

    reason: str
    detail: str = ""


class Unknown(NamedTuple):
    """The request may have been processed: some of it left, and no answer came. Fields as in ``NotProcessed``."""

    reason: str
    detail: str = ""


End: TypeAlias = Answer | NotProcessed | Unknown


class Transport(Protocol):
    """Carries requests to one host over as few connections as its peer allows."""

    async def post_many(self, requests: Iterable[Request], on_end: Callable[[int, End], None]) -> None:
        """Send requests, many at a time, and report the end of each exactly once, in any order.

        Requests are drawn lazily, each just before it is sent, so the iterable may stamp times or skip recipients.
        Several calls may run at once and share what may be in flight fairly.

        Args:
            requests: Drawn in the event loop's thread: it must not block.
            on_end: Called in the event loop's thread with the request's number and its end.

        Raises:
            asyncio.CancelledError: The caller was cancelled. Every request drawn by then has had its end reported,
                those without an answer as ``NotProcessed`` or ``Unknown``; nothing more is drawn.
            Exception: What ``requests`` or ``on_end`` raised. Requests already drawn end as on a cancellation.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections. Requests under way end as on a cancellation, waiting ones as ``NotProcessed``."""
        ...
