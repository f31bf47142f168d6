"""One attempt to post a message to a callback.

Belongs here: the HTTP client, and what it refuses to connect to. Does not belong here: which messages are sent when
(``callbacks``), what an answer means for the message (``callback_schedule``).

Whoever registers a callback chooses where we connect to. So every socket that this client opens is checked for the
number that it is about to connect to: whatever a name resolved to a moment ago, and however the number was written.
"""

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from notify_pipeline.channels.retry_after import parse_retry_after
from notify_pipeline.core.addresses import is_public, url_fault
from notify_pipeline.core.ledger.callback_claims import Claimed
from notify_pipeline.core.settings import Settings
from notify_pipeline.delivery.callback_schedule import Answer
from notify_pipeline.delivery.callback_signing import signed_headers

# Lookups block a thread each, for half a minute where a name server is dead. No two are of one name.
_LOOKUP_THREADS = 64
# What an answer says is not read, only emptied from the connection, so that the next message can use it.
_BODY_BYTES = 65_536
_BODY_S = 1.0
_IDLE_S = 15.0
PRIVATE = "private_address"


class PrivateAddress(OSError):
    """A name leads to addresses that callbacks may not have."""


class CallbackClient:
    """Posts messages. Use it in an ``async with`` block, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._allow_private = settings.callback_allow_private
        self._timeout_s = settings.callback_timeout_s

    async def __aenter__(self) -> Self:
        resolver = _Resolver(self._allow_private)
        connector = aiohttp.TCPConnector(
            resolver=resolver,
            use_dns_cache=False,  # each connection's name is looked up anew
            limit=0,  # how many there are is the caller's business
            keepalive_timeout=_IDLE_S,
            socket_factory=_any_socket if self._allow_private else _public_socket,
        )
        self._resolver = resolver
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # a proxy would connect for us, to anywhere
            headers={"Content-Type": "application/json", "User-Agent": "notify-pipeline-callbacks/1"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._resolver.close()

    async def send(self, message: Claimed, now: datetime) -> Answer:
        """Post a message once and return what came of it."""
        # The setting may have changed since it was registered.
        if url_fault(message.url, self._allow_private) is not None:
            return Answer(error=PRIVATE)
        payload = message.payload.encode()
        headers = signed_headers(message.message_id, payload, message.secrets, now)
        url = URL(message.url, encoded=True)
        try:
            async with self._session.post(url, data=payload, headers=headers, allow_redirects=False) as answer:
                await _empty(answer)
                wait_s = parse_retry_after(answer.headers.get("Retry-After"), now)
                return Answer(answer.status, None if answer.status < 300 else _refusal(answer.status), wait_s)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(error=_word_for(error))


def _refusal(status: int) -> str:
    return "redirect_not_followed" if status < 400 else "refused"


async def _empty(answer: aiohttp.ClientResponse) -> None:
    left = _BODY_BYTES
    try:
        async with asyncio.timeout(_BODY_S):
            while left > 0 and (data := await answer.content.readany()):
                left -= len(data)
    except (TimeoutError, aiohttp.ClientError):
        # The status has come; a connection that is not empty is closed.
        answer.close()


def _word_for(error: Exception) -> str:
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
        self._threads = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="callback-names")
        self._lookups: dict[tuple[str, int], asyncio.Future[list[Any]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return a name's addresses that may be connected to.

        Raises:
            OSError: It has none; a PrivateAddress if it has others.
        """
        found = await asyncio.shield(self._lookup((host, port)))
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
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _lookup(self, key: tuple[str, int]) -> asyncio.Future[list[Any]]:
        """Begin a lookup, or join the one of the same name that is under way."""
        under_way = self._lookups.get(key)
        if under_way is None:
            loop = asyncio.get_running_loop()
            under_way = loop.run_in_executor(self._threads, _addresses, *key)
            self._lookups[key] = under_way
            under_way.add_done_callback(lambda done: self._forget(key, done))
        return under_way

    def _forget(self, key: tuple[str, int], done: asyncio.Future[list[Any]]) -> None:
        self._lookups.pop(key, None)
        if not done.cancelled():
            done.exception()  # asked for, so that one that nobody waits for any more is not reported


def _addresses(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
