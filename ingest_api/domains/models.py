"""Bodies of the domain routes, and what the name of a domain looks like.

Belongs here: models. Does not belong here: what is done with them (``routes``), names and origins themselves
(``core.domain_names``).
"""

from datetime import datetime
from typing import Annotated, cast

from pydantic import AfterValidator, ConfigDict, Field

from ingest_api.camel import CamelShown, CamelStrict
from ingest_api.fields import HTTPS_PATTERN
from notify_pipeline.core import domain_names
from notify_pipeline.core.ledger.domains import DomainChange
from notify_pipeline.core.send_checks import MAX_URL

# Far more than a site has, and few enough to be told in every list.
MAX_ORIGINS = 50

# However it is written; handlers get the one spelling.
DomainName = Annotated[
    str,
    Field(
        pattern=domain_names.WRITTEN_PATTERN,
        examples=["example.com"],
        description="A host, in whatever case; another script's is the same as its ASCII form.",
    ),
    AfterValidator(domain_names.host_name),
]
PageOrigin = Annotated[
    str,
    Field(
        pattern=r"^https?://[a-z0-9.\-]{1,253}(:[1-9][0-9]{0,4})?$",
        examples=["https://shop.example.com"],
    ),
    AfterValidator(domain_names.origin),
]
IconUrl = Annotated[str, Field(pattern=HTTPS_PATTERN, max_length=MAX_URL, examples=["https://example.com/icon.png"])]


class NewDomain(CamelStrict):
    """What is told of a domain. What is absent stays as it was, but for the first field."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "isPushFeatureEnabled": True,
                    "iconUrl": "https://example.com/icon.png",
                    "allowedOrigins": ["https://shop.example.com"],
                }
            ]
        }
    )

    is_push_feature_enabled: bool = Field(description="Whether browsers may register for it.")
    icon_url: IconUrl | None = Field(default=None, description="Of messages that have none of their own; null: none.")
    allowed_origins: list[PageOrigin] = Field(
        default=[],
        max_length=MAX_ORIGINS,
        description="Whose pages may speak for the domain, beside `https://{name}` and `https://www.{name}`; as "
        "browsers write origins. Plain HTTP for localhost and 127.0.0.1 only.",
    )

    def change(self) -> DomainChange:
        """Return what was said."""
        return cast(DomainChange, {name: getattr(self, name) for name in self.model_fields_set})


class DomainShown(CamelShown):
    """A domain as it is stored."""

    name: str = Field(description="In lower case, in ASCII.")
    is_push_feature_enabled: bool
    icon_url: str | None
    allowed_origins: list[str] = Field(description="Beside its own.")
    created_at: datetime
    updated_at: datetime


class DomainPage(CamelShown):
    """A page of a tenant's domains, by name."""

    items: list[DomainShown]
    next_cursor: str | None


class PushFeatureShown(CamelShown):
    """Whether browsers may register for a domain."""

    is_push_feature_enabled: bool


class PushConfigurationShown(CamelShown):
    """What a page needs to subscribe its browser."""

    domain: str
    is_push_feature_enabled: bool
    application_server_key: str = Field(description="The public key to subscribe with, the same for all domains.")
    icon_url: str | None
