"""The stage that enriches events: which enricher a spec means, how failures are retried.

Belongs here: running a route's enrichers for one event and judging what came of it. Does not belong here: the enrichers
themselves, claiming and storing (``event_router``).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from notify_pipeline.core.enrichers import CONTENT, HTTP, PYTHON, USER, EnricherSpec
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.enrichment.base import (
    Again,
    Enriched,
    Enricher,
    Failed,
    Findings,
    Found,
    Need,
    RouteNeed,
    Stage,
)
from notify_pipeline.delivery.enrichment.failures import ForGood, MayPass, place_of
from notify_pipeline.delivery.enrichment.functions import PythonEnricher
from notify_pipeline.delivery.enrichment.http_calls import HttpEnricher
from notify_pipeline.delivery.enrichment.stored import ContentEnricher, UserEnricher

log = logging.getLogger(__name__)

# Of everything found for one event, as JSON: it is a row of the ledger.
MAX_BYTES = 1_048_576
# Past this exponent any wait is longer than its cap.
_MAX_DOUBLINGS = 32


@asynccontextmanager
async def open_stage(ctx: DeliveryContext) -> AsyncIterator[Stage]:
    """Open the stage inside the drain's event loop."""
    async with HttpEnricher(ctx.settings, ctx.clock) as http:
        ledger = ctx.ledger
        known: dict[str, Enricher] = {
            USER: UserEnricher(ledger),
            CONTENT: ContentEnricher(ledger),
            HTTP: http,
            PYTHON: PythonEnricher(),
        }
        yield EnrichmentStage(ctx, known)


class EnrichmentStage:
    """Runs enrichers, one after the other for a route and routes side by side."""

    def __init__(self, ctx: DeliveryContext, known: Mapping[str, Enricher]) -> None:
        self._ctx = ctx
        self._known = known

    async def enrich(self, need: Need) -> Enriched:
        """Enrich one event; see ``Stage``."""
        try:
            async with asyncio.timeout(self._ctx.settings.enrichment_timeout_s):
                found = await self._routes(need)
        except MayPass as error:
            return self._again(need, str(error), error.after_s)
        except ForGood as error:
            return Failed(str(error))
        except TimeoutError:
            return self._again(need, "timeout", 0.0)
        except Exception as error:
            log.error("enriching %s broke: %s at %s", need.event_id, type(error).__name__, place_of(error))
            return self._again(need, "internal", 0.0)
        return found

    async def _routes(self, need: Need) -> Found | Failed:
        ended = await asyncio.gather(
            *(self._route(need, route) for route in need.routes.values()), return_exceptions=True
        )
        failures = [each for each in ended if isinstance(each, BaseException)]
        if failures:
            # What fails for good is no better for waiting for the others.
            raise next((each for each in failures if isinstance(each, ForGood)), failures[0])
        found = {name: each for name, each in zip(need.routes, ended, strict=True) if isinstance(each, dict)}
        size = sum(len(orjson.dumps([each.shared, each.recipients])) for of in found.values() for each in of.values())
        if size > MAX_BYTES:
            return Failed(f"enrichment found {size} bytes as JSON; {MAX_BYTES} are allowed")
        return Found(found)

    async def _route(self, need: Need, route: RouteNeed) -> dict[str, Findings]:
        found: dict[str, Findings] = {}
        so_far: dict[str, Any] = {}
        for spec in route.specs:
            found[spec.name] = await self._one(spec, need, route, so_far)
            so_far[spec.name] = found[spec.name].shared
        return found

    async def _one(self, spec: EnricherSpec, need: Need, route: RouteNeed, so_far: Mapping[str, Any]) -> Findings:
        """Run one enricher; one that is optional finds nothing where it fails."""
        try:
            enricher = self._known.get(spec.enricher)
            if enricher is None:
                raise ForGood(f"there is no enricher {spec.enricher}")
            return await enricher.enrich(spec, need, route.users, so_far)
        except (ForGood, MayPass) as error:
            if spec.config.get("optional"):
                return Findings()
            # Another: several may wait for the answer that failed.
            reason = f"{spec.name}: {error}"
            raise (MayPass(reason, error.after_s) if isinstance(error, MayPass) else ForGood(reason)) from error

    def _again(self, need: Need, reason: str, after_s: float) -> Again | Failed:
        """Decide what follows a failure that may pass: a wait with full jitter above half, or the end."""
        settings = self._ctx.settings
        if need.attempt_no >= settings.enrichment_attempts:
            return Failed(f"{reason} (attempt {need.attempt_no}, the last)")
        doublings = min(max(need.attempt_no - 1, 0), _MAX_DOUBLINGS)
        bound = min(settings.enrichment_retry_base_s * 2**doublings, settings.enrichment_retry_cap_s)
        return Again(max(bound * (0.5 + 0.5 * self._ctx.draw()), after_s), reason)
