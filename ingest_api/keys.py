"""Who is calling, and whether they may.

Belongs here: reading the key from a request, looking it up, comparing its scope with the route's. Does not belong here:
making or storing keys (``core.ledger.tenants``).
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from enum import Enum

from flask import Request

from ingest_api.errors import ApiError, FieldError, forbidden, unauthorized
from notify_pipeline.core.ledger.tenants import KeyInfo
from notify_pipeline.core.vocabulary import KeyScope

# A key's row is read again after this long, so this is also how long a revoked key may still be let in by a process
# that has just seen it. Reading it for every request costs a tenth of the ingress's rate.
CACHE_S = 1.0
# Far more keys than call within a second; beyond it the memory is forgotten at once, which costs one read per key.
CACHE_KEYS = 4_096
# By which a product's key says that it acts for one of the product's organizations.
ORGANIZATION_HEADER = "Notify-Organization"
_ORGANIZATION = "HTTP_NOTIFY_ORGANIZATION"
# Ours have 47 characters; nothing longer is worth hashing.
_MAX_KEY_LENGTH = 256
_ID = re.compile(r"[0-9a-f]{32}\Z")


class Access(Enum):
    """The kind of key a route takes, and the scopes that have the right."""

    PUBLIC = frozenset[KeyScope]()
    ADMIN = frozenset({KeyScope.ADMIN})
    SECRET = frozenset({KeyScope.SECRET})
    DEVICE = frozenset({KeyScope.SECRET, KeyScope.PUBLISHABLE})
    OPERATOR = frozenset({KeyScope.ADMIN, KeyScope.SECRET})

    @property
    def scopes(self) -> frozenset[KeyScope]:
        """The scopes with the right; none where no key is needed."""
        return self.value

    @property
    def is_for_tenants(self) -> bool:
        """True when every key with the right is a tenant's, so that the route is about that tenant's data."""
        return bool(self.value) and KeyScope.ADMIN not in self.value


class KeyRing:
    """Finds keys, and remembers the good ones for a moment. Used from any thread."""

    def __init__(
        self,
        find: Callable[[str], KeyInfo | None],
        is_active_organization: Callable[[str, str], bool] = lambda product, organization: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what asks the ledger: for a key by its plaintext, for an organization by product and its own id."""
        self._find = find
        self._is_active_organization = is_active_organization
        self._monotonic = monotonic
        self._known: dict[bytes, tuple[float, KeyInfo]] = {}
        self._organizations: dict[tuple[str, str], float] = {}
        self._guard = threading.Lock()

    @property
    def remembered(self) -> int:
        """How many keys are remembered now."""
        return len(self._known)

    def check(self, request: Request, access: Access) -> KeyInfo:
        """Return the caller's key.

        Raises:
            ApiError: 401 when it is missing, unknown, revoked or its tenant is inactive; 403 without the right.
        """
        key = self._lookup(_presented(request))
        if key is None or key.revoked or not key.active:
            raise unauthorized("The key is not valid: unknown, revoked, or its owner is inactive.")
        if key.scope not in access.value:
            wanted = " or ".join(sorted(access.value))
            raise forbidden(f"This needs a key of scope {wanted}; yours is {key.scope}.")
        return key

    def organization(self, request: Request, key: KeyInfo) -> str | None:
        """Return the organization that a good key acts for by the request's header; None without the header.

        Raises:
            ApiError: 404 unless it is an active organization of the key's product, or the key's own.
        """
        named: str | None = request.environ.get(_ORGANIZATION)
        if named is None:
            return None
        if key.tenant is None or not (self._has(key.tenant, named) if key.parent is None else named == key.tenant):
            message = "There is no such organization."
            raise ApiError(404, "not_found", message, [FieldError(ORGANIZATION_HEADER, message)])
        return named

    def _has(self, product: str, organization: str) -> bool:
        if not _ID.match(organization):
            return False
        asked, now = (product, organization), self._monotonic()
        if now < self._organizations.get(asked, 0.0):
            return True
        found = self._is_active_organization(product, organization)
        with self._guard:
            if len(self._organizations) >= CACHE_KEYS:
                self._organizations.clear()
            # As with keys, only good ones are remembered.
            if found:
                self._organizations[asked] = now + CACHE_S
            else:
                self._organizations.pop(asked, None)
        return found

    def _lookup(self, plaintext: str) -> KeyInfo | None:
        # By digest, so that no plaintext key stays in memory.
        digest = hashlib.sha256(plaintext.encode("utf-8", "surrogateescape")).digest()
        now = self._monotonic()
        remembered = self._known.get(digest)
        if remembered is not None and now < remembered[0]:
            return remembered[1]
        found = self._find(plaintext)
        # Only good keys are remembered: whoever guesses shall not fill the memory.
        if found is not None and found.active and not found.revoked:
            with self._guard:
                if len(self._known) >= CACHE_KEYS:
                    self._known.clear()
                self._known[digest] = (now + CACHE_S, found)
        elif remembered is not None:
            with self._guard:
                self._known.pop(digest, None)
        return found


def _presented(request: Request) -> str:
    header = request.environ.get("HTTP_AUTHORIZATION")
    if header is None:
        key: str = request.environ.get("HTTP_X_API_KEY", "")
    else:
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorized("The Authorization header must be 'Bearer <key>'.")
    key = key.strip()
    if not key:
        raise unauthorized("A key is needed: 'Authorization: Bearer <key>', or X-Api-Key.")
    if len(key) > _MAX_KEY_LENGTH or not key.isascii():
        raise unauthorized("The key is not valid: unknown, revoked, or its owner is inactive.")
    return key
