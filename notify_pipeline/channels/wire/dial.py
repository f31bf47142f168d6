"""Opening a connection: TLS, certificate, ALPN, the peer's settings; and how long to wait after a failure.

Belongs here: everything until a link is ready, and the names of what goes wrong. Does not belong here: what a link
carries (``transport``).
"""

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from notify_pipeline.channels.transport import NotProcessed
from notify_pipeline.channels.wire.link import Link

# TCP, TLS and SETTINGS together.
_CONNECT_TIMEOUT_S = 5.0
# When the first address of a name does not answer, the next is tried beside it (RFC 8305 section 5).
_NEXT_ADDRESS_AFTER_S = 0.25
# A peer that takes no notice of our goodbye is left without its.
_GOODBYE_S = 0.5
# After the first failure, and at most; doubled in between. Drawn from the upper half, so that many clients of a
# provider that comes back do not come back at once.
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 4.0


def pause_after(failures: int) -> float:
    """Return seconds to wait after so many failures in a row."""
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * (1 << min(failures - 1, 10)))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing


class Dialer:
    """Opens links to one host.

    Attributes:
        authority: What requests say as theirs.
    """

    def __init__(self, base_url: str, ca: Path, timeout_s: float) -> None:
        """Prepare; nothing is opened or read yet.

        Args:
            base_url: Scheme, host and port, without a trailing slash; https only.
            ca: The bundle that the peer's certificate must chain to.
            timeout_s: At most this long, and at most five seconds.
        """
        url = urlsplit(base_url)
        if url.scheme != "https" or not url.hostname or url.path or url.query or url.username:
            raise ValueError(f"a provider's address must be https://host[:port], not {base_url}")
        self._host = url.hostname
        self._port = url.port or 443
        name = f"[{self._host}]" if ":" in self._host else self._host
        self.authority = name if self._port == 443 else f"{name}:{self._port}"
        self._ca = ca
        self._timeout_s = min(timeout_s, _CONNECT_TIMEOUT_S)
        self._context: ssl.SSLContext | None = None

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            context = ssl.create_default_context(cafile=str(self._ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9113 section 9.2
            context.set_alpn_protocols(["h2"])
            self._context = context
        return self._context

    async def open(self, make: Callable[[], Link]) -> Link | NotProcessed:
        """Return a link that is ready, or why there is none."""
        link = make()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connect(link)
                await link.ready
                return link
        except (OSError, TimeoutError) as error:
            return _failure(error)
        finally:
            if link.ready.done():
                # Read here where nobody else did, so that asyncio does not report it.
                with contextlib.suppress(asyncio.CancelledError):
                    link.ready.exception()
            if not link.connection.ready:
                link.abort("connect", "")

    async def _connect(self, link: Link) -> None:
        """Connect, and agree on TLS. In two steps, because the link wants the socket below TLS to itself."""
        loop = asyncio.get_running_loop()
        below, _ = await loop.create_connection(
            asyncio.Protocol, self._host, self._port, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S
        )
        tls = await loop.start_tls(
            below,
            link,
            self._tls(),
            server_hostname=self._host,
            ssl_handshake_timeout=self._timeout_s,
            ssl_shutdown_timeout=_GOODBYE_S,
        )
        if tls is None:
            raise ConnectionResetError("the peer closed the connection during the handshake")
        link.carry(below, tls)


def _failure(error: OSError | TimeoutError) -> NotProcessed:
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, ssl.SSLError):
        return NotProcessed("tls", detail)
    if isinstance(error, socket.gaierror):
        return NotProcessed("dns", detail)
    return NotProcessed("connect", detail)
