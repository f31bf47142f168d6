"""Contacts: browsers that registered for a domain, each a row of the devices with a domain.

Belongs here: registering and changing them, and finding those of visitors. Does not belong here: domains and their
origins (``domains``), lists and counts (``contact_lists``), what apps register (``devices``), audiences of messages
(``delivery``).

A browser has one contact however it is named: by an FCM token, by a subscription of its own, or by both. With a
subscription that is its address. Whoever moves from one to the other takes along what is known of it, and the row that
it leaves is unregistered in the same transaction: it never gets two pushes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, union_all

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import contact_rows
from notify_pipeline.core.ledger.contact_rows import (
    BROWSERS,
    DELETE,
    DROP,
    IS_ACTIVE,
    IS_CONTACT,
    UPSERT,
    Contact,
    Row,
    contact_of,
)
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import among
from notify_pipeline.core.ledger.tables import DEVICES
from notify_pipeline.core.push_subscriptions import PREFIX, subscription_of
from notify_pipeline.core.vocabulary import Platform

# Guids asked for in one statement.
_PIECE = 1_000
# Of a device, whoever it becomes a contact of.
_OWN = ("user_id", "topics", "app_version", "locale", "timezone")
_NOBODYS: Mapping[str, Any] = {name: None for name in _OWN} | {"topics": "[]"}


class NotABrowser(Exception):
    """The token is registered as something else than a browser's."""


class NeedsSubscription(Exception):
    """The token stands for a subscription that was never registered here."""


@dataclass(frozen=True, slots=True)
class NewContact:
    """What a page says of its browser; what it does not say of e-mail and visitor stays as it was.

    Attributes:
        domain: Whose contact it is from now on.
        device_token: What the page knows it by.
        subscription: The token that its own subscription makes. One of the two is there.
    """

    domain: str
    device_token: str | None = None
    subscription: str | None = None
    email: str | None = None
    visitor_guid: str | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    tenant: str
    name: str
    values: Mapping[str, Any]
    now: int


@dataclass(frozen=True, slots=True)
class _Browser:
    """Whose contact a browser is, its address, what its page calls it, and e-mail and visitor; None says nothing."""

    tenant: str
    domain: str
    address: str
    beside: str | None
    said: Mapping[str, Any]


def register(ledger: Ledger, tenant: str, new: NewContact, now: datetime) -> Contact:
    """Store a browser's contact, or refresh, move or revive the one it has.

    Raises:
        NotABrowser: The token is an app's, or an address of another kind. Nothing was changed.
        NeedsSubscription: ``device_token`` stands for a subscription, and no contact has it.
    """
    return ledger.write(_register, (tenant, new, to_micros(now)))


def update_email(ledger: Ledger, tenant: str, token: str, email: str | None, now: datetime) -> Contact | None:
    """Say whose a contact is; None when there is no active one by this token."""
    return ledger.write(_change, _Change(tenant, token, {"email": email}, to_micros(now)))


def update_visitor(ledger: Ledger, tenant: str, token: str, visitor_guid: str | None, now: datetime) -> Contact | None:
    """Say which visitor a contact is of; None when there is no active one by this token."""
    return ledger.write(_change, _Change(tenant, token, {"visitor_guid": visitor_guid}, to_micros(now)))


def update_subscription(ledger: Ledger, tenant: str, token: str, subscription: str, now: datetime) -> Contact | None:
    """Give a contact the address that a new subscription makes; its page goes on knowing it by what it knew.

    A contact whose old address was found dead is revived by it. None when there is none by this token, or it was taken
    away otherwise.

    Raises:
        NotABrowser: The subscription is registered as something else than a browser's.
    """
    return ledger.write(_resubscribe, (tenant, token, subscription, to_micros(now)))


def delete(ledger: Ledger, tenant: str, token: str, reason: str, now: datetime) -> bool:
    """Take a contact away, softly; False when there is no active one by this token.

    Args:
        ledger: The ledger.
        tenant: Whose domain it registered for.
        token: What it is known by.
        reason: Who did.
        now: When.
    """
    return (
        ledger.write(_change, _Change(tenant, token, {"op": DELETE, "drop_reason": reason}, to_micros(now))) is not None
    )


def find(ledger: Ledger, token: str) -> list[Contact]:
    """Return the contacts of all tenants that are known by this token, as whoever has no key knows no tenant."""
    column = DEVICES.c
    # Each half has an index of its own.
    halves = (select(DEVICES).where(name == token, IS_CONTACT) for name in (column.token, column.device_token))
    with ledger.read() as conn:
        rows = conn.execute(union_all(*halves)).mappings().all()
    return sorted((contact_of(row) for row in rows), key=lambda each: (each.tenant, each.token))


def is_name(ledger: Ledger, tenant: str, token: str) -> bool:
    """Tell whether a token is only what a page calls an active contact that has another address."""
    return any(
        each.tenant == tenant and each.is_active and each.token != token and each.platform.value in BROWSERS
        for each in find(ledger, token)
    )


def is_dropped(ledger: Ledger, tenant: str, token: str) -> bool:
    """Tell whether a provider's word took a token away, be it a contact's or not."""
    query = select(DEVICES.c.op).where(DEVICES.c.tenant == tenant, DEVICES.c.token == token)
    with ledger.read() as conn:
        return conn.execute(query).scalar_one_or_none() == DROP


