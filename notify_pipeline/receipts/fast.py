"""A block of lines parsed with vector operations, giving exactly what ``lines.parse_line`` gives for each line.

Belongs here: how thousands of lines are parsed by parsing a few. Does not belong here: what a line means (``lines``),
how a file becomes blocks (``blocks``), where lines are cut (``layouts``).

Lines of one log differ in little but the time and the delivery id. Both are cut out of a block's lines, and each
distinct rest, of which there are few, is parsed once by ``parse_line``. What does not fit goes through ``parse_line``
itself, line by line.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import polars as pl

from notify_pipeline.receipts.layouts import (
    KEY,
    VALUE,
    Fields,
    Layout,
    add_skeletons,
    choose,
    cut_lines,
    layouts_of,
    parse_skeleton,
)
from notify_pipeline.receipts.lines import MAX_LINE_BYTES, Event, LineRefusedError, Reason, parse_line, parse_time

_EPOCH: Final = "1970-01-01T00:00:00"
# A flat object that is valid JSON for certain.
_FLAT: Final = rf"^\{{{KEY}{VALUE}(, ?{KEY}{VALUE})*\}}$"
_OUR_PATH: Final = "/notification/"
# A CDN service has one or two line forms; more than this many are not worth a pass over the block each.
_MAX_LAYOUTS: Final = 12
# Learning and applying a layout costs some milliseconds; parse_line does this many lines in the same time.
_FEW: Final = 1_000
_LOOK_AT: Final = 20_000
_LEARN_FROM: Final = 20
_TRY_ON: Final = 1_000
# What is remembered between blocks: an hour has 3,600 seconds, a log some thousands of skeletons.
_REMEMBERED: Final = 100_000

EVENT_COLUMNS: Final = ("event", "notification_id", "platform", "provider", "delivery_id", "at", "action")
_EVENT_SCHEMA: Final[dict[str, Any]] = {
    "line": pl.UInt32,
    **{name: pl.Int64 if name == "at" else pl.String for name in EVENT_COLUMNS},
}
_FIELD_NAMES: Final = ("event", "notification_id", "platform", "provider", "action")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Refused:
    """A line for quarantine: its index in the block, why, and its bytes."""

    line: int
    reason: Reason
    raw: bytes


@dataclass(frozen=True, slots=True)
class ParsedBlock:
    """What a block held. ``events`` has the columns EVENT_COLUMNS in the order of the lines."""

    events: pl.DataFrame
    refused: list[Refused]
    lines: int
    other: int


class BlockParser:
    """Parses blocks of logs. What it has learnt serves the next block, in any log, and never changes a result."""

    def __init__(self) -> None:
        self._layouts: list[Layout] = []
        self._fields: dict[Layout, dict[bytes, Fields | None]] = {}
        self._seconds: dict[bytes, int | None] = {}
        self._zones: dict[bytes, int | None] = {}

    def parse(self, data: bytes, latest: int) -> ParsedBlock:
        """Parse the lines of a block.

        Args:
            data: Lines, separated by newlines.
            latest: As for ``parse_line``.
        """
        rest, odd = _split(data)
        lines, parts = rest.height + odd.height, []
        for known in self._layouts:
            found, rest = self._apply(known, rest, latest)
            parts.append(found)
        while rest.height > _FEW and len(self._layouts) < _MAX_LAYOUTS:
            learnt = _learn(rest, latest)
            if learnt is None or learnt in self._fields:
                break
            self._layouts.append(learnt)
            found, rest = self._apply(learnt, rest, latest)
            parts.append(found)
        plain_other, rest = _plain_other(rest)
        events, refused, other = _one_by_one(pl.concat([rest, odd]).sort("line"), latest)
        parts = [part for part in (*parts, events) if not part.is_empty()]
        merged = pl.concat(parts) if parts else events
        if len(parts) > 1:
            merged = merged.sort("line")
        return ParsedBlock(merged.select(EVENT_COLUMNS), refused, lines, plain_other + other)

    def _apply(self, layout: Layout, rest: pl.DataFrame, latest: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the events of the lines that have this layout, and the lines that have not."""
        known = self._fields.setdefault(layout, {})
        cut = cut_lines(layout, rest)
        if cut.is_empty():
            return pl.DataFrame(schema=_EVENT_SCHEMA), rest
        cut = add_skeletons(layout, cut)
        for lookup in (
            _fields(known, cut["skeleton"], layout),
            _moments(self._seconds, cut["second"], ""),
            _moments(self._zones, cut["zone"], _EPOCH),
        ):
            cut = cut.join(lookup, on=lookup.columns[0], how="left", maintain_order="left")
        found = (
            cut.lazy()
            .with_columns(at=pl.col("second_us") + pl.col("zone_us"))
            .filter(pl.col("event").is_not_null() & (pl.col("at") <= latest))
            .with_columns(notification_id=pl.coalesce("notification_here", "notification_id"))
            .select(*_EVENT_SCHEMA)
            .collect(engine="in-memory")
        )
        if found.height == rest.height:
            return found, rest.clear()
        return found, rest.join(found.select("line"), on="line", how="anti", maintain_order="left")


