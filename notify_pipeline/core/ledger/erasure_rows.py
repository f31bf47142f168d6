"""What becomes of a person's rows: each table's part of an erasure, in the caller's one transaction.

Belongs here: rows that a key finds (a user's, a device's), and the order of it all. Does not belong here: which names a
person goes by (``erasure_names``), finding bodies that have one (``erasure_scan``), rewriting these
(``erasure_texts``). What is kept and why is told in ``docs/erasure.md``.

A device's row stays as a tombstone that knows nothing but its token until the lake is rewritten: older rows there would
otherwise bring the device back (``devices``).
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, or_, select, update

from notify_pipeline.core.erasure import ERASED, Subject
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import erased_addresses, erasure_texts, outbox
from notify_pipeline.core.ledger.devices import lake_row
from notify_pipeline.core.ledger.erasure_scan import Found
from notify_pipeline.core.ledger.event_tables import LIKES, LOOKS
from notify_pipeline.core.ledger.people_tables import CONNECTIONS, PREFERENCES, SUPPRESSIONS
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.suppressions import CHANNELS, EVERYBODY
from notify_pipeline.core.ledger.tables import DEVICES
from notify_pipeline.core.ledger.tenant_tables import CAP_USES, KEY_RATES, USERS
from notify_pipeline.core.vocabulary import Channel, RegistrationOp

_D = DEVICES.c
# What a device's row knows beside its token and platform.
_SAID_NOTHING = {
    "user_id": None,
    "topics": "[]",
    "app_version": None,
    "locale": None,
    "timezone": None,
    "email": None,
    "visitor_guid": None,
    "device_token": None,
}
_ADDRESSED = tuple(channel.value for channel in CHANNELS)


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: rows by table, and the person with what was found to have been about nobody else."""

    subject: Subject
    counts: dict[str, int]


def erase(conn: Connection, subject: Subject, found: Found, now: datetime) -> Done:
    """Take a person out of all tables."""
    counts = {
        "devices": _devices(conn, subject, now),
        "preferences": _preferences(conn, subject),
        "suppressions": _suppressions(conn, subject),
        **_of_user(conn, subject),
        "users": _users(conn, subject),
        "cap_uses": _gone(conn, CAP_USES, subject, CAP_USES.c.recipient.in_(sorted(subject.recipients))),
    }
    return _with_texts(conn, subject, found, counts, now)


def erase_late(conn: Connection, subject: Subject, found: Found, now: datetime) -> Done:
    """Take a person out of texts that were written on account of what was there before."""
    return _with_texts(conn, subject, found, {}, now)


def left(conn: Connection, subject: Subject) -> dict[str, int]:
    """Return how many rows a key finds that name the person still and were not written anew."""
    known = and_(_D.tenant == subject.tenant, _D.token.in_(sorted(subject.tokens | subject.emails)))
    told = or_(_D.email.isnot(None), _D.visitor_guid.isnot(None), _D.user_id.isnot(None), _D.device_token.isnot(None))
    query = select(func.count()).select_from(DEVICES)
    number = conn.execute(query.where(known, told, _D.op != RegistrationOp.UPSERT.value)).scalar_one()
    return {"devices": number} if number else {}


def live_again(conn: Connection, subject: Subject) -> frozenset[str]:
    """Return those of a person's tokens that were registered anew since."""
    mine = (_D.tenant == subject.tenant, _D.token.in_(sorted(subject.tokens | subject.emails)))
    query = select(_D.token).where(*mine, _D.op == RegistrationOp.UPSERT.value)
    return frozenset(conn.execute(query).scalars())


def forget_tombstones(conn: Connection, subject: Subject) -> int:
    """Delete the rows of a person's devices, but for those that were registered anew."""
    mine = _D.token.in_(sorted(subject.tokens | subject.emails))
    return _gone(conn, DEVICES, subject, and_(mine, _D.op != RegistrationOp.UPSERT.value))


def _with_texts(conn: Connection, subject: Subject, found: Found, counts: dict[str, int], now: datetime) -> Done:
    texts = erasure_texts.erase(conn, subject, found, now)
    known = replace(subject, requests=subject.requests | texts.requests, events=subject.events | texts.events)
    counts |= {name: counts.get(name, 0) + number for name, number in texts.counts.items()}
    return Done(known, {name: number for name, number in counts.items() if number})


