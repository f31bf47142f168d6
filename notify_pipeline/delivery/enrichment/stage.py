"""The stage that enriches events: which enricher a spec means, how failures are retried.

Belongs here: running a route's enrichers for one event and judging what came of it. Does not belong here: the enrichers
themselves, claiming and storing (``event_router``).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.enrichment.base import Enriched, Failed, Need, Stage


@asynccontextmanager
async def open_stage(ctx: DeliveryContext) -> AsyncIterator[Stage]:
    """Open the stage inside the drain's event loop."""
    del ctx
    yield _Stage()


class _Stage:
    async def enrich(self, need: Need) -> Enriched:
        """Say that there is no such enricher: none is known yet."""
        names = sorted({spec.enricher for route in need.routes.values() for spec in route.specs})
        return Failed(f"there is no enricher {', '.join(names)}")
