"""Contacts as rows of the devices: finding them under lock, and storing what became of them with its lake row.

Belongs here: what a contact is, the locks, single rows. Does not belong here: what a registration does to which rows
(``contacts``), devices that are nobody's contacts (``devices``).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger import outbox
from notify_pipeline.core.ledger.devices import lake_row
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tables import DEVICES
from notify_pipeline.core.vocabulary import Platform, RegistrationOp

Row = Mapping[Any, Any]

IS_CONTACT = DEVICES.c.domain.isnot(None)
UPSERT, DELETE, DROP = (op.value for op in (RegistrationOp.UPSERT, RegistrationOp.DELETE, RegistrationOp.DROP))
# PostgreSQL takes 2,704 bytes into an index: with a tenant, a domain, an address and a time before the token. Tokens of
# FCM have some 163 characters today, and those of subscriptions some 500.
# https://www.postgresql.org/docs/current/btree.html
MAX_TOKEN_LENGTH = 2_000
# Written so that no index of states is taken where another one finds them.
IS_ACTIVE = DEVICES.c.op.not_in((DELETE, DROP))
# What a page may speak for.
BROWSERS = frozenset({Platform.WEB.value, Platform.WEBPUSH.value})


@dataclass(frozen=True, slots=True)
class Contact:
    """A browser that registered for a domain; deleted softly when not active.

    Attributes:
        token: Its address: FCM's token, or the one that stands for its own subscription.
        device_token: What its page knows it by, which may be an FCM token beside the subscription.
        changed_at: When it was said or done anything to, but for being seen again.
        drop_reason: Of an inactive one: the provider's code, or who took it away.
        dropped_by: The notification whose attempt found it dead.
    """

    tenant: str
    domain: str
    token: str
    device_token: str
    platform: Platform
    email: str | None
    visitor_guid: str | None
    user_id: str | None
    locale: str | None
    timezone: str | None
    app_version: str | None
    op: RegistrationOp
    drop_reason: str | None
    dropped_by: str | None
    created_at: datetime
    registered_at: datetime
    changed_at: datetime
    revision: int

    @property
    def is_active(self) -> bool:
        """True while it can be sent to."""
        return self.op is RegistrationOp.UPSERT


def contact_of(row: Row) -> Contact:
    """Return the contact of a row that is one."""
    copied = ("tenant", "domain", "token", "email", "visitor_guid", "user_id", "locale", "timezone", "app_version")
    return Contact(
        **{name: row[name] for name in copied},
        device_token=row["device_token"] or row["token"],
        platform=Platform(row["platform"]),
        op=RegistrationOp(row["op"]),
        drop_reason=row["drop_reason"],
        dropped_by=row["dropped_by"],
        created_at=from_micros(row["created_at"]),
        registered_at=from_micros(row["registered_at"]),
        changed_at=from_micros(row["changed_at"]),
        revision=row["revision"],
    )


def lock(conn: Connection, tenant: str, names: Sequence[str]) -> dict[str, Row]:
    """Return a tenant's rows that have one of these names, as token or as what a page knows them by.

    Until the transaction ends nobody else makes or changes one of these names. All rows are locked in the order of
    their tokens, as everywhere, after the names in an order of theirs: no two callers wait for each other in a circle.
    """
    if conn.dialect.name != "sqlite":  # whose writers take turns anyway
        for key in sorted({_key(tenant, name) for name in names}):
            conn.execute(select(func.pg_advisory_xact_lock(key)))
    beside = select(DEVICES.c.token).where(DEVICES.c.tenant == tenant, DEVICES.c.device_token.in_(names), IS_CONTACT)
    tokens = sorted({*names, *conn.execute(beside).scalars()})
    query = select(DEVICES).where(DEVICES.c.tenant == tenant, DEVICES.c.token.in_(tokens))
    rows = conn.execute(query.order_by(DEVICES.c.token).with_for_update()).mappings()
    # Another's transaction may have given one of them another name before it was locked.
    return {row["token"]: dict(row) for row in rows if row["token"] in names or _is_beside(row, names)}


def put(conn: Connection, row: Row, now: int, is_new: bool) -> Row | None:
    """Store a whole row as its token's next revision, which the lake is to be told of (``tell``).

    Args:
        conn: The transaction, which has locked the row, or found none.
        row: What is to be stored, but for its revision.
        now: Microseconds since the epoch.
        is_new: It found none.

    Returns:
        What is stored; None when there is a row now that was not found: nobody can lock what is not there.
    """
    if is_new:
        insert = insert_for(conn.dialect.name)(DEVICES).values(**{**row, "revision": 1, "changed_at": now})
        return conn.execute(insert.on_conflict_do_nothing().returning(DEVICES)).mappings().one_or_none()
    return _changed(conn, row, {name: value for name, value in row.items() if name not in ("tenant", "token")}, now)


def tell(conn: Connection, row: Row, now: int, was: Row | None) -> Row:
    """Tell the lake what a row is now, and what it was (None: nothing); return what it is."""
    told = lake_row(row, RegistrationOp(row["op"]), row["drop_reason"], now, None if was is None else was["op"])
    outbox.add(conn, "registrations", [told], from_micros(now))
    return row


def change(conn: Connection, row: Row, values: Mapping[str, Any], now: int) -> Row:
    """Change a locked row, and tell the lake; return what is stored."""
    return tell(conn, _changed(conn, row, values, now), now, row)


def retire(conn: Connection, row: Row, now: int) -> None:
    """Unregister a row whose contact lives on under another token. The lake is told of which domain it was."""
    values = {"op": DELETE, "domain": None, "device_token": None, "email": None, "visitor_guid": None}
    changed = {**values, "drop_reason": None, "dropped_by": None, "revision": DEVICES.c.revision + 1}
    statement = update(DEVICES).where(DEVICES.c.tenant == row["tenant"], DEVICES.c.token == row["token"])
    stored = conn.execute(statement.values(**changed, changed_at=None).returning(DEVICES)).mappings().one()
    tell(conn, {**stored, "domain": row["domain"]}, now, row)


def see(conn: Connection, row: Row, now: int) -> Row:
    """Note that a row was registered again just as it is: no change, and no revision."""
    values = {"registered_at": max(now, row["registered_at"])}
    statement = update(DEVICES).where(DEVICES.c.tenant == row["tenant"], DEVICES.c.token == row["token"])
    conn.execute(statement.values(**values))
    return {**row, **values}


def _changed(conn: Connection, row: Row, values: Mapping[str, Any], now: int) -> Row:
    statement = update(DEVICES).where(DEVICES.c.tenant == row["tenant"], DEVICES.c.token == row["token"])
    changed = {**values, "changed_at": now, "revision": DEVICES.c.revision + 1}
    return conn.execute(statement.values(**changed).returning(DEVICES)).mappings().one()


def _is_beside(row: Row, names: Sequence[str]) -> bool:
    return row["domain"] is not None and row["device_token"] in names


def _key(tenant: str, name: str) -> int:
    digest = hashlib.blake2b(f"{tenant} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
