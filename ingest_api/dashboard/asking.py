"""From the address of the list to the question that it asks of the reports.

Belongs here: ranges of days, filters, whose notifications a session sees. Does not belong here: the page
(``pages.notifications``), queries (``reports.reading_*``).

Parameters have the names that they have in ``GET /reports``; ``range`` and ``to`` are the page's own: a range of days
that moves with the present, and the last day of a range, which people mean to be part of it. Whatever is wrong in an
address is left out, and said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from ingest_api.dashboard.sessions import Session
from ingest_api.errors import ApiError, not_found
from ingest_api.reports import asking
from ingest_api.reports.questions import ReportQuery
from ingest_api.services import Services
from notify_pipeline.core.ledger import tenants
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.reading_lists import Place, Sort

# Days that each range has, today included.
RANGES: Final[Mapping[str, int]] = {"today": 1, "7d": 7, "30d": 30}
CUSTOM: Final = "custom"
_USUAL: Final = "7d"
_NAMES: Final = ("type", "platform", "channel", "topic", "state", "q", "include_dry_run", "sort", "cursor")
_KEPT: Final[tuple[str, ...]] = ("range", "from", "to", "organization", *_NAMES)
# A page of a list on a screen.
ROWS: Final = 50
# Days that all calendars and databases know.
_FIRST, _LAST = date(1970, 1, 1), date(9998, 12, 31)
# More are not offered to choose from.
_MOST_ORGANIZATIONS: Final = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks for.

    Attributes:
        range: One of ``RANGES``, or ``CUSTOM``.
        first: The first day of a range of one's own.
        last: Its last day.
        organization: The one tenant that is asked about; None: all that the session sees.
        where: Which notifications.
        sort: In which order.
        after: Where the page before ended.
        given: The parameters that were understood, as the address has them.
        problems: What was not.
    """

    range: str
    first: date | None
    last: date | None
    organization: str | None
    where: ListFilter
    sort: Sort
    after: Place | None
    given: Mapping[str, str]
    problems: tuple[str, ...] = field(default=())

    @property
    def download(self) -> dict[str, str]:
        """The parameters by which ``GET /reports.csv`` and the others give the same notifications."""
        kept = {name: self.given[name] for name in _NAMES if name in self.given and name not in ("sort", "cursor")}
        if self.where.since is not None:
            kept["from"] = self.where.since.date().isoformat()
        if self.where.until is not None:
            kept["until"] = self.where.until.date().isoformat()
        if self.organization is not None:
            kept["organization"] = self.organization
        elif len(self.where.tenants) > 1:
            kept["include_organizations"] = "true"
        return kept


def read(services: Services, session: Session, query: Mapping[str, str]) -> Asked:
    """Return what an address's parameters ask for.

    Raises:
        ApiError: 404 for an organization that the session does not see.
    """
    given = {name: value.strip() for name, value in query.items() if value.strip()}
    problems: list[str] = []
    today = services.clock().date()
    chosen = _range(given)
    first, last = (_day(given, name, problems) if chosen == CUSTOM else None for name in ("from", "to"))
    if first is not None and last is not None and last < first:
        problems.append("The last day is before the first: they have changed places.")
        first, last = last, first
    if chosen != CUSTOM:
        first = today - timedelta(days=RANGES[chosen] - 1)
    found = _query(given, problems)
    organization = given.get("organization")
    where = ListFilter(
        tenants=readable(services, session) if organization is None else (named(services, session, organization),),
        since=None if first is None else _midnight(first, services.clock()),
        until=None if last is None else _midnight(last + timedelta(days=1), services.clock()),
        type=found.type,
        platform=found.platform,
        channel=found.channel,
        topic=found.topic,
        state=found.state,
        title=found.q,
        include_dry_run=found.include_dry_run,
    )
    kept: dict[str, str] = {name: given[name] for name in _KEPT if name in given}
    return Asked(
        chosen, first, last, organization, where, found.sort, _place(found, kept, problems), kept, tuple(problems)
    )


def readable(services: Services, session: Session) -> tuple[str, ...]:
    """Return the tenants whose notifications a session sees: its own, and a product's organizations'."""
    if session.key.parent is not None:
        return (session.tenant,)
    return (session.tenant, *tenants.organization_ids(services.ledger, session.tenant))


def named(services: Services, session: Session, organization: str | None) -> str:
    """Return the tenant that an address names; without a name the session's own.

    Raises:
        ApiError: 404 for one that the session does not see.
    """
    if organization is None or organization == session.tenant:
        return session.tenant
    if organization not in readable(services, session):
        raise not_found("There is no such organization.")
    return organization


def organizations(services: Services, session: Session) -> dict[str, str]:
    """Return the names of the tenants that may be chosen from, by id; empty where there is nothing to choose."""
    if session.key.parent is not None:
        return {}
    found = tenants.list_page(services.ledger, session.tenant, _MOST_ORGANIZATIONS)
    own = tenants.get(services.ledger, session.tenant)
    if not found or own is None:
        return {}
    return {own.tenant: f"{own.name} itself", **{each.tenant: each.name for each in found}}


def _range(given: Mapping[str, str]) -> str:
    wanted = given.get("range", CUSTOM if "from" in given or "to" in given else _USUAL)
    return wanted if wanted in RANGES or wanted == CUSTOM else _USUAL


def _day(given: dict[str, str], name: str, problems: list[str]) -> date | None:
    if name not in given:
        return None
    try:
        found = date.fromisoformat(given[name])
        if _FIRST <= found <= _LAST:
            return found
    except ValueError:
        pass
    problems.append(f"“{given.pop(name)[:100]}” is no day that there are reports of: write it as 2026-11-22.")
    return None


def _midnight(day: date, now: datetime) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)


def _query(given: dict[str, str], problems: list[str]) -> ReportQuery:
    while True:
        asked = {name: given[name] for name in _NAMES if name in given}
        try:
            return ReportQuery.model_validate(asked)
        except ValidationError as error:
            for name in {str(each["loc"][0]) for each in error.errors()}:
                problems.append(
                    f"“{given.pop(name)[:100]}” says nothing as {name.replace('_', ' ')}, and was left out."
                )


def _place(found: ReportQuery, given: dict[str, str], problems: list[str]) -> Place | None:
    try:
        return asking.place_of(found.cursor, found.sort)
    except ApiError:
        given.pop("cursor", None)
        problems.append("That page is none of this list any more; this is its first.")
        return None
