"""Events: accepting them.

Belongs here: the routes that take events. Does not belong here: following and replaying them (``following``), routes
that turn them into sends (``event_routes``), dedup and storage (``core.ledger.events``), routing (``delivery``).
"""

import json
from datetime import datetime

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import ApiError, FieldError, conflict, unprocessable
from ingest_api.events.models import EventAccepted, EventBulkAnswer, NewEvent, NewEventBulk
from ingest_api.fields import NOTIFICATION_ID_LENGTH, NotificationId
from ingest_api.inputs import read_idempotency_key, read_json
from ingest_api.keys import Access
from notify_pipeline.core.ledger import events
from notify_pipeline.core.ledger.events import AcceptedEvent, EventIdReused

GROUP = Group("events", "What happened, whoever may be told of it: routes make sends of events.")
_REPLAYED = ("Idempotent-Replayed", "true")


@GROUP.endpoint(
    "POST",
    "/events",
    access=Access.SECRET,
    headers={"Idempotency-Key": (NotificationId, "The same as `id` in the body; when both are given they must agree.")},
    answers={
        202: Answer(
            "It is durable and will be routed.",
            EventAccepted,
            {"Idempotent-Replayed": "`true` when this id was accepted before."},
        )
    },
    errors={409: "`id_reused`: this source used this id before, with another body."},
)
def post_event(call: Call, body: NewEvent) -> Response:
    """Post an event.

    Answers once the event is durable. It is then held against the tenant's routes; each that matches makes a send. One
    that no route matches is kept, and can be replayed once there is one. The same id of the same source with the same
    body is one event, however often it is posted.
    """
    new = _new(call, body, _own_id(call, body), call.services.clock())
    try:
        accepted = events.accept(call.services.ledger, new)
    except EventIdReused as error:
        raise _refused(error) from error
    return answer(202, _shown(accepted), [_REPLAYED] if accepted.duplicate else ())


@GROUP.endpoint(
    "POST",
    "/events/bulk",
    access=Access.SECRET,
    headers={
        "Idempotency-Key": (NotificationId, "Names what has no `id` of its own: `<key>:<its place, counted from 0>`.")
    },
    answers={
        200: Answer("Each item has its own result, in their order; what was accepted is durable.", EventBulkAnswer)
    },
)
def post_events(call: Call, body: NewEventBulk) -> Response:
    """Post many events.

    All that are valid are stored in one transaction. Each gets the result that it would have got from `POST /events`,
    had they been posted one after another: its `status` says which.
    """
    now, header = call.services.clock(), read_idempotency_key(call.request)
    made: list[events.NewEvent | ApiError] = []
    for place, item in enumerate(body.events):
        try:
            event = read_json(json.dumps(item).encode(), NewEvent)
            made.append(_new(call, event, _item_id(event, header, place), now))
        except ApiError as error:
            made.append(error)
    news = [each for each in made if isinstance(each, events.NewEvent)]
    accepted = iter(events.accept_many(call.services.ledger, news))
    results = [_result(each if isinstance(each, ApiError) else next(accepted)) for each in made]
    return answer(200, {"results": results})


def _new(call: Call, body: NewEvent, own_id: str | None, now: datetime) -> events.NewEvent:
    if faults := list(body.faults(call.services.settings.max_audience_list)):
        raise unprocessable(*faults)
    recipients = None if body.recipients is None else body.recipients.stored
    return events.NewEvent(call.tenant, body.source, body.type, body.detail, now, call.actor, own_id, recipients)


def _own_id(call: Call, body: NewEvent) -> str | None:
    header = read_idempotency_key(call.request)
    if header is not None and body.id is not None and body.id != header:
        raise unprocessable(FieldError("id", "must be the same as the Idempotency-Key header"))
    return body.id if header is None else header


def _item_id(event: NewEvent, header: str | None, place: int) -> str | None:
    if event.id is not None or header is None:
        return event.id
    made = f"{header}:{place}"
    if len(made) > NOTIFICATION_ID_LENGTH:
        raise unprocessable(FieldError("Idempotency-Key", f"must leave room for :{place}"))
    return made


def _result(found: AcceptedEvent | Exception) -> dict[str, object]:
    if isinstance(found, AcceptedEvent):
        return {"status": 202, **_shown(found)}
    refused = found if isinstance(found, ApiError) else _refused(found)
    return {"status": refused.status, **refused.envelope}


def _refused(error: Exception) -> ApiError:
    """Return what the caller is told of an event that was not accepted; what is none of their doing is raised."""
    if isinstance(error, EventIdReused):
        return conflict("id_reused", "This source used this id before, with another body.", "id")
    raise error


def _shown(accepted: AcceptedEvent) -> dict[str, object]:
    return {
        "event_id": accepted.event_id,
        "source": accepted.source,
        "id": accepted.id,
        "state": "accepted",
        "status_url": f"/events/{accepted.event_id}",
        "duplicate": accepted.duplicate,
    }
