"""Who a send went to and what became of each, page by page: while it is being sent, and for as long as the lake lasts.

Belongs here: recipients of small sends, those that a routing skipped, and putting them before a broadcast's
(``reading_broadcasts``). Does not belong here: HTTP.

A small send's recipients are in the ledger's queue until it ends, and their attempts in the lake within a second of
each. A recipient counts once, with its last attempt.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
from sqlalchemy import select

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import deliveries, request_lists, routing, segments, shards
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.progress import AUDIENCE, NO_CHANNEL, PENDING
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.ledger.tables import DELIVERIES
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import RETRYABLE_OUTCOMES, Outcome
from notify_pipeline.reports import reading_attempts
from notify_pipeline.reports.reading_attempts import RecipientFilter, RecipientRow, Row
from notify_pipeline.reports.reading_broadcasts import BroadcastReader

# Where a page ends: a shard and a row of it; or -1, 0 and the delivery id of a recipient that is in no shard.
Position = tuple[int, int, str]
_LOOSE = -1
_NO_ID = "-"
# What ended within this long may still be on its way to the lake.
_LANDS_WITHIN = timedelta(seconds=30)
# Clocks of the processes that route and send may differ by this much.
_SKEW = timedelta(minutes=1)
# ... and a clock that is set moves rows into another hour.
_JUMP = timedelta(hours=1)
# The ledger's queue may end, and compactions delete files, between two reads.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class RecipientPage:
    """A page; ``complete`` is False where attempts are still on their way to the lake."""

    rows: Sequence[RecipientRow]
    following: Position | None
    complete: bool


@dataclass(frozen=True, slots=True)
class _Standing:
    """A request, its queue, and how many recipients its shards have, as of one moment."""

    request: RequestRow
    queue: Mapping[str, Row]
    in_shards: int


def page(
    ledger: Ledger,
    lake: Lake,
    request_id: str,
    where: RecipientFilter,
    limit: int,
    after: Position | None,
    now: datetime,
    wait_s: float = 2.0,
) -> RecipientPage:
    """Return a page of a request's recipients.

    Args:
        ledger: The ledger.
        lake: The lake.
        request_id: A request that there is.
        where: Which recipients.
        limit: At most so many.
        after: ``following`` of the page before.
        now: The time.
        wait_s: How long to wait for attempts to land.
    """
    found: list[tuple[Position, RecipientRow]] = []
    complete = True
    standing = _standing(ledger, request_id)
    if after is None or after[0] == _LOOSE:
        loose, complete = _loose(ledger, lake, standing, now, wait_s)
        beyond = [row for row in loose if row.fits(where) and (after is None or row.delivery_id > after[2])]
        found = [((_LOOSE, 0, row.delivery_id), row) for row in beyond[: limit + 1]]
    stopped: Position | None = None
    if len(found) <= limit and standing.in_shards:
        place = None if after is None or after[0] == _LOOSE else (after[0], after[1])
        reader = BroadcastReader(ledger, lake, standing.request)
        more, at = reader.page(where, limit + 1 - len(found), place)
        found += [((*mine, _NO_ID), row) for mine, row in more]
        stopped = None if at is None else (*at, _NO_ID)
    following = found[limit - 1][0] if len(found) > limit else stopped
    return RecipientPage([row for _, row in found[:limit]], following, complete)


def _standing(ledger: Ledger, request_id: str) -> _Standing:
    names = ("delivery_id", "channel", "platform", "address", "recipient", "state", "attempt_no", "intended_at")
    query = select(*(DELIVERIES.c[name] for name in names)).where(DELIVERIES.c.request_id == request_id)
    for _ in range(_TRIES):
        (request,) = routing.load(ledger, [request_id])
        with ledger.read() as conn:
            queue = {row["delivery_id"]: dict(row) for row in conn.execute(query).mappings()}
        in_shards = sum(shard.recipients for shard in shards.shards(ledger, request_id))
        if routing.load(ledger, [request_id])[0].updated_at == request.updated_at:
            break
    return _Standing(request, queue, in_shards)


def _loose(
    ledger: Ledger, lake: Lake, standing: _Standing, now: datetime, wait_s: float
) -> tuple[list[RecipientRow], bool]:
    """Return the recipients that are in no shard, by delivery id, and whether all that is known of them has landed."""
    request = standing.request
    if not _audience(request) - standing.in_shards:
        return [], True
    times = request_lists.times(ledger, [request.request_id])[request.request_id]
    first, last = times.routed_at or times.ended_at or request.accepted_at, times.ended_at or now
    rows = _recorded(ledger, lake, standing, (first - _SKEW, last + _SKEW))
    long_ago = times.ended_at is not None and times.ended_at < now - _LANDS_WITHIN
    if _agrees(standing, rows) and (long_ago or not _is_doubtful(standing, rows)):
        return _merged(standing, rows), True
    landed = reading_attempts.wait_until_landed(ledger, wait_s)
    rows = _recorded(ledger, lake, standing, (first - _SKEW, last + _SKEW))
    if landed and not _agrees(standing, rows):
        rows = _recorded(ledger, lake, standing, (first - _JUMP, last + _JUMP))
    return _merged(standing, rows), landed and _agrees(standing, rows)


def _recorded(ledger: Ledger, lake: Lake, standing: _Standing, span: tuple[datetime, datetime]) -> dict[str, Row]:
    """Return the last attempt that the lake has of each delivery."""
    for left in reversed(range(_TRIES)):
        paths = segments.landed_between(ledger, ATTEMPTS.name, *span, since=span[0])
        found: dict[str, Row] = {}
        try:
            for rows in reading_attempts.matching(lake, paths, {"request_id": [standing.request.request_id]}):
                for row in rows:
                    mine = found.get(row["delivery_id"])
                    if row["shard"] is None and (mine is None or mine["attempt_no"] <= row["attempt_no"]):
                        found[row["delivery_id"]] = row
                if rows and _is_all(standing, found):
                    break
        except FileNotFoundError:
            if not left:
                raise
        else:
            break
    return found


def _audience(request: RequestRow) -> int:
    return sum(values.get(AUDIENCE, 0) for values in request.counts.values())


def _is_doubtful(standing: _Standing, rows: Mapping[str, Row]) -> bool:
    """Tell whether rows that agree may still be told more by a later file: an attempt that ended like the one before.

    Where there is a queue, its attempts' numbers tell.
    """
    return not standing.queue and any(row["outcome"] in RETRYABLE_OUTCOMES for row in rows.values())


def _is_all(standing: _Standing, rows: Mapping[str, Row]) -> bool:
    """Tell whether no later file can say more."""
    return standing.request.state.is_final and not _is_doubtful(standing, rows) and _agrees(standing, rows)


def _agrees(standing: _Standing, rows: Mapping[str, Row]) -> bool:
    """Tell whether what the lake says adds up to what the ledger has counted."""
    counts = standing.request.counts
    if standing.in_shards:
        return len(rows) == _audience(standing.request) - standing.in_shards
    for delivery, queued in standing.queue.items():
        recorded = queued["attempt_no"] - (queued["state"] == deliveries.SENDING)
        if recorded and (delivery not in rows or rows[delivery]["attempt_no"] < recorded):
            return False
    over = (row for delivery, row in rows.items() if _is_over(standing.queue.get(delivery)))
    found = Counter((row["channel"] or NO_CHANNEL, row["outcome"]) for row in over)
    told = {
        (channel, name): number
        for channel, values in counts.items()
        for name, number in values.items()
        if number and name not in (AUDIENCE, PENDING)
    }
    return dict(found) == told


def _is_over(queued: Row | None) -> bool:
    """Tell whether a delivery gets no further attempt, by its row of the queue."""
    return queued is None or queued["state"] in list(Outcome)


def _merged(standing: _Standing, rows: Mapping[str, Row]) -> list[RecipientRow]:
    found = {delivery: _queued(row, rows.get(delivery)) for delivery, row in standing.queue.items()}
    for delivery, row in rows.items():
        if delivery not in found:
            found[delivery] = _landed(row)
    return [found[delivery] for delivery in sorted(found)]


def _queued(queued: Row, row: Row | None) -> RecipientRow:
    intended_at = queued["intended_at"]
    began = from_micros(intended_at) if intended_at is not None else None
    return RecipientRow(
        recipient=queued["address"],
        user_id=orjson.loads(queued["recipient"])[0],
        channel=queued["channel"],
        platform=queued["platform"],
        delivery_id=queued["delivery_id"],
        outcome=queued["state"] if _is_over(queued) else None,
        provider_code=None if row is None else row["provider_code"],
        provider_message_id=None if row is None else row["provider_message_id"],
        attempts=queued["attempt_no"],
        last_attempt_at=began if row is None or row["attempt_no"] < queued["attempt_no"] else row["sent_at"],
        consent=None if row is None else row.get("consent"),
    )


def _landed(row: Row) -> RecipientRow:
    return RecipientRow(
        recipient=row["recipient"],
        user_id=row.get("user_id"),
        channel=row["channel"],
        platform=row["platform"],
        delivery_id=row["delivery_id"],
        outcome=row["outcome"],
        provider_code=row["provider_code"],
        provider_message_id=row["provider_message_id"],
        attempts=row["attempt_no"],
        last_attempt_at=row["sent_at"],
        consent=row.get("consent"),
    )
