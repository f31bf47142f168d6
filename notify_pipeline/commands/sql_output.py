"""How ``notify sql`` runs one statement and prints what it gives.

Belongs here: refusing what writes, running so that Ctrl-C stops a query, the formats. Does not belong here: the command
and its shell (``sql``, ``sql_shell``), the connection (``reports.analysis``).
"""

import os
import re
import select
import sys
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import IO, Final, TypeVar

import duckdb

from notify_pipeline.commands.ctrl_c import Stop, held

T = TypeVar("T")

# What only reads. PIVOT is several statements to DuckDB: a type in memory, and the query.
_READS: Final = ("SELECT", "MULTI")
# What a WITH clause may hold beside queries, by the first word within its parentheses, or behind another such clause.
# In text that ``query(...)`` runs DuckDB itself takes none of it.
_WRITES: Final = frozenset({"COPY", "DELETE", "INSERT", "MERGE", "UPDATE"})
_EXPLAIN: Final = re.compile(
    r"^(?:\s|--[^\n]*\n|/\*.*?\*/)*EXPLAIN\s*(?:ANALYZE\b|\([^)]*\))?", re.IGNORECASE | re.DOTALL
)
_WORD: Final = re.compile(rb"[A-Za-z_]+")
# RFC 3339, as everywhere else.
_TIMES: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_COPY: Final = {
    "csv": f"FORMAT csv, HEADER, TIMESTAMPFORMAT '{_TIMES}'",
    "ndjson": f"FORMAT json, TIMESTAMPFORMAT '{_TIMES}'",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}
# How often a thread at work looks whether Ctrl-C came, at the latest: what a hand does not notice.
_LOOK_S: Final = 0.1
_NUMBERS: Final = ("INT", "DECIMAL", "DOUBLE", "FLOAT", "HUGE")


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


class Refused(Exception):
    """The statement is not one that only reads."""


def statements(text: str) -> list[str]:
    """Return the statements of a text; all of them only read.

    Raises:
        Refused: One does not.
        duckdb.Error: It cannot be parsed.
    """
    found = duckdb.extract_statements(text)
    for one in found:
        kind = one.type.name
        if kind == "EXPLAIN":  # ANALYZE carries it out
            inner = duckdb.extract_statements(_EXPLAIN.sub("", one.query, count=1))
            kind = next((of.type.name for of in inner if of.type.name not in _READS), "SELECT")
        refused = _written_within(one.query) if kind in _READS else kind
        if refused is not None:
            raise Refused(f"{refused} is refused: this connection only reads. For tables of your own use Python")
    return [one.query.strip().rstrip(";") for one in found]


def _written_within(query: str) -> str | None:
    """Return what a query does beside reading: ``WITH a AS (COPY … TO …) …`` is a query to DuckDB."""
    text, before = query.encode(), ""
    tokens = [(at, kind) for at, kind in duckdb.tokenize(query) if kind is not duckdb.token_type.comment]
    for at, kind in tokens:
        found = _WORD.match(text, at)
        word = "" if found is None or kind is duckdb.token_type.string_const else found[0].decode().upper()
        if word in _WRITES and before in ("(", ")"):
            return word
        before = chr(text[at])
    return None


def run(db: duckdb.DuckDBPyConnection, query: str, form: Format, out: IO[bytes], most: int) -> None:
    """Run a statement and print its rows.

    Args:
        db: The connection.
        query: One of ``statements``.
        form: How.
        out: Where to.
        most: Rows of a table that are printed; other formats print all.

    Raises:
        KeyboardInterrupt: Ctrl-C; the query has stopped, the connection can be used.
        BrokenPipeError: The reader of ``out`` went away.
        duckdb.Error: What DuckDB says.
    """
    if _EXPLAIN.match(query):
        rows = _stoppable(db, lambda: db.execute(query).fetchall())
        out.write("".join(f"{row[-1]}\n" for row in rows).encode())
    elif form is Format.TABLE:
        names, types, rows = _stoppable(db, lambda: _fetch(db, query, most + 1))
        out.write(_drawn(names, types, rows[:most], more=len(rows) > most).encode())
    else:
        _copy(db, query, form, out)
    out.flush()


def _fetch(
    db: duckdb.DuckDBPyConnection, query: str, limit: int
) -> tuple[Sequence[str], Sequence[str], list[tuple[str | None, ...]]]:
    found = db.sql(query)
    types = [str(each) for each in found.types]
    # DuckDB's own way of writing each type; its Python types would need pytz, which nothing else does.
    return found.columns, types, found.limit(limit).project("COLUMNS(*)::VARCHAR").fetchall()


def _stoppable(db: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    with held() as stop:
        return _in_thread(db, work, stop)


def _in_thread(db: duckdb.DuckDBPyConnection, work: Callable[[], T], stop: Stop) -> T:
    """Call in a thread, so that the main one is there for a signal: DuckDB itself does not look for any."""
    results: list[T] = []
    errors: list[Exception] = []

    def target() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_S)
        if stop.asked:
            db.interrupt()  # each time: one that comes between two parts of a query stops neither
    if errors:
        raise errors[0]
    return results[0]


def _copy(db: duckdb.DuckDBPyConnection, query: str, form: Format, out: IO[bytes]) -> None:
    """Let DuckDB write into a pipe, so that a result of any size goes through."""
    read, write = os.pipe()
    gone = threading.Event()

    def pump(stop: Stop) -> None:
        with os.fdopen(read, "rb", buffering=0) as pipe:
            try:
                while (piece := pipe.read(select.PIPE_BUF)) and _takes_more(out, stop):
                    out.write(piece)
                    out.flush()
            except BrokenPipeError:
                gone.set()

    with held() as stop:
        thread = threading.Thread(target=pump, args=(stop,), daemon=True)
        thread.start()
        try:
            # The query is a whole statement by DuckDB's own parser; the line break ends a comment at its end.
            copy = f"COPY ({query}\n) TO '/dev/fd/{write}' ({_COPY[form]})"
            _in_thread(db, lambda: db.execute(copy), stop)
        except duckdb.Error:
            if not gone.is_set():
                raise
        finally:
            os.close(write)
            thread.join()
    if gone.is_set():
        raise BrokenPipeError


def _takes_more(out: IO[bytes], stop: Stop) -> bool:
    """Wait until ``out`` takes PIPE_BUF bytes at once; False: Ctrl-C came. A write that waits could not be stopped."""
    try:
        number = out.fileno()
    except OSError:  # no file: memory, which takes all
        return not stop.asked
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    while not stop.asked:
        if poll.poll(_LOOK_S * 1000):
            return True
    return False


def _drawn(names: Sequence[str], types: Sequence[str], rows: list[tuple[str | None, ...]], *, more: bool) -> str:
    right = [kind.startswith(_NUMBERS) or kind.startswith(("U", "BIG", "SMALL", "TINY")) for kind in types]
    cells = [[_one_line(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(names)]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(width) if number else value.ljust(width)
            for value, width, number in zip(values, widths, right, strict=True)
        )
        return " | ".join(padded).rstrip() + "\n"

    count = f"({len(rows)} row{'' if len(rows) == 1 else 's'}{'; there are more' if more else ''})\n"
    return line(names) + "-+-".join("-" * width for width in widths) + "\n" + "".join(map(line, cells)) + count


def _one_line(value: str | None) -> str:
    if value is None:
        return ""
    # Titles are anybody's text: control characters would move the cursor of whoever reads them.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)


def standard_output() -> IO[bytes]:
    """Return where bytes go that are printed."""
    return sys.stdout.buffer
