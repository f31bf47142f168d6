"""What connected clients are told of a user's inbox, in the transaction that changes it.

Belongs here: the words, and writing them where gateways look. Does not belong here: the changes (``inbox``,
``inbox_changing``), sending over WebSockets (``channels.websocket``, the gateway).
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ARRAY, Connection, Integer, bindparam, func, insert, literal, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.people_tables import USER_MESSAGES
from notify_pipeline.core.ledger.statements import Prepared

# What is said, by ``type``: an item came, one was read, one was deleted, all up to one were read.
ADDED, READ, DELETED, READ_ALL = "inbox.added", "inbox.read", "inbox.deleted", "inbox.read_all"
# The kind of message that gateways send by themselves.
KIND = "inbox"
# Whoever was not connected for longer reads the inbox itself, which has it all.
_KEPT_US = 24 * 3_600 * 1_000_000
# The space of PostgreSQL's advisory locks that is ours ("inbx"), and how many it has: a send to thousands of users
# shall not take thousands of locks, of which a server has some thousands for everybody.
_LOCKS, _BUCKETS = 0x696E6278, 256
_STORED = ("tenant", "user_id", "message_id", "kind", "payload", "created_at", "expires_at")
_ADD = Prepared(lambda _: insert(USER_MESSAGES).values({name: bindparam(name) for name in _STORED}), _STORED)


class Live(NamedTuple):
    """One thing that one user's clients are told."""

    tenant: str
    user_id: str
    message_id: str  # no other message has it
    payload: Mapping[str, Any]


def hold(conn: Connection, whose: Iterable[tuple[str, str]]) -> None:
    """Let nobody else change these users' inboxes until the transaction ends.

    Only so do unread counts hold what others change at the same time. SQLite has one writer anyway.
    """
    if conn.dialect.name == "sqlite":
        return
    # Sorted, so that two never wait for each other.
    buckets = sorted({zlib.crc32(f"{tenant}\0{user_id}".encode()) % _BUCKETS for tenant, user_id in whose})
    each = func.unnest(literal(buckets, ARRAY(Integer))).column_valued("bucket")
    conn.execute(select(func.pg_advisory_xact_lock(_LOCKS, each))).all()


def tell(conn: Connection, told: Sequence[Live], now: datetime) -> None:
    """Tell users' clients, in the caller's transaction and in this order."""
    at = to_micros(now)
    rows = [
        (each.tenant, each.user_id, each.message_id, KIND, orjson.dumps(each.payload).decode(), at, at + _KEPT_US)
        for each in told
    ]
    _ADD.run_many(conn, rows)
