"""Whether tenants are active, remembered for a moment: thousands of clients may come back at once.

Belongs here: that memory. Does not belong here: the ledger's word on it (``core.ledger.tenants``).
"""

from collections.abc import Awaitable, Callable

# So long after its tenant was deactivated a user may still connect.
_REMEMBERED_S = 2.0


class Standings:
    """Asks about each tenant once in a while. Use it in one event loop."""

    def __init__(self, ask: Callable[[str], Awaitable[bool]], loop_time: Callable[[], float]) -> None:
        """Args: ask: the ledger. loop_time: tells the time."""
        self._ask = ask
        self._loop_time = loop_time
        self._known: dict[str, tuple[float, bool]] = {}

    async def counts(self, tenant: str) -> bool:
        """Tell whether a tenant is active."""
        now = self._loop_time()
        known = self._known.get(tenant)
        if known is not None and now < known[0]:
            return known[1]
        counts = await self._ask(tenant)
        # The others may be asked about again; a gateway's tenants are few beside its connections.
        self._known = {name: entry for name, entry in self._known.items() if entry[0] > now}
        self._known[tenant] = (now + _REMEMBERED_S, counts)
        return counts
