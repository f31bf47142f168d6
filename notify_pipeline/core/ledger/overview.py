"""What waits, what is being sent, and what holds it up: the ledger's part of an operator's overview.

Belongs here: those reads, for the whole installation or for some tenants. Does not belong here: dead letters one by one
(``letters``), what versions of the reports know (``reports.reading_operations``), putting it together
(``ingest_api.operations``).

Counts of queues come from the queues' own indexes, so they cost in proportion to what waits and to nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, TextClause, case, func, select, text

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import broadcasts, live
from notify_pipeline.core.ledger.broadcasts import DueBroadcast
from notify_pipeline.core.ledger.deliveries import SENDING, WAITING
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.live import LiveRequest
from notify_pipeline.core.ledger.outbox_tables import OUTBOX, OUTBOX_REJECTED
from notify_pipeline.core.ledger.tables import AUDIT, DEAD_LETTERS, DELIVERIES, LEASES, RATES, REQUESTS
from notify_pipeline.core.ledger.tenant_tables import CALLBACK_MESSAGES, TENANTS
from notify_pipeline.core.vocabulary import QUEUED_CHANNELS, Priority, RequestState

SENDS, EVENT, CALLBACK = "sends", "events", "callback messages"
# Counted up to this many: whether a hundred thousand or more wait to be looked at makes no difference.
MOST_LETTERS = 100_000
# The audit event of that alarm.
DROP_STOPPED = "token_drop_stopped"
# Broadcasts shown at most; more than a handful are never sent at once.
MOST_BROADCASTS = 50
# Names looked up at most; SQLite takes 32,766 parameters.
MOST_NAMES = 1_000
# In the words of the partial indexes, literally: only then does SQLite know that they cover the queries.
_OPEN = text("requests.state IN ('accepted', 'routed', 'sending')")
_UNFINISHED = text("deliveries.state IN ('waiting', 'sending')")
_EVENTS_WAITING = text("events.state IN ('accepted', 'enriched')")
_UNSENT = text("callback_messages.state IN ('waiting', 'sending')")
_LETTERS_WAITING = text("dead_letters.replayed_at IS NULL")
_OPEN_STATES = [str(state) for state in RequestState if not state.is_final]
# Of an id, the milliseconds since the epoch.
_TIME_DIGITS = 12
_RANKS = [priority.rank for priority in Priority]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits alike.

    Attributes:
        queue: ``sends``, ``deliveries``, ``events`` or ``callback messages``.
        state: Where it stands; None where all states are counted together.
        channel: Of deliveries.
        tenant: Whose; None where all tenants are counted together.
        priority: Of sends and deliveries.
        count: How many.
        due: How many of them could go on now; the others wait for their time or a retry.
        oldest_due_at: Since when the longest due one is due, None where none is; of events and messages to callbacks,
            since when the oldest is there.
    """

    queue: str
    state: str | None
    channel: str | None
    tenant: str | None
    priority: Priority | None
    count: int
    due: int
    oldest_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Role:
    """A role that one process holds at a time: ``is_held`` says whether it does now."""

    name: str
    owner: str
    until: datetime
    is_held: bool


