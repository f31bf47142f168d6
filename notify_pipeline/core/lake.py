"""The lake: Parquet files (and a few others) under one root, a local folder or S3.

Belongs here: writing a file whole or not at all, reading, listing and deleting. Does not belong here: which files there
are and what is in them (``lander``, ``schemas``, ``partitions``).

Paths are relative to the root, with forward slashes. A reader never sees a torn file: locally a file is written under a
name that no reader looks for, flushed to the disk and renamed; on S3 an object appears when its put ends.
"""

import io
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from notify_pipeline.core.partitions import partition as partition_path
from notify_pipeline.core.schemas import LakeTable

# A name that begins with a dot and does not end in the readers' suffix; the random part keeps two writers apart.
_TMP_SUFFIX = ".tmp"
# S3's DeleteObjects takes this many keys. https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_DELETE_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One file as a listing shows it; ``etag`` changes when its content does."""

    path: str
    size: int
    etag: str
    modified: datetime


class _Store(ABC):
    """What differs between a folder and S3."""

    @abstractmethod
    def create(self, path: str, *, once: bool = False) -> Any:
        """Return a context manager that yields a binary file; the path shows it once the block ends well.

        With ``once``, FileExistsError at the end of the block when the path shows a file already.
        """

    @abstractmethod
    def open(self, path: str) -> IO[bytes]:
        """Open for reading."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Tell whether the file is there."""

    @abstractmethod
    def walk(self, prefix: str) -> Iterator[LakeFile]:
        """Yield every file at or below a prefix that ends at a folder or a name."""

    @abstractmethod
    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders directly below a folder, in any order."""

    @abstractmethod
    def delete(self, paths: Sequence[str]) -> None:
        """Delete; what is not there is no error."""


class Lake:
    """The files under one root. Cheap to make; connects when first used; may be shared by threads."""

    def __init__(self, root: str, s3_endpoint_url: str | None = None) -> None:
        """Take the root, a folder (made at the first write) or ``s3://bucket/prefix``, and S3's endpoint if not AWS."""
        self.root = root.rstrip("/")
        self.s3_endpoint_url = s3_endpoint_url
        self.is_s3 = root.startswith("s3://")
        self._store: _Store = _S3(self.root, s3_endpoint_url) if self.is_s3 else _Folder(Path(self.root))

    def write(self, path: str, table: pa.Table) -> None:
        """Write a Parquet file (zstd). The same table gives the same bytes, as long as pyarrow is the same."""
        with self.writer(path, table.schema) as writer:
            writer.write_table(table)

    def write_once(self, path: str, table: pa.Table) -> bool:
        """Write a Parquet file unless there is one of this path already; tell whether it was written.

        Of several writers, however late, exactly one succeeds: what was read from the path stays true.
        """
        try:
            with (
                self._store.create(path, once=True) as file,
                pq.ParquetWriter(file, table.schema, compression="zstd") as writer,
            ):
                writer.write_table(table)
        except FileExistsError:
            return False
        return True

    @contextmanager
    def writer(self, path: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        """Yield a Parquet writer for tables or batches one after another; the file appears when the block ends well."""
        with self._store.create(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            yield writer

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write any other file."""
        with self._store.create(path) as file:
            file.write(content)

    def read(self, path: str, columns: list[str] | None = None) -> pa.Table:
        """Read one Parquet file, without its partition's columns.

        Raises:
            FileNotFoundError: It is not there.
        """
        with self._store.open(path) as file:
            return pq.ParquetFile(file).read(columns=columns)

    def read_bytes(self, path: str) -> bytes:
        """Read one whole file.

        Raises:
            FileNotFoundError: It is not there.
        """
        with self._store.open(path) as file:
            return file.read()

    def exists(self, path: str) -> bool:
        """Tell whether a file is there, by its whole path."""
        return self._store.exists(path)

    def list(self, prefix: str = "", suffix: str = ".parquet") -> list[LakeFile]:
        """Return every whole file below a folder (or that folder's file of exactly this path), sorted by path."""
        found = self._store.walk(prefix.strip("/"))
        return sorted((f for f in found if f.path.endswith(suffix) and not _is_tmp(f.path)), key=lambda f: f.path)

    def folders(self, prefix: str = "") -> Sequence[str]:
        """Return the names of the folders directly below a folder, sorted; none when it is not there."""
        return sorted(self._store.folders(prefix.strip("/")))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files; those that are not there are no error."""
        self._store.delete(list(paths))

    def delete_tmp(self, older_than: timedelta, now: datetime) -> int:
        """Delete what writers that died left half-written, if that long ago; return how many."""
        old = [f.path for f in self._store.walk("") if _is_tmp(f.path) and f.modified <= now - older_than]
        self._store.delete(old)
        return len(old)

    def uri(self, path: str) -> str:
        """Return what polars, DuckDB (folders only) or pandas open: an absolute path or an ``s3://`` URL."""
        return f"{self.root}/{path}" if self.is_s3 else str(Path(self.root).resolve() / path)

    def polars_options(self) -> dict[str, str]:
        """Return polars' ``storage_options``; credentials come from the environment or the instance's role."""
        if not self.is_s3 or self.s3_endpoint_url is None:
            return {}
        plain = str(self.s3_endpoint_url.startswith("http://")).lower()
        return {"aws_endpoint_url": self.s3_endpoint_url, "aws_allow_http": plain}


def partition(table: LakeTable | str, moment: datetime) -> str:
    """Return ``<table>/date=YYYY-MM-DD/hour=HH`` of an aware moment."""
    name = table if isinstance(table, str) else table.name
    return f"{name}/{partition_path(moment)}"


def _is_tmp(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith(".") and name.endswith(_TMP_SUFFIX)


class _Folder(_Store):
    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    @contextmanager
    def create(self, path: str, *, once: bool = False) -> Iterator[IO[bytes]]:
        final = self._root / path
        _make_folder(final.parent)
        tmp = final.with_name(f".{final.name}.{uuid.uuid4().hex}{_TMP_SUFFIX}")
        try:
            with tmp.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if once:
                final.hardlink_to(tmp)  # unlike a rename, refuses to replace
                tmp.unlink()
            else:
                tmp.replace(final)
        except BaseException:
            tmp.unlink(missing_ok=True)
            raise
        _sync_folder(final.parent)

    def open(self, path: str) -> IO[bytes]:
        return (self._root / path).open("rb")

    def exists(self, path: str) -> bool:
        return (self._root / path).is_file()

    def walk(self, prefix: str) -> Iterator[LakeFile]:
        start = self._root / prefix
        if start.is_file():
            yield from self._files(start.parent, [start.name])
        for folder, folders, names in os.walk(start):
            folders.sort()
            yield from self._files(Path(folder), names)

    def _files(self, folder: Path, names: Iterable[str]) -> Iterator[LakeFile]:
        for name in names:
            try:
                stat = (folder / name).stat()
            except FileNotFoundError:  # renamed or deleted since it was listed
                continue
            modified = datetime.fromtimestamp(stat.st_mtime, UTC)
            path = (folder / name).relative_to(self._root).as_posix()
            yield LakeFile(path, stat.st_size, f"{stat.st_mtime_ns}-{stat.st_size}", modified)

    def folders(self, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(self._root / prefix) as entries:
                yield from (entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            (self._root / path).unlink(missing_ok=True)


class _S3(_Store):
    def __init__(self, root: str, endpoint_url: str | None) -> None:
        self._root = root.removeprefix("s3://")
        self._endpoint_url = endpoint_url
        self._made: tuple[int, Any] | None = None

    @property
    def _fs(self) -> Any:
        # s3fs runs an event loop in a thread, which a forked child does not have: one per process.
        if self._made is None or self._made[0] != os.getpid():
            import s3fs

            fs = s3fs.S3FileSystem(
                endpoint_url=self._endpoint_url,
                default_cache_type="none",
                use_listings_cache=False,
                skip_instance_cache=True,
            )
            self._made = (os.getpid(), fs)
        return self._made[1]

    @contextmanager
    def create(self, path: str, *, once: bool = False) -> Iterator[IO[bytes]]:
        # One put, or one multipart upload where it is large; either way the object appears whole. "create" puts with
        # If-None-Match, and raises FileExistsError on its 412.
        buffer = io.BytesIO()
        yield buffer
        self._fs.pipe_file(f"{self._root}/{path}", buffer.getvalue(), mode="create" if once else "overwrite")

    def open(self, path: str) -> IO[bytes]:
        file: IO[bytes] = self._fs.open(f"{self._root}/{path}", "rb")
        return file

    def exists(self, path: str) -> bool:
        return bool(self._fs.isfile(f"{self._root}/{path}"))

    def walk(self, prefix: str) -> Iterator[LakeFile]:
        start = f"{self._root}/{prefix}".rstrip("/")
        for key, info in self._fs.find(start, detail=True, refresh=True).items():
            path = key.removeprefix(f"{self._root}/")
            yield LakeFile(path, info["size"], info["ETag"].strip('"'), info["LastModified"].astimezone(UTC))

    def folders(self, prefix: str) -> Iterator[str]:
        start = f"{self._root}/{prefix}".rstrip("/")
        try:
            for info in self._fs.ls(start, detail=True, refresh=True):
                if info["type"] == "directory":
                    yield info["name"].rstrip("/").rpartition("/")[2]
        except FileNotFoundError:
            return

    def delete(self, paths: Sequence[str]) -> None:
        bucket = self._root.partition("/")[0]
        keys = [f"{self._root}/{path}".partition("/")[2] for path in paths]
        for start in range(0, len(keys), _DELETE_BATCH):
            batch = {"Objects": [{"Key": key} for key in keys[start : start + _DELETE_BATCH]], "Quiet": True}
            answer = self._fs.call_s3("delete_objects", Bucket=bucket, Delete=batch)
            if errors := answer.get("Errors"):
                raise OSError(f"S3 kept {len(errors)} objects, the first because: {errors[0]}")


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durably known to the one that holds it."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
