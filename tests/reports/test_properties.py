"""From raw log files to tables: what the same lines and attempts say, however, how often and when they come."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import partition
from notify_pipeline.receipts.hours import process_hour
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.reports.comparison import compare, files_of
from tests.examples import examples
from tests.receipts.samples import line, log
from tests.receipts.test_hours import contents
from tests.reports.desk import Desk, passed
from tests.reports.test_incremental import published, worlds
from tests.reports.worlds import START, Row, World, put

# The hours that log files lie in; a line is never later than its file's.
_HOURS = 30
# Each builds several versions, which takes seconds: three in CI.
_EXAMPLES = examples(9) - 2
# An order of some hundred rows is one number: to shrink it row by row would take minutes.
_ORDERS = st.integers(0, 2**32)


class House:
    """A lake with its reports, and the raw logs that it reads."""

    def __init__(self, folder: Path) -> None:
        self.desk = Desk(Lake(str(folder / "lake")), folder / "reports")
        self._raw = Lake(str(folder / "logs"))
        self._logs = Logs(str(folder / "logs"))
        self._hours: set[int] = set()

    def log(self, name: str, rows: Sequence[Row], hour: int = 0, *, compress: bool = True) -> None:
        """Put a log file of beacons, over the one that has its name."""
        lines = [_line(row) for row in rows]
        self._raw.write_bytes(
            f"fastly/{partition(START + timedelta(hours=hour))}/{name}", log(*lines, compress=compress)
        )
        self._hours.add(hour)

    def backfill(self, *, reparse: bool = False) -> None:
        """Process every hour that has log files."""
        for hour in sorted(self._hours):
            process_hour(self.desk.lake, self._logs, START + timedelta(hours=hour), reparse=reparse, at_once=1)

    def put(self, world: World) -> None:
        """Put a world as it is: a file per table, and one of the log."""
        for table, rows in world.rows.items():
            if table != "receipts":
                put(self.desk.lake, table, rows, "all")
        self.log("all", world.rows["receipts"])
        self.backfill()


@contextmanager
def houses() -> Iterator[tuple[House, House]]:
    """Yield two."""
    with tempfile.TemporaryDirectory() as folder:
        found = House(Path(folder) / "1"), House(Path(folder) / "2")
        yield found
        for house in found:
            house.desk.reader.close()


def _line(row: Row) -> bytes:
    fields = {"notificationId": row["notification_id"], "platform": row["platform"], "provider": row["provider"]}
    query = {**fields, "d": row["delivery_id"]} | ({} if row["action"] is None else {"action": row["action"]})
    return line(urlencode(query), f"/notification/{row['event']}", row["at"])


def _forged(world: World, draws: random.Random) -> list[Row]:
    """Beacons with ids that nobody was given, and with those of other notifications."""
    known = world.rows["receipts"]
    names = [row["notification_id"] for row in world.rows["requests"]]
    invented = [row | {"delivery_id": draws.randbytes(20).hex()} for row in draws.choices(known, k=3)]
    return [*invented, *(row | {"notification_id": draws.choice(["nobody's", "f" * 32])} for row in known[:3])] + [
        row | {"notification_id": name} for row in known[:2] for name in names if name != row["notification_id"]
    ]


@settings(max_examples=_EXAMPLES, deadline=None)
@given(worlds(), _ORDERS, st.integers(1, 4))
def test_whenever_files_come_and_whatever_was_wrong_before_the_tables_are_the_same(
    world: World, order: int, files: int
) -> None:
    draws = random.Random(order)
    with houses() as (plain, other):
        plain.put(world)
        assert passed(plain.desk.update())
        # Every line once, in other files, at other hours; every landed row at least once.
        lines = draws.sample(world.rows["receipts"], len(world.rows["receipts"]))
        parts = [(f"part-{n}", lines[n::files], draws.randrange(_HOURS)) for n in range(files)]
        landed = [
            (table, shuffled[n::2] + draws.choices(rows, k=2), f"part-{n}")
            for table, rows in world.rows.items()
            if table != "receipts"
            for shuffled in [draws.sample(rows, len(rows))]
            for n in range(2 if rows else 0)
        ]
        draws.shuffle(landed)
        half = len(landed) // 2
        for number, (table, rows, name) in enumerate(landed):
            if number == half:
                # The first log file is not what it should be: lines are missing, repeated and forged.
                wrong = [*draws.choices(lines, k=len(lines) // 2), *_forged(world, draws)]
                other.log(parts[0][0], wrong, parts[0][2])
                other.backfill()
                other.desk.publish()
            put(other.desk.lake, table, rows, name, START + timedelta(hours=draws.randrange(_HOURS)))
        for name, rows, hour in parts:
            other.log(name, rows, hour, compress=draws.random() < 0.5)
        other.backfill()
        assert passed(other.desk.update())
        assert compare(published(plain.desk), published(other.desk)) == {}
        # Once more from the raw logs, and from the whole lake.
        before = contents(other.desk.lake)
        other.backfill(reparse=True)
        assert contents(other.desk.lake) == before
        again = other.desk.build()
        assert again.changed == ()
        again.discard()
        rebuilt = other.desk.build(full=True)
        assert compare(published(other.desk), files_of(rebuilt, other.desk.root)) == {}
        rebuilt.discard()


@settings(max_examples=_EXAMPLES, deadline=None)
@given(worlds(), _ORDERS)
def test_files_that_come_twice_change_nothing_but_hits_and_forged_lines_not_even_those(
    world: World, order: int
) -> None:
    draws = random.Random(order)
    with houses() as (plain, other):
        for house in (plain, other):
            house.put(world)
            house.desk.publish()
        forged = _forged(world, draws)
        other.log("forged", draws.sample(forged, len(forged)), draws.randrange(_HOURS))
        other.backfill()
        assert passed(other.desk.update())
        assert compare(published(plain.desk), published(other.desk)).keys() == {"foreign_beacons"}
        other.log("all, once more", world.rows["receipts"], draws.randrange(_HOURS))
        put(other.desk.lake, "attempts", world.rows["attempts"], "once more")
        other.backfill()
        assert passed(other.desk.update())
        for (table,) in plain.desk.query("SELECT view_name FROM duckdb_views() WHERE schema_name = 'facts'"):
            if table != "foreign_beacons":
                what = "* EXCLUDE (hits)" if table in ("notifications", "platform_reports", "actions") else "*"
                query = f"SELECT {what} FROM facts.{table} ORDER BY ALL"
                assert plain.desk.query(query) == other.desk.query(query)
