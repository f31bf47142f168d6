"""The ledger's tables of who tenants are, what they configure, and what they are told.

Belongs here: columns, keys and indexes of tenants, keys, policies, templates, users and callbacks. Does not belong
here: what sends need (``tables``, which also says how times and JSON are stored), queries.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, Text

from notify_pipeline.core.ledger.tables import METADATA

__all__ = [
    "CALLBACKS",
    "CALLBACK_MESSAGES",
    "CAP_USES",
    "KEYS",
    "KEY_RATES",
    "METADATA",
    "POLICIES",
    "REPLAYS",
    "TEMPLATES",
    "TENANTS",
    "USAGE",
    "USERS",
]

# A product, or an organization of one (then parent is the product).
TENANTS = Table(
    "tenants",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("parent", Text, ForeignKey("tenants.tenant")),
    Column("name", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
)
# Names are unique per parent; products have none, and NULLs are distinct to SQL.
Index(
    "uq_tenants_product_name",
    TENANTS.c.name,
    unique=True,
    sqlite_where=TENANTS.c.parent.is_(None),
    postgresql_where=TENANTS.c.parent.is_(None),
)
Index("uq_tenants_parent_name", TENANTS.c.parent, TENANTS.c.name, unique=True)

KEYS = Table(
    "keys",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("tenant", Text, ForeignKey("tenants.tenant")),  # null for admin keys
    Column("scope", Text, nullable=False),  # KeyScope
    Column("label", Text),
    Column("sha256", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # when a rotated key's overlap ends
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
)
Index("ix_keys_tenant", KEYS.c.tenant)

# What a tenant wants done differently, one JSON value each: retries, quiet hours, frequency caps, limits.
POLICIES = Table(
    "policies",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # PolicyKind
    Column("name", Text, primary_key=True),  # a channel, a category, or empty where a tenant has one
    Column("value", Text, nullable=False),  # JSON
    Column("updated_at", BigInteger, nullable=False),
)

# Every version that a template ever had; the newest is the one in use unless it is a tombstone.
TEMPLATES = Table(
    "templates",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("body", Text),  # JSON; null: deleted
    Column("created_at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
)

USERS = Table(
    "users",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("timezone", Text),
    Column("quiet_hours", Text),  # JSON; null: the tenant's
    Column("updated_at", BigInteger, nullable=False),
    Column("email", Text),
    Column("phone", Text),  # E.164
    Column("locale", Text),
    Column("attributes", Text),  # JSON object
    Column("mailbox", Text),  # the e-mail address as ``mail_addresses.folded`` spells it
)
# Tells at once whether a tenant has users with quiet hours of their own.
Index(
    "ix_users_quiet",
    USERS.c.tenant,
    USERS.c.user_id,
    sqlite_where=USERS.c.quiet_hours.isnot(None),
    postgresql_where=USERS.c.quiet_hours.isnot(None),
)

# Whose a mailbox or a number is.
Index(
    "ix_users_mailbox",
    USERS.c.tenant,
    USERS.c.mailbox,
    sqlite_where=USERS.c.mailbox.isnot(None),
    postgresql_where=USERS.c.mailbox.isnot(None),
)
Index(
    "ix_users_phone",
    USERS.c.tenant,
    USERS.c.phone,
    sqlite_where=USERS.c.phone.isnot(None),
    postgresql_where=USERS.c.phone.isnot(None),
)

# One row per recipient and capped send: what frequency caps count.
CAP_USES = Table(
    "cap_uses",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("category", Text, primary_key=True),
    Column("recipient", Text, primary_key=True),  # a user, or a device without one
    Column("request_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),  # when the send was to go out
)
Index("ix_cap_uses_at", CAP_USES.c.at)  # old ones go
Index("ix_cap_uses_recipient", CAP_USES.c.tenant, CAP_USES.c.category, CAP_USES.c.recipient, CAP_USES.c.at)

# What a tenant, its organizations included, has used on a day (UTC): of tenants with a daily quota, while they have it.
USAGE = Table(
    "usage",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("day", Integer, primary_key=True),  # days since the epoch
    Column("requests", BigInteger, nullable=False),
    Column("recipients", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),  # of the quota for which ``requests`` was counted; 0: not yet
)

# How far each key's slots are handed out: how fast one may call.
KEY_RATES = Table(
    "key_rates",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("next_slot", BigInteger, nullable=False),  # nanoseconds since the epoch: slots may lie closer than micros
)

# Sessions of the dashboard that were signed out of before their time was over.
ENDED_SESSIONS = Table(
    "ended_sessions",
    METADATA,
    Column("session", Text, primary_key=True),  # a digest
    Column("ends_at", BigInteger, nullable=False),  # when the row may go
)

# Where a tenant wants to be told.
CALLBACKS = Table(
    "callbacks",
    METADATA,
    Column("callback_id", Text, primary_key=True),
    Column("tenant", Text, ForeignKey("tenants.tenant"), nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),  # signs, so it must be readable
    Column("old_secret", Text),  # signs too until then, after a rotation
    Column("old_secret_until", BigInteger),
    Column("events", Text, nullable=False),  # JSON list
    Column("active", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index("ix_callbacks_tenant", CALLBACKS.c.tenant)

# What is to be told, queued in the transaction that made it true.
CALLBACK_MESSAGES = Table(
    "callback_messages",
    METADATA,
    Column("message_id", Text, primary_key=True),
    Column("callback_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("request_id", Text),  # null: a test
    Column("event", Text, nullable=False),
    Column("payload", Text, nullable=False),  # the exact bytes that are signed
    Column("state", Text, nullable=False),  # waiting | sending | delivered | failed
    Column("attempt_no", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),  # 0: at once, whatever a clock says
    Column("counted_from", BigInteger),  # the clock when due_at was decided
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
    Column("status", Integer),  # of the last answer
    Column("error", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
)
# By callback first: what one that is slow or dead has not been told yet must not be read past for the others.
_UNSENT = CALLBACK_MESSAGES.c.state.in_(("waiting", "sending"))
Index(
    "ix_callback_messages_unsent",
    CALLBACK_MESSAGES.c.callback_id,
    CALLBACK_MESSAGES.c.due_at,
    CALLBACK_MESSAGES.c.message_id,
    sqlite_where=_UNSENT,
    postgresql_where=_UNSENT,
)
# Ids grow with time, so this is also the order of a callback's history.
Index("ix_callback_messages_callback_id", CALLBACK_MESSAGES.c.callback_id, CALLBACK_MESSAGES.c.message_id)

# Answers to replays that were asked for under a key, so that asking again gives the same.
REPLAYS = Table(
    "replays",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("replay_key", Text, primary_key=True),  # the Idempotency-Key
    Column("body_sha256", Text, nullable=False),
    Column("answer", Text, nullable=False),  # JSON
    Column("created_at", BigInteger, nullable=False),
)
