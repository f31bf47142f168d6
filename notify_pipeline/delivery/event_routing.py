"""What becomes of an event: which routes are about it, what they make of it, and what it lacks.

Belongs here: that decision, for a batch of claimed events. Does not belong here: the rules' language and the making of
sends (``core.route_rules``, ``core.route_sends``), storing what was decided (``core.ledger.event_moves``), the loop
around it (``event_router``).
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from notify_pipeline.core import route_rules, route_sends
from notify_pipeline.core.ledger import routes, templates
from notify_pipeline.core.ledger.accepting import Incoming, NewRequest, prepare
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_moves import Settled
from notify_pipeline.core.ledger.event_rows import EventRow
from notify_pipeline.core.ledger.limits import Limits, LimitsBook
from notify_pipeline.core.records import DEFAULT_TTL_S
from notify_pipeline.core.route_rules import MISSING, Rule, TemplateRef
from notify_pipeline.core.route_sends import Bounds, Made, RouteFindings, Template, Unmakeable
from notify_pipeline.core.vocabulary import EventState
from notify_pipeline.delivery.enrichment.base import Findings, Found, Need, RouteNeed

log = logging.getLogger(__name__)

# As expressions see it.
Event = Mapping[str, Any]
# Of all that keeps an event from being routed, so much is shown.
_MOST_REASONS = 5


@dataclass(frozen=True, slots=True)
class ToEnrich:
    """An event that needs enrichment, and what."""

    row: EventRow
    need: Need


class Routing:
    """Decides about one batch: the rules, templates and limits that it goes by are read once for all its events."""

    def __init__(self, ledger: Ledger, limits: LimitsBook, max_audience: int, rows: Sequence[EventRow]) -> None:
        """Args: ledger, limits: where to read; max_audience: of any tenant's send; rows: the batch."""
        self._ledger = ledger
        self._limits = limits
        self._max_audience = max_audience
        self._templates: dict[tuple[str, str, int | None], Template | None] = {}
        with ledger.read() as conn:
            self._routes = routes.of_tenants(conn, {row.tenant for row in rows})

    def decide(self, row: EventRow) -> Settled | ToEnrich:
        """Return what becomes of an event. Whatever is wrong with it, or with a rule, is its reason."""
        try:
            return self._decide(row)
        except Exception as error:
            # It would fail the same way each time it is claimed, and hold up those behind it.
            log.exception("event %s cannot be routed", row.event_id)
            return Settled(row, EventState.DEAD, reason=f"internal: {type(error).__name__}")

    def _decide(self, row: EventRow) -> Settled | ToEnrich:
        event = row.view
        verdicts = [(rule, route_rules.judge(rule, event)) for rule in self._rules(row.tenant)]
        rules = [rule for rule, verdict in verdicts if verdict.matches]
        if not rules:
            # What cannot be evaluated may be why.
            failed = [f"{rule.name}: {verdict.why}" for rule, verdict in verdicts if "cannot" in verdict.why]
            return Settled(row, EventState.UNROUTED, reason=_joined(["no route matches", *failed]))
        limits = self._limits.of(row.tenant)
        bounds = bounds_of(limits, self._max_audience)
        if row.enrichment is None and (wanting := self._wanting(row, event, rules, bounds)):
            return ToEnrich(row, _need(row, wanting, bounds))
        names = tuple(rule.name for rule in rules)
        sends: list[Incoming] = []
        reasons: list[str] = []
        for rule in rules:
            try:
                sends += [_incoming(row, rule, made, limits) for made in self._make(row, event, rule, bounds)]
            except Unmakeable as error:
                reasons.append(f"{rule.name}: {error}")
        if reasons:
            return Settled(row, EventState.DEAD, names, reason=_joined(reasons))
        return Settled(row, EventState.ROUTED, names, tuple(sends))

    def _rules(self, tenant: str) -> Iterable[Rule]:
        for name, route in self._routes.get(tenant, {}).items():
            yield route_rules.read(name, route.rule)

    def _wanting(self, row: EventRow, event: Event, rules: Sequence[Rule], bounds: Bounds) -> list[Rule]:
        """Return the rules whose enrichers have to be asked."""
        return [
            rule
            for rule in rules
            if rule.enrichment and (rule.enrich != MISSING or self._lacks(row, event, rule, bounds))
        ]

    def _lacks(self, row: EventRow, event: Event, rule: Rule, bounds: Bounds) -> bool:
        try:
            self._make(row, event, rule, bounds)
        except Unmakeable:
            return True
        return False

    def _make(self, row: EventRow, event: Event, rule: Rule, bounds: Bounds) -> list[Made]:
        found = RouteFindings.of((row.enrichment or {}).get(rule.name))
        template = self._template(row.tenant, rule.content) if isinstance(rule.content, TemplateRef) else None
        return route_sends.make(rule, event, found, template, bounds)

    def _template(self, tenant: str, use: TemplateRef) -> Template | None:
        key = tenant, use.name, use.version
        if key not in self._templates:
            self._templates[key] = find_template(self._ledger, tenant, use)
        return self._templates[key]


