"""From an event and a rule to sends: who gets them, and what they say.

Belongs here: the recipients, fields and content of a route's sends, and why they cannot be made. Does not belong here:
whether the rule is about the event (``route_rules``), accepting the sends (``ledger.event_claims``).

The same event, rule, template and findings always make the same sends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from notify_pipeline.core import send_checks, templating
from notify_pipeline.core.expressions import Expression, NotEvaluated
from notify_pipeline.core.ids import short_hash
from notify_pipeline.core.route_rules import Inline, Rule, TemplateRef
from notify_pipeline.core.templating import MissingFields, Rendered, RenderFailed
from notify_pipeline.core.vocabulary import Priority

# A route with ``per_recipient`` makes so many sends of one event: they are accepted in one transaction.
MAX_SENDS = 1_000
# Of a hash that stands for a user in a notification id: 132 bits.
_HASH_LENGTH = 22


@dataclass(frozen=True, slots=True)
class Template:
    """A stored template's version, as it was found for the event's tenant."""

    name: str
    version: int
    content: Mapping[str, Any]
    overrides: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RouteFindings:
    """What enrichment found for one route: by the enricher's name, for all; and by user id, likewise."""

    shared: Mapping[str, Any] = field(default_factory=dict)
    recipients: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> "RouteFindings":
        """Return what an event has stored for a route; nothing for None."""
        return cls() if stored is None else cls(stored["shared"], stored["recipients"])

    @property
    def stored(self) -> dict[str, Any]:
        """Its JSON form."""
        return {"shared": dict(self.shared), "recipients": dict(self.recipients)}

    def of_user(self, user: str | None) -> dict[str, Any]:
        """Return what is known by enricher, a user's own in the place of everybody's."""
        return {**self.shared, **self.recipients.get(user or "", {})}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a tenant's sends must keep to.

    Attributes:
        max_audience: The longest list of recipients.
        max_content_bytes: Of content with its overrides, as JSON; None: no limit of its own.
    """

    max_audience: int
    max_content_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A send: the body as the ingress would have stored it, and whose own it is (``per_recipient``)."""

    body: Mapping[str, Any]
    user: str | None = None


class Unmakeable(Exception):
    """The route's sends cannot be made of this event; ``missing`` names what it lacks, if that is why."""

    def __init__(self, reason: str, missing: Sequence[str] = ()) -> None:
        """Args: reason: what is wrong, in short; missing: dotted names of fields."""
        super().__init__(reason)
        self.missing = tuple(missing)


def notification_id(event_id: str, route: str, user: str | None = None) -> str:
    """Return the id of the send that a route makes of an event: ``<event>:<route>``, and a hash of the user's id.

    At most 120 characters (``ingest_api.fields.NOTIFICATION_ID_LENGTH`` is 128).
    """
    whole = f"{event_id}:{route}"
    return whole if user is None else f"{whole}:{short_hash(user)[:_HASH_LENGTH]}"


def users_of(rule: Rule, event: Mapping[str, Any], bounds: Bounds) -> tuple[str, ...]:
    """Return the recipients' user ids as far as the event alone says who they are, for enrichment."""
    try:
        found = _audience(rule, _scope(event, RouteFindings(), None), bounds)
    except Unmakeable:
        return ()
    return tuple(found[1]) if found[0] == "users" else ()


def make(
    rule: Rule, event: Mapping[str, Any], findings: RouteFindings, template: Template | None, bounds: Bounds
) -> list[Made]:
    """Return the sends that a rule makes of an event: one, or one for each user; none where nobody is addressed.

    Args:
        rule: A rule that is about the event.
        event: As expressions see it (``ledger.events.view``).
        findings: What enrichment found for the route.
        template: What the rule names; None where it has content of its own, or there is no such template.
        bounds: What the tenant's sends must keep to.

    Raises:
        Unmakeable: They cannot be made.
    """
    if isinstance(rule.content, TemplateRef) and template is None:
        version = "" if rule.content.version is None else f" with version {rule.content.version}"
        raise Unmakeable(f"there is no template {rule.content.name!r}{version}")
    kind, members = _audience(rule, _scope(event, findings, None), bounds)
    if not rule.per_recipient:
        return [_made(rule, event, findings, template, bounds, (kind, members), None)] if members else []
    if kind != "users":
        raise Unmakeable(f"per_recipient needs users, not {kind}")
    if len(members) > MAX_SENDS:
        raise Unmakeable(f"per_recipient makes at most {MAX_SENDS} sends; there are {len(members)} recipients")
    return [_made(rule, event, findings, template, bounds, (kind, [user]), user) for user in members]


def _scope(event: Mapping[str, Any], findings: RouteFindings, user: str | None) -> dict[str, Any]:
    """Return what a route's expressions and own texts see."""
    return {**event, "enrichment": findings.of_user(user), "recipient": user}


