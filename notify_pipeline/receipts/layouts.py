"""Where the varying fields stand in a log's lines, how that is learnt, and how lines are cut there.

Belongs here: layouts and skeletons (a line with its varying fields taken out). Does not belong here: what a line means
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

# The date and time of a stamp; the rest of it is a fraction and a zone.
SECOND_LENGTH: Final = len("2026-11-21T06:33:00")
_DELIVERY_ID: Final = rf"^[0-9a-f]{{{DELIVERY_ID_LENGTH}}}$"
# A notification id of these characters means itself in JSON and in a query string.
_NOTIFICATION: Final = r"notificationId=([A-Za-z0-9._~-]+)"
_NOTIFICATION_HERE: Final = "notificationId=\x01"
# Above one distinct skeleton in so many lines, notification ids are taken out too, which costs two more passes.
_CROWDED: Final = 16
_FOREVER: Final = 2**63 - 1
_PIECES: Final = ("before", "between", "after")
# Between the pieces of a skeleton. Raw control characters never stand in a line of JSON.
_JOINT: Final = "\x02"
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
# The query string up to its closing quote, and that quote with the key after it.
_QUERY: Final = re.compile(rb'("querystring": ?"[^"\\]*(?="))(?=("(, ?"[A-Za-z0-9_.-]+":)))')
_OUR_KEYS: Final = ['"datetime"', '"event"', '"querystring"']
# Two fillings: a field that gives back both of them is the slot, not a text that happened to be there.
_SAMPLES: Final = (
    ("2001-02-03T04:05:06Z", "0123456789abcdef0123456789abcdef01234567", "sample"),
    ("2002-03-04T05:06:07Z", "89abcdef0123456789abcdef0123456789abcdef", "other"),
)


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
        fixed: The bytes before, between and after the two slots, where they are the same in every line.
    """

    stamp_at: int
    stamp_length: int
    id_at: int
    stamp_first: bool
    joint: bytes = b""
    tail: str = ""
    fixed: tuple[bytes | None, ...] = (None, None, None)

    @property
    def starts_fixed(self) -> bool:
        """True when the fixed first bytes end where the first slot begins, wherever the line ends."""
        return len(self.fixed[0] or b"") == (self.stamp_at if self.stamp_first else self.id_at)

    @property
    def ends_at_quote(self) -> bool:
        """True when the query string ends in the id: all that follows is its quote, which the joint begins with."""
        return self.joint != b"" and self.stamp_first and self.id_at == -DELIVERY_ID_LENGTH - 1


@dataclass(frozen=True, slots=True)
class Fields:
    """What a skeleton says about all its lines. Without a notification id, each line has its own."""

    event: str
    notification_id: str | None
    platform: str
    provider: str
    action: str | None


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
    whole = (len(raw), b"", "")
    return [
        Layout(stamp, len(event.stamp), identity, stamp_at < id_at, joint, tail)
        for end, joint, tail in (whole, *_cut_after_query(raw))
        for stamp in (stamp_at, stamp_at - end)
        for identity in (id_at, id_at - end)
    ]


def _cut_after_query(raw: bytes) -> Iterator[tuple[int, bytes, str]]:
    """Yield where a line is cut after its query string, the joint there and the form of the tail, if it has one."""
    match = _QUERY.search(raw)
    if match is None:
        return
    end = match.end(1) + 1
    tail = raw[end:].decode("ascii", "replace")
    keys = re.findall(_MEMBER, tail)
    form = "^" + "".join(re.escape(key) + _value_after(key) for key in keys) + r"\}$"
    if re.fullmatch(form, tail) and not any(name in key for name in _OUR_KEYS for key in keys):
        yield end, match[2], form


def _value_after(key: str) -> str:
    """Return the form of a member's value; a method and a status decide whether the line is a beacon."""
    name = key.split('"')[1]
    return _METHOD if name in METHOD_KEYS else _STATUS if name in STATUS_KEYS else VALUE


def choose(layouts: Iterable[Layout], sample: pl.DataFrame) -> Layout | None:
    """Return the layout, with its fixed bytes, that most of a sample (column raw) has; None if none has any."""
    fits = [(cut_lines(layout, sample), layout) for layout in layouts]
    fits = [(cut, layout) for cut, layout in fits if not cut.is_empty()]
    if not fits:
        return None
    cut, layout = max(fits, key=lambda fit: (fit[0].height, repr(fit[1])))
    return replace(layout, fixed=tuple(_fixed(cut[name]) for name in _PIECES))


def _fixed(piece: pl.Series) -> bytes | None:
    """Return the piece when all lines surely share it: one notification's lines also share what others' have not."""
    text: bytes = piece[0]
    return text if piece.n_unique() == 1 and not any(word in text for word in _VARYING) else None


