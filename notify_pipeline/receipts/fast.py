"""A block of lines parsed with vector operations, giving exactly what ``lines.parse_line`` gives for each line.

Belongs here: how thousands of lines are parsed by parsing a few. Does not belong here: what a line means (``lines``),
how a file becomes blocks (``blocks``), where lines are cut (``layouts``).

Lines of one log differ in little but the time and the delivery id. Both are cut out of a block's lines, and each
distinct rest, of which there are few, is parsed once by ``parse_line``. What does not fit goes through ``parse_line``
itself, line by line.
"""

from dataclasses import replace
from typing import Final

import polars as pl

from notify_pipeline.receipts import vectors
from notify_pipeline.receipts.layouts import CLEAN, KEY, VALUE, Layout, choose, cut_lines, layouts_of
from notify_pipeline.receipts.lines import MAX_LINE_BYTES, parse_line, parse_time
from notify_pipeline.receipts.skeletons import NOTIFICATION, add_skeletons, head_quotes, parse_skeleton
from notify_pipeline.receipts.vectors import (
    EVENT_COLUMNS,
    EVENT_SCHEMA,
    FIELD_NAMES,
    Lookup,
    ParsedBlock,
    bytes_of,
    split_lines,
)

_FOUND: Final = {**EVENT_SCHEMA, "quotes": pl.UInt32}
_QUOTE: Final = ord('"')
_SPACE: Final = ord(" ")
_EPOCH: Final = b"1970-01-01T00:00:00"
# A flat object that is valid JSON for certain.
_FLAT: Final = rf"^\{{{KEY}{VALUE}(, ?{KEY}{VALUE})*\}}$"
_OUR_PATH: Final = "/notification/"
# A CDN service has one or two line forms; more than this many are not worth a pass over the block each.
_MAX_LAYOUTS: Final = 12
_LOOK_AT: Final = 20_000
_LEARN_FROM: Final = 20
_TRY_ON: Final = 1_000


class BlockParser:
    """Parses blocks of logs. What it has learnt serves the next block, in any log, and never changes a result."""

    def __init__(self) -> None:
        self._layouts: list[Layout] = []
        self._fields: dict[Layout, Lookup] = {}
        self._seconds = Lookup("second", {"second_us": pl.Int64}, lambda text: (_micros(text),))
        # A moment is the sum of its second and its zone after the epoch.
        self._zones = Lookup("zone", {"zone_us": pl.Int64}, lambda text: (_micros(_EPOCH + text),))

    def start(self) -> None:
        """Begin another file: nothing is of one file alone."""

    def parse(self, data: bytes, latest: int) -> ParsedBlock:
        """Parse the lines of a block.

        Args:
            data: Lines, separated by newlines.
            latest: As for ``parse_line``.
        """
        rest, odd = split_lines(data)
        lines, parts = rest.height + odd.height, []
        block = _Block(data, odd, latest)
        for known in self._layouts:
            found, rest = self._apply(known, rest, block)
            parts.append(found)
        while rest.height > vectors.FEW and len(self._layouts) < _MAX_LAYOUTS:
            learnt = _learn(rest, latest)
            if learnt is None or learnt in self._fields:
                break
            self._layouts.append(learnt)
            found, rest = self._apply(learnt, rest, block)
            parts.append(found)
        plain_other, rest = _plain_other(rest)
        events, refused, other = vectors.one_by_one(
            pl.concat([rest, odd]).sort("line"), lambda raw: parse_line(raw, latest)
        )
        parts = [part for part in (*parts, events) if not part.is_empty()]
        merged = pl.concat(parts) if parts else events
        if len(parts) > 1:
            merged = merged.sort("line")
        return ParsedBlock(merged.select(EVENT_COLUMNS), refused, lines, plain_other + other)

    def _apply(self, layout: Layout, lines: pl.DataFrame, block: "_Block") -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the events of the lines that have this layout, and the lines that have not."""
        fields = self._fields.get(layout)
        if fields is None:
            fields = self._fields[layout] = _fields(layout)
        found, rest = self._cut(layout, fields, lines, block)
        if layout.texts and not block.takes(layout, found, rest):
            found, rest = self._cut(replace(layout, texts=()), fields, lines, block)
        return found.select(*EVENT_SCHEMA), rest

    def _cut(
        self, layout: Layout, fields: Lookup, lines: pl.DataFrame, block: "_Block"
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        cut = cut_lines(layout, lines, block.clean)
        if cut.is_empty():
            return pl.DataFrame(schema=_FOUND), lines
        cut = fields.attach_fields(add_skeletons(layout, cut), NOTIFICATION)
        for lookup in (self._seconds, self._zones):
            cut = lookup.attach(cut)
        found = (
            cut.lazy()
            .with_columns(at=pl.col("second_us") + pl.col("zone_us"))
            .filter(pl.col("event").is_not_null() & (pl.col("at") <= block.latest))
            .with_columns(notification_id=pl.coalesce("notification_here", "notification_id"))
            .select(*_FOUND)
            .collect(engine="in-memory")
        )
        if found.height == lines.height:
            return found, lines.clear()
        return found, lines.join(found.select("line"), on="line", how="anti", maintain_order="left")


class _Block:
    """What is known of all of a block's bytes."""

    def __init__(self, data: bytes, odd: pl.DataFrame, latest: int) -> None:
        """Take the block, its lines that are not plain, and the last moment that they can tell of."""
        self.latest = latest
        self.clean = _clean(data)
        self._quotes = int((bytes_of(data) == _QUOTE).sum()) - _quotes(odd)

    def takes(self, layout: Layout, found: pl.DataFrame, rest: pl.DataFrame) -> bool:
        """Tell whether all lines found have the quotes that they must have, and no more.

        None has less. So none has more when there are as many in all; and those of all are counted fast.
        """
        left = _quotes(rest)
        counted = self._quotes - left
        self._quotes = left
        return counted == int(found["quotes"].sum()) + layout.tail_quotes * found.height


