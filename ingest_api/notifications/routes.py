"""Sends: accepting, editing and cancelling them.

Belongs here: the routes that change something about sends. Does not belong here: following them (``tracking``), what is
stored of them (``making``), dedup and storage (``core.ledger.accepting``), delivery.
"""

import json
from datetime import datetime

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import ApiError, FieldError, conflict, not_found, unavailable, unprocessable
from ingest_api.fields import NOTIFICATION_ID_LENGTH, NotificationId
from ingest_api.inputs import read_idempotency_key, read_json
from ingest_api.keys import Access
from ingest_api.notifications.answers import BulkAnswer, SendAccepted, SendChanged
from ingest_api.notifications.making import edited, new_request
from ingest_api.notifications.models import NewBulk, NewSend, SendEdit
from ingest_api.notifications.storing import REPLAYED, REPLAYED_HEADER, accepted, refused
from notify_pipeline.core.ids import new_id
from notify_pipeline.core.ledger import changing, requests
from notify_pipeline.core.ledger.accepting import Accepted, NewRequest, accept_many
from notify_pipeline.core.vocabulary import RequestState

GROUP = Group("notifications", "Sends.")
_UNKNOWN = "This tenant has no such notification."
_STARTED = "`already_started`: it is being sent; `already_ended`: it was. The message says where it stands."
_NOT_EDITABLE = "`not_editable`: it is for visitors, or a replay of a send to a domain."
# An edit begins anew when another one came between; that many at once are a mistake.
_EDIT_TRIES = 10


@GROUP.endpoint(
    "POST",
    "/notifications",
    access=Access.SECRET,
    headers={"Idempotency-Key": (NotificationId, "The same as `id` in the body; when both are given they must agree.")},
    answers={
        202: Answer("It is durable and will be sent.", SendAccepted, REPLAYED_HEADER),
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
    found = accepted(call, new)
    return answer(202, _shown(found), [REPLAYED] if found.duplicate else ())


@GROUP.endpoint(
    "POST",
    "/notifications/bulk",
    access=Access.SECRET,
    headers={
        "Idempotency-Key": (NotificationId, "Names what has no `id` of its own: `<key>:<its place, counted from 0>`.")
    },
    answers={200: Answer("Each item has its own result, in their order; what was accepted is durable.", BulkAnswer)},
)
def send_bulk(call: Call, body: NewBulk) -> Response:
    """Send many notifications.

    All that are valid are stored in one transaction. Each gets the result that it would have got from
    `POST /notifications`, had they been posted one after another: its `status` says which.
    """
    now, header = call.services.clock(), read_idempotency_key(call.request)
    made: list[NewRequest | ApiError] = []
    for place, item in enumerate(body.notifications):
        try:
            send = read_json(json.dumps(item).encode(), NewSend)
            made.append(new_request(call, send, _item_id(send, header, place), now))
        except ApiError as error:
            made.append(error)
    news = [each for each in made if isinstance(each, NewRequest)]
    found = iter(accept_many(call.services.ledger, news))
    results = [_result(each if isinstance(each, ApiError) else next(found), now) for each in made]
    return answer(200, {"results": results})


def _item_id(send: NewSend, header: str | None, place: int) -> str:
    if send.id is not None or header is None:
        return send.id or new_id()
    made = f"{header}:{place}"
    if len(made) > NOTIFICATION_ID_LENGTH:
        raise unprocessable(FieldError("Idempotency-Key", f"must leave room for :{place}"))
    return made


def _result(found: Accepted | Exception, now: datetime) -> dict[str, object]:
    if isinstance(found, Accepted):
        return {"status": 202, **_shown(found)}
    error = found if isinstance(found, ApiError) else refused(found, now)
    return {"status": error.status, **error.envelope}


@GROUP.endpoint(
    "PATCH",
    "/notifications/{notification_id}",
    access=Access.SECRET,
    answers={200: Answer("It is changed.", SendChanged)},
    errors={
        404: _UNKNOWN,
        409: f"{_STARTED} {_NOT_EDITABLE}",
        503: "The ledger cannot take it now, or `edited_meanwhile`: others keep editing it. Ask again.",
    },
)
def edit_notification(call: Call, notification_id: NotificationId, body: SendEdit) -> Response:
    """Edit a send that has not started.

    Anything but its id and the kind of its audience. The whole is validated as a new send would be. Without `send_at`
    it was due when it was accepted, so that only one that waits for something can still be edited. A repetition of the
    POST that made it still gets its first answer.
    """
    ledger, now = call.services.ledger, call.services.clock()
    for _ in range(_EDIT_TRIES):
        row = requests.get_by_notification(ledger, call.tenant, notification_id)
        if row is None:
            raise not_found("There is no such notification.")
        if row.state is not RequestState.ACCEPTED:
            raise _too_late(row.state)
        try:
            changing.edit(ledger, row, edited(call, row, body, now), now)
        except changing.EditedMeanwhile:
            continue
        except changing.AlreadyStarted as error:
            raise _too_late(error.state) from error
        return _changed(row.request_id, notification_id, row.state)
    raise unavailable("edited_meanwhile", "Others keep editing this notification. Ask again.")


@GROUP.endpoint(
    "DELETE",
    "/notifications/{notification_id}",
    access=Access.SECRET,
    answers={200: Answer("It is cancelled, by this call or an earlier one: nobody gets it.", SendChanged)},
    errors={404: _UNKNOWN, 409: _STARTED},
)
def cancel_notification(call: Call, notification_id: NotificationId) -> Response:
    """Cancel a send that has not started.

    Either it is cancelled and nobody gets it, or it has started and the answer is 409. Its id stays used.
    """
    try:
        request_id = changing.cancel(
            call.services.ledger, call.tenant, notification_id, call.actor, call.services.clock()
        )
    except changing.AlreadyStarted as error:
        raise _too_late(error.state) from error
    if request_id is None:
        raise not_found("There is no such notification.")
    return _changed(request_id, notification_id, RequestState.CANCELLED)


def _too_late(state: RequestState) -> ApiError:
    code = "already_ended" if state.is_final else "already_started"
    return conflict(code, f"It is too late: its state is {state}.", "state")


def _changed(request_id: str, notification_id: str, state: RequestState) -> Response:
    payload = {
        "request_id": request_id,
        "notification_id": notification_id,
        "state": state,
        "status_url": f"/requests/{request_id}",
    }
    return answer(200, payload)


def _notification_id(call: Call, body: NewSend) -> str:
    """Return the id from the body, the header, or a new one."""
    header = read_idempotency_key(call.request)
    if header is None:
        return body.id or new_id()
    if body.id is not None and body.id != header:
        raise unprocessable(FieldError("id", "must be the same as the Idempotency-Key header"))
    return header


def _shown(accepted: Accepted) -> dict[str, object]:
    return {
        "request_id": accepted.request_id,
        "notification_id": accepted.notification_id,
        "state": "accepted",
        "status_url": f"/requests/{accepted.request_id}",
        "duplicate": accepted.duplicate,
    }
