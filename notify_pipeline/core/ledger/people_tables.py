"""The ledger's tables of what reaches people beside their devices, what they want, and what lies in their inboxes.

Belongs here: columns, keys and indexes of preferences, suppressions, WebSocket connections and messages, and inboxes.
Does not belong here: users and tenants (``tenant_tables``), sends (``tables``, which also says how times and JSON are
stored), events (``event_tables``), queries.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text

from notify_pipeline.core.ledger.tables import METADATA

__all__ = ["CONNECTIONS", "INBOX", "METADATA", "PREFERENCES", "SUPPRESSIONS", "USER_MESSAGES"]

# SQLite only numbers rows by itself in a column declared INTEGER.
_SERIAL = BigInteger().with_variant(Integer(), "sqlite")

# What a user said about one category on one channel; empty: about all that nothing else was said of.
PREFERENCES = Table(
    "preferences",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("recipient", Text, primary_key=True),  # a user, or an address without one (``caps.recipient``)
    Column("category", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("source", Text, nullable=False),  # who said it: api, user, one_click, page
    Column("updated_at", BigInteger, nullable=False),
)

# Addresses that are not written to, whoever's they are.
SUPPRESSIONS = Table(
    "suppressions",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("address", Text, primary_key=True),  # as ``suppressions.key_of`` spells it
    Column("reason", Text, nullable=False),  # SuppressionReason
    Column("detail", Text),  # what the provider said
    Column("created_at", BigInteger, nullable=False),
)
Index("ix_suppressions_created_at", SUPPRESSIONS.c.tenant, SUPPRESSIONS.c.created_at, SUPPRESSIONS.c.address)

# WebSocket clients that are connected now, as far as anybody knows.
CONNECTIONS = Table(
    "connections",
    METADATA,
    # With the tenant, as API Gateway's ids are told us by tenants.
    Column("tenant", Text, primary_key=True),
    Column("connection_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),  # base URL of the management interface that reaches it
    Column("gateway", Text, nullable=False),  # which gateway process holds it; empty: not one of ours
    Column("connected_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)
Index("ix_connections_tenant_user_id", CONNECTIONS.c.tenant, CONNECTIONS.c.user_id)
Index("ix_connections_gateway", CONNECTIONS.c.gateway)

# What users are told over WebSockets, kept a while for those who were not connected: the sequence is their cursor.
USER_MESSAGES = Table(
    "user_messages",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("tenant", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("message_id", Text, nullable=False, unique=True),  # a delivery id, or the inbox change's own
    Column("kind", Text, nullable=False),  # notification: the channel sends it | inbox: gateways do, as they see it
    Column("payload", Text, nullable=False),  # JSON
    Column("previous", BigInteger, nullable=False),  # the user's number before this one; 0: none was left
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,  # a number is never used again: it is a cursor
)
Index("ix_user_messages_user", USER_MESSAGES.c.tenant, USER_MESSAGES.c.user_id, USER_MESSAGES.c.seq)
Index("ix_user_messages_expires_at", USER_MESSAGES.c.expires_at)

INBOX = Table(
    "inbox",
    METADATA,
    Column("item_id", Text, primary_key=True),  # grows with ``visible_at``
    Column("tenant", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("notification_id", Text, nullable=False),
    Column("request_id", Text),  # null: it came with an event, before any send
    Column("type", Text, nullable=False),
    Column("category", Text),
    Column("content", Text, nullable=False),  # JSON: title, body, link, image_url, data
    Column("visible_at", BigInteger, nullable=False),  # not shown before
    Column("expires_at", BigInteger),  # not shown from then on
    Column("created_at", BigInteger, nullable=False),
    Column("announced_at", BigInteger),  # when connected clients were told of it: shown from then on, too
    Column("read_at", BigInteger),
    Column("deleted_at", BigInteger),
)
# A user has one item of a notification, however often it is planned.
Index("uq_inbox_notification", INBOX.c.tenant, INBOX.c.notification_id, INBOX.c.user_id, unique=True)
Index("ix_inbox_user", INBOX.c.tenant, INBOX.c.user_id, INBOX.c.item_id)
# With all that is asked of an unread item, so that they are counted in the index alone.
_ASKED = (INBOX.c.announced_at, INBOX.c.visible_at, INBOX.c.expires_at, INBOX.c.deleted_at, INBOX.c.read_at)
_UNREAD = INBOX.c.deleted_at.is_(None) & INBOX.c.read_at.is_(None)
Index(
    "ix_inbox_unread",
    INBOX.c.tenant,
    INBOX.c.user_id,
    INBOX.c.item_id,
    *_ASKED,
    sqlite_where=_UNREAD,
    postgresql_where=_UNREAD,
)
_UNANNOUNCED = INBOX.c.announced_at.is_(None)
Index("ix_inbox_unannounced", INBOX.c.visible_at, sqlite_where=_UNANNOUNCED, postgresql_where=_UNANNOUNCED)
Index("ix_inbox_visible_at", INBOX.c.visible_at)
