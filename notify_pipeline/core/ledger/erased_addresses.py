"""Addresses whose owners were erased, and who had refused to be written to: kept as keyed digests, and known again.

Belongs here: their form, and finding out whether there are any. Does not belong here: suppressions and preferences,
which have rows of such addresses among theirs (``suppressions``, ``preferences``).

A person's objection holds on after their erasure (GDPR Art. 17(3)(b), 21(3)): otherwise the next list that a tenant
loads would bring the mail back. Without the installation's secret a digest leads to no address, and with it only
whoever has the address already can tell that it is there.
"""

import hashlib
import hmac
from collections.abc import Iterable

from sqlalchemy import Connection, select

from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tables import META

# How a digest begins, and the row that says that there are some: who asks for addresses asks for it too, and only if it
# is there for their digests. No address is spelled like this.
PREFIX = "hmac:"
MARK = PREFIX
# The installation's secret (``Ledger.secret`` makes such), made by the first erasure.
SECRET = "erased-addresses"  # noqa: S105 - its name


def digests(conn: Connection, names: Iterable[str]) -> dict[str, str]:
    """Return names by their digests; none where there is no secret yet, and so no digest of anything."""
    stored = conn.execute(select(META.c.value).where(META.c.name == SECRET)).scalar()
    if stored is None:
        return {}
    return {PREFIX + hmac.digest(bytes.fromhex(stored), name.encode(), hashlib.sha256).hex(): name for name in names}


def made(conn: Connection, secret: str, names: Iterable[str]) -> dict[str, str]:
    """Likewise, with a new secret of 64 hex digits if there is none."""
    conn.execute(insert_for(conn.dialect.name)(META).values(name=SECRET, value=secret).on_conflict_do_nothing())
    return digests(conn, names)
