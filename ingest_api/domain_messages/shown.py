"""Messages and their events as the routes answer them, and a message as a line of CSV.

Belongs here: from what was read to the fields of a model. Does not belong here: reading it (``reading``), the models
(``answers``).
"""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson

from ingest_api.domain_messages.answers import ContactEvent, MessageDetails, MessageEvent
from ingest_api.endpoint import Call
from notify_pipeline.core.ledger import request_lists
from notify_pipeline.core.ledger.contact_names import ContactName
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.vocabulary import Outcome
from notify_pipeline.reports import reading_domains
from notify_pipeline.reports.reading_attempts import RecipientRow
from notify_pipeline.reports.reading_domains import MessageFigures
from notify_pipeline.reports.reading_messages import Message

# What spreadsheets read as a formula, also behind a tab or a line's end.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
CSV_TYPE = "text/csv; charset=utf-8"
CSV_COLUMNS = (
    "domain",
    "messageId",
    "title",
    "body",
    "type",
    "state",
    "reason",
    "acceptedAt",
    "sendAt",
    "finishedAt",
    "sent",
    "delivered",
    "notDelivered",
    "pending",
    "acceptedByBeacon",
    "received",
    "clicked",
    "actionClicks",
    "receivedThrough",
)


def details(call: Call, rows: Sequence[RequestRow]) -> list[MessageDetails]:
    """Return what became of messages of one tenant, in their order: two questions and one more, however many."""
    if not rows:
        return []
    services = call.services
    times = request_lists.times(services.ledger, [row.request_id for row in rows])
    figures = reading_domains.of_messages(services.reports, rows)
    return [_details(row, times[row.request_id].ended_at, mine) for row, mine in zip(rows, figures, strict=True)]


def _details(row: RequestRow, ended_at: datetime | None, figures: MessageFigures) -> MessageDetails:
    content, reported = row.body.get("content") or {}, figures.reported
    return MessageDetails(
        domain=row.body["domain"],
        message_id=row.notification_id,
        title=content.get("title"),
        body=content.get("body"),
        type=row.type,
        state=row.state,
        reason=row.reason,
        accepted_at=row.accepted_at,
        send_at=row.body.get("send_at"),
        finished_at=ended_at,
        sent=figures.sent,
        delivered=figures.delivered,
        not_delivered=figures.not_delivered,
        pending=figures.pending,
        accepted_by_beacon=reported.accepted_by_beacon,
        received=reported.received,
        clicked=reported.clicked,
        action_clicks=dict(reported.action_clicks),
        received_through=figures.received_through,
    )


def contact_event(row: RecipientRow, contact: ContactName | None) -> ContactEvent:
    """Return what became of a message for a contact; None where the contact has another address since."""
    return ContactEvent(
        device_token=row.recipient if contact is None else contact.device_token,
        visitor_guid=None if contact is None else contact.visitor_guid,
        **_event(row.outcome, row.provider_code, row.last_attempt_at),
    )


def message_event(found: Message) -> MessageEvent:
    """Return what became of one of a contact's messages."""
    request, last = found.request, found.last
    return MessageEvent(
        message_id=request.notification_id,
        domain=request.body.get("domain"),
        title=(request.body.get("content") or {}).get("title"),
        **_event(found.outcome, last["provider_code"], last["sent_at"]),
    )


def _event(outcome: str | None, provider_code: str | None, at: datetime | None) -> dict[str, Any]:
    success = None if outcome is None else outcome == Outcome.ACCEPTED
    return {"success": success, "details": provider_code or outcome, "outcome": outcome, "at": at}


def csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as CSV (RFC 4180), in UTF-8; no spreadsheet takes a cell of them for a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def csv_row(shown: MessageDetails) -> list[object]:
    """Return a message's cells, one for each of ``CSV_COLUMNS``."""
    values = shown.model_dump(mode="json", by_alias=True)
    return [values[name] for name in CSV_COLUMNS]


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
