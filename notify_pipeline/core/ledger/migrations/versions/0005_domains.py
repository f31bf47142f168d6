"""Domains, their contacts (devices that registered for one), and the sends to them.

Revision: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, columns and indexes."""
    op.create_table(
        "domains",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("is_push_feature_enabled", sa.Boolean(), nullable=False),
        sa.Column("icon_url", sa.Text(), nullable=True),
        sa.Column("allowed_origins", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_domains")),
    )
    op.create_index("ix_domains_tenant", "domains", ["tenant", "name"])
    op.create_table(
        "domain_origins",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "name", name=op.f("pk_domain_origins")),
    )
    op.create_index("ix_domain_origins_name", "domain_origins", ["name"])
    _extend_devices()
    op.add_column("requests", sa.Column("domain", sa.Text(), nullable=True))
    op.add_column("dead_letters", sa.Column("fields", sa.Text(), nullable=True))
    _index("requests", "domain", "tenant", "domain", "accepted_at", "request_id")


def _extend_devices() -> None:
    for name in ("domain", "device_token", "email", "visitor_guid", "dropped_by"):
        op.add_column("devices", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("devices", sa.Column("changed_at", sa.BigInteger(), nullable=True))
    _index("devices", "domain", "tenant", "domain", "changed_at", "token")
    _index("devices", "domain_op", "tenant", "domain", "op", "changed_at", "token")
    _index("devices", "domain_email", "tenant", "domain", "email", "changed_at", "token")
    _index("devices", "domain_visitor", "tenant", "domain", "visitor_guid")
    _index("devices", "contact_token", "token")
    _index("devices", "contact_device_token", "device_token")


def _index(table: str, name: str, *columns: str) -> None:
    there = sa.text("domain IS NOT NULL")
    op.create_index(f"ix_{table}_{name}", table, list(columns), sqlite_where=there, postgresql_where=there)
