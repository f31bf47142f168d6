"""Pages of long tables by filters that no index answers: a walk along the index that gives the order, bounded.

Belongs here: walking, and merging the walks of several tenants into one page. Does not belong here: which tables,
filters and columns there are (``request_lists``, ``audit``).

Filters that match often fill a page at once. One that hardly ever matches would read the whole table for it: instead
the walk stops after so many rows, and the page is short, but says where to go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, literal, select, tuple_

# What a list is sorted by: a moment in microseconds since the epoch (or an id), and an id that tells equal ones apart.
Key = tuple[int | str, str]

# Rows that one page looks at, for all its tenants together: some 20 ms.
MOST_ROWS = 5_000
# The first stretch; each further one is that many times longer. Short first: most filters match often.
_FIRST_ROWS, _LONGER = 512, 8


@dataclass(frozen=True, slots=True)
class Order:
    """What a list is sorted by."""

    at: ColumnElement[Any]
    id: ColumnElement[Any]
    newest_first: bool = True

    def beyond(self, key: Key) -> ColumnElement[bool]:
        """Return the condition of coming after a key."""
        mine, other = tuple_(self.at, self.id), tuple_(literal(key[0]), literal(key[1]))
        return mine < other if self.newest_first else mine > other

    def through(self, key: Key) -> ColumnElement[bool]:
        """Return the condition of coming no later than a key."""
        mine, other = tuple_(self.at, self.id), tuple_(literal(key[0]), literal(key[1]))
        return mine >= other if self.newest_first else mine <= other

    @property
    def by(self) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """Return what to ORDER BY."""
        return (self.at.desc(), self.id.desc()) if self.newest_first else (self.at.asc(), self.id.asc())


@dataclass(frozen=True, slots=True)
class Walked:
    """What one walk found, in order; ``stopped`` is the last row it looked at where it did not look at all."""

    keys: Sequence[Key]
    stopped: Key | None = None


def walk(
    conn: Connection,
    order: Order,
    where: Sequence[ColumnElement[bool]],
    filters: Sequence[ColumnElement[bool]],
    after: Key | None,
    limit: int,
    most_rows: int = MOST_ROWS,
) -> Walked:
    """Return up to ``limit`` keys that fit.

    Args:
        conn: The connection.
        order: An index begins with what ``where`` fixes and goes on with this order's moment.
        where: What the index answers.
        filters: What it does not.
        after: Where the page before ended.
        limit: At most so many.
        most_rows: Rows to look at.
    """
    keys = select(order.at, order.id).where(*where).order_by(*order.by)
    if not filters:
        found = keys if after is None else keys.where(order.beyond(after))
        return Walked([(row[0], row[1]) for row in conn.execute(found.limit(limit))])
    matched: list[Key] = []
    size, looked = min(_FIRST_ROWS, most_rows), 0
    while True:
        stretch = keys if after is None else keys.where(order.beyond(after))
        end = conn.execute(stretch.offset(size - 1).limit(1)).first()
        if end is not None:
            stretch = stretch.where(order.through((end[0], end[1])))
        fitting = stretch.where(*filters).limit(limit - len(matched))
        matched += [(row[0], row[1]) for row in conn.execute(fitting)]
        if end is None or len(matched) == limit:
            return Walked(matched)
        after, looked = (end[0], end[1]), looked + size
        if looked >= most_rows:
            return Walked(matched, after)
        size = min(size * _LONGER, most_rows - looked)


def merge(walks: Sequence[Walked], newest_first: bool, limit: int) -> tuple[list[Key], Key | None]:
    """Return one page of several walks that looked for at least ``limit + 1``, and where the next one begins.

    What lies beyond where some walk stopped waits for the next page: that walk may have missed what comes before it.
    """
    stops = [each.stopped for each in walks if each.stopped is not None]
    horizon = (max(stops) if newest_first else min(stops)) if stops else None
    keys = sorted((key for each in walks for key in each.keys), reverse=newest_first)
    if horizon is not None:
        keys = [key for key in keys if (key >= horizon if newest_first else key <= horizon)]
    if len(keys) > limit:
        return keys[:limit], keys[limit - 1]
    return keys, horizon
