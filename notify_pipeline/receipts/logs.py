"""The raw logs: which hours there are, which changed, and their files.

Belongs here: the layout ``<source>/date=YYYY-MM-DD/hour=HH/<any name>`` below the log root, and noticing changes.
Does not belong here: what is in a file (``files``), Dagster.

Noticing is cheap however many files there are. In a folder, an hour's own modification time tells whether a file came
or went, so only changed and recent hours are listed. On S3 there is no such thing: the recent days are listed each
time, and one older day in turn, so that a late file of any age is found sooner or later.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from notify_pipeline.core.lake import Lake, LakeFile
from notify_pipeline.core.partitions import partition, partition_of
from notify_pipeline.core.vocabulary import LogFormat

# Files of hours as recent as this are looked at themselves, so that one overwritten in place is noticed too.
_RECENT: Final = timedelta(hours=3)
# Folder times are compared with this slack: file systems count in steps, and clocks of hosts differ.
_SLACK_NS: Final = 60 * 1_000_000_000
# On S3, days listed each time: CDNs deliver within minutes, and all but always within two days.
_RECENT_DAYS: Final = 3


@dataclass(frozen=True, slots=True)
class Discovery:
    """Hours whose files changed since the cursor, in order, and the cursor for the next time."""

    hours: list[datetime]
    cursor: str


@dataclass(slots=True)
class _Cursor:
    """What is remembered: how far folder times have been seen, and what recent hours held."""

    through_ns: int = 0
    turn: int = 0
    digests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "_Cursor":
        return cls(**orjson.loads(text)) if text else cls()

    def text(self) -> str:
        fields: dict[str, Any] = {"through_ns": self.through_ns, "turn": self.turn, "digests": self.digests}
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode()


class Logs:
    """The files below the log root, a folder or S3. May be shared by threads."""

    def __init__(
        self, root: str, s3_endpoint_url: str | None = None, formats: Mapping[str, LogFormat] | None = None
    ) -> None:
        """Take the root, which need not exist yet.

        Args:
            root: A folder or ``s3://bucket/prefix``.
            s3_endpoint_url: S3's endpoint, if not AWS.
            formats: By source, what its lines look like; of other sources each file's first lines tell.
        """
        self._formats = dict(formats or {})
        self._store = Lake(root, s3_endpoint_url)
        self.is_s3 = self._store.is_s3

    def files(self, hour: datetime) -> list[LakeFile]:
        """Return all sources' files of the hour that a moment lies in, sorted by path."""
        part = partition(hour)
        found = [self._store.list(f"{source}/{part}", suffix="") for source in self._store.folders()]
        return [file for files in found for file in files if not file.path.rpartition("/")[2].startswith(".")]

    def hours(self) -> list[datetime]:
        """Return every hour that has a folder, in order. On S3 that takes a listing for each day of each source."""
        found = {
            _hour_of(f"{date}/{name}")
            for source in self._store.folders()
            for date in self._store.folders(source)
            for name in self._store.folders(f"{source}/{date}")
        }
        return sorted(hour for hour in found if hour is not None)

    def format_of(self, path: str) -> LogFormat | None:
        """Return the format that is set for the file's source, None when its lines tell."""
        return self._formats.get(source_of(path))

    def read(self, path: str) -> bytes:
        """Return a file's bytes as stored."""
        return self._store.read_bytes(path)

    def candidates(self, now: datetime, through_ns: int, turn: int) -> tuple[set[datetime], int]:
        """Return the hours that may have changed since ``through_ns``, and the newest folder time seen."""
        if self._store.is_s3:
            return self._days_in_turn(now, turn), 0
        hours: set[datetime] = set()
        newest = through_ns
        for hour, modified_ns in self._hour_folders():
            newest = max(newest, modified_ns)
            if modified_ns >= through_ns - _SLACK_NS or hour >= now - _RECENT:
                hours.add(hour)
        return hours, newest

    def _hour_folders(self) -> Iterator[tuple[datetime, int]]:
        root = Path(self._store.root)
        for source in self._store.folders():
            for date in self._store.folders(source):
                with os.scandir(root / source / date) as entries:
                    for entry in entries:
                        hour = _hour_of(f"{date}/{entry.name}")
                        if hour is not None:
                            yield hour, entry.stat().st_mtime_ns

    def _days_in_turn(self, now: datetime, turn: int) -> set[datetime]:
        days = sorted({date for source in self._store.folders() for date in self._store.folders(source)})
        recent_from = f"date={now - timedelta(days=_RECENT_DAYS - 1):%Y-%m-%d}"
        older = [day for day in days if day < recent_from]
        looked_at = [day for day in days if day >= recent_from]
        if older:
            looked_at.append(older[turn % len(older)])
        hours = {
            _hour_of(f"{day}/{name}")
            for day in looked_at
            for source in self._store.folders()
            for name in self._store.folders(f"{source}/{day}")
        }
        return {hour for hour in hours if hour is not None}


def discover(logs: Logs, since_cursor: str | None, now: datetime) -> Discovery:
    """Find the hours whose files changed.

    Args:
        logs: The raw logs.
        since_cursor: What the last call returned; None or empty gives every hour there is, in a folder; on S3 the
            recent days at once and the older ones in turn.
        now: The present.

    Returns:
        Changed hours, some perhaps without need (processing an unchanged hour costs a listing), and the new cursor.
    """
    cursor = _Cursor.parse(since_cursor)
    hours, newest = logs.candidates(now, cursor.through_ns, cursor.turn)
    digests = {hour.isoformat(): _digest(logs.files(hour)) for hour in sorted(hours)}
    empty = _digest([])
    changed = [
        hour for hour in sorted(hours) if digests[hour.isoformat()] != cursor.digests.get(hour.isoformat(), empty)
    ]
    if logs.is_s3:  # an hour that is looked at in turn is compared with what it held the last time
        digests = {**cursor.digests, **digests}
    return Discovery(changed, _Cursor(newest, cursor.turn + 1, digests).text())


def source_of(path: str) -> str:
    """Return which source a log file is of: the first folder of its path."""
    return path.partition("/")[0]


def _digest(files: Iterable[LakeFile]) -> str:
    state = hashlib.blake2b(digest_size=8)
    for file in files:
        state.update(f"{file.path}\0{file.etag}\n".encode())
    return state.hexdigest()


def _hour_of(path: str) -> datetime | None:
    """Return the hour of ``date=…/hour=…``, None for a folder that is something else."""
    try:
        return partition_of(path)
    except ValueError:
        return None
