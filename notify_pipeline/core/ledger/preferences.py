"""Preferences: what users said that they want to be sent, and on which channels.

Belongs here: storing and finding that. Does not belong here: what follows for a send (``core.consents``), what tenants
set (``policies``), addresses that nobody may write to (``suppressions``).

Recipients are named by ``consents.recipient``: users, and addresses that belong to none.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, select, tuple_

from notify_pipeline.core.consents import Pair, Said
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import audit, erased_addresses
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.people_tables import PREFERENCES
from notify_pipeline.core.ledger.statements import among, insert_for
from notify_pipeline.core.ledger.suppressions import masked
from notify_pipeline.core.vocabulary import Channel

# Recipients asked for in one statement.
_PIECE = 1_000
_KEY = ("tenant", "recipient", "category", "channel")


@dataclass(frozen=True, slots=True)
class Change:
    """What one recipient says anew.

    Attributes:
        tenant: Whose recipient.
        recipient: Who, as ``consents.recipient`` names them.
        said: By category and channel; None takes back what was said.
        source: Where it was said, a short word for the records.
        actor: Who tells it, for the audit.
        whole: Whether it takes the place of all that was said before.
    """

    tenant: str
    recipient: str
    said: Mapping[Pair, bool | None]
    source: str
    actor: str
    whole: bool = False


@dataclass(slots=True)
class _Difference:
    stored: dict[Pair, bool] = field(default_factory=dict)
    gone: list[Pair] = field(default_factory=list)


def change(ledger: Ledger, change: Change, now: datetime) -> dict[Pair, Said]:
    """Store what a recipient says, and return all that they have said; saying the same again changes nothing."""
    return ledger.write(_change, (change, now))


def get(ledger: Ledger, tenant: str, recipient: str) -> dict[Pair, Said]:
    """Return all that a recipient has said."""
    with ledger.read() as conn:
        return find(conn, tenant, [recipient]).get(recipient, {})


def find(
    conn: Connection, tenant: str, recipients: Iterable[str], pairs: Collection[Pair] | None = None
) -> dict[str, dict[Pair, Said]]:
    """Return what these recipients said, of these pairs if any are named; who said nothing is left out."""
    recipients = set(recipients)
    found = _said(conn, tenant, {*recipients, erased_addresses.MARK}, pairs)
    if found.pop(erased_addresses.MARK, None) is not None:
        # Addresses whose owners are erased: what they refused before holds until they say otherwise.
        hashed = erased_addresses.digests(conn, (each for each in recipients if each.startswith("device:")))
        for digest, said in _said(conn, tenant, hashed, pairs).items():
            found[hashed[digest]] = {**said, **found.get(hashed[digest], {})}
    return found


def _said(
    conn: Connection, tenant: str, recipients: Collection[str], pairs: Collection[Pair] | None
) -> dict[str, dict[Pair, Said]]:
    columns = PREFERENCES.c
    query = select(
        columns.recipient, columns.category, columns.channel, columns.enabled, columns.source, columns.updated_at
    )
    query = query.where(columns.tenant == tenant)
    found: dict[str, dict[Pair, Said]] = {}
    ordered = sorted(recipients)
    for start in range(0, len(ordered), _PIECE):
        rows = conn.execute(query.where(among(conn, columns.recipient, ordered[start : start + _PIECE])))
        for recipient, category, channel, enabled, source, at in rows:
            if pairs is None or (category, channel) in pairs or recipient == erased_addresses.MARK:
                found.setdefault(recipient, {})[category, channel] = Said(enabled, source, at)
    return found


def any_of(conn: Connection, tenants: Iterable[str]) -> set[str]:
    """Return those of these tenants any of whose recipients said anything; where nobody did, that costs one look."""
    anybody = select(PREFERENCES.c.tenant).limit(1)
    if conn.execute(anybody).first() is None:
        return set()
    return {name for name in tenants if conn.execute(anybody.where(PREFERENCES.c.tenant == name)).first() is not None}


def _change(conn: Connection, items: Sequence[tuple[Change, datetime]]) -> list[dict[Pair, Said]]:
    return [_change_one(conn, item, now) for item, now in items]


def _change_one(conn: Connection, item: Change, now: datetime) -> dict[Pair, Said]:
    mine = (PREFERENCES.c.tenant == item.tenant, PREFERENCES.c.recipient == item.recipient)
    # Locked, so that the audit tells what the change did.
    conn.execute(select(PREFERENCES.c.category).where(*mine).order_by(PREFERENCES.c.category).with_for_update()).all()
    before = find(conn, item.tenant, [item.recipient]).get(item.recipient, {})
    difference = _difference(item, before)
    if not difference.stored and not difference.gone:
        return before
    at = to_micros(now)
    if difference.gone:
        pair = tuple_(PREFERENCES.c.category, PREFERENCES.c.channel)
        conn.execute(delete(PREFERENCES).where(*mine, pair.in_(sorted(difference.gone))))
    if difference.stored:
        new = insert_for(conn.dialect.name)(PREFERENCES)
        changed = {name: new.excluded[name] for name in ("enabled", "source", "updated_at")}
        conn.execute(
            new.on_conflict_do_update(index_elements=_KEY, set_=changed),
            [
                {
                    **dict(zip(_KEY, (item.tenant, item.recipient, *pair), strict=True)),
                    "enabled": enabled,
                    "source": item.source,
                    "updated_at": at,
                }
                for pair, enabled in sorted(difference.stored.items())
            ],
        )
    audit.write(conn, [_entry(item, difference, at)], now)
    return find(conn, item.tenant, [item.recipient]).get(item.recipient, {})


def _difference(item: Change, before: Mapping[Pair, Said]) -> _Difference:
    found = _Difference()
    for pair, enabled in item.said.items():
        if enabled is not None and (pair not in before or before[pair].enabled != enabled):
            found.stored[pair] = enabled
    kept = {pair for pair, enabled in item.said.items() if enabled is not None}
    asked = set(before) if item.whole else set(item.said)
    found.gone = [pair for pair in before if pair in asked and pair not in kept]
    return found


def _entry(item: Change, difference: _Difference, at: int) -> audit.Entry:
    kind, _, name = item.recipient.partition(":")
    who = (
        {"user_id": name}
        if kind == "user"
        else {"address": masked(Channel.EMAIL if "@" in name else Channel.SMS, name)}
    )
    changed = {**difference.stored, **dict.fromkeys(difference.gone)}
    said = [
        {"category": category, "channel": channel, "enabled": enabled}
        for (category, channel), enabled in sorted(changed.items())
    ]
    detail = {**who, "source": item.source, "changed": said}
    return audit.Entry("preferences.changed", item.actor, at, tenant=item.tenant, detail=detail)
