"""From a validated send to what is stored of it.

Belongs here: ids, times, and checks that need more than the models. Does not belong here: the models (``models``,
``content``), storing (``core.ledger``), answers (``routes``).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ingest_api.endpoint import Call
from ingest_api.errors import ApiError, FieldError, conflict, unprocessable
from ingest_api.inputs import read_json
from ingest_api.limits import keeping
from ingest_api.notifications.models import AUDIENCES, NewSend, SendEdit, TemplateUse
from notify_pipeline.core import templating
from notify_pipeline.core.ledger import domains, requests, templates
from notify_pipeline.core.ledger.domains import Domain
from notify_pipeline.core.ledger.requests import NewRequest, RequestRow
from notify_pipeline.core.records import DEFAULT_TTL_S

# Beyond a year a plan is a typing error, and the sum with a ttl stays a date.
MAX_AHEAD = timedelta(days=366)
# The day begins first on Kiritimati, and ends last where no land is. https://www.iana.org/time-zones (Etc/GMT-14, +12)
_FIRST_ZONE = timedelta(hours=14)
_LAST_ZONE = timedelta(hours=-12)
# Of an audience, what only other routes can say.
_UNSAYABLE = frozenset({"visitors", "device_fields"})


class Times(NamedTuple):
    """When a send is due (None: at once), and when it is not worth delivering any more."""

    due_at: datetime | None
    expires_at: datetime


class Stored(NamedTuple):
    """The body of a send as the pipeline works on it, and as it was asked for, which repetitions are compared by."""

    made: Mapping[str, Any]
    asked: Mapping[str, Any]


def new_request(call: Call, body: NewSend, notification_id: str, now: datetime) -> NewRequest:
    """Return what is to be stored of a new send.

    Raises:
        ApiError: 422 naming what is wrong.
    """
    faults = list(body.faults(call.services.settings.max_audience_list))
    if faults:
        raise unprocessable(*faults)
    times, asked = times_of(body, now), body.canonical()
    stored = asked if body.template is None else _rendered_or_known(call, body.template, asked, notification_id)
    if body.domain is not None:
        stored = _to_domain(call, body.domain, stored, notification_id)
    return within_limits(call, notification_id, Stored(stored, asked), times, now)


def within_limits(call: Call, notification_id: str, body: Stored, times: Times, now: datetime) -> NewRequest:
    """Return what is to be stored of a new send whose body is valid, whichever route it came by.

    Raises:
        ApiError: 422 naming what is larger than its tenant's limits allow.
    """
    limits = call.services.limits.of(call.tenant)
    if too_large := list(keeping.faults(limits, body.made)):
        raise unprocessable(*too_large)
    return NewRequest(
        tenant=call.tenant,
        notification_id=notification_id,
        body=body.made,
        accepted_at=now,
        expires_at=times.expires_at,
        due_at=times.due_at,
        actor=call.actor,
        compared=None if body.made is body.asked else body.asked,
        quotas=limits.request_quotas,
    )


def with_icon(domain: Domain, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a send to a domain's contacts with the domain's icon, where it has none of its own."""
    content = body["content"]
    if domain.icon_url is None or content.get("icon_url") is not None:
        return body
    return {**body, "content": {**content, "icon_url": domain.icon_url}}


def _to_domain(call: Call, name: str, body: Mapping[str, Any], notification_id: str) -> Mapping[str, Any]:
    """Return what is stored of a send to a domain; one that was accepted before shall find its first answer.

    Raises:
        ApiError: 422 naming the domain when the tenant has no such, or its push feature is off.
    """
    domain = domains.get(call.services.ledger, name)
    if domain is None or domain.tenant != call.tenant or not domain.is_push_feature_enabled:
        before = requests.get_by_notification(call.services.ledger, call.tenant, notification_id)
        if before is None or before.body.get("domain") != name:
            is_mine = domain is not None and domain.tenant == call.tenant
            raise unprocessable(FieldError("domain", "has its push feature off" if is_mine else "is unknown"))
        return body
    return with_icon(domain, body)


def _rendered_or_known(
    call: Call, use: TemplateUse, asked: Mapping[str, Any], notification_id: str
) -> Mapping[str, Any]:
    """Like ``_rendered``; a repetition shall find what was made of it before, whatever became of the template."""
    try:
        return _rendered(call, use, asked)
    except ApiError:
        row = requests.get_by_notification(call.services.ledger, call.tenant, notification_id)
        if row is None:
            raise
        return row.body


