"""Empty ledgers on SQLite without migrating each, for tests that make their own.

Belongs here: copies of one that was migrated. Does not belong here: the fixtures (``conftest``).
"""

import tempfile
from functools import cache
from pathlib import Path

from notify_pipeline.core.ledger.engine import Ledger


@cache
def _made() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        Ledger.open(f"sqlite:///{path}").close()
        return path.read_bytes()


def made_at(path: Path) -> str:
    """Put an empty ledger into a new file and return its URL."""
    assert not path.exists()
    path.write_bytes(_made())
    return f"sqlite:///{path}"