def _devices(conn: Connection, subject: Subject, now: datetime) -> int:
    """Unregister a person's devices, contacts and subscriptions, and forget all that they said."""
    at = to_micros(now)
    whose: list[ColumnElement[bool]] = [_D.token.in_(sorted(subject.tokens | subject.emails))]
    if subject.user_id is not None:
        whose.append(_D.user_id == subject.user_id)
    mine = (_D.tenant == subject.tenant, or_(*whose))
    tokens = conn.execute(select(_D.token).where(*mine).order_by(_D.token).with_for_update()).scalars().all()
    live = (_D.op == RegistrationOp.UPSERT.value, _D.tenant == subject.tenant, _D.token.in_(tokens))
    ended = {"op": RegistrationOp.DELETE.value, "drop_reason": ERASED, "revision": _D.revision + 1, "changed_at": at}
    rows = conn.execute(update(DEVICES).where(*live).values(ended | _SAID_NOTHING).returning(DEVICES)).all()
    lake = [lake_row(row._mapping, RegistrationOp.DELETE, ERASED, at, RegistrationOp.UPSERT.value) for row in rows]
    outbox.add(conn, "registrations", lake, now)
    these = (_D.tenant == subject.tenant, _D.token.in_(tokens))
    conn.execute(update(DEVICES).where(*these).values(_SAID_NOTHING))
    return len(tokens)


def _users(conn: Connection, subject: Subject) -> int:
    """Forget the user, and of other users an address by which the person was named."""
    if subject.user_id is not None:
        return _gone(conn, USERS, subject, USERS.c.user_id == subject.user_id)
    mail = (USERS.c.tenant == subject.tenant, USERS.c.mailbox.in_(sorted(subject.emails)))
    phone = (USERS.c.tenant == subject.tenant, USERS.c.phone.in_(sorted(subject.phones)))
    changed = conn.execute(update(USERS).where(*mail).values(email=None, mailbox=None)).rowcount
    return changed + conn.execute(update(USERS).where(*phone).values(phone=None)).rowcount


def _of_user(conn: Connection, subject: Subject) -> dict[str, int]:
    """Forget what only users have. Inboxes and what connections are told are among the texts."""
    if subject.user_id is None:
        return {}
    user_id = subject.user_id
    rates = delete(KEY_RATES).where(KEY_RATES.c.key_id == f"user:{subject.tenant}:{user_id}")
    return {
        "connections": _gone(conn, CONNECTIONS, subject, CONNECTIONS.c.user_id == user_id),
        "likes": _gone(conn, LIKES, subject, LIKES.c.customer_id == user_id),
        "looks": _gone(conn, LOOKS, subject, LOOKS.c.owner_id == user_id),
        "key_rates": conn.execute(rates).rowcount,
    }


def _preferences(conn: Connection, subject: Subject) -> int:
    """Forget what a person said, but what they refused by e-mail and SMS: that is kept by digests of the addresses."""
    columns = PREFERENCES.c
    mine = (columns.tenant == subject.tenant, columns.recipient.in_(sorted(subject.recipients)))
    said = conn.execute(delete(PREFERENCES).where(*mine).returning(PREFERENCES)).mappings().all()
    addresses = {Channel.EMAIL.value: subject.emails, Channel.SMS.value: subject.phones}
    kept: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in said:
        if row["enabled"]:
            continue
        for channel, theirs in addresses.items():
            if row["channel"] in ("", channel):
                for digest in _digests(conn, (f"device:{each}" for each in theirs)):
                    kept[digest, row["category"], channel] = {**row, "recipient": digest, "channel": channel}
    if kept:
        some = next(iter(kept.values()))
        mark = {**some, "recipient": erased_addresses.MARK, "category": "", "channel": ""}
        _put(conn, PREFERENCES, [mark, *kept.values()])
    return len(said)


def _suppressions(conn: Connection, subject: Subject) -> int:
    """Keep which addresses are not to be written to by their digests, with why and since when."""
    columns, addresses = SUPPRESSIONS.c, sorted(subject.emails | subject.phones)
    whose = columns.tenant.in_([subject.tenant, EVERYBODY])
    mine = (whose, columns.channel.in_(_ADDRESSED), columns.address.in_(addresses))
    gone = conn.execute(delete(SUPPRESSIONS).where(*mine).returning(SUPPRESSIONS)).mappings().all()
    rows: list[dict[str, Any]] = []
    for row in gone:
        for digest in _digests(conn, [row["address"]]):
            # What the provider said may name the address.
            rows += [{**row, "detail": None, "address": name} for name in (erased_addresses.MARK, digest)]
    if rows:
        _put(conn, SUPPRESSIONS, rows)
    return len(gone)


def _digests(conn: Connection, names: Iterable[str]) -> Iterable[str]:
    return erased_addresses.made(conn, os.urandom(32).hex(), names)


def _put(conn: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        conn.execute(insert_for(conn.dialect.name)(table).values(row).on_conflict_do_nothing())


def _gone(conn: Connection, table: Table, subject: Subject, whose: Any) -> int:
    return conn.execute(delete(table).where(table.c.tenant == subject.tenant, whose)).rowcount
