"""The buckets of provider credentials as ledger rows, so that all processes that send with one keep to one limit.

Belongs here: reading and writing a bucket in one transaction. Does not belong here: the arithmetic (``core.rates``),
who waits for what (``channels.rates``).
"""

from collections.abc import Sequence
from dataclasses import astuple
from typing import NamedTuple

from sqlalchemy import Connection, select

from notify_pipeline.core import rates
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tables import RATES
from notify_pipeline.core.rates import Limits, State

_COLUMNS = (RATES.c.tokens, RATES.c.at, RATES.c.ramp_from, RATES.c.held_until, RATES.c.pace)


class Taken(NamedTuple):
    """What a take gave: the bucket afterwards, tokens granted, and where there are none the seconds until there are."""

    state: State
    granted: int
    wait_s: float


class _Take(NamedTuple):
    name: str
    limits: Limits
    now: int
    wanted: int
    rank: int


class _Hold(NamedTuple):
    name: str
    now: int
    until: int
    pace: float


def take(ledger: Ledger, name: str, limits: Limits, now: int, wanted: int, rank: int = 0) -> Taken:
    """Take up to ``wanted`` tokens, see ``rates.take``.

    Args:
        ledger: The ledger.
        name: The credential.
        limits: Its limits; all processes should agree on them.
        now: The sender's clock, microseconds since the epoch.
        wanted: At least 1.
        rank: The priority's.
    """
    return ledger.write(_take, _Take(name, limits, now, wanted, rank))


def hold(ledger: Ledger, name: str, now: int, until: int, pace: float) -> State:
    """Grant nobody anything before a moment, see ``rates.hold``; return the bucket."""
    return ledger.write(_hold, _Hold(name, now, until, pace))


def read(ledger: Ledger, name: str) -> State | None:
    """Return the bucket as it was left; None where nobody took from it and no pause was asked for."""
    with ledger.read() as conn:
        return _read(conn, name, lock=False)


def _take(conn: Connection, items: Sequence[_Take]) -> list[Taken | Exception]:
    results: list[Taken | Exception] = []
    for item in items:
        try:
            state = _locked(conn, item.name, item.now)
            taken = Taken(*rates.take(state, item.limits, item.now, item.wanted, item.rank))
        except ValueError as error:
            results.append(error)
            continue
        _store(conn, item.name, taken.state)
        results.append(taken)
    return results


def _hold(conn: Connection, items: Sequence[_Hold]) -> list[State | Exception]:
    results: list[State | Exception] = []
    for item in items:
        state = rates.hold(_locked(conn, item.name, item.now), item.now, item.until, item.pace)
        _store(conn, item.name, state)
        results.append(state)
    return results


def _locked(conn: Connection, name: str, now: int) -> State:
    """Return the bucket, and keep it from others until the transaction ends."""
    state = _read(conn, name, lock=True)
    if state is not None:
        return state
    # Two processes may come here at once: one inserts, the other waits for it and reads what that one left.
    state = rates.fresh(now)
    new = insert_for(conn.dialect.name)(RATES).values(dict(zip(_NAMES, (name, *astuple(state)), strict=True)))
    conn.execute(new.on_conflict_do_nothing())
    return _read(conn, name, lock=True) or state


_NAMES = ("name", *(column.name for column in _COLUMNS))


def _read(conn: Connection, name: str, lock: bool) -> State | None:
    query = select(*_COLUMNS).where(RATES.c.name == name)
    row = conn.execute(query.with_for_update() if lock else query).tuples().one_or_none()
    return None if row is None else State(*row)


def _store(conn: Connection, name: str, state: State) -> None:
    values = dict(zip(_NAMES[1:], astuple(state), strict=True))
    conn.execute(RATES.update().where(RATES.c.name == name).values(values))
