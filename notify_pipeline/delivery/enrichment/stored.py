"""Enrichers that look into the ledger: what was told of users, of looks, and what earlier sends said.

Belongs here: the enrichers ``user`` and ``content``. Does not belong here: those of other processes (``http_calls``,
``functions``).
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from notify_pipeline.core.enrichers import EnricherSpec
from notify_pipeline.core.ledger import looks, requests
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.users import Profile, profiles
from notify_pipeline.delivery.enrichment.asking import one_id, scope
from notify_pipeline.delivery.enrichment.base import Findings, Need

# A route makes at most so many sends with fields of their own for each recipient (``core.route_sends.MAX_SENDS``).
MAX_USERS = 1_000


class UserEnricher:
    """What was told of the recipients, or of the user whom the event names elsewhere.

    Config: ``user``, an expression for that user's id; ``attributes``, names of those that are wanted (default: all).
    Finds for each user their attributes and, over these, ``user_id``, ``locale`` and ``timezone``; addresses are for
    channels, not for templates.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def enrich(self, spec: EnricherSpec, need: Need, users: Sequence[str], so_far: Mapping[str, Any]) -> Findings:
        """Find the users; of whom nothing was told there is the id."""
        wanted, who = spec.config.get("attributes"), spec.config.get("user")
        if who is not None:
            user = one_id(who, scope(need, so_far))
            return Findings() if user is None else Findings((await self._find(need.tenant, [user], wanted))[user])
        found = await self._find(need.tenant, users, wanted) if len(users) <= MAX_USERS else {}
        return Findings(next(iter(found.values())) if len(found) == 1 else None, found)

    async def _find(self, tenant: str, ids: Sequence[str], wanted: Collection[str] | None) -> dict[str, dict[str, Any]]:
        told = await asyncio.to_thread(profiles, self._ledger, tenant, ids)
        return {each: _shown(each, told.get(each, Profile()), wanted) for each in ids}


class ContentEnricher:
    """What the ledger knows of the event's subject.

    Config: ``look``, an expression for a look's id; or ``notification``, one for an earlier send's.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def enrich(self, spec: EnricherSpec, need: Need, users: Sequence[str], so_far: Mapping[str, Any]) -> Findings:
        """Find it; nothing where there is none."""
        kind = "look" if "look" in spec.config else "notification"
        wanted = one_id(spec.config[kind], scope(need, so_far))
        if wanted is None:
            return Findings()
        find = self._look if kind == "look" else self._notification
        return Findings(await asyncio.to_thread(find, need.tenant, wanted))

    def _look(self, tenant: str, look_id: str) -> dict[str, Any] | None:
        found = looks.get(self._ledger, tenant, look_id)
        if found is None:
            return None
        return _told(look_id=look_id, owner_id=found.owner_id, image_url=found.image_url, deep_link=found.deep_link)

    def _notification(self, tenant: str, notification_id: str) -> dict[str, Any] | None:
        found = requests.get_by_notification(self._ledger, tenant, notification_id)
        if found is None:
            return None
        content = found.body.get("content") or {}
        return _told(notification_id=notification_id, type=found.type, category=found.category, **content)


def _shown(user_id: str, told: Profile, wanted: Collection[str] | None) -> dict[str, Any]:
    attributes = told.attributes or {}
    if wanted is not None:
        attributes = {name: attributes[name] for name in wanted if name in attributes}
    return {**attributes, **_told(user_id=user_id, locale=told.locale, timezone=told.timezone)}


def _told(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
