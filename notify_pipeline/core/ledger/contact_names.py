"""What contacts are called: from the addresses that were sent to, to what their pages know them by, and back.

Belongs here: those two look-ups, within a tenant. Does not belong here: contacts themselves (``contacts``).

A browser whose contact moved from an FCM token to a subscription of its own was sent to at both: the token is what its
page still knows it by.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import CompoundSelect, select, union_all

from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import DEVICES

# In the words of the partial indexes.
_IS_CONTACT = DEVICES.c.domain.isnot(None)


class ContactName(NamedTuple):
    """What a contact's page knows it by, and its visitor, where one is known."""

    device_token: str
    visitor_guid: str | None


def by_address(ledger: Ledger, tenant: str, addresses: Iterable[str]) -> dict[str, ContactName]:
    """Return what a tenant's contacts are called that are or were reached at these addresses, by address."""
    wanted = set(addresses)
    found: dict[str, ContactName] = {}
    if not wanted:
        return found
    with ledger.read() as conn:
        for row in conn.execute(_known(tenant, wanted)):
            name = ContactName(row.device_token or row.token, row.visitor_guid)
            found |= {address: name for address in (row.device_token, row.token) if address in wanted}
    return found


def addresses_of(ledger: Ledger, tenant: str, device_token: str) -> list[str]:
    """Return where a tenant's contact is or was reached that has this name or address; empty when there is none."""
    with ledger.read() as conn:
        rows = conn.execute(_known(tenant, [device_token])).all()
    return sorted({address for row in rows for address in (row.device_token, row.token) if address is not None})


def _known(tenant: str, names: Iterable[str]) -> CompoundSelect[tuple[str, str | None, str | None]]:
    """Return the question for contacts by any of these names. Each half has an index of its own."""
    asked = sorted(names)
    mine = select(DEVICES.c.token, DEVICES.c.device_token, DEVICES.c.visitor_guid).where(
        DEVICES.c.tenant == tenant, _IS_CONTACT
    )
    return union_all(*(mine.where(column.in_(asked)) for column in (DEVICES.c.device_token, DEVICES.c.token)))
