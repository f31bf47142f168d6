"""How many messages may be under way to whom: so that an endpoint that is slow or dead holds up nobody else.

Belongs here: that bookkeeping. Does not belong here: claiming and sending (``callbacks``).

A tenant's host earns its room: one at a time until it has answered well, and again after it failed. Those that keep
us waiting share half of all the room at most.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from notify_pipeline.core.ledger.callback_claims import Claimed, Endpoint

# Under way at once, in all and to one tenant's host: 32 make 640 messages a second of an endpoint that takes 50 ms.
MOST = 256
MOST_PER_HOST = 32
# To a host that answers well, but takes longer than a second.
_MOST_IF_SLOW = 8
_SLOW_S = 1.0

_Key = tuple[str, str]


@dataclass(slots=True)
class _Host:
    """What is known of one tenant's host."""

    under_way: int = 0
    is_slow: bool = False
    is_well: bool = False
    held_until: float = 0.0

    @property
    def most(self) -> int:
        if not self.is_well:
            return 1
        return _MOST_IF_SLOW if self.is_slow else MOST_PER_HOST


class Room:
    """One process's. Times are of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._hosts: defaultdict[_Key, _Host] = defaultdict(_Host)

    @property
    def under_way(self) -> int:
        """How many are, in all."""
        return sum(host.under_way for host in self._hosts.values())

    def share(self, due: Sequence[Endpoint], now: float) -> dict[str, int]:
        """Return how many messages to claim, by callback: a fair share of the room that is left."""
        left = MOST - self.under_way
        slow_left = MOST // 2 - sum(host.under_way for host in self._hosts.values() if host.is_slow)
        taken: defaultdict[_Key, int] = defaultdict(int)
        shares: defaultdict[str, int] = defaultdict(int)
        waiting = [(each.callback_id, _key(each)) for each in due]
        # Round by round one for each, those first that have least under way.
        waiting.sort(key=lambda each: self._hosts[each[1]].under_way)
        while waiting and left > 0:
            again = []
            for callback_id, key in waiting:
                host = self._hosts[key]
                is_full = host.under_way + taken[key] >= host.most or host.held_until > now
                if left <= 0 or is_full or (host.is_slow and slow_left <= 0):
                    continue
                taken[key] += 1
                shares[callback_id] += 1
                left -= 1
                slow_left -= host.is_slow
                again.append((callback_id, key))
            waiting = again
        return dict(shares)

    def begin(self, claimed: Claimed) -> None:
        """Count a message as under way."""
        self._hosts[_key(claimed)].under_way += 1

    def answered(self, claimed: Claimed, is_success: bool, took_s: float, held_until: float) -> None:
        """Remember how a host answered, and until when it asked to be left alone."""
        host = self._hosts[_key(claimed)]
        host.is_well, host.is_slow = is_success, took_s > _SLOW_S
        host.held_until = max(host.held_until, held_until)

    def end(self, claimed: Claimed) -> None:
        """Count a message as no longer under way: what came of it is stored."""
        host = self._hosts[_key(claimed)]
        host.under_way -= 1


def _key(of: Endpoint | Claimed) -> _Key:
    return of.tenant, (urlsplit(of.url).hostname or "").removesuffix(".")
