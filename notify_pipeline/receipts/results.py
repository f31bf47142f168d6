"""The names of what comes of log files: which files have been read, and which have not.

Belongs here: from a log file to its results' names, and listing those. Does not belong here: making results
(``hours``), what is in them (``files``). Loads no polars: sensors and schedules look here every few seconds.
"""

import hashlib
from collections.abc import Iterable
from datetime import date, datetime

from notify_pipeline.core.lake import Lake, LakeFile, partition
from notify_pipeline.core.schemas import RECEIPTS, LakeTable
from notify_pipeline.receipts.retractions import retracted

_SUFFIX = ".parquet"


def result_key(file: LakeFile) -> str:
    """Return the name of a log file's results: it follows from path and ETag, so new content has a new name."""
    return hashlib.sha256(f"{file.path}{file.etag}".encode()).hexdigest()[:32]


def result_path(table: LakeTable, hour: datetime, key: str) -> str:
    """Return where a log file's result lies in the lake."""
    return f"{partition(table, hour)}/{key}{_SUFFIX}"


def result_keys(lake: Lake, hour: datetime, table: LakeTable = RECEIPTS) -> set[str]:
    """Return the names of the results that an hour has."""
    return {_name(file) for file in lake.list(partition(table, hour))}


def keys_of_days(lake: Lake, days: Iterable[date]) -> set[str]:
    """Return the names of all receipts of some days, with a listing for each."""
    return {_name(file) for day in days for file in lake.list(f"{RECEIPTS.name}/date={day}")}


def unread(lake: Lake, hour: datetime, files: Iterable[LakeFile]) -> list[LakeFile]:
    """Return those of an hour's log files whose content is not in the lake, though it should be."""
    present = list(files)
    done = result_keys(lake, hour) if present else set()
    waiting = [file for file in present if result_key(file) not in done]
    gone = retracted(lake, hour) if waiting else {}
    return [file for file in waiting if file.path not in gone]


def _name(file: LakeFile) -> str:
    return file.path.rpartition("/")[2].removesuffix(_SUFFIX)
