"""Keys of replays, so that asking again gives the same answer, whatever was replayed.

Belongs here: taking a key, storing its answer, giving it back. Does not belong here: what is replayed (``replays``,
``event_replays``), forgetting old keys (``dead_letters``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, delete, select, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tenant_tables import REPLAYS


class KeyReused(Exception):
    """The tenant used this key before, for another replay."""


@dataclass(frozen=True, slots=True)
class ReplayKey:
    """One tenant's key; without one, nothing is stored and nothing was asked before.

    Attributes:
        tenant: Whose.
        key: What the caller named; None: nothing.
        of: Tells the keys of one kind of replay from those of others.
    """

    tenant: str
    key: str | None
    of: str = ""

    def take(self, conn: Connection, sha256: str, now: datetime) -> Mapping[str, Any] | KeyReused | None:
        """Take the key, waiting for whoever is using it.

        Args:
            conn: The transaction.
            sha256: What is asked for, in short.
            now: The caller's clock.

        Returns:
            The answer that was given under it before, or that it was used for something else; None when it is new.
        """
        if self.key is None:
            return None
        row = {"tenant": self.tenant, "replay_key": self._stored, "body_sha256": sha256, "answer": "{}"}
        new = insert_for(conn.dialect.name)(REPLAYS).values(**row, created_at=to_micros(now))
        if conn.execute(new.on_conflict_do_nothing(index_elements=["tenant", "replay_key"])).rowcount == 1:
            return None
        first = conn.execute(select(REPLAYS.c.body_sha256, REPLAYS.c.answer).where(*self._this)).one()
        if first.body_sha256 != sha256:
            return KeyReused(f"key {self.key!r} was used before, for another replay")
        answer: Mapping[str, Any] = orjson.loads(first.answer)
        return answer

    def keep(self, conn: Connection, answer: Mapping[str, Any]) -> None:
        """Store the answer to give again."""
        if self.key is not None:
            conn.execute(update(REPLAYS).where(*self._this).values(answer=orjson.dumps(answer).decode()))

    def give_back(self, conn: Connection) -> None:
        """Let go of a key that nothing came of; ids are corrected and sent again."""
        if self.key is not None:
            conn.execute(delete(REPLAYS).where(*self._this))

    @property
    def _stored(self) -> str:
        return f"{self.of}{self.key}"

    @property
    def _this(self) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return REPLAYS.c.tenant == self.tenant, REPLAYS.c.replay_key == self._stored
