"""Trying routes: what they would do with an event, without doing it.

Belongs here: that route and its models. Does not belong here: storing rules (``routes``), what a rule means
(``core.route_rules``, ``core.route_sends``), which the router asks in the same way.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import orjson
from flask import Response
from pydantic import ConfigDict, Field

from ingest_api.endpoint import Answer, Call, answer
from ingest_api.errors import FieldError, unprocessable
from ingest_api.event_routes.models import NewRoute
from ingest_api.event_routes.routes import GROUP
from ingest_api.events.models import Detail, NewEvent
from ingest_api.fields import Shown, Strict
from ingest_api.keys import Access
from notify_pipeline.core import route_rules, route_sends
from notify_pipeline.core.ledger import routes, templates
from notify_pipeline.core.ledger.event_rows import view
from notify_pipeline.core.route_rules import MISSING, Rule, TemplateRef
from notify_pipeline.core.route_sends import Bounds, Made, RouteFindings, Template, Unmakeable

__all__ = ["GROUP"]
# Of a route with a send per recipient: what the first of them get tells what all get.
MOST_SHOWN = 10
_UNSTORED = "dry-run"


class NewDryRun(Strict):
    """An event that did not happen, and what to try it on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event": {
                        "source": "shop",
                        "type": "order.shipped",
                        "detail": {"order": {"id": 1042}},
                        "recipients": ["user-42"],
                    }
                }
            ]
        }
    )

    event: NewEvent = Field(description="As of `POST /events`; nothing of it is stored.")
    route: NewRoute | None = Field(default=None, description="A rule to try in the place of all that are stored.")
    enrichment: Detail | None = Field(
        default=None, description="What enrichment might find, by the enricher's name; by default it found nothing."
    )

    def faults(self, max_list: int) -> Iterator[FieldError]:
        """Yield what is wrong between fields."""
        parts = [("event", self.event.faults(max_list))]
        if self.route is not None:
            parts.append(("route", self.route.faults()))
        for where, found in parts:
            yield from (FieldError(f"{where}.{fault.field}", fault.message) for fault in found)


class RouteTried(Shown):
    """What one route would do."""

    route: str
    matches: bool
    why: str = Field(description="Why it is about the event, or not.")
    enrichment: list[str] = Field(description="The enrichers that would be asked, by their names in the route.")
    missing: list[str] = Field(description="Fields that are needed and not there.")
    fault: str | None = Field(description="Why its sends could not be made.")
    sends: int = Field(description="How many there would be.")
    shown: list[dict[str, Any]] = Field(
        description=f"The first {MOST_SHOWN}, as the bodies of `POST /notifications` that they amount to."
    )


class DryRunAnswer(Shown):
    """What would become of the event."""

    state: Literal["routed", "unrouted", "dead"] = Field(
        description="Where it would come to, with what `enrichment` says."
    )
    routes: list[RouteTried] = Field(description="By name.")


@GROUP.endpoint(
    "POST", "/routes/dry-run", access=Access.SECRET, answers={200: Answer("What would be done.", DryRunAnswer)}
)
def try_routes(call: Call, body: NewDryRun) -> Response:
    """Try routes on an event.

    Says for each route whether it is about the event, which enrichment it would ask for, and what it would send to
    whom. Changes nothing, asks no enricher and sends nothing.
    """
    services = call.services
    if faults := list(body.faults(services.settings.max_audience_list)):
        raise unprocessable(*faults)
    limits, most = services.limits.of(call.tenant), services.settings.max_audience_list
    most = most if limits.max_audience is None else min(limits.max_audience, most)
    trial = _Trial(call, body, Bounds(most, limits.max_content_bytes), services.clock())
    tried = [trial.of(rule) for rule in _rules(call, body)]
    matching = [each for each in tried if each["matches"]]
    state = "unrouted" if not matching else "dead" if any(each["fault"] for each in matching) else "routed"
    return answer(200, {"state": state, "routes": tried})


def _rules(call: Call, body: NewDryRun) -> list[Rule]:
    if body.route is not None:
        return [route_rules.read(_UNSTORED, orjson.dumps(body.route.stored).decode())]
    stored = routes.find(call.services.ledger, call.tenant)
    return [route_rules.read(name, route.rule) for name, route in stored.items()]


class _Trial:
    def __init__(self, call: Call, body: NewDryRun, bounds: Bounds, now: datetime) -> None:
        event = body.event
        recipients = None if event.recipients is None else event.recipients.stored
        self._call = call
        self._bounds = bounds
        self._found = RouteFindings(body.enrichment or {})
        self._event = view(event.source, event.type, event.id, event.detail, recipients, now)

    def of(self, rule: Rule) -> dict[str, Any]:
        verdict = route_rules.judge(rule, self._event)
        tried = {"route": rule.name, "matches": verdict.matches, "why": verdict.why}
        if not verdict.matches:
            return {**tried, "enrichment": [], "missing": [], "fault": None, "sends": 0, "shown": []}
        asked = [] if rule.enrich == MISSING and self._make(rule, RouteFindings())[1] is None else rule.enrichment
        made, fault = self._make(rule, self._found)
        return {
            **tried,
            "enrichment": [spec.name for spec in asked],
            "missing": [] if fault is None else list(fault.missing),
            "fault": None if fault is None else str(fault),
            "sends": len(made),
            "shown": [each.body for each in made[:MOST_SHOWN]],
        }

    def _make(self, rule: Rule, found: RouteFindings) -> tuple[list[Made], Unmakeable | None]:
        template = self._template(rule.content) if isinstance(rule.content, TemplateRef) else None
        try:
            return route_sends.make(rule, self._event, found, template, self._bounds), None
        except Unmakeable as error:
            return [], error

    def _template(self, use: TemplateRef) -> Template | None:
        found = templates.find(self._call.services.ledger, self._call.tenant, use.name, use.version)
        return None if found is None else Template(found.name, found.version, found.content, found.overrides)
