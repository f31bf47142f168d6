"""Dead letters, found: one by its delivery, or a page of those that fit a filter.

Belongs here: those queries, and what a filter means. Does not belong here: adding dead letters (``dead_letters``),
sending them again (``replays``).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, literal, select, tuple_

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import DEAD_LETTERS
from notify_pipeline.core.vocabulary import DeadLetterReason, Outcome

_TIMES = ("died_at", "replayed_at")


@dataclass(frozen=True, slots=True)
class Letter:
    """A stored dead letter; ``replayed_as`` is the request that sends it again."""

    delivery_id: str
    tenant: str
    request_id: str
    notification_id: str
    type: str
    category: str | None
    channel: str
    platform: str
    address: str
    user_id: str | None
    outcome: Outcome
    provider_code: str | None
    reason: DeadLetterReason
    attempts: int
    died_at: datetime
    replayed_at: datetime | None
    replayed_as: str | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant: those that fit everything that is set.

    ``since`` is inclusive and ``until`` is not. ``replayed`` None means both those that were and those that were not.
    """

    request_id: str | None = None
    notification_id: str | None = None
    channel: str | None = None
    platform: str | None = None
    reason: str | None = None
    provider_code: str | None = None
    type: str | None = None
    category: str | None = None
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    replayed: bool | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """What it means to SQL."""
        columns = DEAD_LETTERS.c
        equal = {name: getattr(self, name) for name in _EQUAL}
        found = [columns[name] == str(value) for name, value in equal.items() if value is not None]
        if self.since is not None:
            found.append(columns.died_at >= to_micros(self.since))
        if self.until is not None:
            found.append(columns.died_at < to_micros(self.until))
        if self.replayed is not None:
            found.append(columns.replayed_at.isnot(None) if self.replayed else columns.replayed_at.is_(None))
        return found


_EQUAL = (
    "request_id",
    "notification_id",
    "channel",
    "platform",
    "reason",
    "provider_code",
    "type",
    "category",
    "user_id",
)


def get(ledger: Ledger, tenants: Collection[str], delivery_id: str) -> Letter | None:
    """Return the dead letter of a delivery of one of these tenants; None when there is none."""
    query = select(DEAD_LETTERS).where(DEAD_LETTERS.c.delivery_id == delivery_id, DEAD_LETTERS.c.tenant.in_(tenants))
    with ledger.read() as conn:
        found = conn.execute(query).mappings().one_or_none()
    return None if found is None else to_letter(found)


def page(
    ledger: Ledger,
    tenants: Collection[str],
    wanted: Filter,
    limit: int,
    after: tuple[datetime, str] | None = None,
) -> list[Letter]:
    """Return dead letters of these tenants, newest first.

    Args:
        ledger: The ledger.
        tenants: Whose.
        wanted: Which.
        limit: At most so many.
        after: (died_at, delivery_id) of the last one of the page before.
    """
    columns = DEAD_LETTERS.c
    query = select(DEAD_LETTERS).where(columns.tenant.in_(tenants), *wanted.conditions)
    if after is not None:
        key = tuple_(columns.died_at, columns.delivery_id)
        query = query.where(key < tuple_(literal(to_micros(after[0])), literal(after[1])))
    query = query.order_by(columns.died_at.desc(), columns.delivery_id.desc()).limit(limit)
    with ledger.read() as conn:
        return [to_letter(row) for row in conn.execute(query).mappings()]


def to_letter(values: Mapping[Any, Any]) -> Letter:
    """Build a dead letter from the columns of ``tables.DEAD_LETTERS``."""
    times = {name: None if values[name] is None else from_micros(values[name]) for name in _TIMES}
    known = {"outcome": Outcome(values["outcome"]), "reason": DeadLetterReason(values["reason"])}
    return Letter(**{**{str(name): value for name, value in values.items()}, **times, **known})