def _rendered(call: Call, use: TemplateUse, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a send's body with what its template makes of the fields, and the template's version.

    Raises:
        ApiError: 422 naming the template, the missing fields, or what is wrong with the content.
    """
    template = templates.find(call.services.ledger, call.tenant, use.name, use.version)
    if template is None:
        which = "template.name" if use.version is None else "template.version"
        raise unprocessable(FieldError(which, "there is no such template"))
    try:
        made = templating.render(template, use.fields)
    except templating.MissingFields as error:
        raise unprocessable(*(FieldError(f"template.fields.{name}", "is required") for name in error.names)) from error
    except templating.RenderFailed as error:
        raise unprocessable(FieldError(f"template.{error.field or 'fields'}", str(error))) from error
    whole = {**asked, "content": made.content, **({"overrides": made.overrides} if made.overrides else {})}
    del whole["template"]
    body = read_json(json.dumps(whole).encode(), NewSend)
    if faults := list(body.faults(call.services.settings.max_audience_list)):
        raise unprocessable(*faults)
    return {**body.canonical(), "template": {**asked["template"], "version": template.version}}


def edited(call: Call, row: RequestRow, edit: SendEdit, now: datetime) -> NewRequest:
    """Return what is to be stored of a send that is edited: validated as a whole, as if it were new.

    Raises:
        ApiError: 409 when it is none that this route could have made, 422 naming what is wrong.
    """
    if _UNSAYABLE & row.body.keys() or {"devices", "domain"} <= row.body.keys():
        message = "A send to visitors, or a replay of one to a domain, cannot be edited: cancel it and send another."
        raise conflict("not_editable", message, "notification_id")
    changes = edit.changes()
    kind = next(kind for kind in AUDIENCES if kind in row.body)
    for other in AUDIENCES:
        if other in changes and other != kind:
            raise unprocessable(FieldError(other, f"must not be given: the send has {kind}"))
    before, kept = _unrendered(row.body, changes)
    # An override's nulls say something; at the top a null is absence.
    whole = {name: value for name, value in {**before, **changes}.items() if value is not None}
    body = read_json(json.dumps(whole).encode(), NewSend)
    new = new_request(call, body, row.notification_id, now)
    new = replace(new, body={**new.body, **kept})
    if not {"send_at", "send_at_local"} & changes.keys():
        due_at, expires_at = times_of(body, row.accepted_at)
        new = replace(new, due_at=due_at, expires_at=expires_at)
    else:
        new = replace(new, due_at=new.due_at or now)
    return replace(new, accepted_at=row.accepted_at)


def _unrendered(body: Mapping[str, Any], changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an edit changes, and what it leaves in the dark: a template's name beside what was made of it.

    Content that is given takes the place of a template and all that it made, and a template that of content.
    """
    before = dict(body)
    if not {"content", "template"} & changes.keys():
        return before, {"template": before.pop("template")} if "template" in before else {}
    names = ("template", "content", "overrides") if "template" in {*before, *changes} else ()
    for name in names:
        before.pop(name, None)
    return before, {}


def times_of(body: NewSend, now: datetime) -> Times:
    """Return a send's times. With local times: from the first moment anywhere to the last, plus ttl.

    Raises:
        ApiError: 422 when it lies too far ahead.
    """
    if body.send_at_local is None:
        return times_at(body.send_at, body.ttl, now)
    return _times("send_at_local", _around_the_world(body), body.ttl, now)


def times_at(send_at: datetime | None, ttl: int | None, now: datetime, field: str = "send_at") -> Times:
    """Return the times of a send that is due at one moment, or at once.

    Raises:
        ApiError: 422 naming ``field`` when it lies too far ahead.
    """
    return _times(field, None if send_at is None else (send_at, send_at), ttl, now)


def _times(field: str, due: tuple[datetime, datetime] | None, ttl: int | None, now: datetime) -> Times:
    lasts = timedelta(seconds=DEFAULT_TTL_S if ttl is None else ttl)
    if due is None:
        return Times(None, now + lasts)
    first, last = due
    if last > now + MAX_AHEAD:
        raise unprocessable(FieldError(field, f"must lie at most {MAX_AHEAD.days} days ahead"))
    return Times(first, max(last, now) + lasts)


def _around_the_world(body: NewSend) -> tuple[datetime, datetime]:
    if body.send_at_local is None:
        raise ValueError("the send has no local time")
    try:
        local = body.send_at_local.replace(tzinfo=UTC)
        return local - _FIRST_ZONE, local - _LAST_ZONE
    except OverflowError as error:
        raise unprocessable(FieldError("send_at_local", "must lie between the years 1 and 9999")) from error
