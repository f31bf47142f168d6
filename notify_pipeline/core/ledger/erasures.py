"""Erasures: asked for, carried out in the ledger at once, and followed until they are verified.

Belongs here: the rows of erasures, and the one transaction that erases a person from the ledger. Does not belong here:
which names a person goes by (``erasure_names``), what becomes of each table (``erasure_rows``), the lake
(``core.erasure_lake``), the order of it all (``core.erasing``).
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, select, update

from notify_pipeline.core.erasure import Subject
from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import audit, erasure_names, erasure_rows, erasure_scan, walks
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.erasure_names import Named
from notify_pipeline.core.ledger.erasure_tables import ERASURES
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.walks import Key, Order
from notify_pipeline.core.vocabulary import ErasureKind, ErasureState

# The name of the installation's secret that makes a person's hash, and that of an erased address which must not be
# written to.
SECRET = "erasures"  # noqa: S105 - its name
_HASH_CHARACTERS = 32  # 128 bits of it: no two people share one
_ORDER = Order(ERASURES.c.requested_at, ERASURES.c.erasure_id)
_ROOMS = ("ledger", "lake")


@dataclass(frozen=True, slots=True)
class Erasure:
    """A stored erasure.

    ``counts`` are rows removed or rewritten by room and table, ``proof`` is what the verification looked at;
    ``subject`` is None once it is verified.
    """

    erasure_id: str
    tenant: str
    kind: ErasureKind
    subject_hash: str
    subject: Subject | None
    state: ErasureState
    waits_for: str | None
    counts: Mapping[str, Mapping[str, int]]
    proof: Mapping[str, Any] | None
    requested_at: datetime
    ledger_done_at: datetime | None
    lake_done_at: datetime | None
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Start:
    named: Named
    subject_hash: str
    actor: str
    now: datetime
    found: erasure_scan.Found


@dataclass(frozen=True, slots=True)
class _Again:
    erasure: Erasure
    now: datetime
    found: erasure_scan.Found


@dataclass(frozen=True, slots=True)
class _Mark:
    erasure_id: str
    values: Mapping[str, Any]


def subject_hash(secret: bytes, named: Named) -> str:
    """Return what stands for a person in erasures and the audit: a keyed digest (HMAC-SHA256, RFC 2104)."""
    said = "\0".join((named.tenant, named.kind, named.value, named.domain or ""))
    return hmac.digest(secret, said.encode(), hashlib.sha256).hex()[:_HASH_CHARACTERS]


def start(ledger: Ledger, named: Named, actor: str, now: datetime) -> Erasure:
    """Erase whoever is named from the ledger, and have the lake follow; return the one under way if there is one.

    Who is not known is erased all the same: lake and bodies may name whom the ledger has forgotten.
    """
    hashed = subject_hash(ledger.secret(SECRET), named)
    with ledger.read() as conn:
        if (open_one := _open(conn, named.tenant, hashed)) is not None:
            return open_one
        # Looked for outside the write: reading all bodies takes seconds where there are millions.
        found = erasure_scan.scan(conn, erasure_names.resolve(conn, named, ""), to_micros(now))
    return ledger.write(_start, _Start(named, hashed, actor, now, found))


def again(ledger: Ledger, erasure: Erasure, now: datetime) -> int:
    """Erase what was written since by whoever was under way; return how many rows named the person still."""
    if erasure.subject is None:
        return 0
    with ledger.read() as conn:
        found = erasure_scan.scan(conn, erasure.subject, to_micros(erasure.requested_at))
    return ledger.write(_again, _Again(erasure, now, found)) if found.rows else 0


def left(ledger: Ledger, erasure: Erasure) -> dict[str, int]:
    """Return how many rows of the ledger name the person still, by table; empty when none does."""
    if erasure.subject is None:
        return {}
    with ledger.read() as conn:
        found = erasure_scan.scan(conn, erasure.subject, to_micros(erasure.requested_at))
        return {**{name: len(keys) for name, keys in found.rows.items()}, **erasure_rows.left(conn, erasure.subject)}


def get(ledger: Ledger, tenant: str, erasure_id: str) -> Erasure | None:
    """Return a tenant's erasure, or None."""
    return _one(ledger, ERASURES.c.tenant == tenant, ERASURES.c.erasure_id == erasure_id)


