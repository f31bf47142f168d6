"""The migrations make exactly the tables that the code knows, on both stores, and packages carry them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from notify_pipeline.core.ledger import migrate
from notify_pipeline.core.ledger.engine import Ledger, checked_url, upgrade_ledger
from notify_pipeline.core.ledger.schema import METADATA


def test_the_migrated_schema_is_the_one_the_code_knows(ledger: Ledger) -> None:
    with ledger.read() as conn:
        differences = compare_metadata(MigrationContext.configure(conn), METADATA)
        assert migrate.current_revision(conn) == migrate.HEAD
    assert differences == []


def test_head_names_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.HEAD]


def test_upgrading_again_changes_nothing(ledger: Ledger) -> None:
    assert upgrade_ledger(ledger) == migrate.HEAD


def test_what_was_queued_under_the_first_schema_is_still_there(new_ledger_url: str) -> None:
    parsed = checked_url(new_ledger_url)
    if parsed.get_backend_name() == "sqlite":
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed)
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0001")
        conn.execute(text(_REQUEST))
        conn.execute(text(_DELIVERY))
    engine.dispose()
    with Ledger.open(new_ledger_url) as ledger, ledger.read() as conn:
        assert conn.execute(text("SELECT category FROM requests")).scalar_one() == "sport"
        assert conn.execute(text("SELECT tenant, expires_at FROM deliveries")).one() == ("t1", None)
        assert compare_metadata(MigrationContext.configure(conn), METADATA) == []


_REQUEST = """
INSERT INTO requests (request_id, tenant, notification_id, body_sha256, body, type, priority_rank, state, accepted_at,
  due_at, expires_at, updated_at, counts)
VALUES ('r1', 't1', 'n1', 'x', '{"type": "news", "category": "sport"}', 'news', 1, 'sending', 1, 1, 2, 1, '{}')
"""
_DELIVERY = """
INSERT INTO deliveries (delivery_id, request_id, channel, platform, address, recipient, priority_rank, state,
  attempt_no, due_at)
VALUES ('d1', 'r1', 'fcm', 'android', 'a', '[]', 1, 'waiting', 0, 1)
"""
_OPEN = """
import sys
from notify_pipeline.core.ledger.engine import Ledger
with Ledger.open(sys.argv[1]) as ledger:
    print(ledger.secret("delivery").hex())
"""


def test_processes_that_open_a_new_ledger_at_once_agree(new_ledger_url: str) -> None:
    def open_it(_: int) -> str:
        done = subprocess.run([sys.executable, "-c", _OPEN, new_ledger_url], check=True, capture_output=True, text=True)
        return done.stdout

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(open_it, range(4)))) == 1


def test_sqlite_is_durable_and_shared(sqlite_ledger: Ledger) -> None:
    def pragmas(conn: object, items: list[None]) -> list[tuple[object, ...]]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [tuple(conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names)]  # type: ignore[attr-defined]

    assert sqlite_ledger.write(pragmas, None) == ("wal", 2, 1)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x"])
def test_other_stores_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="ledger URL"):
        checked_url(url)


def test_a_plain_postgresql_url_gets_the_driver_we_ship() -> None:
    assert checked_url("postgresql://u@h/db").drivername == "postgresql+psycopg2"
