"""The ledger's tables of events and what they come from.

Belongs here: columns, keys and indexes of events, the routes that turn them into sends, looks and likes. Does not
belong here: sends (``tables``, which also says how times and JSON are stored), queries.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint

from notify_pipeline.core.ledger.tables import METADATA

__all__ = ["EVENTS", "LIKES", "LOOKS", "METADATA", "ROUTES"]

EVENTS = Table(
    "events",
    METADATA,
    Column("event_id", Text, primary_key=True),  # ours; grows with time
    Column("tenant", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("id", Text, nullable=False),  # the tenant's own, or ours where it gave none
    Column("body_sha256", Text, nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON of what was sent
    Column("state", Text, nullable=False),  # EventState
    Column("enrichment", Text),  # JSON that enrichment found, by route; null: none was needed, or not yet
    Column("routes", Text),  # JSON list of the routes that matched when it was routed
    Column("notification_ids", Text),  # JSON list of the sends that were made of it
    Column("reason", Text),  # why it is unrouted or dead, or waits
    Column("attempt_no", Integer, nullable=False),  # enrichments begun
    Column("replays", Integer, nullable=False),  # how often it was given to the router again
    Column("replayed_at", BigInteger),  # the last time
    Column("actor", Text, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),  # 0: at once, whatever a clock says
    Column("updated_at", BigInteger, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
    UniqueConstraint("tenant", "source", "id"),
)
# The router's queue; what is over drops out of it.
_WAITING = EVENTS.c.state.in_(("accepted", "enriched"))
Index(
    "ix_events_waiting",
    EVENTS.c.tenant,
    EVENTS.c.due_at,
    EVENTS.c.event_id,
    sqlite_where=_WAITING,
    postgresql_where=_WAITING,
)
Index("ix_events_tenant_event_id", EVENTS.c.tenant, EVENTS.c.event_id)
# What somebody has to look at.
_STRANDED = EVENTS.c.state.in_(("unrouted", "dead"))
Index(
    "ix_events_stranded",
    EVENTS.c.tenant,
    EVENTS.c.state,
    EVENTS.c.event_id,
    sqlite_where=_STRANDED,
    postgresql_where=_STRANDED,
)

ROUTES = Table(
    "routes",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("rule", Text, nullable=False),  # JSON
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

LOOKS = Table(
    "looks",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("look_id", Text, primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("image_url", Text),
    Column("deep_link", Text),
    Column("updated_at", BigInteger, nullable=False),
)

LIKES = Table(
    "likes",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("look_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("notification_id", Text),  # null: the owner's own like, of which nobody is told
    Column("created_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger),  # null: it is liked
)
