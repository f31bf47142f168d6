"""Tenants' keys and policies, templates, callbacks, dead letters; queues that are fair between tenants.

Revision: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_CATEGORY = {
    "sqlite": "UPDATE requests SET category = json_extract(body, '$.category')",
    "postgresql": "UPDATE requests SET category = CAST(body AS json) ->> 'category'",
}


def upgrade() -> None:
    """Add what is new, and fill new columns from what is there."""
    _tenants()
    _keys()
    _policies()
    _templates()
    _users()
    _cap_uses()
    _usage()
    _key_rates()
    _callbacks()
    _callback_messages()
    _dead_letters()
    _replays()
    _requests()
    _deliveries()
    _shards()


def _tenants() -> None:
    op.add_column("tenants", sa.Column("updated_at", sa.BigInteger(), nullable=True))


def _keys() -> None:
    op.add_column("keys", sa.Column("label", sa.Text(), nullable=True))
    op.add_column("keys", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.add_column("keys", sa.Column("last_used_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_keys_tenant", "keys", ["tenant"], unique=False)


def _policies() -> None:
    op.create_table(
        "policies",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kind", "name", name=op.f("pk_policies")),
    )


def _templates() -> None:
    op.create_table(
        "templates",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", "version", name=op.f("pk_templates")),
    )


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=True),
        sa.Column("quiet_hours", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "user_id", name=op.f("pk_users")),
    )
    op.create_index(
        "ix_users_quiet",
        "users",
        ["tenant", "user_id"],
        unique=False,
        sqlite_where=sa.text("quiet_hours IS NOT NULL"),
        postgresql_where=sa.text("quiet_hours IS NOT NULL"),
    )


def _cap_uses() -> None:
    op.create_table(
        "cap_uses",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "category", "recipient", "request_id", name=op.f("pk_cap_uses")),
    )
    op.create_index("ix_cap_uses_at", "cap_uses", ["at"], unique=False)
    op.create_index("ix_cap_uses_recipient", "cap_uses", ["tenant", "category", "recipient", "at"], unique=False)


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("recipients", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", name=op.f("pk_usage")),
    )


def _key_rates() -> None:
    op.create_table(
        "key_rates",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("next_slot", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_rates")),
    )


def _callbacks() -> None:
    op.create_table(
        "callbacks",
        sa.Column("callback_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text(), nullable=True),
        sa.Column("old_secret_until", sa.BigInteger(), nullable=True),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_callbacks_tenant")),
        sa.PrimaryKeyConstraint("callback_id", name=op.f("pk_callbacks")),
    )
    op.create_index("ix_callbacks_tenant", "callbacks", ["tenant"], unique=False)


def _callback_messages() -> None:
    op.create_table(
        "callback_messages",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("callback_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_callback_messages")),
    )
    op.create_index(
        "ix_callback_messages_callback_id", "callback_messages", ["callback_id", "message_id"], unique=False
    )
    op.create_index(
        "ix_callback_messages_unsent",
        "callback_messages",
        ["callback_id", "due_at", "message_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('waiting', 'sending')"),
        postgresql_where=sa.text("state IN ('waiting', 'sending')"),
    )


def _dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("notification_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("provider_code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("died_at", sa.BigInteger(), nullable=False),
        sa.Column("replayed_at", sa.BigInteger(), nullable=True),
        sa.Column("replayed_as", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_dead_letters")),
    )
    op.create_index(
        "ix_dead_letters_request_id", "dead_letters", ["request_id", "died_at", "delivery_id"], unique=False
    )
    op.create_index(
        "ix_dead_letters_tenant_died_at", "dead_letters", ["tenant", "died_at", "delivery_id"], unique=False
    )
    op.create_index(
        "ix_dead_letters_waiting",
        "dead_letters",
        ["tenant", "died_at", "delivery_id"],
        unique=False,
        sqlite_where=sa.text("replayed_at IS NULL"),
        postgresql_where=sa.text("replayed_at IS NULL"),
    )


def _replays() -> None:
    op.create_table(
        "replays",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("replay_key", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "replay_key", name=op.f("pk_replays")),
    )


def _requests() -> None:
    op.add_column("requests", sa.Column("category", sa.Text(), nullable=True))
    op.execute(_CATEGORY[op.get_bind().dialect.name])
    op.add_column("requests", sa.Column("replay_of", sa.Text(), nullable=True))
    op.add_column("requests", sa.Column("revision", sa.Integer(), nullable=True))
    op.drop_index(
        op.f("ix_requests_open"),
        table_name="requests",
        sqlite_where=sa.text("state IN ('accepted', 'routed', 'sending')"),
    )
    op.create_index(
        "ix_requests_open",
        "requests",
        ["state", "priority_rank", "tenant", "due_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('accepted', 'routed', 'sending')"),
        postgresql_where=sa.text("state IN ('accepted', 'routed', 'sending')"),
    )


def _deliveries() -> None:
    op.drop_index(
        op.f("ix_deliveries_unfinished"),
        table_name="deliveries",
        sqlite_where=sa.text("state IN ('waiting', 'sending')"),
    )
    op.add_column("deliveries", sa.Column("tenant", sa.Text(), nullable=True))
    op.execute(
        "UPDATE deliveries SET tenant = (SELECT tenant FROM requests WHERE requests.request_id = deliveries.request_id)"
    )
    with op.batch_alter_table("deliveries") as batch:
        batch.alter_column("tenant", existing_type=sa.Text(), nullable=False)
    op.add_column("deliveries", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_deliveries_unfinished",
        "deliveries",
        ["channel", "state", "priority_rank", "tenant", "due_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('waiting', 'sending')"),
        postgresql_where=sa.text("state IN ('waiting', 'sending')"),
    )


def _shards() -> None:
    op.add_column("shards", sa.Column("due_at", sa.BigInteger(), nullable=True))
    op.add_column("shards", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.add_column("shards", sa.Column("skip", sa.Text(), nullable=True))
    op.create_index(
        "ix_shards_open",
        "shards",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )
