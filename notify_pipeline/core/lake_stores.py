"""Where the lake's files lie: a folder, or S3. What differs between the two, and nothing else.

Belongs here: making a file appear whole, opening, listing, deleting. Does not belong here: Parquet (``lake``).
"""

import errno
import io
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any

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


class Store(ABC):
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


def is_tmp(path: str) -> bool:
    """Tell whether a path is one that a writer has not finished."""
    name = path.rpartition("/")[2]
    return name.startswith(".") and name.endswith(_TMP_SUFFIX)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class FolderStore(Store):
    """Files below a folder, flushed to the disk before they appear."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    @contextmanager
    def create(self, path: str, *, once: bool = False) -> Iterator[IO[bytes]]:
        """See ``Store``."""
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
        """See ``Store``."""
        return (self._root / path).open("rb")

    def exists(self, path: str) -> bool:
        """See ``Store``."""
        return (self._root / path).is_file()

    def walk(self, prefix: str) -> Iterator[LakeFile]:
        """See ``Store``."""
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
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                continue
            # Whoever opened a pipe would wait for ever, and a name that is no text cannot be kept anywhere.
            path = (folder / name).relative_to(self._root).as_posix()
            if not S_ISREG(stat.st_mode) or not _is_text(path):
                continue
            modified = datetime.fromtimestamp(stat.st_mtime, UTC)
            yield LakeFile(path, stat.st_size, f"{stat.st_mtime_ns}-{stat.st_size}", modified)

    def folders(self, prefix: str) -> Iterator[str]:
        """See ``Store``."""
        try:
            with os.scandir(self._root / prefix) as entries:
                yield from (entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return

    def delete(self, paths: Sequence[str]) -> None:
        """See ``Store``."""
        for path in paths:
            (self._root / path).unlink(missing_ok=True)


class S3Store(Store):
    """Objects below a prefix of a bucket."""

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
        """See ``Store``."""
        # One put, or one multipart upload where it is large; either way the object appears whole. "create" puts with
        # If-None-Match, and raises FileExistsError on its 412.
        buffer = io.BytesIO()
        yield buffer
        self._fs.pipe_file(f"{self._root}/{path}", buffer.getvalue(), mode="create" if once else "overwrite")

    def open(self, path: str) -> IO[bytes]:
        """See ``Store``."""
        file: IO[bytes] = self._fs.open(f"{self._root}/{path}", "rb")
        return file

    def exists(self, path: str) -> bool:
        """See ``Store``."""
        return bool(self._fs.isfile(f"{self._root}/{path}"))

    def walk(self, prefix: str) -> Iterator[LakeFile]:
        """See ``Store``."""
        start = f"{self._root}/{prefix}".rstrip("/")
        for key, info in self._fs.find(start, detail=True, refresh=True).items():
            path = key.removeprefix(f"{self._root}/")
            yield LakeFile(path, info["size"], info["ETag"].strip('"'), info["LastModified"].astimezone(UTC))

    def folders(self, prefix: str) -> Iterator[str]:
        """See ``Store``."""
        start = f"{self._root}/{prefix}".rstrip("/")
        try:
            for info in self._fs.ls(start, detail=True, refresh=True):
                if info["type"] == "directory":
                    yield info["name"].rstrip("/").rpartition("/")[2]
        except FileNotFoundError:
            return

    def delete(self, paths: Sequence[str]) -> None:
        """See ``Store``."""
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