def pending(ledger: Ledger) -> list[Erasure]:
    """Return all that are not verified, the oldest first."""
    query = select(ERASURES).where(ERASURES.c.verified_at.is_(None)).order_by(ERASURES.c.erasure_id)
    with ledger.read() as conn:
        return [_row(row) for row in conn.execute(query).mappings()]


def page(
    ledger: Ledger, tenant: str, state: ErasureState | None, limit: int, after: Key | None = None
) -> tuple[list[Erasure], Key | None]:
    """Return a tenant's erasures, newest first, and where the next page begins; None at the end."""
    filters = [] if state is None else [ERASURES.c.state == state.value]
    with ledger.read() as conn:
        walked = walks.walk(conn, _ORDER, [ERASURES.c.tenant == tenant], filters, after, limit + 1)
        keys, following = walks.merge([walked], _ORDER.newest_first, limit)
        ids = [key[1] for key in keys]
        rows = conn.execute(select(ERASURES).where(ERASURES.c.erasure_id.in_(ids)).order_by(*_ORDER.by)).mappings()
        return [_row(row) for row in rows], following


def lake_erased(ledger: Ledger, erasure: Erasure, counts: Mapping[str, int], now: datetime) -> Erasure:
    """Keep that the lake was rewritten: once for all, and again for what landed later."""
    values: dict[str, Any] = {"counts": _added(erasure.counts, "lake", counts), "waits_for": None}
    if erasure.state is ErasureState.LEDGER_DONE:
        values |= {"state": ErasureState.LAKE_DONE.value, "lake_done_at": to_micros(now)}
    return ledger.write(_mark, _Mark(erasure.erasure_id, values))


def wait_for(ledger: Ledger, erasure: Erasure, what: str) -> Erasure:
    """Keep what an erasure's next step waits for; writes nothing where that is known."""
    if erasure.waits_for == what:
        return erasure
    return ledger.write(_mark, _Mark(erasure.erasure_id, {"waits_for": what}))


def verified(ledger: Ledger, erasure: Erasure, proof: Mapping[str, Any], now: datetime) -> Erasure:
    """Keep the proof, and forget the person's names: with them goes all that could still lead to the person."""
    return ledger.write(_verified, (erasure, dict(proof), now))


def _start(conn: Connection, items: Sequence[_Start]) -> list[Erasure]:
    return [_start_one(conn, item) for item in items]


def _start_one(conn: Connection, item: _Start) -> Erasure:
    named, at = item.named, to_micros(item.now)
    erasure_id = new_id()
    row = {
        "erasure_id": erasure_id,
        "tenant": named.tenant,
        "kind": named.kind.value,
        "subject_hash": item.subject_hash,
        "state": ErasureState.LEDGER_DONE.value,
        "counts": "{}",
        "actor": item.actor,
        "requested_at": at,
        "ledger_done_at": at,
    }
    upsert = insert_for(conn.dialect.name)(ERASURES).values(row).on_conflict_do_nothing()
    if not conn.execute(upsert).rowcount and (other := _open(conn, named.tenant, item.subject_hash)) is not None:
        return other
    subject = erasure_names.resolve(conn, named, new_id() + new_id())
    done = erasure_rows.erase(conn, subject, item.found, item.now)
    counts = {"ledger": done.counts, "lake": {}}
    values = {"subject": done.subject.stored(), "counts": orjson.dumps(counts).decode()}
    conn.execute(update(ERASURES).where(ERASURES.c.erasure_id == erasure_id).values(values))
    detail = {"erasure_id": erasure_id, "kind": named.kind.value, "subject": item.subject_hash, "rows": done.counts}
    audit.write(conn, [audit.Entry("erasure.requested", item.actor, at, tenant=named.tenant, detail=detail)], item.now)
    return _read(conn, erasure_id)


