"""Browsers and a push service of our own for the tests: RFC 8291 read a second time, with nothing of the library's."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from notify_pipeline.core.push_subscriptions import Subscription, token_of

CURVE = ec.SECP256R1()


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@dataclass
class Browser:
    """One browser: its key pair, its secret."""

    key: ec.EllipticCurvePrivateKey
    auth: bytes

    @classmethod
    def numbered(cls, number: int) -> "Browser":
        return cls(ec.derive_private_key(number + 1, CURVE), number.to_bytes(16, "big"))

    def subscription(self, endpoint: str) -> Subscription:
        return Subscription(endpoint, point(self.key), self.auth)

    def opened(self, body: bytes) -> bytes:
        """Decrypt by the steps of RFC 8291 section 3.4 and RFC 8188 section 2."""
        salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
        sender, record = body[21 : 21 + length], body[21 + length :]
        assert length == 65
        assert len(record) <= size, "one record"
        shared = self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVE, sender))
        secret = _derived(shared, self.auth, b"WebPush: info\0" + point(self.key) + sender, 32)
        key = _derived(secret, salt, b"Content-Encoding: aes128gcm\0", 16)
        nonce = _derived(secret, salt, b"Content-Encoding: nonce\0", 12)
        padded = AESGCM(key).decrypt(nonce, record, None).rstrip(b"\0")
        assert padded.endswith(b"\x02"), "the last record's delimiter"
        return padded[:-1]


def _derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(secret)


@dataclass
class Got:
    """One request that the service got whole."""

    number: int  # of the browser
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(Browser.numbered(self.number).opened(self.body))
        return found


# A status and headers; None: the connection ends without an answer.
Answer = tuple[int, dict[str, str]] | None
ACCEPTED: Answer = (201, {"Location": "https://push.example/m/1"})


@dataclass
class Service:
    """A push service that answers as it is told."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    answers: Callable[[Got], Answer] = lambda _: ACCEPTED
    hangs: bool = False
    connections: set[tuple[str, int]] = field(default_factory=set)

    def subscription(self, number: int) -> Subscription:
        return Browser.numbered(number).subscription(f"{self.url}/push/{number}")

    def token(self, number: int) -> str:
        return token_of(self.subscription(number))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        got = Got(int(request.match_info["number"]), dict(request.headers), body)
        self.got.append(got)
        if self.hangs:
            await asyncio.Event().wait()
        if (answer := self.answers(got)) is None:
            request.transport.abort()
            return web.Response()
        return web.Response(status=answer[0], headers=answer[1], text="what a service says is not read")


@asynccontextmanager
async def running_service() -> AsyncIterator[Service]:
    """Run a service in this event loop."""
    service = Service()
    app = web.Application()
    app.router.add_post("/push/{number}", service.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()
