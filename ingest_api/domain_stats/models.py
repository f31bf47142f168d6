"""What is asked of a domain's figures, and what they say.

Belongs here: models. Does not belong here: what is done with them (``routes``), where figures come from
(``reports.reading_domain_stats``).
"""

from datetime import datetime

from pydantic import Field

from ingest_api.camel import CamelLoose, CamelShown
from ingest_api.fields import Moment
from notify_pipeline.reports.reading_domain_stats import GroupBy

# Nearly three years of days. Whoever wants more asks for longer periods.
MAX_PERIODS = 1_000


class RangeQuery(CamelLoose):
    """A range of time."""

    since: Moment = Field(alias="from", description="Then or later: a date in UTC, or a time.")
    until: Moment = Field(description="Before: a date in UTC, or a time.")


class StatsQuery(RangeQuery):
    """A range of time, and how to divide it."""

    group_by: GroupBy | None = Field(
        default=None, description=f"How long each period is, at most {MAX_PERIODS:,} of them; without it, totals only."
    )


class Figures(CamelShown):
    """The figures of messages. `sent` = `delivered` + `notDelivered`."""

    messages: int = Field(description="Those accepted by the API in the period.")
    sent: int = Field(description="Contacts of theirs whose outcome is known.")
    delivered: int = Field(description="Those that a provider accepted.")
    not_delivered: int = Field(description="The others: refused, given up, unanswered, expired or skipped.")
    pending: int = Field(description="Contacts whose outcome is not known yet; not among `sent`.")
    received: int = Field(description="Contacts whose browser reported that it received the message.")
    accepted_by_beacon: int = Field(
        description="Of `received`: those that no provider confirmed, and that count as `notDelivered`."
    )
    clicked: int = Field(description="Contacts that clicked it, however often and on whatever.")
    action_clicks: dict[str, int] = Field(description="Contacts by the action that they clicked.")


class _Span(CamelShown):
    period: str = Field(description="Its name.", examples=["2026-11-21", "2026-W47", "2026-11", "2026"])
    since: datetime = Field(alias="from", description="Where what of it lies in the range begins.")
    until: datetime = Field(description="Where that ends, exclusive.")


class PeriodShown(Figures, _Span):
    """The figures of a period."""


class StatsShown(CamelShown):
    """A domain's figures."""

    domain: str
    since: datetime = Field(alias="from")
    until: datetime
    group_by: GroupBy | None
    totals: Figures = Field(description="Of the whole range; the sums of its periods.")
    periods: list[PeriodShown] = Field(description="In their order, those without messages too.")
    received_through: datetime | None = Field(
        description="How far `received`, `clicked` and the like have been counted; null before the first report."
    )


class ConsumedShown(CamelShown):
    """What a domain consumed."""

    domain: str
    since: datetime = Field(alias="from")
    until: datetime
    consumed: int = Field(description="Deliveries that a provider accepted in the range.")
    as_of: datetime | None = Field(
        description="When the report that counted them was made; null before the first. Later ones may know of more."
    )
