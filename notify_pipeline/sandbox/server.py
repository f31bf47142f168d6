"""The sandbox as one process: it puts the stand-ins, the devices, the CDN and the control API together.

Belongs here: starting, addresses, stopping. Does not belong here: anything that a part does by itself.

Everything it keeps lies below ``$NOTIFY_HOME/sandbox``; only CDN log files go elsewhere, to the log root. It listens
on 127.0.0.1 only: whoever reaches the control API may set faults and read every push.
"""

import asyncio
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import orjson

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.sandbox import credentials
from notify_pipeline.sandbox.apns import Apns
from notify_pipeline.sandbox.beacons import Beacons
from notify_pipeline.sandbox.cdn import Cdn
from notify_pipeline.sandbox.control import Control
from notify_pipeline.sandbox.devices import SimulatedDevices
from notify_pipeline.sandbox.faults import FaultBook, Faults, ProviderFaults
from notify_pipeline.sandbox.fcm import Fcm
from notify_pipeline.sandbox.h2server import H2Protocol
from notify_pipeline.sandbox.http1 import Http1Protocol, HttpRequest, Response
from notify_pipeline.sandbox.oauth import GOOGLE_TOKEN_URI, AccessTokens, TokenEndpoint
from notify_pipeline.sandbox.parts import PARTS, Part, Surroundings
from notify_pipeline.sandbox.standin import Clock, Provider, StandIn
from notify_pipeline.sandbox.truthlog import TruthLog

HOST = "127.0.0.1"
# A broadcast opens few connections, but all of them at once.
_BACKLOG = 512
# On a clean stop devices get this long to call their beacons.
_DRAIN_S = 10.0
_POLL_S = 0.1


def utc_now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


