"""Who is calling, and whether they may.

Belongs here: reading the key from a request, looking it up, comparing its scope with the route's. Does not belong here:
making or storing keys (``core.ledger.keys``), reading user tokens (``users.tokens``), pages without a key
(``anonymous``).
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from flask import Request

from ingest_api.errors import ApiError, FieldError, forbidden, not_found, unauthorized
from ingest_api.memory import Memory, forget_everywhere
from notify_pipeline.core.ledger.keys import KeyInfo
from notify_pipeline.core.vocabulary import KeyScope

# By which a product's key says that it acts for one of the product's organizations.
ORGANIZATION_HEADER = "Notify-Organization"
_ORGANIZATION = "HTTP_NOTIFY_ORGANIZATION"
# Keys have 47 characters; a token of a user whose id has 256 letters of the widest kind has 4,400. Nothing longer is
# worth hashing.
_MAX_KEY_LENGTH = 4_608
_ID = re.compile(r"[0-9a-f]{32}\Z")
_NOT_VALID = "The key is not valid: unknown, revoked, expired, or its owner is inactive."


@dataclass(frozen=True, slots=True)
class _Right:
    """Who may: holders of keys of these scopes; nobody needs a key where there are none."""

    scopes: frozenset[KeyScope] = frozenset()
    is_for_pages: bool = False


def _of(*scopes: KeyScope) -> _Right:
    return _Right(frozenset(scopes))


class Access(Enum):
    """The kind of key a route takes, and the scopes that have the right."""

    PUBLIC = _Right()
    # Browsers, from the pages of domains: without a key, but by CORS, and so often from one address (``anonymous``).
    ANONYMOUS = _Right(is_for_pages=True)
    ADMIN = _of(KeyScope.ADMIN)
    SECRET = _of(KeyScope.SECRET)
    DEVICE = _of(KeyScope.SECRET, KeyScope.PUBLISHABLE)
    OPERATOR = _of(KeyScope.ADMIN, KeyScope.SECRET)
    # On routes whose path names the user: a secret key, or that user's token.
    USER = _of(KeyScope.SECRET, KeyScope.USER)

    @property
    def scopes(self) -> frozenset[KeyScope]:
        """The scopes with the right; none where no key is needed."""
        return self.value.scopes

    @property
    def needs_key(self) -> bool:
        """False where anybody may call, with or without a key."""
        return bool(self.value.scopes)

    @property
    def is_for_tenants(self) -> bool:
        """True when a tenant's key may have the right, and with it whoever acts for that tenant."""
        return not self.value.scopes <= {KeyScope.ADMIN}


class KeyRing:
    """Finds keys, and remembers the good ones for a moment. Used from any thread."""

    def __init__(
        self,
        find: Callable[[str], KeyInfo | None],
        is_active_organization: Callable[[str, str], bool] = lambda product, organization: False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        find_by_id: Callable[[str], KeyInfo | None] = lambda key_id: None,
    ) -> None:
        """Take what asks the ledger: for a key by its plaintext or id, for an organization by product and its own."""
        self._find = find
        self._find_by_id = find_by_id
        self._is_active_organization = is_active_organization
        self._clock = clock
        # By digest, so that no plaintext key stays in memory.
        self._keys: Memory[bytes, KeyInfo] = Memory(monotonic)
        self._by_id: Memory[str, KeyInfo] = Memory(monotonic)
        self._organizations: Memory[tuple[str, str], bool] = Memory(monotonic)
        self._used: dict[str, datetime] = {}
        self._guard = threading.Lock()

    @property
    def remembered(self) -> int:
        """How many keys are remembered now."""
        return len(self._keys)

    def check(self, request: Request, access: Access) -> KeyInfo:
        """Return the caller's key.

        Raises:
            ApiError: 401 when it is missing, unknown, revoked, expired or its owner is inactive; 403 without the right.
        """
        key = self._lookup(_presented(request))
        if key is None or not self._is_good(key):
            raise unauthorized(_NOT_VALID)
        if key.scope not in access.value.scopes:
            wanted = " or ".join(sorted(access.value.scopes))
            raise forbidden(f"This needs a key of scope {wanted}; yours is {key.scope}.")
        return key

    def presented(self, plaintext: str) -> KeyInfo | None:
        """Return the good key that somebody has typed; None for anything else."""
        if not plaintext or len(plaintext) > _MAX_KEY_LENGTH or not plaintext.isascii():
            return None
        key = self._lookup(plaintext)
        return key if key is not None and self._is_good(key) else None

    def still_good(self, key_id: str) -> KeyInfo | None:
        """Return a key that somebody has shown before; None once it is revoked, expired, or its owner inactive."""
        now = self._by_id.now()
        if (remembered := self._by_id.recall(key_id)) is not None:
            return remembered if self._is_good(remembered) else None
        found = self._find_by_id(key_id)
        good = found if found is not None and self._is_good(found) else None
        self._by_id.keep(key_id, good, now)
        if good is not None:
            with self._guard:
                self._used[key_id] = self._clock()
        return good

    def check_user(self, key: KeyInfo, user_id: str) -> None:
        """Let a user token speak for its own user only.

        Raises:
            ApiError: 404 for another user: whether there is one is not this one's to know.
        """
        if key.user_id is not None and key.user_id != user_id:
            raise not_found("There is no such user.")

    def organization(self, request: Request, key: KeyInfo) -> str | None:
        """Return the organization that a good key acts for by the request's header; None without the header.

        Raises:
            ApiError: 404 unless it is an active organization of the key's product, or the key's own.
        """
        named: str | None = request.environ.get(_ORGANIZATION)
        if named is None:
            return None
        # A user of a product is nobody in its organizations.
        acts = key.parent is None and key.user_id is None
        if key.tenant is None or not (self._has(key.tenant, named) if acts else named == key.tenant):
            message = "There is no such organization."
            raise ApiError(404, "not_found", message, [FieldError(ORGANIZATION_HEADER, message)])
        return named

    def forget_everywhere(self) -> None:
        """Return when no process remembers anything from before this call, see ``memory.forget_everywhere``.

        Whoever made a key or a tenant bad calls this between that commit and the answer.
        """
        forget_everywhere(self._keys, self._by_id, self._organizations)

    def take_uses(self) -> dict[str, datetime]:
        """Return when keys were used, by id, since this was called last: as of when each was looked up last."""
        with self._guard:
            used, self._used = self._used, {}
        return used

    def _is_good(self, key: KeyInfo) -> bool:
        return key.active and not key.revoked and (key.expires_at is None or self._clock() < key.expires_at)

    def _has(self, product: str, organization: str) -> bool:
        if not _ID.match(organization):
            return False
        asked, now = (product, organization), self._organizations.now()
        if self._organizations.recall(asked):
            return True
        found = self._is_active_organization(product, organization)
        self._organizations.keep(asked, True if found else None, now)
        return found

    def _lookup(self, plaintext: str) -> KeyInfo | None:
        digest = hashlib.sha256(plaintext.encode("utf-8", "surrogateescape")).digest()
        # Before it is read: see forget_everywhere.
        now = self._keys.now()
        remembered = self._keys.recall(digest)
        if remembered is not None:
            return remembered
        found = self._find(plaintext)
        good = found if found is not None and self._is_good(found) else None
        self._keys.keep(digest, good, now)
        if good is not None and good.user_id is None:
            with self._guard:
                self._used[good.key_id] = self._clock()
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
        raise unauthorized(_NOT_VALID)
    return key
