"""Segments put together: a DuckDB database of views over several files, with everything that people read.

Belongs here: that database, and the empty one that says which tables and columns there are. Does not belong here: which
segments (``reading_versions``, ``checks``), their contents (``segments``).
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import duckdb

from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.catalogue import comments
from notify_pipeline.reports.database import schema_digest
from notify_pipeline.reports.manifests import Build, Segment

_OF_REPORT: Final = re.compile(r"\breport\.")
# The facts of the schemas that this process has attached: to ask the catalogue costs as much as a small report does.
_KNOWN: Final[dict[str, tuple["Fact", ...]]] = {}


@dataclass(frozen=True, slots=True)
class Fact:
    """A table of ``facts``: its name and its columns."""

    name: str
    columns: tuple[str, ...]

    @property
    def is_by_notification(self) -> bool:
        """True when its rows go with a tenant's notification."""
        return {"tenant", "notification_id"} <= set(self.columns)

    @property
    def names_notifications(self) -> bool:
        """True when its rows are computed anew with a notification id; if not, with a day."""
        return "notification_id" in self.columns

    @property
    def order(self) -> str:
        """The order of its rows: by acceptance, where they have that, so that a range of time is one of rows."""
        first = [name for name in ("accepted_at", "tenant", "notification_id") if name in self.columns]
        return ", ".join(f'"{name}"' for name in (*first, *(name for name in self.columns if name not in first)))


@dataclass(frozen=True, slots=True)
class Part:
    """A file to compose from.

    Attributes:
        file: Where it lies, relative to the reports root.
        schema: A digest of its tables' definitions; empty where that is not known.
        tables: Those of ``facts`` that have rows.
        hidden: Of a month (``months``), whose rows have a ``segment_day``: the days to pass over. None: of a day.
    """

    file: str
    schema: str
    tables: tuple[str, ...]
    hidden: tuple[str, ...] | None = None


def part_of(segment: Segment) -> Part:
    """Return a day's own file."""
    return Part(segment.file, segment.schema, segment.tables)


def attach_empty(connection: duckdb.DuckDBPyConnection) -> tuple[Fact, ...]:
    """Attach a report database without rows as ``report``, in memory, and return its facts."""
    connection.execute("ATTACH ':memory:' AS report")
    connection.execute(sql_text(__file__, "schema.sql"))
    digest = schema_digest()
    if digest not in _KNOWN:
        _KNOWN[digest] = facts_of(connection)
    return _KNOWN[digest]


def facts_of(connection: duckdb.DuckDBPyConnection) -> tuple[Fact, ...]:
    """Return the facts of the database attached as ``report``, in the order in which they were made."""
    rows = connection.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns()"
        " WHERE database_name = 'report' AND schema_name = 'facts' GROUP BY table_name, table_oid ORDER BY table_oid"
    ).fetchall()
    return tuple(Fact(name, tuple(columns)) for name, columns in rows)


def compose(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    facts: Sequence[Fact],
    members: Sequence[tuple[str, Part]],
    build: Build | None,
) -> None:
    """Attach a database of views: ``facts.<table>`` over the segments', ``main.<view>`` over those, and ``main.build``.

    Args:
        connection: With an empty report database as ``report`` (``attach_empty``) and the segments; used by no other
            thread.
        name: The new database's.
        facts: The empty database's.
        members: Each file with the name it is attached under.
        build: The row of ``main.build``; None: the first file's.
    """
    connection.execute(f"ATTACH ':memory:' AS {name}")
    statements = [f"CREATE SCHEMA {name}.facts", f"CREATE TABLE {name}.main.build AS FROM report.main.build"]
    statements += [f"CREATE VIEW {name}.facts.{fact.name} AS {rows_of_parts(fact, members)}" for fact in facts]
    if build is None:
        statements.append(f"INSERT INTO {name}.main.build BY NAME FROM {members[0][0]}.main.build")  # noqa: S608
    connection.execute("; ".join(statements))
    if build is not None:
        put_build(connection, name, build)
    # Views keep the names they are made with: those of the database that is in use.
    connection.execute(f"USE {name}")
    connection.execute(_OF_REPORT.sub(f"{name}.", sql_text(__file__, "views.sql")))
    connection.execute("USE memory")


def put_build(connection: duckdb.DuckDBPyConnection, name: str, build: Build) -> None:
    """Say in a composed database which build it shows."""
    connection.execute(f"TRUNCATE {name}.main.build")
    connection.execute(
        f"INSERT INTO {name}.main.build VALUES ($version, $built_at, $received_through, $settled_through, $files,"  # noqa: S608
        " $recomputed, $foreign_deliveries, $foreign_hits)",
        asdict(build),
    )


def describe(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the views of the composed database in use the comments that tell people what is in them."""
    name = connection.execute("SELECT current_database()").fetchall()[0][0]
    connection.execute(comments(name))


def rows_of_parts(fact: Fact, members: Sequence[tuple[str, Part]]) -> str:
    """Return the query of a table's rows in all members; columns that those of other models lack are null."""
    having = [(alias, part) for alias, part in members if fact.name in part.tables]
    ours = all(part.schema == schema_digest() for _, part in having)
    parts = [_rows(f"{alias}.facts.{fact.name}", part) for alias, part in having]
    if not parts or not ours:
        parts.insert(0, f"FROM report.facts.{fact.name}")
    return (" UNION ALL " if ours else " UNION ALL BY NAME ").join(parts)


def _rows(table: str, part: Part) -> str:
    if part.hidden is None:
        return f"FROM {table}"
    hidden = ", ".join(f"DATE '{day}'" for day in part.hidden)
    but = f" WHERE segment_day NOT IN ({hidden})" if hidden else ""
    return f"SELECT * EXCLUDE (segment_day) FROM {table}{but}"  # noqa: S608 - our own names