def find_by_visitors(ledger: Ledger, tenant: str, domain: str, guids: Iterable[str]) -> list[Contact]:
    """Return the active contacts of these visitors, by token."""
    wanted, column = sorted(set(guids)), DEVICES.c
    mine = select(DEVICES).where(column.tenant == tenant, column.domain == domain, IS_CONTACT, IS_ACTIVE)
    found: list[Contact] = []
    with ledger.read() as conn:
        for start in range(0, len(wanted), _PIECE):
            these = among(conn, column.visitor_guid, wanted[start : start + _PIECE])
            found.extend(contact_of(row) for row in conn.execute(mine.where(these)).mappings())
    return sorted(found, key=lambda each: each.token)


def _register(conn: Connection, items: Sequence[tuple[str, NewContact, int]]) -> list[Contact | Exception]:
    return [_register_one(conn, *item) for item in items]


def _register_one(conn: Connection, tenant: str, new: NewContact, now: int) -> Contact | Exception:
    names = [name for name in (new.device_token, new.subscription) if name is not None]
    rows = contact_rows.lock(conn, tenant, names)
    address = new.subscription or _address(rows, names[0])
    if address not in rows and new.subscription is None and address.startswith(PREFIX):
        return NeedsSubscription()
    said = {"email": new.email, "visitor_guid": new.visitor_guid}
    made = _settle(conn, _Browser(tenant, new.domain, address, new.device_token, said), rows, now)
    # An app registered the address at this very moment: now its row is there to be seen, and locked.
    return _register_one(conn, tenant, new, now) if made is None else made


def _resubscribe(conn: Connection, items: Sequence[tuple[str, str, str, int]]) -> list[Contact | Exception | None]:
    return [_resubscribe_one(conn, *item) for item in items]


def _resubscribe_one(
    conn: Connection, tenant: str, token: str, subscription: str, now: int
) -> Contact | Exception | None:
    rows = contact_rows.lock(conn, tenant, [token, subscription])
    was = _known_as(rows, token, UPSERT) or _known_as(rows, token, DROP)
    if was is None:
        return None
    beside = was["device_token"] or was["token"]
    made = _settle(conn, _Browser(tenant, was["domain"], subscription, beside, {}), rows, now)
    return _resubscribe_one(conn, tenant, token, subscription, now) if made is None else made


def _change(conn: Connection, items: Sequence[_Change]) -> list[Contact | None]:
    results: list[Contact | None] = []
    for item in items:
        row = _known_as(contact_rows.lock(conn, item.tenant, [item.name]), item.name, UPSERT)
        if row is not None and any(row[name] != value for name, value in item.values.items()):
            row = contact_rows.change(conn, row, item.values, item.now)
        results.append(None if row is None else contact_of(row))
    return results


def _address(rows: Mapping[str, Row], name: str) -> str:
    """Return where a browser is reached that says no more than this name: by its subscription, while that is alive."""
    row = _known_as(rows, name, UPSERT)
    return name if row is None else str(row["token"])


def _known_as(rows: Mapping[str, Row], name: str, op: str) -> Row | None:
    """Return the browser's contact that has a name and this state."""
    return next(
        (
            row
            for row in rows.values()
            if row["domain"] is not None
            and name in (row["token"], row["device_token"])
            and row["op"] == op
            and row["platform"] in BROWSERS
        ),
        None,
    )


def _settle(conn: Connection, browser: _Browser, rows: Mapping[str, Row], now: int) -> Contact | Exception | None:
    """Make one contact of all locked rows that turned out to be one browser's; None where a row of them is missing."""
    mine = rows.get(browser.address)
    others = [
        row
        for token, row in rows.items()
        if token != browser.address and (row["op"] == UPSERT or row["domain"] is not None)
    ]
    if any(row["platform"] not in BROWSERS for row in ([mine] if mine else []) + others):
        return NotABrowser()
    # What is known comes from the row itself first, then from the latest of the others.
    others.sort(key=lambda row: row["registered_at"], reverse=True)
    merged = _merged(browser, [mine, *others] if mine else others, now)
    if mine is not None and not others and all(mine[name] == value for name, value in merged.items()):
        return contact_of(contact_rows.see(conn, mine, now))
    seen = max([now, *(row["registered_at"] for row in rows.values())])
    stored = contact_rows.put(conn, {**merged, "registered_at": seen}, now, is_new=mine is None)
    if stored is None:
        return None
    for row in others:
        contact_rows.retire(conn, row, now)
    return contact_of(contact_rows.tell(conn, stored, now, mine))


def _merged(browser: _Browser, known: Sequence[Row], now: int) -> dict[str, Any]:
    """Return the row that a browser has, but for when it registered and its revision."""
    contacts = [row for row in known if row["domain"] is not None]
    names = [browser.beside, *(row["device_token"] for row in contacts)]
    said = {
        name: browser.said[name] if browser.said.get(name) is not None else _first(row[name] for row in contacts)
        for name in ("email", "visitor_guid")
    }
    # Who took a device away did not mean to give it back to its user and topics by what a page says.
    own = next((row for row in known if row["op"] != DELETE), _NOBODYS)
    return {
        "tenant": browser.tenant,
        "token": browser.address,
        "platform": (Platform.WEBPUSH if subscription_of(browser.address) else Platform.WEB).value,
        **{name: own[name] for name in _OWN},
        "created_at": min((row["created_at"] for row in known), default=now),
        "op": UPSERT,
        "drop_reason": None,
        "dropped_by": None,
        "domain": browser.domain,
        "device_token": _first(name for name in names if name != browser.address),
        **said,
    }


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)
