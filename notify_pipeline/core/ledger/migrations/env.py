"""Alembic's entry: runs the migrations on the connection that ``migrate`` hands over.

Belongs here: nothing but that. Does not belong here: URLs and settings (the ledger's own).
"""

from alembic import context

from notify_pipeline.core.ledger.schema import METADATA

connection = context.config.attributes["connection"]
# Batch mode: SQLite alters a table by copying it.
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=connection.dialect.name == "sqlite")
with context.begin_transaction():
    context.run_migrations()
