"""Replays: dead letters sent again as new requests, each letter once, whoever asks how often.

Belongs here: the one transaction that takes dead letters, accepts their replays and answers. Does not belong here: what
a replay is made of (``replay_bodies``), who is left out (``replay_strangers``), finding dead letters (``letters``).

A letter is marked in the transaction that accepts its replay, so two callers never both send it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, select, update

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import accepting, audit, letters, progress, replay_bodies, replay_strangers
from notify_pipeline.core.ledger.accepting import Accepted, IdReused, Incoming, NewRequest
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.letters import WAITING, Filter, Letter, to_letter
from notify_pipeline.core.ledger.replay_keys import KeyReused, ReplayKey
from notify_pipeline.core.ledger.tables import DEAD_LETTERS, REQUESTS
from notify_pipeline.core.ledger.usage import Quota
from notify_pipeline.core.records import DEFAULT_TTL_S

# What is left is counted up to this many; counting more would take longer than replaying.
MOST_COUNTED = 10_000
_ORIGINAL = ("request_id", "tenant", "notification_id", "body", "domain", "replay_of")


class UnknownLetters(Exception):
    """The tenant has no dead letters of these deliveries; nothing was replayed."""

    def __init__(self, delivery_ids: Sequence[str]) -> None:
        """Args: delivery_ids: those."""
        super().__init__(f"no dead letters of {len(delivery_ids)} deliveries")
        self.delivery_ids = tuple(delivery_ids)


@dataclass(frozen=True, slots=True)
class Replay:
    """What is asked for.

    Attributes:
        tenant: Whose dead letters.
        actor: Who asks, for the audit.
        now: The API's clock.
        ids: Deliveries; at most ``progress.PIECE``. None: those that ``wanted`` fits, oldest first.
        wanted: Which, among those not replayed yet.
        limit: At most so many of them.
        most: The most recipients of one new request.
        content: Takes the place of the original's; None keeps that.
        key: Makes asking again give the same answer.
        quotas: The daily quotas that new requests count on.
    """

    tenant: str
    actor: str
    now: datetime
    ids: Sequence[str] | None
    wanted: Filter
    limit: int
    most: int
    content: Mapping[str, Any] | None = None
    key: str | None = None
    quotas: tuple[Quota, ...] = ()

    @property
    def sha256(self) -> str:
        """What is asked for, in short; not who asks, or when."""
        ids = None if self.ids is None else sorted(self.ids)
        asked = (ids, self.wanted, self.limit, self.content)
        return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Replayed:
    """The answer, JSON-able; ``repeated`` when it was given before.

    It has ``requests`` (``request_id``, ``notification_id``, ``replay_of``, ``channel`` and how many ``dead_letters``
    each), ``already_replayed`` (``delivery_id`` and ``replayed_as``), ``left_out`` (delivery ids) and ``left``.
    """

    answer: Mapping[str, Any]
    repeated: bool


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which letters are asked for; ``left`` is how many more there are."""

    asked: Replay
    ids: Sequence[str]
    left: int


@dataclass(frozen=True, slots=True)
class _Made:
    """A replay of some letters of one request on one channel."""

    letters: Sequence[Letter]
    incoming: Incoming


def replay(ledger: Ledger, asked: Replay) -> Replayed:
    """Send dead letters again.

    Raises:
        UnknownLetters: One of ``ids`` is none of the tenant's.
        KeyReused: The key was used for another replay.
        IdReused: The tenant itself used a notification id that a replay would get, on purpose.
        QuotaExceeded: The new requests would be more than a day's quota allows; nothing was replayed.
    """
    if asked.ids is not None:
        return ledger.write(_replay, _Chosen(asked, asked.ids, 0))
    # Searched before the transaction: a filter that hardly anything fits reads them all, and nobody else could write.
    fit = letters.oldest_waiting(ledger, asked.tenant, asked.wanted, asked.limit + MOST_COUNTED)
    return ledger.write(_replay, _Chosen(asked, fit[: asked.limit], max(0, len(fit) - asked.limit)))


def _replay(conn: Connection, items: Sequence[_Chosen]) -> list[Replayed | Exception]:
    return [_replay_one(conn, item) for item in items]


