"""The OAuth token endpoint of the service account, and the access tokens it issues.

Belongs here: RFC 7523 assertions, and access tokens that prove themselves. Does not belong here: HTTP (``control``).

An access token carries its expiry under a keyed digest, so it stays good when the sandbox restarts, as it would at
Google. https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import parse_qs

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# What Google's own libraries put in as the audience, whatever the account's token_uri says.
GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
SCOPES = frozenset(
    {
        "https://www.googleapis.com/auth/firebase.messaging",
        "https://www.googleapis.com/auth/cloud-platform",
    }
)
LIFETIME_S = 3600
# An assertion may live an hour at most; clocks may differ by five minutes.
_SKEW_S = 300


@dataclass(frozen=True, slots=True)
class AccessTokens:
    """Issues access tokens and knows its own."""

    secret: bytes

    def issue(self, now: datetime) -> str:
        """Return a token that is good for an hour."""
        expires = f"{int(now.timestamp()) + LIFETIME_S:x}"
        return f"ya29.{expires}.{self._proof(expires)}"

    def is_good(self, token: str, now: datetime) -> bool:
        """Tell whether this endpoint issued the token and it has not expired."""
        head, _, proof = token.rpartition(".")
        prefix, _, expires = head.partition(".")
        if prefix != "ya29" or not proof.isascii() or not hmac.compare_digest(proof, self._proof(expires)):
            return False
        return int(expires, 16) > now.timestamp()

    def _proof(self, expires: str) -> str:
        return hashlib.blake2b(expires.encode(), key=self.secret, digest_size=32).hexdigest()


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Answers token requests of one service account."""

    email: str
    public_key: RSAPublicKey
    audiences: tuple[str, ...]
    tokens: AccessTokens

    def answer(self, form: bytes, now: datetime) -> tuple[int, bytes]:
        """Return status and JSON body for one form-encoded request."""
        try:
            fields = parse_qs(form.decode("ascii"), max_num_fields=20)
        except ValueError:
            return _error("invalid_request", "The request body is not a form.")
        if fields.get("grant_type") != [GRANT_TYPE]:
            return _error("unsupported_grant_type", f"Invalid grant_type: {fields.get('grant_type', [''])[0]}")
        assertion = fields.get("assertion", [""])[0]
        try:
            problem = self._problem(assertion, now)
        except jwt.InvalidTokenError:
            return _error("invalid_grant", "Invalid JWT Signature.")
        if problem:
            return _error(*problem)
        token = self.tokens.issue(now)
        return 200, orjson.dumps({"access_token": token, "expires_in": LIFETIME_S, "token_type": "Bearer"})

    def _problem(self, assertion: str, now: datetime) -> tuple[str, str] | None:
        # Times are checked against our clock below, not against PyJWT's.
        claims = jwt.decode(
            assertion,
            self.public_key,
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
        )
        if claims.get("iss") != self.email:
            return "invalid_grant", "Invalid grant: account not found"
        if claims.get("aud") not in self.audiences:
            return "invalid_grant", "Invalid JWT: Failed audience check."
        issued, expires = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, (int, float)) or not isinstance(expires, (int, float)):
            return "invalid_grant", "Invalid JWT: iat and exp are required."
        seconds = now.timestamp()
        if not seconds - _SKEW_S - LIFETIME_S < issued <= seconds + _SKEW_S or not (
            seconds - _SKEW_S < expires <= issued + timedelta(hours=1).total_seconds()
        ):
            return (
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim.",
            )
        if not SCOPES.intersection(str(claims.get("scope", "")).split()):
            return "invalid_scope", "Invalid OAuth scope or ID token audience provided."
        return None


def _error(code: str, description: str) -> tuple[int, bytes]:
    return 400, orjson.dumps({"error": code, "error_description": description})