def find_template(ledger: Ledger, tenant: str, use: TemplateRef) -> Template | None:
    """Return the version that a rule names for a tenant, or None."""
    found = templates.find(ledger, tenant, use.name, use.version)
    return None if found is None else Template(found.name, found.version, found.content, found.overrides)


def bounds_of(limits: Limits, max_audience: int) -> Bounds:
    """Return what a tenant's sends must keep to."""
    most = max_audience if limits.max_audience is None else min(limits.max_audience, max_audience)
    return Bounds(most, limits.max_content_bytes)


def enriched(row: EventRow, found: Found) -> Settled:
    """Return what becomes of an event that was enriched: it goes back to the router, with what was found."""
    stored = {route: _findings(by_name).stored for route, by_name in found.routes.items()}
    return Settled(row, EventState.ENRICHED, enrichment=stored)


def _findings(by_name: Mapping[str, Findings]) -> RouteFindings:
    shared = {name: each.shared for name, each in by_name.items() if each.shared is not None}
    recipients: dict[str, dict[str, object]] = {}
    for name, each in by_name.items():
        for user, value in each.recipients.items():
            recipients.setdefault(user, {})[name] = value
    return RouteFindings(shared, recipients)


def _need(row: EventRow, rules: Sequence[Rule], bounds: Bounds) -> Need:
    event = row.view
    wanted = {rule.name: RouteNeed(rule.enrichment, _users(rule, event, bounds)) for rule in rules}
    return Need(row.tenant, row.event_id, row.attempt_no + 1, event, row.accepted_at, wanted)


def _users(rule: Rule, event: Mapping[str, Any], bounds: Bounds) -> tuple[str, ...]:
    """Return the users of whom a rule could say what was found: all, or the only one."""
    found = route_sends.users_of(rule, event, bounds)
    return found if rule.per_recipient or len(found) == 1 else ()


def _incoming(row: EventRow, rule: Rule, made: Made, limits: Limits) -> Incoming:
    ttl = timedelta(seconds=DEFAULT_TTL_S if rule.ttl_s is None else rule.ttl_s)
    new = NewRequest(
        tenant=row.tenant,
        notification_id=route_sends.notification_id(row.event_id, rule.name, made.user),
        body=made.body,
        accepted_at=row.counts_from,
        expires_at=row.counts_from + ttl,
        actor=f"route:{rule.name}",
        quotas=limits.request_quotas,
        event_id=row.event_id,
    )
    return prepare(new)


def _joined(reasons: Sequence[str]) -> str:
    more = len(reasons) - _MOST_REASONS
    return "; ".join([*reasons[:_MOST_REASONS], *([f"and {more} more"] if more > 0 else [])])
