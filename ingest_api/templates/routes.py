"""Templates: storing, listing and trying them.

Belongs here: the template routes. Does not belong here: their language and rendering (``core.templating``), versions
(``core.ledger.templates``), sending with one (``notifications``).
"""

import json
from dataclasses import asdict
from typing import Any, get_args

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, FieldError, not_found, unprocessable
from ingest_api.fields import PageQuery, TemplateName, fields_of
from ingest_api.inputs import read_json
from ingest_api.keys import Access
from ingest_api.notifications.content import ChannelName
from ingest_api.paging import cut, foreign, unpack, unpack_text
from ingest_api.sms.models import shown as sms_shown
from ingest_api.templates.models import (
    NewPreview,
    NewTemplate,
    PreviewShown,
    Rendering,
    TemplatePage,
    TemplateShown,
    VersionPage,
    VersionQuery,
)
from notify_pipeline.core import templating
from notify_pipeline.core.ledger import templates
from notify_pipeline.core.ledger.templates import Template, Version
from notify_pipeline.core.records import content_over
from notify_pipeline.core.sms_text import text_of
from notify_pipeline.core.vocabulary import Channel

GROUP = Group("templates", "Content with places for fields, in versions. Organizations have their product's too.")
_ALL = frozenset(Channel)
_CLICKED = frozenset({Channel.FCM, Channel.WEBPUSH, Channel.WEBSOCKET, Channel.INBOX})
# What not every channel's recipients see.
_SHOWN_ON = {"html": frozenset({Channel.EMAIL}), "icon_url": _CLICKED, "actions": _CLICKED}
_NO_TEMPLATE = {404: "There is no such template, or no such version of it."}


@GROUP.endpoint(
    "PUT", "/templates/{name}", access=Access.SECRET, answers={200: Answer("The version in use.", TemplateShown)}
)
def put_template(call: Call, name: TemplateName, body: NewTemplate) -> Response:
    """Store a template.

    It becomes the next version; the same again is the same version. Its texts are in a part of Jinja2: output, `if`,
    `for`, comparisons, arithmetic and some filters. A text that is not well-formed, or says more, is refused with its
    place. Personal fields such as `[[[user_id]]]` stay open for each recipient.
    """
    faults = list(body.faults())
    if faults:
        raise unprocessable(*faults)
    services = call.services
    content, overrides = body.parts
    now = services.clock()
    stored, _ = templates.put(services.ledger, call.tenant, name, content, overrides, call.actor, now)
    return answer(200, _shown(call, stored))


@GROUP.endpoint("GET", "/templates", access=Access.SECRET, answers={200: Answer("A page, by name.", TemplatePage)})
def list_templates(call: Call, query: PageQuery) -> Response:
    """List the templates in use, an organization's and its product's."""
    rows = templates.list_page(call.services.ledger, call.tenant, query.limit + 1, unpack_text(query.cursor))
    page, cursor = cut(rows, query.limit, lambda row: (row.name,))
    return answer(200, {"items": [_shown(call, row) for row in page], "next_cursor": cursor})


@GROUP.endpoint(
    "GET",
    "/templates/{name}",
    access=Access.SECRET,
    answers={200: Answer("The version.", TemplateShown)},
    errors=_NO_TEMPLATE,
)
def show_template(call: Call, name: TemplateName, query: VersionQuery) -> Response:
    """Show a template."""
    return answer(200, _shown(call, _found(call, name, query.version)))


@GROUP.endpoint(
    "GET",
    "/templates/{name}/versions",
    access=Access.SECRET,
    answers={200: Answer("A page of its history, newest first.", VersionPage)},
    errors={404: "There never was such a template."},
)
def list_versions(call: Call, name: TemplateName, query: PageQuery) -> Response:
    """List a template's versions, deletions included.

    An organization's own, if it ever had one by this name; else its product's.
    """
    after = unpack(query.cursor, int)
    before = None if after is None else int(str(after[0]))
    if before is not None and not 0 < before < 2**31:
        raise foreign()
    found = templates.versions(call.services.ledger, call.tenant, name, query.limit + 1, before)
    if found is None:
        raise _no_template()
    owner, rows = found
    page, cursor = cut(rows, query.limit, lambda row: (row.version,))
    items = [_version(row) for row in page]
    return answer(200, {"name": name, "inherited": owner != call.tenant, "items": items, "next_cursor": cursor})


@GROUP.endpoint(
    "DELETE",
    "/templates/{name}",
    access=Access.SECRET,
    answers={204: Answer("Deleted.")},
    errors={404: "The tenant has no such template of its own."},
)
def delete_template(call: Call, name: TemplateName) -> Response:
    """Delete a template.

    Its versions stay in its history, sends that were made with it go on, and what is stored by this name later goes on
    counting. An organization then has its product's again.
    """
    services = call.services
    if not templates.remove(services.ledger, call.tenant, name, call.actor, services.clock()):
        raise _no_template()
    return empty()


@GROUP.endpoint(
    "POST",
    "/templates/{name}/preview",
    access=Access.SECRET,
    answers={200: Answer("The content.", PreviewShown)},
    errors=_NO_TEMPLATE,
)
def preview_template(call: Call, name: TemplateName, body: NewPreview) -> Response:
    """Show what a template makes of fields, by channel.

    Refused as a send would be: 422 with one detail for each missing field, `fields.order.id` and the like, or for what
    is wrong with the content that came out.
    """
    template = _found(call, name, body.version)
    try:
        made = templating.render(template, body.fields)
    except templating.MissingFields as error:
        raise unprocessable(*(FieldError(f"fields.{missing}", "is required") for missing in error.names)) from error
    except templating.RenderFailed as error:
        raise unprocessable(FieldError(error.field or "fields", str(error))) from error
    checked = read_json(json.dumps({"content": made.content, "overrides": made.overrides}).encode(), Rendering)
    if faults := list(checked.faults()):
        raise unprocessable(*faults)
    channels = {channel: _content(made, channel) for channel in get_args(ChannelName)}
    shown = {"name": template.name, "version": template.version, "content": made.content, "channels": channels}
    return answer(200, {**shown, "sms": _as_sms(made, call.services.settings.sms_max_segments)})


def _as_sms(made: templating.Rendered, most_segments: int) -> dict[str, Any] | None:
    text = text_of(content_over(made.content, {}), content_over(made.content, made.overrides.get(Channel.SMS, {})))
    return {"text": text, **sms_shown(text, most_segments)} if text else None


def _content(made: templating.Rendered, channel: str) -> dict[str, Any]:
    content = content_over(made.content, made.overrides.get(channel, {}))
    whole = {**asdict(content), "actions": [action.stored for action in content.actions]}
    return {name: value for name, value in whole.items() if value and channel in _SHOWN_ON.get(name, _ALL)}


def _found(call: Call, name: str, version: int | None) -> Template:
    template = templates.find(call.services.ledger, call.tenant, name, version)
    if template is None:
        raise _no_template()
    return template


def _shown(call: Call, template: Template) -> dict[str, Any]:
    return {**fields_of(TemplateShown, template, "inherited"), "inherited": template.tenant != call.tenant}


def _version(row: Version) -> dict[str, Any]:
    template = row.template
    return {
        "version": row.version,
        "deleted": template is None,
        "content": None if template is None else template.content,
        "overrides": None if template is None else template.overrides,
        "created_at": row.created_at,
    }


def _no_template() -> ApiError:
    return not_found("There is no such template.")