class Sandbox:
    """The running sandbox, as ``async with Sandbox(settings) as sandbox``; ``addresses`` is what ``GET /`` says."""

    def __init__(self, settings: Settings, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._home = settings.home.resolve() / "sandbox"
        self.book = FaultBook(Faults.model_validate_json(settings.sandbox_faults))
        self.addresses: dict[str, str] = {}
        self._servers: list[asyncio.Server] = []
        self._h2: set[H2Protocol] = set()
        self._http: set[Http1Protocol] = set()
        self._parts: list[Part] = []

    @property
    def url(self) -> str:
        """The control API's address."""
        return self.addresses["control_url"]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on all ports. Raises OSError when the control port is taken."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        ports = self._former_ports()
        control_server, control_port = await self._listen_http(self._settings.sandbox_port or ports.get("control", 0))
        base = f"http://{HOST}:{control_port}"
        keys = credentials.prepare(self._home / "keys", f"{base}/token", self._clock())
        tokens = AccessTokens(keys.token_secret)
        self.log = TruthLog(self._home / "requests")
        self._device_log = TruthLog(self._home / "devices")
        self._cdn_log = TruthLog(self._home / "beacons")
        self._beacons = Beacons()
        self.devices = SimulatedDevices(self.book, self._device_log, self._beacons, self._clock)
        store = Lake(self._settings.logs, self._settings.s3_endpoint_url)
        self.cdn = Cdn(self.book, self._cdn_log, store, self._home / "cdn.json", self._clock)
        await self.cdn.recover()
        self._fcm = self._stand_in(Fcm(credentials.PROJECT, tokens), lambda: self.book.current.fcm)
        self._apns = self._stand_in(_apns(keys), lambda: self.book.current.apns)
        fcm_port = await self._listen_h2(self._fcm, keys, ports.get("fcm", 0))
        apns_port = await self._listen_h2(self._apns, keys, ports.get("apns", 0))
        self.addresses.update(self._describe(base, fcm_port, apns_port, keys))
        around = Surroundings(base, self._home, ports, self.book, self.log, self.devices, self._clock)
        for make in PARTS:
            self._parts.append(part := make(around))
            self.addresses.update(await part.start())
        self._control = self._make_control(keys, tokens)
        named = {name: port for part in self._parts for name, port in part.ports.items()}
        self._keep_ports({"control": control_port, "fcm": fcm_port, "apns": apns_port, **named})
        self.flusher = asyncio.create_task(self.cdn.run(self._settings.sandbox_cdn_flush_s))
        # Only now: whoever can ask for the addresses gets all of them.
        await control_server.start_serving()

    async def stop(self) -> None:
        """Let devices finish, write all CDN lines, close everything."""
        for server in self._servers[1:]:
            server.close()
        for part in self._parts:
            await part.stop()
        for h2 in list(self._h2):
            h2.close()
        await self.devices.drain(_DRAIN_S)
        self.devices.close()
        self.flusher.cancel()
        with suppress(asyncio.CancelledError):
            await self.flusher
        for server in self._servers:
            server.close()
        for http in list(self._http):
            http.close()
        try:
            await self.cdn.flush(everything=True)
        finally:
            for http in list(self._http):
                http.abort()
            for log in (self.log, self._device_log, self._cdn_log):
                log.close()

    def stats(self) -> dict[str, Any]:
        """Return counts, for ``GET /stats``."""
        return {
            "requests": self.log.last,
            "connections": len(self._h2),
            "fcm": dict(self._fcm.counts),
            "apns": dict(self._apns.counts),
            "devices": {**self.devices.counts, "pending": self.devices.pending, "beacons": self._beacons.counts},
            "cdn": {**self.cdn.counts, "pending": self.cdn.pending},
            "notifications": {key: dict(counts) for key, counts in self.cdn.by_notification.items()},
            **{part.name: dict(part.stats) for part in self._parts},
        }

    def _make_control(self, keys: credentials.Credentials, tokens: AccessTokens) -> Control:
        audiences = (self.addresses["token_url"], GOOGLE_TOKEN_URI)
        return Control(
            addresses=self.addresses,
            book=self.book,
            logs={"/log": self.log, "/devices/log": self._device_log, "/cdn/log": self._cdn_log},
            cdn=self.cdn,
            token_endpoint=TokenEndpoint(credentials.CLIENT_EMAIL, keys.account_public_key, audiences, tokens),
            stats=self.stats,
            clock=self._clock,
            parts=self._parts,
        )

    def _stand_in(self, provider: Provider, rates: Callable[[], ProviderFaults]) -> StandIn:
        return StandIn(provider, rates, self.book, self.log, self.devices, self._clock)

    async def _listen_http(self, port: int) -> tuple[asyncio.Server, int]:
        def respond(request: HttpRequest) -> Response | Awaitable[Response]:
            return self._control.handle(request)

        loop = asyncio.get_running_loop()

        async def listen(on: int) -> asyncio.Server:
            return await loop.create_server(
                lambda: Http1Protocol(respond, self._http), HOST, on, backlog=_BACKLOG, start_serving=False
            )

        server = await (listen(port) if self._settings.sandbox_port else _preferring(listen, port))
        self._servers.append(server)
        return server, _port(server)

    async def _listen_h2(self, service: StandIn, keys: credentials.Credentials, port: int) -> int:
        loop = asyncio.get_running_loop()

        async def listen(on: int) -> asyncio.Server:
            return await loop.create_server(
                lambda: H2Protocol(service, self._h2), HOST, on, ssl=keys.tls, backlog=_BACKLOG
            )

        server = await _preferring(listen, port)
        self._servers.append(server)
        return _port(server)

    def _describe(self, base: str, fcm: int, apns: int, keys: credentials.Credentials) -> dict[str, str]:
        return {
            "control_url": base,
            "fcm_url": f"https://{HOST}:{fcm}",
            "fcm_project": credentials.PROJECT,
            "apns_url": f"https://{HOST}:{apns}",
            "ca": str(keys.ca),
            "token_url": f"{base}/token",
            "service_account": str(keys.service_account),
            "apns_key": str(keys.apns_key),
            "apns_key_id": credentials.APNS_KEY_ID,
            "apns_team_id": credentials.APNS_TEAM_ID,
            "apns_topic": credentials.APNS_TOPIC,
            "receipt_url": base,
            "logs_root": self._settings.logs,
        }

    def _former_ports(self) -> dict[str, int]:
        # Clients that outlive the sandbox find it again where it was.
        path = self._home / "ports.json"
        if not path.exists():
            return {}
        return {str(name): int(port) for name, port in orjson.loads(path.read_bytes()).items()}

    def _keep_ports(self, ports: dict[str, int]) -> None:
        path = self._home / "ports.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(orjson.dumps(ports))
        temporary.replace(path)


def _apns(keys: credentials.Credentials) -> Apns:
    return Apns(keys.apns_public_key, credentials.APNS_KEY_ID, credentials.APNS_TEAM_ID, credentials.APNS_TOPIC)


async def _preferring(listen: Callable[[int], Awaitable[asyncio.Server]], port: int) -> asyncio.Server:
    """Listen on a port, or on any free one when it is taken."""
    try:
        return await listen(port)
    except OSError:
        if port == 0:
            raise
        return await listen(0)


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def _announce(addresses: dict[str, str]) -> None:
    sys.stdout.buffer.write(orjson.dumps(addresses) + b"\n")
    sys.stdout.flush()


def run(
    settings: Settings,
    stop: threading.Event | None = None,
    ready: Callable[[dict[str, str]], None] = _announce,
) -> None:
    """Run the sandbox until told to stop.

    Args:
        settings: ``home``, ``sandbox_port``, ``logs``.
        stop: Ends the run when set. Without one, SIGINT and SIGTERM do.
        ready: Called with the addresses once everything answers. The default prints them as one line of JSON.

    Raises:
        OSError: The control port is taken, or the log root cannot be written at the end.
    """
    asyncio.run(_serve(settings, stop, ready))


async def _serve(settings: Settings, stop: threading.Event | None, ready: Callable[[dict[str, str]], None]) -> None:
    async with Sandbox(settings) as sandbox:
        told = asyncio.create_task(_told_to_stop(stop))
        ready(sandbox.addresses)
        done, _ = await asyncio.wait([told, sandbox.flusher], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if sandbox.flusher in done:
            sandbox.flusher.result()  # it never returns: this raises what ended it


async def _told_to_stop(stop: threading.Event | None) -> None:
    if stop is None:
        asked = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
        await asked.wait()
        return
    while not stop.is_set():
        await asyncio.sleep(_POLL_S)
