"""Bodies of the tenant routes.

Belongs here: models, and what they alone can say is wrong. Does not belong here: what is done with them (``routes``,
``key_routes``).
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from ingest_api.errors import FieldError
from ingest_api.fields import KeyId, Label, Shown, Strict
from notify_pipeline.core.vocabulary import KeyScope

# An onboarding call, not an import: each organization is four rows in one transaction.
MAX_ORGANIZATIONS = 100
# Whoever needs longer to roll out a new key keeps two keys.
MAX_OVERLAP_S = 30 * 86_400
DEFAULT_OVERLAP_S = 86_400


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


class NewOrganization(Strict):
    """An organization to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Sport"}]})

    name: Label = Field(description="Unique within the product.")


class TenantState(Strict):
    """All that can be changed of a product or an organization, as it shall be."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "The Daily", "active": True}]})

    name: Label
    active: bool = Field(description="Whether its keys, and those of a product's organizations, are good for anything.")


class TenantChange(Strict):
    """What shall be different of a product or an organization; what is not named stays."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "examples": [{"active": False}]})

    name: Label | None = None
    active: bool | None = None


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


class ProductShown(Shown):
    """A product."""

    product_id: str
    name: str
    active: bool
    created_at: datetime
    updated_at: datetime


class OrganizationShown(Shown):
    """An organization."""

    organization_id: str
    product_id: str
    name: str
    active: bool = Field(description="Its own; while its product is not active, neither are its keys.")
    created_at: datetime
    updated_at: datetime


class ProductPage(Shown):
    """A page of products, oldest first."""

    items: list[ProductShown]
    next_cursor: str | None


class OrganizationPage(Shown):
    """A page of organizations, oldest first."""

    items: list[OrganizationShown]
    next_cursor: str | None


class NewKey(Strict):
    """A key to make: another one of a scope, or one in the place of another."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in ("scope", "rotate")],
            "examples": [
                {"scope": "secret", "label": "billing"},
                {"rotate": "019a92b1c5d07c3e8f60a1b2c3d4e5f7", "overlap_s": 3600},
            ],
        }
    )

    scope: Literal["secret", "publishable"] | None = Field(
        default=None, description="`secret` sends and reads; `publishable` may be built into apps."
    )
    rotate: KeyId | None = Field(
        default=None,
        description="The key to replace: the new one has its scope, and its label unless another is given.",
    )
    overlap_s: Annotated[int, Field(ge=0, le=MAX_OVERLAP_S)] | None = Field(
        default=None,
        description="With `rotate`: for so many seconds the old key is good besides the new one; a day by default. An"
        " end that was set before is not put off.",
    )
    label: Label | None = Field(default=None, description="For you to know it by.")

    def faults(self) -> Iterator[FieldError]:
        """Yield what is wrong between fields."""
        if self.scope is not None and self.rotate is not None:
            yield FieldError("rotate", "must not be given beside scope: the new key has the old one's")
        if self.scope is None and self.rotate is None:
            yield FieldError("scope", "is required, or rotate")
        if self.overlap_s is not None and self.rotate is None:
            yield FieldError("overlap_s", "means nothing without rotate")


class KeyShown(Shown):
    """A key, but for the key itself."""

    key_id: str
    scope: KeyScope
    label: str | None
    created_at: datetime
    last_used_at: datetime | None = Field(description="To within ten seconds; later uses may be lost with a process.")
    expires_at: datetime | None = Field(description="When it is refused, once it was rotated.")
    revoked_at: datetime | None


class KeyMade(Shown):
    """A new key, shown this once."""

    key_id: str
    key: str
    scope: KeyScope
    label: str | None
    created_at: datetime
    rotated: KeyShown | None = Field(description="The key that it replaces, and when that one is refused.")


class KeyPage(Shown):
    """A page of keys, oldest first, those that are refused included."""

    items: list[KeyShown]
    next_cursor: str | None
