"""Stand-ins beside the two push providers: what each of them is to the sandbox.

Belongs here: the interface, what a part is handed, and the list of them. Does not belong here: a part (a module each).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from notify_pipeline.sandbox.faults import FaultBook
from notify_pipeline.sandbox.http1 import HttpRequest, Response
from notify_pipeline.sandbox.sms import Sms
from notify_pipeline.sandbox.smtp import Smtp
from notify_pipeline.sandbox.standin import Clock, Devices
from notify_pipeline.sandbox.truthlog import TruthLog
from notify_pipeline.sandbox.webpush import WebPush


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a part works in.

    Attributes:
        url: The control API's address.
        home: The sandbox's folder.
        ports: Where parts listened in the sandbox's earlier life, by name: clients that outlive it look there.
        book: The faults in force.
        log: What ``GET /log`` shows; a part appends a line per message that it got, with the fields that ``control``
            describes, and commits before it answers.
        devices: Gets what was accepted, where a beacon is called for it.
        clock: Tells the time.
    """

    url: str
    home: Path
    ports: Mapping[str, int]
    book: FaultBook
    log: TruthLog
    devices: Devices
    clock: Clock


class Part(Protocol):
    """One more stand-in."""

    name: str  # its key in ``GET /stats``
    prefix: str  # the control API hands it every path below; empty: none

    async def start(self) -> dict[str, str]:
        """Begin; return what ``GET /`` says of it. Ports that it listens on are kept by the name in ``ports``."""
        ...

    async def stop(self) -> None:
        """End, and close everything."""
        ...

    def handle(self, request: HttpRequest) -> Response | Awaitable[Response]:
        """Answer a request below ``prefix``."""
        ...

    @property
    def ports(self) -> Mapping[str, int]:
        """Where it listens."""
        ...

    @property
    def stats(self) -> Mapping[str, Any]:
        """Counts, for ``GET /stats``."""
        ...


# Each makes its part.
PARTS: tuple[Callable[[Surroundings], Part], ...] = (Smtp, Sms, WebPush)
