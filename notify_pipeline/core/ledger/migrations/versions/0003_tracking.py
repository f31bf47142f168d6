"""Lists of sends and of the audit, which from here on is only ever added to.

Revision: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Whoever is to thin the audit out some day drops these and makes them anew in the transaction that deletes; both
# stores allow that. Making the table anew, as batch_alter_table does, loses SQLite's.
_APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit"
        " BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END"
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'audit rows are never changed'; END $$",
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    ],
}


def upgrade() -> None:
    """Add the indexes and the triggers."""
    op.create_index("ix_audit_tenant_at", "audit", ["tenant", "at", "audit_id"], unique=False)
    op.create_index(
        "ix_requests_unreached",
        "requests",
        ["state", "tenant", "accepted_at", "request_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('failed', 'cancelled', 'expired', 'unrouted')"),
        postgresql_where=sa.text("state IN ('failed', 'cancelled', 'expired', 'unrouted')"),
    )
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
