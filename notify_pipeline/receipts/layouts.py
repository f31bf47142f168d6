"""Where the varying fields stand in a log's lines, how that is learnt, and how lines are cut there.

Belongs here: layouts. Does not belong here: what is left of a line that is cut (``skeletons``), what a line means
(``lines``), the parse of a whole block (``fast``).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from notify_pipeline.core.ids import DELIVERY_ID_LENGTH
from notify_pipeline.receipts.lines import (
    MAX_LINE_BYTES,
    METHOD_KEYS,
    METHODS,
    STATUS_KEYS,
    Event,
    LineRefusedError,
    parse_line,
)
from notify_pipeline.receipts.vectors import are_ids

# The date and time of a stamp; the rest of it is a fraction and a zone.
SECOND_LENGTH: Final = len("2026-11-21T06:33:00")
PIECES: Final = ("before", "between", "after")
# Without a closer look at the block.
CLEAN: Final = ~pl.col("raw").cast(pl.String).str.contains(r"[\x00-\x1f\\]")
# A piece that holds one of these differs between notifications, even if not in the sample; ``between`` the slots always
# holds the path or the query's name at least.
_VARYING: Final = (b"/notification/", b"notificationId", b"platform", b"provider")
# Members of a flat JSON object without escapes or control characters: valid for certain.
KEY: Final = r'"[^"\\\x00-\x1f]*": ?'
VALUE: Final = r'("[^"\\\x00-\x1f]*"|true|false|null|-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?)'
# Of these, the values with which a request is a beacon for certain.
_METHOD: Final = "(null|" + "|".join(f'"{method}"' for method in METHODS) + ")"
_STATUS: Final = '(null|[1-3][0-9]{2}|499|"([0-3][0-9]{2}|499)")'
_MEMBER: Final = r'(, ?"[A-Za-z0-9_.-]+": ?)(?:"[^"\\\x00-\x1f]*"|[^",{}\[\]]+)'
_MEMBERS: Final = re.compile(r'(, ?"[A-Za-z0-9_.-]+": ?)(?:("[^"]*")|[^",{}\[\]]+)')
# The end of a line whose last value is a text.
_END: Final = b'"}'
# Where two texts of a layout would share a quote, which is no JSON; and an ending that shares one with the last.
_SHARED: Final = '":","'
_SHARED_END: Final = b'":"}'
# The query string up to its closing quote, and that quote with the key after it.
_QUERY: Final = re.compile(rb'("querystring": ?"[^"\\]*(?="))(?=("(, ?"[A-Za-z0-9_.-]+":)))')
_OUR_KEYS: Final = ['"datetime"', '"event"', '"querystring"']
# Where a line is cut after its query string, the joint, the form of what follows, and its texts.
_Ending = tuple[int, bytes, str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the time and the delivery id stand in a line, and what surrounds them.

    Attributes:
        stamp_at: Where the time begins; a negative position counts from the line's end.
        stamp_length: Its length with fraction and zone.
        id_at: Where the delivery id begins, likewise.
        stamp_first: Whether the time comes before the id.
        joint: The closing quote of the query string and the key after it, where the line is first cut between the two:
            what follows (status, user agent, address) differs in length and kind. Empty when the line is taken whole.
        tail: A regular expression that what follows must match: the same keys as in the sample, with plain values.
        texts: What follows the first value that may be any text, which the joint goes up to: each further key, with the
            quote before it and its value's opening one. Finding them is less work than matching ``tail``, and says the
            same of lines that have no other quotes. Empty when some value is no text.
        fixed: The bytes before, between and after the two slots, where they are the same in every line.
    """

    stamp_at: int
    stamp_length: int
    id_at: int
    stamp_first: bool
    joint: bytes = b""
    tail: str = ""
    texts: tuple[bytes, ...] = ()
    fixed: tuple[bytes | None, ...] = (None, None, None)

    @property
    def starts_fixed(self) -> bool:
        """True when the fixed first bytes end where the first slot begins, wherever the line ends."""
        return len(self.fixed[0] or b"") == (self.stamp_at if self.stamp_first else self.id_at)

    @property
    def ends_at_quote(self) -> bool:
        """True when the query string ends in the id: all that follows is its quote, which the joint begins with."""
        return self.joint != b"" and self.stamp_first and self.id_at == -DELIVERY_ID_LENGTH - 1

    @property
    def tail_quotes(self) -> int:
        """How many quotes follow the query string's closing one, at least and in a line of JSON at most."""
        return b"".join((self.joint, *self.texts, _END)).count(b'"') - 1


