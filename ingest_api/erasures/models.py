"""Bodies of the erasure routes.

Belongs here: models, and what they alone can say is wrong. Does not belong here: what is done with them (``routes``).
"""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from ingest_api.domains.models import DomainName
from ingest_api.errors import FieldError, unprocessable
from ingest_api.fields import Email, PageQuery, Phone, Shown, Strict, Token, UserId, VisitorGuid
from notify_pipeline.core.ledger.erasure_names import Named
from notify_pipeline.core.mail_addresses import folded
from notify_pipeline.core.vocabulary import ErasureKind, ErasureState

_BY = {
    "user_id": ErasureKind.USER,
    "email": ErasureKind.EMAIL,
    "phone": ErasureKind.PHONE,
    "device_token": ErasureKind.DEVICE,
    "visitor_guid": ErasureKind.VISITOR,
}


class NewErasure(Strict):
    """Whom to erase: exactly one name; `domain` goes with `visitor_guid`, and only with that."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "ada@example.com"}]})

    user_id: UserId | None = Field(
        default=None, description="A user, with all that the user's profile and devices say."
    )
    email: Email | None = Field(default=None, description="An address, whoever's it is.")
    phone: Phone | None = Field(default=None, description="A number, whoever's it is.")
    device_token: Token | None = Field(default=None, description="A device, or a browser, and not its user.")
    domain: DomainName | None = Field(default=None, description="Of the visitor.")
    visitor_guid: VisitorGuid | None = Field(default=None, description="A visitor of a domain's pages.")

    def named(self, tenant: str) -> Named:
        """Return who is meant.

        Raises:
            ApiError: 422: nobody, or more than one.
        """
        given = [name for name in _BY if getattr(self, name) is not None]
        if len(given) != 1:
            field = given[1] if given else "user_id"
            raise unprocessable(FieldError(field, f"exactly one of {', '.join(_BY)} names who is to be erased"))
        if (self.visitor_guid is None) != (self.domain is None):
            field = "domain" if self.domain is None else "visitor_guid"
            raise unprocessable(FieldError(field, "a visitor is one of a domain: give both"))
        value = str(getattr(self, given[0]))
        kind = _BY[given[0]]
        return Named(tenant, kind, folded(value) if kind is ErasureKind.EMAIL else value, self.domain)


class ErasureAccepted(Shown):
    """The answer to an erasure."""

    erasure_id: str
    status_url: str


class ErasureShown(Shown):
    """An erasure: how far it is, and what was removed. It names nobody."""

    erasure_id: str
    kind: ErasureKind = Field(description="By what the person was named.")
    subject: str = Field(description="A keyed digest: the same whenever the same person is erased again.")
    state: ErasureState
    waits_for: str | None = Field(description="What its next step waits for.")
    removed: dict[str, dict[str, int]] = Field(
        description="Rows deleted or rewritten, by room (`ledger`, `lake`) and table."
    )
    proof: dict[str, Any] | None = Field(
        description="Once verified: how many files and rows were looked through, that none names the person, and a "
        "digest of the files as they were then."
    )
    requested_at: datetime
    ledger_done_at: datetime | None
    lake_done_at: datetime | None
    verified_at: datetime | None


class ErasurePage(Shown):
    """A page of erasures, newest first."""

    items: list[ErasureShown]
    next_cursor: str | None


class ErasureQuery(PageQuery):
    """Which erasures to list."""

    state: ErasureState | None = None