def _replay_one(conn: Connection, chosen: _Chosen) -> Replayed | Exception:
    item = chosen.asked
    key = ReplayKey(item.tenant, item.key)
    before = key.take(conn, item.sha256, item.now)
    if before is not None:
        return before if isinstance(before, KeyReused) else Replayed(before, repeated=True)
    found = _take(conn, chosen)
    if unknown := sorted(set(item.ids or ()) - {letter.delivery_id for letter in found}):
        key.give_back(conn)
        return UnknownLetters(unknown)
    fresh = [letter for letter in found if letter.replayed_at is None]
    originals = _originals(conn, fresh)
    strangers = replay_strangers.among(conn, item.tenant, fresh, originals)
    made = [
        _make(item, originals[group[0].request_id], group)
        for group in replay_bodies.grouped([each for each in fresh if each not in strangers], item.most)
    ]
    _accept(conn, item, made)
    _mark(conn, [letter.delivery_id for letter in strangers], item.now, None)
    answer = {
        "requests": [_shown(each) for each in made],
        "already_replayed": [
            {"delivery_id": letter.delivery_id, "replayed_as": letter.replayed_as}
            for letter in found
            if letter.replayed_at is not None
        ],
        "left_out": [letter.delivery_id for letter in strangers],
        "left": chosen.left,
    }
    key.keep(conn, answer)
    return Replayed(answer, repeated=False)


def _take(conn: Connection, chosen: _Chosen) -> list[Letter]:
    """Lock the letters that are meant, always in one order; of a filter's, those that nobody replayed meanwhile."""
    columns, asked, found = DEAD_LETTERS.c, chosen.asked, list[Letter]()
    query = select(DEAD_LETTERS).where(columns.tenant == asked.tenant).order_by(columns.died_at, columns.delivery_id)
    if asked.ids is None:
        query = query.where(WAITING)
    for start in range(0, len(chosen.ids), progress.PIECE):
        piece = query.where(columns.delivery_id.in_(chosen.ids[start : start + progress.PIECE]))
        found.extend(to_letter(row) for row in conn.execute(piece.with_for_update()).mappings())
    return found


def _originals(conn: Connection, fresh: Sequence[Letter]) -> dict[str, RowMapping]:
    ids = sorted({letter.request_id for letter in fresh})
    found: dict[str, RowMapping] = {}
    for start in range(0, len(ids), progress.PIECE):
        mine = REQUESTS.c.request_id.in_(ids[start : start + progress.PIECE])
        for row in conn.execute(select(*(REQUESTS.c[name] for name in _ORIGINAL)).where(mine)).mappings():
            found[row["request_id"]] = row
    return found


def _make(item: Replay, original: RowMapping, group: Sequence[Letter]) -> _Made:
    body = orjson.loads(original["body"])
    new = NewRequest(
        tenant=item.tenant,
        notification_id=replay_bodies.replay_id(original["notification_id"], (each.delivery_id for each in group)),
        body=replay_bodies.replay_body(body, item.tenant, original["notification_id"], group, item.content),
        accepted_at=item.now,
        expires_at=item.now + timedelta(seconds=body.get("ttl", DEFAULT_TTL_S)),
        actor=item.actor,
        replay_of=original["request_id"],
        quotas=item.quotas,
    )
    return _Made(group, accepting.prepare(new))


def _accept(conn: Connection, item: Replay, made: Sequence[_Made]) -> None:
    if not made:
        return
    for accepted in accepting.accept_all(conn, [each.incoming for each in made]):
        # The others of this call are undone with it.
        if not isinstance(accepted, Accepted):
            raise accepted
        if accepted.duplicate:
            raise IdReused(f"notification id {accepted.notification_id!r} was used before, for just this")
    entries = []
    for each in made:
        _mark(conn, [letter.delivery_id for letter in each.letters], item.now, each.incoming.request_id)
        first, shown = each.letters[0], _shown(each)
        entries.append(
            audit.Entry(
                event="dead_letters.replayed",
                actor=item.actor,
                at=to_micros(item.now),
                tenant=item.tenant,
                request_id=first.request_id,
                notification_id=first.notification_id,
                detail={
                    "replayed_as": shown["request_id"],
                    **{k: shown[k] for k in ("notification_id", "channel", "dead_letters")},
                },
            )
        )
    audit.write(conn, entries, from_micros(to_micros(item.now)))


def _mark(conn: Connection, delivery_ids: Sequence[str], now: datetime, replayed_as: str | None) -> None:
    for start in range(0, len(delivery_ids), progress.PIECE):
        mine = DEAD_LETTERS.c.delivery_id.in_(delivery_ids[start : start + progress.PIECE])
        values = {"replayed_at": to_micros(now), "replayed_as": replayed_as}
        conn.execute(update(DEAD_LETTERS).where(mine).values(values))


def _shown(made: _Made) -> dict[str, Any]:
    first = made.letters[0]
    return {
        "request_id": made.incoming.request_id,
        "notification_id": made.incoming.notification_id,
        "replay_of": first.request_id,
        "channel": first.channel,
        "dead_letters": len(made.letters),
    }
