r"""The interactive part of ``notify sql``: lines become statements, and a few words begin with a backslash.

Belongs here: reading lines, history, completion, ``\d`` and the like. Does not belong here: running a statement
(``sql_output``), the connection (``reports.analysis``).
"""

import contextlib
import os
import readline
from pathlib import Path
from typing import IO, Final

import duckdb

from notify_pipeline.commands.ctrl_c import CtrlC
from notify_pipeline.commands.sql_output import Format, Refused, run, statements
from notify_pipeline.reports.analysis import Analysis

_HISTORY_LINES: Final = 5_000
_HELP: Final = r"""A statement ends with a semicolon; Ctrl-C stops it, Ctrl-D leaves. Statements only read.
  \d          the tables and what a row of each is
  \d NAME     a table's columns and what they say: \d notifications, \d lake.attempts
  \format F   table, csv, ndjson or parquet
  \refresh    move on to the report version and the lake's files of now
  \?  \q      this text; leave
"""
# Tables of the current catalog's main schema (the report views) and of the lake's.
_TABLES: Final = """
SELECT CASE database_name WHEN 'lake' THEN 'lake.' ELSE '' END || name AS "table", comment AS "a row"
FROM (SELECT database_name, schema_name, view_name AS name, comment FROM duckdb_views() WHERE NOT internal
      UNION ALL SELECT database_name, schema_name, table_name, comment FROM duckdb_tables())
WHERE schema_name = 'main' AND database_name IN (current_database(), 'lake')
ORDER BY database_name = 'lake', name"""
_COLUMNS: Final = """
SELECT column_name AS "column", data_type AS type, comment AS meaning FROM duckdb_columns()
WHERE schema_name = 'main' AND table_name = $name AND database_name = coalesce($catalog, current_database())
ORDER BY column_index"""


class Leave(Exception):
    """The user wants to go."""


class Shell:
    """One session."""

    def __init__(self, analysis: Analysis, form: Format, most: int, out: IO[bytes], ctrl_c: CtrlC) -> None:
        self._analysis = analysis
        self._form = form
        self._most = most
        self._out = out
        self._ctrl_c = ctrl_c

    def talk(self, history: Path) -> None:
        """Read lines until the end of input."""
        _begin_history(history)
        readline.set_completer(self._complete)
        readline.set_completer_delims(" \t\n,()=<>*+;")
        readline.parse_and_bind("tab: complete")
        waiting = ""
        try:
            while True:
                try:
                    with self._ctrl_c.raised():
                        line = input("sql> " if not waiting else "...> ")
                except KeyboardInterrupt:
                    self._say("" if waiting else "\\q leaves")
                    waiting = ""
                else:
                    waiting = self.take(waiting, line)
        except (EOFError, Leave):
            self._say("")
        finally:
            with contextlib.suppress(OSError):  # a home that may not be written to
                readline.write_history_file(history)

    def take(self, waiting: str, line: str) -> str:
        """Take one more line; return what still waits for its semicolon."""
        command = not waiting and line.lstrip().startswith("\\")
        text = f"{waiting}\n{line}" if waiting else line
        if not command and not text.rstrip().endswith(";"):
            return text if text.strip() else ""
        try:
            if command:
                self._command(line.strip())
            else:
                self._run_all(text)
        except KeyboardInterrupt:
            self._say("stopped")
        except (duckdb.Error, Refused) as error:
            self._say(f"error: {error}")
        return ""

    def _run_all(self, text: str) -> None:
        with self._ctrl_c.raised():
            for query in statements(text):
                run(self._analysis.db, query, self._form, self._out, self._most)

    def _command(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "\\q":
            raise Leave
        if word == "\\d":
            self._describe(rest.strip().rstrip(";"))
        elif word == "\\format" and rest.strip() in set(Format):
            self._form = Format(rest.strip())
        elif word == "\\refresh":
            self._analysis.refresh()
            version = self._analysis.version
            self._say("no reports yet" if version is None else f"version {version.number}")
        else:
            self._say(_HELP)

    def _describe(self, name: str) -> None:
        if not name:
            self._show(_TABLES)
            return
        db = self._analysis.db
        catalog, _, table = name.rpartition(".")
        db.execute("SET VARIABLE described = ?", [table])
        db.execute("SET VARIABLE described_in = ?", [catalog or None])
        query = _COLUMNS.replace("$name", "getvariable('described')").replace("$catalog", "getvariable('described_in')")
        self._show(query)

    def _show(self, query: str) -> None:
        with self._ctrl_c.raised():
            run(self._analysis.db, query, Format.TABLE, self._out, self._most)

    def _complete(self, text: str, state: int) -> str | None:
        names = self._analysis.db.execute(
            "SELECT DISTINCT n FROM (SELECT unnest([column_name, table_name, 'lake.' || table_name]) AS n,"
            " database_name AS d FROM duckdb_columns() WHERE schema_name = 'main'"
            " AND database_name IN (current_database(), 'lake')) WHERE starts_with(n, ?)"
            " AND (d = 'lake' OR NOT starts_with(n, 'lake.')) ORDER BY n",
            [text],
        ).fetchall()
        return names[state][0] if state < len(names) else None

    def _say(self, text: str) -> None:
        self._out.write(f"{text.rstrip()}\n".encode())
        self._out.flush()


def history_file() -> Path:
    """Return where lines are remembered: the user's own folder for such, by the XDG base directory specification."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "notify" / "sql_history"


def _begin_history(path: Path) -> None:
    readline.set_history_length(_HISTORY_LINES)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        readline.read_history_file(path)
