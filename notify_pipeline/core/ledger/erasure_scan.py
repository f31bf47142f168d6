"""Finding a person in the texts of the ledger: bodies, details and payloads, which no index leads to.

Belongs here: which columns are read through, and which of their rows really name the person. Does not belong here: rows
that a key or an index finds, and what becomes of any (``erasure_rows``).

A store first looks for the bare characters; what it finds is then read as it is meant. Only what was written on account
of things from before the erasure counts: what a person, or a tenant, says afterwards is new.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from sqlalchemy import ColumnElement, Connection, Table, func, or_, select

from notify_pipeline.core.erasure import PLACEHOLDER, Scrubber, Subject
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.outbox_tables import OUTBOX_REJECTED
from notify_pipeline.core.ledger.people_tables import INBOX, USER_MESSAGES
from notify_pipeline.core.ledger.tables import AUDIT, DEAD_LETTERS, DELIVERIES, REQUESTS

Row: TypeAlias = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """Rows that name the person, as keys by table, in the order of their keys."""

    rows: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def of(self, table: Table) -> Sequence[Any]:
        """Return one table's."""
        return self.rows.get(table.name, ())


def _old_requests(table: Table) -> Callable[[str, int], ColumnElement[bool]]:
    """Return what restricts a table to rows of requests from before."""

    def condition(tenant: str, until: int) -> ColumnElement[bool]:
        old = (REQUESTS.c.request_id == table.c.request_id, REQUESTS.c.accepted_at <= until)
        return select(REQUESTS.c.request_id).where(*old).exists()

    return condition


def _before(column: ColumnElement[Any]) -> Callable[[str, int], ColumnElement[bool]]:
    return lambda _, until: column <= until


@dataclass(frozen=True, slots=True)
class Texts:
    """What is read through of one table, and which rows of it are old enough to count."""

    table: Table
    columns: tuple[str, ...]
    old: Callable[[str, int], ColumnElement[bool]]
    names: Callable[[Scrubber, Row], bool]

    @property
    def key(self) -> ColumnElement[Any]:
        """Its primary key."""
        return next(iter(self.table.primary_key))


def plain(scrubber: Scrubber, text: str | None) -> bool:
    """Tell whether a column that holds one name, and nothing else, holds one of the person's."""
    return text is not None and scrubber.is_name(text)


def in_json(scrubber: Scrubber, stored: str | None) -> bool:
    """Tell whether stored JSON names the person."""
    return stored is not None and scrubber.json(stored) != stored


def in_text(scrubber: Scrubber, text: str | None) -> bool:
    """Tell whether a text names the person."""
    return text is not None and scrubber.text(text) != text


def _event(scrubber: Scrubber, row: Row) -> bool:
    if scrubber.event(orjson.loads(row["body"])).named or in_json(scrubber, row["enrichment"]):
        return True
    return in_text(scrubber, row["reason"]) or plain(scrubber, row["actor"])


def _delivery(scrubber: Scrubber, row: Row) -> bool:
    if row["address"].startswith(PLACEHOLDER):
        return False
    return plain(scrubber, row["address"]) or plain(scrubber, orjson.loads(row["recipient"])[0])


def _letter(scrubber: Scrubber, row: Row) -> bool:
    return any(plain(scrubber, row[name]) for name in ("address", "user_id")) or in_json(scrubber, row["fields"])


TEXTS = (
    Texts(REQUESTS, ("body",), _before(REQUESTS.c.accepted_at), lambda s, r: s.body(orjson.loads(r["body"])).named),
    Texts(EVENTS, ("body", "enrichment", "reason", "actor"), _before(EVENTS.c.accepted_at), _event),
    Texts(
        AUDIT,
        ("detail", "actor"),
        _before(AUDIT.c.at),
        lambda s, r: in_json(s, r["detail"]) or plain(s, r["actor"]),
    ),
    Texts(
        INBOX,
        ("content", "user_id"),
        _before(INBOX.c.created_at),
        lambda s, r: plain(s, r["user_id"]) or in_json(s, r["content"]),
    ),
    Texts(
        USER_MESSAGES,
        ("payload", "user_id"),
        _before(USER_MESSAGES.c.created_at),
        lambda s, r: plain(s, r["user_id"]) or in_json(s, r["payload"]),
    ),
    Texts(DELIVERIES, ("address", "recipient"), _old_requests(DELIVERIES), _delivery),
    Texts(DEAD_LETTERS, ("address", "user_id", "fields"), _old_requests(DEAD_LETTERS), _letter),
    Texts(OUTBOX_REJECTED, ("rows",), _before(OUTBOX_REJECTED.c.rejected_at), lambda s, r: in_text(s, r["rows"])),
)


def scan(conn: Connection, subject: Subject, until: int) -> Found:
    """Return the rows that name a person and are on account of what was there by a moment (microseconds)."""
    scrubber = Scrubber(subject)
    found: dict[str, list[Any]] = {}
    for texts in TEXTS:
        columns = [texts.table.c[name] for name in texts.columns]
        looks = or_(*(_holds(conn, column, scrubber) for column in columns))
        owner = [texts.table.c.tenant == subject.tenant] if "tenant" in texts.table.c else []
        query = select(texts.key, *columns).where(*owner, texts.old(subject.tenant, until), looks)
        for row in conn.execute(query.execution_options(yield_per=500)).mappings():
            if texts.names(scrubber, row):
                found.setdefault(str(texts.table.name), []).append(row[texts.key])
    return Found({name: sorted(keys) for name, keys in found.items()})


def _holds(conn: Connection, column: ColumnElement[Any], scrubber: Scrubber) -> ColumnElement[bool]:
    position = func.instr if conn.dialect.name == "sqlite" else func.strpos
    exact = [position(column, needle) > 0 for needle in scrubber.needles]
    mail = [position(func.lower(column), needle) > 0 for needle in scrubber.mail_needles]
    return or_(*exact, *mail, column.in_(sorted(scrubber.names)))
