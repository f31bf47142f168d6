"""Events: looking at them, and routing them again.

Belongs here: those routes. Does not belong here: posting (``routes``), the replay itself
(``core.ledger.event_replays``).
"""

from typing import Any

from flask import Response

from ingest_api import replaying
from ingest_api.endpoint import Answer, Call, answer
from ingest_api.errors import not_found, unprocessable
from ingest_api.events.listing import (
    EventPage,
    EventQuery,
    EventReplayAnswer,
    EventShown,
    NewEventReplay,
    OwnIdQuery,
)
from ingest_api.events.routes import GROUP
from ingest_api.fields import NotificationId, fields_of
from ingest_api.inputs import check_order, read_idempotency_key
from ingest_api.keys import Access
from ingest_api.paging import following, unpack_text
from notify_pipeline.core.ledger import event_lists, event_replays, event_rows
from notify_pipeline.core.ledger.event_rows import EventRow
from notify_pipeline.core.ledger.replay_keys import KeyReused

__all__ = ["GROUP"]

_UNKNOWN = "There are no such events as some of these; nothing was replayed."


@GROUP.endpoint("GET", "/events", access=Access.SECRET, answers={200: Answer("A page, newest first.", EventPage)})
def list_events(call: Call, query: EventQuery) -> Response:
    """List events.

    `state=unrouted` and `state=dead` are what somebody has to look at. A filter that hardly anything fits can give a
    page that is short, or empty, and yet has a `next_cursor`.
    """
    check_order(query.since, query.until)
    after = unpack_text(query.cursor)
    rows, position = event_lists.page(
        call.services.ledger,
        call.reads(query.include_organizations),
        query.wanted,
        query.limit,
        None if after is None else (after, after),
    )
    cursor = None if position is None else following((position[1],))
    return answer(200, {"items": [_shown(row) for row in rows], "next_cursor": cursor})


@GROUP.endpoint(
    "GET",
    "/events/{event_id}",
    access=Access.SECRET,
    answers={200: Answer("The event.", EventShown)},
    errors={404: "Neither this tenant nor an organization of it has such an event."},
)
def show_event(call: Call, event_id: NotificationId, query: OwnIdQuery) -> Response:
    """Show an event.

    By our id, or with `source` by the tenant's own. A product's key also sees its organizations', by our id.
    """
    ledger = call.services.ledger
    if query.source is not None:
        found = event_rows.get_by_own(ledger, call.tenant, query.source, event_id)
    else:
        found = event_rows.get(ledger, call.reads(True), event_id)
    if found is None:
        raise not_found("There is no such event.")
    return answer(200, _shown(found))


@GROUP.endpoint(
    "POST",
    "/events/replay",
    access=Access.SECRET,
    headers=replaying.KEY_HEADER,
    answers={
        202: Answer(
            "They will be routed again.",
            EventReplayAnswer,
            replaying.ANSWER_HEADERS,
        )
    },
    errors={
        404: "This tenant has not all of the events; nothing was replayed.",
        409: "`key_reused`: the key was used before, for another replay.",
    },
)
def replay_events(call: Call, body: NewEventReplay) -> Response:
    """Route events again.

    Those that no route matched, or that are dead: by the routes as they are then, and enriched anew. What they send
    counts from now. An event that was routed is refused: its sends are made, and are never made twice.
    """
    if faults := list(body.faults()):
        raise unprocessable(*faults)
    check_order(body.filter.since, body.filter.until, "filter.until")
    asked = event_replays.EventReplay(
        tenant=call.tenant,
        actor=call.actor,
        now=call.services.clock(),
        ids=tuple(dict.fromkeys(body.ids)) or None,
        wanted=body.filter.wanted,
        limit=body.limit,
        key=read_idempotency_key(call.request),
    )
    try:
        done = event_replays.replay(call.services.ledger, asked)
    except event_replays.UnknownEvents as error:
        raise replaying.unknown(body.ids, error.event_ids, _UNKNOWN, "is no event of this tenant") from error
    except KeyReused as error:
        raise replaying.key_reused() from error
    return answer(202, done.answer, [replaying.REPEATED] if done.repeated else ())


def _shown(row: EventRow) -> dict[str, Any]:
    return fields_of(EventShown, row)
