"""What users are told over WebSockets: a numbered row per message, kept until it expires.

Belongs here: adding messages in any transaction, reading them from a cursor on, forgetting what has expired. Does not
belong here: who is connected (``connections``), sending (``channels.websocket``, ``ingest_api.gateway``).

A user's messages are committed in the order of their numbers, so that a number is a cursor: whoever has seen one has
seen, or could have read, every smaller one. On PostgreSQL numbers are drawn when a row is written and not when it is
committed; so whoever adds a message holds its user's lock from before that until the commit. Each message also has the
number of the user's message before it: whoever is handed both knows whether something is missing in between.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from zlib import crc32

import orjson
from sqlalchemy import Connection, delete, func, insert, or_, select, text, tuple_

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.people_tables import USER_MESSAGES

# What gateways push as they see it, and what the channel sends as a delivery.
INBOX, NOTIFICATION = "inbox", "notification"
# PostgreSQL keeps all transactions' locks in one table, of 6,400 by default: so users share locks, by a digest. The
# first number keeps these locks apart from anybody else's.
# https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
_LOCK_CLASS, _LOCKS = 0x6E6F7466, 256
_LOCK = text("SELECT pg_advisory_xact_lock(:class, :key)")
# Users or messages asked for, and rows written, in one statement.
_PIECE = 500

User = tuple[str, str]  # tenant and user id


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be added.

    Attributes:
        tenant: Whose user.
        user_id: The user.
        message_id: The same however often it is added: a delivery id, or the inbox change's own.
        kind: ``NOTIFICATION`` or ``INBOX``.
        payload: What the client gets, but for the cursor; JSON.
        expires_at: From when on nobody is sent it any more, microseconds since the epoch.
    """

    tenant: str
    user_id: str
    message_id: str
    kind: str
    payload: Mapping[str, Any]
    expires_at: int


class Stored(NamedTuple):
    """A message's number, and that of the user's message before it."""

    seq: int
    previous: int


class UserMessage(NamedTuple):
    """A message as it is stored; ``payload`` is its JSON text."""

    seq: int
    previous: int
    tenant: str
    user_id: str
    payload: str


def add(conn: Connection, messages: Sequence[NewMessage], now: datetime) -> list[Stored]:
    """Add messages inside a write transaction; one that is there already stays as it is, and has its number.

    Rows that others may hold must not be locked after this: add messages last in a transaction.
    """
    hold(conn, {(each.tenant, each.user_id) for each in messages})
    found = _numbers(conn, [each.message_id for each in messages])
    todo = {each.message_id: each for each in messages if each.message_id not in found}.values()
    last = _latest(conn, {(each.tenant, each.user_id) for each in todo})
    # One of each user at a time: the next one's ``previous`` is the number that this one gets.
    for turn in _turns(todo):
        stored = _insert(conn, turn, last, to_micros(now))
        for each, numbers in zip(turn, stored, strict=True):
            found[each.message_id], last[each.tenant, each.user_id] = numbers, numbers.seq
    return [found[each.message_id] for each in messages]


def hold(conn: Connection, users: Iterable[User]) -> None:
    """Wait until nobody else is adding messages for these users, who then wait in turn until the transaction ends.

    SQLite has one writer at a time anyway.
    """
    if conn.dialect.name == "sqlite":
        return
    for key in sorted({crc32("\0".join(user).encode()) % _LOCKS for user in users}):
        conn.execute(_LOCK, {"class": _LOCK_CLASS, "key": key})


def store(ledger: Ledger, messages: Sequence[NewMessage], now: datetime) -> list[Stored]:
    """Add messages in a transaction of their own."""
    return ledger.write(_store, (messages, now))


def since(ledger: Ledger, tenant: str, user_id: str, cursor: int, now: datetime, limit: int = 100) -> list[UserMessage]:
    """Return a user's messages after a cursor that have not expired, in order."""
    query = _SHOWN.where(
        USER_MESSAGES.c.tenant == tenant,
        USER_MESSAGES.c.user_id == user_id,
        USER_MESSAGES.c.seq > cursor,
        USER_MESSAGES.c.expires_at > to_micros(now),
    )
    with ledger.read() as conn:
        return _messages(conn.execute(query.order_by(USER_MESSAGES.c.seq).limit(limit)))


def latest(ledger: Ledger, users: Iterable[User]) -> dict[User, int]:
    """Return each user's last number, expired messages included; users who have none left out."""
    with ledger.read() as conn:
        return _latest(conn, set(users))


def numbered(ledger: Ledger, seqs: Sequence[int], now: datetime) -> list[UserMessage]:
    """Return the messages with these numbers that have not expired, in order."""
    found: list[UserMessage] = []
    with ledger.read() as conn:
        for start in range(0, len(seqs), _PIECE):
            these = USER_MESSAGES.c.seq.in_(seqs[start : start + _PIECE])
            found += _messages(conn.execute(_SHOWN.where(these, USER_MESSAGES.c.expires_at > to_micros(now))))
    return sorted(found)


