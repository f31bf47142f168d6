"""What of the lake may go: how long each table is kept, and what must stay nonetheless. Pure.

Belongs here: the days that go, why others stay, and the day before which reports must be frozen first. Does not belong
here: finding out what is open (``ledger.retaining``), freezing and deleting (``reports.retention``).

Reports are computed from the lake. Of a partition's day D, files tell of notifications accepted on D or before, or, in
logs, an hour after its end (hosts' clocks differ). So before the last such day goes, reports of everything accepted
before D + 2 are frozen; and they can be frozen only as far as all of them say their last word.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from notify_pipeline.core.schemas import ATTEMPTS, AUDIENCES, AUDIT, RECEIPTS, REGISTRATIONS, REQUESTS

# What report tables are made of.
SOURCES: Final = frozenset(table.name for table in (REGISTRATIONS, REQUESTS, AUDIENCES, AUDIT, ATTEMPTS, RECEIPTS))
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Hold:
    """Something that is not over.

    Attributes:
        day: Reports of notifications accepted on this day or later must not be frozen.
        reason: Why, for the operator.
    """

    day: date
    reason: str


@dataclass(frozen=True, slots=True)
class Cut:
    """What goes of one table.

    Attributes:
        table: The folder below the lake root.
        before: Partitions of days before this one go.
        wanted: The day that the setting says; later than ``before`` where something holds it.
        held_by: What does.
    """

    table: str
    before: date
    wanted: date
    held_by: str | None = None


def cuts(days: Mapping[str, int | None], today: date, holds: Iterable[Hold]) -> list[Cut]:
    """Return what goes of each table that is not kept for ever.

    Args:
        days: How many whole days before today are kept, by table; None: all.
        today: UTC's.
        holds: What is not over.
    """
    first = min(holds, key=lambda hold: hold.day, default=None)
    found = []
    for table, kept in sorted(days.items()):
        if kept is None:
            continue
        wanted = today - timedelta(days=kept)
        if table in SOURCES and first is not None and frozen_for(wanted) > first.day:
            found.append(Cut(table, first.day - _DAY, wanted, first.reason))
        else:
            found.append(Cut(table, wanted, wanted))
    return found


def frozen_for(before: date) -> date:
    """Return the day before which reports must be frozen, for partitions of days before ``before`` to go."""
    return before + _DAY


def freeze(planned: Iterable[Cut]) -> date | None:
    """Return the day before which reports are to be frozen; None: nothing that they are made of goes."""
    return max((frozen_for(cut.before) for cut in planned if cut.table in SOURCES), default=None)


def goes(path: str, before: date) -> bool:
    """Tell whether a file's partition is of a day before."""
    name = next((part for part in path.split("/") if part.startswith("date=")), None)
    return name is not None and date.fromisoformat(name.removeprefix("date=")) < before