def cut_lines(layout: Layout, lines: pl.DataFrame) -> pl.DataFrame:
    """Cut the lines that a layout may fit.

    Args:
        layout: Where to cut.
        lines: Columns raw, ASCII only, and any others.

    Returns:
        The other columns, delivery_id (checked), the binary columns second and zone (unchecked), and of before, between
        and after, what is left of the line, those that are not fixed. Lines that cannot have this layout are missing.
    """
    cuts = _Cuts(layout)
    raw, size = pl.col("raw"), pl.col("size")
    stamp, identity = _position(layout.stamp_at), _position(layout.id_at)
    ours = pl.col("delivery_id").str.contains(_DELIVERY_ID)
    if layout.joint:
        ours &= raw.bin.slice(size).cast(pl.String).str.contains(layout.tail)
    return (
        lines.lazy()
        .filter(raw.bin.size() <= MAX_LINE_BYTES)
        .with_columns(size=_end(layout.joint))
        .filter(cuts.fit)
        .with_columns(delivery_id=raw.bin.slice(identity, DELIVERY_ID_LENGTH).cast(pl.String))
        .filter(ours)
        .with_columns(
            second=raw.bin.slice(stamp, SECOND_LENGTH),
            zone=raw.bin.slice(stamp + SECOND_LENGTH, max(0, layout.stamp_length - SECOND_LENGTH)),
            **cuts.pieces,
        )
        .drop("raw", "size")
        .collect(engine="in-memory")
    )


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


def add_skeletons(layout: Layout, cut: pl.DataFrame) -> pl.DataFrame:
    """Put the pieces that vary into one binary column skeleton; notification_here holds the id where it was cut out."""
    names = [name for name, text in zip(_PIECES, layout.fixed, strict=True) if text is None]
    if len(names) == 1:
        cut = cut.rename({names[0]: "skeleton"})
    else:
        cut = cut.with_columns(
            skeleton=pl.concat_str(pl.col(names).cast(pl.String), separator=_JOINT).cast(pl.Binary)
        ).drop(names)
    crowded = cut["skeleton"].n_unique() * _CROWDED > cut.height
    if not crowded:
        return cut.with_columns(notification_here=pl.lit(None, pl.String)).filter(pl.col("skeleton").is_not_null())
    text = pl.col("skeleton").cast(pl.String)
    return cut.with_columns(
        notification_here=text.str.extract(_NOTIFICATION),
        skeleton=text.str.replace(_NOTIFICATION, _NOTIFICATION_HERE).cast(pl.Binary),
    ).filter(pl.col("skeleton").is_not_null())


def parse_skeleton(layout: Layout, skeleton: bytes) -> Fields | None:
    """Parse what a layout's lines have in common; None when they are not all events with our slots in the right fields.

    That is sound because a slot that holds a checked time, 40 hex digits or an unreserved notification id can be
    exchanged for another such value without changing what JSON or percent-decoding make of the rest.
    """
    first, second = (_filled(layout, skeleton, sample) for sample in _SAMPLES)
    return first if first == second else None


def _filled(layout: Layout, skeleton: bytes, sample: tuple[str, str, str]) -> Fields | None:
    stamp, delivery_id, notification = sample
    varying = skeleton.split(_JOINT.encode())
    if len(varying) != layout.fixed.count(None):
        return None
    rest = iter(varying)
    before, between, after = (next(rest) if text is None else text for text in layout.fixed)
    slots = [stamp.encode(), delivery_id.encode()]
    if not layout.stamp_first:
        slots.reverse()
    line = before + slots[0] + between + slots[1] + after + (b"}" if layout.joint else b"")
    here = line.count(b"\x01")
    if here > 1:
        return None
    try:
        event = parse_line(line.replace(b"\x01", notification.encode()), _FOREVER)
    except LineRefusedError:
        return None
    if not isinstance(event, Event) or (event.stamp, event.delivery_id) != (stamp, delivery_id):
        return None
    if here and event.notification_id != notification:
        return None
    notification_id = None if here else event.notification_id
    return Fields(event.event, notification_id, event.platform, event.provider, event.action)


def _end(joint: bytes) -> pl.Expr:
    """Return where the part of the line that is cut ends: after the query string's closing quote, or at the end."""
    raw = pl.col("raw")
    if not joint:
        return raw.bin.size().cast(pl.Int64)
    return raw.cast(pl.String).str.find(joint.decode(), literal=True).cast(pl.Int64) + 1


def _position(at: int) -> pl.Expr:
    return pl.lit(at, pl.Int64) if at >= 0 else pl.col("size") + at
