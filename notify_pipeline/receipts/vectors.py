"""What every vectorised parse of a block of lines is made of.

Belongs here: a block's result, cutting it into lines, remembering what distinct texts mean, and parsing what is left
line by line. Does not belong here: any format (``fast``, ``fast_columns``).
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import polars as pl
import pyarrow as pa

from notify_pipeline.core.ids import DELIVERY_ID_LENGTH
from notify_pipeline.receipts.lines import Event, LineRefusedError, Other, Reason

# Looking for the repetitions of lines costs some milliseconds; one by one this many are parsed in the same time.
FEW: Final = 1_000
# What is remembered between blocks: an hour has 3,600 seconds, a log some thousands of skeletons.
_REMEMBERED: Final = 100_000

EVENT_COLUMNS: Final = ("event", "notification_id", "platform", "provider", "delivery_id", "at", "action")
EVENT_SCHEMA: Final[dict[str, Any]] = {
    "line": pl.UInt32,
    **{name: pl.Int64 if name == "at" else pl.String for name in EVENT_COLUMNS},
}
# What a skeleton says.
FIELD_NAMES: Final = ("event", "notification_id", "platform", "provider", "action")
# Above one new skeleton in so many lines, notification ids are taken out of them, which costs two more passes.
_CROWDED: Final = 8
# How lines of logs begin, and no compressed file does.
_NO_COMPRESSION: Final = (b"{", b"#", *(b"%d" % digit for digit in range(10)))
_DELIVERY_ID: Final = rf"^[0-9a-f]{{{DELIVERY_ID_LENGTH}}}$"
_DIGITS: Final = (ord("0"), ord("9"))
_LETTERS: Final = (ord("a"), ord("f"))
# Stand for what is taken out of lines, and so in no line that is cut.
LOWEST: Final = (b"\0", b"\x01", b"\x02")
_Value = TypeVar("_Value")
# From a line's bytes to what it says, as ``lines.parse_line`` does.
Rule = Callable[[bytes], Event | Other]


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


def split_lines(data: bytes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return columns line (index) and raw (bytes) of the plain lines, which may be cut anywhere, and of the others.

    Plain are lines of ASCII without the control characters that stand for what is taken out of lines (LOWEST).
    """
    try:
        # A newline in front keeps a line that begins like a compressed file from being inflated. It costs a copy.
        front = b"" if data.startswith(_NO_COMPRESSION) else b"\n"
        text = pl.scan_lines(io.BytesIO(front + data)).collect().to_series().slice(len(front))
    except pl.exceptions.ComputeError:  # some line is not UTF-8: bytes split as well, only slower
        pieces = [piece.removesuffix(b"\r") for piece in data.removesuffix(b"\n").split(b"\n")] if data else []
        plain: pl.Series | None = pl.Series(map(bytes.isascii, pieces), dtype=pl.Boolean)
        frame = pl.DataFrame({"raw": pl.Series(pieces, dtype=pl.Binary)}).with_row_index("line")
    else:
        frame = pl.DataFrame({"raw": text.cast(pl.Binary)}).with_row_index("line")
        plain = None if data.isascii() else text.str.len_bytes() == text.str.len_chars()
    for control in LOWEST:
        if control in data:
            without = ~frame["raw"].bin.contains(control)
            plain = without if plain is None else plain & without
    return (frame, frame.clear()) if plain is None else (frame.filter(plain), frame.filter(~plain))


def bytes_of(data: bytes) -> pl.Series:
    """Return bytes as numbers, without a copy. A question to each is answered ten times as fast as one to each row."""
    array = pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)])
    return pl.Series(pl.from_arrow(array))


def are_ids(texts: pl.Series) -> pl.Series:
    """Tell which texts have the form of a delivery id."""
    whole = texts.str.len_bytes() == DELIVERY_ID_LENGTH
    every = bytes_of(texts.str.join("").item().encode()) if whole.all() else None
    if every is not None and (every.is_between(*_DIGITS) | every.is_between(*_LETTERS)).all():
        return whole
    return texts.str.contains(_DELIVERY_ID)


