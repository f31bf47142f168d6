"""SQLite connections that leave no query half read behind.

Belongs here: closing cursors when a connection goes back to its pool. Does not belong here: pools, transactions
(``engine``).

SQLite ends a read transaction when its last query has been read to the end or reset, and COMMIT does not reset any. A
cursor that somebody still holds, in the traceback of an error for one, would keep the connection at its moment: whoever
is given it next would read the ledger as it was then, without keys and requests of since. See "read transactions" at
https://www.sqlite.org/lang_transaction.html.
"""

import sqlite3
from typing import Any

from sqlalchemy import Engine, event


class TidyConnection(sqlite3.Connection):
    """A connection that knows its cursors since it was taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Connect."""
        super().__init__(*args, **kwargs)
        self._made: list[sqlite3.Cursor] = []

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """Make a cursor."""
        made = super().cursor(factory)
        self._made.append(made)
        return made

    def close_cursors(self) -> None:
        """Reset whatever was not read to its end."""
        for cursor in self._made:
            cursor.close()
        self._made.clear()


def tidy(engine: Engine) -> None:
    """Let an engine, whose connections are these, close their cursors before each goes back to the pool."""

    @event.listens_for(engine, "reset")
    def on_reset(connection: TidyConnection, _record: object, _state: object) -> None:
        connection.close_cursors()
