"""A stand-in for browsers and their push service.

Belongs here: making subscriptions, the rules of RFC 8030 and RFC 8292 for what is posted to them, opening it as the
browser would (RFC 8291). Does not belong here: faults and the truth's line (``standin``), what devices do
(``devices``).

``POST /webpush/subscriptions`` {"applicationServerKey"?} makes a subscription: 201 and what a page gets of
``PushSubscription.toJSON()``. Its keys are made of its name and a secret of the sandbox, so that it outlives a restart.
``DELETE /webpush/subscriptions/{name}``: the user takes the permission back, and what is posted is answered 410.

Other than a real push service, which cannot read what it is handed, this one refuses what its browser could not open.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from notify_pipeline.core import vapid
from notify_pipeline.core.push_subscriptions import AUTH_BYTES, Subscription, from_base64url, to_base64url, token_of
from notify_pipeline.sandbox.faults import Fault
from notify_pipeline.sandbox.http1 import HttpRequest, NoAnswer, Response
from notify_pipeline.sandbox.standin import Push, Reply, StandIn
from notify_pipeline.sandbox.wire import Ending, Header, Request, Session

if TYPE_CHECKING:
    from notify_pipeline.sandbox.parts import Surroundings

_SUBSCRIPTIONS = "/webpush/subscriptions"
_PUSHES = "/webpush/push/"
# Twelve random bytes, and where a key was given, the beginning of its digest: others' are refused (RFC 8292 section 4).
_NAME = re.compile(r"[A-Za-z0-9_-]{16}(?:\.[A-Za-z0-9_-]{16})?")
_SECRET_FILE = "webpush-secret"  # noqa: S105 - a file's name
# RFC 8030 section 7.2: what a push service must take at least is what this one takes at most.
_MAX_BODY = 4_096
_MAX_TTL_S = 2_419_200
_LIFE_S = 86_400  # of a VAPID token: RFC 8292 section 2
_SKEW_S = 300
_TOPIC = re.compile(rb"[A-Za-z0-9_-]{1,32}")
_URGENCIES = (b"very-low", b"low", b"normal", b"high")
_FAILURES = {Fault.THROTTLED: 429, Fault.UNAVAILABLE: 503, Fault.INTERNAL: 500}


class _Refused(Exception):
    """Carries the answer to a request that is not taken."""

    def __init__(self, status: int, why: str, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(why)
        self.reply = _reply(status, why, headers)


class Browsers:
    """The browsers' side of subscriptions: their keys, and what they can open."""

    def __init__(self, url: str, secret: bytes) -> None:
        """Args: url: of the push service, without a trailing slash. secret: what all keys are made of."""
        self._url = url
        self._secret = secret

    def subscribe(self, server_key: str | None) -> tuple[str, Subscription]:
        """Make a subscription; return its name and itself."""
        name = to_base64url(secrets.token_bytes(12))
        if server_key is not None:
            name += f".{_digest(server_key)}"
        return name, self.subscription(name)

    def subscription(self, name: str) -> Subscription:
        """Return the subscription of this name."""
        point = self._key(name).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return Subscription(f"{self._url}{_PUSHES}{name}", point, self._auth(name))

    def opened(self, name: str, body: bytes) -> bytes:
        """Return the plaintext. Raises ValueError: this browser cannot open it."""
        import http_ece

        try:
            plaintext: bytes = http_ece.decrypt(
                body, private_key=self._key(name), auth_secret=self._auth(name), version="aes128gcm"
            )
        except (http_ece.ECEException, IndexError) as error:
            raise ValueError("cannot be opened") from error
        return plaintext

    def _key(self, name: str) -> Any:
        return vapid.key_of(self._derived("key", name))

    def _auth(self, name: str) -> bytes:
        return self._derived("auth", name)[:AUTH_BYTES]

    def _derived(self, what: str, name: str) -> bytes:
        return hmac.digest(self._secret, f"{what} {name}".encode(), "sha256")


