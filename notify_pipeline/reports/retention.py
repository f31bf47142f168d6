"""Letting go of what is older than its setting says: first reports are frozen, then files go.

Belongs here: finding out what may go, freezing, deleting. Does not belong here: the rule (``core.retention``), the
history of registrations (``delivery.audience_history``), old report versions (``versions``), when (``defs``).

Each step leaves a state that the next run goes on from: frozen reports whose raw data is still there; files that the
ledger has forgotten and that a listing of the lake still finds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from notify_pipeline.core import retention
from notify_pipeline.core.ids import new_id
from notify_pipeline.core.lake import Lake, LakeFile
from notify_pipeline.core.ledger import compactions, leases, retaining
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.retention import SOURCES, Cut, Hold
from notify_pipeline.core.schemas import LANDING_TABLES, REGISTRATIONS, TABLES
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import frozen
from notify_pipeline.reports.extracts import ROOT as EXTRACTS
from notify_pipeline.reports.reading import ReportReader

SNAPSHOTS: Final = "snapshots"
# Before every day that anything can be of.
_NEVER: Final = date(1970, 1, 2)
# A version says nothing of files that came after its builder had listed the lake; no build takes that long.
_UNREAD: Final = timedelta(hours=1)
_LEASE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Going:
    """What goes, or went, of one table.

    Attributes:
        table: The folder below the lake root.
        files: Its files; of registrations, those that are gone through for superseded rows.
        before: Partitions of days before this one; None: not by day.
        held_by: Why fewer days go than the setting says.
    """

    table: str
    files: tuple[LakeFile, ...]
    before: date | None = None
    held_by: str | None = None

    @property
    def bytes(self) -> int:
        """All files together."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does: ``freeze_before`` moves first; None: nothing that reports are made of goes."""

    freeze_before: date | None
    going: tuple[Going, ...]


def plan(settings: Settings, ledger: Ledger, lake: Lake, reader: ReportReader, now: datetime) -> Plan:
    """Find out what may go now. Changes nothing."""
    days = {name: getattr(settings, f"lake_{name}_days") for name in (*TABLES, EXTRACTS)}
    today = now.astimezone(UTC).date()
    holds = list(_holds(ledger, reader)) if any(days[table] for table in SOURCES) else []
    cuts = retention.cuts(days, today, holds)
    if (unread := _unread(lake, reader, cuts)) is not None:
        cuts = retention.cuts(days, today, [*holds, unread])
    going = [Going(cut.table, tuple(_files(lake, cut)), cut.before, cut.held_by) for cut in cuts]
    going = [each for each in going if each.files or each.held_by]
    if settings.lake_snapshots_days is not None:
        old = _snapshots(ledger, lake, now - timedelta(days=settings.lake_snapshots_days))
        going += [Going(SNAPSHOTS, old)] if old else []
    moving = [cut for cut in cuts if any(each.table == cut.table and each.files for each in going)]
    return Plan(retention.freeze(moving), tuple(going))


def carry_out(planned: Plan, settings: Settings, ledger: Ledger, lake: Lake, now: datetime) -> Iterator[Going]:
    """Freeze, then delete table by table; yield what went of each.

    A table that is being compacted is left to the next run, and so are files that the lander may be writing.
    Registrations are not dealt with here.
    """
    lease = leases.acquire(ledger, "retention", new_id(), _LEASE_S, now)
    if lease is None:
        return
    try:
        if planned.freeze_before is not None:
            frozen.move(settings.reports, planned.freeze_before)
        for each in planned.going:
            if each.table != REGISTRATIONS.name and each.files:
                yield _delete(each, ledger, lake, now)
    finally:
        leases.release(ledger, lease)


def _delete(going: Going, ledger: Ledger, lake: Lake, now: datetime) -> Going:
    if going.table not in LANDING_TABLES or going.before is None:
        lake.delete(file.path for file in going.files)
        return going
    lease = leases.acquire(ledger, f"compaction/{going.table}", new_id(), _LEASE_S, now)
    if lease is None:
        return replace(going, files=(), held_by="it is being compacted")
    try:
        until = datetime.combine(going.before, time(), UTC)
        left = retaining.forget_files(ledger, going.table, [file.path for file in going.files], until)
        gone = tuple(file for file in going.files if file.path not in left)
        lake.delete(file.path for file in gone)
        return replace(going, files=gone)
    finally:
        leases.release(ledger, lease)


def _holds(ledger: Ledger, reader: ReportReader) -> Iterator[Hold]:
    if (at := retaining.oldest_open_request(ledger)) is not None:
        yield Hold(at.date(), f"a request accepted at {at:%Y-%m-%d %H:%M} is not over")
    if (at := retaining.oldest_unlanded(ledger)) is not None:
        yield Hold(at.date(), f"rows of {at:%Y-%m-%d %H:%M} have not landed")
    with reader.cursor() as cursor:
        if cursor is None:
            yield Hold(_NEVER, "no report version was published yet")
            return
        # As text: its Python type would need pytz.
        (found,) = cursor.execute(
            "SELECT strftime(min(accepted_at), '%Y-%m-%d') FROM notifications WHERE NOT settled"
        ).fetchall()
        if found[0] is not None:
            yield Hold(date.fromisoformat(found[0]), f"reports of {found[0]} have not settled")


def _unread(lake: Lake, reader: ReportReader, cuts: list[Cut]) -> Hold | None:
    """Return what holds everything if files that tell of days to be frozen came after the current version."""
    version = reader.version()
    if version is None:
        return None
    for cut in cuts:
        if cut.table in SOURCES:
            near = replace(cut, before=retention.frozen_for(cut.before))
            if any(file.modified > version.published_at - _UNREAD for file in _files(lake, near)):
                return Hold(_NEVER, f"reports have not read all files of {cut.table}")
    return None


def _files(lake: Lake, cut: Cut) -> Iterator[LakeFile]:
    roots = [cut.table] if cut.table in TABLES else [f"{cut.table}/{name}" for name in lake.folders(cut.table)]
    for root in roots:
        for folder in lake.folders(root):
            if retention.goes(folder, cut.before):
                yield from lake.list(f"{root}/{folder}", suffix="")


def _snapshots(ledger: Ledger, lake: Lake, before: datetime) -> tuple[LakeFile, ...]:
    by_request: dict[str, list[LakeFile]] = {}
    for file in lake.list(SNAPSHOTS, suffix=""):
        request = file.path.split("/")[1].removeprefix("request=")
        by_request.setdefault(request, []).append(file)
    old = {name for name, files in by_request.items() if all(file.modified < before for file in files)}
    over = compactions.finished_requests(ledger, old)
    return tuple(file for name in sorted(over) for file in by_request[name])
