"""One hour's log files brought into the lake: a Parquet file of events per log file, and one of quarantined lines.

Belongs here: which results exist, which are stale, and writing them. Does not belong here: parsing (``files``), finding
out which hours changed (``logs``), anything that sends.
"""

import os
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from notify_pipeline.core.lake import Lake, LakeFile
from notify_pipeline.core.partitions import hour_start
from notify_pipeline.core.schemas import QUARANTINE, RECEIPTS
from notify_pipeline.receipts import side_by_side
from notify_pipeline.receipts.counts import FileCounts, HourCounts, hour_counts
from notify_pipeline.receipts.files import ParsedFile, parse_file, to_parquet
from notify_pipeline.receipts.formats import Parsers
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.receipts.results import result_key, result_keys, result_path
from notify_pipeline.receipts.retractions import retracted

# Metadata keys of a receipts file.
SOURCE_FILE: Final = "source_file"
SOURCE_ETAG: Final = "source_etag"
_learnt = threading.local()


@dataclass(frozen=True, slots=True)
class HourReport:
    """What processing an hour did. Counts of lines are of the files parsed this time.

    Attributes:
        hour: The hour.
        files: Log files of the hour.
        parsed: Those parsed now; the others had been before.
        removed: Results removed because their log file was replaced, or taken back.
        lines: Lines read.
        events: Lines that are beacons of ours.
        other: Lines of other traffic, and blank ones.
        quarantined: Lines, and rests of damaged files, put into quarantine.
        reasons: How many of these by reason.
        total: All results of the hour together, whenever they were parsed.
    """

    hour: datetime
    files: int
    parsed: int
    removed: int
    lines: int
    events: int
    other: int
    quarantined: int
    reasons: dict[str, int]
    total: HourCounts


def process_hour(
    lake: Lake, logs: Logs, hour: datetime, *, reparse: bool = False, at_once: int | None = None
) -> HourReport:
    """Bring the lake in line with one hour's log files.

    Running it again, or in several processes at once, gives byte-identical files. A log file whose content changed
    replaces its former result; one that disappeared keeps it, since raw logs are kept for less long than the lake.

    Args:
        lake: Takes the results.
        logs: The raw logs.
        hour: Any moment of the hour.
        reparse: Parse files again that already were, as after a change of the parser.
        at_once: How many files are parsed side by side; default: one per CPU.

    Returns:
        What was done. What a file raised that cannot be read is raised when all others have been.
    """
    gone = retracted(lake, hour).keys()
    files = [file for file in logs.files(hour) if file.path not in gone]
    keyed = {result_key(file): file for file in files}
    done = result_keys(lake, hour)
    todo = [(key, file) for key, file in keyed.items() if reparse or key not in done]
    counts = _parse_all(lake, logs, hour, todo, at_once or os.cpu_count() or 1)
    stale = _replaced(lake, hour, done - keyed.keys(), {file.path for file in files} | gone)
    stale += _replaced_meanwhile(lake, logs, hour, todo) if todo else []
    remove_results(lake, hour, stale)
    now = HourCounts.of(counts)
    return HourReport(
        hour=hour_start(hour),
        files=len(files),
        parsed=len(counts),
        removed=len(stale),
        lines=now.lines,
        events=now.events,
        other=now.other,
        quarantined=now.quarantined,
        reasons=now.reasons,
        total=hour_counts(lake, hour, counts),
    )


def results_of(lake: Lake, hour: datetime, source_file: str) -> list[str]:
    """Return the names of all results that came of a log file, whatever its content was."""
    return _replaced(lake, hour, result_keys(lake, hour), {source_file})


def remove_results(lake: Lake, hour: datetime, keys: list[str]) -> None:
    """Remove results. The receipts go last: as long as they are there, the next run finds the rest."""
    lake.delete([result_path(QUARANTINE, hour, key) for key in keys])
    lake.delete([result_path(RECEIPTS, hour, key) for key in keys])


@dataclass(frozen=True, slots=True)
class _Parse:
    """Parse a log file and write its results; return their key and the counts."""

    lake: Lake
    logs: Logs
    hour: datetime

    def __call__(self, task: tuple[str, LakeFile]) -> tuple[str, FileCounts]:
        # What a thread has learnt of the log's lines serves its next file.
        parsers = _learnt.parsers = getattr(_learnt, "parsers", None) or Parsers()
        key, file = task
        parsed = parse_file(file.path, self.logs.read(file.path), self.hour, parsers, self.logs.format_of(file.path))
        counts = FileCounts.of(parsed, file.size)
        _store(self.lake, self.hour, key, file, parsed, counts)
        return key, counts


def _parse_all(
    lake: Lake, logs: Logs, hour: datetime, todo: list[tuple[str, LakeFile]], at_once: int
) -> dict[str, FileCounts]:
    size = sum(file.size for _, file in todo)
    return dict(side_by_side.run(_Parse(lake, logs, hour), todo, at_once, size))


def _store(lake: Lake, hour: datetime, key: str, file: LakeFile, parsed: ParsedFile, counts: FileCounts) -> None:
    """Write both results; the receipts come last, because their presence says that the file is done."""
    notes = {SOURCE_FILE: file.path, SOURCE_ETAG: file.etag, **counts.notes()}
    quarantine = result_path(QUARANTINE, hour, key)
    if parsed.quarantine.num_rows:
        lake.write_bytes(quarantine, to_parquet(parsed.quarantine, notes))
    else:
        lake.delete([quarantine])
    lake.write_bytes(result_path(RECEIPTS, hour, key), to_parquet(parsed.events, notes))


def _replaced(lake: Lake, hour: datetime, keys: set[str], sources: set[str]) -> list[str]:
    """Return which results came of these log files."""
    return [key for key in sorted(keys) if _source_of(lake, result_path(RECEIPTS, hour, key)) in sources]


def _replaced_meanwhile(lake: Lake, logs: Logs, hour: datetime, done: list[tuple[str, LakeFile]]) -> list[str]:
    """Return which results are of files that changed, or were taken back, since they were listed.

    Another process may have read the new content, and found nothing to remove, before this one stored the old.
    """
    gone = retracted(lake, hour)
    now = {file.path: file.etag for file in logs.files(hour)}
    return [key for key, file in done if file.path in gone or now.get(file.path, file.etag) != file.etag]


def _source_of(lake: Lake, path: str) -> str | None:
    try:
        notes = lake.read(path, columns=[]).schema.metadata or {}
    except FileNotFoundError:  # another process was faster
        return None
    source: bytes | None = notes.get(SOURCE_FILE.encode())
    return None if source is None else source.decode()
