"""How sends stand at this moment, in figures: what reports show until a version knows as much.

Belongs here: those reads, and a token that changes when they do. Does not belong here: laying them over a report
(``reports.reading_live``), counting (``progress``).

A request's own row has its counts by channel, exact to the last settled chunk. Beside it are read: by platform, the
deliveries of a small send, which are in the queue until its end; and who was tried and waits for another attempt, whom
the counts still call pending. A broadcast's chunks say neither a platform nor, as long as nobody waits, need reading.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, and_, case, func, or_, select, text

from notify_pipeline.core.ledger.chunk_rows import tried_before, unpack_retries
from notify_pipeline.core.ledger.deliveries import SENDING, WAITING
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import RequestRow, to_row
from notify_pipeline.core.ledger.tables import CHUNKS, DELIVERIES, REQUESTS, SHARDS
from notify_pipeline.core.vocabulary import DeliveryMode, Priority, RequestState

# In the words of the partial index, literally: only then does SQLite know that it covers the query.
_OPEN = text("requests.state IN ('accepted', 'routed', 'sending')")
# Beyond so many open sends a list has no token: to read them would cost more than the list.
MOST_OPEN = 1_000
# A recipient on its way who was attempted before: what became of that attempt is known.
_TRIED = or_(
    and_(DELIVERIES.c.state == WAITING, DELIVERIES.c.attempt_no > 0),
    and_(DELIVERIES.c.state == SENDING, DELIVERIES.c.attempt_no > 1),
)


@dataclass(slots=True)
class Standing:
    """One send's recipients on one channel, or on one platform of it.

    Attributes:
        audience: How many.
        outcomes: Finished ones, by outcome.
        again: Tried without success, and to be tried again.
    """

    audience: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    again: int = 0


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A send as it stands now.

    Attributes:
        request: Its row.
        channels: By channel; ``none`` for recipients that no channel was found for.
        platforms: By channel and platform, of a small send that has not ended; else empty.
    """

    request: RequestRow
    channels: dict[str, Standing]
    platforms: dict[tuple[str, str], Standing]

    @property
    def finished_at(self) -> datetime | None:
        """When it came to its end; None before. Nothing changes a request after that."""
        return self.request.updated_at if self.request.state.is_final else None


def by_request(ledger: Ledger, request_ids: Collection[str]) -> dict[str, LiveRequest]:
    """Return how these requests stand, by request; as many as a page has.

    One read for all of them, and one each for deliveries and chunks of those that are being sent.
    """
    if not request_ids:
        return {}
    with ledger.read() as conn:
        return {
            found.request.request_id: found
            for found in _standing(conn, REQUESTS.c.request_id.in_(sorted(set(request_ids))))
        }


def by_notification(ledger: Ledger, tenant: str, notification_id: str) -> LiveRequest | None:
    """Return how a tenant's notification stands; None when there is none."""
    this = and_(REQUESTS.c.tenant == tenant, REQUESTS.c.notification_id == notification_id)
    with ledger.read() as conn:
        return next(iter(_standing(conn, this)), None)


def token(ledger: Ledger, tenant: str, notification_id: str) -> str:
    """Return a word that is another one when ``by_notification`` has changed."""
    found = by_notification(ledger, tenant, notification_id)
    if found is None:
        return "-"
    again = sorted((name, each.again) for name, each in found.channels.items() if each.again)
    request = found.request
    return _digest([(request.request_id, request.state, request.revision, request.counts, again)])


def token_of_open(ledger: Ledger, tenants: Sequence[str]) -> str | None:
    """Return a word that is another one when a count or state of these tenants' open sends has changed.

    Sends that ended since leave it, too. None where more than ``MOST_OPEN`` are open: then it cannot be told cheaply.
    """
    ranks = REQUESTS.c.priority_rank.in_([priority.rank for priority in Priority])
    query = select(REQUESTS.c.request_id, REQUESTS.c.state, REQUESTS.c.updated_at, REQUESTS.c.revision)
    with ledger.read() as conn:
        # The index's own columns first.
        mine = (_OPEN, REQUESTS.c.state.in_(_OPEN_STATES), ranks, REQUESTS.c.tenant.in_(tenants))
        rows = conn.execute(query.where(*mine).limit(MOST_OPEN + 1)).all()
    return None if len(rows) > MOST_OPEN else _digest(sorted(tuple(row) for row in rows))


