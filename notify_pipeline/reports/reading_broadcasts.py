"""The recipients of a broadcast: its shards' rows, each with the last chunk that names it.

Belongs here: walking shards page by page, with a few row groups and chunks in memory. Does not belong here: recipients
that are in no shard (``reading_recipients``).

The order is that of the shards and of their rows: it is fixed at the snapshot, so that pages do not move while the
broadcast is sent. A recipient is finished when its last chunk was settled and decided no retry for it.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from notify_pipeline.core.ids import DeliveryIds, from_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import chunks, segments, shards
from notify_pipeline.core.ledger.chunk_rows import ChunkRow
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.ledger.shards import ShardRow
from notify_pipeline.core.partitions import partition_of
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Outcome
from notify_pipeline.reports import reading_attempts
from notify_pipeline.reports.reading_attempts import COLUMNS, RecipientFilter, RecipientRow, Row

# A shard, and a row of it.
Place = tuple[int, int]
# Rows looked at together where a filter is given, at first and at most, and how often for one page: then it is short.
_FIRST_WINDOW, _WINDOW = 500, 10_000
_MOST_WINDOWS = 20
_INTENDED = "intended"


@dataclass(frozen=True, slots=True)
class _Last:
    """The last chunk that names a recipient: where in it, and whether it waits for another attempt."""

    chunk: ChunkRow
    at: int
    again: bool

    @property
    def is_final(self) -> bool:
        return self.chunk.state != _INTENDED and not self.again


class BroadcastReader:
    """Reads one broadcast's recipients."""

    def __init__(self, ledger: Ledger, lake: Lake, request: RequestRow) -> None:
        self._ledger = ledger
        self._lake = lake
        self._request = request
        self._secret = ledger.secret("delivery")

    def page(
        self, where: RecipientFilter, limit: int, after: Place | None
    ) -> tuple[list[tuple[Place, RecipientRow]], Place | None]:
        """Return up to ``limit`` recipients and where they are; and where the walk stopped if it looked no further."""
        found: list[tuple[Place, RecipientRow]] = []
        windows = 0
        for shard in shards.shards(self._ledger, self._request.request_id):
            if (after is not None and shard.shard < after[0]) or where.channel not in (None, shard.channel):
                continue
            if where.pending and shard.done_at is not None:
                continue
            start = after[1] + 1 if after is not None and shard.shard == after[0] else 0
            hopeful = self._hopeful(shard, where)
            while (start := _next(hopeful, start)) < shard.recipients:
                if len(found) >= limit:
                    return found[:limit], None
                if windows >= _MOST_WINDOWS:
                    return found, (shard.shard, start - 1)
                narrow = where.outcome is not None or where.pending
                size = min(_FIRST_WINDOW << 2 * windows, _WINDOW) if narrow else limit - len(found)
                end = min(start + size, shard.recipients)
                try:
                    found += [((shard.shard, at), row) for at, row in self._window(shard, start, end, where)]
                except FileNotFoundError:
                    if self._lake.exists(shard.path):
                        raise
                    break  # its list is not kept any more
                start, windows = end, windows + 1
        return found[:limit], None

    def _hopeful(self, shard: ShardRow, where: RecipientFilter) -> Sequence[Sequence[int]] | None:
        """Return rows that may have the outcome asked for, in ascending pieces; None for all."""
        if where.outcome is None:
            return None
        outcome = where.outcome
        if not chunks.totals(self._ledger, shard.request_id, shard.shard).outcomes[outcome]:
            return ()
        rows = chunks.newest_first(self._ledger, shard.request_id, shard.shard)
        return [row.ordinals for row in rows if row.counts.get(outcome)]

    def _window(
        self, shard: ShardRow, start: int, end: int, where: RecipientFilter
    ) -> Iterator[tuple[int, RecipientRow]]:
        """Yield the recipients of some rows that fit, with the number of their row."""
        last = self._last(shard, start, end)
        wanted = [at for at in range(start, end) if _may_fit(last.get(at), where)]
        attempts = self._attempts(shard, {at: last[at] for at in wanted if at in last}, where.outcome)
        # Attempts that are not there although they were made are not kept any more, and so nobody can say what became.
        wanted = [at for at in wanted if at in attempts or (where.outcome is None and not _was_recorded(last.get(at)))]
        people = self._people(shard, wanted, ("recipient", "platform", "user_id"))
        ids = DeliveryIds(self._secret, self._request.tenant, self._request.notification_id, shard.channel)
        delivery_ids = ids.of_all(people[at]["recipient"] for at in wanted)
        for at, delivery_id in zip(wanted, delivery_ids, strict=True):
            yield at, _row(shard, people[at], delivery_id, last.get(at), attempts.get(at, {}))

    def _last(self, shard: ShardRow, start: int, end: int) -> dict[int, _Last]:
        found: dict[int, _Last] = {}
        for chunk in chunks.newest_first(self._ledger, shard.request_id, shard.shard):
            again = {ordinal for ordinal, _ in chunk.retries}
            first = bisect_left(chunk.ordinals, start)
            for at in range(first, bisect_left(chunk.ordinals, end, first)):
                ordinal = chunk.ordinals[at]
                found.setdefault(ordinal, _Last(chunk, at, ordinal in again))
            if len(found) == end - start:
                break
        return found

    def _people(self, shard: ShardRow, wanted: Sequence[int], columns: Sequence[str]) -> dict[int, Row]:
        """Return the shard's rows of these ascending numbers."""
        found: dict[int, Row] = {}
        if not wanted:
            return found
        with self._lake.open_parquet(shard.path) as file:
            first = 0
            for number in range(file.metadata.num_row_groups):
                size = file.metadata.row_group(number).num_rows
                mine = wanted[bisect_left(wanted, first) : bisect_left(wanted, first + size)]
                if mine:
                    numbers = pa.array([at - first for at in mine], pa.int64())
                    rows = file.read_row_group(number, list(columns), use_threads=False).take(numbers)
                    found.update(zip(mine, rows.to_pylist(), strict=True))
                first += size
        return found

    def _attempts(self, shard: ShardRow, last: Mapping[int, _Last], outcome: Outcome | None) -> dict[int, Row]:
        """Return the last recorded attempt of rows whose last chunk was settled; only of this outcome if one is given.

        Rows of other outcomes are dropped before they are taken out of their columns, which is what costs.
        """
        by_chunk: dict[int, list[int]] = {}
        for at, mine in last.items():
            if mine.chunk.state != _INTENDED:
                by_chunk.setdefault(mine.chunk.chunk, []).append(at)
        found: dict[int, Row] = {}
        gone: dict[str, list[int]] = {}
        for ats in by_chunk.values():
            path = last[ats[0]].chunk.path
            try:
                table = self._lake.read(path, [name for name in COLUMNS if name != "user_id"])
            except FileNotFoundError:
                gone.setdefault(path.rpartition("/")[0], []).extend(ats)
                continue
            rows = table.take(pa.array([last[at].at for at in ats], pa.int64()))
            if outcome is not None:
                fits = pc.equal(rows["outcome"], outcome.value)
                ats = [at for at, mine in zip(ats, fits.to_pylist(), strict=True) if mine]
                rows = rows.filter(fits)
            found.update(zip(ats, rows.to_pylist(), strict=True))
        for ats in gone.values():
            found.update(self._compacted(shard, {at: last[at] for at in sorted(ats)}, outcome))
        return found

    def _compacted(self, shard: ShardRow, last: Mapping[int, _Last], outcome: Outcome | None) -> dict[int, Row]:
        """Return the attempts of rows whose chunks, all of one hour, were compacted."""
        people = self._people(shard, list(last), ("recipient",))
        by_key = {(people[at]["recipient"], mine.chunk.attempts[mine.at]): at for at, mine in last.items()}
        hour = partition_of(next(iter(last.values())).chunk.path)
        paths = segments.landed_between(self._ledger, ATTEMPTS.name, hour, hour, None)
        where = {"request_id": [shard.request_id], "recipient": sorted({recipient for recipient, _ in by_key})}
        if outcome is not None:
            where["outcome"] = [outcome.value]
        found: dict[int, Row] = {}
        for rows in reading_attempts.matching(self._lake, paths, where):
            for row in rows:
                at = by_key.get((row["recipient"], row["attempt_no"]))
                if at is not None and row["channel"] == shard.channel and row["shard"] is not None:
                    found[at] = row
        # Without any file of the hour: attempts of that day are not kept any more.
        if paths and outcome is None and len(found) < len(last):
            raise FileNotFoundError(f"attempts of request {shard.request_id} in {hour:%Y-%m-%d %H}")
        return found


