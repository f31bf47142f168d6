"""The domain that a call is about: whether there is one, and whether the caller may speak for it.

Belongs here: those checks, for every route that names a domain. Does not belong here: routes.
"""

from ingest_api.endpoint import Call
from ingest_api.errors import ApiError, FieldError, conflict
from notify_pipeline.core.ledger import domains
from notify_pipeline.core.ledger.domains import Domain

_UNKNOWN = "There is no such domain."


def domain_for(call: Call, name: str, field: str = "domain", even_disabled: bool = False) -> Domain:
    """Return the domain that an anonymous call is about.

    Whoever comes without an Origin is no page of another site, and there is nothing to check (RFC 6454 section 7.3).

    Args:
        call: On a route of ``Access.ANONYMOUS``.
        name: As ``models.DomainName`` makes it.
        field: What the errors name: where the caller named the domain.
        even_disabled: Also when its push feature is off.

    Raises:
        ApiError: 404 ``unknown_domain``; 403 ``origin_not_allowed`` for a page that may not speak for it; 409
            ``domain_disabled``; 429 when the address of another tenant's server calls too often.
    """
    domain = call.services.domains.find(name)
    if domain is None:
        raise unknown_domain(field)
    page = call.page
    if page is not None:
        if page.origin is not None:
            page.may_read = page.origin in domain.origins
        page.count_for(domain.tenant)
        if page.may_read is False:
            message = "Pages of this origin may not speak for the domain."
            raise ApiError(403, "origin_not_allowed", message, [FieldError("Origin", message)])
    if not domain.is_push_feature_enabled and not even_disabled:
        raise domain_disabled(field)
    return domain


def own_domain(call: Call, name: str, field: str = "domain") -> Domain:
    """Return the domain that a call with a tenant's key is about, be its push feature on or off.

    Raises:
        ApiError: 404 ``unknown_domain`` when there is none, or it is another tenant's.
    """
    domain = domains.get(call.services.ledger, name)
    if domain is None or domain.tenant != call.tenant:
        raise unknown_domain(field)
    return domain


def unknown_domain(field: str) -> ApiError:
    """Return the 404 of a domain that nobody has, or another tenant."""
    return ApiError(404, "unknown_domain", _UNKNOWN, [FieldError(field, _UNKNOWN)])


def domain_disabled(field: str) -> ApiError:
    """Return the 409 of a domain whose push feature is off."""
    return conflict("domain_disabled", "The domain's push feature is off.", field)