class PushService:
    """The rules of the push service (``Provider``)."""

    channel = "webpush"
    first_streams = 1
    full_streams = 1
    logged_headers: tuple[bytes, ...] = (b"ttl", b"urgency", b"topic", b"content-encoding")

    def __init__(self, url: str, browsers: Browsers) -> None:
        self._url = url
        self._browsers = browsers
        self.gone: set[str] = set()

    def check(self, request: Request, push: Push, now: datetime) -> Reply | None:
        """Check a request, in the order of what a push service looks at; the browser comes last."""
        try:
            self._check(request, push, now)
        except _Refused as refused:
            return refused.reply
        return None

    def accepted(self, request: Request, push: Push) -> Reply:
        """Return the 201; the message's id is its address (RFC 8030 section 5)."""
        location = f"{self._url}/webpush/messages/{to_base64url(secrets.token_bytes(12))}"
        return Reply(201, ((b"location", location.encode()),), message_id=location)

    def unregistered(self, request: Request, since: datetime) -> Reply:
        """Return the 410."""
        return _reply(410, "the subscription has expired")

    def failed(self, request: Request, fault: Fault, retry_after_s: int | None) -> Reply:
        """Return the 429, 500 or 503."""
        extra = () if retry_after_s is None else ((b"retry-after", b"%d" % retry_after_s),)
        return _reply(_FAILURES[fault], fault.value, extra)

    def _check(self, request: Request, push: Push, now: datetime) -> None:
        name = request.headers[b":path"].decode("latin-1").removeprefix(_PUSHES)
        if not _NAME.fullmatch(name):
            raise _Refused(404, "there is no such subscription")
        push.recipient = token_of(self._browsers.subscription(name))
        self._check_key(request.headers.get(b"authorization"), name, now)
        push.trusted = True
        if name in self.gone:
            raise _Refused(410, "the subscription was cancelled")
        if request.too_large:
            raise _Refused(413, f"at most {_MAX_BODY} bytes are taken")
        _check_headers(request.headers)
        push.collapse_id = request.headers.get(b"topic", b"").decode() or None
        try:
            plaintext = self._browsers.opened(name, request.body)
        except ValueError:
            raise _Refused(400, "the browser cannot open this") from None
        request.body = plaintext  # what is logged
        push.body = orjson.loads(plaintext)
        push.data = push.body

    def _check_key(self, header: bytes | None, name: str, now: datetime) -> None:
        """Check the VAPID header (RFC 8292 section 3). Raises ``_Refused``."""
        scheme, _, rest = (header or b"").decode("latin-1").partition(" ")
        parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        if scheme.lower() != "vapid" or not parts.get("t") or not parts.get("k"):
            raise _Refused(401, "vapid t=…, k=… is wanted", ((b"www-authenticate", b"vapid"),))
        try:
            key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), from_base64url(parts["k"]))
            options: Any = {"require": ["aud", "exp"], "verify_exp": False}
            claims = jwt.decode(parts["t"], key, ["ES256"], audience=self._url, options=options)
            left_s = int(claims["exp"]) - now.timestamp()
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise _Refused(403, f"the token is not good: {type(error).__name__}") from None
        if not -_SKEW_S < left_s <= _LIFE_S + _SKEW_S:
            raise _Refused(403, "the token has expired, or is good for more than a day")
        if not str(claims.get("sub", "")).startswith(("mailto:", "https://")):
            raise _Refused(403, "the token names nobody who can be asked")
        wanted = name.partition(".")[2]
        if wanted and not hmac.compare_digest(wanted, _digest(parts["k"])):
            raise _Refused(403, "the subscription was made with another applicationServerKey")