def _next(hopeful: Sequence[Sequence[int]] | None, start: int) -> int:
    """Return the first row from ``start`` that may fit; beyond every shard where there is none."""
    if hopeful is None:
        return start
    firsts = ((rows, bisect_left(rows, start)) for rows in hopeful)
    return min((rows[at] for rows, at in firsts if at < len(rows)), default=1 << 62)


def _was_recorded(last: _Last | None) -> bool:
    return last is not None and last.chunk.state != _INTENDED


def _may_fit(last: _Last | None, where: RecipientFilter) -> bool:
    is_final = last is not None and last.is_final
    if where.pending:
        return not is_final
    if where.outcome is None:
        return True
    return last is not None and is_final and bool(last.chunk.counts.get(where.outcome))


def _row(
    shard: ShardRow, person: Row, delivery_id: str, last: _Last | None, attempt: Mapping[str, Any]
) -> RecipientRow:
    began = attempt.get("sent_at")
    if last is not None and not attempt:
        began = from_micros(last.chunk.intended_at)
    return RecipientRow(
        recipient=person["recipient"],
        user_id=person["user_id"],
        channel=shard.channel,
        platform=person["platform"],
        delivery_id=delivery_id,
        outcome=attempt["outcome"] if last is not None and last.is_final else None,
        provider_code=attempt.get("provider_code"),
        provider_message_id=attempt.get("provider_message_id"),
        attempts=0 if last is None else last.chunk.attempts[last.at],
        last_attempt_at=began,
        consent=attempt.get("consent"),
    )
