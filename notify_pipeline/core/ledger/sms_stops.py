"""STOP and START: what a phone's owner says holds for every text of this installation.

Belongs here: keeping who replied STOP, and forgetting it at START. Does not belong here: one tenant's own suppressions
(``suppressions``), the words (``sms_keywords``).

All tenants text from one number, so their recipients cannot say which of them they mean, and the provider blocks that
number for all of them. A STOP is therefore one row of nobody's (``suppressions.EVERYBODY``). A START lifts it, and with
it what single tenants were told of the same STOP by the provider; bounces and what was added by hand stay.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, literal, select, union_all

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit, erased_addresses, suppressions
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.people_tables import SUPPRESSIONS
from notify_pipeline.core.ledger.suppressions import EVERYBODY, NewSuppression
from notify_pipeline.core.ledger.tenant_tables import TENANTS
from notify_pipeline.core.vocabulary import Channel, SuppressionReason


def stop(ledger: Ledger, number: str, detail: str | None, actor: str, now: datetime) -> None:
    """Keep that a number, in E.164, gets no more texts from anybody here."""
    new = NewSuppression(EVERYBODY, Channel.SMS, number, SuppressionReason.STOP, detail, actor)
    suppressions.add(ledger, new, now)


def start(ledger: Ledger, number: str, actor: str, now: datetime) -> bool:
    """Forget that a number replied STOP, everywhere; False when it had not."""
    return ledger.write(_start, (number, actor, now))


def stopped_at(ledger: Ledger, number: str) -> datetime | None:
    """Return when a number replied STOP; None when it may be texted."""
    columns = SUPPRESSIONS.c
    query = select(columns.created_at).where(columns.tenant == EVERYBODY, columns.channel == Channel.SMS.value)
    with ledger.read() as conn:
        known = [number, *erased_addresses.digests(conn, [number])]
        found = conn.execute(query.where(columns.address.in_(known))).scalar()
    return None if found is None else from_micros(found)


def _start(conn: Connection, items: Sequence[tuple[str, str, datetime]]) -> list[bool]:
    results = []
    columns = SUPPRESSIONS.c
    # By tenant, because the primary key begins with it: without one, all rows would be read.
    whose = union_all(select(TENANTS.c.tenant), select(literal(EVERYBODY)))
    for number, actor, now in items:
        gone = conn.execute(
            delete(SUPPRESSIONS)
            .where(
                columns.tenant.in_(whose),
                columns.channel == Channel.SMS.value,
                columns.address.in_([number, *erased_addresses.digests(conn, [number])]),
                columns.reason == SuppressionReason.STOP.value,
            )
            .returning(columns.tenant)
        ).all()
        results.append(bool(gone))
        detail = {"channel": Channel.SMS.value, "address": suppressions.masked(Channel.SMS, number), "reason": "stop"}
        entries = [
            audit.Entry("suppression.removed", actor, to_micros(now), tenant=row.tenant or None, detail=detail)
            for row in sorted(gone)
        ]
        audit.write(conn, entries, now)
    return results
