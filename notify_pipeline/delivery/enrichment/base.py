"""Enrichment as the router sees it: what it hands over, what it gets back, and what one enricher is.

Belongs here: those records and protocols. Does not belong here: enrichers, their retry and what counts as a failure for
good (beside this module), storing what came of it (``event_router``).

The way of an event: the router matches it; where a route that matches names enrichers, and the event has not been
enriched, the router counts the attempt in the ledger, hands a ``Need`` to the stage, and keeps the event's lease until
the answer is stored. ``Found`` stores the enrichment, and the event is routed with it: once, whatever is found.
``Again`` gives it back to the queue, due later. ``Failed`` makes it dead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from notify_pipeline.core.enrichers import EnricherSpec


@dataclass(frozen=True, slots=True)
class Findings:
    """What one enricher found: JSON values.

    Attributes:
        shared: The same for all recipients; null when there is nothing.
        recipients: By user id. A route with ``per_recipient`` makes a send for each recipient, and there the user's
            value takes the place of ``shared``.
    """

    shared: Any = None
    recipients: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteNeed:
    """What one route wants to know of an event.

    Attributes:
        specs: Its enrichers, in the order in which they run: a later one may use what earlier ones found.
        users: The recipients' user ids, as far as the event alone says who they are.
    """

    specs: tuple[EnricherSpec, ...]
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """One event to be enriched.

    Attributes:
        tenant: Whose.
        event_id: Ours.
        attempt_no: 1 for the first time; grows with each, also when a process died in between.
        event: As expressions see it: ``source``, ``type``, ``id``, ``detail``, ``recipients`` (null or an object of
            lists), ``accepted_at``.
        accepted_at: When the API took it.
        routes: What is wanted, by the name of the route.
    """

    tenant: str
    event_id: str
    attempt_no: int
    event: Mapping[str, Any]
    accepted_at: datetime
    routes: Mapping[str, RouteNeed]


@dataclass(frozen=True, slots=True)
class Found:
    """Everything was found: by route, by the enricher's name in it."""

    routes: Mapping[str, Mapping[str, Findings]]


@dataclass(frozen=True, slots=True)
class Again:
    """Something failed that may pass: the event is due again in ``after_s``; ``reason`` is shown with it meanwhile."""

    after_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It failed for good: the event is dead, with this reason."""

    reason: str


Enriched: TypeAlias = Found | Again | Failed


class Enricher(Protocol):
    """One source of what events lack. One instance serves many events at once."""

    async def enrich(self, spec: EnricherSpec, need: Need, users: Sequence[str], so_far: Mapping[str, Any]) -> Findings:
        """Find what a spec asks for.

        Args:
            spec: With the config that this enricher was checked with when the route was stored.
            need: The event.
            users: The route's recipients, see ``RouteNeed``.
            so_far: What the route's earlier enrichers found, by name: their ``shared``.

        Raises:
            Exception: It failed; which failures may pass is for the stage to know.
        """


class Stage(Protocol):
    """Runs enrichers for the router, many events at once in one event loop."""

    async def enrich(self, need: Need) -> Enriched:
        """Enrich one event, within a bounded time (``Settings.enrichment_timeout_s``). Never raises.

        It may be called again for an event that it enriched before: a process may have died before the answer was
        stored. Cancelled when the drain ends: then the event is as if it had not been handed over.
        """
