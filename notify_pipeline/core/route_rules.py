"""Routes as they are gone by: which events a rule is about, and what it says of the sends that it makes.

Belongs here: reading a stored rule, and holding events against it. Does not belong here: making sends
(``route_sends``), storing rules (``ledger.routes``), checking what a caller writes (``ingest_api``).

A rule is JSON: ``match`` (``source``, ``type``, ``when``), ``enabled``, ``type``, ``category``, ``template`` (``name``,
``version``, ``fields``) or ``content`` and ``overrides``, ``channels``, ``priority``, ``ttl``, ``collapse_key``,
``enrichment``, ``enrich``, ``per_recipient``, ``recipients``. What is absent is as if it was not said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from notify_pipeline.core.enrichers import EnricherSpec
from notify_pipeline.core.expressions import Expression, NotEvaluated, compiled
from notify_pipeline.core.vocabulary import Priority

# A route's name is part of its sends' notification ids.
MAX_NAME = 64
ALWAYS, MISSING = "always", "missing"
# As many as one installation's tenants have in use at once, several times over.
_KEPT = 2_048


@dataclass(frozen=True, slots=True)
class TemplateRef:
    """A stored template and what fills it: by field, or None for the event's detail."""

    name: str
    version: int | None
    fields: Mapping[str, Expression] | None


@dataclass(frozen=True, slots=True)
class Inline:
    """Texts in the language of templates, filled by the whole event."""

    content: Mapping[str, Any]
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that can be gone by. ``recipients`` is one expression, or one for each kind of audience."""

    name: str
    source: str
    type: str
    when: Expression | None
    enabled: bool
    send_type: str | None
    category: str | None
    content: TemplateRef | Inline
    channels: tuple[str, ...] | None
    priority: Priority
    ttl_s: int | None
    collapse_key: str | None
    enrichment: tuple[EnricherSpec, ...]
    enrich: str
    per_recipient: bool
    recipients: Expression | Mapping[str, Expression] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule is about an event, and why."""

    matches: bool
    why: str


@lru_cache(maxsize=_KEPT)
def read(name: str, stored: str) -> Rule:
    """Return a stored rule.

    Raises:
        BadExpression, KeyError, TypeError, ValueError: It is none that the API could have stored.
    """
    return of(name, orjson.loads(stored))


def of(name: str, said: Mapping[str, Any]) -> Rule:
    """Return a rule of its JSON; like ``read``."""
    get, match = said.get, said["match"]
    return Rule(
        name=name,
        source=match["source"],
        type=match["type"],
        when=None if match.get("when") is None else compiled(match["when"]),
        enabled=get("enabled", True),
        send_type=get("type"),
        category=get("category"),
        content=_content(said),
        channels=None if get("channels") is None else tuple(said["channels"]),
        priority=Priority(get("priority") or Priority.NORMAL),
        ttl_s=get("ttl"),
        collapse_key=get("collapse_key"),
        enrichment=tuple(
            EnricherSpec(each["name"], each["enricher"], each.get("config") or {}) for each in get("enrichment") or ()
        ),
        enrich=get("enrich") or ALWAYS,
        per_recipient=get("per_recipient") or False,
        recipients=_recipients(get("recipients")),
    )


def _content(said: Mapping[str, Any]) -> TemplateRef | Inline:
    use = said.get("template")
    if use is None:
        return Inline(said["content"], said.get("overrides") or {})
    fields = use.get("fields")
    filled = None if fields is None else {name: compiled(text) for name, text in fields.items()}
    return TemplateRef(use["name"], use.get("version"), filled)


def _recipients(said: Any) -> Expression | Mapping[str, Expression] | None:
    if said is None:
        return None
    if isinstance(said, str):
        return compiled(said)
    return {kind: compiled(text) for kind, text in said.items()}


def judge(rule: Rule, event: Mapping[str, Any]) -> Verdict:
    """Hold an event against a rule.

    Args:
        rule: The rule.
        event: As expressions see it (``ledger.events.view``).
    """
    if not rule.enabled:
        return Verdict(False, "the route is not enabled")
    for name, pattern in (("source", rule.source), ("type", rule.type)):
        if not _fits(event[name], pattern):
            return Verdict(False, f"{name} {event[name]!r} is not {pattern!r}")
    if rule.when is None:
        return Verdict(True, "source and type match")
    try:
        if rule.when.holds(event):
            return Verdict(True, "source and type match, and when holds")
    except NotEvaluated as error:
        return Verdict(False, f"when cannot be evaluated: {error}")
    return Verdict(False, "when does not hold")


def _fits(value: str, pattern: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern
