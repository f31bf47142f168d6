"""What is left of a line whose varying fields are taken out, and what it says about all lines that leave the same.

Belongs here: skeletons. Does not belong here: where lines are cut (``layouts``), what a line means (``lines``).
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from notify_pipeline.receipts.layouts import PIECES, Layout
from notify_pipeline.receipts.lines import Event, LineRefusedError, parse_line
from notify_pipeline.receipts.vectors import NotificationSlot

_FOREVER: Final = 2**63 - 1
# A notification id of these characters means itself in JSON and in a query string.
NOTIFICATION: Final = NotificationSlot(r"notificationId=([A-Za-z0-9._~-]+)", 1, "notificationId=\x01")
# Between the pieces of a skeleton. Raw control characters never stand in a line of JSON.
_JOINT: Final = "\x02"
# Two fillings: a field that gives back both of them is the slot, not a text that happened to be there.
_SAMPLES: Final = (
    ("2001-02-03T04:05:06Z", "0123456789abcdef0123456789abcdef01234567", "sample"),
    ("2002-03-04T05:06:07Z", "89abcdef0123456789abcdef0123456789abcdef", "other"),
)


@dataclass(frozen=True, slots=True)
class Fields:
    """What a skeleton says about all its lines. Without a notification id, each line has its own."""

    event: str
    notification_id: str | None
    platform: str
    provider: str
    action: str | None


def add_skeletons(layout: Layout, cut: pl.DataFrame) -> pl.DataFrame:
    """Put the pieces that vary into one binary column skeleton."""
    names = [name for name, text in zip(PIECES, layout.fixed, strict=True) if text is None]
    if len(names) == 1:
        cut = cut.rename({names[0]: "skeleton"})
    else:
        cut = cut.with_columns(
            skeleton=pl.concat_str(pl.col(names).cast(pl.String), separator=_JOINT).cast(pl.Binary)
        ).drop(names)
    return cut.filter(pl.col("skeleton").is_not_null())


def parse_skeleton(layout: Layout, skeleton: bytes) -> Fields | None:
    """Parse what a layout's lines have in common; None when they are not all events with our slots in the right fields.

    That is sound because a slot that holds a checked time, 40 hex digits or an unreserved notification id can be
    exchanged for another such value without changing what JSON or percent-decoding make of the rest.
    """
    first, second = (_filled(layout, skeleton, sample) for sample in _SAMPLES)
    return first if first == second else None


def head_quotes(layout: Layout, skeleton: bytes) -> int:
    """Return how many quotes a line has up to the joint."""
    head = _head(layout, skeleton, _SAMPLES[0])
    return 0 if head is None else head.count(b'"')


def _head(layout: Layout, skeleton: bytes, sample: tuple[str, str, str]) -> bytes | None:
    """Return what comes before the joint, its first quote too; without one, the whole line."""
    stamp, delivery_id, _ = sample
    varying = skeleton.split(_JOINT.encode())
    if len(varying) != layout.fixed.count(None):
        return None
    rest = iter(varying)
    before, between, after = (next(rest) if text is None else text for text in layout.fixed)
    slots = [stamp.encode(), delivery_id.encode()]
    if not layout.stamp_first:
        slots.reverse()
    return before + slots[0] + between + slots[1] + after


def _filled(layout: Layout, skeleton: bytes, sample: tuple[str, str, str]) -> Fields | None:
    stamp, delivery_id, notification = sample
    head = _head(layout, skeleton, sample)
    # Texts that stand there would be found there, and perhaps not where they should be.
    if head is None or any(text in head for text in layout.texts):
        return None
    line = head + (b"}" if layout.joint else b"")
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
