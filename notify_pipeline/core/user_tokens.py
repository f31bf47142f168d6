"""User tokens: what lets one user's app connect and read the inbox, without a tenant's key.

Belongs here: making and checking them. Does not belong here: who may have one made (``ingest_api``), what it opens.

A token is a JWT signed with a secret of the installation (RFC 7519, HS256). It is short-lived, so none is stored and
none is revoked.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt
from jwt.types import Options

# The name of the installation's secret that signs them.
SECRET = "user-tokens"  # noqa: S105 - its name
# Long enough to open an app and look around; whoever stays longer asks for another.
DEFAULT_TTL_S = 3_600
MAX_TTL_S = 86_400
_ALGORITHM = "HS256"
_CHECKED: Options = {"require": ["exp", "sub", "aud"], "verify_exp": False, "verify_iat": False, "verify_nbf": False}
# Keeps these apart from anything else that might ever be signed with the same secret.
_AUDIENCE = "notify:user"


class InvalidUserToken(Exception):
    """The token was not made by this installation, or its time is over."""


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """Who a token speaks for, and until when."""

    tenant: str
    user_id: str
    expires_at: datetime


def mint(secret: bytes, tenant: str, user_id: str, now: datetime, ttl_s: int = DEFAULT_TTL_S) -> str:
    """Return a token for one user."""
    claims = {"aud": _AUDIENCE, "tenant": tenant, "sub": user_id, "exp": now + timedelta(seconds=ttl_s)}
    return jwt.encode(claims, secret, _ALGORITHM)


def check(secret: bytes, token: str, now: datetime) -> UserIdentity:
    """Return who a token speaks for.

    Raises:
        InvalidUserToken: It is none, or it has expired.
    """
    try:
        # The clock is the caller's, so the library must not look at its own.
        claims = jwt.decode(token, secret, [_ALGORITHM], audience=_AUDIENCE, options=_CHECKED)
        expires_at = datetime.fromtimestamp(claims["exp"], now.tzinfo)
        tenant, user_id = claims["tenant"], claims["sub"]
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidUserToken("not a user token of this installation") from error
    if expires_at <= now:
        raise InvalidUserToken("the user token has expired")
    if not isinstance(tenant, str) or not isinstance(user_id, str):
        raise InvalidUserToken("not a user token of this installation")
    return UserIdentity(tenant, user_id, expires_at)
