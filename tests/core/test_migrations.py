"""The migrations make exactly the tables that the code knows, on both stores, and packages carry them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from notify_pipeline.core.ledger import migrate
from notify_pipeline.core.ledger.engine import Ledger, checked_url, upgrade_ledger
from notify_pipeline.core.ledger.tables import METADATA


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


_OPEN = """
import sys
from notify_pipeline.core.ledger.engine import Ledger
with Ledger.open(sys.argv[1]) as ledger:
    print(ledger.secret("delivery").hex())
"""


def test_processes_that_open_a_new_ledger_at_once_agree(ledger_url: str) -> None:
    def open_it(_: int) -> str:
        done = subprocess.run([sys.executable, "-c", _OPEN, ledger_url], check=True, capture_output=True, text=True)
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
