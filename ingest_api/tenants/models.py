"""Bodies of the tenant routes.

Belongs here: models. Does not belong here: what is done with them (``routes``).
"""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from ingest_api.fields import Label, Shown, Strict

# An onboarding call, not an import: each organization is four rows in one transaction.
MAX_ORGANIZATIONS = 100


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise ValueError("must not name an organization twice")
    return names


class NewProduct(Strict):
    """A product to create, with the organizations it sends on behalf of, if any."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "The Daily", "organizations": ["Sport"]}]})

    name: Label = Field(description="Unique among products.")
    organizations: Annotated[list[Label], AfterValidator(_distinct)] = Field(
        default_factory=list,
        max_length=MAX_ORGANIZATIONS,
        description="Names, unique within the product; each becomes a tenant with keys of its own.",
        json_schema_extra={"uniqueItems": True},
    )


class OrganizationMade(Shown):
    """A new organization. Its keys are shown this once."""

    organization_id: str
    name: str
    secret_key: str
    publishable_key: str


class ProductMade(Shown):
    """A new product. Its keys are shown this once."""

    product_id: str
    name: str
    secret_key: str
    publishable_key: str
    organizations: list[OrganizationMade]
