"""Fair claims: of the rows that wait, high priority before normal before low, and within one priority tenants in turn.

Belongs here: the order in which any queue of the ledger is claimed, and its access by index. Does not belong here: what
a claim stores (``deliveries``, ``routing``), which priorities may claim how much (whoever claims).

A claim goes round the tenants of a priority: one row of each, in due order, then another of each, until it has enough.
Where it stopped, the next one goes on (``turns``). So however much one tenant has queued, another's single row is in
the next claim that has room for a row of each tenant.

The queue's index is (…, priority_rank, tenant, due_at) over what waits. Tenants are found by seeking from one to the
next, and each tenant's rows from the longest due on: neither reads rows that wait for later, nor a tenant's others.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    TextClause,
    bindparam,
    func,
    literal,
    select,
    true,
    union_all,
)
from sqlalchemy.engine import RowMapping

from notify_pipeline.core.vocabulary import Priority

RANKS = len(Priority)


@dataclass(frozen=True, slots=True)
class Queue:
    """A table's rows that wait to be claimed.

    Attributes:
        table: With priority_rank, tenant and due_at.
        key: Its primary key.
        waiting: What the index answers: the words of its partial condition, literally (only then does SQLite know that
            the index covers the query), and equality on its columns before priority_rank. May bind parameters.
        free: What else a row must be; few rows that are due may fail it.
        columns: Those that a claim wants to see, besides priority_rank, tenant and due_at.
    """

    table: Table
    key: "Column[Any]"
    waiting: Sequence[ColumnElement[bool] | TextClause]
    free: Sequence[ColumnElement[bool]]
    columns: Sequence["Column[Any]"]
    tenants: Select[Any] = field(init=False)
    first: Select[Any] = field(init=False)
    rows: Mapping[str, Select[Any]] = field(init=False)

    def __post_init__(self) -> None:
        """Build the statements once: SQLAlchemy then knows them by identity."""
        object.__setattr__(self, "tenants", _tenants(self))
        object.__setattr__(self, "first", self.tenants.limit(1))
        object.__setattr__(self, "rows", {"sqlite": _rows_sqlite(self), "postgresql": _rows_postgres(self)})


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much a claim wants.

    Attributes:
        rooms: By rank, how many rows there may be of that rank and higher ones together; never more than the rank
            before has.
        turns: By rank, the tenant that the claimer's last claim stopped at.
    """

    rooms: tuple[int, ...]
    turns: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, limit: int) -> Self:
        """So many, whatever their priority."""
        return cls((limit,) * RANKS)

    @property
    def lowest(self) -> int:
        """The last rank that has room; -1 where none has."""
        return sum(room > 0 for room in self.rooms) - 1


def rooms(most: int, reserve: float, taken: int, least: int = 1) -> tuple[int, ...]:
    """Say how much more of each priority may be taken on where each leaves a part of the whole to the higher ones.

    Args:
        most: The whole.
        reserve: The part of it that each priority leaves to those above it.
        taken: How much of it is taken, by whomever.
        least: Less room than this is none: it would not be worth a claim.
    """
    left = (most - rank * int(most * reserve) - taken for rank in range(RANKS))
    return tuple(room if room >= least else 0 for room in left)


# Of claimed rows: the keys. Makes them not wait any more.
Mark = Callable[[Connection, Sequence[str]], object]


def is_due(conn: Connection, queue: Queue, wanted: Wanted, **bound: Any) -> bool:
    """Tell whether ``claim`` would find anything.

    Args:
        conn: Where to read.
        queue: The queue.
        wanted: Which priorities count.
        bound: What the queue's conditions bind, and ``now``: microseconds since the epoch.
    """
    return conn.execute(queue.first, {"lowest": wanted.lowest, **bound}).first() is not None


