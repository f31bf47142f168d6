"""Whose retries go by which policy: a tenant's own, its product's, or the installation's.

Belongs here: what a stored retry policy holds and means, and remembering it for a while. Does not belong here: the rule
that it parameterises (``retry``), storing it (``core.ledger.policies``).

A policy for the channel comes before one for all channels (name: empty), and that before the settings; of two with the
same name an organization's own comes before its product's.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from notify_pipeline.core.ledger import policies
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.policies import Policy
from notify_pipeline.core.vocabulary import Channel, PolicyKind
from notify_pipeline.delivery.retry import Jitter, RetryPolicy

log = logging.getLogger(__name__)

# The name of a policy for all channels.
ALL_CHANNELS = ""
# A drain goes by what it read for this long. A policy is no brake to pull in an emergency, and reading one for each
# failure would cost most when the most fails.
KEPT_S = 10.0
# Bounds of what is taken from the store, whatever checked it: attempt numbers are stored in 16 bits, and no wait is
# longer than a notification can live.
_MOST_ATTEMPTS = 1_000
_LONGEST_S = 2_419_200.0


class Unreadable(ValueError):
    """A stored policy that is none."""


def parse(value: object, default: RetryPolicy) -> RetryPolicy:
    """Return the policy that a stored value describes; what it leaves out is the default's.

    Raises:
        Unreadable: It is no policy.
    """
    if not isinstance(value, Mapping):
        raise Unreadable("not an object")
    attempts = _number(value, "attempts", default.attempts)
    base_s, cap_s = _number(value, "base_s", default.base_s), _number(value, "cap_s", default.cap_s)
    if attempts != int(attempts) or not 1 <= attempts <= _MOST_ATTEMPTS:
        raise Unreadable(f"attempts must be a whole number from 1 to {_MOST_ATTEMPTS}")
    try:
        jitter = Jitter(value.get("jitter", default.jitter))
    except ValueError as error:
        raise Unreadable("jitter must be full or none") from error
    return replace(default, attempts=int(attempts), base_s=base_s, cap_s=cap_s, jitter=jitter)


def choose(stored: Mapping[str, Policy], channel: str, default: RetryPolicy) -> RetryPolicy:
    """Return the policy of a channel among a tenant's; one that cannot be read is passed over, and said so.

    Args:
        stored: By name, as ``policies.find`` gives them.
        channel: The channel.
        default: The installation's.
    """
    for name in (channel, ALL_CHANNELS):
        if name not in stored:
            continue
        try:
            return parse(stored[name].value, default)
        except Unreadable as error:
            log.error("retry policy %r of tenant %s is passed over: %s", name, stored[name].tenant, error)
    return default


def find(ledger: Ledger, tenant: str, channel: str, default: RetryPolicy) -> RetryPolicy:
    """Read the policy that a tenant's sends go by on a channel; the default's where the store does not answer."""
    try:
        return choose(policies.find(ledger, tenant, PolicyKind.RETRY), channel, default)
    except (SQLAlchemyError, ValueError):
        log.exception("the retry policies of tenant %s cannot be read", tenant)
        return default


class RetryPolicies:
    """The policies of one channel's tenants, each read again after ``KEPT_S``; from any thread.

    Nothing is read for tenants whose deliveries need no decision: ``refresh`` is for those with a retryable outcome.
    """

    def __init__(
        self, ledger: Ledger, channel: Channel, default: RetryPolicy, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._channel = channel
        self._default = default
        self._monotonic = monotonic
        self._kept: dict[str, tuple[float, RetryPolicy]] = {}

    def stale(self, tenants: Iterable[str]) -> list[str]:
        """Return those of these tenants whose policy must be read (again)."""
        now = self._monotonic()
        return sorted({each for each in tenants if each not in self._kept or self._kept[each][0] <= now})

    def refresh(self, tenants: Iterable[str]) -> None:
        """Read the policies of these tenants that are stale; blocks."""
        for tenant in self.stale(tenants):
            self._kept[tenant] = (
                self._monotonic() + KEPT_S,
                find(self._ledger, tenant, self._channel.value, self._default),
            )

    def of(self, tenant: str) -> RetryPolicy:
        """Return a tenant's policy as it was last read; the installation's before."""
        return self._kept[tenant][1] if tenant in self._kept else self._default


def _number(value: Mapping[str, Any], name: str, default: float) -> float:
    found = value.get(name, default)
    # Neither NaN nor a number too large for a float is between the two.
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= _LONGEST_S:
        raise Unreadable(f"{name} must be a number from 0 to {_LONGEST_S:g}")
    return found
