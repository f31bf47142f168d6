"""What users say that they want to be sent.

Belongs here: the preference routes. Does not belong here: what tenants set for all their users (``policies``), the page
behind a message's link (``unsubscribe``), storing (``core.ledger.preferences``).
"""

from collections.abc import Mapping

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.fields import UserInPath
from ingest_api.keys import Access
from ingest_api.preferences.models import Preferences, PreferencesChange, PreferenceShown, PreferencesShown
from notify_pipeline.core.consents import Pair, Said
from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger import preferences
from notify_pipeline.core.ledger.preferences import Change

GROUP = Group("preferences", "What users want to be sent, by category and channel.")
_SHOWN = {200: Answer("All that the user said.", PreferencesShown)}


@GROUP.endpoint("GET", "/users/{user_id}/preferences", access=Access.USER, answers=_SHOWN)
def show_preferences(call: Call, user_id: UserInPath) -> Response:
    """Show what a user wants. Nothing, for a user who never said anything."""
    return _answer(user_id, preferences.get(call.services.ledger, call.tenant, _recipient(user_id)))


@GROUP.endpoint("PUT", "/users/{user_id}/preferences", access=Access.USER, answers=_SHOWN)
def replace_preferences(call: Call, user_id: UserInPath, body: Preferences) -> Response:
    """Say what a user wants, in the place of all that was said before.

    It holds for every provider call that begins after the answer, of sends too that were accepted before it. The user
    need not have been told of before.
    """
    return _change(call, user_id, body.pairs(), whole=True)


@GROUP.endpoint("PATCH", "/users/{user_id}/preferences", access=Access.USER, answers=_SHOWN)
def change_preferences(call: Call, user_id: UserInPath, body: PreferencesChange) -> Response:
    """Change some of what a user wants; null takes it back."""
    return _change(call, user_id, body.pairs(), whole=False)


def _change(call: Call, user_id: str, said: Mapping[Pair, bool | None], *, whole: bool) -> Response:
    services = call.services
    source = "api" if call.user_id is None else "user"
    change = Change(call.tenant, _recipient(user_id), said, source, call.actor, whole)
    return _answer(user_id, preferences.change(services.ledger, change, services.clock()))


def _recipient(user_id: str) -> str:
    return f"user:{user_id}"


def _answer(user_id: str, said: Mapping[Pair, Said]) -> Response:
    by_category: dict[str, dict[str, bool]] = {}
    details = []
    for (category, channel), each in sorted(said.items()):
        by_category.setdefault(category or "*", {})[channel or "*"] = each.enabled
        details.append(
            PreferenceShown(
                category=category or "*",
                channel=channel or "*",
                enabled=each.enabled,
                source=each.source,
                updated_at=from_micros(each.at),
            )
        )
    return answer(200, PreferencesShown(user_id=user_id, preferences=by_category, said=details))
