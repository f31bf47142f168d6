"""Brings a database to the schema that this code expects.

Belongs here: running Alembic from code, once at a time. Does not belong here: the migrations themselves
(``migrations/versions``), the schema as the code sees it (``tables``).
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

# The newest revision below migrations/versions, so that a start need not load Alembic (a test compares).
HEAD = "0008"
MIGRATIONS = Path(__file__).parent / "migrations"
# Any number that nobody else locks: the first eight bytes of SHA-256("notify-pipeline ledger migrations"), halved to
# fit PostgreSQL's signed 64 bits.
_ADVISORY_LOCK = 0x2C6B_1F0A_93D4_7E55


def current_revision(conn: Connection) -> str:
    """Return the revision that the database is at, '' for an empty one."""
    if not inspect(conn).has_table("alembic_version"):
        return ""
    return str(conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none() or "")


def upgrade(conn: Connection) -> str:
    """Migrate to the newest revision in one transaction; the caller holds the lock. Return the revision before."""
    with conn.begin():
        before = current_revision(conn)
        if before != HEAD:
            _run_alembic(conn)
    return before


def upgrade_locked(conn: Connection) -> str:
    """Like ``upgrade`` on PostgreSQL, under an advisory lock that dies with the connection."""
    with conn.begin():
        before = current_revision(conn)
        if before == HEAD:
            return before
        conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        before = current_revision(conn)
        if before != HEAD:
            _run_alembic(conn)
    return before


def _run_alembic(conn: Connection) -> None:
    # Loading Alembic takes a quarter of a second that only a migration should pay.
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Alembic reads this through configparser, where a per cent sign begins an interpolation.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
