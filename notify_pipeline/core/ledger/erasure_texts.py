"""Bodies, details and payloads without a person: each table's part of an erasure, by the keys that a scan found.

Belongs here: rewriting those rows, and ending what was for the person alone. Does not belong here: finding them
(``erasure_scan``), what a body is without somebody (``core.erasure``).

What others wait for goes on: a body loses the one name, a queue's row its address. The drain skips a row without one as
it skips whoever unsubscribed, so that the request's counts add up to its audience.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Table, case, delete, func, insert, select, update

from notify_pipeline.core.erasure import ERASED, PLACEHOLDER, Scrubber, Subject
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import audit, outbox, progress, requests
from notify_pipeline.core.ledger.erasure_scan import Found
from notify_pipeline.core.ledger.event_rows import lake_row, to_row
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.outbox_tables import OUTBOX_REJECTED
from notify_pipeline.core.ledger.people_tables import INBOX, USER_MESSAGES
from notify_pipeline.core.ledger.tables import AUDIT, DEAD_LETTERS, DELIVERIES, META, REQUESTS
from notify_pipeline.core.vocabulary import EventState, RequestState

ACTOR = "erasure"
# The row of meta that opens the audit's detail for rewriting, to this transaction alone (migration 0006).
_OPENS_AUDIT = "audit_erasing"
# Of a delivery's id, so that placeholders tell recipients of one send apart.
PLACEHOLDER_DIGITS = 24
_WAITING_EVENTS = (EventState.ACCEPTED.value, EventState.ENRICHED.value)
_UNSENT = (RequestState.ACCEPTED, RequestState.ROUTED)
_EDITED = "request.edited"
_PIECE = 500


@dataclass(slots=True)
class Rewritten:
    """What was done: rows by table, and the sends and events that were about nobody else."""

    counts: Counter[str] = field(default_factory=Counter)
    requests: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()


def erase(conn: Connection, subject: Subject, found: Found, now: datetime) -> Rewritten:
    """Rewrite what was found."""
    scrubber, done = Scrubber(subject), Rewritten()
    done.requests = _requests(conn, scrubber, found.of(REQUESTS), now)
    done.events = _events(conn, scrubber, found.of(EVENTS), now)
    _deliveries(conn, found.of(DELIVERIES), to_micros(now))
    for piece in _pieces(found.of(DEAD_LETTERS)):
        conn.execute(delete(DEAD_LETTERS).where(DEAD_LETTERS.c.delivery_id.in_(piece)))
    _mine_or_named(conn, INBOX, "content", scrubber, found.of(INBOX))
    _mine_or_named(conn, USER_MESSAGES, "payload", scrubber, found.of(USER_MESSAGES))
    for piece in _pieces(found.of(OUTBOX_REJECTED)):
        for row in conn.execute(select(OUTBOX_REJECTED).where(OUTBOX_REJECTED.c.seq.in_(piece))).mappings().all():
            _set(conn, OUTBOX_REJECTED, row, {"rows": scrubber.text(row["rows"])})
    _audit(conn, scrubber, done.requests | subject.requests, found.of(AUDIT))
    done.counts.update({name: len(keys) for name, keys in found.rows.items()})
    return done


def _requests(conn: Connection, scrubber: Scrubber, ids: Sequence[str], now: datetime) -> frozenset[str]:
    """Rewrite bodies; cancel what is for nobody any more; return which were for the person alone."""
    alone = set()
    progress.standing(conn, ids)
    for piece in _pieces(ids):
        for row in conn.execute(select(REQUESTS).where(REQUESTS.c.request_id.in_(piece))).mappings().all():
            scrubbed = scrubber.body(orjson.loads(row["body"]))
            values: dict[str, Any] = {"body": _stored(scrubbed.body)}
            if row["state"] in _UNSENT:
                # Whoever plans it by the body that it had finds that it was edited.
                values |= {"revision": func.coalesce(REQUESTS.c.revision, 0) + 1, "lease_owner": None}
                values["lease_until"] = None
            _set(conn, REQUESTS, row, values)
            if scrubbed.alone:
                alone.add(row["request_id"])
                requests.move(
                    conn, row["request_id"], _UNSENT, RequestState.CANCELLED, now=now, actor=ACTOR, reason=ERASED
                )
    return frozenset(alone)


def _events(conn: Connection, scrubber: Scrubber, ids: Sequence[str], now: datetime) -> frozenset[str]:
    alone = set()
    for piece in _pieces(ids):
        query = select(EVENTS).where(EVENTS.c.event_id.in_(piece)).order_by(EVENTS.c.event_id).with_for_update()
        for row in conn.execute(query).mappings().all():
            scrubbed = scrubber.event(orjson.loads(row["body"]))
            values: dict[str, Any] = {"body": _stored(scrubbed.body), "reason": scrubber.optional(row["reason"])}
            values["enrichment"] = None if row["enrichment"] is None else scrubber.json(row["enrichment"])
            values["actor"] = scrubber.text(row["actor"])
            if row["state"] in _WAITING_EVENTS:
                # Whoever routes it by the body that it had is refused.
                values |= {"lease_owner": None, "lease_until": None}
            if scrubbed.alone:
                alone.add(row["event_id"])
                values["enrichment"] = None
            _set(conn, EVENTS, row, values)
            if scrubbed.alone and row["state"] in _WAITING_EVENTS:
                _end(conn, {**row, **values}, now)
    return frozenset(alone)


def _end(conn: Connection, row: Mapping[Any, Any], now: datetime) -> None:
    """End an event that nobody is left to be told of."""
    at = to_micros(now)
    _set(conn, EVENTS, row, {"state": EventState.DEAD.value, "reason": ERASED, "updated_at": at})
    outbox.add(
        conn, "events", [lake_row(to_row({**row, "lease_owner": None}), EventState.DEAD, at, reason=ERASED)], now
    )
    detail = {name: row[name] for name in ("event_id", "source", "type", "id")} | {"reason": ERASED}
    states = {"from_state": row["state"], "to_state": EventState.DEAD.value}
    audit.write(conn, [audit.Entry("event.dead", ACTOR, at, tenant=row["tenant"], detail=detail, **states)], now)


def _deliveries(conn: Connection, ids: Sequence[str], now: int) -> None:
    """Take addresses out of the queue: what waits is due at once, to be skipped."""
    table = DELIVERIES.c
    placeholder = func.substr(table.delivery_id, 1, PLACEHOLDER_DIGITS)
    due = case((table.state == "waiting", case((table.due_at > now, now), else_=table.due_at)), else_=table.due_at)
    values = {"address": PLACEHOLDER + placeholder, "recipient": "[null,null,null,null]", "due_at": due}
    for piece in _pieces(ids):
        conn.execute(update(DELIVERIES).where(table.delivery_id.in_(piece)).values(values))


def _mine_or_named(conn: Connection, table: Table, column: str, scrubber: Scrubber, keys: Sequence[Any]) -> None:
    """Delete what lies with the person; take the name out of what lies with others."""
    key = next(iter(table.primary_key))
    for piece in _pieces(keys):
        for row in conn.execute(select(table).where(key.in_(piece))).mappings().all():
            if scrubber.is_name(row["user_id"]):
                conn.execute(delete(table).where(key == row[key]))
            else:
                _set(conn, table, row, {column: scrubber.json(row[column])})


def _audit(conn: Connection, scrubber: Scrubber, alone: frozenset[str], ids: Sequence[str]) -> None:
    if not ids:
        return
    with _audit_opened(conn):
        for piece in _pieces(ids):
            for row in conn.execute(select(AUDIT).where(AUDIT.c.audit_id.in_(piece))).mappings().all():
                _set(conn, AUDIT, row, audited(scrubber, alone, row))


def audited(scrubber: Scrubber, alone: frozenset[str], row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what an audit row, of the ledger or of the lake, says without the person."""
    detail = row["detail"]
    if row["event"] == _EDITED and row["request_id"] in alone:
        detail = _stored({ERASED: True})  # the texts before and after
    elif detail is not None:
        detail = scrubber.json(detail)
    return {"actor": scrubber.text(row["actor"]), "detail": detail}


@contextmanager
def _audit_opened(conn: Connection) -> Iterator[None]:
    conn.execute(insert(META).values(name=_OPENS_AUDIT, value=""))
    yield
    conn.execute(delete(META).where(META.c.name == _OPENS_AUDIT))


def _set(conn: Connection, table: Table, row: Mapping[Any, Any], values: Mapping[str, Any]) -> None:
    key = next(iter(table.primary_key))
    conn.execute(update(table).where(key == row[key.name]).values(values))


def _stored(body: Mapping[str, Any]) -> str:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()


def _pieces(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (keys[start : start + _PIECE] for start in range(0, len(keys), _PIECE))
