"""Dead letters, found: one by its delivery, or a page of those that fit a filter.

Belongs here: those queries, and what a filter means. Does not belong here: adding dead letters (``dead_letters``),
sending them again (``replays``).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import walks
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import DEAD_LETTERS, REQUESTS
from notify_pipeline.core.ledger.walks import Key, Order, Walked
from notify_pipeline.core.vocabulary import DeadLetterReason, Outcome

# As the partial index has it: only then does SQLite know that it covers the query.
WAITING = DEAD_LETTERS.c.replayed_at.is_(None)
_ORDER = Order(DEAD_LETTERS.c.died_at, DEAD_LETTERS.c.delivery_id)
_TIMES = ("died_at", "replayed_at")


@dataclass(frozen=True, slots=True)
class Letter:
    """A stored dead letter.

    ``replayed_as`` is the request that sends it again, ``fields`` the JSON of what fills its recipient's own fields.
    """

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
    fields: str | None = None


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
    def span(self) -> list[ColumnElement[bool]]:
        """The condition on when they died."""
        at = DEAD_LETTERS.c.died_at
        since = [] if self.since is None else [at >= to_micros(self.since)]
        return since if self.until is None else [*since, at < to_micros(self.until)]

    @property
    def rest(self) -> list[ColumnElement[bool]]:
        """The conditions on anything else."""
        equal = {name: getattr(self, name) for name in _EQUAL}
        found = [DEAD_LETTERS.c[name] == str(value) for name, value in equal.items() if value is not None]
        if self.replayed is None:
            return found
        return [*found, ~WAITING if self.replayed else WAITING]


@dataclass(frozen=True, slots=True)
class LetterPage:
    """A page; ``following`` is where the next one begins, None at the end. A page may be short, or empty, before it."""

    rows: Sequence[Letter]
    following: Key | None


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


def page(ledger: Ledger, tenants: Sequence[str], wanted: Filter, limit: int, after: Key | None = None) -> LetterPage:
    """Return dead letters of these tenants, newest first; looks at ``walks.MOST_ROWS`` rows at most.

    Args:
        ledger: The ledger.
        tenants: Whose; at least one.
        wanted: Which.
        limit: At most so many.
        after: ``following`` of the page before.
    """
    most_rows = max(walks.MOST_ROWS // len(tenants), limit + 1)
    with ledger.read() as conn:
        found = [_of_tenant(conn, tenant, wanted, limit + 1, after, most_rows) for tenant in tenants]
        keys, following = walks.merge(found, _ORDER.newest_first, limit)
        query = select(DEAD_LETTERS).where(DEAD_LETTERS.c.delivery_id.in_([key[1] for key in keys]))
        rows = {row["delivery_id"]: to_letter(row) for row in conn.execute(query).mappings()} if keys else {}
    return LetterPage([rows[key[1]] for key in keys], following)


def oldest_waiting(ledger: Ledger, tenant: str, wanted: Filter, limit: int) -> list[str]:
    """Return the deliveries of a tenant's dead letters that were not replayed, longest dead first."""
    columns = DEAD_LETTERS.c
    query = select(columns.delivery_id).where(columns.tenant == tenant, WAITING, *wanted.span, *wanted.rest)
    with ledger.read() as conn:
        return list(conn.execute(query.order_by(columns.died_at, columns.delivery_id).limit(limit)).scalars())


def users_of(ledger: Ledger, request_id: str, replayed_as: str) -> dict[str, str]:
    """Return whose addresses a replay sends to again, by address; addresses that belonged to nobody are left out."""
    columns = DEAD_LETTERS.c
    query = select(columns.address, columns.user_id).where(
        columns.request_id == request_id, columns.replayed_as == replayed_as, columns.user_id.isnot(None)
    )
    with ledger.read() as conn:
        return dict(conn.execute(query).tuples().all())


def _of_tenant(conn: Connection, tenant: str, wanted: Filter, limit: int, after: Key | None, most_rows: int) -> Walked:
    mine, filters = DEAD_LETTERS.c.tenant == tenant, wanted.rest
    request_id = wanted.request_id
    if request_id is None and wanted.notification_id is not None:
        this = (REQUESTS.c.tenant == tenant, REQUESTS.c.notification_id == wanted.notification_id)
        request_id = conn.execute(select(REQUESTS.c.request_id).where(*this)).scalar()
        if request_id is None:
            return Walked([])
    if request_id is not None:
        # The request first: SQLite weighs conditions in their order, and would take the index of all letters.
        return walks.walk(
            conn,
            _ORDER,
            [DEAD_LETTERS.c.request_id == request_id, *wanted.span],
            [mine, *filters],
            after,
            limit,
            most_rows,
        )
    where = [WAITING, mine, *wanted.span] if wanted.replayed is False else [mine, *wanted.span]
    return walks.walk(conn, _ORDER, where, filters, after, limit, most_rows)


def to_letter(values: Mapping[Any, Any]) -> Letter:
    """Build a dead letter from the columns of ``tables.DEAD_LETTERS``."""
    times = {name: None if values[name] is None else from_micros(values[name]) for name in _TIMES}
    known = {"outcome": Outcome(values["outcome"]), "reason": DeadLetterReason(values["reason"])}
    return Letter(**{**{str(name): value for name, value in values.items()}, **times, **known})
