"""What a clock said when a later time was counted from it, so that a clock that is set back delays nothing.

Revision: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column to whatever waits for a time."""
    for table in ("deliveries", "shards", "callback_messages"):
        op.add_column(table, sa.Column("counted_from", sa.BigInteger(), nullable=True))
