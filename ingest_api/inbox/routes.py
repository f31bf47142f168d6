"""Inboxes: what users find in the app, whatever reached their devices.

Belongs here: the inbox routes. Does not belong here: storing (``core.ledger.inbox``), what puts items there
(``notifications``, likes), live updates (the gateway).
"""

from typing import Any

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, not_found
from ingest_api.fields import RequestId, UserInPath
from ingest_api.inbox.models import AllRead, InboxQuery, InboxShown, ItemRead, ReadAll, UnreadCount
from ingest_api.keys import Access
from ingest_api.paging import cut, unpack_text
from notify_pipeline.core.ledger import inbox, inbox_changing
from notify_pipeline.core.ledger.inbox import InboxItem

GROUP = Group("inbox", "What users find in the app, whatever reached their devices.")
_NONE = {404: "The user's inbox has no such item (any more)."}


@GROUP.endpoint(
    "GET", "/inbox/{user_id}", access=Access.USER, answers={200: Answer("A page, newest first.", InboxShown)}
)
def list_inbox(call: Call, user_id: UserInPath, query: InboxQuery) -> Response:
    """List a user's inbox.

    Newest first; items that come meanwhile do not move the pages that follow. A user of whom nothing is known has an
    empty one.
    """
    found = inbox.page(
        call.services.ledger,
        call.tenant,
        user_id,
        call.services.clock(),
        unread=query.unread,
        category=query.category,
        limit=query.limit + 1,
        before=unpack_text(query.cursor),
    )
    items, cursor = cut(found.items, query.limit, lambda item: (item.item_id,))
    payload = {"items": list(map(_shown, items)), "unread_count": found.unread_count, "next_cursor": cursor}
    return answer(200, payload)


@GROUP.endpoint(
    "GET",
    "/inbox/{user_id}/unread-count",
    access=Access.USER,
    answers={200: Answer("How many items are unread.", UnreadCount)},
)
def count_unread(call: Call, user_id: UserInPath) -> Response:
    """Count a user's unread items."""
    number = inbox.count_unread(call.services.ledger, call.tenant, user_id, call.services.clock())
    return answer(200, {"unread_count": number})


@GROUP.endpoint(
    "POST",
    "/inbox/{user_id}/{item_id}/read",
    access=Access.USER,
    answers={200: Answer("It is read, since this call or an earlier one.", ItemRead)},
    errors=_NONE,
)
def read_item(call: Call, user_id: UserInPath, item_id: RequestId) -> Response:
    """Mark an item as read.

    The user's other clients are told over their WebSockets. An item that was read before keeps the time of the first.
    """
    services = call.services
    changed = inbox_changing.read(services.ledger, call.tenant, user_id, item_id, services.clock())
    if changed is None or changed.item is None:
        raise _none()
    return answer(200, {"item": _shown(changed.item), "unread_count": changed.unread_count})


@GROUP.endpoint(
    "POST",
    "/inbox/{user_id}/read-all",
    access=Access.USER,
    answers={200: Answer("They are read.", AllRead)},
)
def read_all_items(call: Call, user_id: UserInPath, body: ReadAll) -> Response:
    """Mark all items as read, or all up to one.

    Asking again changes nothing. The user's other clients are told over their WebSockets.
    """
    services = call.services
    changed = inbox_changing.read_all(services.ledger, call.tenant, user_id, body.through, services.clock())
    return answer(200, {"read": changed.number, "unread_count": changed.unread_count})


@GROUP.endpoint(
    "DELETE",
    "/inbox/{user_id}/{item_id}",
    access=Access.USER,
    answers={204: Answer("Deleted.")},
    errors=_NONE,
)
def delete_item(call: Call, user_id: UserInPath, item_id: RequestId) -> Response:
    """Delete an item.

    It does not come back, whatever is sent again. The user's other clients are told over their WebSockets.
    """
    services = call.services
    if not inbox_changing.remove(services.ledger, call.tenant, user_id, item_id, services.clock()):
        raise _none()
    return empty()


def _shown(item: InboxItem) -> dict[str, Any]:
    return inbox.as_json(item)


def _none() -> ApiError:
    return not_found("The user's inbox has no such item.")
