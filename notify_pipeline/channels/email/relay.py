"""A mail relay as it is configured: where it is, whether the way there is encrypted, who we are to it.

Belongs here: reading the setting. Does not belong here: connections (``pool``).
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_SUBMISSION = 587  # RFC 6409
_SUBMISSIONS = 465  # RFC 8314 section 3.3


class Tls(StrEnum):
    """When a connection is encrypted."""

    IMPLICIT = "implicit"  # from its first byte: smtps://
    REQUIRED = "required"  # by STARTTLS, or nothing is sent
    OFFERED = "if_offered"  # by STARTTLS where the relay has it
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Relay:
    """Where mail goes, and how.

    Attributes:
        host: A name or an address.
        port: TCP port.
        tls: When the way is encrypted; certificates are checked whenever it is.
        username: None: without authentication.
        password: Goes over an encrypted connection only.
        ca: CA bundle; None: the system's.
        timeout_s: For connecting, and for each answer but the last.
        answer_timeout_s: For the answer that says that the relay has taken the message over.
    """

    host: str
    port: int
    tls: Tls
    username: str | None = None
    password: str | None = None
    ca: Path | None = None
    timeout_s: float = 10.0
    answer_timeout_s: float = 60.0

    @property
    def name(self) -> str:
        """What tells it from others; no secret."""
        return f"{self.username or ''}@{self.host}:{self.port}"

    @classmethod
    def of_url(cls, url: str, ca: Path | None, timeout_s: float, answer_timeout_s: float) -> "Relay":
        """Read ``smtp://user:password@host:587`` or ``smtps://…``.

        With a password STARTTLS is required, without one it is used where the relay offers it; ``?starttls=required``,
        ``if_offered`` or ``never`` says otherwise.

        Raises:
            ValueError: It is no such URL; says why, without repeating it.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("must be smtp://host or smtps://host")
        if parts.path.strip("/"):
            raise ValueError("must have no path")
        username = None if parts.username is None else unquote(parts.username)
        implicit = parts.scheme == "smtps"
        tls = Tls.IMPLICIT if implicit else Tls.OFFERED if username is None else Tls.REQUIRED
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
        if wanted := options.pop("starttls", None):
            if implicit or wanted[-1] not in (Tls.REQUIRED, Tls.OFFERED, Tls.NEVER):
                raise ValueError("starttls must be required, if_offered or never, with smtp://")
            tls = Tls(wanted[-1])
        if options:
            raise ValueError(f"has unknown options: {', '.join(sorted(options))}")
        if username is not None and tls in (Tls.OFFERED, Tls.NEVER):
            raise ValueError("must not send a password over a connection that may not be encrypted")
        port = parts.port or (_SUBMISSIONS if implicit else _SUBMISSION)
        password = None if parts.password is None else unquote(parts.password)
        return cls(parts.hostname, port, tls, username, password, ca, timeout_s, answer_timeout_s)
