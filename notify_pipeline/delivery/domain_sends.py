"""Sends to a domain's contacts: whether their domain still wants them.

Belongs here: that look, which planning and the snapshot of a broadcast share. Does not belong here: the domains
themselves (``core.ledger.domains``), finding contacts (``audience``, ``known``).
"""

from collections.abc import Iterable

from notify_pipeline.core.ledger import domains
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Notification

# Why such a send is cancelled, in its reason and its audit.
DOMAIN_DISABLED = "domain_disabled"


def disabled(ledger: Ledger, sends: Iterable[Notification]) -> set[str]:
    """Return which of these sends are for a domain that is disabled, or no longer their tenant's, by request.

    One read where any of them is for a domain, else none.
    """
    mine = [send for send in sends if send.audience.domain is not None]
    if not mine:
        return set()
    owners = domains.enabled(ledger, {str(send.audience.domain) for send in mine})
    return {send.request_id for send in mine if owners.get(str(send.audience.domain)) != send.tenant}