class News(NamedTuple):
    """That there is a message: enough to know whether anybody here waits for it."""

    seq: int
    kind: str
    tenant: str
    user_id: str


def news(ledger: Ledger, after: int, skipped: Sequence[int], limit: int) -> list[News]:
    """Return which messages there are beyond a number, and among those that were skipped; all users', in order.

    Args:
        ledger: The ledger.
        after: The largest number seen.
        skipped: Smaller ones that were not there when larger ones were: transactions may commit them yet.
        limit: At most so many.
    """
    beyond = USER_MESSAGES.c.seq > after
    which = or_(beyond, USER_MESSAGES.c.seq.in_(skipped)) if skipped else beyond
    row = USER_MESSAGES.c
    query = select(row.seq, row.kind, row.tenant, row.user_id).where(which).order_by(row.seq).limit(limit)
    with ledger.read() as conn:
        return [News._make(found) for found in conn.execute(query)]


def last_number(ledger: Ledger) -> int:
    """Return the largest number that is there, 0 when none is."""
    with ledger.read() as conn:
        return conn.execute(select(func.max(USER_MESSAGES.c.seq))).scalar_one() or 0


def tidy(ledger: Ledger, now: datetime, limit: int = 5_000) -> int:
    """Forget up to ``limit`` messages that have expired; return how many."""
    return ledger.write(_tidy, (to_micros(now), limit))


_SHOWN = select(
    USER_MESSAGES.c.seq,
    USER_MESSAGES.c.previous,
    USER_MESSAGES.c.tenant,
    USER_MESSAGES.c.user_id,
    USER_MESSAGES.c.payload,
)


def _messages(rows: Iterable[Any]) -> list[UserMessage]:
    return [UserMessage._make(row) for row in rows]


def _store(conn: Connection, items: Sequence[tuple[Sequence[NewMessage], datetime]]) -> list[list[Stored]]:
    return [add(conn, messages, now) for messages, now in items]


def _turns(messages: Iterable[NewMessage]) -> list[list[NewMessage]]:
    """Return the first message of each user, then the second of each, and so on."""
    turns: list[list[NewMessage]] = []
    seen: Counter[User] = Counter()
    for each in messages:
        user = (each.tenant, each.user_id)
        if seen[user] == len(turns):
            turns.append([])
        turns[seen[user]].append(each)
        seen[user] += 1
    return turns


def _numbers(conn: Connection, message_ids: Sequence[str]) -> dict[str, Stored]:
    row = USER_MESSAGES.c
    found: dict[str, Stored] = {}
    for start in range(0, len(message_ids), _PIECE):
        these = row.message_id.in_(message_ids[start : start + _PIECE])
        for message_id, seq, previous in conn.execute(select(row.message_id, row.seq, row.previous).where(these)):
            found[message_id] = Stored(seq, previous)
    return found


def _latest(conn: Connection, users: Iterable[User]) -> dict[User, int]:
    row, ordered = USER_MESSAGES.c, sorted(users)
    found: dict[User, int] = {}
    for start in range(0, len(ordered), _PIECE):
        these = tuple_(row.tenant, row.user_id).in_(ordered[start : start + _PIECE])
        query = select(row.tenant, row.user_id, func.max(row.seq)).where(these).group_by(row.tenant, row.user_id)
        found.update({(tenant, user_id): seq for tenant, user_id, seq in conn.execute(query)})
    return found


def _insert(conn: Connection, messages: Sequence[NewMessage], last: Mapping[User, int], at: int) -> list[Stored]:
    rows = [
        {
            "tenant": each.tenant,
            "user_id": each.user_id,
            "message_id": each.message_id,
            "kind": each.kind,
            "payload": orjson.dumps(each.payload, option=orjson.OPT_UTC_Z).decode(),
            "previous": last.get((each.tenant, each.user_id), 0),
            "created_at": at,
            "expires_at": each.expires_at,
        }
        for each in messages
    ]
    # Told by message and not in the order of the rows: for that, SQLite would insert them one by one.
    new = insert(USER_MESSAGES).returning(USER_MESSAGES.c.message_id, USER_MESSAGES.c.seq)
    seqs = dict(conn.execute(new, rows).tuples().all())
    return [Stored(seqs[each.message_id], last.get((each.tenant, each.user_id), 0)) for each in messages]


def _tidy(conn: Connection, items: Sequence[tuple[int, int]]) -> list[int]:
    row = USER_MESSAGES.c
    return [
        conn.execute(
            delete(USER_MESSAGES).where(row.seq.in_(select(row.seq).where(row.expires_at <= now).limit(limit)))
        ).rowcount
        for now, limit in items
    ]
