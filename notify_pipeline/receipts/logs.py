"""The raw logs: which hours there are, which changed, and their files.

Belongs here: the layout ``<source>/date=YYYY-MM-DD/hour=HH/<any name>`` below the log root, and noticing changes.
Does not belong here: what is in a file (``files``), Dagster.

Noticing is cheap however many files there are. In a folder, an hour's own modification time tells whether a file came
or went, so only changed and recent hours are listed. On S3 there is no such thing: the recent days are listed each
time, a request per source and day. What neither of the two sees is found by going round all days (``rounds``).
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
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
# Listings on their way at once: S3 takes tens of milliseconds for a thousand files, however many ask.
_LISTINGS: Final = 8


@dataclass(frozen=True, slots=True)
class Discovery:
    """Hours whose files changed since the cursor, in order, and the cursor for the next time."""

    hours: list[datetime]
    cursor: str


@dataclass(slots=True)
class _Cursor:
    """What is remembered: how far folder times have been seen, and what recent hours held."""

    through_ns: int = 0
    digests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "_Cursor":
        fields = orjson.loads(text) if text else {}
        return cls(fields.get("through_ns", 0), fields.get("digests", {}))

    def text(self) -> str:
        fields: dict[str, Any] = {"through_ns": self.through_ns, "digests": self.digests}
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

    def __reduce__(self) -> tuple[type["Logs"], tuple[str, str | None, dict[str, LogFormat]]]:
        """Pickle where they are: another process connects by itself."""
        return Logs, (self._store.root, self._store.s3_endpoint_url, self._formats)

    def files(self, hour: datetime) -> list[LakeFile]:
        """Return all sources' files of the hour that a moment lies in, sorted by path."""
        part = partition(hour)
        found = [self._store.list(f"{source}/{part}", suffix="") for source in self._store.folders()]
        return [file for files in found for file in files if _counts(file)]

    def files_of(self, days: Collection[date]) -> dict[datetime, list[LakeFile]]:
        """Return all sources' files of some days by hour, sorted by path. A listing for each day of each source."""
        folders = [f"{source}/date={day}" for day in sorted(set(days)) for source in self._store.folders()]
        if not folders:
            return {}
        with ThreadPoolExecutor(min(len(folders), _LISTINGS)) as pool:
            found = list(pool.map(lambda folder: self._store.list(folder, suffix=""), folders))
        hours: dict[datetime, list[LakeFile]] = {}
        for file in sorted((file for files in found for file in files), key=lambda each: each.path):
            hour = _hour_of("/".join(file.path.split("/")[1:3]))
            if hour is not None and _counts(file):
                hours.setdefault(hour, []).append(file)
        return hours

    def days(self) -> list[date]:
        """Return every day that has a folder, in order. A listing for each source."""
        names = {name for source in self._store.folders() for name in self._store.folders(source)}
        return sorted(day for day in map(_day_of, names) if day is not None)

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

    def candidates(self, now: datetime, through_ns: int) -> tuple[dict[datetime, list[LakeFile]], int]:
        """Return the hours that may have changed since ``through_ns``, each with its files, and the newest time seen.

        The time is of folders; S3 has none.
        """
        if self._store.is_s3:
            today = now.date()
            # Of tomorrow, too: a host's clock may be ahead.
            return self.files_of([today - timedelta(days=back) for back in range(-1, _RECENT_DAYS)]), 0
        hours: set[datetime] = set()
        newest = through_ns
        for hour, modified_ns in self._hour_folders():
            newest = max(newest, modified_ns)
            if modified_ns >= through_ns - _SLACK_NS or hour >= now - _RECENT:
                hours.add(hour)
        return {hour: self.files(hour) for hour in sorted(hours)}, newest

    def _hour_folders(self) -> Iterator[tuple[datetime, int]]:
        root = Path(self._store.root)
        for source in self._store.folders():
            for day in self._store.folders(source):
                with os.scandir(root / source / day) as entries:
                    for entry in entries:
                        hour = _hour_of(f"{day}/{entry.name}")
                        if hour is not None:
                            yield hour, entry.stat().st_mtime_ns


def discover(logs: Logs, since_cursor: str | None, now: datetime) -> Discovery:
    """Find the hours whose files changed.

    Args:
        logs: The raw logs.
        since_cursor: What the last call returned; None or empty gives every hour there is, in a folder; on S3 those of
            the recent days.
        now: The present.

    Returns:
        Changed hours, some perhaps without need (processing an unchanged hour costs a listing), and the new cursor.
    """
    cursor = _Cursor.parse(since_cursor)
    hours, newest = logs.candidates(now, cursor.through_ns)
    digests = {hour.isoformat(): _digest(files) for hour, files in hours.items()}
    empty = _digest([])
    changed = [
        hour for hour in sorted(hours) if digests[hour.isoformat()] != cursor.digests.get(hour.isoformat(), empty)
    ]
    return Discovery(changed, _Cursor(newest, digests).text())


def source_of(path: str) -> str:
    """Return which source a log file is of: the first folder of its path."""
    return path.partition("/")[0]


def _digest(files: Iterable[LakeFile]) -> str:
    state = hashlib.blake2b(digest_size=8)
    for file in files:
        state.update(f"{file.path}\0{file.etag}\n".encode())
    return state.hexdigest()


def _counts(file: LakeFile) -> bool:
    return not file.path.rpartition("/")[2].startswith(".")


def _day_of(name: str) -> date | None:
    """Return the day of ``date=…``, None for a folder that is something else."""
    key, _, value = name.partition("=")
    try:
        return date.fromisoformat(value) if key == "date" else None
    except ValueError:
        return None


def _hour_of(path: str) -> datetime | None:
    """Return the hour of ``date=…/hour=…``, None for a folder that is something else."""
    try:
        return partition_of(path)
    except ValueError:
        return None