@dataclass(frozen=True, slots=True)
class Throttle:
    """One provider credential's bucket as it was left.

    Attributes:
        name: The credential's.
        used_at: When tokens were last counted.
        held_until: Until when its provider asked for a pause; None when no pause is in force.
        ramp_from: When the rate began to rise.
        pace: Per second, what the ramp after a pause leads up to where there is no limit.
    """

    name: str
    used_at: datetime
    held_until: datetime | None
    ramp_from: datetime
    pace: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is on its way into the lake.

    Attributes:
        entries: Outbox rows, by lake table; each holds one or many rows of it.
        oldest_at: When the oldest was written, or its first row's own time.
        rejected: Outbox rows that were kept aside because they are not rows of their table.
    """

    entries: dict[str, int]
    oldest_at: datetime | None
    rejected: int


@dataclass(frozen=True, slots=True)
class Running:
    """A broadcast that is fixed or sent.

    ``drops_stopped``: a provider calls so many of its tokens dead that none is dropped (``delivery.tokens``).
    """

    due: DueBroadcast
    live: LiveRequest
    drops_stopped: bool


def waiting(ledger: Ledger, now: datetime, tenants: Sequence[str] | None = None) -> list[Waiting]:
    """Return what waits; of these tenants only, if they are given.

    Messages to callbacks are counted for the whole installation only: their index does not tell whose they are.
    """
    at = to_micros(now)
    with ledger.read() as conn:
        found = [*_sends(conn, at, tenants), *_deliveries(conn, at, tenants), *_events(conn, at, tenants)]
        return found if tenants is not None else [*found, *_callbacks(conn, at)]


def running(ledger: Ledger, now: datetime, tenants: Sequence[str] | None = None) -> list[Running]:
    """Return the broadcasts that are being fixed or sent, in the order in which they run."""
    due = [each for each in broadcasts.due(ledger, now) if tenants is None or each.tenant in tenants]
    found = live.by_request(ledger, [each.request_id for each in due[:MOST_BROADCASTS]])
    alarms = select(AUDIT.c.request_id).where(AUDIT.c.request_id.in_(found), AUDIT.c.event == DROP_STOPPED)
    with ledger.read() as conn:
        stopped = set(conn.execute(alarms).scalars()) if found else set()
    return [
        Running(each, found[each.request_id], each.request_id in stopped) for each in due if each.request_id in found
    ]


def letters_waiting(ledger: Ledger, tenants: Sequence[str] | None = None) -> int:
    """Return how many dead letters were not sent again, counted up to ``MOST_LETTERS``."""
    mine = [] if tenants is None else [DEAD_LETTERS.c.tenant.in_(tenants)]
    some = select(DEAD_LETTERS.c.delivery_id).where(_LETTERS_WAITING, *mine).limit(MOST_LETTERS)
    with ledger.read() as conn:
        return int(conn.execute(select(func.count()).select_from(some.subquery())).scalar_one())


def roles(ledger: Ledger, now: datetime) -> list[Role]:
    """Return who does what of which there is one: the drain, the lander and such."""
    at = to_micros(now)
    query = select(LEASES.c.name, LEASES.c.owner, LEASES.c.until).where(LEASES.c.until > 0).order_by(LEASES.c.name)
    with ledger.read() as conn:
        return [Role(name, owner, from_micros(until), until > at) for name, owner, until in conn.execute(query)]


def throttles(ledger: Ledger, now: datetime) -> list[Throttle]:
    """Return the buckets of provider credentials."""
    at, columns = to_micros(now), (RATES.c.name, RATES.c.at, RATES.c.held_until, RATES.c.ramp_from, RATES.c.pace)
    with ledger.read() as conn:
        return [
            Throttle(
                name, from_micros(used), from_micros(held) if held > at else None, from_micros(ramp), round(pace, 1)
            )
            for name, used, held, ramp, pace in conn.execute(select(*columns).order_by(RATES.c.name))
        ]


def backlog(ledger: Ledger) -> Backlog:
    """Return what is on its way into the lake."""
    entries = select(OUTBOX.c.lake_table, func.count()).group_by(OUTBOX.c.lake_table).order_by(OUTBOX.c.lake_table)
    oldest = select(OUTBOX.c.at).order_by(OUTBOX.c.seq).limit(1)
    with ledger.read() as conn:
        found = {name: int(number) for name, number in conn.execute(entries)}
        at = conn.execute(oldest).scalar() if found else None
        rejected = conn.execute(select(func.count()).select_from(OUTBOX_REJECTED)).scalar_one()
    return Backlog(found, None if at is None else from_micros(at), int(rejected))


def names(ledger: Ledger, tenants: Sequence[str]) -> dict[str, str]:
    """Return the names of these tenants; as many as an overview shows."""
    query = select(TENANTS.c.tenant, TENANTS.c.name).where(TENANTS.c.tenant.in_(tenants[:MOST_NAMES]))
    with ledger.read() as conn:
        return {tenant: name for tenant, name in conn.execute(query)}


def _sends(conn: Connection, at: int, tenants: Sequence[str] | None) -> list[Waiting]:
    columns = REQUESTS.c
    where: list[ColumnElement[bool] | TextClause] = [
        _OPEN,
        columns.state.in_(_OPEN_STATES),
        columns.priority_rank.in_(_RANKS),
    ]
    rows = _counted(conn, REQUESTS, (columns.state, columns.priority_rank, columns.tenant), where, at, tenants)
    return [_waiting(SENDS, state, None, tenant, rank, figures) for (state, rank, tenant), figures in rows]


def _deliveries(conn: Connection, at: int, tenants: Sequence[str] | None) -> list[Waiting]:
    columns = DELIVERIES.c
    where: list[ColumnElement[bool] | TextClause] = [
        _UNFINISHED,
        columns.channel.in_(sorted(QUEUED_CHANNELS)),
        columns.state.in_((WAITING, SENDING)),
        columns.priority_rank.in_(_RANKS),
    ]
    key = (columns.channel, columns.state, columns.priority_rank, columns.tenant)
    rows = _counted(conn, DELIVERIES, key, where, at, tenants)
    return [_waiting("deliveries", state, chan, tenant, rank, figures) for (chan, state, rank, tenant), figures in rows]


def _events(conn: Connection, at: int, tenants: Sequence[str] | None) -> list[Waiting]:
    columns = EVENTS.c
    mine = [] if tenants is None else [columns.tenant.in_(tenants)]
    query = select(columns.tenant, *_since_made(columns.event_id, columns.due_at, at)).where(_EVENTS_WAITING, *mine)
    return [
        Waiting(EVENT, None, None, tenant, None, count, int(due), _made_at(oldest))
        for tenant, count, due, oldest in conn.execute(query.group_by(columns.tenant).order_by(columns.tenant))
    ]


def _callbacks(conn: Connection, at: int) -> list[Waiting]:
    columns = CALLBACK_MESSAGES.c
    query = select(*_since_made(columns.message_id, columns.due_at, at)).where(_UNSENT)
    count, due, oldest = conn.execute(query).one()
    return [Waiting(CALLBACK, None, None, None, None, count, int(due), _made_at(oldest))] if count else []


def _since_made(id_: ColumnElement[str], due_at: ColumnElement[int], at: int) -> Sequence[ColumnElement[Any]]:
    """Return count, due ones, and the first of ids that grow with time: what is due at once has no other time."""
    return func.count(), func.sum(case((due_at <= at, 1), else_=0)), func.min(id_)


def _made_at(id_: str) -> datetime:
    """Return when an id was made: it begins with milliseconds, see ``ids.new_id``."""
    return from_micros(int(id_[:_TIME_DIGITS], 16) * 1_000)


_Figures = tuple[int, int, int, int]


def _counted(
    conn: Connection,
    table: Table,
    key: Sequence[ColumnElement[object]],
    where: Sequence[ColumnElement[bool] | TextClause],
    at: int,
    tenants: Sequence[str] | None,
) -> list[tuple[tuple[object, ...], _Figures]]:
    """Return count, due ones, the least due time and now, by key."""
    due_at = table.c.due_at
    mine = [] if tenants is None else [table.c.tenant.in_(tenants)]
    figures = (func.count(), func.sum(case((due_at <= at, 1), else_=0)), func.min(due_at))
    query = select(*key, *figures).where(*where, *mine).group_by(*key).order_by(*key)
    size = len(key)
    return [(tuple(row[:size]), (row[size], int(row[size + 1]), row[size + 2], at)) for row in conn.execute(query)]


def _waiting(queue: str, state: object, channel: object, tenant: object, rank: object, figures: _Figures) -> Waiting:
    count, due, oldest, at = figures
    return Waiting(
        queue=queue,
        state=None if state is None else str(state),
        channel=None if channel is None else str(channel),
        tenant=None if tenant is None else str(tenant),
        priority=None if rank is None else tuple(Priority)[int(str(rank))],
        count=count,
        due=due,
        oldest_due_at=from_micros(oldest) if oldest <= at else None,
    )