def layouts_of(raw: bytes, latest: int) -> list[Layout]:
    """Return the layouts that one line may be an example of; none unless it is an event."""
    try:
        event = parse_line(raw, latest)
    except LineRefusedError:
        return []
    if not isinstance(event, Event):
        return []
    stamp_at, id_at = raw.find(event.stamp.encode()), raw.rfind(event.delivery_id.encode())
    if stamp_at < 0 or id_at < 0:
        return []
    whole: _Ending = (len(raw), b"", "", ())
    return [
        Layout(stamp, len(event.stamp), identity, stamp_at < id_at, joint, tail, texts)
        for end, joint, tail, texts in (whole, *_cut_after_query(raw))
        for stamp in (stamp_at, stamp_at - end)
        for identity in (id_at, id_at - end)
    ]


def _cut_after_query(raw: bytes) -> Iterator[_Ending]:
    """Yield where a line is cut after its query string, the joint there, the form of the tail, and its texts."""
    match = _QUERY.search(raw)
    if match is None:
        return
    end = match.end(1) + 1
    tail = raw[end:].decode("ascii", "replace")
    keys = re.findall(_MEMBER, tail)
    form = "^" + "".join(re.escape(key) + _value_after(key) for key in keys) + r"\}$"
    if re.fullmatch(form, tail) and not any(name in key for name in _OUR_KEYS for key in keys):
        yield end, match[2], form, ()
        if len(set(keys)) == len(keys) and (texts := _texts(tail)):
            lead = tail.index(texts[0]) + len(texts[0])
            yield end, b'"' + tail[:lead].encode(), form, tuple(f'"{text}'.encode() for text in texts[1:])


def _texts(tail: str) -> list[str]:
    """Return the last keys with commas, colons and opening quotes, where all of their values may be any text."""
    texts: list[str] = []
    for key, value in reversed(_MEMBERS.findall(tail)):
        name = key[2:-2]
        if not value or " " in key or name in METHOD_KEYS or name in STATUS_KEYS:
            break
        texts.insert(0, f'{key}"')
    return texts if tail.encode().endswith(_END) else []


def _value_after(key: str) -> str:
    """Return the form of a member's value; a method and a status decide whether the line is a beacon."""
    name = key.split('"')[1]
    return _METHOD if name in METHOD_KEYS else _STATUS if name in STATUS_KEYS else VALUE


def choose(layouts: Iterable[Layout], sample: pl.DataFrame) -> Layout | None:
    """Return the layout, with its fixed bytes, that most of a sample (column raw) has; None if none has any.

    One with texts is taken if half as many have it: another for the others costs less.
    """
    fits = [(cut_lines(layout, sample, CLEAN), layout) for layout in layouts]
    fits = [(cut, layout) for cut, layout in fits if not cut.is_empty()]
    if not fits:
        return None
    cut, layout = max(fits, key=lambda fit: (fit[0].height * (2 if fit[1].texts else 1), repr(fit[1])))
    return replace(layout, fixed=tuple(_fixed(cut[name]) for name in PIECES))


def _fixed(piece: pl.Series) -> bytes | None:
    """Return the piece when all lines surely share it: one notification's lines also share what others' have not."""
    text: bytes = piece[0]
    return text if piece.n_unique() == 1 and not any(word in text for word in _VARYING) else None


