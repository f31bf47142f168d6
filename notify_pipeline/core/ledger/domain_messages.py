"""The messages of a domain: requests that were accepted for its contacts.

Belongs here: finding them by domain and time, and their counts added up by day. Does not belong here: one request's
life (``requests``), lists of all requests (``request_lists``), what browsers reported (``reports.reading_domains``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, case, func, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import progress
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.request_lists import RequestPage
from notify_pipeline.core.ledger.requests import RequestRow, to_row
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.ledger.usage import DAY_MICROS
from notify_pipeline.core.ledger.walks import Key, Order
from notify_pipeline.core.vocabulary import Outcome

_ORDER = Order(REQUESTS.c.accepted_at, REQUESTS.c.request_id)
_ACCEPTED, _PENDING = Outcome.ACCEPTED.value, progress.PENDING
# Whatever else is counted is an outcome of somebody who was sent to, or would have been: nobody is, in a dry run.
_NO_OUTCOMES = frozenset({_ACCEPTED, _PENDING, progress.AUDIENCE, Outcome.DRY_RUN.value})
_VISITORS, _TEMPLATE = ',"visitors":[', ',"template":{'


@dataclass(slots=True)
class SentCounts:
    """Recipients by what became of them, by the ledger: each provider's own word.

    Attributes:
        delivered: Accepted by a provider.
        not_delivered: All others that are finished: refused, given up, unanswered, expired or skipped.
        pending: Those not finished yet.
    """

    delivered: int = 0
    not_delivered: int = 0
    pending: int = 0

    @property
    def sent(self) -> int:
        """Recipients that are finished. Those of a dry run never are."""
        return self.delivered + self.not_delivered

    def add(self, counts: Mapping[str, Mapping[str, int]], times: int = 1) -> None:
        """Add a request's counts, as often as there are such requests."""
        for of_channel in counts.values():
            for name, number in of_channel.items():
                if name not in _NO_OUTCOMES:
                    self.not_delivered += number * times
            self.delivered += of_channel.get(_ACCEPTED, 0) * times
            self.pending += of_channel.get(_PENDING, 0) * times


@dataclass(slots=True)
class SentDay:
    """The messages that were accepted on a day (days since the epoch, UTC)."""

    day: int
    messages: int = 0
    counts: SentCounts = field(default_factory=SentCounts)


def counts_of(rows: Iterable[RequestRow]) -> SentCounts:
    """Return what became of these requests' recipients."""
    found = SentCounts()
    for row in rows:
        found.add(row.counts)
    return found


def get(ledger: Ledger, tenant: str, domain: str, message_id: str) -> RequestRow | None:
    """Return a tenant's message to a domain, or None when there is none or it is another's."""
    query = select(REQUESTS).where(
        REQUESTS.c.tenant == tenant, REQUESTS.c.notification_id == message_id, REQUESTS.c.domain == domain
    )
    with ledger.read() as conn:
        found = conn.execute(query).mappings().one_or_none()
    return None if found is None else to_row(found)


def page(
    ledger: Ledger,
    tenant: str,
    domain: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    after: Key | None = None,
) -> RequestPage:
    """Return a domain's messages, newest first, their bodies without the visitors that they are for.

    Args:
        ledger: The ledger.
        tenant: Whose.
        domain: Its name.
        since: Accepted then or later.
        until: Accepted before.
        limit: At most so many.
        after: ``following`` of the page before.
    """
    with ledger.read() as conn:
        query = select(*_without_visitors(conn)).where(*_of(tenant, domain, since, until))
        if after is not None:
            query = query.where(_ORDER.beyond(after))
        rows = [to_row(row) for row in conn.execute(query.order_by(*_ORDER.by).limit(limit + 1)).mappings()]
    if len(rows) <= limit:
        return RequestPage(rows, None)
    last = rows[limit - 1]
    return RequestPage(rows[:limit], (to_micros(last.accepted_at), last.request_id))


def _without_visitors(conn: Connection) -> list[ColumnElement[Any]]:
    """Return the columns of requests, with the body up to its visitors, who may be megabytes.

    They are the last name of a body, as names are stored in their order, and none of its texts can hold this mark: a
    quote in a text has a backslash before it. Only a template's fields may be named so as well; they stay.
    """
    body = REQUESTS.c.body
    find = func.instr if conn.dialect.name == "sqlite" else func.strpos
    at = find(body, _VISITORS)
    cut = func.substr(body, 1, at - 1)
    short = case(((at > 0) & (find(cut, _TEMPLATE) == 0), cut.concat("}")), else_=body).label("body")
    return [short if column is body else column for column in REQUESTS.c]


def by_day(conn: Connection, tenant: str, domain: str, since: datetime, until: datetime) -> list[SentDay]:
    """Return the days of a range that a domain's messages were accepted on; only what lies in the range counts."""
    day = (REQUESTS.c.accepted_at // DAY_MICROS).label("day")
    # One row per day, not per message: a year has tens of thousands. JSON holds no bare newline.
    counts = func.aggregate_strings(REQUESTS.c.counts, "\n")
    query = select(day, counts).where(*_of(tenant, domain, since, until)).group_by(day)
    found = []
    for number, texts in conn.execute(query).tuples():
        sent = SentDay(int(number))
        # Messages that went alike have the same counts, letter by letter.
        for text, alike in Counter(texts.split("\n")).items():
            sent.messages += alike
            sent.counts.add(orjson.loads(text), alike)
        found.append(sent)
    return sorted(found, key=lambda sent: sent.day)


def _of(tenant: str, domain: str, since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    at = REQUESTS.c.accepted_at
    where = [REQUESTS.c.tenant == tenant, REQUESTS.c.domain == domain]
    where += [] if since is None else [at >= to_micros(since)]
    return where if until is None else [*where, at < to_micros(until)]
