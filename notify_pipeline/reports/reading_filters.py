"""Which notifications a question about reports is about.

Belongs here: the filter, and its form in SQL. Does not belong here: the questions (``reading_lists``,
``reading_totals``), HTTP.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notify_pipeline.reports.reading_rows import FIRST, LAST

_CLAUSES = {
    "type": "n.type = $type",
    "platform": "list_contains(n.platforms, $platform)",
    "topic": "list_contains(n.topics, $topic)",
    "state": "n.state = $state",
    "title": "contains(lower(n.title), lower($title))",
}
_HAS_PLATFORM = (
    "EXISTS (FROM facts.platform_reports AS p WHERE p.accepted_at >= $since AND p.accepted_at < $until"
    " AND list_contains($tenants, p.tenant) AND p.tenant = n.tenant AND p.notification_id = n.notification_id AND "
)
_NAMES = (*_CLAUSES, "channel")


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which notifications; None means any.

    Attributes:
        tenants: Whose.
        since: Accepted by the API then or later.
        until: Accepted before.
        type: Of this type.
        platform: With recipients there; of their platforms' figures only these.
        channel: With recipients on it, those of the platform if one is named; likewise.
        topic: Sent to this topic, by its whole name.
        state: Where the request stands.
        title: Whose title has this text in it, in whatever case.
        include_dry_run: Dry runs too.
    """

    tenants: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    type: str | None = None
    platform: str | None = None
    channel: str | None = None
    topic: str | None = None
    state: str | None = None
    title: str | None = None
    include_dry_run: bool = False

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that ``where`` names."""
        bounds = {"tenants": list(self.tenants), "since": self.since or FIRST, "until": self.until or LAST}
        return bounds | {name: getattr(self, name) for name in _NAMES if getattr(self, name) is not None}

    @property
    def where(self) -> str:
        """The condition on ``facts.notifications AS n``: no more than is asked for, since each column costs reading."""
        clauses = ["n.accepted_at >= $since", "n.accepted_at < $until", "list_contains($tenants, n.tenant)"]
        clauses += [clause for name, clause in _CLAUSES.items() if getattr(self, name) is not None]
        if self.channel is not None:
            clauses.append(f"{_HAS_PLATFORM}{self.of_platforms})")
        if not self.include_dry_run:
            clauses.append("NOT n.is_dry_run")
        return " AND ".join(clauses)

    @property
    def is_of_platforms(self) -> bool:
        """True when only some platforms' figures are asked for."""
        return self.platform is not None or self.channel is not None

    @property
    def of_platforms(self) -> str:
        """The condition on ``facts.platform_reports AS p`` that says which."""
        clauses = [f"p.{name} = ${name}" for name in ("platform", "channel") if getattr(self, name) is not None]
        return " AND ".join(clauses) or "TRUE"