def cut_lines(layout: Layout, lines: pl.DataFrame, clean: pl.Expr) -> pl.DataFrame:
    """Cut the lines that a layout may fit.

    Args:
        layout: Where to cut.
        lines: Columns raw, as ``vectors.split_lines`` returns plain ones, and any others.
        clean: Tells which lines hold no backslash and no control character.

    Returns:
        The other columns, delivery_id (checked), the binary columns second and zone (unchecked), and of before, between
        and after, what is left of the line, those that are not fixed. Lines that cannot have this layout are missing.
        Of a layout with texts, lines may have more quotes than these do.
    """
    cuts = _Cuts(layout)
    raw = pl.col("raw")
    stamp, identity = _position(layout.stamp_at), _position(layout.id_at)
    cut = (
        lines.lazy()
        .filter(raw.bin.size() <= MAX_LINE_BYTES)
        .with_columns(size=_end(layout.joint))
        .filter(cuts.fit & _tail_fits(layout, clean))
        .with_columns(
            delivery_id=raw.bin.slice(identity, DELIVERY_ID_LENGTH).cast(pl.String),
            second=raw.bin.slice(stamp, SECOND_LENGTH),
            zone=raw.bin.slice(stamp + SECOND_LENGTH, max(0, layout.stamp_length - SECOND_LENGTH)),
            **cuts.pieces,
        )
        .drop("raw", "size")
        .collect(engine="in-memory")
    )
    ours = are_ids(cut["delivery_id"])
    return cut if ours.all() else cut.filter(ours)


def _tail_fits(layout: Layout, clean: pl.Expr) -> pl.Expr:
    raw = pl.col("raw")
    if not layout.texts:
        tail = raw.bin.slice(pl.col("size")).cast(pl.String)
        return tail.str.contains(layout.tail) if layout.joint else pl.lit(True)
    text = raw.cast(pl.String).str
    fits = clean & raw.bin.ends_with(_END) & ~raw.bin.ends_with(_SHARED_END) & ~text.contains(_SHARED, literal=True)
    for one in layout.texts:
        fits &= text.contains(one.decode(), literal=True)
    return fits


class _Cuts:
    """What varies of a line (``pieces``), and whether it is long enough and else the same (``fit``)."""

    def __init__(self, layout: Layout) -> None:
        raw, size = pl.col("raw"), pl.col("size")
        slots = [
            (_position(layout.stamp_at), layout.stamp_length),
            (_position(layout.id_at), DELIVERY_ID_LENGTH),
        ]
        if not layout.stamp_first:
            slots.reverse()
        (first, first_length), (second, second_length) = slots
        middle, last = first + first_length, second + second_length
        pieces = {
            "before": raw.bin.slice(0, first),
            "between": raw.bin.slice(middle, (size * 0 + second - middle).clip(0)),
            "after": raw.bin.slice(last, (size - last).clip(0)),
        }
        # Sizes on both sides, because polars takes no condition that is about constants alone.
        self.fit = (size >= last) & (size + first >= size) & (size + middle <= size + second)
        self.pieces = {}
        for (name, piece), text in zip(pieces.items(), layout.fixed, strict=True):
            if text is None:
                self.pieces[name] = piece
            elif name == "before" and layout.starts_fixed:
                self.fit &= raw.bin.starts_with(text)
            elif not (name == "after" and layout.ends_at_quote):
                self.fit &= piece == pl.lit(text)


def _end(joint: bytes) -> pl.Expr:
    """Return where the part of the line that is cut ends: after the query string's closing quote, or at the end."""
    raw = pl.col("raw")
    if not joint:
        return raw.bin.size().cast(pl.Int64)
    return raw.cast(pl.String).str.find(joint.decode(), literal=True).cast(pl.Int64) + 1


def _position(at: int) -> pl.Expr:
    return pl.lit(at, pl.Int64) if at >= 0 else pl.col("size") + at
