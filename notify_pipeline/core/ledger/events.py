"""Accepting events: dedup and record in one transaction, in batches.

Belongs here: that write. Does not belong here: one stored event (``event_rows``), lists (``event_lists``), the router's
queue (``event_claims``), replays (``event_replays``), what a valid body is (``ingest_api``).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select

from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_rows import canonical
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.statements import Prepared, Upsert
from notify_pipeline.core.vocabulary import EventState

# An event that waits for nothing is due then, whatever a clock says.
AT_ONCE = 0


class EventIdReused(Exception):
    """The tenant used this id of this source before, with another body."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A validated event.

    Attributes:
        tenant: The owner.
        source: What it comes from.
        type: What happened.
        detail: JSON object.
        accepted_at: The API's clock.
        actor: Who posted it (a key's id), or what made it.
        id: The tenant's own, unique per tenant and source; None: ours takes its place, and a repetition is another.
        recipients: One kind of audience: ``users``, ``emails``, ``phones``, ``devices``, ``topics`` or ``domain``, to a
            list.
    """

    tenant: str
    source: str
    type: str
    detail: Mapping[str, Any]
    accepted_at: datetime
    actor: str = "api"
    id: str | None = None
    recipients: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """The answer to an event: the same for every repetition, but for ``duplicate``."""

    event_id: str
    source: str
    id: str
    duplicate: bool
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """Everything a new event writes, made in the caller's thread. Only ``prepare`` makes it."""

    event_id: str
    tenant: str
    source: str
    id: str
    sha256: str
    accepted_at: int
    stored: tuple[Any, ...]
    lake: Mapping[str, Any]


_STORED = (
    "event_id",
    "tenant",
    "source",
    "type",
    "id",
    "body_sha256",
    "body",
    "state",
    "attempt_no",
    "replays",
    "actor",
    "accepted_at",
    "due_at",
    "updated_at",
)


def _insert(insert: Upsert) -> Any:
    values: dict[str, Any] = {name: bindparam(name) for name in _STORED}
    return insert(EVENTS).values(values).on_conflict_do_nothing(index_elements=["tenant", "source", "id"])


_INSERT = Prepared(_insert, _STORED)
_FIRST = Prepared(
    lambda _: select(EVENTS.c.event_id, EVENTS.c.body_sha256, EVENTS.c.accepted_at).where(
        EVENTS.c.tenant == bindparam("tenant"),
        EVENTS.c.source == bindparam("source"),
        EVENTS.c.id == bindparam("id"),
    ),
    ("tenant", "source", "id"),
)
_MINE = Prepared(lambda _: select(EVENTS.c.event_id).where(EVENTS.c.event_id == bindparam("event_id")), ("event_id",))


def accept(ledger: Ledger, new: NewEvent) -> AcceptedEvent:
    """Store an event durably, or find the one that used its id first.

    Raises:
        EventIdReused: The first one had another body.
    """
    return ledger.write(accept_all, prepare(new))


def accept_many(ledger: Ledger, new: Sequence[NewEvent]) -> list[AcceptedEvent | Exception]:
    """Store events in one transaction, as if one after another; return for each what ``accept`` returns or raises."""
    return ledger.write(_accept_bulks, [prepare(each) for each in new]) if new else []


def prepare(new: NewEvent, event_id: str | None = None) -> IncomingEvent:
    """Make an event ready for ``accept_all``. Who needs to know its id beforehand makes one (``ids.new_id``)."""
    event_id, accepted_at = event_id or new_id(), to_micros(new.accepted_at)
    own_id = event_id if new.id is None else new.id
    detail = canonical(new.detail)
    recipients = "" if new.recipients is None else f',"recipients":{canonical(new.recipients)}'
    body = f'{{"detail":{detail}{recipients},"type":{canonical(new.type)}}}'
    sha256 = hashlib.sha256(body.encode()).hexdigest()
    state = EventState.ACCEPTED.value
    stored = (
        *(event_id, new.tenant, new.source, new.type, own_id, sha256, body, state, 0, 0, new.actor),
        *(accepted_at, AT_ONCE, accepted_at),
    )
    lake = {
        "tenant": new.tenant,
        "event_id": event_id,
        "source": new.source,
        "type": new.type,
        "id": own_id,
        "state": state,
        "routes": [],
        "notification_ids": [],
        "detail": detail,
        "accepted_at": accepted_at,
        "at": accepted_at,
    }
    return IncomingEvent(event_id, new.tenant, new.source, own_id, sha256, accepted_at, stored, lake)


def accept_all(conn: Connection, items: Sequence[IncomingEvent]) -> list[AcceptedEvent | Exception]:
    """Store events inside a transaction; return for each what ``accept`` would return or raise."""
    inserted = _INSERT.run_many(conn, [item.stored for item in items])
    # The usual case, nobody posted any of these before, is told by the count alone.
    fresh = items if inserted == len(items) else [item for item in items if _is_mine(conn, item)]
    if fresh:
        outbox.add(conn, "events", [item.lake for item in fresh], from_micros(fresh[0].accepted_at))
    if len(fresh) == len(items):
        return [_accepted(item) for item in items]
    mine = {item.event_id for item in fresh}
    return [_accepted(item) if item.event_id in mine else _answer(conn, item) for item in items]


def _accept_bulks(conn: Connection, bulks: Sequence[Sequence[IncomingEvent]]) -> list[list[AcceptedEvent | Exception]]:
    items = [item for bulk in bulks for item in bulk]
    # In one order, so that two bulks with the same ids do not wait for each other; equal ids stay as they came.
    order = sorted(range(len(items)), key=lambda n: (items[n].tenant, items[n].source, items[n].id))
    found = dict(zip(order, accept_all(conn, [items[place] for place in order]), strict=True))
    answers = (found[place] for place in range(len(items)))
    return [[next(answers) for _ in bulk] for bulk in bulks]


def _is_mine(conn: Connection, item: IncomingEvent) -> bool:
    return _MINE.run_values(conn, (item.event_id,)).first() is not None


def _accepted(item: IncomingEvent) -> AcceptedEvent:
    return AcceptedEvent(item.event_id, item.source, item.id, False, from_micros(item.accepted_at))


def _answer(conn: Connection, item: IncomingEvent) -> AcceptedEvent | Exception:
    event_id, sha256, accepted_at = _FIRST.run_values(conn, (item.tenant, item.source, item.id)).one()
    if sha256 != item.sha256:
        return EventIdReused(f"event id {item.id!r} of {item.source!r} was used before with another body")
    return AcceptedEvent(event_id, item.source, item.id, True, from_micros(accepted_at))
