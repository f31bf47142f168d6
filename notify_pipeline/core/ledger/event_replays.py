"""Replays of events: what no route matched, and what is dead, given to the router again.

Belongs here: the one transaction that does it and answers. Does not belong here: finding them (``event_lists``),
routing.

An event that was routed is never replayed: its sends are made. A replayed event is as new: enrichment begins again, and
its sends count from the replay.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, select, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import audit, event_lists, outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_lists import STRANDED_STATES, EventFilter
from notify_pipeline.core.ledger.event_rows import EventRow, lake_row, to_row
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.events import AT_ONCE
from notify_pipeline.core.ledger.replay_keys import KeyReused, ReplayKey
from notify_pipeline.core.ledger.replays import MOST_COUNTED
from notify_pipeline.core.vocabulary import EventState

# Replays of dead letters share the table of keys; no caller's key has a slash.
_KEYS = "events/"
_E = EVENTS.c


class UnknownEvents(Exception):
    """The tenant has no such events; nothing was replayed."""

    def __init__(self, event_ids: Sequence[str]) -> None:
        """Args: event_ids: those."""
        super().__init__(f"no {len(event_ids)} such events")
        self.event_ids = tuple(event_ids)


@dataclass(frozen=True, slots=True)
class EventReplay:
    """What is asked for.

    Attributes:
        tenant: Whose events.
        actor: Who asks, for the audit.
        now: The API's clock.
        ids: These; None: those that ``wanted`` fits, longest there first.
        wanted: Which, among those that can be replayed.
        limit: At most so many of them.
        key: Makes asking again give the same answer.
    """

    tenant: str
    actor: str
    now: datetime
    ids: tuple[str, ...] | None
    wanted: EventFilter
    limit: int
    key: str | None = None

    @property
    def sha256(self) -> str:
        """What is asked for, in short; not who asks, or when."""
        ids = None if self.ids is None else sorted(self.ids)
        return hashlib.sha256(orjson.dumps((ids, self.wanted, self.limit), option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class EventsReplayed:
    """The answer, JSON-able: ``replayed``, ``refused`` (``event_id``, ``state``), ``left``. ``repeated``: as before."""

    answer: Mapping[str, Any]
    repeated: bool


@dataclass(frozen=True, slots=True)
class _Chosen:
    asked: EventReplay
    ids: tuple[str, ...]
    left: int


def replay(ledger: Ledger, asked: EventReplay) -> EventsReplayed:
    """Give events to the router again.

    Raises:
        UnknownEvents: One of ``ids`` is none of the tenant's.
        KeyReused: The key was used for another replay.
    """
    if asked.ids is not None:
        return ledger.write(_replay, _Chosen(asked, asked.ids, 0))
    fit = event_lists.stranded(ledger, asked.tenant, asked.wanted, asked.limit + MOST_COUNTED)
    return ledger.write(_replay, _Chosen(asked, tuple(fit[: asked.limit]), max(0, len(fit) - asked.limit)))


def _replay(conn: Connection, items: Sequence[_Chosen]) -> list[EventsReplayed | Exception]:
    return [_replay_one(conn, item) for item in items]


def _replay_one(conn: Connection, chosen: _Chosen) -> EventsReplayed | Exception:
    asked = chosen.asked
    key = ReplayKey(asked.tenant, asked.key, _KEYS)
    before = key.take(conn, asked.sha256, asked.now)
    if before is not None:
        return before if isinstance(before, KeyReused) else EventsReplayed(before, repeated=True)
    query = select(EVENTS).where(_E.tenant == asked.tenant, _E.event_id.in_(sorted(chosen.ids)))
    rows = [to_row(row) for row in conn.execute(query.order_by(_E.event_id).with_for_update()).mappings()]
    unknown = sorted(set(chosen.ids) - {row.event_id for row in rows})
    if unknown and asked.ids is not None:
        key.give_back(conn)
        return UnknownEvents(unknown)
    fresh = [row for row in rows if row.state in STRANDED_STATES]
    _begin_again(conn, fresh, asked)
    refused = [{"event_id": row.event_id, "state": row.state.value} for row in rows if row not in fresh]
    # What another replay was faster with is no fault of a filter's.
    answer = {"replayed": len(fresh), "refused": refused if asked.ids is not None else [], "left": chosen.left}
    key.keep(conn, answer)
    return EventsReplayed(answer, repeated=False)


def _begin_again(conn: Connection, rows: Sequence[EventRow], asked: EventReplay) -> None:
    if not rows:
        return
    at = to_micros(asked.now)
    begun = {
        "state": EventState.ACCEPTED.value,
        "enrichment": None,
        "routes": None,
        "notification_ids": None,
        "reason": None,
        "attempt_no": 0,
        "replays": _E.replays + 1,
        "replayed_at": at,
        "due_at": AT_ONCE,
        "updated_at": at,
    }
    conn.execute(update(EVENTS).where(_E.event_id.in_([row.event_id for row in rows])).values(begun))
    audit.write(conn, [_entry(row, asked.actor, at) for row in rows], asked.now)
    lake = [lake_row(row, EventState.ACCEPTED, at) for row in rows]
    outbox.add(conn, "events", lake, asked.now)


def _entry(row: EventRow, actor: str, at: int) -> audit.Entry:
    detail = {
        "event_id": row.event_id,
        "source": row.source,
        "type": row.type,
        "id": row.id,
        "replays": row.replays + 1,
    }
    states = {"from_state": row.state.value, "to_state": EventState.ACCEPTED.value}
    return audit.Entry("event.replayed", actor, at, tenant=row.tenant, detail=detail, **states)
