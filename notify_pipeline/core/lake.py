"""The lake: Parquet files (and a few others) under one root, a local folder or S3.

Belongs here: writing a file whole or not at all, reading, listing and deleting. Does not belong here: which files there
are and what is in them (``lander``, ``schemas``, ``partitions``), what differs between the stores (``lake_stores``).

Paths are relative to the root, with forward slashes. A reader never sees a torn file: locally a file is written under a
name that no reader looks for, flushed to the disk and renamed; on S3 an object appears when its put ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from notify_pipeline.core.lake_stores import FolderStore, LakeFile, S3Store, Store, is_tmp
from notify_pipeline.core.partitions import partition as partition_path
from notify_pipeline.core.schemas import LakeTable

__all__ = ["Lake", "LakeFile", "partition"]


class Lake:
    """The files under one root. Cheap to make; connects when first used; may be shared by threads."""

    def __init__(self, root: str, s3_endpoint_url: str | None = None) -> None:
        """Take the root, a folder (made at the first write) or ``s3://bucket/prefix``, and S3's endpoint if not AWS."""
        self.root = root.rstrip("/")
        self.s3_endpoint_url = s3_endpoint_url
        self.is_s3 = root.startswith("s3://")
        self._store: Store = S3Store(self.root, s3_endpoint_url) if self.is_s3 else FolderStore(Path(self.root))

    def __reduce__(self) -> tuple[type["Lake"], tuple[str, str | None]]:
        """Pickle where it is: another process connects by itself."""
        return Lake, (self.root, self.s3_endpoint_url)

    def write(self, path: str, table: pa.Table) -> None:
        """Write a Parquet file (zstd). The same table gives the same bytes, as long as pyarrow is the same."""
        with self.writer(path, table.schema) as writer:
            writer.write_table(table)

    def write_once(self, path: str, table: pa.Table, unique: Sequence[str] = ()) -> bool:
        """Write a Parquet file unless there is one of this path already; tell whether it was written.

        Of several writers, however late, exactly one succeeds: what was read from the path stays true. Columns that
        come dictionary-encoded are read as plain ones. ``unique`` is ``writer``'s.
        """
        try:
            with (
                self._store.create(path, once=True) as file,
                # Without the Arrow schema, which would make readers get the dictionaries.
                _parquet_writer(file, table.schema, unique, store_schema=False) as writer,
            ):
                writer.write_table(table)
        except FileExistsError:
            return False
        return True

    @contextmanager
    def writer(self, path: str, schema: pa.Schema, unique: Sequence[str] = ()) -> Iterator[pq.ParquetWriter]:
        """Yield a Parquet writer for tables or batches one after another; the file appears when the block ends well.

        ``unique`` names columns whose values hardly repeat: looking for repetitions would cost more than all else.
        """
        with self._store.create(path) as file, _parquet_writer(file, schema, unique) as writer:
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

    @contextmanager
    def open_parquet(self, path: str) -> Iterator[pq.ParquetFile]:
        """Yield a Parquet file for reading part by part.

        Raises:
            FileNotFoundError: It is not there.
        """
        with self._store.open(path) as file:
            yield pq.ParquetFile(file)

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
        return sorted((f for f in found if f.path.endswith(suffix) and not is_tmp(f.path)), key=lambda f: f.path)

    def folders(self, prefix: str = "") -> Sequence[str]:
        """Return the names of the folders directly below a folder, sorted; none when it is not there."""
        return sorted(self._store.folders(prefix.strip("/")))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files; those that are not there are no error."""
        self._store.delete(list(paths))

    def delete_tmp(self, older_than: timedelta, now: datetime) -> int:
        """Delete what writers that died left half-written, if that long ago; return how many."""
        old = [f.path for f in self._store.walk("") if is_tmp(f.path) and f.modified <= now - older_than]
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


def _parquet_writer(file: IO[bytes], schema: pa.Schema, unique: Sequence[str], **more: bool) -> pq.ParquetWriter:
    repeating = [name for name in schema.names if name not in unique] if unique else True
    return pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=repeating, **more)


def partition(table: LakeTable | str, moment: datetime) -> str:
    """Return ``<table>/date=YYYY-MM-DD/hour=HH`` of an aware moment."""
    name = table if isinstance(table, str) else table.name
    return f"{name}/{partition_path(moment)}"
