"""Provider tokens for APNs: ES256 JWTs signed with the team's key.

Belongs here: when one is signed. Does not belong here: what a refused one means for a delivery (``push``).

Source: https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns

Apple wants a token used for 20 to 60 minutes, and counts all tokens of a team together
(https://developer.apple.com/forums/thread/702056), while here many processes come and go. So a token's time is the
beginning of the half hour, and its signature follows from key and content alone (RFC 6979): in any half hour all
processes have the same token without a word between them.
"""

from datetime import timedelta
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm
from jwt.utils import der_to_raw_signature

from notify_pipeline.channels.base import Clock, CredentialsRejected

# "Refresh your token no more than once every 20 minutes and no less than once every 60 minutes."
_PERIOD_S = 1_800


class _Es256(ECAlgorithm):
    """ES256 without a random part."""

    def sign(self, msg: bytes, key: EllipticCurvePrivateKey) -> bytes:
        """Return the signature as JWS wants it."""
        return der_to_raw_signature(key.sign(msg, ECDSA(SHA256(), deterministic_signing=True)), key.curve)


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
        self._signer = PyJWS(algorithms=[])
        self._signer.register_algorithm("ES256", _Es256(ECAlgorithm.SHA256))
        self._period = 0
        self._token = ""

    async def bearer(self) -> str:
        """Return the token of this half hour, by our clock."""
        period = int(self._clock().timestamp()) // _PERIOD_S
        if not self._token or period != self._period:
            self._token, self._period = self._sign(period * _PERIOD_S), period
        return self._token

    async def renew(self, refused: str) -> str:
        """Return a newer token than one that was refused.

        Raises:
            CredentialsRejected: The refused one is this half hour's: Apple would not take another so soon, and this
                one was not refused for its age.
        """
        current = await self.bearer()
        if current == refused:
            age = timedelta(seconds=int(self._clock().timestamp()) - self._period * _PERIOD_S)
            raise CredentialsRejected("provider_token", f"a token of {age} ago was refused")
        return current

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _sign(self, issued_at: int) -> str:
        claims = orjson.dumps({"iss": self._team_id, "iat": issued_at})
        return self._signer.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
