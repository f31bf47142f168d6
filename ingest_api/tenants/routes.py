"""Onboarding: products and their organizations.

Belongs here: the tenant routes. Does not belong here: their keys (``key_routes``), who may (``rights``), storing
(``core.ledger.tenants``).
"""

from typing import Any

from flask import Response

from ingest_api.endpoint import NO_STORE, Answer, Call, Group, answer
from ingest_api.errors import ApiError, FieldError, conflict, unprocessable
from ingest_api.fields import PageQuery, TenantId
from ingest_api.keys import Access
from ingest_api.paging import cut, unpack_text
from ingest_api.tenants import rights
from ingest_api.tenants.models import (
    NewOrganization,
    NewProduct,
    OrganizationMade,
    OrganizationPage,
    OrganizationShown,
    ProductMade,
    ProductPage,
    ProductShown,
    TenantChange,
    TenantState,
)
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.tenants import NewTenant, Tenant

GROUP = Group("tenants", "Products, and the organizations that a product sends on behalf of.")
_PRODUCT = {200: Answer("The product.", ProductShown)}
_ORGANIZATION = {200: Answer("The organization.", OrganizationShown)}
_NAME_TAKEN = "`name_taken`: another product, or another organization of the product, has this name."


@GROUP.endpoint(
    "POST",
    "/products",
    access=Access.ADMIN,
    answers={201: Answer("Made. The keys are shown once and cannot be read again.", ProductMade)},
    errors={409: _NAME_TAKEN},
)
def create_product(call: Call, body: NewProduct) -> Response:
    """Create a product.

    Makes a tenant with a secret key (sends, reports) and a publishable key (may be built into apps: registers devices
    only), and the same for each organization.
    """
    services = call.services
    try:
        made = tenants.create_product(services.ledger, body.name, body.organizations, services.clock(), call.actor)
    except tenants.NameTaken as error:
        raise _name_taken() from error
    shown = ProductMade(
        product_id=made.tenant,
        name=made.name,
        secret_key=made.secret_key,
        publishable_key=made.publishable_key,
        organizations=[_made(part) for part in made.organizations],
    )
    return answer(201, shown, NO_STORE)


@GROUP.endpoint("GET", "/products", access=Access.ADMIN, answers={200: Answer("A page, oldest first.", ProductPage)})
def list_products(call: Call, query: PageQuery) -> Response:
    """List products, inactive ones included."""
    return _page(call, None, query)


@GROUP.endpoint("GET", "/products/{product_id}", access=Access.OPERATOR, answers=_PRODUCT, errors=rights.NO_PRODUCT)
def show_product(call: Call, product_id: TenantId) -> Response:
    """Show a product."""
    return answer(200, _shown(rights.product(call, product_id)))


@GROUP.endpoint(
    "PUT",
    "/products/{product_id}",
    access=Access.OPERATOR,
    answers=_PRODUCT,
    errors={**rights.NO_PRODUCT, 409: _NAME_TAKEN},
)
def replace_product(call: Call, product_id: TenantId, body: TenantState) -> Response:
    """Set a product's name, and whether it is active.

    A product that is not active is as if it were not there: its keys and its organizations' keys are refused in every
    process of the ingress before this is answered, its own among them, so that only an admin activates it again. What
    was accepted before is still sent. Activated again, everything is as it was.
    """
    return _change(call, rights.product(call, product_id), body.name, body.active)


@GROUP.endpoint(
    "PATCH",
    "/products/{product_id}",
    access=Access.OPERATOR,
    answers=_PRODUCT,
    errors={**rights.NO_PRODUCT, 409: _NAME_TAKEN},
)
def change_product(call: Call, product_id: TenantId, body: TenantChange) -> Response:
    """Rename, deactivate or reactivate a product.

    As with PUT, but what is not named stays as it is.
    """
    return _change(call, rights.product(call, product_id), *_named(body))


