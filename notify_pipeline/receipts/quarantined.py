"""What is in quarantine, for people: by file and reason, and the lines themselves.

Belongs here: reading it. Does not belong here: what goes there (``lines``), the command (``commands``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.schemas import QUARANTINE
from notify_pipeline.receipts.logs import source_of


@dataclass(frozen=True, slots=True)
class Quarantined:
    """How much of a log file is in quarantine for one reason."""

    source_file: str
    reason: str
    lines: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line in quarantine; ``raw`` is its first kilobyte."""

    source_file: str
    line_no: int
    reason: str
    raw: str


def by_file(lake: Lake, hours: Iterable[datetime], source: str | None = None) -> list[Quarantined]:
    """Count what is in quarantine in some hours, of one source or of all, the most first."""
    counts = Counter(
        (row["source_file"], row["reason"])
        for row in _rows(lake, hours, ["source_file", "reason"])
        if source in (None, source_of(row["source_file"]))
    )
    return [Quarantined(file, reason, lines) for (file, reason), lines in sorted(counts.items(), key=_most)]


def lines(lake: Lake, hours: Iterable[datetime], source: str | None = None, limit: int = 20) -> list[Line]:
    """Return the first lines in quarantine, in the order of hours, files and lines."""
    found = (
        Line(row["source_file"], row["line_no"], row["reason"], row["raw"])
        for row in _rows(lake, hours, ["source_file", "line_no", "reason", "raw"])
        if source in (None, source_of(row["source_file"]))
    )
    return list(islice(found, limit))


def _rows(lake: Lake, hours: Iterable[datetime], columns: list[str]) -> Iterator[dict[str, Any]]:
    for hour in hours:
        for file in lake.list(partition(QUARANTINE, hour)):
            try:
                yield from lake.read(file.path, columns=columns).to_pylist()
            except FileNotFoundError:  # its log file was replaced meanwhile
                continue


def _most(item: tuple[tuple[str, str], int]) -> tuple[int, tuple[str, str]]:
    return -item[1], item[0]
