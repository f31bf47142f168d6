"""Who may see and change which tenant.

Belongs here: finding the product or organization that a path names, for a caller who may. Does not belong here: whether
a key is good at all (``ingest_api.keys``).

An admin may everything. A product's secret key may see and change the product and its organizations. An organization's
may see the organization, and manage its keys. Whatever a caller may not see is not there.
"""

from ingest_api.endpoint import Call
from ingest_api.errors import ApiError, forbidden, not_found
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.tenants import Tenant

NO_PRODUCT = {404: "There is no such product, or it is not the key's own."}
NO_ORGANIZATION = {404: "There is no such organization, or the key does not see it."}


def product(call: Call, product_id: str) -> Tenant:
    """Return a product that the caller may see and change.

    Raises:
        ApiError: 404.
    """
    found = tenants.get(call.services.ledger, product_id) if call.is_admin or product_id == call.product else None
    if found is None or found.parent is not None:
        raise not_found("There is no such product.")
    return found


def organization(call: Call, organization_id: str, *, change: bool = False) -> Tenant:
    """Return an organization that the caller may see.

    Args:
        call: The caller.
        organization_id: Which.
        change: Whether the caller wants to change it; its keys are not part of it.

    Raises:
        ApiError: 404; 403 where it may be seen, but not changed.
    """
    found = tenants.get(call.services.ledger, organization_id)
    if found is None or found.parent is None or not (_is_owner(call, found) or _is_itself(call, found)):
        raise _no_organization()
    if change and not _is_owner(call, found):
        raise forbidden("An organization is changed by its product's key, or by an admin's.")
    return found


def _is_owner(call: Call, found: Tenant) -> bool:
    return call.is_admin or found.parent == call.product


def _is_itself(call: Call, found: Tenant) -> bool:
    return not call.is_admin and call.tenant == found.tenant


def _no_organization() -> ApiError:
    return not_found("There is no such organization.")
