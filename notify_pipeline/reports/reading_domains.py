"""What became of a domain's messages: the ledger's counts beside what browsers reported.

Belongs here: the figures of messages that somebody has found (``core.ledger.domain_messages``). Does not belong here:
figures of whole periods (``reading_domain_stats``), single recipients (``reading_recipients``), HTTP.

Two sources, and no figure mixes them. How many were sent, delivered and not delivered is what providers said, from the
request's counts: live and exact. What browsers reported is from the published reports, as far as the logs are read. So
a browser may report what its provider never confirmed: it counts as received, stays under not delivered, and is
counted in ``accepted_by_beacon`` too, so that the two can be reconciled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import duckdb

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger.domain_messages import counts_of
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.reading import ReportReader

# The end of a range is exclusive; moments are microseconds.
_RESOLUTION = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Reported:
    """What browsers reported of one message, or of several.

    Attributes:
        accepted_by_beacon: Deliveries that only a beacon proves: received, but not confirmed by the provider.
        received: Deliveries with a received beacon.
        clicked: Deliveries with a clicked beacon, however often and on whatever.
        action_clicks: Deliveries by the action that was clicked; one that clicked two counts for both. Actions that
            nobody clicked are missing.
    """

    accepted_by_beacon: int = 0
    received: int = 0
    clicked: int = 0
    action_clicks: Mapping[str, int] = field(default_factory=dict)


NOTHING = Reported()


@dataclass(frozen=True, slots=True)
class MessageFigures:
    """The figures of one message: ``delivered`` and ``not_delivered`` make up ``sent``, whatever is pending.

    Attributes:
        sent: Recipients that are finished.
        delivered: Those that a provider accepted.
        not_delivered: The others.
        pending: Recipients that are not finished.
        reported: What browsers reported by ``received_through``.
        received_through: How far the logs have been read; None before any report.
    """

    sent: int
    delivered: int
    not_delivered: int
    pending: int
    reported: Reported
    received_through: datetime | None


def of_message(reader: ReportReader, message: RequestRow) -> MessageFigures:
    """Return the figures of one message."""
    return of_messages(reader, [message])[0]


def of_messages(reader: ReportReader, messages: Sequence[RequestRow]) -> list[MessageFigures]:
    """Return the figures of one tenant's messages, in their order; the reports are asked once for all of them."""
    reported, through = _reported(reader, messages)
    found = []
    for message in messages:
        counts = counts_of([message])
        mine = reported.get(message.notification_id, NOTHING)
        found.append(MessageFigures(counts.sent, counts.delivered, counts.not_delivered, counts.pending, mine, through))
    return found


def _reported(reader: ReportReader, messages: Sequence[RequestRow]) -> tuple[dict[str, Reported], datetime | None]:
    """Return what is reported by message, and how far. Those that have no report yet are missing."""
    if not messages:
        return {}, None
    moments = [message.accepted_at for message in messages]
    wanted = {
        "tenant": messages[0].tenant,
        "ids": [message.notification_id for message in messages],
        "first_at": min(moments),
        "last_at": max(moments),
    }
    with reader.cursor(min(moments), max(moments) + _RESOLUTION) as cursor:
        if cursor is None:
            return {}, None
        rows = cursor.execute(sql_text(__file__, "messages_reported.sql"), wanted).fetchall()
        clicks: dict[str, dict[str, int]] = {}
        for notification_id, action, clicked in actions(cursor, "actions_of_messages.sql", wanted):
            clicks.setdefault(notification_id, {})[action] = clicked
        found = {row[0]: Reported(row[1], row[2], row[3], clicks.get(row[0], {})) for row in rows}
        return found, received_through(cursor)


def actions(cursor: duckdb.DuckDBPyConnection, query: str, wanted: Mapping[str, object]) -> list[tuple[Any, str, int]]:
    """Return rows of clicks by action; none from a version that was published before actions were counted."""
    try:
        return cursor.execute(sql_text(__file__, query), wanted).fetchall()
    except duckdb.CatalogException:
        return []


def received_through(cursor: duckdb.DuckDBPyConnection) -> datetime | None:
    """Return how far the logs had been read."""
    rows = cursor.execute("SELECT epoch_us(received_through) FROM main.build").fetchall()
    return None if not rows or rows[0][0] is None else from_micros(rows[0][0])
