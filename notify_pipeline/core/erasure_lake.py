"""Taking a person out of the lake's files: each that names them is written anew, whole, in its own place.

Belongs here: going through files, a row group at a time, and replacing those concerned. Does not belong here: which
columns name people (``erasure_tables``), which tables and in what order (``erasing``).

A file is replaced as it was written: under another name, flushed, and renamed, or put in one piece. Readers that have
it open go on reading what it was, or on S3 are told that it changed, and read it again. Row groups and rows keep their
places: a broadcast knows its recipients by their number. Whatever dies, what is left is whole files, some of which name
the person still: going through them again finds these.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from notify_pipeline.core.erasure_tables import Rule
from notify_pipeline.core.lake import Lake, LakeFile


@dataclass(frozen=True, slots=True)
class Swept:
    """What was looked through: files, rows in them, files written anew, rows that named the person."""

    files: int = 0
    rows: int = 0
    rewritten: int = 0
    named: int = 0
    digest: str = ""

    def and_(self, other: "Swept") -> "Swept":
        """Return both together."""
        digest = hashlib.sha256((self.digest + other.digest).encode()).hexdigest()
        numbers = (self.files + other.files, self.rows + other.rows)
        return Swept(*numbers, self.rewritten + other.rewritten, self.named + other.named, digest)


def sweep(
    lake: Lake,
    files: Iterable[LakeFile],
    rule: Rule,
    rewrite: bool,
    before_each: Callable[[], None] = lambda: None,
) -> Swept:
    """Look through files, and take the person out of those that name them.

    Args:
        lake: The lake.
        files: As they were listed; one that is gone since is left out.
        rule: What to look for.
        rewrite: False to look only.
        before_each: Called before each file is looked through: to keep a lease, or to raise.
    """
    done = Swept()
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda each: each.path):
        before_each()
        try:
            rows, named = _look(lake, file.path, rule)
            if named and rewrite:
                _rewrite(lake, file.path, rule)
        except FileNotFoundError:  # compacted, or too old
            continue
        digest.update(f"{file.path}\0{file.etag}\0{rows}\n".encode())
        done = Swept(done.files + 1, done.rows + rows, done.rewritten + bool(named and rewrite), done.named + named)
    return Swept(done.files, done.rows, done.rewritten, done.named, digest.hexdigest())


def _look(lake: Lake, path: str, rule: Rule) -> tuple[int, int]:
    """Return a file's rows, and how many name the person. Reads the rule's columns, and the others of few rows."""
    named = 0
    with lake.open_parquet(path) as file:
        columns = [name for name in rule.columns if name in file.schema_arrow.names]
        for number in range(file.num_row_groups):
            found = rule.mask(file.read_row_group(number, columns=columns, use_threads=True))
            if any(each.true_count for each in found.chunks):
                whole = file.read_row_group(number).filter(found)
                named += sum(bool(rule.changed(row)) for row in whole.to_pylist())
        return file.metadata.num_rows, named


def _rewrite(lake: Lake, path: str, rule: Rule) -> None:
    with lake.open_parquet(path) as file, lake.writer(path, file.schema_arrow) as writer:
        for number in range(file.num_row_groups):
            table = _without(file.read_row_group(number), rule)
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def _without(table: pa.Table, rule: Rule) -> pa.Table:
    """Return a table with the rows that name the person changed."""
    mask = rule.mask(table)
    places = [at for at, hit in enumerate(mask.to_pylist()) if hit]
    if not places:
        return table
    changes = [rule.changed(row) for row in table.take(pa.array(places)).to_pylist()]
    for name in sorted({name for change in changes for name in change}):
        theirs = [(at, change[name]) for at, change in zip(places, changes, strict=True) if name in change]
        if name in table.column_names:
            table = table.set_column(
                table.column_names.index(name), table.schema.field(name), _put(table[name], theirs)
            )
    return table


def _put(column: pa.ChunkedArray, values: Sequence[tuple[int, Any]]) -> pa.Array:
    """Return a column with other values in some places."""
    old = pa.chunked_array([*column.chunks, pa.array([value for _, value in values], column.type)])
    order = list(range(len(column)))
    for number, (at, _) in enumerate(values):
        order[at] = len(column) + number
    return old.take(pa.array(order, pa.int64()))
