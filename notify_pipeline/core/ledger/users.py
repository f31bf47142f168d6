"""Users: what a tenant tells of them, beyond the devices that are registered for them.

Belongs here: storing and finding that. Does not belong here: devices (``devices``), what a user wants
(``preferences``), what follows from it for a send (``delivery``).

A user is whoever a tenant says: a row exists once something was told. Values that are null were not.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, or_, select, text, update

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import among, insert_for
from notify_pipeline.core.ledger.tenant_tables import USERS
from notify_pipeline.core.mail_addresses import folded
from notify_pipeline.core.vocabulary import Channel

# Rows read, and users asked for, in one statement.
_PIECE = 1_000
_PROFILE = ("email", "phone", "locale", "timezone", "attributes")
_TIME = (USERS.c.user_id, USERS.c.timezone, USERS.c.quiet_hours, USERS.c.updated_at)
# In the words of the partial index, literally: only then does SQLite know that the index covers the query.
_QUIET = text("quiet_hours IS NOT NULL")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a tenant tells of a user; ``phone`` is an E.164 number, ``attributes`` a JSON object."""

    email: str | None = None
    phone: str | None = None
    locale: str | None = None
    timezone: str | None = None
    attributes: Mapping[str, Any] | None = None

    def values(self) -> dict[str, Any]:
        """Return it as it is given to ``change``."""
        return {name: getattr(self, name) for name in _PROFILE}


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a user can be written to, and what says how."""

    email: str | None
    phone: str | None
    locale: str | None = None
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class UserRow:
    """What is stored of a user's time; ``quiet_hours`` is {"from", "until", "timezone"}."""

    user_id: str
    timezone: str | None
    quiet_hours: Mapping[str, Any] | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StoredUser:
    """All that is stored of a user."""

    user_id: str
    profile: Profile
    quiet_hours: Mapping[str, Any] | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class _Change:
    tenant: str
    user_id: str
    values: Mapping[str, Any]
    actor: str
    now: datetime


def put(ledger: Ledger, tenant: str, user_id: str, profile: Profile, actor: str, now: datetime) -> StoredUser:
    """Store a user's profile in the place of what there was; quiet hours stay."""
    return ledger.write(_change, _Change(tenant, user_id, _storable(profile.values()), actor, now))


def change(
    ledger: Ledger, tenant: str, user_id: str, values: Mapping[str, Any], actor: str, now: datetime
) -> StoredUser | None:
    """Store some fields of a ``Profile`` in the place of what there was; None when nothing was told of the user."""
    return ledger.write(_change_known, _Change(tenant, user_id, _storable(values), actor, now))


def put_quiet_hours(
    ledger: Ledger, tenant: str, user_id: str, quiet_hours: Mapping[str, Any], actor: str, now: datetime
) -> StoredUser:
    """Store a user's own quiet hours in the place of what there was."""
    value = orjson.dumps(quiet_hours, option=orjson.OPT_SORT_KEYS).decode()
    return ledger.write(_change, _Change(tenant, user_id, {"quiet_hours": value}, actor, now))


def remove_quiet_hours(ledger: Ledger, tenant: str, user_id: str, actor: str, now: datetime) -> bool:
    """Forget a user's own quiet hours; False when there were none."""
    return ledger.write(_remove, (tenant, user_id, actor, now))


def get(ledger: Ledger, tenant: str, user_id: str) -> StoredUser | None:
    """Return a user, or None when nothing was told of them."""
    with ledger.read() as conn:
        found = conn.execute(select(USERS).where(USERS.c.tenant == tenant, USERS.c.user_id == user_id)).first()
    return None if found is None else _stored(found)


def find(ledger: Ledger, tenant: str, user_ids: Collection[str]) -> dict[str, UserRow]:
    """Return what is stored of these users' time."""
    return {row.user_id: _user(row) for row in _rows(ledger, tenant, user_ids, _TIME)}


def contacts(ledger: Ledger, tenant: str, user_ids: Collection[str]) -> dict[str, Contact]:
    """Return the addresses of those of these users who have any."""
    columns = (USERS.c.user_id, USERS.c.email, USERS.c.phone, USERS.c.locale, USERS.c.timezone)
    rows = _rows(ledger, tenant, user_ids, columns)
    return {row[0]: Contact(*row[1:]) for row in rows if row.email or row.phone}


def profiles(ledger: Ledger, tenant: str, user_ids: Collection[str]) -> dict[str, Profile]:
    """Return what was told of these users, attributes included: for few users; ``contacts`` is for many."""
    columns = (USERS.c.user_id, *(USERS.c[name] for name in _PROFILE))
    return {row.user_id: _profile(row) for row in _rows(ledger, tenant, user_ids, columns)}


def profile_of(conn: Connection, tenant: str, user_id: str) -> Profile | None:
    """Return what was told of a user as a transaction sees it, or None."""
    found = conn.execute(select(USERS).where(USERS.c.tenant == tenant, USERS.c.user_id == user_id)).first()
    return None if found is None else _profile(found)


