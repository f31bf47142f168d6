"""Callbacks: registering where a tenant is told how its sends ended, and looking at what it was told.

Belongs here: the callback routes. Does not belong here: what is said (``core.ledger.callback_messages``), saying it
(``delivery``).
"""

from datetime import timedelta
from typing import Any

import orjson
from flask import Response

from ingest_api.callbacks.models import (
    CallbackChange,
    CallbackId,
    CallbackList,
    CallbackMade,
    CallbackMessagePage,
    CallbackMessageShown,
    CallbackShown,
    MessageId,
    MessageQuery,
    NewCallback,
    Rotation,
)
from ingest_api.endpoint import NO_STORE, Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, FieldError, conflict, not_found, unprocessable
from ingest_api.fields import fields_of
from ingest_api.keys import Access
from ingest_api.paging import cut, unpack_text
from notify_pipeline.core.addresses import url_fault
from notify_pipeline.core.ledger import callback_messages, callbacks
from notify_pipeline.core.ledger.callback_messages import Message
from notify_pipeline.core.ledger.callbacks import Callback

GROUP = Group("callbacks", "Signed messages to your own server when a send has ended.")
_NONE = "This tenant has no such callback."
_INACTIVE = "`callback_inactive`: it is told nothing until it is active again."


@GROUP.endpoint(
    "POST",
    "/callbacks",
    access=Access.SECRET,
    answers={201: Answer("Registered. The secret is shown once and cannot be read again.", CallbackMade)},
    errors={409: f"`too_many_callbacks`: a tenant has at most {callbacks.MAX_CALLBACKS}."},
)
def create_callback(call: Call, body: NewCallback) -> Response:
    """Register a callback.

    A signed message is posted to its URL when a send of this tenant, or of one of its organizations, has ended.
    Messages are repeated until they are answered with a 2xx, so one may come twice: its `webhook-id` is the same then.
    """
    _check_url(call, body.url)
    secret = body.secret or callbacks.new_secret()
    services = call.services
    try:
        made = callbacks.create(
            services.ledger, call.tenant, body.url, body.events, secret, call.actor, services.clock()
        )
    except callbacks.TooManyCallbacks as error:
        message = f"A tenant has at most {callbacks.MAX_CALLBACKS} callbacks."
        raise conflict("too_many_callbacks", message, "url") from error
    return answer(201, _shown(made) | {"secret": secret}, NO_STORE)


@GROUP.endpoint("GET", "/callbacks", access=Access.SECRET, answers={200: Answer("All of them.", CallbackList)})
def list_callbacks(call: Call) -> Response:
    """List callbacks.

    Those of the tenant itself: what an organization registered, its product's key sees when it acts for it.
    """
    found = callbacks.list_of(call.services.ledger, call.tenant)
    return answer(200, {"items": [_shown(each) for each in found], "next_cursor": None})


@GROUP.endpoint(
    "GET",
    "/callbacks/{callback_id}",
    access=Access.SECRET,
    answers={200: Answer("The callback.", CallbackShown)},
    errors={404: _NONE},
)
def show_callback(call: Call, callback_id: CallbackId) -> Response:
    """Show a callback."""
    return answer(200, _shown(_found(call, callback_id)))


@GROUP.endpoint(
    "PATCH",
    "/callbacks/{callback_id}",
    access=Access.SECRET,
    answers={200: Answer("The callback as it is now.", CallbackShown)},
    errors={404: _NONE},
)
def change_callback(call: Call, callback_id: CallbackId, body: CallbackChange) -> Response:
    """Change a callback.

    Made inactive it is told nothing more. Messages that waited have failed; each can be sent again by hand when it is
    active again. What is being sent at this moment may still arrive. Messages that wait go to a new URL.
    """
    changes = body.model_dump(exclude_none=True)
    if not changes:
        raise unprocessable(FieldError("body", "must change something"))
    if body.url is not None:
        _check_url(call, body.url)
    services = call.services
    changed = callbacks.change(services.ledger, call.tenant, callback_id, call.actor, services.clock(), **changes)
    if changed is None:
        raise _missing()
    return answer(200, _shown(changed))


