"""Looks, and who likes them.

Belongs here: those routes. Does not belong here: storing (``core.ledger.looks``), telling owners (events and their
routes).
"""

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, not_found
from ingest_api.fields import UserInPath, fields_of
from ingest_api.keys import Access
from ingest_api.looks.models import LikeShown, LookId, LookShown, NewLike, NewLook
from notify_pipeline.core.ledger import likes, looks

GROUP = Group("looks", "Looks, and who likes them: their owners are told.")
_STORED = {200: Answer("The stored look.", LookShown)}
_NO_LOOK = {404: "There is no such look."}


@GROUP.endpoint("PUT", "/looks/{look_id}", access=Access.SECRET, answers=_STORED)
def replace_look(call: Call, look_id: LookId, body: NewLook) -> Response:
    """Tell of a look, in the place of what was told before."""
    services = call.services
    new = looks.NewLook(call.tenant, look_id, body.owner_id, body.image_url, body.deep_link)
    return answer(200, fields_of(LookShown, looks.put(services.ledger, new, call.actor, services.clock())))


@GROUP.endpoint("GET", "/looks/{look_id}", access=Access.SECRET, answers=_STORED, errors=_NO_LOOK)
def show_look(call: Call, look_id: LookId) -> Response:
    """Show a look."""
    found = looks.get(call.services.ledger, call.tenant, look_id)
    if found is None:
        raise _no_look()
    return answer(200, fields_of(LookShown, found))


@GROUP.endpoint(
    "DELETE", "/looks/{look_id}", access=Access.SECRET, answers={204: Answer("Forgotten.")}, errors=_NO_LOOK
)
def delete_look(call: Call, look_id: LookId) -> Response:
    """Forget a look.

    Who liked it is kept: if it is told of again, nobody is told of the same like twice.
    """
    services = call.services
    if not looks.remove(services.ledger, call.tenant, look_id, call.actor, services.clock()):
        raise _no_look()
    return empty()


@GROUP.endpoint("POST", "/likes", access=Access.SECRET, answers={202: Answer("The like.", LikeShown)}, errors=_NO_LOOK)
def like_look(call: Call, body: NewLike) -> Response:
    """Like a look.

    In one transaction the like is stored, an item put into the owner's inbox, and the event `like.created` of the
    source `likes` accepted, which the route `likes` makes a send of. The same like again gets the first answer, with
    `duplicate`, and nobody is told of it again; nor is anybody of an owner's own.
    """
    services = call.services
    new = likes.NewLike(call.tenant, body.look_id, body.customer_id, call.actor, services.clock())
    try:
        liked = likes.like(services.ledger, new)
    except likes.NoSuchLook as error:
        raise _no_look() from error
    return answer(202, fields_of(LikeShown, liked))


@GROUP.endpoint(
    "DELETE",
    "/looks/{look_id}/likes/{customer_id}",
    access=Access.SECRET,
    answers={204: Answer("Taken back.")},
    errors={404: "There is no such like."},
)
def unlike_look(call: Call, look_id: LookId, customer_id: UserInPath) -> Response:
    """Take a like back.

    What the owner was told stays; if the same user likes it again, the owner is not told again.
    """
    services = call.services
    if not likes.unlike(services.ledger, call.tenant, look_id, customer_id, call.actor, services.clock()):
        raise not_found("There is no such like.")
    return empty()


def _no_look() -> ApiError:
    return not_found("There is no such look.")
