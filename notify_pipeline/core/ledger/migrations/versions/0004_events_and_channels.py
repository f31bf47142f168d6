"""What reaches people beside their devices, what they want, their inboxes; events and what makes sends of them.

Revision: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    _create_events()
    _create_routes_and_likes()
    _create_inbox()
    _create_connections()
    _create_preferences()
    op.add_column("users", sa.Column("email", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("phone", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("locale", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("attributes", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("mailbox", sa.Text(), nullable=True))
    _index_users()


def _index_users() -> None:
    for column in ("mailbox", "phone"):
        there = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_users_{column}", "users", ["tenant", column], sqlite_where=there, postgresql_where=there)


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("enrichment", sa.Text(), nullable=True),
        sa.Column("routes", sa.Text(), nullable=True),
        sa.Column("notification_ids", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("replays", sa.Integer(), nullable=False),
        sa.Column("replayed_at", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_events")),
        sa.UniqueConstraint("tenant", "source", "id", name=op.f("uq_events_tenant_source_id")),
    )
    _index_events()


def _index_events() -> None:
    op.create_index(
        "ix_events_stranded",
        "events",
        ["tenant", "state", "event_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('unrouted', 'dead')"),
        postgresql_where=sa.text("state IN ('unrouted', 'dead')"),
    )
    op.create_index("ix_events_tenant_event_id", "events", ["tenant", "event_id"], unique=False)
    op.create_index(
        "ix_events_waiting",
        "events",
        ["tenant", "due_at", "event_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('accepted', 'enriched')"),
        postgresql_where=sa.text("state IN ('accepted', 'enriched')"),
    )


def _create_routes_and_likes() -> None:
    op.create_table(
        "routes",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_routes")),
    )
    op.create_table(
        "looks",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("look_id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("image_url", sa.Text(), nullable=True),
        sa.Column("deep_link", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "look_id", name=op.f("pk_looks")),
    )
    op.create_table(
        "likes",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("look_id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("notification_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "look_id", "customer_id", name=op.f("pk_likes")),
    )


def _create_inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("notification_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("visible_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("announced_at", sa.BigInteger(), nullable=True),
        sa.Column("read_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_inbox")),
    )
    op.create_index("ix_inbox_user", "inbox", ["tenant", "user_id", "item_id"], unique=False)
    op.create_index(
        "ix_inbox_unread",
        "inbox",
        ["tenant", "user_id", "item_id", "announced_at", "visible_at", "expires_at", "deleted_at", "read_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL AND read_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL AND read_at IS NULL"),
    )
    op.create_index(
        "ix_inbox_unannounced",
        "inbox",
        ["visible_at"],
        unique=False,
        sqlite_where=sa.text("announced_at IS NULL"),
        postgresql_where=sa.text("announced_at IS NULL"),
    )
    op.create_index("ix_inbox_visible_at", "inbox", ["visible_at"], unique=False)
    op.create_index("uq_inbox_notification", "inbox", ["tenant", "notification_id", "user_id"], unique=True)


def _create_connections() -> None:
    op.create_table(
        "connections",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("connected_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "connection_id", name=op.f("pk_connections")),
    )
    op.create_index("ix_connections_gateway", "connections", ["gateway"], unique=False)
    op.create_index("ix_connections_tenant_user_id", "connections", ["tenant", "user_id"], unique=False)
    op.create_table(
        "user_messages",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("previous", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_user_messages")),
        sa.UniqueConstraint("message_id", name=op.f("uq_user_messages_message_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_user_messages_expires_at", "user_messages", ["expires_at"], unique=False)
    op.create_index("ix_user_messages_user", "user_messages", ["tenant", "user_id", "seq"], unique=False)


def _create_preferences() -> None:
    op.create_table(
        "preferences",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "recipient", "category", "channel", name=op.f("pk_preferences")),
    )
    op.create_table(
        "suppressions",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "channel", "address", name=op.f("pk_suppressions")),
    )
    op.create_index("ix_suppressions_created_at", "suppressions", ["tenant", "created_at", "address"], unique=False)
