"""The lake's contract, in a folder and on an S3 server."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.partitions import hours_between, partition_of
from notify_pipeline.core.schemas import AUDIT

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)


def test_what_is_written_is_read(lake: Lake) -> None:
    lake.write("t/date=2026-11-21/hour=10/one.parquet", TABLE)
    assert lake.read("t/date=2026-11-21/hour=10/one.parquet").equals(TABLE)
    assert lake.read("t/date=2026-11-21/hour=10/one.parquet", columns=["b"]).column_names == ["b"]
    assert lake.exists("t/date=2026-11-21/hour=10/one.parquet")
    assert not lake.exists("t/date=2026-11-21/hour=10")
    with pytest.raises(FileNotFoundError):
        lake.read("t/none.parquet")


def test_polars_reads_it_with_its_partitions(lake: Lake) -> None:
    lake.write("t/date=2026-11-21/hour=10/one.parquet", TABLE)
    lake.write("t/date=2026-11-21/hour=11/two.parquet", TABLE)
    frame = pl.scan_parquet(
        lake.uri("t/**/*.parquet"), hive_partitioning=True, storage_options=lake.polars_options()
    ).collect()
    assert frame.height == 6
    assert sorted(frame["hour"].unique().to_list()) == [10, 11]


def test_the_same_table_gives_the_same_bytes(lake: Lake) -> None:
    lake.write("one.parquet", TABLE)
    lake.write("two.parquet", TABLE)
    assert lake.read_bytes("one.parquet") == lake.read_bytes("two.parquet")


def test_folders(lake: Lake) -> None:
    assert lake.folders() == [] == lake.folders("t")
    for path in ("t/b.parquet", "t/a/c.parquet", "t/a/d/e.parquet", "u/d.parquet"):
        lake.write(path, TABLE)
    assert lake.folders() == ["t", "u"]
    assert lake.folders("t") == ["a"]
    assert lake.folders("t/a/") == ["d"]


def test_listing(lake: Lake) -> None:
    assert lake.list() == [] == lake.list("t")
    for path in ("t/b.parquet", "t/a/c.parquet", "tt/d.parquet"):
        lake.write(path, TABLE)
    lake.write_bytes("t/pointer.json", b"{}")
    assert [f.path for f in lake.list("t")] == ["t/a/c.parquet", "t/b.parquet"]
    assert [f.path for f in lake.list("t/b.parquet")] == ["t/b.parquet"]
    assert [f.path for f in lake.list(suffix=".json")] == ["t/pointer.json"]
    [one, _] = lake.list("t")
    assert one.size == len(lake.read_bytes(one.path))
    assert abs(one.modified - datetime.now(UTC)) < timedelta(minutes=5)
    before = one.etag
    lake.write(one.path, TABLE.slice(1))
    assert lake.list("t/a")[0].etag != before


def test_deleting(lake: Lake) -> None:
    lake.write("t/a.parquet", TABLE)
    lake.write("t/b.parquet", TABLE)
    lake.delete(["t/a.parquet", "t/never.parquet"])
    lake.delete([])
    assert [f.path for f in lake.list()] == ["t/b.parquet"]


def test_a_file_whose_writer_fails_never_appears(lake: Lake) -> None:
    lake.write("t/a.parquet", TABLE)
    with pytest.raises(RuntimeError, match="half-way"), lake.writer("t/a.parquet", TABLE.schema) as writer:
        writer.write_table(TABLE.slice(1))
        raise RuntimeError("half-way")
    with pytest.raises(RuntimeError), lake.writer("t/b.parquet", TABLE.schema) as writer:
        raise RuntimeError
    assert [f.path for f in lake.list(suffix="")] == ["t/a.parquet"]
    assert lake.read("t/a.parquet").equals(TABLE)


def test_a_streamed_file_holds_all_its_batches(lake: Lake) -> None:
    with lake.writer("t/a.parquet", TABLE.schema) as writer:
        for _ in range(3):
            writer.write_table(TABLE)
    assert lake.read("t/a.parquet").num_rows == 9


def test_names_with_odd_characters(lake: Lake) -> None:
    path = "audience/version=1/tenant=t/topic=breaking%2Fuk%20é/part-0.parquet"
    lake.write(path, TABLE)
    assert [f.path for f in lake.list("audience")] == [path]
    assert lake.read(path).equals(TABLE)


def test_what_is_no_file_is_not_listed(folder_lake: Lake) -> None:
    folder_lake.write_bytes("a/file", b"1")
    folder = Path(folder_lake.root) / "a"
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("gone")
    (folder / "link").symlink_to("file")
    os.mkfifo(folder / "pipe")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b"2")
    assert [file.path for file in folder_lake.list("a", suffix="")] == ["a/file", "a/link"]


def test_leftovers_of_dead_writers_are_invisible_and_go_after_a_while(folder_lake: Lake) -> None:
    folder_lake.write("t/a.parquet", TABLE)
    leftover = Path(folder_lake.root) / "t" / ".b.parquet.0123.tmp"
    leftover.write_bytes(b"half")
    assert [f.path for f in folder_lake.list(suffix="")] == ["t/a.parquet"]
    now = datetime.fromtimestamp(leftover.stat().st_mtime, UTC) + timedelta(minutes=30)
    assert folder_lake.delete_tmp(timedelta(hours=1), now) == 0
    assert folder_lake.delete_tmp(timedelta(minutes=10), now) == 1
    assert not leftover.exists()
    assert folder_lake.exists("t/a.parquet")


def test_a_file_and_its_new_folders_are_flushed_to_the_disk(folder_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    folder_lake.write("t/u/a.parquet", TABLE)
    root = folder_lake.root
    assert [p for p in flushed if ".tmp" not in p] == [str(Path(root).parent), root, f"{root}/t", f"{root}/t/u"]
    assert sum(".tmp" in p for p in flushed) == 1


def test_partition_paths() -> None:
    assert partition(AUDIT, NOW) == partition("audit", NOW) == "audit/date=2026-11-21/hour=10"
    assert partition_of("audit/date=2026-11-21/hour=10/x.parquet") == NOW.replace(minute=0)
    with pytest.raises(ValueError, match="no date="):
        partition_of("audit/x.parquet")
    with pytest.raises(ValueError, match="naive"):
        partition("audit", datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    hours = hours_between(NOW, NOW + timedelta(hours=1))
    assert [h.hour for h in hours] == [10, 11]
    assert hours_between(NOW, NOW - timedelta(seconds=1)) == []
    assert [h.hour for h in hours_between(NOW, NOW + timedelta(minutes=31))] == [10, 11]


def test_a_file_written_once_stays_as_it_is(lake: Lake) -> None:
    first, second = pa.table({"a": [1]}), pa.table({"a": [2]})
    assert lake.write_once("t/x.parquet", first)
    assert not lake.write_once("t/x.parquet", second)
    assert lake.read("t/x.parquet") == first
    assert [file.path for file in lake.list("t")] == ["t/x.parquet"]
    lake.write("t/x.parquet", second)
    assert lake.read("t/x.parquet") == second


def test_of_many_writers_of_one_file_exactly_one_succeeds(lake: Lake) -> None:
    with ThreadPoolExecutor(8) as pool:
        wrote = list(pool.map(lambda n: lake.write_once("t/x.parquet", pa.table({"a": [n]})), range(8)))
    assert sum(wrote) == 1
    assert lake.read("t/x.parquet")["a"].to_pylist() == [wrote.index(True)]
