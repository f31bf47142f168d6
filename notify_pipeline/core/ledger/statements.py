"""Statements compiled once per dialect, for the writes that every request pays for.

Belongs here: the shortcut past SQLAlchemy's per-call work, and the two dialects' upsert. Does not belong here: any
particular statement.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol

import orjson
from sqlalchemy import ColumnElement, Connection, CursorResult, Table, Text, any_, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg2
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

Values = tuple[Any, ...]


class Upsert(Protocol):
    """``insert(table)`` of a dialect that knows ON CONFLICT."""

    def __call__(self, table: Table) -> "postgresql.Insert":
        """Begin an INSERT into the table."""


def insert_for(dialect: str) -> Upsert:
    """Return the dialect's own ``insert``; SQLite's and PostgreSQL's ON CONFLICT have the same methods."""
    return sqlite.insert if dialect == "sqlite" else postgresql.insert  # type: ignore[return-value]


def among(conn: Connection, column: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a text column is one of these: one parameter however many there are.

    For lists of hundreds that are asked for often: SQLAlchemy spends some 2 µs on each parameter of an ``IN``.
    """
    if conn.dialect.name == "sqlite":
        given = func.json_each(orjson.dumps(values).decode()).table_valued("value")
        return column.in_(select(given.c.value))
    return column == any_(literal(values, postgresql.ARRAY(Text)))


# SQLite takes 32,766 parameters in a statement; no table here has more than 32 columns.
_MOST_ROWS = 512

_DIALECTS: dict[str, Callable[[], Dialect]] = {
    "sqlite": lambda: sqlite.dialect(paramstyle="qmark"),
    "postgresql": lambda: psycopg2.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}


class Prepared:
    """A statement compiled at first use and then run as text with positional values.

    SQLAlchemy spends 20-60 µs on each execution of a Core statement (cache key, result metadata, type processing);
    this spends about 10. Types are not processed, so only columns whose Python and stored forms agree may take part.
    """

    __slots__ = ("_build", "_names", "_sql")

    def __init__(self, build: Callable[[Upsert], ClauseElement], names: tuple[str, ...]) -> None:
        """Take what builds the statement, and its parameters in the order in which values will come."""
        self._build = build
        self._names = names
        self._sql: dict[str, str] = {}

    def text(self, conn: Connection) -> str:
        """Return the SQL of the connection's dialect."""
        name = conn.dialect.name
        if name not in self._sql:
            compiled = self._build(insert_for(name)).compile(dialect=_DIALECTS[name]())
            if (order := tuple(getattr(compiled, "positiontup", None) or ())) != self._names:
                raise ValueError(f"the statement takes {order}, not {self._names}")
            self._sql[name] = str(compiled)
        return self._sql[name]

    def run_values(self, conn: Connection, values: Values) -> CursorResult[Any]:
        """Execute once."""
        return conn.exec_driver_sql(self.text(conn), values)

    def run_many(self, conn: Connection, rows: Sequence[Values]) -> int:
        """Execute an ``INSERT … VALUES`` for many tuples; return the rows affected.

        Few statements of many rows rather than many of one: between statements the interpreter's lock changes hands,
        which under load costs more than the inserting.
        """
        affected, start = 0, 0
        while start < len(rows):
            # Powers of two, so that the driver's cache of compiled statements holds every size there is.
            size = min(_MOST_ROWS, 1 << ((len(rows) - start).bit_length() - 1))
            values = tuple(chain.from_iterable(rows[start : start + size]))
            affected += conn.exec_driver_sql(self._text_of(conn, size), values).rowcount
            start += size
        return affected

    def _text_of(self, conn: Connection, rows: int) -> str:
        key = f"{conn.dialect.name} {rows}"
        if key not in self._sql:
            one = self.text(conn)
            mark = "?" if conn.dialect.name == "sqlite" else "%s"
            group = f"({', '.join([mark] * len(self._names))})"
            if one.count(group) != 1:
                raise ValueError(f"not one group of values in: {one}")
            self._sql[key] = one.replace(group, ", ".join([group] * rows))
        return self._sql[key]