def claim(conn: Connection, queue: Queue, wanted: Wanted, mark: Mark, **bound: Any) -> list[RowMapping]:
    """Lock and mark the next rows; rows that another transaction has locked are passed over.

    Args:
        conn: The transaction.
        queue: The queue.
        wanted: How much, of which priorities, and whose turn it is.
        mark: Makes rows claimed.
        bound: What the queue's conditions bind, and ``now``: microseconds since the epoch.

    Returns:
        The rows as they were before, in the order in which they should be worked on.
    """
    if wanted.lowest < 0:
        return []
    found: dict[int, list[str]] = {}
    for rank, tenant in conn.execute(queue.tenants, {"lowest": wanted.lowest, **bound}):
        found.setdefault(rank, []).append(tenant)
    taken: list[RowMapping] = []
    for rank, tenants in sorted(found.items()):
        last = wanted.turns.get(rank, "")
        line = sorted(tenants, key=lambda tenant: (tenant <= last, tenant))
        while line and (left := wanted.rooms[rank] - len(taken)) > 0:
            share, asked = max(1, left // len(line)), line[:left]
            rows = _next_rows(conn, queue, {**bound, "rank": rank, "share": share}, asked)
            mark(conn, [row[queue.key.name] for row in rows])
            taken += rows
            got = Counter(row["tenant"] for row in rows)
            line = line[left:] + [tenant for tenant in asked if got[tenant] == share]
    return taken


def _next_rows(
    conn: Connection, queue: Queue, bound: Mapping[str, Any], tenants: Sequence[str]
) -> Sequence[RowMapping]:
    """Return up to ``share`` rows of each tenant: the first of each in the given order, then the second of each."""
    name = conn.dialect.name
    asked: Any = orjson.dumps(tenants).decode() if name == "sqlite" else list(tenants)
    rows = conn.execute(queue.rows[name], {**bound, "tenants": asked}).mappings().all()
    position = {tenant: number for number, tenant in enumerate(tenants)}
    turn: Counter[str] = Counter()
    placed: list[tuple[int, int, RowMapping]] = []
    for row in sorted(rows, key=lambda row: row["due_at"]):
        tenant = row["tenant"]
        placed.append((turn[tenant], position[tenant], row))
        turn[tenant] += 1
    return [row for _, _, row in sorted(placed, key=lambda each: each[:2])]


def _tenants(queue: Queue) -> Select[Any]:
    """(rank, tenant) of everybody who has a row that is due, up to the rank ``lowest``."""
    at = queue.table.c
    ranks = union_all(*(select(literal(rank).label("rank")) for rank in range(RANKS))).subquery("ranks")
    first = select(at.tenant).where(*queue.waiting, at.priority_rank == ranks.c.rank)
    walk = (
        select(ranks.c.rank, _least(first, at.tenant).label("tenant"))
        .where(ranks.c.rank <= bindparam("lowest"))
        .cte("walk", recursive=True)
    )
    following = select(at.tenant).where(*queue.waiting, at.priority_rank == walk.c.rank, at.tenant > walk.c.tenant)
    step = select(walk.c.rank, _least(following, at.tenant)).where(walk.c.tenant.isnot(None))
    walk = walk.union_all(step)
    due = _due(queue, walk.c.rank).where(at.tenant == walk.c.tenant)
    # Not EXISTS, which PostgreSQL would turn into a join with everything that is due.
    head = _least(due.with_only_columns(at.due_at), at.due_at)
    return select(walk.c.rank, walk.c.tenant).where(walk.c.tenant.isnot(None), head.isnot(None))


def _least(query: Select[Any], column: ColumnElement[Any]) -> Any:
    return query.order_by(column).limit(1).scalar_subquery()


def _due(queue: Queue, rank: ColumnElement[Any]) -> Select[Any]:
    at = queue.table.c
    return select(queue.key).where(*queue.waiting, at.priority_rank == rank, at.due_at <= bindparam("now"), *queue.free)


def _rows_sqlite(queue: Queue) -> Select[Any]:
    at = queue.table.c
    asked = func.json_each(bindparam("tenants", type_=Text)).table_valued("value", name="asked")
    next_ = (
        _due(queue, bindparam("rank"))
        .where(at.tenant == asked.c.value)
        .order_by(at.due_at)
        .limit(bindparam("share"))
        .correlate(asked)
    )
    row = queue.table.alias("claimed")
    return select(*(row.c[column.name] for column in _shown(queue))).join_from(
        asked, row, row.c[queue.key.name].in_(next_)
    )


def _rows_postgres(queue: Queue) -> Select[Any]:
    at = queue.table.c
    asked = func.unnest(bindparam("tenants", type_=ARRAY(Text))).table_valued("value", name="asked").render_derived()
    next_ = (
        _due(queue, bindparam("rank"))
        .with_only_columns(*_shown(queue))
        .where(at.tenant == asked.c.value)
        .order_by(at.due_at)
        .limit(bindparam("share"))
        .with_for_update(skip_locked=True)
        .lateral("claimed")
    )
    return select(next_).join_from(asked, next_, true())


def _shown(queue: Queue) -> "list[Column[Any]]":
    at = queue.table.c
    return list(dict.fromkeys((queue.key, *queue.columns, at.priority_rank, at.tenant, at.due_at)))
