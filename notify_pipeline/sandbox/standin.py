"""What both stand-ins do alike: check, show faults, log the truth, hand the push to its device.

Belongs here: the order of those steps and the truth's line. Does not belong here: one provider's rules and answers
(``fcm``, ``apns``), frames (``h2server``), what devices do (``devices``).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import orjson

from notify_pipeline.sandbox.faults import Fault, FaultBook, ProviderFaults
from notify_pipeline.sandbox.quota import Quota
from notify_pipeline.sandbox.truthlog import TruthLog
from notify_pipeline.sandbox.wire import Ending, Header, Request, Verdict

Clock = Callable[[], datetime]

# How a request that is to be reset ends, drawn evenly: real networks and servers do all of these.
_UNPROCESSED_ENDINGS = (Ending.REFUSED_STREAM, Ending.INTERNAL_ERROR, Ending.GOAWAY, Ending.CLOSE)
_PROCESSED_ENDINGS = (Ending.INTERNAL_ERROR, Ending.CLOSE)


@dataclass(slots=True)
class Push:
    """What is known of one request; filled in as the checks go, so that a rejected one is logged with what it said."""

    recipient: str | None = None
    body: Any = None
    data: dict[str, Any] = field(default_factory=dict)
    collapse_id: str | None = None
    dry_run: bool = False
    trusted: bool = False  # the credentials were good

    def text(self, key: str) -> str | None:
        """Return a text value of the app's data, None when it is absent or not text."""
        value = self.data.get(key)
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a provider: body is one line of JSON, or empty."""

    status: int
    headers: tuple[Header, ...]
    body: bytes = b""
    message_id: str | None = None


class Provider(Protocol):
    """The rules and the voice of one provider."""

    channel: str
    first_streams: int
    full_streams: int
    logged_headers: tuple[bytes, ...]

    def check(self, request: Request, push: Push, now: datetime) -> Reply | None:
        """Check a request as the provider would; return its rejection, or None when it is good. Fills ``push``."""
        ...

    def accepted(self, request: Request, push: Push) -> Reply:
        """Return the answer to an accepted push."""
        ...

    def unregistered(self, request: Request, since: datetime) -> Reply:
        """Return the answer for a token that is dead since then."""
        ...

    def failed(self, request: Request, fault: Fault, retry_after_s: int | None) -> Reply:
        """Return the answer to a request that was throttled or met a failing server."""
        ...


class Devices(Protocol):
    """Whoever gets what was accepted."""

    def deliver(self, channel: str, push: Push, now: datetime) -> None:
        """Take one accepted push."""
        ...


class StandIn:
    """One provider's stand-in: a ``Service`` for the HTTP/2 server."""

    def __init__(
        self,
        provider: Provider,
        rates: Callable[[], ProviderFaults],
        book: FaultBook,
        log: TruthLog,
        devices: Devices,
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._rates = rates
        self._book = book
        self._log = log
        self._devices = devices
        self._clock = clock
        self.first_streams = provider.first_streams
        self.full_streams = provider.full_streams
        self.commit = log.commit
        self.counts: Counter[str] = Counter()
        self._quota = Quota()

    def handle(self, request: Request) -> Verdict:
        """Decide on one request: the provider's checks, then the faults, then acceptance."""
        now = self._clock()
        push = Push()
        rates = self._rates()
        reply = self._provider.check(request, push, now)
        ending = Ending.ANSWER
        processed = False
        if reply is None:
            reply, ending, processed = self._decide(request, push, rates, now)
        self._record(request, push, reply, ending, processed, now)
        if processed and not push.dry_run:
            self._devices.deliver(self._provider.channel, push, now)
        return Verdict(
            ending,
            reply.status if reply else 0,
            reply.headers if reply else (),
            reply.body if reply else b"",
            self._book.latency_s(rates),
            push.trusted,
        )

    def unprocessed(self, request: Request, ending: Ending) -> None:
        """Log a request that the server turned away unseen (``Service``)."""
        self._record(request, Push(), None, ending, False, self._clock())

    def undelivered(self) -> None:
        """Count an answer that found nobody waiting (``Service``)."""
        self.counts["answers_undelivered"] += 1

    def _decide(
        self, request: Request, push: Push, rates: ProviderFaults, now: datetime
    ) -> tuple[Reply | None, Ending, bool]:
        if rates.quota is not None and (left_s := self._quota.back_in(rates.quota, rates.quota_window_s, now)):
            return self._provider.failed(request, Fault.THROTTLED, left_s), Ending.ANSWER, False
        fault = self._book.draw(rates)
        if fault is Fault.HANG:
            return None, Ending.HANG, False
        if fault is Fault.RESET:
            ending = self._book.random.choice(_UNPROCESSED_ENDINGS)
            if ending is Ending.GOAWAY and not request.can_goaway:
                ending = Ending.REFUSED_STREAM
            return None, ending, False
        if fault in (Fault.THROTTLED, Fault.UNAVAILABLE, Fault.INTERNAL):
            return self._provider.failed(request, fault, rates.retry_after_s), Ending.ANSWER, False
        if push.recipient is not None and self._book.is_dead(rates, push.recipient):
            return self._provider.unregistered(request, self._book.dead_since(rates, now)), Ending.ANSWER, False
        if fault is Fault.RESET_AFTER_PROCESSING:
            return None, self._book.random.choice(_PROCESSED_ENDINGS), True
        return self._provider.accepted(request, push), Ending.ANSWER, True

    def _record(
        self, request: Request, push: Push, reply: Reply | None, ending: Ending, processed: bool, now: datetime
    ) -> None:
        """Write the truth's line: ``GET /log`` in ``control`` tells what it means."""
        outcome = str(reply.status) if reply else ("hang" if ending is Ending.HANG else "reset")
        self.counts[outcome] += 1
        if processed:
            self.counts["dry_run" if push.dry_run else "processed"] += 1
        headers = request.headers
        self._log.append(
            {
                "n": 0,
                "time": now,
                "channel": self._provider.channel,
                "recipient": push.recipient,
                "notification_id": push.text("notificationId"),
                "d": push.text("d"),
                "status": reply.status if reply else None,
                "answer": _as_answered(reply) if reply else outcome,
                "message_id": reply.message_id if reply else None,
                "how": None if reply else ending,
                "processed": processed,
                "dry_run": push.dry_run,
                "collapse_id": push.collapse_id,
                "headers": {
                    name.decode(): headers[name].decode("latin-1")
                    for name in self._provider.logged_headers
                    if name in headers
                },
                "body": _as_logged(request.body, push.body),
            }
        )


def _as_answered(reply: Reply) -> Any:
    if not reply.body:
        return None
    return orjson.Fragment(reply.body) if reply.body.startswith(b"{") else reply.body.decode()


def _as_logged(raw: bytes, parsed: Any) -> Any:
    """Return the body for the log: spliced in as it came where it is one line of JSON."""
    if parsed is None:
        # Not JSON, or never looked at. The start says enough.
        return {"unparsed": raw[:1024].decode("utf-8", "replace")} if raw else None
    if b"\n" in raw or b"\r" in raw:
        return parsed
    return orjson.Fragment(raw)
