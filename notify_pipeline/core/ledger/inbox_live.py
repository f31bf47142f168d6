"""What connected clients are told of a user's inbox, in the transaction that changes it.

Belongs here: the words, and handing them to the user's messages. Does not belong here: the changes (``inbox``,
``inbox_changing``), keeping and sending messages (``user_messages``, the gateway).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import user_messages
from notify_pipeline.core.ledger.user_messages import NewMessage

# What is said, by ``type``: an item came, one was read, one was deleted, all up to one were read.
ADDED, READ, DELETED, READ_ALL = "inbox.added", "inbox.read", "inbox.deleted", "inbox.read_all"
# Whoever was not connected for longer reads the inbox itself, which has it all.
_KEPT_US = 24 * 3_600 * 1_000_000


class Live(NamedTuple):
    """One thing that one user's clients are told."""

    tenant: str
    user_id: str
    message_id: str  # no other message has it
    payload: Mapping[str, Any]


def tell(conn: Connection, told: Sequence[Live], now: datetime) -> None:
    """Tell users' clients, in the caller's transaction and in this order."""
    until = to_micros(now) + _KEPT_US
    user_messages.add(conn, [NewMessage(*each[:3], user_messages.INBOX, each.payload, until) for each in told], now)