_OPEN_STATES = [str(state) for state in RequestState if not state.is_final]


def _digest(parts: Iterable[object]) -> str:
    return hashlib.blake2b(repr(list(parts)).encode(), digest_size=8).hexdigest()


def _standing(conn: Connection, where: object) -> list[LiveRequest]:
    rows = [to_row(row) for row in conn.execute(select(REQUESTS).where(where)).mappings()]  # type: ignore[arg-type]
    sending = [row for row in rows if row.state is RequestState.SENDING]
    platforms = _queued(conn, [row.request_id for row in sending if row.mode == DeliveryMode.DRAIN])
    again = _again(conn, [row.request_id for row in sending if row.mode == DeliveryMode.BROADCAST])
    return [_live(row, platforms.get(row.request_id, {}), again.get(row.request_id, {})) for row in rows]


def _live(row: RequestRow, platforms: dict[tuple[str, str], Standing], again: dict[str, int]) -> LiveRequest:
    channels: dict[str, Standing] = {}
    for channel, counts in row.counts.items():
        outcomes = {name: number for name, number in counts.items() if name not in ("audience", "pending")}
        waiting = again.get(channel, 0) + sum(each.again for key, each in platforms.items() if key[0] == channel)
        channels[channel] = Standing(counts.get("audience", 0), outcomes, waiting)
    return LiveRequest(row, channels, platforms)


def _queued(conn: Connection, request_ids: Sequence[str]) -> dict[str, dict[tuple[str, str], Standing]]:
    """Return the deliveries of small sends by request, channel and platform."""
    found: dict[str, dict[tuple[str, str], Standing]] = defaultdict(dict)
    if not request_ids:
        return found
    key = (DELIVERIES.c.request_id, DELIVERIES.c.channel, DELIVERIES.c.platform, DELIVERIES.c.state)
    tried = func.sum(case((_TRIED, 1), else_=0))
    query = select(*key, func.count(), tried).where(DELIVERIES.c.request_id.in_(request_ids)).group_by(*key)
    for request_id, channel, platform, state, number, again in conn.execute(query):
        mine = found[request_id].setdefault((channel, platform), Standing())
        mine.audience += number
        mine.again += int(again)
        if state not in (WAITING, SENDING):
            mine.outcomes[state] = mine.outcomes.get(state, 0) + number
    return found


def _again(conn: Connection, request_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many of broadcasts' recipients were tried and not finished, by request and channel.

    That is retries that chunks decided, less those that later chunks settled. Where no chunk decided any, its columns
    are not read: they hold who was in it.
    """
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    if not request_ids:
        return found
    retried = select(CHUNKS.c.request_id).where(CHUNKS.c.request_id.in_(request_ids), CHUNKS.c.retries.isnot(None))
    several = conn.execute(retried.distinct()).scalars().all()
    if not several:
        return found
    of_shard = and_(SHARDS.c.request_id == CHUNKS.c.request_id, SHARDS.c.shard == CHUNKS.c.shard)
    query = (
        select(CHUNKS.c.request_id, SHARDS.c.channel, CHUNKS.c.attempts, CHUNKS.c.retries)
        .join_from(CHUNKS, SHARDS, of_shard)
        .where(CHUNKS.c.request_id.in_(several), CHUNKS.c.state != "intended")
    )
    for request_id, channel, attempts, retries in conn.execute(query):
        decided = 0 if retries is None else len(unpack_retries(retries))
        found[request_id][channel] += decided - tried_before(attempts)
    return found
