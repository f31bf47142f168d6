"""Which names a person goes by: from the one that a tenant gives to all that the ledger knows beside it.

Belongs here: looking them up. Does not belong here: what becomes of the rows that have them (``erasure_rows``).

Whoever is named as a user is also where the profile says, the user's devices, and the browsers that gave the user's
address. Whoever is named by an address, a device or a visitor is no more than that: a user who has the address keeps
everything but it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, or_, select

from notify_pipeline.core.erasure import Subject
from notify_pipeline.core.ledger.tables import DEVICES
from notify_pipeline.core.ledger.tenant_tables import USERS
from notify_pipeline.core.mail_addresses import folded
from notify_pipeline.core.vocabulary import ErasureKind

_D = DEVICES.c


@dataclass(frozen=True, slots=True)
class Named:
    """Who is to be erased, as a tenant says it; ``domain`` is the visitor's."""

    tenant: str
    kind: ErasureKind
    value: str
    domain: str | None = None


def resolve(conn: Connection, named: Named, salt: str) -> Subject:
    """Return all names of whoever is named."""
    user_id, emails, phones, pictures = None, set[str](), set[str](), set[str]()
    tokens: set[str] = set()
    if named.kind is ErasureKind.USER:
        user_id = named.value
        emails, phones, pictures = _profile(conn, named.tenant, user_id)
    elif named.kind is ErasureKind.EMAIL:
        emails = {folded(named.value)}
    elif named.kind is ErasureKind.PHONE:
        phones = {named.value}
    elif named.kind is ErasureKind.DEVICE:
        tokens = {named.value}
    guids = {named.value} if named.kind is ErasureKind.VISITOR else set()
    rows = conn.execute(select(DEVICES).where(_D.tenant == named.tenant, _whose(named, emails))).mappings().all()
    tokens |= {name for row in rows for name in _called(row)}
    if named.kind is not ErasureKind.VISITOR:
        guids |= {row["visitor_guid"] for row in rows if row["visitor_guid"]}
    # An e-mail subscription is a device whose token is the address.
    emails |= {folded(token) for token in tokens if "@" in token and "://" not in token}
    return Subject(
        named.tenant, user_id, frozenset(emails), frozenset(phones), frozenset(tokens - emails), frozenset(guids),
        frozenset(pictures), salt=salt,
    )  # fmt: skip


def mine(subject: Subject) -> ColumnElement[bool]:
    """Return which devices are a person's, by the names that are known."""
    names = sorted(subject.tokens | subject.emails)
    return and_(
        _D.tenant == subject.tenant,
        or_(_D.token.in_(names), _D.user_id == subject.user_id if subject.user_id is not None else _D.token.in_([])),
    )


def _whose(named: Named, emails: Iterable[str]) -> ColumnElement[bool]:
    conditions: Sequence[ColumnElement[bool]] = [
        # In the words of the partial indexes: contacts are found by their domain's.
        and_(_D.domain.isnot(None), _D.email.in_(sorted(emails))),
        _D.token.in_(sorted(emails)),
    ]
    if named.kind is ErasureKind.USER:
        conditions = [_D.user_id == named.value, *conditions]
    elif named.kind is ErasureKind.DEVICE:
        contact = and_(_D.domain.isnot(None), _D.device_token == named.value)
        conditions = [_D.token == named.value, contact]
    elif named.kind is ErasureKind.VISITOR:
        conditions = [and_(_D.domain == named.domain, _D.domain.isnot(None), _D.visitor_guid == named.value)]
    return or_(*conditions)


def _profile(conn: Connection, tenant: str, user_id: str) -> tuple[set[str], set[str], set[str]]:
    """Return a user's addresses, less those that another user of the tenant has too, and the user's picture."""
    row = conn.execute(select(USERS).where(USERS.c.tenant == tenant, USERS.c.user_id == user_id)).first()
    if row is None:
        return set(), set(), set()
    emails = {folded(row.email)} if row.email and not _shared(conn, tenant, user_id, "mailbox", row.mailbox) else set()
    phones = {row.phone} if row.phone and not _shared(conn, tenant, user_id, "phone", row.phone) else set()
    picture = (orjson.loads(row.attributes) if row.attributes else {}).get("image_url")
    return emails, phones, {picture} if isinstance(picture, str) and picture else set()


def _shared(conn: Connection, tenant: str, user_id: str, column: str, value: Any) -> bool:
    others = (USERS.c.tenant == tenant, USERS.c.user_id != user_id, USERS.c[column] == value)
    return conn.execute(select(USERS.c.user_id).where(*others).limit(1)).first() is not None


def _called(row: RowMapping) -> list[str]:
    return [row[name] for name in ("token", "device_token") if row[name]]
