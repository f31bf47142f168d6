"""Erasures, for which alone an audit row's detail may be rewritten.

Revision: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Rows of the audit still never go, and what happened, to what and when never changes. Who did it and the detail may
# name a person: an erasure writes a row into meta, rewrites these two, and takes its row away, all in one transaction,
# so that nobody else ever sees it open.
_ERASING = "EXISTS (SELECT 1 FROM meta WHERE name = 'audit_erasing')"
_FIXED = "audit_id, tenant, request_id, notification_id, event, from_state, to_state, at"
_APPEND_ONLY = {
    "sqlite": [
        "DROP TRIGGER audit_no_update",
        f"CREATE TRIGGER audit_no_update BEFORE UPDATE OF {_FIXED} ON audit"
        " BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END",
        f"CREATE TRIGGER audit_no_rewriting BEFORE UPDATE OF actor, detail ON audit WHEN NOT {_ERASING}"
        " BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION audit_is_rewritten_by_erasures() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF NOT {_ERASING} THEN RAISE EXCEPTION 'audit rows are never changed'; END IF; RETURN NULL; END $$",
        "DROP TRIGGER audit_append_only ON audit",
        "CREATE TRIGGER audit_append_only BEFORE DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
        f"CREATE TRIGGER audit_no_update BEFORE UPDATE OF {_FIXED} ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
        "CREATE TRIGGER audit_no_rewriting BEFORE UPDATE OF actor, detail ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_rewritten_by_erasures()",
    ],
}


def upgrade() -> None:
    """Create the table, and let erasures rewrite what the audit says of people."""
    op.create_table(
        "erasures",
        sa.Column("erasure_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_hash", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("waits_for", sa.Text(), nullable=True),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("ledger_done_at", sa.BigInteger(), nullable=True),
        sa.Column("lake_done_at", sa.BigInteger(), nullable=True),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("erasure_id", name=op.f("pk_erasures")),
    )
    op.create_index("ix_erasures_tenant", "erasures", ["tenant", "requested_at", "erasure_id"])
    there = sa.text("verified_at IS NULL")
    op.create_index(
        "uq_erasures_open",
        "erasures",
        ["tenant", "subject_hash"],
        unique=True,
        sqlite_where=there,
        postgresql_where=there,
    )
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
