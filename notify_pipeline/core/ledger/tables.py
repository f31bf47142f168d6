"""The ledger's tables, as SQLAlchemy Core knows them; Alembic's migrations create exactly these.

Belongs here: columns, keys and indexes of what sends need. Does not belong here: what goes to the lake
(``outbox_tables``), what tenants are and configure (``tenant_tables``), queries (one module per group of tables beside
this one).

Times are BIGINT microseconds since the epoch, UTC: the same on SQLite and PostgreSQL, and comparable without parsing.
JSON columns are TEXT written and read with orjson, so that stored bytes are the same everywhere.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

# Small values that belong to the installation, such as the delivery secret.
META = Table("meta", METADATA, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

DEVICES = Table(
    "devices",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("token", Text, primary_key=True),
    Column("platform", Text, nullable=False),
    Column("user_id", Text),
    Column("topics", Text, nullable=False),  # JSON list, sorted
    Column("app_version", Text),
    Column("locale", Text),
    Column("timezone", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("registered_at", BigInteger, nullable=False),  # the last time the app registered it
    Column("revision", BigInteger, nullable=False),
    Column("op", Text, nullable=False),  # RegistrationOp of the latest revision; anything but upsert is a tombstone
    Column("drop_reason", Text),
    # Of contacts only, which are browsers that registered for a domain (``contact_tables``).
    Column("domain", Text),
    Column("device_token", Text),  # what its page knows it by, where that is another than the token
    Column("email", Text),
    Column("visitor_guid", Text),
    Column("changed_at", BigInteger),  # when it was said or done anything to, but for being seen again
    Column("dropped_by", Text),  # the notification whose attempt found the token dead
)
Index(
    "ix_devices_tenant_user_id",
    DEVICES.c.tenant,
    DEVICES.c.user_id,
    sqlite_where=DEVICES.c.user_id.isnot(None),
    postgresql_where=DEVICES.c.user_id.isnot(None),
)
_CONTACT = DEVICES.c.domain.isnot(None)
for _name, _columns in {
    "domain": (DEVICES.c.tenant, DEVICES.c.domain, DEVICES.c.changed_at, DEVICES.c.token),
    "domain_op": (DEVICES.c.tenant, DEVICES.c.domain, DEVICES.c.op, DEVICES.c.changed_at, DEVICES.c.token),
    "domain_email": (DEVICES.c.tenant, DEVICES.c.domain, DEVICES.c.email, DEVICES.c.changed_at, DEVICES.c.token),
    "domain_visitor": (DEVICES.c.tenant, DEVICES.c.domain, DEVICES.c.visitor_guid),
    "contact_token": (DEVICES.c.token,),
    "contact_device_token": (DEVICES.c.device_token,),
}.items():
    Index(f"ix_devices_{_name}", *_columns, sqlite_where=_CONTACT, postgresql_where=_CONTACT)

REQUESTS = Table(
    "requests",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("notification_id", Text, nullable=False),
    Column("body_sha256", Text, nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON
    Column("type", Text, nullable=False),
    Column("priority_rank", Integer, nullable=False),
    Column("state", Text, nullable=False),  # RequestState
    Column("mode", Text),  # DeliveryMode, once routed
    Column("reason", Text),  # why it failed, expired or was unrouted
    Column("category", Text),
    Column("replay_of", Text),  # the request whose dead letters this one sends again
    Column("revision", Integer),  # how often it was edited; null: never
    Column("domain", Text),  # whose contacts it is for; null: it is for others
    Column("accepted_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),  # send_at, or accepted_at
    Column("expires_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("counts", Text, nullable=False),  # JSON: {channel: {outcome or "audience" or "pending": n}}
    Column("lease_owner", Text),  # who routes it, or runs its broadcast
    Column("lease_until", BigInteger),
    UniqueConstraint("tenant", "notification_id"),
)
# The claim: open requests in order. Final ones drop out of the index, so it stays as small as the backlog.
_OPEN = REQUESTS.c.state.in_(("accepted", "routed", "sending"))
Index(
    "ix_requests_open",
    REQUESTS.c.state,
    REQUESTS.c.priority_rank,
    REQUESTS.c.tenant,
    REQUESTS.c.due_at,
    sqlite_where=_OPEN,
    postgresql_where=_OPEN,
)
Index("ix_requests_tenant_accepted_at", REQUESTS.c.tenant, REQUESTS.c.accepted_at)
_OF_DOMAIN = REQUESTS.c.domain.isnot(None)
Index(
    "ix_requests_domain",
    REQUESTS.c.tenant,
    REQUESTS.c.domain,
    REQUESTS.c.accepted_at,
    REQUESTS.c.request_id,
    sqlite_where=_OF_DOMAIN,
    postgresql_where=_OF_DOMAIN,
)
# What an operator looks for, and hardly ever happens: an ordinary request is never in here.
_UNREACHED = REQUESTS.c.state.in_(("failed", "cancelled", "expired", "unrouted"))
_BY_STATE = (REQUESTS.c.state, REQUESTS.c.tenant, REQUESTS.c.accepted_at, REQUESTS.c.request_id)
Index("ix_requests_unreached", *_BY_STATE, sqlite_where=_UNREACHED, postgresql_where=_UNREACHED)

# The drain's queue: one row per recipient of a small send, gone once its request is final.
DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("delivery_id", Text, primary_key=True),
    Column("request_id", Text, ForeignKey("requests.request_id"), nullable=False),
    Column("tenant", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("recipient", Text, nullable=False),  # JSON of the rest of Recipient
    Column("priority_rank", Integer, nullable=False),
    Column("state", Text, nullable=False),  # waiting | sending (the durable intent) | an Outcome when final
    Column("attempt_no", Integer, nullable=False),  # attempts begun
    Column("due_at", BigInteger, nullable=False),
    Column("counted_from", BigInteger),  # the clock when due_at was decided; null: due_at is a time of its own
    Column("expires_at", BigInteger),  # null: with its request
    Column("intended_at", BigInteger),  # when the current attempt's intent became durable
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
)
_UNFINISHED = DELIVERIES.c.state.in_(("waiting", "sending"))
Index(
    "ix_deliveries_unfinished",
    DELIVERIES.c.channel,
    DELIVERIES.c.state,
    DELIVERIES.c.priority_rank,
    DELIVERIES.c.tenant,
    DELIVERIES.c.due_at,
    sqlite_where=_UNFINISHED,
    postgresql_where=_UNFINISHED,
)
Index("ix_deliveries_request_id", DELIVERIES.c.request_id)

# Deliveries that ended without reaching anybody although that was no fault of the recipient's.
DEAD_LETTERS = Table(
    "dead_letters",
    METADATA,
    Column("delivery_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("notification_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("category", Text),
    Column("channel", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("user_id", Text),
    Column("outcome", Text, nullable=False),  # of the last attempt
    Column("provider_code", Text),
    Column("reason", Text, nullable=False),  # why there was no further attempt
    Column("attempts", Integer, nullable=False),
    Column("died_at", BigInteger, nullable=False),
    Column("replayed_at", BigInteger),
    Column("replayed_as", Text),  # the request that sends it again
    Column("fields", Text),  # JSON of what filled its recipient's own fields
)
Index("ix_dead_letters_tenant_died_at", DEAD_LETTERS.c.tenant, DEAD_LETTERS.c.died_at, DEAD_LETTERS.c.delivery_id)
Index("ix_dead_letters_request_id", DEAD_LETTERS.c.request_id, DEAD_LETTERS.c.died_at, DEAD_LETTERS.c.delivery_id)
# What may still be sent again, oldest first, as replays take them.
_WAITING = DEAD_LETTERS.c.replayed_at.is_(None)
Index(
    "ix_dead_letters_waiting",
    DEAD_LETTERS.c.tenant,
    DEAD_LETTERS.c.died_at,
    DEAD_LETTERS.c.delivery_id,
    sqlite_where=_WAITING,
    postgresql_where=_WAITING,
)

# A broadcast's recipients, cut into shards in the lake.
SHARDS = Table(
    "shards",
    METADATA,
    Column("request_id", Text, ForeignKey("requests.request_id"), primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("path", Text, nullable=False),  # below the lake root
    Column("recipients", Integer, nullable=False),
    Column("due_at", BigInteger),  # null: at once
    Column("counted_from", BigInteger),  # as a delivery's
    Column("expires_at", BigInteger),  # null: with its request
    Column("skip", Text),  # why its recipients are not sent to; null: they are
    Column("done_at", BigInteger),
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
)

# Those that are being sent, or will be: broadcasts of lower priority look at them again and again.
_NOT_DONE = SHARDS.c.done_at.is_(None)
Index("ix_shards_open", SHARDS.c.lease_until, sqlite_where=_NOT_DONE, postgresql_where=_NOT_DONE)

# A durable intent to send to some recipients of a shard, and later where their outcomes are.
CHUNKS = Table(
    "chunks",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("chunk", Integer, primary_key=True),  # counts up within the shard, retries included
    Column("ordinals", LargeBinary, nullable=False),  # which rows of the shard: a range, or uint32 little-endian, zlib
    Column("attempts", LargeBinary, nullable=False),  # the attempt number of each: one, or uint16 little-endian, zlib
    Column("intended_at", BigInteger, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("state", Text, nullable=False),  # intended | recorded | ambiguous
    Column("path", Text),  # the attempts file, named before it is written
    Column("counts", Text),  # JSON {outcome: n} of the recipients that this chunk finished
    Column("retries", LargeBinary),  # the others: ordinals (uint32), then when each is due (int64 micros), zlib
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("audit_id", Text, primary_key=True),
    Column("tenant", Text),
    Column("request_id", Text),
    Column("notification_id", Text),
    Column("event", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text),
    Column("actor", Text, nullable=False),
    Column("detail", Text),  # JSON
    Column("at", BigInteger, nullable=False),
)
Index("ix_audit_request_id", AUDIT.c.request_id, AUDIT.c.audit_id)
Index("ix_audit_tenant_at", AUDIT.c.tenant, AUDIT.c.at, AUDIT.c.audit_id)

# One row per role that at most one process may hold (the drain, the lander, the report writer).
LEASES = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),  # grows with each change of owner
)

# One token bucket per provider credential, shared by all that send with it.
RATES = Table(
    "rates",
    METADATA,
    Column("name", Text, primary_key=True),  # provider and credential
    Column("tokens", Double, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("ramp_from", BigInteger, nullable=False),
    Column("held_until", BigInteger, nullable=False),  # 0: never was
    Column("pace", Double, nullable=False),  # per second
)
