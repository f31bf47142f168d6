"""Accepting a send: dedup and record in one transaction, in batches.

Belongs here: the one write that the ingress's speed hangs on. Does not belong here: what a valid body is
(``ingest_api``), what becomes of a request later (``requests``).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select

from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import moves, outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.moves import Move
from notify_pipeline.core.ledger.statements import Prepared, Upsert
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.ledger.usage import Quota, Tally
from notify_pipeline.core.vocabulary import Priority, RequestState


class IdReused(Exception):
    """The tenant used this notification id before, with another body."""


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A validated send.

    Attributes:
        tenant: The owner.
        notification_id: The tenant's own id; unique per tenant.
        body: The request as the model validated it: only known keys, absent where unset, JSON values. Two sends are
            the same when this is equal, unless ``compared`` is given.
        accepted_at: The API's clock.
        expires_at: ``send_at`` or ``accepted_at``, plus ttl.
        due_at: ``send_at``; None means at once.
        actor: Who sent it, for the audit (a key's id).
        compared: What the caller asked for, where ``body`` holds what we made of it (a rendered template): two sends
            are then the same when this is equal.
        replay_of: The request whose dead letters this sends again.
        quotas: The daily quotas that it counts on.
        event_id: The event that a route made it of.
    """

    tenant: str
    notification_id: str
    body: Mapping[str, Any]
    accepted_at: datetime
    expires_at: datetime
    due_at: datetime | None = None
    actor: str = "api"
    compared: Mapping[str, Any] | None = None
    replay_of: str | None = None
    quotas: tuple[Quota, ...] = ()
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a send: the same for every repetition, but for ``duplicate``."""

    request_id: str
    notification_id: str
    duplicate: bool
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class Incoming:
    """Everything a new request writes, made in the caller's thread so that the writer's has little to do.

    Only ``prepare`` makes it; ``accept_all`` stores it.
    """

    tenant: str
    notification_id: str
    request_id: str
    sha256: str
    accepted_at: int
    stored: tuple[Any, ...]
    lake: Mapping[str, Any]
    move: Move
    quotas: tuple[Quota, ...]

    def values(self) -> dict[str, Any]:
        """Return the stored columns by name, for whoever changes a request into this one (``changing``)."""
        return dict(zip(_STORED, self.stored, strict=True))


_ACCEPTED = str(RequestState.ACCEPTED)
_RANKS = {str(priority): priority.rank for priority in Priority}
_STORED = (
    "request_id",
    "tenant",
    "notification_id",
    "body_sha256",
    "body",
    "type",
    "priority_rank",
    "state",
    "category",
    "replay_of",
    "domain",
    "accepted_at",
    "due_at",
    "expires_at",
    "updated_at",
    "counts",
)


def _insert(insert: Upsert) -> Any:
    values: dict[str, Any] = {name: bindparam(name) for name in _STORED}
    return insert(REQUESTS).values(values).on_conflict_do_nothing(index_elements=["tenant", "notification_id"])


_INSERT = Prepared(_insert, _STORED)
_FIRST = Prepared(
    lambda _: select(REQUESTS.c.request_id, REQUESTS.c.body_sha256, REQUESTS.c.accepted_at).where(
        REQUESTS.c.tenant == bindparam("tenant"), REQUESTS.c.notification_id == bindparam("notification_id")
    ),
    ("tenant", "notification_id"),
)
_MINE = Prepared(
    lambda _: select(REQUESTS.c.request_id).where(REQUESTS.c.request_id == bindparam("request_id")), ("request_id",)
)


def accept(ledger: Ledger, new: NewRequest) -> Accepted:
    """Store a send durably, or find the one that used its id first.

    Raises:
        IdReused: The first one had another body.
        QuotaExceeded: It would be one more than a day's quota allows.
    """
    return ledger.write(accept_all, prepare(new))


def accept_many(ledger: Ledger, new: Sequence[NewRequest]) -> list[Accepted | Exception]:
    """Store sends in one transaction, as if one after another; for each return what ``accept`` returns or raises."""
    return ledger.write(_accept_bulks, [prepare(each) for each in new]) if new else []


def prepare(new: NewRequest) -> Incoming:
    """Make a send ready for ``accept_all``."""
    body = orjson.dumps(new.body, option=orjson.OPT_SORT_KEYS)
    text = body.decode()
    request_id, accepted_at, expires_at = new_id(), to_micros(new.accepted_at), to_micros(new.expires_at)
    due_at = accepted_at if new.due_at is None else to_micros(new.due_at)
    compared = body if new.compared is None else orjson.dumps(new.compared, option=orjson.OPT_SORT_KEYS)
    sha256 = hashlib.sha256(compared).hexdigest()
    priority = new.body.get("priority") or Priority.NORMAL
    stored = (
        request_id,
        new.tenant,
        new.notification_id,
        sha256,
        text,
        new.body["type"],
        _RANKS[priority],
        _ACCEPTED,
        new.body.get("category"),
        new.replay_of,
        new.body.get("domain"),
        accepted_at,
        due_at,
        expires_at,
        accepted_at,
        "{}",
    )
    move = Move(
        tenant=new.tenant,
        request_id=request_id,
        notification_id=new.notification_id,
        from_state=None,
        to_state=RequestState.ACCEPTED,
        actor=new.actor,
        at=accepted_at,
        detail=_origin(new),
    )
    lake = _lake_row(new, stored)
    return Incoming(new.tenant, new.notification_id, request_id, sha256, accepted_at, stored, lake, move, new.quotas)


def _origin(new: NewRequest) -> dict[str, str] | None:
    if new.event_id is not None:
        return {"event_id": new.event_id}
    return None if new.replay_of is None else {"replay_of": new.replay_of}


def _lake_row(new: NewRequest, stored: tuple[Any, ...]) -> dict[str, Any]:
    row, get = dict(zip(_STORED, stored, strict=True)), new.body.get
    return {
        "tenant": new.tenant,
        "request_id": row["request_id"],
        "notification_id": new.notification_id,
        "type": row["type"],
        "category": row["category"],
        "priority": get("priority") or Priority.NORMAL,
        "title": (get("content") or {}).get("title"),
        "topics": get("topics") or [],
        "collapse_key": get("collapse_key"),
        "dry_run": get("dry_run") or False,
        "accepted_at": row["accepted_at"],
        "send_at": None if new.due_at is None else row["due_at"],
        "expires_at": row["expires_at"],
        "body": row["body"],
        "domain": row["domain"],
    }


def accept_all(conn: Connection, items: Sequence[Incoming]) -> list[Accepted | Exception]:
    """Store sends inside a transaction; for each return what ``accept`` would return or raise."""
    if any(item.quotas for item in items):
        return _accept_counted(conn, items)
    return _accept_all(conn, items)


def _accept_counted(conn: Connection, items: Sequence[Incoming]) -> list[Accepted | Exception]:
    """Store sends of which some count on quotas: repetitions use nothing, and what is over is not stored."""
    tally = Tally(conn, [(item.quotas, item.accepted_at) for item in items], counts_requests=True)
    refused: dict[int, Exception] = {}
    counted: dict[tuple[str, str], Incoming] = {}
    for number, item in enumerate(items):
        key = item.tenant, item.notification_id
        if not item.quotas or key in counted or _FIRST.run_values(conn, key).first() is not None:
            continue
        over = tally.take_request(item.quotas, item.accepted_at)
        if over is None:
            counted[key] = item
        else:
            refused[number] = over
    results = iter(_accept_all(conn, [item for number, item in enumerate(items) if number not in refused]))
    outcomes = [refused[number] if number in refused else next(results) for number in range(len(items))]
    stored = {outcome.request_id for outcome in outcomes if isinstance(outcome, Accepted)}
    for item in counted.values():
        if item.request_id not in stored:  # a process that knows of no quota yet was first
            tally.give_back_request(item.quotas, item.accepted_at)
    tally.store()
    return outcomes


def _accept_all(conn: Connection, items: Sequence[Incoming]) -> list[Accepted | Exception]:
    inserted = _INSERT.run_many(conn, [item.stored for item in items])
    # The usual case, nobody sent any of these before, is told by the count alone.
    fresh = items if inserted == len(items) else [item for item in items if _is_mine(conn, item)]
    if fresh:
        now = from_micros(fresh[0].accepted_at)
        outbox.add(conn, "requests", [item.lake for item in fresh], now)
        moves.record(conn, [item.move for item in fresh], now)
    if len(fresh) == len(items):
        return [Accepted(item.request_id, item.notification_id, False, from_micros(item.accepted_at)) for item in items]
    mine = {item.request_id for item in fresh}
    return [_answer(conn, item, item.request_id in mine) for item in items]


def _accept_bulks(conn: Connection, bulks: Sequence[Sequence[Incoming]]) -> list[list[Accepted | Exception]]:
    items = [item for bulk in bulks for item in bulk]
    order = list(range(len(items)))
    if not any(item.quotas for item in items):
        # In one order, so that two bulks with the same ids do not wait for each other; equal ids stay as they came.
        # Where quotas count they are taken in the order that was asked for, and keep a tenant's bulks apart.
        order.sort(key=lambda place: (items[place].tenant, items[place].notification_id))
    found = dict(zip(order, accept_all(conn, [items[place] for place in order]), strict=True))
    answers = (found[place] for place in range(len(items)))
    return [[next(answers) for _ in bulk] for bulk in bulks]


def _is_mine(conn: Connection, item: Incoming) -> bool:
    return _MINE.run_values(conn, (item.request_id,)).first() is not None


def _answer(conn: Connection, item: Incoming, fresh: bool) -> Accepted | Exception:
    if fresh:
        return Accepted(item.request_id, item.notification_id, False, from_micros(item.accepted_at))
    request_id, sha256, accepted_at = _FIRST.run_values(conn, (item.tenant, item.notification_id)).one()
    if sha256 != item.sha256:
        return IdReused(f"notification id {item.notification_id!r} was used before with another body")
    return Accepted(request_id, item.notification_id, True, from_micros(accepted_at))
