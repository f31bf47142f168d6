"""Moves of requests between states, recorded in the transaction that makes them.

Belongs here: what every move leaves behind, whoever makes it. Does not belong here: deciding on moves and storing the
new state (``requests``, ``routing``, ``broadcasts``, ``progress``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from notify_pipeline.core.ledger import audit, callback_messages
from notify_pipeline.core.vocabulary import RequestState


@dataclass(frozen=True, slots=True)
class Move:
    """One move of one request.

    Attributes:
        tenant: Its owner.
        request_id: Which request.
        notification_id: Its notification.
        from_state: Where it stood; None for one that was just accepted.
        to_state: Where it stands now.
        actor: Who moved it.
        at: When, microseconds since the epoch.
        detail: JSON-able; what else is to be known.
    """

    tenant: str
    request_id: str
    notification_id: str
    from_state: RequestState | None
    to_state: RequestState
    actor: str
    at: int
    detail: Mapping[str, Any] | None = None

    @property
    def entry(self) -> audit.Entry:
        """Its audit entry."""
        return audit.Entry(
            event=f"request.{self.to_state}",
            actor=self.actor,
            at=self.at,
            tenant=self.tenant,
            request_id=self.request_id,
            notification_id=self.notification_id,
            from_state=None if self.from_state is None else str(self.from_state),
            to_state=str(self.to_state),
            detail=self.detail,
        )


def record(conn: Connection, moves: Sequence[Move], now: datetime) -> None:
    """Write what these moves leave behind to the caller's transaction, in their order."""
    audit.write(conn, [move.entry for move in moves], now)
    if ended := [move for move in moves if move.to_state.is_final]:
        callback_messages.queue(conn, ended, now)