def _audience(rule: Rule, scope: Mapping[str, Any], bounds: Bounds) -> tuple[str, list[str]]:
    found = _addressed(rule, scope)
    if found is None:
        raise Unmakeable("missing: recipients", ("recipients",))
    unknown = sorted(found.keys() - set(send_checks.AUDIENCES))
    if unknown:
        raise Unmakeable(f"recipients has {unknown[0][:100]!r}, which is no kind of audience")
    made: dict[str, list[str]] = {}
    for kind, given in found.items():
        if given is None:
            continue
        made[kind], fault = send_checks.audience(kind, given, bounds.max_audience)
        if fault is not None:
            raise Unmakeable(f"recipients: {fault}")
    if not made:
        raise Unmakeable("missing: recipients", ("recipients",))
    kinds = [kind for kind, members in made.items() if members]
    if len(kinds) > 1:
        raise Unmakeable(f"recipients has {' and '.join(kinds)}: a send has one audience")
    return (kinds[0], made[kinds[0]]) if kinds else (next(iter(made)), [])


def _addressed(rule: Rule, scope: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if rule.recipients is None:
        return scope["recipients"] or None
    if isinstance(rule.recipients, Expression):
        found = _search("recipients", rule.recipients, scope)
        return found if found is None or isinstance(found, dict) else {"users": found if _is_list(found) else [found]}
    return {kind: _search(f"recipients.{kind}", each, scope) for kind, each in rule.recipients.items()}


def _is_list(found: object) -> bool:
    return isinstance(found, list)


def _search(where: str, expression: Expression, scope: Mapping[str, Any]) -> Any:
    try:
        return expression.search(scope)
    except NotEvaluated as error:
        raise Unmakeable(f"{where}: {error}") from error


def _made(
    rule: Rule,
    event: Mapping[str, Any],
    findings: RouteFindings,
    template: Template | None,
    bounds: Bounds,
    audience: tuple[str, list[str]],
    user: str | None,
) -> Made:
    scope = _scope(event, findings, user)
    rendered = _rendered(rule, scope, findings.of_user(user), template)
    faults = list(send_checks.content_faults(rendered.content, rendered.overrides))
    if faults:
        raise Unmakeable(", ".join(faults[:5]))
    kind, members = audience
    whom = members[0] if kind == "domain" else members
    body: dict[str, Any] = {"type": rule.send_type or event["type"], kind: whom, "content": rendered.content}
    if rendered.overrides:
        body["overrides"] = rendered.overrides
    if template is not None:
        body["template"] = {"name": template.name, "version": template.version}
    if rule.category is not None:
        body["category"] = rule.category
    if rule.channels is not None:
        body["channels"] = list(rule.channels)
    if rule.priority is not Priority.NORMAL:
        body["priority"] = str(rule.priority)
    if rule.ttl_s is not None:
        body["ttl"] = rule.ttl_s
    if rule.collapse_key is not None:
        body["collapse_key"] = _collapse_key(rule.collapse_key, scope)
    _check_size(body, bounds)
    return Made(body, user)


def _rendered(rule: Rule, scope: Mapping[str, Any], found: Mapping[str, Any], template: Template | None) -> Rendered:
    if isinstance(rule.content, Inline):
        return _render(rule.content, scope)
    fields = rule.content.fields
    if template is None:
        raise RuntimeError("the template was looked for before")
    if fields is None:
        return _render(template, {**scope["detail"], **found})
    filled = {name: _search(f"template.fields.{name}", each, scope) for name, each in fields.items()}
    return _render(template, filled)


def _render(texts: Template | Inline, fields: Mapping[str, Any]) -> Rendered:
    try:
        return templating.render(texts, fields)
    except MissingFields as error:
        raise Unmakeable(f"missing: {', '.join(error.names)}", error.names) from error
    except RenderFailed as error:
        raise Unmakeable(f"{error.field}: {error}" if error.field else str(error)) from error


def _collapse_key(text: str, scope: Mapping[str, Any]) -> str:
    made = _render(Inline({"collapse_key": text}), scope).content.get("collapse_key", "")
    if fault := send_checks.collapse_key_fault(made):
        raise Unmakeable(fault)
    return str(made)


def _check_size(body: Mapping[str, Any], bounds: Bounds) -> None:
    if bounds.max_content_bytes is None:
        return
    overrides = body.get("overrides", {})
    # Only the brackets and commas between the parts are ours.
    size = len(orjson.dumps([body["content"], *overrides.values()])) - 2 - len(overrides)
    if size > bounds.max_content_bytes:
        raise Unmakeable(f"content must not have more than {bounds.max_content_bytes} bytes as JSON; it has {size}")
