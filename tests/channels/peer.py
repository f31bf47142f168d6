"""A scripted HTTP/2-over-TLS peer for the channel tests: what it answers to each request is the test's decision."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Seen:
    """One whole request as the peer got it."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(frozen=True)
class Reply:
    """Answer with a status, headers and a body."""

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0


@dataclass(frozen=True)
class Reset:
    """Reset the stream instead of answering."""

    code: h2.errors.ErrorCodes = h2.errors.ErrorCodes.INTERNAL_ERROR


@dataclass(frozen=True)
class GoAway:
    """Say goodbye, having processed streams up to this one or (refuse=True) none of the open ones, and close."""

    refuse: bool = False


@dataclass(frozen=True)
class Drop:
    """Close the connection (or abort it with a TCP reset) without a word."""

    abort: bool = False


@dataclass(frozen=True)
class Hang:
    """Never answer."""


Action = Reply | Reset | GoAway | Drop | Hang
Script = Callable[[Seen], Action]


@dataclass
class Peer:
    """The running peer: where it listens, whom to trust, and everything it saw."""

    url: str
    ca: Path
    script: Script
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    max_streams: int = 1000
    server: asyncio.Server | None = None

    def leave(self) -> None:
        """Take no new connections."""
        assert self.server is not None
        self.server.close()


class _Protocol(asyncio.Protocol):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        peer.connections += 1
        self.number = peer.connections
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.streams: dict[int, tuple[dict[str, str], bytearray]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.peer.max_streams},
        )
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.streams[event.stream_id] = (dict(event.headers), bytearray())  # type: ignore[arg-type]
            elif isinstance(event, h2.events.DataReceived):
                self.streams[event.stream_id][1].extend(event.data)
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                headers, body = self.streams.pop(event.stream_id)
                seen = Seen(headers[":path"], headers, bytes(body), self.number)
                self.peer.seen.append(seen)
                self.act(event.stream_id, self.peer.script(seen))
        if not self.transport.is_closing():
            self.flush()

    def act(self, stream: int, action: Action) -> None:
        if isinstance(action, Reply):
            if action.delay_s:
                asyncio.get_running_loop().call_later(action.delay_s, self.reply, stream, action)
            else:
                self.reply(stream, action)
        elif isinstance(action, Reset):
            self.h2.reset_stream(stream, action.code)
        elif isinstance(action, GoAway):
            self.h2.close_connection(last_stream_id=0 if action.refuse else stream)
            self.flush()
            self.transport.close()
        elif isinstance(action, Drop):
            (self.transport.abort if action.abort else self.transport.close)()

    def reply(self, stream: int, action: Reply) -> None:
        with contextlib.suppress(h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            self.h2.send_headers(stream, [(":status", str(action.status)), *action.headers], end_stream=not action.body)
            for start in range(0, len(action.body), 16_384):
                last = start + 16_384 >= len(action.body)
                self.h2.send_data(stream, action.body[start : start + 16_384], end_stream=last)
        if not self.transport.is_closing():
            self.flush()


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """Make a CA, and a leaf for localhost and 127.0.0.1; return (CA bundle, leaf chain with its key)."""
    now = dt.datetime.now(dt.UTC)

    def builder(name: str, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer CA")])
    ca = (
        builder("peer CA", ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    leaf = (
        builder("localhost", ca_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    ca_path, leaf_path = folder / "ca.pem", folder / "leaf.pem"
    ca_path.write_bytes(ca.public_bytes(pem))
    leaf_path.write_bytes(
        leaf.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ca_path, leaf_path


@contextlib.asynccontextmanager
async def running_peer(
    folder: Path, script: Script = lambda _: Reply(), *, max_streams: int = 1000, port: int = 0
) -> AsyncIterator[Peer]:
    """Run a peer in this event loop, on a free port if none is named."""
    ca, leaf = folder / "ca.pem", folder / "leaf.pem"
    if not ca.exists():
        ca, leaf = make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    context.set_alpn_protocols(["h2"])
    peer = Peer("", ca, script, max_streams=max_streams)
    server = await asyncio.get_running_loop().create_server(lambda: _Protocol(peer), "127.0.0.1", port, ssl=context)
    peer.server = server
    peer.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield peer
    finally:
        server.close()
