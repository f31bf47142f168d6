"""Domains and origins as one process knows them.

Belongs here: asking the ledger, and remembering for a moment. Does not belong here: what follows for a call
(``finding``).
"""

from collections.abc import Callable

from ingest_api.memory import Memory, forget_everywhere
from notify_pipeline.core.domain_names import MAX_ORIGIN_LENGTH
from notify_pipeline.core.ledger.domains import Domain


class DomainBook:
    """Finds domains of active tenants, and remembers them for a moment. Used from any thread."""

    def __init__(self, find: Callable[[str], Domain | None], is_origin: Callable[[str], bool]) -> None:
        """Take what asks the ledger: for a domain by name, and whether an origin is any domain's."""
        self._find = find
        self._is_origin = is_origin
        self._domains: Memory[str, Domain] = Memory()
        self._origins: Memory[str, bool] = Memory()

    def find(self, name: str) -> Domain | None:
        """Return a domain whose owner is active, or None."""
        remembered, now = self._domains.recall(name), self._domains.now()
        if remembered is not None:
            return remembered
        found = self._find(name)
        self._domains.keep(name, found, now)
        return found

    def is_origin(self, origin: str) -> bool:
        """Tell whether pages of this origin may speak for any domain."""
        if len(origin) > MAX_ORIGIN_LENGTH:
            return False
        if self._origins.recall(origin):
            return True
        now = self._origins.now()
        found = self._is_origin(origin)
        self._origins.keep(origin, True if found else None, now)
        return found

    def forget_everywhere(self) -> None:
        """Return when no process remembers anything from before this call, see ``memory.forget_everywhere``."""
        forget_everywhere(self._domains, self._origins)
