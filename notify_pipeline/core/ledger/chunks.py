"""The chunks of a shard, read: how they ended, which did not, and all of them for whoever takes the shard over.

Belongs here: those queries. Does not belong here: what a row holds (``chunk_rows``), changing one (``broadcasts``).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson
from sqlalchemy import Connection, and_, select

from notify_pipeline.core.ledger.chunk_rows import ChunkRow, chunk_row, unpack_retries
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.progress import ATTEMPTS, RETRIES, AttemptTotals
from notify_pipeline.core.ledger.tables import CHUNKS, SHARDS
from notify_pipeline.core.vocabulary import Outcome

# Chunks read at a time: a chunk is a few bytes when it is a range, and some tens of kilobytes when it is not.
_PAGE = 32


@dataclass(slots=True)
class ChunkTotals:
    """What a shard's chunks add up to.

    Attributes:
        chunks: How many there are, retries included.
        ambiguous: How many of them a dead process left without outcomes.
        outcomes: Recipients finished, by final outcome.
    """

    chunks: int = 0
    ambiguous: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)


def totals(ledger: Ledger, request_id: str, shard: int) -> ChunkTotals:
    """Return what a shard's chunks add up to, without reading who is in them."""
    mine = and_(CHUNKS.c.request_id == request_id, CHUNKS.c.shard == shard)
    found = ChunkTotals()
    with ledger.read() as conn:
        for state, counts in conn.execute(select(CHUNKS.c.state, CHUNKS.c.counts).where(mine)):
            found.chunks += 1
            found.ambiguous += state == "ambiguous"
            if counts is not None:
                found.outcomes.update({Outcome(name): number for name, number in orjson.loads(counts).items()})
    return found


def attempts(conn: Connection, request_id: str) -> AttemptTotals:
    """Return how often was tried on each channel of a broadcast whose chunks are all settled.

    It reads what they were settled with, not who was in them: some 2 ms for the 200 chunks of a million recipients.
    """
    of_chunks = select(SHARDS.c.channel, CHUNKS.c.counts, CHUNKS.c.retries).join_from(
        SHARDS, CHUNKS, and_(SHARDS.c.request_id == CHUNKS.c.request_id, SHARDS.c.shard == CHUNKS.c.shard)
    )
    found: AttemptTotals = {}
    for channel, counts, retries in conn.execute(of_chunks.where(SHARDS.c.request_id == request_id)):
        again = 0 if retries is None else len(unpack_retries(retries))
        finished = 0 if counts is None else sum(orjson.loads(counts).values())
        totals = found.setdefault(channel, {ATTEMPTS: 0, RETRIES: 0})
        totals[ATTEMPTS] += finished + again
        # Each retry that a chunk decided was an attempt of a later one.
        totals[RETRIES] += again
    return found


def left(ledger: Ledger, request_id: str, shard: int) -> list[ChunkRow]:
    """Return the chunks that were intended and not settled, by number; a process leaves a few at most."""
    mine = and_(CHUNKS.c.request_id == request_id, CHUNKS.c.shard == shard, CHUNKS.c.state == "intended")
    with ledger.read() as conn:
        return [chunk_row(row._mapping) for row in conn.execute(select(CHUNKS).where(mine).order_by(CHUNKS.c.chunk))]


def paths(ledger: Ledger, request_id: str, shard: int) -> list[str]:
    """Return the attempts files of a shard's chunks, by number, without reading who is in them."""
    mine = and_(CHUNKS.c.request_id == request_id, CHUNKS.c.shard == shard)
    with ledger.read() as conn:
        return list(conn.execute(select(CHUNKS.c.path).where(mine).order_by(CHUNKS.c.chunk)).scalars())


def newest_first(ledger: Ledger, request_id: str, shard: int) -> Iterator[ChunkRow]:
    """Yield a shard's chunks from the highest number down, holding a few at a time."""
    mine = and_(CHUNKS.c.request_id == request_id, CHUNKS.c.shard == shard)
    query = select(CHUNKS).where(mine).order_by(CHUNKS.c.chunk.desc()).limit(_PAGE)
    page = query
    while True:
        with ledger.read() as conn:
            rows = [chunk_row(row._mapping) for row in conn.execute(page)]
        yield from rows
        if len(rows) < _PAGE:
            return
        page = query.where(CHUNKS.c.chunk < rows[-1].chunk)