def at_addresses(
    conn: Connection, tenant: str, channel: Channel, addresses: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield each of these mailboxes or numbers, as ``suppressions.key_of`` spells it, with each user who has it."""
    at = USERS.c.mailbox if channel is Channel.EMAIL else USERS.c.phone
    ordered = sorted(set(addresses))
    for start in range(0, len(ordered), _PIECE):
        # That it is not null goes without saying; said, SQLite would read everybody who has any.
        these = among(conn, at, ordered[start : start + _PIECE])
        yield from conn.execute(select(at, USERS.c.user_id).where(USERS.c.tenant == tenant, these)).tuples()


def with_time(ledger: Ledger, tenant: str) -> Iterator[list[UserRow]]:
    """Yield the users of whom a time zone or quiet hours are stored, in pieces, holding one at a time."""
    told = or_(USERS.c.timezone.isnot(None), USERS.c.quiet_hours.isnot(None))
    query = select(*_TIME).where(USERS.c.tenant == tenant, told).order_by(USERS.c.user_id).limit(_PIECE)
    page = query
    while True:
        with ledger.read() as conn:
            rows = [_user(row) for row in conn.execute(page)]
        yield rows
        if len(rows) < _PIECE:
            return
        page = query.where(USERS.c.user_id > rows[-1].user_id)


def with_quiet_hours(conn: Connection, tenants: Collection[str]) -> set[str]:
    """Return those of these tenants any of whose users has quiet hours; where nobody's has, that costs one look."""
    anybody = select(USERS.c.tenant).where(_QUIET).limit(1)
    if conn.execute(anybody).first() is None:
        return set()
    one = anybody.where(USERS.c.tenant == bindparam("of_tenant"))
    return {tenant for tenant in tenants if conn.execute(one, {"of_tenant": tenant}).first() is not None}


def _rows(
    ledger: Ledger, tenant: str, user_ids: Collection[str], columns: Sequence[ColumnElement[Any]]
) -> Iterator[Any]:
    ordered = sorted(set(user_ids))
    with ledger.read() as conn:
        for start in range(0, len(ordered), _PIECE):
            piece = ordered[start : start + _PIECE]
            yield from conn.execute(select(*columns).where(USERS.c.tenant == tenant, USERS.c.user_id.in_(piece)))


def _storable(values: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(values)
    if (attributes := found.get("attributes")) is not None:
        found["attributes"] = orjson.dumps(attributes, option=orjson.OPT_SORT_KEYS).decode()
    if "email" in found:
        found["mailbox"] = None if found["email"] is None else folded(found["email"])
    return found


def _change(conn: Connection, items: Sequence[_Change]) -> list[StoredUser]:
    return [_change_one(conn, item, _before(conn, item)) for item in items]


def _change_known(conn: Connection, items: Sequence[_Change]) -> list[StoredUser | None]:
    found = ((item, _before(conn, item)) for item in items)
    return [_change_one(conn, item, before) if before else None for item, before in found]


def _before(conn: Connection, item: _Change) -> Mapping[Any, Any]:
    """Return the row as it is, locked; empty when there is none."""
    this = (USERS.c.tenant == item.tenant, USERS.c.user_id == item.user_id)
    return conn.execute(select(USERS).where(*this).with_for_update()).mappings().first() or {}


def _change_one(conn: Connection, item: _Change, before: Mapping[Any, Any]) -> StoredUser:
    at = to_micros(item.now)
    changed = sorted(name for name, value in item.values.items() if before.get(name) != value and name != "mailbox")
    if changed or not before:
        new = insert_for(conn.dialect.name)(USERS).values(
            tenant=item.tenant, user_id=item.user_id, updated_at=at, **item.values
        )
        conn.execute(
            new.on_conflict_do_update(index_elements=["tenant", "user_id"], set_={**item.values, "updated_at": at})
        )
        _tell(conn, item.tenant, item.user_id, changed, item.actor, item.now)
    return _stored(
        conn.execute(select(USERS).where(USERS.c.tenant == item.tenant, USERS.c.user_id == item.user_id)).one()
    )


def _remove(conn: Connection, items: Sequence[tuple[str, str, str, datetime]]) -> list[bool]:
    results = []
    for tenant, user_id, actor, now in items:
        mine = (USERS.c.tenant == tenant, USERS.c.user_id == user_id, USERS.c.quiet_hours.isnot(None))
        gone = update(USERS).where(*mine).values(quiet_hours=None, updated_at=to_micros(now))
        results.append(conn.execute(gone).rowcount == 1)
        if results[-1]:
            _tell(conn, tenant, user_id, ["quiet_hours"], actor, now)
    return results


def _tell(conn: Connection, tenant: str, user_id: str, changed: Sequence[str], actor: str, now: datetime) -> None:
    detail = {"user_id": user_id, "changed": changed}
    audit.write(conn, [audit.Entry("user.changed", actor, to_micros(now), tenant=tenant, detail=detail)], now)


def _user(row: Any) -> UserRow:
    return UserRow(row.user_id, row.timezone, _json(row.quiet_hours), from_micros(row.updated_at))


def _stored(row: Any) -> StoredUser:
    return StoredUser(row.user_id, _profile(row), _json(row.quiet_hours), from_micros(row.updated_at))


def _profile(row: Any) -> Profile:
    return Profile(row.email, row.phone, row.locale, row.timezone, _json(row.attributes))


def _json(stored: str | None) -> Any:
    return None if stored is None else orjson.loads(stored)
