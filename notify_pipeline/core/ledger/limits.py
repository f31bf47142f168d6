"""What each tenant may use, known to a process without asking for every request.

Belongs here: reading limits, what an organization inherits, and how long that is believed. Does not belong here:
holding anybody to them (``usage``, ``ingest_api``, ``delivery``), setting them (``policies``).
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import orjson
from sqlalchemy import select

from notify_pipeline.core.call_rates import CallRate
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tenant_tables import POLICIES, TENANTS
from notify_pipeline.core.ledger.usage import Quota
from notify_pipeline.core.vocabulary import PolicyKind

# All limits of the installation are read again after this long, in one query that finds nothing where there are none.
# A daily quota counts from ``usage.EFFECT_S`` after it was set: by then every process knows of it.
CACHE_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tenant is held to; None, or no quotas: to nothing.

    Attributes:
        rate: Of each of its keys.
        max_audience: Recipients of one send.
        max_content_bytes: Content of one send with its overrides, as JSON.
        quotas: Its own daily quotas, and its product's.
    """

    rate: CallRate | None = None
    max_audience: int | None = None
    max_content_bytes: int | None = None
    quotas: tuple[Quota, ...] = ()

    @property
    def request_quotas(self) -> tuple[Quota, ...]:
        """Those that count requests."""
        return tuple(quota for quota in self.quotas if quota.daily_requests is not None)

    @property
    def recipient_quotas(self) -> tuple[Quota, ...]:
        """Those that count recipients."""
        return tuple(quota for quota in self.quotas if quota.daily_recipients is not None)

    def refuses(self, recipients: int) -> str | None:
        """Return why a send to so many is not made, or None."""
        if self.max_audience is not None and recipients > self.max_audience:
            return AUDIENCE_TOO_LARGE
        return None


AUDIENCE_TOO_LARGE = "audience_too_large"
NO_LIMITS = Limits()


class LimitsBook:
    """The limits of every tenant that has any. Used from any thread."""

    def __init__(
        self,
        ledger: Ledger,
        default_rate: CallRate | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self._default = NO_LIMITS if default_rate is None else Limits(default_rate)
        self._known: Mapping[str, Limits] = {}
        self._stale_at = -1.0
        self._guard = threading.Lock()

    def of(self, tenant: str) -> Limits:
        """Return what a tenant is held to."""
        return self.all().get(tenant, self._default)

    def all(self) -> Mapping[str, Limits]:
        """Return the limits of every tenant that has any, and of organizations whose product has."""
        if self._monotonic() >= self._stale_at:
            self._refresh()
        return self._known

    def forget(self) -> None:
        """Read again at the next question."""
        self._stale_at = -1.0

    def _refresh(self) -> None:
        with self._guard:
            # Whoever waited here finds the work done.
            if (now := self._monotonic()) >= self._stale_at:
                self._known = _read(self._ledger, self._default)
                self._stale_at = now + CACHE_S


def _read(ledger: Ledger, default: Limits) -> dict[str, Limits]:
    parts = TENANTS.alias("parts")
    query = (
        select(POLICIES.c.tenant, TENANTS.c.parent, POLICIES.c.value, POLICIES.c.updated_at, parts.c.tenant)
        .join_from(POLICIES, TENANTS, TENANTS.c.tenant == POLICIES.c.tenant)
        .join(parts, parts.c.parent == POLICIES.c.tenant, isouter=True)
        .where(POLICIES.c.kind == str(PolicyKind.LIMITS), POLICIES.c.name == "")
    )
    own: dict[str, tuple[dict[str, Any], int]] = {}
    product_of: dict[str, str] = {}
    with ledger.read() as conn:
        for tenant, parent, value, updated_at, part in conn.execute(query).tuples():
            if tenant not in own:
                own[tenant] = orjson.loads(value), updated_at
            if parent is not None:
                product_of[tenant] = parent
            if part is not None:
                product_of[part] = tenant
    known = {}
    for tenant in {*own, *product_of}:
        product = product_of.get(tenant)
        value, _ = own[tenant] if tenant in own else own[product_of[tenant]]
        quotas = [_quota(subject, *own[subject]) for subject in (tenant, product) if subject in own]
        known[tenant] = _limits(value, tuple(quota for quota in quotas if quota.is_any), default)
    return known


def _limits(value: Mapping[str, Any], quotas: tuple[Quota, ...], default: Limits) -> Limits:
    per_s, rate = value.get("requests_per_s"), default.rate
    if per_s is not None:
        rate = _rate(per_s, value.get("burst"))
    return Limits(rate, value.get("max_audience"), value.get("max_content_bytes"), quotas)


def default_rate(per_s: float | None, burst: int | None) -> CallRate | None:
    """Return the rate of keys whose tenant has none; None: no limit."""
    return None if per_s is None else _rate(per_s, burst)


def _rate(per_s: float, burst: int | None) -> CallRate:
    # A second's worth, where nothing else was asked for.
    return CallRate(per_s, burst or max(1, ceil(per_s)))


def _quota(subject: str, value: Mapping[str, Any], updated_at: int) -> Quota:
    return Quota(subject, value.get("daily_requests"), value.get("daily_recipients"), updated_at)
