"""Connections to wherever a stranger's URL leads, as long as that is a host of the internet.

Belongs here: looking names up, and refusing sockets to private addresses. Does not belong here: what is sent, and what
a URL may say (``core.addresses``).

Whoever registers a callback or a browser's subscription chooses where we connect to. So every socket that is opened
here is checked for the number that it is about to connect to: whatever a name resolved to a moment ago, and however the
number was written.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from notify_pipeline.core.addresses import is_public
from notify_pipeline.core.event_loop import Lookups

_IDLE_S = 15.0
# Beyond so many open connections none is kept for later: strangers choose how many hosts there are, and each
# connection is a file of the process that holds all other channels' too.
_MOST_KEPT = 256
# Of what an answer says.
_BODY_BYTES = 65_536
_BODY_S = 1.0
# One of the words of ``word_for``.
PRIVATE = "private_address"


class PrivateAddress(OSError):
    """A name leads to addresses that may not be connected to."""


class PublicSession:
    """A client's session and its connections; make it in the event loop that uses it.

    Attributes:
        session: Follows no cookie, no proxy and no ``Content-Encoding``; how many connections there are is the
            caller's business.
    """

    def __init__(
        self,
        allow_private: bool,
        timeout: aiohttp.ClientTimeout,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
        traces: list[aiohttp.TraceConfig] | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            allow_private: Whether no address is refused.
            timeout: Of each request.
            headers: Of each request.
            tls: Says whom to trust; by default whom the system trusts.
            traces: aiohttp's hooks.
        """
        self._resolver = _Resolver(allow_private)
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._make = _any_socket if allow_private else _public_socket
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,  # each connection's name is looked up anew
            limit=0,
            keepalive_timeout=_IDLE_S,
            socket_factory=self._made,
            ssl=tls or True,
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # a proxy would connect for us, to anywhere
            headers=headers,
            trace_configs=traces,
        )

    @property
    def parting(self) -> Mapping[str, str]:
        """Headers for the next request: where many connections are open, in use or idle, its own is not kept."""
        is_crowded = sum(each.fileno() >= 0 for each in self._sockets) > _MOST_KEPT
        return {"Connection": "close"} if is_crowded else {}

    def _made(self, info: Any) -> socket.socket:
        new = self._make(info)
        self._sockets.add(new)
        return new

    async def aclose(self) -> None:
        """Close the connections, and wait for no lookup."""
        await self.session.close()
        await self._resolver.close()


async def empty(answer: aiohttp.ClientResponse) -> None:
    """Read away what an answer says, within reason, so that its connection can be used again."""
    left = _BODY_BYTES
    try:
        async with asyncio.timeout(_BODY_S):
            while left > 0 and (data := await answer.content.readany()):
                left -= len(data)
    except (TimeoutError, aiohttp.ClientError):
        # The status has come; a connection that is not empty is closed.
        answer.close()


def word_for(error: Exception) -> str:
    """Return why there was no answer, as one of few words."""
    if isinstance(error, TimeoutError):
        return "timeout"
    cause = getattr(error, "os_error", error)
    if isinstance(cause, PrivateAddress):
        return PRIVATE
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name_not_found"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls_failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "not_connected"
    return "connection_lost" if isinstance(error, aiohttp.ClientConnectionError | OSError) else "no_http_answer"


def _any_socket(info: Any) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family=family, type=kind, proto=protocol)


def _public_socket(info: Any) -> socket.socket:
    """Make the socket of a connection, unless its address is private."""
    if not is_public(info[4][0]):
        raise PrivateAddress("the address is private")
    return _any_socket(info)


class _Resolver(AbstractResolver):
    """Looks names up in threads of its own, so that a dead name server holds up nothing else."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._lookups = Lookups()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return a name's addresses that may be connected to.

        Raises:
            OSError: It has none; a PrivateAddress if it has others.
        """
        found = await self._lookups.find(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
        usable = [info for info in found if self._allow_private or is_public(info[4][0])]
        if found and not usable:
            raise PrivateAddress("the name leads to private addresses")
        return [
            ResolveResult(
                hostname=host,
                host=str(info[4][0]),
                port=port,
                family=info[0],
                proto=info[2],
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for info in usable
        ]

    async def close(self) -> None:
        """Wait for no lookup."""
        self._lookups.close()