@GROUP.endpoint(
    "POST",
    "/products/{product_id}/organizations",
    access=Access.OPERATOR,
    answers={201: Answer("Made. The keys are shown once and cannot be read again.", OrganizationMade)},
    errors={**rights.NO_PRODUCT, 409: _NAME_TAKEN},
)
def create_organization(call: Call, product_id: TenantId, body: NewOrganization) -> Response:
    """Create an organization of a product.

    It is a tenant with keys of its own, whose data no other organization sees.
    """
    product, services = rights.product(call, product_id), call.services
    try:
        made = tenants.create_organization(services.ledger, product.tenant, body.name, services.clock(), call.actor)
    except tenants.NameTaken as error:
        raise _name_taken() from error
    return answer(201, _made(made), NO_STORE)


@GROUP.endpoint(
    "GET",
    "/products/{product_id}/organizations",
    access=Access.OPERATOR,
    answers={200: Answer("A page, oldest first.", OrganizationPage)},
    errors=rights.NO_PRODUCT,
)
def list_organizations(call: Call, product_id: TenantId, query: PageQuery) -> Response:
    """List a product's organizations, inactive ones included."""
    return _page(call, rights.product(call, product_id).tenant, query)


@GROUP.endpoint(
    "GET",
    "/organizations/{organization_id}",
    access=Access.OPERATOR,
    answers=_ORGANIZATION,
    errors=rights.NO_ORGANIZATION,
)
def show_organization(call: Call, organization_id: TenantId) -> Response:
    """Show an organization."""
    return answer(200, _shown(rights.organization(call, organization_id)))


@GROUP.endpoint(
    "PUT",
    "/organizations/{organization_id}",
    access=Access.OPERATOR,
    answers=_ORGANIZATION,
    errors={**rights.NO_ORGANIZATION, 409: _NAME_TAKEN},
)
def replace_organization(call: Call, organization_id: TenantId, body: TenantState) -> Response:
    """Set an organization's name, and whether it is active.

    Not with its own key. The keys of one that is not active are refused in every process of the ingress before this is
    answered, and its product's key cannot act for it. What was accepted before is still sent.
    """
    return _change(call, rights.organization(call, organization_id, change=True), body.name, body.active)


@GROUP.endpoint(
    "PATCH",
    "/organizations/{organization_id}",
    access=Access.OPERATOR,
    answers=_ORGANIZATION,
    errors={**rights.NO_ORGANIZATION, 409: _NAME_TAKEN},
)
def change_organization(call: Call, organization_id: TenantId, body: TenantChange) -> Response:
    """Rename, deactivate or reactivate an organization.

    As with PUT, but what is not named stays as it is.
    """
    return _change(call, rights.organization(call, organization_id, change=True), *_named(body))


def _named(body: TenantChange) -> tuple[str | None, bool | None]:
    if body.name is None and body.active is None:
        raise unprocessable(FieldError("body", "needs name or active"))
    return body.name, body.active


def _change(call: Call, tenant: Tenant, name: str | None, active: bool | None) -> Response:
    services = call.services
    try:
        changed = tenants.change(services.ledger, tenant.tenant, call.actor, services.clock(), name, active)
    except tenants.NameTaken as error:
        raise _name_taken() from error
    if active is False:
        services.keys.forget_everywhere()
    # Tenants are never deleted, so there still is one.
    return answer(200, _shown(changed or tenant))


def _page(call: Call, parent: str | None, query: PageQuery) -> Response:
    rows = tenants.list_page(call.services.ledger, parent, query.limit + 1, unpack_text(query.cursor))
    page, cursor = cut(rows, query.limit, lambda row: (row.tenant,))
    return answer(200, {"items": [_shown(row) for row in page], "next_cursor": cursor})


def _shown(tenant: Tenant) -> dict[str, Any]:
    ids = {"product_id": tenant.tenant}
    if tenant.parent is not None:
        ids = {"organization_id": tenant.tenant, "product_id": tenant.parent}
    times = {"created_at": tenant.created_at, "updated_at": tenant.updated_at}
    return {**ids, "name": tenant.name, "active": tenant.active, **times}


def _made(made: NewTenant) -> OrganizationMade:
    return OrganizationMade(
        organization_id=made.tenant,
        name=made.name,
        secret_key=made.secret_key,
        publishable_key=made.publishable_key,
    )


def _name_taken() -> ApiError:
    return conflict("name_taken", "Another one has this name.", "name")
