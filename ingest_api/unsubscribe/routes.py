"""The link in a message that lets its reader unsubscribe, without a key or a password.

Belongs here: the routes behind it. Does not belong here: the token (``core.unsubscribe_tokens``), the page (``page``),
the header that mail programs show as a button (``channels.email``).

A GET changes nothing: programs that look for malware follow every link of a message.
"""

from collections.abc import Mapping
from typing import Annotated

from flask import Response, request
from pydantic import Field

from ingest_api.endpoint import Answer, Call, Group
from ingest_api.errors import JSON_TYPE, ApiError, FieldError, unprocessable
from ingest_api.keys import Access
from ingest_api.lean import LeanResponse
from ingest_api.unsubscribe import page
from notify_pipeline.core import consents, unsubscribe_tokens
from notify_pipeline.core.consents import ALL, Defaults, Pair, Said
from notify_pipeline.core.ledger import policies, preferences, tenants
from notify_pipeline.core.ledger.preferences import Change
from notify_pipeline.core.unsubscribe_tokens import InvalidUnsubscribeToken, Unsubscribing
from notify_pipeline.core.vocabulary import PolicyKind

GROUP = Group("unsubscribing", "What the links in messages lead to.")
_HTML = "text/html; charset=utf-8"
_UNKNOWN = {404: "No message of this installation has such a link."}
# RFC 8058 section 3.1: what mail programs send when their own button is pressed.
ONE_CLICK = ("List-Unsubscribe", "One-Click")
_CHOICES = ("category", "channel", "again", "everything_again")

TokenInPath = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_\-]+$",
        max_length=unsubscribe_tokens.MAX_LENGTH,
        description="As a message carries it.",
    ),
]


class _NoSuchLink(ApiError):
    """Also said to a person: mail programs break long links, and a browser shows what comes of it."""

    def response(self) -> Response:
        """Return a page for those who ask for one, the envelope for others."""
        # On a tie, as with */*, the first.
        if request.accept_mimetypes.best_match((JSON_TYPE, "text/html")) == JSON_TYPE:
            return super().response()
        return LeanResponse(page.UNKNOWN, self.status, [*page.HEADERS, ("Content-Type", _HTML)])


@GROUP.endpoint(
    "GET",
    "/unsubscribe/{token}",
    access=Access.PUBLIC,
    answers={200: Answer("A page with buttons; nothing has changed.", content_type=_HTML)},
    errors=_UNKNOWN,
)
def show_unsubscribe_page(call: Call, token: TokenInPath) -> Response:
    """Show what a message's link is about. Whoever accepts HTML gets a page for a link that is none, too."""
    about = _about(call, token)
    return _page(call, about, preferences.get(call.services.ledger, about.tenant, about.recipient), changed=False)


@GROUP.endpoint(
    "POST",
    "/unsubscribe/{token}",
    access=Access.PUBLIC,
    answers={200: Answer("Done. It holds for every provider call that begins from now on.", content_type=_HTML)},
    errors={**_UNKNOWN, 422: "The form says nothing that there is a choice for."},
)
def unsubscribe(call: Call, token: TokenInPath) -> Response:
    """Unsubscribe, with one click (RFC 8058), or as the page's form says.

    The body is a form: `List-Unsubscribe=One-Click`, or `choice`, one of `category` (the message's, on its channel),
    `channel` (everything on it), `again` and `everything_again` (to undo these).
    """
    about, services = _about(call, token), call.services
    form = call.request.form
    one_click = form.get(ONE_CLICK[0]) == ONE_CLICK[1]
    choice = "category" if one_click else form.get("choice")
    if choice not in _CHOICES:
        raise unprocessable(FieldError("choice", f"must be one of {', '.join(_CHOICES)}"))
    before = preferences.get(services.ledger, about.tenant, about.recipient)
    # Not the address: whoever has no user is nobody in the audit.
    actor = about.recipient if about.recipient.startswith("user:") else "recipient"
    source = "one_click" if one_click else "page"
    change = Change(about.tenant, about.recipient, _said(choice, about, before), source, actor)
    return _page(call, about, preferences.change(services.ledger, change, services.clock()), changed=True)


def _about(call: Call, token: str) -> Unsubscribing:
    try:
        return unsubscribe_tokens.check(call.services.ledger.secret(unsubscribe_tokens.SECRET), token)
    except InvalidUnsubscribeToken as error:
        raise _NoSuchLink(404, "not_found", _UNKNOWN[404]) from error


def _said(choice: str, about: Unsubscribing, before: Mapping[Pair, Said]) -> dict[Pair, bool | None]:
    mine, whole = (about.category, about.channel.value), (ALL, about.channel.value)
    if choice == "category":
        return {mine: False}
    if choice == "again":
        return {mine: True}
    if choice == "everything_again":
        return {whole: None, **({mine: None} if mine in before else {})}
    return consents.refusing_all(about.channel, before)


def _page(call: Call, about: Unsubscribing, said: Mapping[Pair, Said], *, changed: bool) -> Response:
    ledger = call.services.ledger
    tenant = tenants.get(ledger, about.tenant)
    stored = policies.find(ledger, about.tenant, PolicyKind.PREFERENCES)
    defaults = {name: Defaults.of(policy.value) for name, policy in stored.items()}
    consent = consents.decide(about.category, about.channel, said, defaults)
    whole = said.get((ALL, about.channel.value))
    mandatory = bool(about.category) and about.category in defaults and defaults[about.category].mandatory
    shown = page.Shown(
        sender="" if tenant is None else tenant.name,
        category=about.category,
        channel=about.channel,
        wanted=consent.allowed,
        everything=whole is not None and not whole.enabled,
        mandatory=mandatory,
        changed=changed,
    )
    return LeanResponse(page.html(shown), 200, [*page.HEADERS, ("Content-Type", _HTML)])
