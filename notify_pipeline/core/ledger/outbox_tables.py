"""The ledger's tables of what goes to the lake: rows on their way, and the files that hold the others.

Belongs here: columns, keys and indexes of the outbox and of segments. Does not belong here: what sends need
(``tables``, which also says how times and JSON are stored), queries.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text

from notify_pipeline.core.ledger.tables import METADATA

__all__ = ["METADATA", "OUTBOX", "OUTBOX_REJECTED", "SEGMENTS"]

# SQLite only numbers rows by itself in a column declared INTEGER.
_SERIAL = BigInteger().with_variant(Integer(), "sqlite")

# What the lake must come to know. Rows leave when their segment has landed.
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("lake_table", Text, nullable=False),
    # JSON list of rows of that table: many rows of one write share one outbox row.
    Column("rows", Text, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),  # the partition time of its first row: all share that hour
    Column("segment_id", Text),
    sqlite_autoincrement=True,  # a number is never used again, even when every row has left
)
Index("ix_outbox_segment_id", OUTBOX.c.segment_id, OUTBOX.c.lake_table, OUTBOX.c.seq)

# Outbox rows that are not rows of their table: kept whole for a human, so that the rest of their segment can land.
OUTBOX_REJECTED = Table(
    "outbox_rejected",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("lake_table", Text, nullable=False),
    Column("rows", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("segment_id", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("rejected_at", BigInteger, nullable=False),
)

# The lander's and the compactor's plan: a file is named here before it is written.
SEGMENTS = Table(
    "segments",
    METADATA,
    Column("segment_id", Text, primary_key=True),
    Column("lake_table", Text, nullable=False),
    Column("kind", Text, nullable=False),  # landing | compaction | adopted (written without a plan)
    Column("path", Text, nullable=False, unique=True),  # below the lake root
    Column("partition_at", BigInteger, nullable=False),  # when the hour of its partition begins
    Column("state", Text, nullable=False),  # planned | landed | replaced (by a compaction; its file goes)
    Column("replaced_by", Text),  # the segment that a compaction put these rows into
    Column("deleted_at", BigInteger),  # when the file of a replaced one was deleted
    Column("row_count", BigInteger),
    Column("planned_at", BigInteger, nullable=False),
    Column("landed_at", BigInteger),
)
Index("ix_segments_state", SEGMENTS.c.state, SEGMENTS.c.lake_table, SEGMENTS.c.partition_at)
Index(
    "ix_segments_replaced_by",
    SEGMENTS.c.replaced_by,
    sqlite_where=SEGMENTS.c.replaced_by.isnot(None),
    postgresql_where=SEGMENTS.c.replaced_by.isnot(None),
)
