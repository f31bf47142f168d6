"""Compares two versions of reports, table by table and day by day.

Belongs here: the rows that one has and the other lacks. Does not belong here: why (``build``), what to do about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from notify_pipeline.reports.build import Candidate
from notify_pipeline.reports.composed import Fact, attach_empty
from notify_pipeline.reports.database import attached, connect
from notify_pipeline.reports.manifests import Segment, Version

# By day: a segment and its file.
Files = Mapping[str, tuple[Segment, Path]]
_EXAMPLES: Final = 5


@dataclass(slots=True)
class Difference:
    """How many rows of a table only one of the two has, and some of them: which side, and the row as text."""

    rows: int = 0
    examples: list[str] = field(default_factory=list)


def files_of(version: Version | Candidate, root: Path) -> Files:
    """Return the files of a version or a candidate, by day."""
    if isinstance(version, Candidate):
        return {each.name: (each, version.path_of(each)) for each in version.version.segments}
    return {each.name: (each, root / each.file) for each in version.segments}


def compare(a: Files, b: Files, memory: str = "1GB") -> dict[str, Difference]:
    """Return by table what one of two versions has and the other lacks; empty when they are equal."""
    found: dict[str, Difference] = {}
    connection = connect(memory, 2)
    try:
        facts = attach_empty(connection)
        for name in sorted(a.keys() | b.keys()):
            if name in a and name in b and a[name][1] == b[name][1]:
                continue  # shared
            _compare_day(connection, facts, a.get(name), b.get(name), found)
    finally:
        connection.close()
    return found


def _compare_day(
    connection: duckdb.DuckDBPyConnection,
    facts: tuple[Fact, ...],
    a: tuple[Segment, Path] | None,
    b: tuple[Segment, Path] | None,
    found: dict[str, Difference],
) -> None:
    sides = {name: side for name, side in (("a", a), ("b", b)) if side is not None}
    names = [attached(connection, path, name=name, read_only=True) for name, (_, path) in sides.items()]
    for each in names:
        each.__enter__()
    try:
        for fact in facts:
            tables = {
                name: f"{name}.facts.{fact.name}" if name in sides and fact.name in sides[name][0].tables else None
                for name in ("a", "b")
            }
            for one, other in (("a", "b"), ("b", "a")):
                _compare_table(connection, fact, one, tables[one], tables[other], found)
    finally:
        for each in names:
            each.__exit__(None, None, None)


def _compare_table(
    connection: duckdb.DuckDBPyConnection,
    fact: Fact,
    side: str,
    one: str | None,
    other: str | None,
    found: dict[str, Difference],
) -> None:
    if one is None:
        return
    other = other or f"report.facts.{fact.name}"
    rows = f"(FROM {one}) EXCEPT ALL (FROM {other})"
    row = connection.execute(f"SELECT count(*) FROM ({rows})").fetchall()[0]  # noqa: S608 - ours
    if row[0]:
        difference = found.setdefault(fact.name, Difference())
        difference.rows += int(row[0])
        wanted = _EXAMPLES - len(difference.examples)
        query = f"SELECT t::VARCHAR FROM ({rows}) AS t ORDER BY ALL LIMIT {wanted}"  # noqa: S608 - our own names
        examples = connection.execute(query).fetchall()
        difference.examples += [f"only in {side}: {text}" for (text,) in examples]
