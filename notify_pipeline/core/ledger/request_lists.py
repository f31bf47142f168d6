"""Lists of requests by filters, newest first, page by page.

Belongs here: which requests a page holds, and when each came to its states. Does not belong here: one request
(``requests``), who got it (``recipient_pages``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, text

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import walks
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import RequestRow, to_row
from notify_pipeline.core.ledger.tables import AUDIT, REQUESTS
from notify_pipeline.core.ledger.walks import Key, Order, Walked
from notify_pipeline.core.vocabulary import FINAL_STATES, Channel, Priority, RequestState

# In the words of the partial indexes, literally: only then does SQLite know that they cover the query.
_OPEN = text("requests.state IN ('accepted', 'routed', 'sending')")
_UNREACHED = text("requests.state IN ('failed', 'cancelled', 'expired', 'unrouted')")
# Open requests are found by their own index and sorted here; where there are more, they are found on the way.
_MOST_OPEN = 2_000
_ORDER = Order(REQUESTS.c.accepted_at, REQUESTS.c.request_id)


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests to list; None means any. ``since`` is inclusive, ``until`` exclusive, both of acceptance.

    ``channel`` is one that the request has recipients on, which is known once it is routed.
    """

    state: RequestState | None = None
    type: str | None = None
    category: str | None = None
    priority: Priority | None = None
    channel: Channel | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def span(self) -> list[ColumnElement[bool]]:
        """The condition on the time of acceptance."""
        at = REQUESTS.c.accepted_at
        since = [] if self.since is None else [at >= to_micros(self.since)]
        return since if self.until is None else [*since, at < to_micros(self.until)]

    @property
    def rest(self) -> list[ColumnElement[bool]]:
        """The conditions on anything but state and time."""
        equal = {
            REQUESTS.c.type: self.type,
            REQUESTS.c.category: self.category,
            REQUESTS.c.priority_rank: None if self.priority is None else self.priority.rank,
        }
        found = [column == value for column, value in equal.items() if value is not None]
        if self.channel is not None:
            # The counts' JSON has a channel's name as a key and nowhere else.
            found.append(REQUESTS.c.counts.contains(f'"{self.channel.value}":', autoescape=True))
        return found

    def fits(self, row: RequestRow) -> bool:
        """Tell whether a request that was found in another way is one of those."""
        equal = [
            (self.state, row.state),
            (self.type, row.type),
            (self.category, row.category),
            (self.priority, row.priority),
            (self.channel, self.channel if self.channel in row.counts else None),
        ]
        return (
            all(asked is None or asked == has for asked, has in equal)
            and (self.since is None or row.accepted_at >= self.since)
            and (self.until is None or row.accepted_at < self.until)
        )


@dataclass(frozen=True, slots=True)
class RequestPage:
    """A page; ``following`` is where the next one begins, None at the end. A page may be short, or empty, before it."""

    rows: Sequence[RequestRow]
    following: Key | None


@dataclass(frozen=True, slots=True)
class Times:
    """When a request came to its states; None for those it has not come to, or has passed by."""

    routed_at: datetime | None = None
    sending_at: datetime | None = None
    ended_at: datetime | None = None


def page(
    ledger: Ledger, tenants: Sequence[str], where: RequestFilter, limit: int, after: Key | None = None
) -> RequestPage:
    """Return these tenants' requests, newest first.

    New ones do not move the pages that follow: a cursor is a place in the order. It costs one query or two for each
    tenant, and looks at ``walks.MOST_ROWS`` rows at most.

    Args:
        ledger: The ledger.
        tenants: Whose; at least one.
        where: Which.
        limit: At most so many.
        after: ``following`` of the page before.
    """
    most_rows = max(walks.MOST_ROWS // len(tenants), limit + 1)
    with ledger.read() as conn:
        found = [_of_tenant(conn, tenant, where, limit + 1, after, most_rows) for tenant in tenants]
        keys, following = walks.merge(found, _ORDER.newest_first, limit)
        return RequestPage(_load(conn, [request_id for _, request_id in keys]), following)


def times(ledger: Ledger, request_ids: Sequence[str]) -> dict[str, Times]:
    """Return when these requests came to their states, by request; as many as a page has."""
    moved = (AUDIT.c.request_id, AUDIT.c.to_state, AUDIT.c.at)
    query = select(*moved).where(AUDIT.c.request_id.in_(request_ids), AUDIT.c.to_state.isnot(None))
    found: dict[str, dict[str, datetime]] = {request_id: {} for request_id in request_ids}
    with ledger.read() as conn:
        for request_id, state, at in conn.execute(query):
            name = "ended_at" if state in FINAL_STATES else f"{state}_at"
            found[request_id][name] = from_micros(at)
    return {
        request_id: Times(at.get("routed_at"), at.get("sending_at"), at.get("ended_at"))
        for request_id, at in found.items()
    }


def _of_tenant(
    conn: Connection, tenant: str, where: RequestFilter, limit: int, after: Key | None, most_rows: int
) -> Walked:
    mine: list[Any] = [REQUESTS.c.tenant == tenant, *where.span]
    filters = where.rest
    if where.state is not None:
        state = REQUESTS.c.state == str(where.state)
        if where.state in FINAL_STATES and where.state is not RequestState.DONE:
            # State first: SQLite weighs conditions in their order, and would take the index of all requests.
            mine = [state, _UNREACHED, *mine]
        else:
            if where.state is not RequestState.DONE and (few := _few_open(conn, [*mine, state, *filters])) is not None:
                return Walked([key for key in few if after is None or key < after][:limit])
            filters = [*filters, state]
    return walks.walk(conn, _ORDER, mine, filters, after, limit, most_rows)


def _few_open(conn: Connection, where: Sequence[ColumnElement[bool]]) -> list[Key] | None:
    """Return all that fit, newest first; None when they are too many to sort."""
    ranks = REQUESTS.c.priority_rank.in_([priority.rank for priority in Priority])
    query = select(REQUESTS.c.accepted_at, REQUESTS.c.request_id).where(_OPEN, ranks, *where)
    rows = conn.execute(query.limit(_MOST_OPEN + 1)).all()
    return None if len(rows) > _MOST_OPEN else sorted(((row[0], row[1]) for row in rows), reverse=True)


def _load(conn: Connection, request_ids: Sequence[str]) -> list[RequestRow]:
    query = select(REQUESTS).where(REQUESTS.c.request_id.in_(request_ids))
    found = {row["request_id"]: to_row(row) for row in conn.execute(query).mappings()} if request_ids else {}
    return [found[request_id] for request_id in request_ids if request_id in found]
