"""The whole schema: importing this knows every table.

Belongs here: that import. Does not belong here: the tables (``tables`` and the modules named below).
"""

from notify_pipeline.core.ledger import (
    contact_tables,
    erasure_tables,
    event_tables,
    outbox_tables,
    people_tables,
    tenant_tables,
)
from notify_pipeline.core.ledger.tables import METADATA

__all__ = [
    "METADATA",
    "contact_tables",
    "erasure_tables",
    "event_tables",
    "outbox_tables",
    "people_tables",
    "tenant_tables",
]
