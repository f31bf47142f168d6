"""Registered devices: the current state of every token, and its history for the lake.

Belongs here: registering, changing, finding and dropping tokens. Does not belong here: audiences of broadcasts, which
are counted out in the lake (``delivery.audience``).

A removed device stays as a tombstone, so that its revisions go on growing: in the lake the latest revision of a token
says whether it is registered, in whatever order rows arrive.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, bindparam, case, literal_column, null, select, update

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import Prepared, Upsert
from notify_pipeline.core.ledger.tables import DEVICES
from notify_pipeline.core.vocabulary import Platform, RegistrationOp

# SQLite takes 32,766 parameters in a statement and PostgreSQL 65,535; longer lists are asked for in pieces.
PIECE = 1_000
_IS_CONTACT = DEVICES.c.domain.isnot(None)
_LIVE = DEVICES.c.op == str(RegistrationOp.UPSERT)


@dataclass(frozen=True, slots=True)
class Registration:
    """What an app says of itself. Topics are kept sorted and once each."""

    token: str
    platform: Platform
    user_id: str | None = None
    topics: Sequence[str] = ()
    app_version: str | None = None
    locale: str | None = None
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A live registration; ``registered_at`` is the last time the app registered the token."""

    tenant: str
    token: str
    platform: Platform
    user_id: str | None
    topics: tuple[str, ...]
    app_version: str | None
    locale: str | None
    timezone: str | None
    created_at: datetime
    registered_at: datetime
    revision: int


@dataclass(frozen=True, slots=True)
class TokenDrop:
    """A provider's word that a token is dead; void if the app registered it again after ``not_after``."""

    token: str
    reason: str
    not_after: datetime
    notification_id: str | None = None  # whose attempt it answered


_STORED = (
    "tenant",
    "token",
    "platform",
    "user_id",
    "topics",
    "app_version",
    "locale",
    "timezone",
    "created_at",
    "registered_at",
    "revision",
    "op",
)
_SAID = ("platform", "user_id", "topics", "app_version", "locale", "timezone")


def _upsert(insert: Upsert) -> Any:
    new = insert(DEVICES).values({name: bindparam(name) for name in _STORED})
    changed = {name: new.excluded[name] for name in (*_SAID, "registered_at", "op")}
    more = {"revision": DEVICES.c.revision + literal_column("1"), "drop_reason": null(), "dropped_by": null()}
    # A contact stays one: what an app says of a device is nothing about its domain.
    changed_at = case((_IS_CONTACT, new.excluded.registered_at))
    return new.on_conflict_do_update(
        index_elements=["tenant", "token"], set_={**changed, **more, "changed_at": changed_at}
    ).returning(DEVICES.c.created_at, DEVICES.c.revision, DEVICES.c.domain)


_UPSERT = Prepared(_upsert, _STORED)
_CURRENT = Prepared(
    lambda _: (
        select(*(DEVICES.c[name] for name in (*_SAID, "op", "created_at", "revision", "registered_at")))
        .where(DEVICES.c.tenant == bindparam("tenant"), DEVICES.c.token == bindparam("token"))
        .with_for_update()
    ),
    ("tenant", "token"),
)
_SEEN = Prepared(
    lambda _: (
        update(DEVICES)
        .where(DEVICES.c.tenant == bindparam("of_tenant"), DEVICES.c.token == bindparam("of_token"))
        .values(registered_at=bindparam("registered_at"))
    ),
    ("registered_at", "of_tenant", "of_token"),
)


def register(ledger: Ledger, tenant: str, registration: Registration, now: datetime) -> Device:
    """Store a registration, or revive or change the one of the same token.

    Saying the same again only moves ``registered_at``: it is no change, and makes no revision.
    """
    return ledger.write(_register, (tenant, registration, to_micros(now)))


def set_topics(ledger: Ledger, tenant: str, token: str, topics: Iterable[str], now: datetime) -> Device | None:
    """Replace a live device's topics (none is legal); None when there is no such device."""
    values = {"topics": _topics_json(topics)}
    changed = ledger.write(_change, _Change(tenant, (token,), values, now))
    return changed[0] if changed else None


def delete(ledger: Ledger, tenant: str, token: str, now: datetime) -> bool:
    """Unregister a device; False when there was no live one."""
    values = {"op": str(RegistrationOp.DELETE)}
    return bool(ledger.write(_change, _Change(tenant, (token,), values, now)))


def drop(ledger: Ledger, tenant: str, drops: Sequence[TokenDrop], now: datetime) -> int:
    """Unregister tokens on a provider's word, each unless it was registered again since; return how many went."""
    return ledger.write(_drop, (tenant, drops, now))


def get(ledger: Ledger, tenant: str, token: str) -> Device | None:
    """Return a tenant's live device, or None."""
    found = find_by_tokens(ledger, tenant, (token,))
    return found[0] if found else None


def find_by_users(ledger: Ledger, tenant: str, users: Sequence[str]) -> list[Device]:
    """Return the live devices of these users, by token."""
    return _find(ledger, tenant, DEVICES.c.user_id, users)


def find_by_tokens(ledger: Ledger, tenant: str, tokens: Sequence[str]) -> list[Device]:
    """Return those of these tokens that are live, by token."""
    return _find(ledger, tenant, DEVICES.c.token, tokens)


def _find(ledger: Ledger, tenant: str, column: ColumnElement[Any], wanted: Sequence[str]) -> list[Device]:
    found: list[Device] = []
    with ledger.read() as conn:
        for piece in _pieces(sorted(set(wanted))):
            query = select(DEVICES).where(DEVICES.c.tenant == tenant, column.in_(piece), _LIVE)
            found.extend(_device(row._mapping) for row in conn.execute(query))
    return sorted(found, key=lambda device: device.token)


