"""A block of lines parsed with vector operations, giving exactly what ``lines.parse_line`` gives for each line.

Belongs here: how thousands of lines are parsed by parsing a few. Does not belong here: what a line means (``lines``),
how a file becomes blocks (``blocks``), where lines are cut (``layouts``).

Lines of one log differ in little but the time and the delivery id. Both are cut out of a block's lines, and each
distinct rest, of which there are few, is parsed once by ``parse_line``. What does not fit goes through ``parse_line``
itself, line by line.
"""

from typing import Final

import polars as pl

from notify_pipeline.receipts import vectors
from notify_pipeline.receipts.layouts import (
    KEY,
    VALUE,
    Layout,
    add_skeletons,
    choose,
    cut_lines,
    layouts_of,
    parse_skeleton,
)
from notify_pipeline.receipts.lines import MAX_LINE_BYTES, parse_line, parse_time
from notify_pipeline.receipts.vectors import (
    EVENT_COLUMNS,
    EVENT_SCHEMA,
    FIELD_NAMES,
    Lookup,
    ParsedBlock,
    split_lines,
)

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
        for known in self._layouts:
            found, rest = self._apply(known, rest, latest)
            parts.append(found)
        while rest.height > vectors.FEW and len(self._layouts) < _MAX_LAYOUTS:
            learnt = _learn(rest, latest)
            if learnt is None or learnt in self._fields:
                break
            self._layouts.append(learnt)
            found, rest = self._apply(learnt, rest, latest)
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

    def _apply(self, layout: Layout, rest: pl.DataFrame, latest: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the events of the lines that have this layout, and the lines that have not."""
        fields = self._fields.get(layout)
        if fields is None:
            fields = self._fields[layout] = _fields(layout)
        cut = cut_lines(layout, rest)
        if cut.is_empty():
            return pl.DataFrame(schema=EVENT_SCHEMA), rest
        cut = add_skeletons(layout, cut)
        for lookup in (fields, self._seconds, self._zones):
            cut = lookup.attach(cut)
        found = (
            cut.lazy()
            .with_columns(at=pl.col("second_us") + pl.col("zone_us"))
            .filter(pl.col("event").is_not_null() & (pl.col("at") <= latest))
            .with_columns(notification_id=pl.coalesce("notification_here", "notification_id"))
            .select(*EVENT_SCHEMA)
            .collect(engine="in-memory")
        )
        if found.height == rest.height:
            return found, rest.clear()
        return found, rest.join(found.select("line"), on="line", how="anti", maintain_order="left")


def _fields(layout: Layout) -> Lookup:
    """Return what the layout's skeletons say; nulls for one that is no event."""

    def work(skeleton: bytes) -> list[str | None]:
        found = parse_skeleton(layout, skeleton)
        return [None if found is None else getattr(found, name) for name in FIELD_NAMES]

    return Lookup("skeleton", dict.fromkeys(FIELD_NAMES, pl.String), work)


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
