"""The lander: exactly once, whatever dies and whoever else is at work."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import orjson
import pyarrow as pa
import pytest
from sqlalchemy import Connection, func, insert, select

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.lander import LEASE_S, MAX_FAILURES, Lander, LandReport
from notify_pipeline.core.ledger import leases, outbox, overview
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.outbox_tables import OUTBOX, OUTBOX_REJECTED, SEGMENTS
from notify_pipeline.core.schemas import LANDING_TABLES
from tests.waiting import PATIENCE_S

NOW = datetime(2026, 11, 21, 10, 59, 59, 999_999, tzinfo=UTC)
HOUR = timedelta(hours=1)
Row = dict[str, object]


class Crash(Exception):
    """Stands in for the death of the lander at one point."""


def add(ledger: Ledger, rows: Sequence[Row], table: str = "audit") -> None:
    def handler(conn: Connection, items: Sequence[Sequence[Row]]) -> list[None]:
        for item in items:
            outbox.add(conn, table, item, NOW)
        return [None for _ in items]

    ledger.write(handler, rows)


def event(n: int, at: datetime = NOW) -> Row:
    return {"audit_id": f"{n:04d}", "event": "e", "actor": "test", "at": to_micros(at)}


def landed_ids(lake: Lake) -> list[str]:
    return sorted(v for f in lake.list("audit") for v in lake.read(f.path)["audit_id"].to_pylist())


def lander(ledger: Ledger, lake: Lake, clock: Callable[[], datetime] = utc_now) -> Lander:
    return Lander(ledger, lake, clock)


@pytest.fixture
def any_lake_ledger(lake: Lake, sqlite_ledger: Ledger) -> Iterator[tuple[Ledger, Lake]]:
    yield sqlite_ledger, lake


def test_rows_land_by_table_and_hour_with_their_types(any_lake_ledger: tuple[Ledger, Lake]) -> None:
    ledger, lake = any_lake_ledger
    add(ledger, [event(1), event(2, NOW + HOUR)])
    add(ledger, [event(3)])
    row = {"tenant": "t", "token": "x", "topics": ["a", "b"], "revision": 7, "at": to_micros(NOW), "op": "upsert"}
    add(ledger, [row], "registrations")
    assert lander(ledger, lake).run_once() == LandReport(3, 3, 4, 0, "empty")
    folders = [f.path.rpartition("/")[0] for f in lake.list()]
    assert folders == [
        "audit/date=2026-11-21/hour=10",
        "audit/date=2026-11-21/hour=11",
        "registrations/date=2026-11-21/hour=10",
    ]
    stored = [lake.read(f.path) for f in lake.list()]
    assert [t.schema for t in stored] == [LANDING_TABLES[n].schema for n in ("audit", "audit", "registrations")]
    assert stored[0]["audit_id"].to_pylist() == ["0001", "0003"]
    [kept] = stored[2].to_pylist()
    assert (kept["topics"], kept["revision"], kept["at"], kept["user_id"]) == (["a", "b"], 7, NOW, None)
    assert lander(ledger, lake).run_once() == LandReport(0, 0, 0, 0, "empty")


def test_every_landing_table_takes_a_row_of_nulls_and_of_each_type(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    samples: dict[pa.DataType, object] = {pa.bool_(): True, pa.string(): "é", pa.list_(pa.string()): ["x"]}
    for name, table in LANDING_TABLES.items():
        full = {f.name: samples.get(f.type, 5) for f in table.schema}
        add(sqlite_ledger, [{}, full], name)
    assert lander(sqlite_ledger, folder_lake).run_once().rejected == 0
    for name, table in LANDING_TABLES.items():
        rows = [r for f in folder_lake.list(name) for r in folder_lake.read(f.path).to_pylist()]
        assert len(rows) == 2
        for field in table.schema:
            expected = from_micros(5) if pa.types.is_timestamp(field.type) else samples.get(field.type, 5)
            assert sorted((r[field.name] for r in rows), key=lambda v: v is None) == [expected, None]


@pytest.mark.parametrize("point", ["planned", "before_write", "after_write", "before_mark"])
def test_a_successor_finishes_what_a_dead_lander_began(
    ledger: Ledger, folder_lake: Lake, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(ledger, [event(1), event(2)])
    add(ledger, [event(3, NOW + HOUR)])
    real_write, real_mark, real_rows = folder_lake.write, outbox.mark_landed, outbox.rows

    def write(path: str, table: pa.Table) -> None:
        if point == "before_write":
            raise Crash
        real_write(path, table)
        if point == "after_write":
            raise Crash

    def crash(*_: object) -> bool:
        raise Crash

    monkeypatch.setattr(folder_lake, "write", write)
    monkeypatch.setattr(outbox, "mark_landed", crash if point == "before_mark" else real_mark)
    monkeypatch.setattr(outbox, "rows", crash if point == "planned" else real_rows)
    with pytest.raises(Crash):
        lander(ledger, folder_lake).run_once()
    monkeypatch.undo()
    before = {f.path: folder_lake.read_bytes(f.path) for f in folder_lake.list()}
    add(ledger, [event(4)])

    soon = utc_now()
    assert lander(ledger, folder_lake, lambda: soon).run_once().stopped_reason == "not_leader"
    later = soon + timedelta(seconds=LEASE_S)
    report = lander(ledger, folder_lake, lambda: later).run_once()
    assert (report.landed, report.rows, report.stopped_reason) == (3, 4, "empty")
    assert landed_ids(folder_lake) == ["0001", "0002", "0003", "0004"]
    assert {path: folder_lake.read_bytes(path) for path in before} == before


def test_a_lander_that_slept_past_its_lease_changes_nothing(ledger: Ledger, folder_lake: Lake) -> None:
    add(ledger, [event(1)])
    start = utc_now()
    sleeper = lander(ledger, folder_lake, lambda: start)
    real_write, seen = folder_lake.write, []

    def write(path: str, table: pa.Table) -> None:
        real_write(path, table)
        if not seen:
            # While the sleeper is about to mark its segment, another takes over, lands it, and more arrives.
            seen.append(folder_lake.read_bytes(path))
            later = start + timedelta(seconds=LEASE_S)
            assert lander(ledger, folder_lake, lambda: later).run_once().landed == 1
            add(ledger, [event(2)])

    folder_lake.write = write  # type: ignore[method-assign]
    assert sleeper.run_once() == LandReport(1, 0, 0, 0, "lease_lost")
    assert landed_ids(folder_lake) == ["0001"]
    [file] = folder_lake.list()
    assert folder_lake.read_bytes(file.path) == seen[0]


def test_many_landers_and_writers_at_once_land_every_row_once(ledger: Ledger, folder_lake: Lake) -> None:
    stop = threading.Event()
    landers = [threading.Thread(target=lander(ledger, folder_lake).run, args=(stop, 0.005)) for _ in range(3)]
    for thread in landers:
        thread.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add(ledger, [event(n)]), range(300)))
    stop.set()
    for thread in landers:
        thread.join()
    assert lander(ledger, folder_lake).run_once().stopped_reason == "empty"
    assert landed_ids(folder_lake) == [f"{n:04d}" for n in range(300)]


def test_a_row_that_commits_after_a_later_one_landed_is_not_forgotten(postgres_url: str, folder_lake: Lake) -> None:
    with Ledger.open(postgres_url) as ledger:
        inside, go_on = threading.Event(), threading.Event()

        def slow(conn: Connection, items: Sequence[None]) -> list[None]:
            outbox.add(conn, "audit", [event(1)], NOW)
            inside.set()
            assert go_on.wait(30)
            return [None]

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(ledger.write, slow, None)
            assert inside.wait(PATIENCE_S)
            add(ledger, [event(2)])
            mark = outbox.high_water(ledger, "audit")
            assert outbox.pending_through(ledger, "audit", mark) == 1
            assert lander(ledger, folder_lake, lambda: NOW).run_once().rows == 1
            assert outbox.pending_through(ledger, "audit", mark) == 0
            go_on.set()
            writing.result()
        # Its number is below the mark, but it was not committed when the mark was taken.
        assert outbox.pending_through(ledger, "audit", mark) == 1
        assert lander(ledger, folder_lake, lambda: NOW + HOUR).run_once().rows == 1
    assert landed_ids(folder_lake) == ["0001", "0002"]


def test_what_was_committed_before_a_mark_has_landed_when_nothing_pends(ledger: Ledger, folder_lake: Lake) -> None:
    assert outbox.high_water(ledger, "audit") == 0
    assert outbox.pending_through(ledger, "audit", 0) == 0
    add(ledger, [event(1)])
    add(ledger, [event(2)], "audit")
    mark = outbox.high_water(ledger, "audit")
    add(ledger, [event(3)])
    assert outbox.pending_through(ledger, "audit", mark) == 2
    assert outbox.depth(ledger) == {"audit": 3}
    lander(ledger, folder_lake).run_once()
    add(ledger, [event(4)])
    # Numbers are not used again, so a new row is never mistaken for one before the mark.
    assert outbox.pending_through(ledger, "audit", mark) == 0


@pytest.mark.parametrize(
    "bad",
    ["no json", '{"audit_id": "x"}', '["x"]', '[{"audit_id": 5}]', '[{"at": 99999999999999999999}]', '[{"at": "x"}]'],
)
def test_a_malformed_row_is_put_aside_loudly_and_stops_nothing(
    sqlite_ledger: Ledger, folder_lake: Lake, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    def put(conn: Connection, items: Sequence[str]) -> list[None]:
        for item in items:
            values = {"lake_table": "audit", "rows": item, "row_count": 1, "at": to_micros(NOW)}
            conn.execute(insert(OUTBOX).values(values))
        return [None for _ in items]

    add(sqlite_ledger, [event(1)])
    sqlite_ledger.write(put, bad)
    add(sqlite_ledger, [event(2)])
    with caplog.at_level(logging.ERROR):
        report = lander(sqlite_ledger, folder_lake).run_once()
    assert (report.rows, report.rejected, report.stopped_reason) == (2, 1, "empty")
    assert "is no row of audit" in caplog.text
    assert landed_ids(folder_lake) == ["0001", "0002"]
    with sqlite_ledger.read() as conn:
        [kept] = conn.execute(select(OUTBOX_REJECTED)).all()
    assert kept.rows == bad and kept.lake_table == "audit" and kept.error


def test_a_segment_of_rejected_rows_only_still_has_its_file(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    def put(conn: Connection, items: Sequence[str]) -> list[None]:
        conn.execute(insert(OUTBOX).values(lake_table="audit", rows="[5]", row_count=1, at=to_micros(NOW)))
        return [None]

    sqlite_ledger.write(put, "")
    report = lander(sqlite_ledger, folder_lake).run_once()
    assert (report.landed, report.rows, report.rejected) == (1, 0, 1)
    [file] = folder_lake.list("audit")
    assert folder_lake.read(file.path).num_rows == 0


def test_segments_are_bounded(ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "SEGMENT_ROWS", 10)
    monkeypatch.setattr(outbox, "PLAN_OUTBOX_ROWS", 7)
    for start in range(0, 60, 4):
        add(ledger, [event(n) for n in range(start, start + 4)])
    lander(ledger, folder_lake).run_once()
    sizes = [folder_lake.read(f.path).num_rows for f in folder_lake.list("audit")]
    assert sum(sizes) == 60 and max(sizes) == 8
    with ledger.read() as conn:
        assert conn.execute(select(func.sum(SEGMENTS.c.row_count))).scalar() == 60


def test_stopping_gives_the_role_up(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    add(sqlite_ledger, [event(1)])
    first = lander(sqlite_ledger, folder_lake, lambda: NOW)
    first.run_once()
    assert leases.holder(sqlite_ledger, "lander", NOW) is not None
    stopped = threading.Event()
    stopped.set()
    first.run(stopped, 0.1)
    assert leases.holder(sqlite_ledger, "lander", NOW) is None


def test_a_lander_that_rests_gives_the_role_up_once(ledger: Ledger, folder_lake: Lake) -> None:
    """Operators see whose role has run out: that of a dead one."""
    add(ledger, [event(1)])
    now = [NOW]
    resting = lander(ledger, folder_lake, lambda: now[0])
    resting.run_once()
    for part, held in ((0.5, True), (0.9, False), (2.0, False)):
        now[0] = NOW + timedelta(seconds=LEASE_S * part)
        assert resting.run_once().stopped_reason == "empty"
        assert [role.is_held for role in overview.roles(ledger, now[0])] == [True] * held
    add(ledger, [event(2)])
    assert resting.run_once().rows == 1


def test_a_store_that_stays_broken_is_reported_after_a_bound(sqlite_ledger: Ledger, folder_lake: Lake) -> None:
    add(sqlite_ledger, [event(1)])
    calls = []

    def write(path: str, table: pa.Table) -> None:
        calls.append(path)
        raise OSError("no space left")

    folder_lake.write = write  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no space"):
        lander(sqlite_ledger, folder_lake).run(threading.Event(), 0.0)
    assert len(calls) == MAX_FAILURES
    with sqlite_ledger.read() as conn:
        assert [orjson.loads(r) for r in conn.execute(select(OUTBOX.c.rows)).scalars()] == [[event(1)]]
