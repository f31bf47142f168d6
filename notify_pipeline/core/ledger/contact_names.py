"""What contacts are called: from the addresses that were sent to, to what their pages know them by, and back.

Belongs here: those two look-ups, within a tenant. Does not belong here: contacts themselves (``contacts``).

A browser whose contact moved from an FCM token to a subscription of its own was sent to at both: the token is what its
page still knows it by.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import Row, select

from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import DEVICES


class ContactName(NamedTuple):
    """What a contact's page knows it by, and its visitor, where one is known."""

    device_token: str
    visitor_guid: str | None


def by_address(ledger: Ledger, tenant: str, addresses: Collection[str]) -> dict[str, ContactName]:
    """Return what a tenant's contacts are called that are or were reached at these addresses, by address."""
    wanted = set(addresses)
    found: dict[str, ContactName] = {}
    for row in _known(ledger, tenant, wanted):
        name = ContactName(row.device_token or row.token, row.visitor_guid)
        found |= {address: name for address in (row.device_token, row.token) if address in wanted}
    return found


def addresses_of(ledger: Ledger, tenant: str, device_token: str) -> list[str]:
    """Return where a tenant's contact is or was reached that has this name or address; empty when there is none."""
    rows = _known(ledger, tenant, [device_token])
    return sorted({address for row in rows for address in (row.device_token, row.token) if address is not None})


def _known(ledger: Ledger, tenant: str, names: Collection[str]) -> list[Row[Any]]:
    """Return a tenant's contacts by any of these names; those that are known by their very address come last."""
    if not names:
        return []
    column, asked = DEVICES.c, sorted(names)
    columns = select(column.tenant, column.domain, column.token, column.device_token, column.visitor_guid)
    # Each half by an index of its own, and nothing beside it that another one begins with: SQLite would walk through
    # all of a tenant's contacts rather than look some up.
    beside = columns.where(column.device_token.in_(asked), column.domain.isnot(None))
    itself = columns.where(column.tenant == tenant, column.token.in_(asked))
    with ledger.read() as conn:
        rows = [*conn.execute(beside), *conn.execute(itself)]
    return [row for row in rows if row.tenant == tenant and row.domain is not None]
