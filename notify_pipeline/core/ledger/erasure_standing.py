"""What erasures under way look at beside names: sends that are not over, devices that were registered anew.

Belongs here: those reads, for the lake's part and for sends. Does not belong here: names (``erasure_scan``).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from notify_pipeline.core.erasure import PLACEHOLDER, Subject
from notify_pipeline.core.ledger import erasure_rows
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.erasure_tables import ERASURES
from notify_pipeline.core.ledger.erasures import Erasure
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.ledger.tables import DELIVERIES, REQUESTS
from notify_pipeline.core.vocabulary import FINAL_STATES

_PIECE = 500
_FINAL = frozenset(str(state) for state in FINAL_STATES)
_OPEN = Prepared(
    lambda _: select(ERASURES.c.subject, ERASURES.c.requested_at).where(
        ERASURES.c.tenant == bindparam("tenant"), ERASURES.c.verified_at.is_(None)
    ),
    ("tenant",),
)


@dataclass(frozen=True, slots=True)
class Gone:
    """Who is gone since a moment: addresses (e-mail in lower case) and users; microseconds since the epoch."""

    addresses: frozenset[str]
    user_id: str | None
    since: int


def live_again(ledger: Ledger, subject: Subject) -> frozenset[str]:
    """Return those of a person's tokens that were registered anew since."""
    with ledger.read() as conn:
        return erasure_rows.live_again(conn, subject)


def unfinished(ledger: Ledger, erasure: Erasure) -> int:
    """Return how many deliveries that are nobody's any more wait to be skipped."""
    waiting = DELIVERIES.c.state.in_(("waiting", "sending"))
    mine = (DELIVERIES.c.tenant == erasure.tenant, DELIVERIES.c.address.startswith(PLACEHOLDER), waiting)
    with ledger.read() as conn:
        return int(conn.execute(select(func.count()).select_from(DELIVERIES).where(*mine)).scalar_one())


def of_requests(ledger: Ledger, request_ids: Collection[str]) -> Mapping[str, tuple[str, bool]]:
    """Return whose these requests are, and whether they are over; those that are forgotten are left out."""
    wanted, found = sorted(request_ids), dict[str, tuple[str, bool]]()
    with ledger.read() as conn:
        for start in range(0, len(wanted), _PIECE):
            query = select(REQUESTS.c.request_id, REQUESTS.c.tenant, REQUESTS.c.state)
            for name, tenant, state in conn.execute(
                query.where(REQUESTS.c.request_id.in_(wanted[start : start + _PIECE]))
            ):
                found[name] = (tenant, state in _FINAL)
    return found


def gone(conn: Connection, tenant: str) -> list[Gone]:
    """Return who of a tenant's people is being erased."""
    found = []
    for stored, requested_at in _OPEN.run_values(conn, (tenant,)):
        subject = Subject.of(stored)
        found.append(Gone(subject.emails | subject.phones | subject.tokens, subject.user_id, requested_at))
    return found
