"""Sends: accepting them.

Belongs here: the routes that change something about sends. Does not belong here: following them (``tracking``), what is
stored of them (``making``), dedup and storage (``core.ledger.accepting``), delivery.
"""

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import FieldError, conflict, unprocessable
from ingest_api.fields import NotificationId
from ingest_api.inputs import read_idempotency_key
from ingest_api.keys import Access
from ingest_api.limits.keeping import quota_exceeded
from ingest_api.notifications.making import new_request
from ingest_api.notifications.models import NewSend, SendAccepted
from notify_pipeline.core.ids import new_id
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.ledger.usage import QuotaExceeded

GROUP = Group("notifications", "Sends.")
_REPLAYED = ("Idempotent-Replayed", "true")


@GROUP.endpoint(
    "POST",
    "/notifications",
    access=Access.SECRET,
    headers={"Idempotency-Key": (NotificationId, "The same as `id` in the body; when both are given they must agree.")},
    answers={
        202: Answer(
            "It is durable and will be sent.",
            SendAccepted,
            {"Idempotent-Replayed": "`true` when this id was accepted before."},
        )
    },
    errors={409: "`id_reused`: this id was used before, with another body."},
)
def send_notification(call: Call, body: NewSend) -> Response:
    """Send a notification.

    Answers once the send is durable. The same id with the same body is sent once, however often it is posted.

    Title, body and the values of data may hold `[[[user_id]]]`, `[[[locale]]]`, `[[[timezone]]]` and
    `[[[app_version]]]`: each recipient gets what its registration knows, or nothing in their place. Another name in
    such brackets is refused. A recipient whose payload becomes too large for its provider fails as
    `payload_too_large`; the others get theirs.
    """
    new = new_request(call, body, _notification_id(call, body), call.services.clock())
    try:
        accepted = requests.accept(call.services.ledger, new)
    except requests.IdReused as error:
        raise conflict("id_reused", "This id was used before, with another body.", "id") from error
    except QuotaExceeded as error:
        raise quota_exceeded(error, new.accepted_at) from error
    return _accepted(accepted)


def _notification_id(call: Call, body: NewSend) -> str:
    """Return the id from the body, the header, or a new one."""
    header = read_idempotency_key(call.request)
    if header is None:
        return body.id or new_id()
    if body.id is not None and body.id != header:
        raise unprocessable(FieldError("id", "must be the same as the Idempotency-Key header"))
    return header


def _accepted(accepted: requests.Accepted) -> Response:
    payload = {
        "request_id": accepted.request_id,
        "notification_id": accepted.notification_id,
        "state": "accepted",
        "status_url": f"/requests/{accepted.request_id}",
        "duplicate": accepted.duplicate,
    }
    return answer(202, payload, [_REPLAYED] if accepted.duplicate else ())
