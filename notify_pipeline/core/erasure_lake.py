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
from dataclasses import dataclass, replace
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

    def with_file(self, rows: int, named: int, rewrite: bool) -> "Swept":
        """Return this and one more file."""
        return Swept(self.files + 1, self.rows + rows, self.rewritten + bool(named and rewrite), self.named + named)

    def and_(self, other: "Swept") -> "Swept":
        """Return both together."""
        digest = hashlib.sha256((self.digest + other.digest).encode()).hexdigest()
        numbers = (self.files + other.files, self.rows + other.rows)
        return Swept(*numbers, self.rewritten + other.rewritten, self.named + other.named, digest)


def sweep(
    lake: Lake,
    wanted: Sequence[tuple[Iterable[LakeFile], Rule]],
    rewrite: bool,
    before_each: Callable[[], None] = lambda: None,
) -> list[Swept]:
    """Look through files, and take people out of those that name them. A file is read once, for all of them.

    Args:
        lake: The lake.
        wanted: For each person the files, as they were listed, and what to look for there; a file that is gone since
            is left out.
        rewrite: False to look only.
        before_each: Called before each file is looked through: to keep a lease, or to raise.

    Returns:
        What was looked through for each person, in the order of ``wanted``.
    """
    whom: dict[LakeFile, list[int]] = {}
    for number, (files, _) in enumerate(wanted):
        for file in files:
            whom.setdefault(file, []).append(number)
    done = [Swept() for _ in wanted]
    digests = [hashlib.sha256() for _ in wanted]
    for file in sorted(whom, key=lambda each: each.path):
        before_each()
        rules = [wanted[number][1] for number in whom[file]]
        try:
            rows, named = _look(lake, file.path, rules)
            if rewrite and any(named):
                _rewrite(lake, file.path, [rule for rule, count in zip(rules, named, strict=True) if count])
        except FileNotFoundError:  # compacted, or too old
            continue
        for number, count in zip(whom[file], named, strict=True):
            digests[number].update(f"{file.path}\0{file.etag}\0{rows}\n".encode())
            done[number] = done[number].with_file(rows, count, rewrite)
    return [replace(each, digest=digest.hexdigest()) for each, digest in zip(done, digests, strict=True)]


def _look(lake: Lake, path: str, rules: Sequence[Rule]) -> tuple[int, list[int]]:
    """Return a file's rows, and how many name each person. Reads the rules' columns, and the others of few rows."""
    named = [0] * len(rules)
    asked = {name for rule in rules for name in rule.columns}
    with lake.open_parquet(path) as file:
        columns = [name for name in file.schema_arrow.names if name in asked]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns, use_threads=True)
            masks = [rule.mask(table) for rule in rules]
            hits = [number for number, mask in enumerate(masks) if any(each.true_count for each in mask.chunks)]
            whole = file.read_row_group(group) if hits else None
            for number in hits:
                assert whole is not None  # noqa: S101 - there is a hit
                rows = whole.filter(masks[number]).to_pylist()
                named[number] += sum(bool(rules[number].changed(row)) for row in rows)
        return file.metadata.num_rows, named


def _rewrite(lake: Lake, path: str, rules: Sequence[Rule]) -> None:
    with lake.open_parquet(path) as file, lake.writer(path, file.schema_arrow) as writer:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number)
            for rule in rules:
                table = _without(table, rule)
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
