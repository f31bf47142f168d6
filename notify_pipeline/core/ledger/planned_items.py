"""The inbox's part of a send: its items, stored in the transaction that queues the send's deliveries.

Belongs here: what such a part is, and storing it. Does not belong here: deciding it (``delivery.inbox_items``), inboxes
themselves (``inbox``), the transactions (``routing``, ``broadcasts``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from notify_pipeline.core.ledger import inbox, outbox
from notify_pipeline.core.ledger.inbox import NewItem
from notify_pipeline.core.ledger.progress import Counts


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """One user's item, and the attempts row (for the lake) that tells of it; ``item`` is None in a dry run."""

    item: NewItem | None
    attempt: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InboxPart:
    """What a send leaves in inboxes.

    Attributes:
        items: Whom it leaves something.
        skipped: Attempts rows of users who want none.
        counts: The channel's counts.
        audiences: Audiences rows (for the lake).
    """

    items: Sequence[PlannedItem] = ()
    skipped: Sequence[Mapping[str, Any]] = ()
    counts: Counts = field(default_factory=dict)
    audiences: Sequence[Mapping[str, Any]] = ()


def store_items(conn: Connection, planned: Sequence[PlannedItem], now: datetime) -> None:
    """Add the items and their attempts rows in the caller's transaction, after everything that it locks."""
    if not planned:
        return
    added = iter(inbox.add(conn, [each.item for each in planned if each.item is not None], now))
    rows = [
        each.attempt if each.item is None else {**each.attempt, "provider_message_id": next(added).item_id}
        for each in planned
    ]
    outbox.add(conn, "attempts", rows, now)