def _clean(data: bytes) -> pl.Expr:
    """Return what tells a block's lines without backslashes and control characters."""
    numbers = bytes_of(data)
    newlines, returns = (int((numbers == code).sum()) for code in b"\n\r")
    if int((numbers < _SPACE).sum()) > newlines + returns:
        return CLEAN
    text = pl.col("raw").cast(pl.String).str
    odd = [letter for letter, there in (("\r", returns > 0), ("\\", b"\\" in data)) if there]
    return pl.all_horizontal(pl.lit(True), *(~text.contains(letter, literal=True) for letter in odd))


def _quotes(lines: pl.DataFrame) -> int:
    return sum(raw.count(b'"') for raw in lines["raw"])


def _fields(layout: Layout) -> Lookup:
    """Return what the layout's skeletons say; nulls for one that is no event."""

    def work(skeleton: bytes) -> list[str | int | None]:
        found = parse_skeleton(layout, skeleton)
        fields = [None if found is None else getattr(found, name) for name in FIELD_NAMES]
        return [*fields, head_quotes(layout, skeleton)]

    return Lookup("skeleton", {**dict.fromkeys(FIELD_NAMES, pl.String), "quotes": pl.UInt32}, work)


def _micros(text: bytes) -> int | None:
    return parse_time(text.decode("ascii", "replace"))


def _learn(rest: pl.DataFrame, latest: int) -> Layout | None:
    """Return the layout that fits most of these lines, judged by their first events; None when none fits any."""
    sample = rest.head(_LOOK_AT).filter(pl.col("raw").bin.contains(_OUR_PATH.encode()))
    layouts = {layout for raw in sample["raw"].head(_LEARN_FROM) for layout in layouts_of(raw, latest)}
    return choose(layouts, sample.head(_TRY_ON))


def _plain_other(rest: pl.DataFrame) -> tuple[int, pl.DataFrame]:
    """Count and take away lines that are valid JSON of another path for certain."""
    if rest.height <= vectors.FEW:
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
