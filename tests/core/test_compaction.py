"""Compaction: no row lost, none kept twice for long, whatever dies."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import Connection, func, select, update

from notify_pipeline.core.compaction import GRACE, CompactReport, compact
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.lander import Lander
from notify_pipeline.core.ledger import compactions, outbox, requests
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import SEGMENTS
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.schemas import ATTEMPTS, AUDIT

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
LATER = NOW + timedelta(hours=2)
NONE = timedelta(0)


class Crash(Exception):
    """Stands in for the death of the compactor at one point."""


def land(ledger: Ledger, lake: Lake, ids: Sequence[int], at: datetime = NOW) -> None:
    def add(conn: Connection, items: Sequence[Sequence[int]]) -> list[None]:
        for item in items:
            outbox.add(conn, "audit", [{"audit_id": f"{n:03d}", "at": to_micros(at)} for n in item], at)
        return [None for _ in items]

    ledger.write(add, ids)
    assert Lander(ledger, lake, lambda: at, owner="the one").run_once().rows == len(ids)


def kept(lake: Lake) -> list[str]:
    return [v for f in lake.list("audit") for v in lake.read(f.path)["audit_id"].to_pylist()]


def run(ledger: Ledger, lake: Lake, now: datetime = LATER, grace: timedelta = NONE) -> CompactReport:
    return compact(ledger, lake, AUDIT, timedelta(minutes=5), now, grace)


def test_small_files_of_a_past_hour_become_one(ledger: Ledger, folder_lake: Lake) -> None:
    for ids in ([1, 2], [3], [4]):
        land(ledger, folder_lake, ids)
    land(ledger, folder_lake, [5], NOW - timedelta(hours=1))
    land(ledger, folder_lake, [6], LATER)
    land(ledger, folder_lake, [7], LATER)
    assert run(ledger, folder_lake) == CompactReport(0, 1, 1, 3, 4, 3)
    assert len(folder_lake.list()) == 4
    assert sorted(kept(folder_lake)) == ["001", "002", "003", "004", "005", "006", "007"]
    [merged] = folder_lake.list("audit/date=2026-11-21/hour=10")
    assert folder_lake.read(merged.path)["audit_id"].to_pylist() == ["001", "002", "003", "004"]
    assert folder_lake.read(merged.path).schema == AUDIT.schema
    again = run(ledger, folder_lake)
    assert (again.planned, again.compacted) == (0, 0)
    # A late row makes a small file again; the next run takes it in.
    land(ledger, folder_lake, [8])
    assert run(ledger, folder_lake).rows == 5


def test_it_works_on_s3_too(sqlite_ledger: Ledger, lake: Lake) -> None:
    land(sqlite_ledger, lake, [1])
    land(sqlite_ledger, lake, [2])
    assert run(sqlite_ledger, lake).compacted == 1
    assert kept(lake) == ["001", "002"]


def test_an_hour_that_is_not_over_long_enough_is_left_alone(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    land(sqlite_ledger, folder_lake, [1])
    land(sqlite_ledger, folder_lake, [2])
    assert run(sqlite_ledger, folder_lake, NOW.replace(hour=11, minute=4)).planned == 0
    assert run(sqlite_ledger, folder_lake, NOW.replace(hour=11, minute=5)).planned == 1


@pytest.mark.parametrize("point", ["before_write", "after_write", "before_delete"])
def test_a_successor_finishes_what_a_dead_compactor_began(
    ledger: Ledger, folder_lake: Lake, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        land(ledger, folder_lake, [n])

    def crash(*_: object) -> None:
        raise Crash

    target = {
        "before_write": (folder_lake, "writer"),
        "after_write": (compactions, "finish"),
        "before_delete": (folder_lake, "delete"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*target[point], crash)
        with pytest.raises(Crash):
            run(ledger, folder_lake)
    before = {f.path: folder_lake.read_bytes(f.path) for f in folder_lake.list()}
    assert set(kept(folder_lake)) == {"000", "001", "002", "003"}
    run(ledger, folder_lake)
    assert kept(folder_lake) == ["000", "001", "002", "003"]
    [file] = folder_lake.list()
    assert folder_lake.read_bytes(file.path) == before.get(file.path, folder_lake.read_bytes(file.path))
    with ledger.read() as conn:
        states = conn.execute(select(SEGMENTS.c.state, func.count()).group_by(SEGMENTS.c.state)).tuples().all()
    assert dict(states) == {"landed": 1, "replaced": 4}


def test_readers_have_time_before_replaced_files_go(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    land(sqlite_ledger, folder_lake, [1])
    land(sqlite_ledger, folder_lake, [2])
    listed = folder_lake.list()
    assert run(sqlite_ledger, folder_lake, LATER, GRACE).deleted == 0
    assert sorted(kept(folder_lake)) == ["001", "001", "002", "002"]
    assert all(folder_lake.exists(f.path) for f in listed)
    # However long the system was off meanwhile.
    assert run(sqlite_ledger, folder_lake, LATER + timedelta(days=30), GRACE).deleted == 2
    assert kept(folder_lake) == ["001", "002"]


def test_a_file_that_a_sleeping_lander_wrote_again_is_deleted_again(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    land(sqlite_ledger, folder_lake, [1])
    land(sqlite_ledger, folder_lake, [2])
    path = folder_lake.list()[0].path
    table = folder_lake.read(path)
    run(sqlite_ledger, folder_lake)
    folder_lake.write(path, table)
    run(sqlite_ledger, folder_lake, LATER + timedelta(hours=1))
    assert kept(folder_lake) == ["001", "002"]


def test_replaced_segments_are_forgotten_in_the_end(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    land(sqlite_ledger, folder_lake, [1])
    land(sqlite_ledger, folder_lake, [2])
    run(sqlite_ledger, folder_lake)
    run(sqlite_ledger, folder_lake, LATER + compactions.FORGET_AFTER)
    with sqlite_ledger.read() as conn:
        assert conn.execute(select(SEGMENTS.c.state)).scalars().all() == ["landed"]


def test_large_files_are_left_alone(sqlite_ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactions, "ENOUGH_ROWS", 4)
    for ids in ([1, 2, 3, 4], [5, 6], [7, 8], [9, 10]):
        land(sqlite_ledger, folder_lake, ids)
    assert run(sqlite_ledger, folder_lake).inputs == 2
    assert sorted(folder_lake.read(f.path).num_rows for f in folder_lake.list()) == [2, 4, 4]
    assert run(sqlite_ledger, folder_lake).planned == 0


def test_one_compactor_works_on_a_table(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    land(sqlite_ledger, folder_lake, [1])
    land(sqlite_ledger, folder_lake, [2])
    real, seen = folder_lake.writer, []

    def writer(path: str, schema: pa.Schema) -> object:
        seen.append(run(sqlite_ledger, folder_lake).stopped_reason)
        return real(path, schema)

    folder_lake.writer = writer  # type: ignore[method-assign, assignment]
    assert run(sqlite_ledger, folder_lake).compacted == 1
    assert seen == ["not_leader"]


def test_a_compactor_whose_role_was_taken_changes_nothing(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    land(sqlite_ledger, folder_lake, [1])
    land(sqlite_ledger, folder_lake, [2])
    real, seen = folder_lake.writer, []

    def writer(path: str, schema: pa.Schema) -> object:
        if not seen:
            seen.append(path)
            assert run(sqlite_ledger, folder_lake, LATER + timedelta(hours=1)).compacted == 1
        return real(path, schema)

    folder_lake.writer = writer  # type: ignore[method-assign, assignment]
    with pytest.raises(FileNotFoundError):  # its successor has deleted the inputs
        run(sqlite_ledger, folder_lake)
    assert kept(folder_lake) == ["001", "002"]


def _chunk(lake: Lake, request_id: str, number: int) -> str:
    row = {field.name: None for field in ATTEMPTS.schema} | {"request_id": request_id, "recipient": f"r{number}"}
    path = f"attempts/date=2026-11-21/hour=10/bc-{request_id}-00000-{number:06d}.parquet"
    lake.write(path, pa.Table.from_pylist([row], ATTEMPTS.schema))
    return path


def test_chunks_of_finished_broadcasts_are_compacted_too(ledger: Ledger, folder_lake: Lake) -> None:
    def accept(name: str, state: str) -> str:
        new = requests.NewRequest("t", name, {"type": "news"}, NOW, LATER)
        request_id = requests.accept(ledger, new).request_id

        def move(conn: Connection, items: Sequence[None]) -> list[None]:
            conn.execute(update(REQUESTS).where(REQUESTS.c.request_id == request_id).values(state=state))
            return [None]

        ledger.write(move, None)
        return request_id

    done, sending = accept("done", "done"), accept("sending", "sending")
    for n in range(3):
        _chunk(folder_lake, done, n)
    open_paths = [_chunk(folder_lake, sending, n) for n in range(2)]
    report = compact(ledger, folder_lake, "attempts", NONE, LATER, NONE)
    assert (report.adopted, report.planned, report.inputs, report.rows, report.deleted) == (3, 1, 3, 3, 3)
    paths = [f.path for f in folder_lake.list("attempts")]
    assert set(open_paths) < set(paths) and len(paths) == 3
    rows = [r for p in paths for r in folder_lake.read(p)["recipient"].to_pylist()]
    assert sorted(rows) == ["r0", "r0", "r1", "r1", "r2"]
    assert compact(ledger, folder_lake, "attempts", NONE, LATER, NONE).adopted == 0


def test_files_of_an_older_schema_are_taken_in(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    land(sqlite_ledger, folder_lake, [1])
    land(sqlite_ledger, folder_lake, [2])
    path = folder_lake.list()[0].path
    folder_lake.write(path, folder_lake.read(path).drop_columns(["actor"]))
    assert run(sqlite_ledger, folder_lake).rows == 2
    [file] = folder_lake.list()
    assert folder_lake.read(file.path).schema == AUDIT.schema


def test_a_missing_file_is_an_error_and_replaces_nothing(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    land(sqlite_ledger, folder_lake, [1])
    land(sqlite_ledger, folder_lake, [2])
    path = folder_lake.list()[0].path
    (Path(folder_lake.root) / path).unlink()
    with pytest.raises(FileNotFoundError):
        run(sqlite_ledger, folder_lake)
    assert kept(folder_lake) == ["002"]
