"""Log files that were taken back for good: what came of them goes, and they are never read again.

Belongs here: that word, kept in the lake beside the results, and whether a file is under it. Does not belong here:
results (``hours``), reading files.

A file that is corrected is simply replaced, and one that is deleted keeps its results: raw logs are kept for less long.
Taking one back is said explicitly, and may be taken back itself. The word is written before results are removed, and
whoever reads a file looks for it after storing a result: whichever comes first, none is left.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

import orjson

from notify_pipeline.core.lake import Lake, LakeFile, partition
from notify_pipeline.core.partitions import partition_of

FOLDER: Final = "log_retractions"
_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True)
class Retraction:
    """That a file is taken back: its path below the log root, when that was said, and why."""

    path: str
    at: datetime
    why: str


def retracted(lake: Lake, hour: datetime) -> dict[str, Retraction]:
    """Return the files of an hour that are taken back, by path."""
    found = (_read(lake, file) for file in lake.list(partition(FOLDER, hour), suffix=_SUFFIX))
    return {one.path: one for one in found if one is not None}


def retract(lake: Lake, path: str, at: datetime, why: str) -> None:
    """Take a file back. What came of it is to be removed after this (``hours.remove_results``).

    Raises:
        ValueError: The path is not one of a log file.
    """
    lake.write_bytes(_place(path), orjson.dumps(asdict(Retraction(path, at, why))))


def restore(lake: Lake, path: str) -> bool:
    """Let a file be read again; tell whether it had been taken back.

    Raises:
        ValueError: The path is not one of a log file.
    """
    was = lake.exists(_place(path))
    lake.delete([_place(path)])
    return was


def _read(lake: Lake, file: LakeFile) -> Retraction | None:
    try:
        found = orjson.loads(lake.read_bytes(file.path))
    except FileNotFoundError:  # restored meanwhile
        return None
    return Retraction(found["path"], datetime.fromisoformat(found["at"]), found["why"])


def _place(path: str) -> str:
    name = hashlib.sha256(path.encode()).hexdigest()[:32]
    return f"{partition(FOLDER, partition_of(path))}/{name}{_SUFFIX}"
