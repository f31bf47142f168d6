"""Who is signed in to the dashboard.

Belongs here: the session's cookie, and whether its key still counts. Does not belong here: the page that asks for a
key (``sign_in``), what a session may see (``page``).

A session is a signed statement that its browser has shown a certain key until a certain time. It holds the key's id and
never the key. Whether that key still counts, and whether nobody has signed out of the session, is asked of the ledger
for every request, as it is for requests with keys: a copy of the cookie ends with it.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
from flask import Request, Response

from ingest_api.memory import forget_everywhere
from ingest_api.services import Services
from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import ended_sessions
from notify_pipeline.core.ledger.keys import KeyInfo
from notify_pipeline.core.vocabulary import KeyScope

COOKIE = "notify-dashboard"
PATH = "/dashboard"
# The name of the installation's secret that signs sessions.
SECRET = "dashboard-sessions"  # noqa: S105 - its name
# Publishable keys are in apps and pages, for anybody to read.
SCOPES = frozenset({KeyScope.SECRET, KeyScope.ADMIN})
# Bytes by which sessions of one key that begin at the same moment differ.
_TELL_APART = 8
# Longer than any that is made: an id of 32 letters, a time and these bytes.
_MAX_LENGTH = 256
_ENVIRON = "notify.dashboard.session"


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that has shown a good key.

    Attributes:
        key: The key, as the ledger knows it now.
        ends_at: When the browser has to show a key again.
        digest: What the ledger knows it by once it was signed out of.
    """

    key: KeyInfo
    ends_at: datetime
    digest: str = ""

    @property
    def is_admin(self) -> bool:
        """True when it may look at the installation, and at no tenant's notifications."""
        return self.key.tenant is None

    @property
    def tenant(self) -> str:
        """Whose notifications it may see. Not of an admin, who is nobody's."""
        if self.key.tenant is None:
            raise RuntimeError("an admin is no tenant")
        return self.key.tenant


def begin(response: Response, key: KeyInfo, services: Services) -> None:
    """Let an answer give its browser a session."""
    lasts = timedelta(hours=services.settings.dashboard_session_hours)
    said = orjson.dumps([key.key_id, to_micros(services.clock() + lasts), secrets.token_hex(_TELL_APART)])
    signed = base64.urlsafe_b64encode(said + _signature(services, said)).decode()
    response.set_cookie(COOKIE, signed, max_age=int(lasts.total_seconds()), **_attributes(services))


def end(request: Request, response: Response, services: Services) -> None:
    """End the session that a request belongs to, in every process, and let the answer take the cookie away."""
    session = find(request, services)
    if session is not None:
        ended_sessions.end(services.ledger, session.digest, session.ends_at, services.clock())
        forget_everywhere(services.open_sessions)
    response.set_cookie(COOKIE, "", max_age=0, **_attributes(services))


def find(request: Request, services: Services) -> Session | None:
    """Return the session that a request belongs to; None without one, or when it or its key is over."""
    cookie = request.cookies.get(COOKIE, "")
    said = _read(services, cookie) if 0 < len(cookie) <= _MAX_LENGTH and cookie.isascii() else None
    if said is None:
        return None
    key_id, micros, *_ = orjson.loads(said)
    ends_at = from_micros(micros)
    if services.clock() >= ends_at:
        return None
    key = services.keys.still_good(key_id)
    if key is None or key.scope not in SCOPES:
        return None
    session = Session(key, ends_at, hashlib.sha256(said).hexdigest())
    return session if _is_open(services, session.digest) else None


def remember(request: Request, session: Session) -> None:
    """Let what answers this request know the session."""
    request.environ[_ENVIRON] = session


def of(request: Request) -> Session:
    """Return the session of a request that has one: no other reaches the pages."""
    return cast(Session, request.environ[_ENVIRON])


def is_ours(request: Request, services: Services) -> bool:
    """Tell whether a page of ours has sent a request that changes something.

    Browsers say so themselves (https://www.w3.org/TR/fetch-metadata/), or, on http, name the page's origin. The cookie
    is not sent from other sites either; this is for those of the same site, and for the sign-in, which has no cookie.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin", "")
    return bool(origin) and (origin == _origin(services) or origin.partition("://")[2] == request.host)


def _is_open(services: Services, digest: str) -> bool:
    now = services.open_sessions.now()
    if services.open_sessions.recall(digest):
        return True
    if ended_sessions.is_ended(services.ledger, digest):
        return False
    services.open_sessions.keep(digest, True, now)
    return True


def _origin(services: Services) -> str:
    public = urlsplit(services.settings.public)
    return f"{public.scheme}://{public.netloc}"


def _attributes(services: Services) -> dict[str, Any]:
    secure = services.settings.public.startswith("https:")
    return {"path": PATH, "httponly": True, "samesite": "Strict", "secure": secure}


def _read(services: Services, cookie: str) -> bytes | None:
    try:
        signed = base64.b64decode(cookie.encode(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    said, signature = signed[: -hashlib.sha256().digest_size], signed[-hashlib.sha256().digest_size :]
    return said if hmac.compare_digest(signature, _signature(services, said)) else None


def _signature(services: Services, said: bytes) -> bytes:
    return hmac.digest(services.ledger.secret(SECRET), said, "sha256")
