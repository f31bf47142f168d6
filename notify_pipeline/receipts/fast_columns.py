"""A block of lines in columns (CloudFront's, combined) parsed with vector operations, exactly as line by line.

Belongs here: what such formats share: time, delivery id and all else is taken out of a line, and of what is left, of
which there are few kinds, each is parsed once by the format's own rule. Does not belong here: how a format's lines are
cut (``cuts``), what a line means (``w3c``, ``combined``).

Users' addresses, agents and so on differ in nearly every line, but say nothing about a beacon: a cut leaves them out.
"""

from collections.abc import Callable
from typing import Final

import polars as pl

from notify_pipeline.core.ids import DELIVERY_ID_LENGTH
from notify_pipeline.receipts import vectors
from notify_pipeline.receipts.cuts import Cut
from notify_pipeline.receipts.layouts import Fields
from notify_pipeline.receipts.lines import Event, LineRefusedError
from notify_pipeline.receipts.vectors import EVENT_COLUMNS, EVENT_SCHEMA, FIELD_NAMES, ParsedBlock, Rule

# Requests do not hold these; one that does is left to the format's rule.
_ID_SLOT: Final = "\x01"
_NOTIFICATION_SLOT: Final = "\x02"
_ID_NAME: Final = "&d="
_DELIVERY_ID: Final = rf"^[0-9a-f]{{{DELIVERY_ID_LENGTH}}}$"
# Means itself, however often it is decoded.
_NOTIFICATION: Final = r"([?&\t]notificationId=)([A-Za-z0-9._~-]+)"
# Above one distinct request in so many lines, notification ids are taken out too, which costs two more passes.
_CROWDED: Final = 16
_SAMPLES: Final = (("0123456789abcdef0123456789abcdef01234567", "sample"), ("89abcdef" * 5, "other"))


def parse_columns(
    frame: pl.DataFrame,
    odd: pl.DataFrame,
    cut: Callable[[pl.DataFrame], Cut],
    known: dict[bytes, Fields | None],
    rule: Rule,
    sample: Callable[[str], Event | None],
    latest: int,
) -> ParsedBlock:
    """Parse lines.

    Args:
        frame: Columns line and raw, ASCII.
        odd: The same, of lines that are not.
        cut: Cuts the format's lines.
        known: What requests mean; grows.
        rule: The format's own, for what is left.
        sample: Gives the event of a line that has this request and any time, None when it is none.
        latest: As for ``lines.parse_line``.
    """
    lines, other = frame.height + odd.height, 0
    found = pl.DataFrame(schema=EVENT_SCHEMA)
    if frame.height > vectors.FEW:
        parts = cut(frame)
        found, other = _events(parts.requests, known, sample, latest), parts.other
        missed = parts.requests.select("line").join(found.select("line"), on="line", how="anti")
        frame = pl.concat([parts.rest, missed.join(frame, on="line")]) if missed.height else parts.rest
    events, refused, more = vectors.one_by_one(pl.concat([frame, odd]).sort("line"), rule)
    merged = pl.concat([found, events]).sort("line") if events.height else found
    return ParsedBlock(merged.select(EVENT_COLUMNS), refused, lines, other + more)


def _events(
    requests: pl.DataFrame, known: dict[bytes, Fields | None], sample: Callable[[str], Event | None], latest: int
) -> pl.DataFrame:
    """Return the events among requests; what is none for certain, or not for certain, is missing."""
    request = pl.col("request")
    found = (
        requests.lazy()
        .filter((pl.col("at") <= latest) & ~request.str.contains(_NOTIFICATION_SLOT, literal=True))
        .with_columns(id_at=request.str.find(_ID_NAME, literal=True).cast(pl.Int64) + len(_ID_NAME))
        .with_columns(
            before=request.cast(pl.Binary).bin.slice(0, pl.col("id_at")).cast(pl.String),
            delivery_id=request.cast(pl.Binary).bin.slice(pl.col("id_at"), DELIVERY_ID_LENGTH).cast(pl.String),
            after=request.cast(pl.Binary).bin.slice(pl.col("id_at") + DELIVERY_ID_LENGTH).cast(pl.String),
        )
        .filter(pl.col("delivery_id").str.contains(_DELIVERY_ID))
        .select(
            "line",
            "at",
            "delivery_id",
            skeleton=pl.concat_str("before", pl.lit(_ID_SLOT), "after"),
            notification_here=pl.lit(None, pl.String),
        )
        .collect(engine="in-memory")
    )
    if found["skeleton"].n_unique() * _CROWDED > found.height:
        found = found.with_columns(
            notification_here=pl.col("skeleton").str.extract(_NOTIFICATION, 2),
            skeleton=pl.col("skeleton").str.replace(_NOTIFICATION, "${1}" + _NOTIFICATION_SLOT),
        )
    distinct = found["skeleton"].unique()
    values = vectors.remember(known, distinct.cast(pl.Binary), lambda raw: _fields(raw.decode(), sample))
    meaning = {
        name: pl.Series([value and getattr(value, name) for value in values], dtype=pl.String) for name in FIELD_NAMES
    }
    return (
        found.join(pl.DataFrame({"skeleton": distinct, **meaning}), on="skeleton", how="left", maintain_order="left")
        .filter(pl.col("event").is_not_null())
        .with_columns(notification_id=pl.coalesce("notification_here", "notification_id"))
        .select(*EVENT_SCHEMA)
    )


def _fields(skeleton: str, sample: Callable[[str], Event | None]) -> Fields | None:
    """Return what all requests of a kind have in common; None when it is not certain that they are events.

    Sound for the same reason as ``layouts.parse_skeleton``: both fillings give back what was filled in.
    """
    found = {_filled(skeleton, sample, *filling) for filling in _SAMPLES}
    return found.pop() if len(found) == 1 else None


def _filled(skeleton: str, sample: Callable[[str], Event | None], delivery_id: str, notification: str) -> Fields | None:
    slots = (skeleton.count(_ID_SLOT), skeleton.count(_NOTIFICATION_SLOT))
    if slots not in ((1, 0), (1, 1)):
        return None
    event = sample(skeleton.replace(_ID_SLOT, delivery_id).replace(_NOTIFICATION_SLOT, notification))
    if event is None or event.delivery_id != delivery_id:
        return None
    has_own = slots[1] == 1
    if has_own and event.notification_id != notification:
        return None
    notification_id = None if has_own else event.notification_id
    return Fields(event.event, notification_id, event.platform, event.provider, event.action)


def event_or_none(parse: Callable[[], object]) -> Event | None:
    """Return what parsing gives if it is an event."""
    try:
        event = parse()
    except LineRefusedError:
        return None
    return event if isinstance(event, Event) else None