def _split(data: bytes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return columns line (index) and raw (bytes) of the ASCII lines, which may be cut anywhere, and of the others."""
    try:
        # The newline in front keeps a line that begins like a compressed file from being inflated.
        text = pl.scan_lines(io.BytesIO(b"\n" + data)).collect().to_series().slice(1)
    except pl.exceptions.ComputeError:  # some line is not UTF-8: bytes split as well, only slower
        pieces = [piece.removesuffix(b"\r") for piece in data.removesuffix(b"\n").split(b"\n")] if data else []
        plain = pl.Series(map(bytes.isascii, pieces), dtype=pl.Boolean)
        frame = pl.DataFrame({"raw": pl.Series(pieces, dtype=pl.Binary)}).with_row_index("line")
    else:
        frame = pl.DataFrame({"raw": text.cast(pl.Binary)}).with_row_index("line")
        if data.isascii():
            return frame, frame.clear()
        plain = text.str.len_bytes() == text.str.len_chars()
    return frame.filter(plain), frame.filter(~plain)


def _remember(memory: dict[bytes, _Value], keys: pl.Series, work: Callable[[bytes], _Value]) -> list[_Value]:
    if len(memory) > _REMEMBERED:
        memory.clear()
    values = []
    for key in keys:
        if key not in memory:
            memory[key] = work(key)
        values.append(memory[key])
    return values


def _fields(memory: dict[bytes, Fields | None], skeletons: pl.Series, layout: Layout) -> pl.DataFrame:
    """Return the fields of each distinct skeleton, nulls for one that is no event."""
    distinct = skeletons.unique()
    values = _remember(memory, distinct, lambda skeleton: parse_skeleton(layout, skeleton))
    columns = {
        name: pl.Series([value and getattr(value, name) for value in values], dtype=pl.String) for name in _FIELD_NAMES
    }
    return pl.DataFrame({"skeleton": distinct, **columns})


def _moments(memory: dict[bytes, int | None], stamps: pl.Series, prefix: str) -> pl.DataFrame:
    """Return the microseconds of each distinct text. A moment is the sum of its second and its zone after the epoch."""
    distinct = stamps.unique()
    values = _remember(memory, distinct, lambda text: parse_time(prefix + text.decode("ascii", "replace")))
    return pl.DataFrame({stamps.name: distinct, f"{stamps.name}_us": pl.Series(values, dtype=pl.Int64)})


def _learn(rest: pl.DataFrame, latest: int) -> Layout | None:
    """Return the layout that fits most of these lines, judged by their first events; None when none fits any."""
    sample = rest.head(_LOOK_AT).filter(pl.col("raw").bin.contains(_OUR_PATH.encode()))
    layouts = {layout for raw in sample["raw"].head(_LEARN_FROM) for layout in layouts_of(raw, latest)}
    return choose(layouts, sample.head(_TRY_ON))


def _plain_other(rest: pl.DataFrame) -> tuple[int, pl.DataFrame]:
    """Count and take away lines that are valid JSON of another path for certain."""
    if rest.height <= _FEW:
        return 0, rest
    text = pl.col("raw").cast(pl.String)
    other = (
        (pl.col("raw").bin.size() <= MAX_LINE_BYTES)
        & ~text.str.contains(_OUR_PATH, literal=True)
        & (text.str.count_matches('"event"', literal=True) == 1)
        & text.str.contains(r'"event": ?"')
        & text.str.contains(_FLAT)
    )
    kept = rest.filter(~other.fill_null(False))
    return rest.height - kept.height, kept


def _one_by_one(rest: pl.DataFrame, latest: int) -> tuple[pl.DataFrame, list[Refused], int]:
    rows, refused, other = [], [], 0
    for line, raw in rest.iter_rows():
        try:
            event = parse_line(raw, latest)
        except LineRefusedError as error:
            refused.append(Refused(line, error.reason, raw))
            continue
        if isinstance(event, Event):
            rows.append((line, *(getattr(event, name) for name in EVENT_COLUMNS)))
        else:
            other += 1
    return pl.DataFrame(rows, schema=_EVENT_SCHEMA, orient="row"), refused, other
