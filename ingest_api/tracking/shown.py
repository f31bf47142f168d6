"""Rows of the ledger and the lake as the tracking routes answer them.

Belongs here: from a row to the fields of its model. Does not belong here: finding rows (``routes``), the models.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ingest_api.endpoint import Call
from ingest_api.fields import fields_of
from ingest_api.tracking.models import AuditShown, RecipientShown
from notify_pipeline.core.ledger import audit, request_lists, requests
from notify_pipeline.reports.reading_attempts import RecipientRow
from notify_pipeline.reports.reading_messages import Message


def recipient(row: RecipientRow) -> Mapping[str, Any]:
    """Return a ``RecipientShown``."""
    return fields_of(RecipientShown, row)


def entry(row: audit.AuditRow) -> Mapping[str, Any]:
    """Return an ``AuditShown``."""
    return fields_of(AuditShown, row)


def message(found: Message) -> Mapping[str, Any]:
    """Return a ``MessageShown``."""
    request, last = found.request, found.last
    return {
        "request_id": request.request_id,
        "notification_id": request.notification_id,
        "type": request.type,
        "category": request.category,
        "title": (request.body.get("content") or {}).get("title"),
        **{name: last[name] for name in ("channel", "platform", "recipient", "delivery_id", "provider_code")},
        "outcome": found.outcome,
        "attempts": last["attempt_no"],
        "first_attempt_at": found.first["sent_at"],
        "last_attempt_at": last["sent_at"],
    }


def sends(call: Call, rows: Sequence[requests.RequestRow]) -> list[dict[str, Any]]:
    """Return ``RequestShown``s, with the times of their moves."""
    times = request_lists.times(call.services.ledger, [row.request_id for row in rows]) if rows else {}
    return [_send(row, times[row.request_id]) for row in rows]


def _send(row: requests.RequestRow, times: request_lists.Times) -> dict[str, Any]:
    return {
        "tenant": row.tenant,
        "request_id": row.request_id,
        "notification_id": row.notification_id,
        "state": row.state,
        "reason": row.reason,
        "mode": row.mode,
        "replay_of": row.replay_of,
        "type": row.type,
        "category": row.category,
        "priority": row.priority,
        "dry_run": row.body.get("dry_run", False),
        "accepted_at": row.accepted_at,
        "send_at": row.body.get("send_at"),
        "send_at_local": row.body.get("send_at_local"),
        "expires_at": row.expires_at,
        "routed_at": times.routed_at,
        "sending_at": times.sending_at,
        "ended_at": times.ended_at,
        "updated_at": row.updated_at,
        "status_url": f"/requests/{row.request_id}",
        "channels": row.counts,
    }
