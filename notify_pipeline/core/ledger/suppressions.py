"""Suppressions: addresses that a tenant does not write to, whoever's they are.

Belongs here: adding, finding, listing and removing them. Does not belong here: what a user prefers (``preferences``),
which answers of a provider lead to one (``channels``), leaving recipients out (``delivery``).

Mail to addresses that do not exist, or whose owners complain, costs a sender its reputation with all receivers; whoever
replied STOP must not get another SMS. So an address stays until somebody removes it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, delete, select, tuple_

from notify_pipeline.core import mail_addresses, phone_numbers
from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit, erased_addresses, walks
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.people_tables import SUPPRESSIONS
from notify_pipeline.core.ledger.statements import among, insert_for
from notify_pipeline.core.ledger.walks import Key, Order
from notify_pipeline.core.vocabulary import Channel, SuppressionReason

# Channels that go to addresses which outlive any device. A dead device token is dropped instead (``devices``).
CHANNELS = (Channel.EMAIL, Channel.SMS)
# A stronger reason takes a weaker one's place, never the other way round: a person's own word is the strongest.
_STRENGTH = {
    SuppressionReason.HARD_BOUNCE: 0,
    SuppressionReason.MANUAL: 1,
    SuppressionReason.STOP: 2,
    SuppressionReason.COMPLAINT: 2,
}
# The tenant of what holds for all: all text from one number, and whoever replies STOP to it means every text from it.
# No tenant sees these rows, as other tenants' customers are none of its business (``sms_stops``).
EVERYBODY = ""
# Addresses asked for in one statement.
_PIECE = 1_000
# Providers' explanations may be long.
_MAX_DETAIL = 500
_ORDER = Order(SUPPRESSIONS.c.created_at, SUPPRESSIONS.c.address)


@dataclass(frozen=True, slots=True)
class NewSuppression:
    """What is to be added. ``address`` in any spelling; ``actor`` as in the audit."""

    tenant: str
    channel: Channel
    address: str
    reason: SuppressionReason
    detail: str | None
    actor: str


@dataclass(frozen=True, slots=True)
class Suppression:
    """A stored one."""

    channel: Channel
    address: str
    reason: SuppressionReason
    detail: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SuppressionFilter:
    """Which to list; None means any."""

    channel: Channel | None = None
    reason: SuppressionReason | None = None
    address: str | None = None


def key_of(channel: Channel, address: str) -> str:
    """Return an address as suppressions spell it: equal for all spellings of the same mailbox or number."""
    return mail_addresses.folded(address) if channel is Channel.EMAIL else address


def masked(channel: Channel, address: str) -> str:
    """Return an address as logs and the audit may show it."""
    return mail_addresses.masked(address) if channel is Channel.EMAIL else phone_numbers.masked(address)


def add(ledger: Ledger, new: NewSuppression, now: datetime) -> Suppression:
    """Add one, and return what is stored: an older one of the same address stays, unless its reason is weaker."""
    return ledger.write(_add, (new, now))


def add_many(ledger: Ledger, new: Sequence[NewSuppression], now: datetime) -> int:
    """Add some in one transaction; return how many changed something."""
    return ledger.write(_add_many, (tuple(new), now)) if new else 0


def add_all(conn: Connection, new: Iterable[NewSuppression], now: datetime) -> int:
    """Add some in the caller's transaction; return how many changed something. Each change is audited."""
    # In the order of their keys: two transactions that add the same ones cannot wait for each other.
    entries = [_entry("suppression.added", each, now) for each in sorted(new, key=_key) if _stores(conn, each, now)]
    audit.write(conn, entries, now)
    return len(entries)


def remove(ledger: Ledger, tenant: str, channel: Channel, address: str, actor: str, now: datetime) -> bool:
    """Write to an address again; False when it was not suppressed."""
    return ledger.write(_remove, (tenant, channel, address, actor, now))


def find(conn: Connection, tenant: str, channel: Channel, addresses: Iterable[str]) -> dict[str, SuppressionReason]:
    """Return why which of these addresses are suppressed, each as the caller spells it."""
    spelled: dict[str, list[str]] = {}
    for address in addresses:
        spelled.setdefault(key_of(channel, address), []).append(address)
    keys = sorted(spelled)
    reasons = _reasons(conn, tenant, channel, [*keys, erased_addresses.MARK])
    if reasons.pop(erased_addresses.MARK, None) is not None:
        hashed = erased_addresses.digests(conn, keys)
        for digest, reason in _reasons(conn, tenant, channel, sorted(hashed)).items():
            reasons.setdefault(hashed[digest], reason)
    return {address: reason for key, reason in reasons.items() for address in spelled[key]}


def any_of(conn: Connection, tenants: Iterable[str]) -> Mapping[str, frozenset[Channel]]:
    """Return on which channels these tenants have suppressions, leaving out those who have none.

    Where nobody has any, it costs one look.
    """
    if conn.execute(select(SUPPRESSIONS.c.tenant).limit(1)).first() is None:
        return {}
    found = {}
    everybodys = frozenset(channel for channel in CHANNELS if _has(conn, EVERYBODY, channel))
    for tenant in tenants:
        channels = everybodys | {channel for channel in CHANNELS if _has(conn, tenant, channel)}
        if channels:
            found[tenant] = channels
    return found


