"""What tenants with daily quotas use, counted exactly in the transactions that use it.

Belongs here: counting against quotas. Does not belong here: which tenant has which (``limits``), what becomes of a send
that is over (``accepting``, ``routing``, ``broadcasts``), figures for people (``figures``).

A row is one tenant's day. It is locked from the first look at it to the end of the transaction, so no two sends take
the same last place. Its ``requests`` is what ``requests`` holds of that day, organizations included: counted there once
when the quota takes effect, and kept from then on. Its ``recipients`` begins at nothing, as a send's recipients are
used when it is planned, which no table remembers by day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, or_, select

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.ledger.tenant_tables import TENANTS, USAGE

DAY_MICROS = 86_400_000_000
# A new daily quota counts from so long after it was set. Each process learns of it within half of that
# (``limits.CACHE_S``); what those that do not know yet accept is committed long before the count is made.
EFFECT_S = 2.0
QUOTA_EXCEEDED = "quota_exceeded"


@dataclass(frozen=True, slots=True)
class Quota:
    """What a tenant, its organizations included, may use in a day (UTC); ``since``: when it was set, microseconds."""

    subject: str
    daily_requests: int | None
    daily_recipients: int | None
    since: int

    @property
    def is_any(self) -> bool:
        """True when anything is limited."""
        return self.daily_requests is not None or self.daily_recipients is not None


class QuotaExceeded(Exception):
    """A day's quota is used up. ``resets_at``: midnight UTC, when the next begins."""

    def __init__(self, name: str, limit: int, at: int) -> None:
        super().__init__(f"{name} is {limit}, and that many were used today (UTC)")
        self.name = name
        self.limit = limit
        self.resets_at = from_micros((at // DAY_MICROS + 1) * DAY_MICROS)


def day_of(moment: datetime) -> int:
    """Return the day (UTC) as days since the epoch."""
    return (moment.astimezone(UTC).date() - _EPOCH).days


def start_of(day: int) -> datetime:
    """Return the first moment of a day."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).date()


def of_tenant_and_parts(column: ColumnElement[str], tenant: str) -> ColumnElement[bool]:
    """Return the condition that a row is the tenant's or one of its organizations'."""
    return or_(column == tenant, column.in_(select(TENANTS.c.tenant).where(TENANTS.c.parent == tenant)))


class Tally:
    """The days that one transaction counts on. Name all uses at once, so that rows are locked in one order."""

    def __init__(
        self, conn: Connection, uses: Sequence[tuple[Sequence[Quota], int]], *, counts_requests: bool = False
    ) -> None:
        """Lock the rows of these quotas at these moments (microseconds).

        A transaction that will use requests begins the count of a quota that is in effect and was not counted yet.
        One that comes before it is in effect holds the row all the same: it is stored before the count, or counted.
        """
        self._conn = conn
        self._rows: dict[tuple[str, int], _Row] = {}
        latest: dict[tuple[str, int], tuple[int, Quota]] = {}
        for quotas, at in uses:
            for quota in quotas:
                key = quota.subject, at // DAY_MICROS
                latest[key] = max(latest.get(key, (at, quota)), (at, quota), key=lambda found: found[0])
        for key, (at, quota) in sorted(latest.items()):
            row = self._rows[key] = _Row(conn, *key)
            if counts_requests and not row.counts(quota) and at >= quota.since + round(EFFECT_S * 1e6):
                row.begin(conn, quota)

    def take_request(self, quotas: Sequence[Quota], at: int) -> QuotaExceeded | None:
        """Use one request at a moment, or say which quota has no room for it; then nothing is used."""
        mine = [(quota, self._rows[quota.subject, at // DAY_MICROS]) for quota in quotas]
        counting = [(quota, row) for quota, row in mine if row.counts(quota)]
        for quota, row in counting:
            if quota.daily_requests is not None and row.requests >= quota.daily_requests:
                return QuotaExceeded("daily_requests", quota.daily_requests, at)
        for _, row in counting:
            row.requests += 1
        return None

    def give_back_request(self, quotas: Sequence[Quota], at: int) -> None:
        """Undo ``take_request``: it was a repetition after all."""
        for quota in quotas:
            row = self._rows[quota.subject, at // DAY_MICROS]
            row.requests -= row.counts(quota)

    def take_recipients(self, quotas: Sequence[Quota], number: int, at: int) -> bool:
        """Use so many recipients at a moment; False, and nothing is used, when a quota has no room for all."""
        mine = [(quota, self._rows[quota.subject, at // DAY_MICROS]) for quota in quotas]
        for quota, row in mine:
            if quota.daily_recipients is not None and row.recipients + number > quota.daily_recipients:
                return False
        for _, row in mine:
            row.recipients += number
        return True

    def store(self) -> None:
        """Write what was used."""
        for row in self._rows.values():
            row.store(self._conn)


class _Row:
    """One tenant's day, locked."""

    def __init__(self, conn: Connection, subject: str, day: int) -> None:
        self._subject, self._day = subject, day
        self._this = (USAGE.c.tenant == subject) & (USAGE.c.day == day)
        query = select(USAGE.c.requests, USAGE.c.recipients, USAGE.c.since).where(self._this).with_for_update()
        found = conn.execute(query).tuples().one_or_none()
        if found is None:
            fresh = {"tenant": subject, "day": day, "requests": 0, "recipients": 0, "since": 0}
            conn.execute(insert_for(conn.dialect.name)(USAGE).values(fresh).on_conflict_do_nothing())
            found = conn.execute(query).tuples().one()
        self._stored = (int(found[0]), int(found[1]), int(found[2]))
        self.requests, self.recipients, self._since = self._stored

    def counts(self, quota: Quota) -> bool:
        """Tell whether requests count on this quota yet."""
        return self._since == quota.since

    def begin(self, conn: Connection, quota: Quota) -> None:
        """Count the day's requests so far, for this quota."""
        self.requests, self._since = requests_on(conn, self._subject, self._day), quota.since

    def store(self, conn: Connection) -> None:
        values = (self.requests, self.recipients, self._since)
        if values != self._stored:
            new = dict(zip(("requests", "recipients", "since"), values, strict=True))
            conn.execute(USAGE.update().where(self._this).values(new))


def requests_on(conn: Connection, tenant: str, day: int) -> int:
    """Return how many requests of a tenant and its organizations were accepted on a day."""
    query = select(func.count()).where(
        of_tenant_and_parts(REQUESTS.c.tenant, tenant),
        REQUESTS.c.accepted_at >= day * DAY_MICROS,
        REQUESTS.c.accepted_at < (day + 1) * DAY_MICROS,
    )
    return conn.execute(query).scalar_one()
