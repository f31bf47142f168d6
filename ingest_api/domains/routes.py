"""Domains: what their owner says of them, and what their pages ask.

Belongs here: those routes. Does not belong here: contacts and messages, storing (``core.ledger.domains``).
"""

from flask import Response

from ingest_api.camel import CamelPage
from ingest_api.domains.finding import domain_for, own_domain
from ingest_api.domains.models import (
    DomainName,
    DomainPage,
    DomainShown,
    NewDomain,
    PushConfigurationShown,
    PushFeatureShown,
)
from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import conflict
from ingest_api.fields import fields_of
from ingest_api.keys import Access
from ingest_api.paging import cut, unpack_text
from notify_pipeline.core.ledger import domains
from notify_pipeline.core.ledger.domains import Domain

GROUP = Group("domains", "Web sites, and which pages may register browsers for them.")
_STORED = {200: Answer("The stored domain.", DomainShown)}
_UNKNOWN = {404: "`unknown_domain`: there is none, or it is another tenant's."}
_UNKNOWN_TO_PAGES = {404: "`unknown_domain`: nobody has named it, or its owner is not active."}
# Every view of a page asks; a minute is how long a change may take to be seen.
_FOR_A_MINUTE = [("Cache-Control", "max-age=60")]
_CACHED = {"Cache-Control": "`max-age=60`."}


@GROUP.endpoint(
    "PUT",
    "/domains/{name}",
    access=Access.SECRET,
    answers=_STORED,
    errors={409: "`domain_taken`: the name is another tenant's."},
)
def put_domain(call: Call, name: DomainName, body: NewDomain) -> Response:
    """Name a domain, or change it.

    A name belongs to the tenant that named it first, and to nobody else. What the body does not say stays as it was.
    When this is answered, the change holds for every call that follows; pages may have asked up to a minute before.
    """
    services = call.services
    try:
        stored = domains.put(services.ledger, call.tenant, name, body.change(), call.actor, services.clock())
    except domains.NameTaken as error:
        raise conflict("domain_taken", "The name is another tenant's.", "name") from error
    if stored.is_changed:
        services.domains.forget_everywhere()
    return answer(200, _shown(stored.domain))


@GROUP.endpoint("GET", "/domains/{name}", access=Access.SECRET, answers=_STORED, errors=_UNKNOWN)
def show_domain(call: Call, name: DomainName) -> Response:
    """Show a domain."""
    return answer(200, _shown(own_domain(call, name, "name")))


@GROUP.endpoint("GET", "/domains", access=Access.SECRET, answers={200: Answer("A page, by name.", DomainPage)})
def list_domains(call: Call, query: CamelPage) -> Response:
    """List the tenant's domains.

    An organization's domains are its own, and its product's are the product's.
    """
    rows = domains.list_page(call.services.ledger, call.tenant, query.limit + 1, unpack_text(query.cursor))
    page, cursor = cut(rows, query.limit, lambda row: (row.name,))
    return answer(200, DomainPage(items=[_shown(row) for row in page], next_cursor=cursor))


@GROUP.endpoint(
    "GET",
    "/domains/{name}/isPushFeatureEnabled",
    access=Access.ANONYMOUS,
    answers={200: Answer("Whether it is on.", PushFeatureShown, headers=_CACHED)},
    errors=_UNKNOWN_TO_PAGES,
)
def show_push_feature(call: Call, name: DomainName) -> Response:
    """Say whether browsers may register for a domain."""
    domain = domain_for(call, name, "name", even_disabled=True)
    shown = PushFeatureShown(is_push_feature_enabled=domain.is_push_feature_enabled)
    return answer(200, shown, _FOR_A_MINUTE)


@GROUP.endpoint(
    "GET",
    "/domains/{name}/push-configuration",
    access=Access.ANONYMOUS,
    answers={200: Answer("What to subscribe with.", PushConfigurationShown, headers=_CACHED)},
    errors=_UNKNOWN_TO_PAGES,
)
def show_push_configuration(call: Call, name: DomainName) -> Response:
    """Show what a domain's pages need to subscribe a browser."""
    domain = domain_for(call, name, "name", even_disabled=True)
    shown = PushConfigurationShown(
        domain=domain.name,
        is_push_feature_enabled=domain.is_push_feature_enabled,
        application_server_key=call.services.application_server_key,
        icon_url=domain.icon_url,
    )
    return answer(200, shown, _FOR_A_MINUTE)


def _shown(domain: Domain) -> DomainShown:
    return DomainShown(**fields_of(DomainShown, domain))
