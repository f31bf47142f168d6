"""The lander: moves outbox rows into the lake's tables, each exactly once, within about a second.

Belongs here: the order of steps that makes it exactly once, and turning outbox rows into Parquet. Does not belong here:
the plan's rows (``ledger.outbox``), files (``lake``), larger files from small ones (``compaction``).

A segment is named in the ledger, with its rows assigned, before its file is written; its rows leave the outbox in the
transaction that marks it landed. Whatever dies in between, the next lander finds the plan and writes the same file
again. A lander that was only asleep writes the same bytes to the same place, and is refused when it marks them.

A row that does not fit its table stops nothing: its outbox row goes to ``outbox_rejected`` whole, with the reason, and
the lander says so loudly, in its log and its report.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson
import pyarrow as pa

from notify_pipeline.core.ids import new_id
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import leases, outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.schemas import LANDING_TABLES, LakeTable

LEASE = "lander"
# A dead lander's successor waits this long; landing one segment takes well below it.
LEASE_S = 5.0
# ... and its holder renews it after a third of that.
_RENEW_AFTER = timedelta(seconds=LEASE_S / 3)
# One run plans and lands at most this many times, so that it returns even where rows come faster than it lands them.
MAX_ROUNDS = 20
# So many runs that fail one after another are no passing trouble: whoever started the lander must see it.
MAX_FAILURES = 20

_log = logging.getLogger(__name__)

Stopped = Literal["empty", "not_leader", "lease_lost", "busy"]


@dataclass(frozen=True, slots=True)
class LandReport:
    """What one run did.

    Attributes:
        planned: Segments planned.
        landed: Segments landed, those of a dead predecessor included.
        rows: Lake rows in them.
        rejected: Outbox rows put aside because they are not rows of their table.
        stopped_reason: ``empty``: nothing waits; ``not_leader``: another lander works; ``lease_lost``: another took
            over; ``busy``: more waits, call again.
    """

    planned: int
    landed: int
    rows: int
    rejected: int
    stopped_reason: Stopped


class Lander:
    """One lander. Several may run, in any number of processes; one works at a time."""

    def __init__(self, ledger: Ledger, lake: Lake, clock: Callable[[], datetime], owner: str | None = None) -> None:
        """Take the stores and the clock; ``owner`` names this lander among others."""
        self._ledger = ledger
        self._lake = lake
        self._clock = clock
        self._owner = owner or f"lander-{new_id()}"
        self._lease: leases.Lease | None = None
        self._renewed_at = clock()
        self._planned = self._landed = self._rows = self._rejected = 0

    def run_once(self) -> LandReport:
        """Land what waits."""
        self._planned = self._landed = self._rows = self._rejected = 0
        try:
            stopped = self._work()
        except leases.LeaseLost as lost:
            _log.warning("%s", lost)
            self._lease = None
            stopped = "lease_lost"
        return LandReport(self._planned, self._landed, self._rows, self._rejected, stopped)

    def run(self, stop: threading.Event, interval_s: float) -> None:
        """Land what waits, again and again until told to stop, then give the role up.

        An error of the stores is logged, and tried again after the interval: what waits is safe in the ledger.

        Raises:
            Exception: The error of the ``MAX_FAILURES``-th run that failed in a row.
        """
        failures = 0
        try:
            while not stop.is_set():
                busy = False
                try:
                    busy = self.run_once().stopped_reason == "busy"
                    failures = 0
                except Exception:
                    failures += 1
                    if failures == MAX_FAILURES:
                        raise
                    _log.exception("landing failed (%s in a row); trying again in %s s", failures, interval_s)
                stop.wait(0 if busy else interval_s)
        finally:
            self.release()

    def release(self) -> None:
        """Let another lander take over at once."""
        lease, self._lease = self._lease, None
        if lease is not None:
            leases.release(self._ledger, lease)

    def _work(self) -> Stopped:
        for _ in range(MAX_ROUNDS):
            # A look costs nothing durable: an idle lander writes nothing, not even its lease.
            if outbox.is_empty(self._ledger):
                self._rest()
                return "empty"
            if (lease := self._hold()) is None:
                return "not_leader"
            self._planned += outbox.assign(self._ledger, lease, self._clock())
            for segment in outbox.planned(self._ledger):
                self._land(lease, segment)
                lease = self._hold() or lease
        return "busy"

    def _rest(self) -> None:
        """Give the role up before it runs out: who rests shall not look like somebody who has died."""
        if self._lease is not None and self._clock() - self._renewed_at >= 2 * _RENEW_AFTER:
            self.release()

    def _hold(self) -> leases.Lease | None:
        """Take the role, or keep it; a role that is lost without our noticing fails where it is checked."""
        now = self._clock()
        if self._lease is None or now - self._renewed_at >= _RENEW_AFTER:
            self._lease = leases.acquire(self._ledger, LEASE, self._owner, LEASE_S, now)
            self._renewed_at = now
        return self._lease

    def _land(self, lease: leases.Lease, segment: outbox.Segment) -> None:
        rows = outbox.rows(self._ledger, segment)
        if rows is None:
            return
        table, rejected = to_table(LANDING_TABLES[segment.lake_table], rows)
        for bad in rejected:
            _log.error(
                "outbox row %s is no row of %s and was put aside: %s", bad.row.seq, segment.lake_table, bad.error
            )
        # Even without a row: whoever reads the plan may count on a file for each landed segment.
        self._lake.write(segment.path, table)
        landed = outbox.Landed(lease, segment, table.num_rows, tuple(rejected), self._clock())
        if outbox.mark_landed(self._ledger, landed):
            self._landed += 1
            self._rows += table.num_rows
            self._rejected += len(rejected)


def to_table(lake_table: LakeTable, rows: Sequence[outbox.OutboxRow]) -> tuple[pa.Table, list[outbox.Rejected]]:
    """Return the lake rows of outbox rows, in order, and the outbox rows that are none."""
    try:
        # The usual case, all in one go: a tenth of the cost of one by one.
        return _build(lake_table, [each for row in rows for each in orjson.loads(row.rows)]), []
    except (pa.ArrowException, *_MALFORMED):
        good: list[Mapping[str, Any]] = []
        rejected: list[outbox.Rejected] = []
        for row in rows:
            try:
                members = orjson.loads(row.rows)
                _build(lake_table, members)
            except (pa.ArrowException, *_MALFORMED) as error:
                rejected.append(outbox.Rejected(row, f"{type(error).__name__}: {error}"[:_ERROR_LENGTH]))
            else:
                good.extend(members)
        return _build(lake_table, good), rejected


# What a wrong shape or type raises here: no JSON, no list of objects, text where a number belongs, an overflow.
_MALFORMED = (ValueError, TypeError, AttributeError, OverflowError)
_ERROR_LENGTH = 500


def _build(lake_table: LakeTable, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    columns = [_column(field, [row.get(field.name) for row in rows]) for field in lake_table.schema]
    return pa.Table.from_arrays(columns, schema=lake_table.schema)


def _column(field: pa.Field, values: list[Any]) -> pa.Array:
    if pa.types.is_timestamp(field.type):
        return pa.array(values, pa.int64()).cast(field.type)
    return pa.array(values, field.type)
