"""Onboarding: products and their organizations.

Belongs here: the tenant routes. Does not belong here: how keys are made (``core.ledger.tenants``).
"""

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import conflict
from ingest_api.keys import Access
from ingest_api.tenants.models import NewProduct, OrganizationMade, ProductMade
from notify_pipeline.core.ledger import tenants

GROUP = Group("tenants", "Products and organizations, and their keys.")


@GROUP.endpoint(
    "POST",
    "/products",
    access=Access.ADMIN,
    answers={201: Answer("Made. The keys are shown once and cannot be read again.", ProductMade)},
    errors={409: "`name_taken`: another product has this name."},
)
def create_product(call: Call, body: NewProduct) -> Response:
    """Create a product.

    Makes a tenant with a secret key (sends, reports) and a publishable key (may be built into apps: registers devices
    only), and the same for each organization.
    """
    try:
        made = tenants.create_product(call.services.ledger, body.name, body.organizations, call.services.clock())
    except tenants.NameTaken as error:
        raise conflict("name_taken", "Another product has this name.", "name") from error
    shown = ProductMade(
        product_id=made.tenant,
        name=made.name,
        secret_key=made.secret_key,
        publishable_key=made.publishable_key,
        organizations=[
            OrganizationMade(
                organization_id=part.tenant,
                name=part.name,
                secret_key=part.secret_key,
                publishable_key=part.publishable_key,
            )
            for part in made.organizations
        ],
    )
    return answer(201, shown, [("Cache-Control", "no-store")])
