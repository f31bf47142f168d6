"""What a tenant may use: set by an admin, shown to the tenant beside what it has used.

Belongs here: the limit routes. Does not belong here: holding callers to their limits (``keeping``, ``core.ledger``).
"""

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import not_found
from ingest_api.fields import TenantId
from ingest_api.keys import Access
from ingest_api.limits.models import LimitsShown, TenantLimits, UsageQuery, UsageShown, shown
from ingest_api.limits.usage import usage_of
from notify_pipeline.core.ledger import policies, tenants
from notify_pipeline.core.vocabulary import PolicyKind

GROUP = Group("limits", "What a tenant may use.")
_SET = {200: Answer("The limits.", LimitsShown)}
_NO_TENANT = {404: "There is no such tenant."}


@GROUP.endpoint("PUT", "/tenants/{tenant_id}/limits", access=Access.ADMIN, answers=_SET, errors=_NO_TENANT)
def set_limits(call: Call, tenant_id: TenantId, body: TenantLimits) -> Response:
    """Set what a product or organization may use, in the place of what was set before.

    An organization without limits of its own has its product's. One with its own still counts on its product's daily
    quotas. They hold two seconds later, in every process.
    """
    _checked(call, tenant_id)
    services = call.services
    policies.put(services.ledger, tenant_id, PolicyKind.LIMITS, body.stored(), call.actor, services.clock())
    return _answer(call, tenant_id)


@GROUP.endpoint("GET", "/tenants/{tenant_id}/limits", access=Access.ADMIN, answers=_SET, errors=_NO_TENANT)
def show_tenant_limits(call: Call, tenant_id: TenantId) -> Response:
    """Show what a product or organization may use."""
    _checked(call, tenant_id)
    return _answer(call, tenant_id)


@GROUP.endpoint(
    "DELETE",
    "/tenants/{tenant_id}/limits",
    access=Access.ADMIN,
    answers={204: Answer("Removed.")},
    errors={404: "There is no such tenant, or it has no limits of its own."},
)
def remove_limits(call: Call, tenant_id: TenantId) -> Response:
    """Remove a product's or organization's own limits."""
    _checked(call, tenant_id)
    services = call.services
    if not policies.remove(services.ledger, tenant_id, PolicyKind.LIMITS, call.actor, services.clock()):
        raise not_found("The tenant has no limits of its own.")
    return empty()


@GROUP.endpoint("GET", "/limits", access=Access.SECRET, answers=_SET)
def show_limits(call: Call) -> Response:
    """Show what the caller may use."""
    return _answer(call, call.tenant)


@GROUP.endpoint("GET", "/usage", access=Access.SECRET, answers={200: Answer("By day, and today.", UsageShown)})
def show_usage(call: Call, query: UsageQuery) -> Response:
    """Show what was used, by day (UTC), and what is left of today's quotas.

    A day's figures are about the sends accepted on it. Quotas count a send's recipients on the day that it is planned,
    since the quota took effect: the same figure, but for sends that are planned on another day.
    """
    return answer(200, usage_of(call, query))


def _checked(call: Call, tenant_id: str) -> None:
    if tenants.get(call.services.ledger, tenant_id) is None:
        raise not_found("There is no such tenant.")


def _answer(call: Call, tenant_id: str) -> Response:
    return answer(200, shown(tenant_id, policies.find(call.services.ledger, tenant_id, PolicyKind.LIMITS).get("")))
