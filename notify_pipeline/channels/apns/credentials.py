"""Provider tokens for APNs: ES256 JWTs signed with the team's key.

Belongs here: when one is signed. Does not belong here: what a refused one means for a delivery (``push``).

Source: https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns
"""

from datetime import datetime, timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from notify_pipeline.channels.base import Clock, CredentialsRejected

# "Refresh your token no more than once every 20 minutes and no less than once every 60 minutes": the middle.
_LIFE = timedelta(minutes=40)
_SHORTEST_LIFE = timedelta(minutes=20)


class ProviderTokens:
    """Keeps one provider token (a ``push.Credentials``)."""

    def __init__(self, key: Path, *, key_id: str, team_id: str, clock: Clock) -> None:
        """Read the signing key.

        Args:
            key: The .p8 file.
            key_id: The key's ten characters.
            team_id: The team's ten characters.
            clock: Tells the time.

        Raises:
            CredentialsRejected: The file cannot be read or is no P-256 key.
        """
        try:
            loaded = load_pem_private_key(key.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise CredentialsRejected("apns_key", f"{key.name}: {type(error).__name__}") from None
        if not isinstance(loaded, EllipticCurvePrivateKey) or not isinstance(loaded.curve, SECP256R1):
            raise CredentialsRejected("apns_key", f"{key.name}: not a P-256 key")
        self._key = loaded
        self._key_id = key_id
        self._team_id = team_id
        self._clock = clock
        self._token: str | None = None
        self._signed_at: datetime | None = None

    async def bearer(self) -> str:
        """Return the token, a new one when it is 40 minutes old or dates from the future (the clock was set back)."""
        age = self._age()
        if self._token is None or age is None or not timedelta(0) <= age < _LIFE:
            return self._sign()
        return self._token

    async def renew(self, refused: str) -> str:
        """Return a newer token than one that was refused.

        Raises:
            CredentialsRejected: The refused one is younger than 20 minutes: Apple would not take another, and it was
                not refused for its age.
        """
        age = self._age()
        if self._token is not None and age is not None and self._token != refused:
            return self._token
        if age is not None and timedelta(0) <= age < _SHORTEST_LIFE:
            raise CredentialsRejected("provider_token", f"a token signed {age.total_seconds():.0f} s ago was refused")
        return self._sign()

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _age(self) -> timedelta | None:
        return None if self._signed_at is None else self._clock() - self._signed_at

    def _sign(self) -> str:
        now = self._clock()
        claims = {"iss": self._team_id, "iat": int(now.timestamp())}
        self._token = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
        self._signed_at = now
        return self._token