def _pieces(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + PIECE] for start in range(0, len(values), PIECE))


@dataclass(frozen=True, slots=True)
class _Change:
    tenant: str
    tokens: tuple[str, ...]
    values: Mapping[str, Any]
    now: datetime


def _register(conn: Connection, items: Sequence[tuple[str, Registration, int]]) -> list[Device]:
    devices: list[Device] = []
    lake: list[dict[str, Any]] = []
    for tenant, said, now in items:
        topics = _topics_json(said.topics)
        values = (str(said.platform), said.user_id, topics, said.app_version, said.locale, said.timezone)
        current = _CURRENT.run_values(conn, (tenant, said.token)).first()
        if current is not None and tuple(current[:7]) == (*values, "upsert"):
            created_at, revision = current[7], current[8]
            _SEEN.run_values(conn, (max(now, current[9]), tenant, said.token))
        else:
            stored = (tenant, said.token, *values, now, now, 1, "upsert")
            created_at, revision, domain = _UPSERT.run_values(conn, stored).one()
            row = dict(zip(_STORED, stored, strict=True)) | {"revision": revision, "domain": domain}
            # One that was not there a moment ago, and is at its second revision, was registered by another meanwhile.
            previous = current[6] if current is not None else str(RegistrationOp.UPSERT) if revision > 1 else None
            lake.append(lake_row(row, RegistrationOp.UPSERT, None, now, previous))
        devices.append(
            _device(dict(zip(_STORED, (tenant, said.token, *values, created_at, now, revision, "upsert"), strict=True)))
        )
    if lake:
        outbox.add(conn, "registrations", lake, from_micros(items[0][2]))
    return devices


def _change(conn: Connection, items: Sequence[_Change]) -> list[list[Device]]:
    return [_change_one(conn, item) for item in items]


def _change_one(conn: Connection, change: _Change) -> list[Device]:
    now = to_micros(change.now)
    statement = (
        update(DEVICES)
        .where(DEVICES.c.tenant == change.tenant, DEVICES.c.token.in_(change.tokens), _LIVE)
        .values(**change.values, revision=DEVICES.c.revision + 1, changed_at=case((_IS_CONTACT, now)))
        .returning(DEVICES)
    )
    rows: Sequence[Row[Any]] = conn.execute(statement).all()
    was = str(RegistrationOp.UPSERT)  # or it was not found
    lake = [lake_row(row._mapping, RegistrationOp(row.op), row.drop_reason, now, was) for row in rows]
    outbox.add(conn, "registrations", lake, change.now)
    return [_device(row._mapping) for row in rows]


def _drop(conn: Connection, items: Sequence[tuple[str, Sequence[TokenDrop], datetime]]) -> list[int]:
    return [_drop_all(conn, tenant, drops, now) for tenant, drops, now in items]


def _drop_all(conn: Connection, tenant: str, drops: Sequence[TokenDrop], now: datetime) -> int:
    """Drop them with a statement per reason and notification: a large send finds hundreds dead at a time."""
    # Locked in one order everywhere, so that two droppers never wait for each other in a circle.
    said = {each.token: each for each in sorted(drops, key=lambda each: each.not_after)}
    columns = select(DEVICES.c.token, DEVICES.c.registered_at).order_by(DEVICES.c.token).with_for_update()
    gone = 0
    for piece in _pieces(sorted(said)):
        query = columns.where(DEVICES.c.tenant == tenant, DEVICES.c.token.in_(piece), _LIVE)
        by_reason: defaultdict[tuple[str, str | None], list[str]] = defaultdict(list)
        for token, registered_at in conn.execute(query):
            drop = said[token]
            if registered_at <= to_micros(drop.not_after):
                by_reason[drop.reason, drop.notification_id].append(token)
        for (reason, notification_id), tokens in by_reason.items():
            values = {"op": str(RegistrationOp.DROP), "drop_reason": reason, "dropped_by": notification_id}
            gone += len(_change_one(conn, _Change(tenant, tuple(tokens), values, now)))
    return gone


def _topics_json(topics: Iterable[str]) -> str:
    return orjson.dumps(sorted(set(topics))).decode()


def _device(row: Mapping[Any, Any]) -> Device:
    return Device(
        tenant=row["tenant"],
        token=row["token"],
        platform=Platform(row["platform"]),
        user_id=row["user_id"],
        topics=tuple(orjson.loads(row["topics"])),
        app_version=row["app_version"],
        locale=row["locale"],
        timezone=row["timezone"],
        created_at=from_micros(row["created_at"]),
        registered_at=from_micros(row["registered_at"]),
        revision=row["revision"],
    )


def lake_row(
    row: Mapping[Any, Any], op: RegistrationOp, reason: str | None, now: int, previous: str | None
) -> dict[str, Any]:
    """Return what the lake is told of one change.

    Args:
        row: As stored after it.
        op: What it is now.
        reason: Of a dropped one.
        now: Microseconds since the epoch.
        previous: What it was before the change (``RegistrationOp``), None when there was none.
    """
    copied = ("tenant", "token", "platform", "user_id", "app_version", "locale", "timezone", "revision", "domain")
    return {
        **{name: row[name] for name in copied},
        "topics": orjson.loads(row["topics"]),
        "op": str(op),
        "reason": reason,
        "at": now,
        "previous": previous,
    }
