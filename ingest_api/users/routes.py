"""What a tenant tells of its users: addresses, language, time zone, attributes, and quiet hours.

Belongs here: the user routes. Does not belong here: storing (``core.ledger.users``), the tenant's own quiet hours
(``policies``), what follows for a send (``delivery``).
"""

from typing import Any

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, not_found
from ingest_api.fields import UserInPath, fields_of
from ingest_api.keys import Access
from ingest_api.policies.models import stored
from ingest_api.users.models import UserProfile, UserQuietHours, UserQuietHoursShown, UserShown
from notify_pipeline.core.ledger import users

GROUP = Group("users", "What is told of users, beyond their devices.")
_UNTOLD = {404: "Nothing was told of such a user; devices may name one all the same."}
_NONE = {404: "The user has no quiet hours of their own."}
_QUIET = {200: Answer("The user's own quiet hours.", UserQuietHoursShown)}


@GROUP.endpoint("PUT", "/users/{user_id}", access=Access.SECRET, answers={200: Answer("The stored user.", UserShown)})
def replace_user(call: Call, user_id: UserInPath, body: UserProfile) -> Response:
    """Tell of a user, in the place of what was told before.

    The user need not have been told of before, nor have a device. Quiet hours stay as they are.
    """
    services = call.services
    profile = users.Profile(**body.model_dump())
    return answer(200, _shown(users.put(services.ledger, call.tenant, user_id, profile, call.actor, services.clock())))


@GROUP.endpoint(
    "PATCH",
    "/users/{user_id}",
    access=Access.SECRET,
    answers={200: Answer("The stored user.", UserShown)},
    errors=_UNTOLD,
)
def change_user(call: Call, user_id: UserInPath, body: UserProfile) -> Response:
    """Change what is given of a user; null takes it away. Attributes are replaced as a whole."""
    services = call.services
    changed = users.change(services.ledger, call.tenant, user_id, body.given(), call.actor, services.clock())
    if changed is None:
        raise not_found("Nothing was told of such a user.")
    return answer(200, _shown(changed))


@GROUP.endpoint(
    "GET",
    "/users/{user_id}",
    access=Access.SECRET,
    answers={200: Answer("The stored user.", UserShown)},
    errors=_UNTOLD,
)
def show_user(call: Call, user_id: UserInPath) -> Response:
    """Show what was told of a user."""
    found = users.get(call.services.ledger, call.tenant, user_id)
    if found is None:
        raise not_found("Nothing was told of such a user.")
    return answer(200, _shown(found))


@GROUP.endpoint("PUT", "/users/{user_id}/quiet-hours", access=Access.SECRET, answers=_QUIET)
def set_user_quiet_hours(call: Call, user_id: UserInPath, body: UserQuietHours) -> Response:
    """Set a user's own quiet hours.

    They take the place of the tenant's for this user. Sends wait for their end, unless they say otherwise.
    """
    ledger, now = call.services.ledger, call.services.clock()
    user = users.put_quiet_hours(ledger, call.tenant, user_id, stored(body), call.actor, now)
    return answer(200, user.quiet_hours)


@GROUP.endpoint("GET", "/users/{user_id}/quiet-hours", access=Access.SECRET, answers=_QUIET, errors=_NONE)
def show_user_quiet_hours(call: Call, user_id: UserInPath) -> Response:
    """Show a user's own quiet hours."""
    found = users.get(call.services.ledger, call.tenant, user_id)
    if found is None or found.quiet_hours is None:
        raise _none()
    return answer(200, found.quiet_hours)


@GROUP.endpoint(
    "DELETE", "/users/{user_id}/quiet-hours", access=Access.SECRET, answers={204: Answer("Removed.")}, errors=_NONE
)
def remove_user_quiet_hours(call: Call, user_id: UserInPath) -> Response:
    """Remove a user's own quiet hours; the tenant's apply again."""
    ledger, now = call.services.ledger, call.services.clock()
    if not users.remove_quiet_hours(ledger, call.tenant, user_id, call.actor, now):
        raise _none()
    return empty()


def _shown(user: users.StoredUser) -> dict[str, Any]:
    profile = user.profile.values()
    return {**fields_of(UserShown, user, *profile), **profile}


def _none() -> ApiError:
    return not_found("The user has no quiet hours of their own.")
