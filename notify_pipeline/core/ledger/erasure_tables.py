"""The ledger's table of erasures.

Belongs here: its columns, key and indexes. Does not belong here: other tables (``tables``, which also says how times
and JSON are stored), queries.
"""

from sqlalchemy import BigInteger, Column, Index, Table, Text

from notify_pipeline.core.ledger.tables import METADATA

__all__ = ["ERASURES", "METADATA"]

ERASURES = Table(
    "erasures",
    METADATA,
    Column("erasure_id", Text, primary_key=True),  # grows with time
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),  # ErasureKind: by what the person was named
    Column("subject_hash", Text, nullable=False),  # keyed: tells repetitions, and nobody's name
    Column("subject", Text),  # JSON of ``erasure.Subject`` while there is something to find; null: all is gone
    Column("state", Text, nullable=False),  # ErasureState
    Column("waits_for", Text),  # what its next step waits for
    Column("counts", Text, nullable=False),  # JSON: {"ledger": {table: rows}, "lake": {table: rows}}
    Column("proof", Text),  # JSON of what the verification looked at
    Column("actor", Text, nullable=False),
    Column("requested_at", BigInteger, nullable=False),
    Column("ledger_done_at", BigInteger),
    Column("lake_done_at", BigInteger),
    Column("verified_at", BigInteger),
)
Index("ix_erasures_tenant", ERASURES.c.tenant, ERASURES.c.requested_at, ERASURES.c.erasure_id)
# One at a time of a person; and what sends look at is as small as what is under way.
_OPEN = ERASURES.c.verified_at.is_(None)
Index(
    "uq_erasures_open",
    ERASURES.c.tenant,
    ERASURES.c.subject_hash,
    unique=True,
    sqlite_where=_OPEN,
    postgresql_where=_OPEN,
)