@dataclass(frozen=True, slots=True)
class NotificationSlot:
    """Where a skeleton's notification id stands: a pattern, the number of its group, and what is put in the place."""

    pattern: str
    group: int
    slot: str

    def take_out(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Return lines without it in the skeleton; it is in notification_here."""
        text = pl.col("skeleton").cast(pl.String)
        return lines.with_columns(
            notification_here=text.str.extract(self.pattern, self.group),
            skeleton=text.str.replace(self.pattern, self.slot).cast(pl.Binary),
        )


class Lookup:
    """What distinct texts mean, as a table that is joined to lines. What a block has taught serves the next one."""

    def __init__(self, key: str, columns: dict[str, Any], work: Callable[[bytes], Sequence[object]]) -> None:
        """Take the column of the texts, the columns of what they mean, and how that is worked out."""
        self._mark = f"{key}_known"
        self._schema = {key: pl.Binary, **columns, self._mark: pl.Boolean}
        self._key = key
        self._work = work
        self._table = pl.DataFrame(schema=self._schema)

    def attach(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Return lines, in their order, with what their texts mean."""
        self._forget()
        return self._attached(lines, *self._look(lines))

    def attach_fields(self, lines: pl.DataFrame, notification: NotificationSlot) -> pl.DataFrame:
        """Do that for skeletons; where many are new, with the notification id taken out, into notification_here."""
        self._forget()
        found, new = self._look(lines)
        if len(new) * _CROWDED > lines.height:
            return self.attach(notification.take_out(lines))
        return self._attached(lines, found, new).with_columns(notification_here=pl.lit(None, pl.String))

    def _attached(self, lines: pl.DataFrame, found: pl.DataFrame, new: pl.Series) -> pl.DataFrame:
        if len(new):
            self._learn(new)
            found, _ = self._look(lines)
        return lines.hstack(found)

    def _forget(self) -> None:
        if self._table.height > _REMEMBERED:
            self._table = self._table.clear()

    def _look(self, lines: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        """Return what is known of the lines' texts, and those of which nothing is."""
        found = lines.select(self._key).join(self._table, on=self._key, how="left", maintain_order="left")
        known = found[self._mark]
        new = found.filter(known.is_null())[self._key].unique() if known.null_count() else known.clear()
        return found.drop(self._key, self._mark), new

    def _learn(self, texts: pl.Series) -> None:
        rows = [(text, *self._work(text), True) for text in texts]
        self._table = pl.concat([self._table, pl.DataFrame(rows, schema=self._schema, orient="row")])


def remember(memory: dict[bytes, _Value], keys: pl.Series, work: Callable[[bytes], _Value]) -> list[_Value]:
    """Return what each key stands for, worked out where the memory has it not."""
    if len(memory) > _REMEMBERED:
        memory.clear()
    values = []
    for key in keys:
        if key not in memory:
            memory[key] = work(key)
        values.append(memory[key])
    return values


def moments(memory: dict[bytes, int | None], stamps: pl.Series, rule: Callable[[str], int | None]) -> pl.DataFrame:
    """Return the microseconds of each distinct text, which bears its column's name with ``_us`` behind it."""
    distinct = stamps.unique()
    values = remember(memory, distinct, lambda text: rule(text.decode("ascii", "replace")))
    return pl.DataFrame({stamps.name: distinct, f"{stamps.name}_us": pl.Series(values, dtype=pl.Int64)})


def one_by_one(rest: pl.DataFrame, rule: Rule) -> tuple[pl.DataFrame, list[Refused], int]:
    """Return the events of lines (columns line, raw) in their order, what is refused, and how many are no more."""
    rows, refused, other = [], [], 0
    for line, raw in rest.iter_rows():
        try:
            event = rule(raw)
        except LineRefusedError as error:
            refused.append(Refused(line, error.reason, raw))
            continue
        if isinstance(event, Event):
            rows.append((line, *(getattr(event, name) for name in EVENT_COLUMNS)))
        else:
            other += 1
    return pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row"), refused, other
