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
from notify_pipeline.receipts.lines import Event, LineRefusedError
from notify_pipeline.receipts.skeletons import Fields
from notify_pipeline.receipts.vectors import (
    EVENT_COLUMNS,
    EVENT_SCHEMA,
    FIELD_NAMES,
    Lookup,
    NotificationSlot,
    ParsedBlock,
    Rule,
    are_ids,
)

# Lines that are cut hold none of these (LOWEST).
_ID_SLOT: Final = "\x01"
_NOTIFICATION_SLOT: Final = "\x02"
_ID_NAME: Final = "&d="
# Means itself, however often it is decoded.
_NOTIFICATION: Final = NotificationSlot(r"([?&\t]notificationId=)([A-Za-z0-9._~-]+)", 2, "${1}" + _NOTIFICATION_SLOT)
_SAMPLES: Final = (("0123456789abcdef0123456789abcdef01234567", "sample"), ("89abcdef" * 5, "other"))


def parse_columns(
    frame: pl.DataFrame,
    odd: pl.DataFrame,
    cut: Callable[[pl.DataFrame], Cut],
    fields: Lookup,
    rule: Rule,
    latest: int,
) -> ParsedBlock:
    """Parse lines.

    Args:
        frame: Columns line and raw, of plain lines (``vectors.split_lines``).
        odd: The same, of lines that are not.
        cut: Cuts the format's lines.
        fields: What requests mean (``fields_of``); grows.
        rule: The format's own, for what is left.
        latest: As for ``lines.parse_line``.
    """
    lines, other = frame.height + odd.height, 0
    found = pl.DataFrame(schema=EVENT_SCHEMA)
    if frame.height > vectors.FEW:
        parts = cut(frame)
        found, other = _events(parts.requests, fields, latest), parts.other
        missed = parts.requests.select("line").join(found.select("line"), on="line", how="anti")
        frame = pl.concat([parts.rest, missed.join(frame, on="line")]) if missed.height else parts.rest
    events, refused, more = vectors.one_by_one(pl.concat([frame, odd]).sort("line"), rule)
    merged = pl.concat([found, events]).sort("line") if events.height else found
    return ParsedBlock(merged.select(EVENT_COLUMNS), refused, lines, other + more)


def _events(requests: pl.DataFrame, fields: Lookup, latest: int) -> pl.DataFrame:
    """Return the events among requests; what is none for certain, or not for certain, is missing."""
    query = pl.col("query").cast(pl.Binary)
    end = pl.col("id_at") + DELIVERY_ID_LENGTH
    found = (
        requests.lazy()
        .with_columns(id_at=pl.col("query").str.find(_ID_NAME, literal=True).cast(pl.Int64) + len(_ID_NAME))
        .filter((pl.col("at") <= latest) & pl.col("id_at").is_not_null())
        .select(
            "line",
            "at",
            delivery_id=query.bin.slice("id_at", DELIVERY_ID_LENGTH).cast(pl.String),
            skeleton=pl.concat_str(
                "lead",
                query.bin.slice(0, pl.col("id_at")).cast(pl.String),
                pl.lit(_ID_SLOT),
                query.bin.slice(end, (query.bin.size().cast(pl.Int64) - end).clip(0)).cast(pl.String),
            ),
        )
        .with_columns(pl.col("skeleton").cast(pl.Binary))
        .collect(engine="in-memory")
    )
    found = found.filter(are_ids(found["delivery_id"]))
    return (
        fields.attach_fields(found, _NOTIFICATION)
        .filter(pl.col("event").is_not_null())
        .with_columns(notification_id=pl.coalesce("notification_here", "notification_id"))
        .select(*EVENT_SCHEMA)
    )


def fields_of(sample: Callable[[str], Event | None]) -> Lookup:
    """Return what a format's skeletons say; nulls for one that is no event for certain.

    Args:
        sample: Gives the event of a line that has this request and any time, None when it is none.
    """

    def work(skeleton: bytes) -> list[str | None]:
        found = _fields(skeleton.decode(), sample)
        return [None if found is None else getattr(found, name) for name in FIELD_NAMES]

    return Lookup("skeleton", dict.fromkeys(FIELD_NAMES, pl.String), work)


def _fields(skeleton: str, sample: Callable[[str], Event | None]) -> Fields | None:
    """Return what all requests of a kind have in common; None when it is not certain that they are events.

    Sound for the same reason as ``skeletons.parse_skeleton``: both fillings give back what was filled in.
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