class WebPush:
    """A ``Part``."""

    name = "webpush"
    prefix = "/webpush/"

    def __init__(self, around: "Surroundings") -> None:
        self._around = around
        self._browsers = Browsers(around.url, self._kept_secret())
        self._service = PushService(around.url, self._browsers)
        book = around.book
        self._stand_in = StandIn(
            self._service, lambda: book.current.webpush, book, around.log, around.devices, around.clock
        )

    async def start(self) -> dict[str, str]:
        """See ``Part``."""
        return {"webpush_url": f"{self._around.url}/webpush"}

    async def stop(self) -> None:
        """See ``Part``."""

    @property
    def ports(self) -> Mapping[str, int]:
        """See ``Part``: it listens where the control API does."""
        return {}

    @property
    def stats(self) -> Mapping[str, Any]:
        """See ``Part``."""
        return dict(self._stand_in.counts)

    def handle(self, request: HttpRequest) -> Response | Awaitable[Response]:
        """See ``Part``."""
        if request.path.startswith(_PUSHES) and request.method == "POST":
            return self._push(request)
        if request.path == _SUBSCRIPTIONS and request.method == "POST":
            return self._subscribe(request)
        name = request.path.removeprefix(f"{_SUBSCRIPTIONS}/")
        if request.method == "DELETE" and _NAME.fullmatch(name):
            self._service.gone.add(name)
            return Response(204)
        return Response(404, _error("there is no such thing here"))

    def _push(self, request: HttpRequest) -> Response | Awaitable[Response]:
        headers = {**request.headers, b":path": request.path.encode("latin-1")}
        too_large = len(request.body) > _MAX_BODY
        verdict = self._stand_in.handle(Request(headers, False, request.body, too_large, Session(), False))
        self._stand_in.commit()
        answer = None
        if verdict.ending is Ending.ANSWER:
            shown = {name.decode(): value.decode() for name, value in verdict.headers}
            answer = Response(verdict.status, verdict.body, headers=shown)
            if not verdict.delay_s:
                return answer
        return _later(answer, verdict.delay_s, hangs=verdict.ending is Ending.HANG)

    def _subscribe(self, request: HttpRequest) -> Response:
        server_key = None
        if request.body:
            try:
                server_key = orjson.loads(request.body).get("applicationServerKey")
                if server_key is not None:
                    EllipticCurvePublicKey.from_encoded_point(SECP256R1(), from_base64url(server_key))
            except (ValueError, AttributeError):
                return Response(422, _error("applicationServerKey is not a P-256 point in base64url"))
        _, made = self._browsers.subscribe(server_key)
        keys = {"p256dh": to_base64url(made.p256dh), "auth": to_base64url(made.auth)}
        return Response(201, orjson.dumps({"endpoint": made.endpoint, "expirationTime": None, "keys": keys}))

    def _kept_secret(self) -> bytes:
        path = self._around.home / "keys" / _SECRET_FILE
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(32))
        return path.read_bytes()


def _check_headers(headers: Mapping[bytes, bytes]) -> None:
    """Check the headers of RFC 8030 section 5 and RFC 8291 section 4. Raises ``_Refused``."""
    ttl = headers.get(b"ttl", b"")
    if not ttl.isdigit() or int(ttl) > _MAX_TTL_S:
        raise _Refused(400, "TTL is wanted, in seconds")
    if headers.get(b"content-encoding") != b"aes128gcm":
        raise _Refused(415, "Content-Encoding must be aes128gcm")
    if headers.get(b"urgency", b"normal") not in _URGENCIES:
        raise _Refused(400, "there is no such Urgency")
    if b"topic" in headers and not _TOPIC.fullmatch(headers[b"topic"]):
        raise _Refused(400, "a Topic has at most 32 characters of base64url")


def _digest(server_key: str) -> str:
    raw = server_key.rstrip("=").encode("ascii", "replace")
    return base64.urlsafe_b64encode(hashlib.sha256(raw).digest()[:12]).decode()


def _error(why: str) -> bytes:
    return orjson.dumps({"error": why})


def _reply(status: int, why: str, headers: tuple[Header, ...] = ()) -> Reply:
    return Reply(status, headers, _error(why))


async def _later(answer: Response | None, latency_s: float, *, hangs: bool) -> Response:
    """Answer after a while, or never."""
    if hangs:
        await asyncio.Event().wait()  # until the client goes
    await asyncio.sleep(latency_s)
    if answer is None:
        raise NoAnswer
    return answer
