"""How far each key's slots are handed out, so that all ingress processes keep to one rate.

Belongs here: handing out slots in one transaction. Does not belong here: the arithmetic (``core.call_rates``), who is
held to which rate (``ingest_api``).
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select

from notify_pipeline.core import call_rates
from notify_pipeline.core.call_rates import Block, CallRate
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tenant_tables import KEY_RATES


class _Draw(NamedTuple):
    key_id: str
    rate: CallRate
    now: int
    wanted: int


def draw(ledger: Ledger, key_id: str, rate: CallRate, now: int, wanted: int) -> Block:
    """Hand out up to ``wanted`` slots of a key, see ``call_rates.draw``; ``now`` in nanoseconds since the epoch."""
    return ledger.write(_draw, _Draw(key_id, rate, now, wanted))


def _draw(conn: Connection, items: Sequence[_Draw]) -> list[Block]:
    return [_draw_one(conn, item) for item in items]


def _draw_one(conn: Connection, item: _Draw) -> Block:
    mine = KEY_RATES.c.key_id == item.key_id
    query = select(KEY_RATES.c.next_slot).where(mine).with_for_update()
    before = conn.execute(query).scalar()
    if before is None:
        # Two processes may come here at once: one inserts, the other waits for it and reads what that one left.
        new = insert_for(conn.dialect.name)(KEY_RATES).values(key_id=item.key_id, next_slot=0)
        conn.execute(new.on_conflict_do_nothing())
        before = conn.execute(query).scalar_one()
    after, block = call_rates.draw(before, item.rate, item.now, item.wanted)
    if after != before:
        conn.execute(KEY_RATES.update().where(mine).values(next_slot=after))
    return block
