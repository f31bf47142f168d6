"""What tenants have used, day by day, for people.

Belongs here: those figures. Does not belong here: counting against quotas (``usage``, whose rows only tenants with a
quota have), reports (which know of attempts and receipts).

All figures of a day are about the sends accepted on it (UTC), read from the requests themselves: every tenant has them,
and they are what a quota's count of requests begins with.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
from sqlalchemy import Connection, func, select

from notify_pipeline.core.ledger import progress
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.ledger.tenant_tables import USAGE
from notify_pipeline.core.ledger.usage import DAY_MICROS


@dataclass(slots=True)
class DayFigures:
    """The sends that were accepted on a day.

    Attributes:
        day: Days since the epoch.
        requests: How many.
        recipients: Of those that were planned by now, skipped ones included.
        channels: By channel: ``audience``, ``pending`` and one number per outcome.
    """

    day: int
    requests: int = 0
    recipients: int = 0
    channels: progress.Counts = field(default_factory=dict)


def by_day(conn: Connection, tenants: Sequence[str], first: int, last: int) -> list[DayFigures]:
    """Return the days from ``first`` to ``last``, both included, that these tenants accepted sends on."""
    day = (REQUESTS.c.accepted_at // DAY_MICROS).label("day")
    # Sends that went alike have the same counts, letter by letter, and most go alike: the store adds them up.
    query = (
        select(day, REQUESTS.c.counts, func.count())
        .where(
            REQUESTS.c.tenant.in_(tenants),
            REQUESTS.c.accepted_at >= first * DAY_MICROS,
            REQUESTS.c.accepted_at < (last + 1) * DAY_MICROS,
        )
        .group_by(day, REQUESTS.c.counts)
    )
    found: dict[int, DayFigures] = {}
    sums: dict[int, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    for number, text, alike in conn.execute(query).tuples():
        figures = found.setdefault(int(number), DayFigures(int(number)))
        figures.requests += alike
        for channel, values in orjson.loads(text).items():
            for name, value in values.items():
                sums[figures.day][channel][name] += value * alike
    for figures in found.values():
        figures.channels = {channel: dict(values) for channel, values in sorted(sums[figures.day].items())}
        figures.recipients = sum(values.get(progress.AUDIENCE, 0) for values in figures.channels.values())
    return [found[number] for number in sorted(found)]


def recipients_counted(conn: Connection, tenant: str, day: int) -> int:
    """Return how many recipients count on a tenant's quota of a day."""
    query = select(USAGE.c.recipients).where(USAGE.c.tenant == tenant, USAGE.c.day == day)
    return conn.execute(query).scalar() or 0