@GROUP.endpoint(
    "DELETE", "/callbacks/{callback_id}", access=Access.SECRET, answers={204: Answer("Gone.")}, errors={404: _NONE}
)
def remove_callback(call: Call, callback_id: CallbackId) -> Response:
    """Remove a callback, and its messages with it."""
    services = call.services
    if not callbacks.remove(services.ledger, call.tenant, callback_id, call.actor, services.clock()):
        raise _missing()
    return empty()


@GROUP.endpoint(
    "POST",
    "/callbacks/{callback_id}/rotate",
    access=Access.SECRET,
    answers={200: Answer("The new secret, shown once.", CallbackMade)},
    errors={404: _NONE},
)
def rotate_secret(call: Call, callback_id: CallbackId, body: Rotation) -> Response:
    """Change the secret.

    For a while messages carry two signatures, of the new secret and of the one before it.
    """
    services = call.services
    now = services.clock()
    secret = body.secret or callbacks.new_secret()
    until = now + timedelta(seconds=body.overlap_s)
    changed = callbacks.rotate(services.ledger, call.tenant, callback_id, secret, until, call.actor, now)
    if changed is None:
        raise _missing()
    return answer(200, _shown(changed) | {"secret": secret}, NO_STORE)


@GROUP.endpoint(
    "POST",
    "/callbacks/{callback_id}/test",
    access=Access.SECRET,
    answers={202: Answer("It will be sent.", CallbackMessageShown)},
    errors={404: _NONE, 409: _INACTIVE},
)
def test_callback(call: Call, callback_id: CallbackId) -> Response:
    """Send a test message, `callback.test`, whatever events the callback is told of."""
    services = call.services
    try:
        queued = callback_messages.test(services.ledger, call.tenant, callback_id, call.actor, services.clock())
    except callback_messages.CallbackInactive as error:
        raise _inactive() from error
    if queued is None:
        raise _missing()
    return answer(202, _message(queued))


@GROUP.endpoint(
    "GET",
    "/callbacks/{callback_id}/messages",
    access=Access.SECRET,
    answers={200: Answer("A page, newest first.", CallbackMessagePage)},
    errors={404: _NONE},
)
def list_callback_messages(call: Call, callback_id: CallbackId, query: MessageQuery) -> Response:
    """List a callback's messages."""
    before = unpack_text(query.cursor)
    _found(call, callback_id)
    rows = callback_messages.page(
        call.services.ledger,
        callback_id,
        None if query.state is None else str(query.state),
        query.limit + 1,
        before,
    )
    page, cursor = cut(rows, query.limit, lambda row: (row.message_id,))
    return answer(200, {"items": [_message(row) for row in page], "next_cursor": cursor})


@GROUP.endpoint(
    "POST",
    "/callbacks/{callback_id}/messages/{message_id}/retry",
    access=Access.SECRET,
    answers={202: Answer("It will be sent again.", CallbackMessageShown)},
    errors={404: "This tenant has no such message.", 409: _INACTIVE},
)
def retry_message(call: Call, callback_id: CallbackId, message_id: MessageId) -> Response:
    """Send a message again, at once and with the same `webhook-id`.

    Its schedule begins anew. One that is being sent at this moment is left alone.
    """
    services = call.services
    try:
        queued = callback_messages.send_again(
            services.ledger, call.tenant, callback_id, message_id, call.actor, services.clock()
        )
    except callback_messages.CallbackInactive as error:
        raise _inactive() from error
    if queued is None:
        raise not_found("There is no such message.")
    return answer(202, _message(queued))


def _check_url(call: Call, url: str) -> None:
    fault = url_fault(url, call.services.settings.callback_allow_private)
    if fault is not None:
        raise unprocessable(FieldError("url", fault))


def _found(call: Call, callback_id: str) -> Callback:
    found = callbacks.get(call.services.ledger, call.tenant, callback_id)
    if found is None:
        raise _missing()
    return found


def _missing() -> ApiError:
    return not_found("There is no such callback.")


def _inactive() -> ApiError:
    return conflict("callback_inactive", "The callback is not active.", "callback_id")


def _shown(found: Callback) -> dict[str, Any]:
    return fields_of(CallbackShown, found)


def _message(found: Message) -> dict[str, Any]:
    return {**fields_of(CallbackMessageShown, found, "payload"), "payload": orjson.loads(found.payload)}
