"""WebSocket connections: which user is connected where, as far as anybody knows.

Belongs here: registering, finding and forgetting connections. Does not belong here: the connections themselves
(``ingest_api.gateway``), posting to them (``channels.websocket``), messages (``user_messages``).

A row says where a connection could be reached when it was written, not that it is still there: whoever posts to it is
told. Rows of our own gateways have the gateway's name, which says so of all its rows every minute; the others are API
Gateway's, and tenants told us of them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, not_, or_, select, tuple_, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.people_tables import CONNECTIONS
from notify_pipeline.core.ledger.statements import Prepared, insert_for
from notify_pipeline.core.ledger.user_messages import User

# A gateway that has not said for so long that its connections are there is gone, and they with it.
GATEWAY_LOST = timedelta(seconds=150)
# API Gateway ends each connection after two hours. https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
FOREIGN_LOST = timedelta(hours=2, minutes=1)
# The name of no gateway of ours.
FOREIGN = ""
_PIECE = 500
_COLUMNS = ("tenant", "connection_id", "user_id", "endpoint", "gateway", "connected_at", "seen_at")


class Held(NamedTuple):
    """A connection.

    Attributes:
        tenant: Whose user.
        user_id: The user.
        connection_id: Unique within the tenant.
        endpoint: Base URL of the management interface that reaches it.
        gateway: Which of our gateways holds it; ``FOREIGN``: none.
    """

    tenant: str
    user_id: str
    connection_id: str
    endpoint: str
    gateway: str


_REGISTER = Prepared(
    lambda insert: (
        insert(CONNECTIONS)
        .values({name: None for name in _COLUMNS})
        .on_conflict_do_nothing(index_elements=["tenant", "connection_id"])
    ),
    _COLUMNS,
)


def register(ledger: Ledger, connections: Sequence[Held], now: datetime) -> None:
    """Store new connections of a gateway of ours, all in one transaction."""
    ledger.write(_register, (connections, to_micros(now)))


def put(ledger: Ledger, held: Held, now: datetime) -> bool:
    """Store a connection that a tenant tells us of, in the place of what was told of it before.

    Returns:
        False where one of our own gateways holds a connection of this id: nothing is stored then.
    """
    return ledger.write(_put, (held, to_micros(now)))


def remove(ledger: Ledger, connections: Sequence[tuple[str, str]]) -> int:
    """Forget connections, by tenant and id; return how many there were."""
    return ledger.write(_remove, connections)


def remove_foreign(ledger: Ledger, tenant: str, connection_id: str) -> bool:
    """Forget a connection that a tenant told us of; False when there is none."""
    return ledger.write(_remove_foreign, (tenant, connection_id))


def remove_gateway(ledger: Ledger, gateway: str) -> int:
    """Forget all connections of one of our gateways: those of its former life, when it starts."""
    return ledger.write(_remove_gateway, gateway)


def keep(ledger: Ledger, gateway: str, now: datetime, held: Sequence[Held] = ()) -> int:
    """Say that a gateway's connections are there; forget those that nobody said that of in time. Return how many.

    Args:
        ledger: The ledger.
        gateway: Which.
        now: The clock.
        held: Those that it has. Where rows of them are missing, they are stored again: another gateway took this one
            for lost, while it was stopped, or could not reach the ledger.
    """
    return ledger.write(_keep, (gateway, now, held))


def forget_lost(ledger: Ledger, now: datetime) -> int:
    """Forget connections that nobody said in time are there, as ``keep`` does where a gateway runs; return how many."""
    return ledger.write(_forget_lost, now)


def of_users(ledger: Ledger, users: Iterable[User], now: datetime) -> dict[User, list[Held]]:
    """Return the connections of these users; users who have none are left out."""
    row, ordered = CONNECTIONS.c, sorted(set(users))
    found: dict[User, list[Held]] = {}
    with ledger.read() as conn:
        for start in range(0, len(ordered), _PIECE):
            these = tuple_(row.tenant, row.user_id).in_(ordered[start : start + _PIECE])
            query = select(row.tenant, row.user_id, row.connection_id, row.endpoint, row.gateway)
            query = query.where(these, _is_there(now))
            for each in conn.execute(query.order_by(row.connection_id)):
                held = Held._make(each)
                found.setdefault((held.tenant, held.user_id), []).append(held)
    return found


def _is_there(now: datetime) -> ColumnElement[bool]:
    row = CONNECTIONS.c
    ours = and_(row.gateway != FOREIGN, row.seen_at > to_micros(now - GATEWAY_LOST))
    return or_(ours, and_(row.gateway == FOREIGN, row.seen_at > to_micros(now - FOREIGN_LOST)))


def _register(conn: Connection, items: Sequence[tuple[Sequence[Held], int]]) -> list[None]:
    _REGISTER.run_many(conn, [(*_stored(held), at, at) for connections, at in items for held in connections])
    return [None for _ in items]


def _put(conn: Connection, items: Sequence[tuple[Held, int]]) -> list[bool]:
    results = []
    for held, at in items:
        values = dict(zip(_COLUMNS, (*_stored(held), at, at), strict=True))
        new = insert_for(conn.dialect.name)(CONNECTIONS).values(values)
        upsert = new.on_conflict_do_update(
            index_elements=["tenant", "connection_id"],
            set_={name: values[name] for name in _COLUMNS[2:]},
            where=CONNECTIONS.c.gateway == FOREIGN,
        )
        results.append(conn.execute(upsert).rowcount == 1)
    return results


def _stored(held: Held) -> tuple[str, str, str, str, str]:
    return held.tenant, held.connection_id, held.user_id, held.endpoint, held.gateway


def _remove(conn: Connection, items: Sequence[Sequence[tuple[str, str]]]) -> list[int]:
    results = []
    for connections in items:
        # In one order, so that two that forget the same wait for each other instead of in a ring.
        ordered, number = sorted(connections), 0
        for start in range(0, len(ordered), _PIECE):
            these = tuple_(CONNECTIONS.c.tenant, CONNECTIONS.c.connection_id).in_(ordered[start : start + _PIECE])
            number += conn.execute(delete(CONNECTIONS).where(these)).rowcount
        results.append(number)
    return results


def _remove_foreign(conn: Connection, items: Sequence[tuple[str, str]]) -> list[bool]:
    row = CONNECTIONS.c
    gone = delete(CONNECTIONS).where(row.gateway == FOREIGN)
    return [
        conn.execute(gone.where(row.tenant == tenant, row.connection_id == connection_id)).rowcount == 1
        for tenant, connection_id in items
    ]


def _remove_gateway(conn: Connection, items: Sequence[str]) -> list[int]:
    return [conn.execute(delete(CONNECTIONS).where(CONNECTIONS.c.gateway == gateway)).rowcount for gateway in items]


def _keep(conn: Connection, items: Sequence[tuple[str, datetime, Sequence[Held]]]) -> list[int]:
    results = []
    for gateway, now, held in items:
        mine, at = CONNECTIONS.c.gateway == gateway, to_micros(now)
        there = conn.execute(update(CONNECTIONS).where(mine).values(seen_at=at)).rowcount
        if there < len(held):
            _register(conn, [(held, at)])
        results += _forget_lost(conn, [now])
    return results


def _forget_lost(conn: Connection, items: Sequence[datetime]) -> list[int]:
    return [conn.execute(delete(CONNECTIONS).where(not_(_is_there(now)))).rowcount for now in items]