def _again(conn: Connection, items: Sequence[_Again]) -> list[int]:
    results = []
    for item in items:
        erasure = _read(conn, item.erasure.erasure_id)
        if erasure.subject is None:
            results.append(0)
            continue
        done = erasure_rows.erase_late(conn, erasure.subject, item.found, item.now)
        values = {"subject": done.subject.stored(), "counts": _added(erasure.counts, "ledger", done.counts)}
        conn.execute(update(ERASURES).where(ERASURES.c.erasure_id == erasure.erasure_id).values(values))
        results.append(sum(done.counts.values()))
    return results


def _mark(conn: Connection, items: Sequence[_Mark]) -> list[Erasure]:
    for item in items:
        conn.execute(update(ERASURES).where(ERASURES.c.erasure_id == item.erasure_id).values(item.values))
    return [_read(conn, item.erasure_id) for item in items]


def _verified(conn: Connection, items: Sequence[tuple[Erasure, dict[str, Any], datetime]]) -> list[Erasure]:
    for erasure, proof, now in items:
        mine = (ERASURES.c.erasure_id == erasure.erasure_id, ERASURES.c.verified_at.is_(None))
        values = {
            "state": ErasureState.VERIFIED.value,
            "verified_at": to_micros(now),
            "proof": orjson.dumps(proof, option=orjson.OPT_SORT_KEYS).decode(),
            "subject": None,
            "waits_for": None,
        }
        if conn.execute(update(ERASURES).where(*mine).values(values)).rowcount and erasure.subject is not None:
            erasure_rows.forget_tombstones(conn, erasure.subject)
            detail = {"erasure_id": erasure.erasure_id, "subject": erasure.subject_hash, **proof}
            entry = audit.Entry("erasure.verified", "erasure", to_micros(now), tenant=erasure.tenant, detail=detail)
            audit.write(conn, [entry], now)
    return [_read(conn, erasure.erasure_id) for erasure, _, _ in items]


def _added(counts: Mapping[str, Mapping[str, int]], room: str, more: Mapping[str, int]) -> str:
    mine = dict(counts.get(room, {}))
    for name, number in more.items():
        mine[name] = mine.get(name, 0) + number
    return orjson.dumps({**{each: counts.get(each, {}) for each in _ROOMS}, room: mine}).decode()


def _open(conn: Connection, tenant: str, hashed: str) -> Erasure | None:
    mine = (ERASURES.c.tenant == tenant, ERASURES.c.subject_hash == hashed, ERASURES.c.verified_at.is_(None))
    found = conn.execute(select(ERASURES).where(*mine)).mappings().one_or_none()
    return None if found is None else _row(found)


def _read(conn: Connection, erasure_id: str) -> Erasure:
    return _row(conn.execute(select(ERASURES).where(ERASURES.c.erasure_id == erasure_id)).mappings().one())


def _one(ledger: Ledger, *where: Any) -> Erasure | None:
    with ledger.read() as conn:
        found = conn.execute(select(ERASURES).where(*where)).mappings().one_or_none()
    return None if found is None else _row(found)


def _row(values: Mapping[Any, Any]) -> Erasure:
    times = {
        name: None if values[name] is None else from_micros(values[name])
        for name in ("ledger_done_at", "lake_done_at", "verified_at")
    }
    return Erasure(
        erasure_id=values["erasure_id"],
        tenant=values["tenant"],
        kind=ErasureKind(values["kind"]),
        subject_hash=values["subject_hash"],
        subject=None if values["subject"] is None else Subject.of(values["subject"]),
        state=ErasureState(values["state"]),
        waits_for=values["waits_for"],
        counts=orjson.loads(values["counts"]),
        proof=None if values["proof"] is None else orjson.loads(values["proof"]),
        requested_at=from_micros(values["requested_at"]),
        **times,
    )
