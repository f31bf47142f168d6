"""An observer of commits: on SQLite it tells every commit, and nothing else."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from notify_pipeline.core.ledger.commits import Commits
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import META


def _insert(conn: Connection, names: Sequence[str]) -> list[None]:
    for name in names:
        conn.execute(META.insert().values(name=name, value="x"))
    return [None] * len(names)


def _read(ledger: Ledger) -> None:
    with ledger.read() as conn:
        conn.execute(select(META)).all()


def test_each_commit_is_told_once(sqlite_ledger: Ledger) -> None:
    with Commits(sqlite_ledger) as commits:
        assert not commits.moved()
        sqlite_ledger.write(_insert, "a")
        assert commits.moved()
        _read(sqlite_ledger)
        assert not commits.moved()


def test_what_another_process_commits_is_told(sqlite_ledger: Ledger, sqlite_url: str) -> None:
    with Commits(sqlite_ledger) as commits, Ledger.open(sqlite_url) as other:
        commits.moved()
        other.write(_insert, "b")
        assert commits.moved()
        assert not commits.moved()


def test_no_store_hides_a_commit(ledger: Ledger) -> None:
    with Commits(ledger) as commits:
        ledger.write(_insert, "c")
        assert commits.moved()