def page(
    ledger: Ledger, tenant: str, where: SuppressionFilter, limit: int, after: Key | None = None
) -> tuple[list[Suppression], Key | None]:
    """Return a tenant's suppressions, newest first, and where the next page begins; None at the end.

    A page may be short, or empty, before the end: a filter that hardly anything fits is not worth reading all for.
    """
    columns = SUPPRESSIONS.c
    equal = {
        columns.channel: where.channel and where.channel.value,
        columns.reason: where.reason and where.reason.value,
    }
    filters = [column == value for column, value in equal.items() if value is not None]
    with ledger.read() as conn:
        if where.address is not None:
            # The primary key finds it: at most one on each channel.
            named = [(channel.value, key_of(channel, where.address)) for channel in CHANNELS]
            same = [(name, each) for name, key in named for each in (key, *erased_addresses.digests(conn, [key]))]
            one = tuple_(columns.channel, columns.address).in_(same)
            query = select(SUPPRESSIONS).where(columns.tenant == tenant, one, *filters)
            return [] if after is not None else [_row(row) for row in conn.execute(query)], None
        walked = walks.walk(conn, _ORDER, [columns.tenant == tenant], filters, after, limit + 1)
        keys, following = walks.merge([walked], _ORDER.newest_first, limit)
        query = select(SUPPRESSIONS).where(columns.tenant == tenant, columns.address.in_([key[1] for key in keys]))
        query = query.where(columns.address != erased_addresses.MARK)
        rows = [_row(row) for row in conn.execute(query.where(*filters).order_by(*_ORDER.by))]
    return rows, following


def _reasons(conn: Connection, tenant: str, channel: Channel, keys: Sequence[str]) -> dict[str, SuppressionReason]:
    whose = [tenant, EVERYBODY] if channel is Channel.SMS else [tenant]
    mine = select(SUPPRESSIONS.c.address, SUPPRESSIONS.c.reason).where(
        SUPPRESSIONS.c.tenant.in_(whose), SUPPRESSIONS.c.channel == channel.value
    )
    found: dict[str, SuppressionReason] = {}
    for start in range(0, len(keys), _PIECE):
        these = among(conn, SUPPRESSIONS.c.address, keys[start : start + _PIECE])
        found.update((key, SuppressionReason(reason)) for key, reason in conn.execute(mine.where(these)))
    return found


def _add(conn: Connection, items: Sequence[tuple[NewSuppression, datetime]]) -> list[Suppression]:
    for now in {now for _, now in items}:
        add_all(conn, [new for new, at in items if at == now], now)
    return [_get(conn, new) for new, _ in items]


def _add_many(conn: Connection, items: Sequence[tuple[tuple[NewSuppression, ...], datetime]]) -> list[int]:
    return [add_all(conn, new, now) for new, now in items]


def _stores(conn: Connection, new: NewSuppression, now: datetime) -> bool:
    """Store one, unless what is there is as strong; tell whether anything changed."""
    detail = None if new.detail is None else new.detail[:_MAX_DETAIL]
    values = {"reason": new.reason.value, "detail": detail, "created_at": to_micros(now)}
    tenant, channel, address = _key(new)
    row = insert_for(conn.dialect.name)(SUPPRESSIONS).values(tenant=tenant, channel=channel, address=address, **values)
    strength = case({reason.value: rank for reason, rank in _STRENGTH.items()}, value=SUPPRESSIONS.c.reason, else_=0)
    statement = row.on_conflict_do_update(
        index_elements=["tenant", "channel", "address"], set_=values, where=strength < _STRENGTH[new.reason]
    )
    return conn.execute(statement.returning(SUPPRESSIONS.c.address)).first() is not None


def _get(conn: Connection, new: NewSuppression) -> Suppression:
    return _row(conn.execute(select(SUPPRESSIONS).where(*_this(*_key(new)))).one())


def _has(conn: Connection, tenant: str, channel: Channel) -> bool:
    mine = select(SUPPRESSIONS.c.tenant).where(SUPPRESSIONS.c.tenant == tenant, SUPPRESSIONS.c.channel == channel.value)
    return conn.execute(mine.limit(1)).first() is not None


def _remove(conn: Connection, items: Sequence[tuple[str, Channel, str, str, datetime]]) -> list[bool]:
    results = []
    for tenant, channel, address, actor, now in items:
        key = key_of(channel, address)
        these = SUPPRESSIONS.c.address.in_([key, *erased_addresses.digests(conn, [key])])
        mine = (SUPPRESSIONS.c.tenant == tenant, SUPPRESSIONS.c.channel == channel.value, these)
        gone = conn.execute(delete(SUPPRESSIONS).where(*mine).returning(SUPPRESSIONS.c.reason)).first()
        results.append(gone is not None)
        if gone is not None:
            was = NewSuppression(tenant, channel, address, SuppressionReason(gone.reason), None, actor)
            audit.write(conn, [_entry("suppression.removed", was, now)], now)
    return results


def _this(tenant: str, channel: str, address: str) -> tuple[Any, ...]:
    columns = SUPPRESSIONS.c
    return (columns.tenant == tenant, columns.channel == channel, columns.address == address)


def _entry(event: str, new: NewSuppression, now: datetime) -> audit.Entry:
    detail = {
        "channel": new.channel.value,
        "address": masked(new.channel, new.address),
        "reason": new.reason.value,
    }
    return audit.Entry(event, new.actor, to_micros(now), tenant=new.tenant or None, detail=detail)


def _key(new: NewSuppression) -> tuple[str, str, str]:
    return (new.tenant, new.channel.value, key_of(new.channel, new.address))


def _row(row: Any) -> Suppression:
    return Suppression(
        Channel(row.channel), row.address, SuppressionReason(row.reason), row.detail, from_micros(row.created_at)
    )
