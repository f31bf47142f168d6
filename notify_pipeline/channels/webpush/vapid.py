"""VAPID: the header by which a push service knows who sends (RFC 8292).

Belongs here: when a token is signed. Does not belong here: the key (``core.vapid``), what a refused one means.
"""

from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from notify_pipeline.channels.base import Clock
from notify_pipeline.core.vapid import public_text

# "an expiry time ... MUST NOT be more than 24 hours from the time of the request" (RFC 8292 section 2). A token is
# signed for the quarter of a day that it is used in, and is good for half a day after that: clocks may differ by hours.
_PERIOD_S = 21_600
_GRACE_S = 43_200
# Tokens kept. There are some five push services, but whoever registers a browser names one.
_KEPT = 1_000
_DEFAULT_PORTS = {"https": 443, "http": 80}


def origin_of(endpoint: str) -> str:
    """Return the origin of a URL as RFC 6454 section 6.2 writes it: what a token's ``aud`` is."""
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "", parts.port
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{port}")


class VapidTokens:
    """Makes the Authorization header for each push service."""

    def __init__(self, key: EllipticCurvePrivateKey, subject: str, clock: Clock) -> None:
        """Args: key: ours. subject: ``mailto:`` or ``https:`` URL of who answers for us. clock: tells the time."""
        self._key = key
        self._public = public_text(key)
        self._subject = subject
        self._clock = clock
        self._period = 0
        self._headers: dict[str, str] = {}

    def header(self, origin: str) -> str:
        """Return the header for a push service, signed in this quarter of a day by our clock."""
        period = int(self._clock().timestamp()) // _PERIOD_S
        if period != self._period or len(self._headers) >= _KEPT:
            self._period = period
            self._headers.clear()
        if (header := self._headers.get(origin)) is None:
            claims = {"aud": origin, "exp": (period + 1) * _PERIOD_S + _GRACE_S, "sub": self._subject}
            token = jwt.encode(claims, self._key, "ES256")
            header = self._headers[origin] = f"vapid t={token},k={self._public}"
        return header
