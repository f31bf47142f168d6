"""Which lake files came and went since the builder looked last.

Belongs here: listing the lake as cheaply as it goes, and the difference. Does not belong here: what is in the files
(``lake_files``), what is remembered (``state``).

In a folder, an hour's own modification time tells whether a file came or went, so only hours that changed are listed;
looking costs one ``stat`` for each hour there is. On S3 there is no such thing: everything is listed.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from notify_pipeline.core.lake import Lake, LakeFile
from notify_pipeline.core.schemas import ATTEMPTS, AUDIENCES, AUDIT, RECEIPTS, REGISTRATIONS, REQUESTS
from notify_pipeline.reports.state import State

# In the order in which they are loaded; all that notifications are made of.
OF_NOTIFICATIONS: Final = (REQUESTS, AUDIENCES, AUDIT, ATTEMPTS, RECEIPTS)
SOURCES: Final = (*OF_NOTIFICATIONS, REGISTRATIONS)
_NAMES: Final = tuple(table.name for table in SOURCES)
# A folder that changed shortly before it was listed may have changed again in the same tick of its clock; and clocks of
# hosts differ.
_SLACK_NS: Final = 60 * 1_000_000_000


@dataclass(slots=True)
class Diff:
    """What came and went.

    Attributes:
        added: New files and those with other contents, with the name of their table.
        removed: Files that are gone or have other contents, by the state's ids, with the name of their table.
        folders: Folders that were listed: their modification time, and when they were listed.
        gone_folders: Those that are there no more.
    """

    added: list[tuple[str, LakeFile]] = field(default_factory=list)
    removed: list[tuple[str, int]] = field(default_factory=list)
    folders: dict[str, tuple[int, int]] = field(default_factory=dict)
    gone_folders: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """True when files came or went."""
        return bool(self.added or self.removed)


def difference(lake: Lake, state: State, tables: Sequence[str] = _NAMES) -> Diff:
    """List the lake and compare.

    Args:
        lake: The lake.
        state: What is remembered.
        tables: Those to look at.
    """
    known = {name: times for name, times in state.folders().items() if name.partition("/")[0] in tables}
    found, diff = set(), Diff()
    for folder, modified_ns in _folders(lake, tables):
        found.add(folder)
        listed_ns = time.time_ns()
        before = known.get(folder)
        if before is not None and modified_ns == before[0] and modified_ns < before[1] - _SLACK_NS:
            continue
        diff.folders[folder] = (modified_ns, listed_ns)
        _compare(diff, folder, lake.list(folder), state)
    for folder in known.keys() - found:
        diff.gone_folders.append(folder)
        _compare(diff, folder, [], state)
    return diff


def _compare(diff: Diff, folder: str, listed: Sequence[LakeFile], state: State) -> None:
    remembered = state.files_in(folder)
    table = folder.partition("/")[0]
    for file in listed:
        _, etag = remembered.get(file.path, (0, None))
        if etag != file.etag:
            diff.added.append((table, file))
    staying = {file.path: file.etag for file in listed}
    diff.removed.extend(
        (table, file_id) for path, (file_id, etag) in sorted(remembered.items()) if staying.get(path) != etag
    )


def _folders(lake: Lake, tables: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield the folders of hours, and when they changed; of S3 whole tables, as changed now."""
    if lake.is_s3:
        yield from ((table, time.time_ns()) for table in tables)
        return
    root = Path(lake.root)
    for table in tables:
        for day in lake.folders(table):
            with os.scandir(root / table / day) as hours:
                for hour in hours:
                    if hour.is_dir():
                        yield f"{table}/{day}/{hour.name}", hour.stat().st_mtime_ns
