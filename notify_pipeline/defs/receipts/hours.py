"""Which hours of logs a sensor asks for, and what it remembers of what it asked for. Pure.

Belongs here: grouping hours into runs, and following those to their success. Does not belong here: noticing changed
hours (``receipts.logs``), Dagster's runs (``sensor``).
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Self

import orjson

from notify_pipeline.core.partitions import hours_between

_HOUR = timedelta(hours=1)
# A week: a run over it takes seconds to minutes, and one that dies does little again.
MAX_HOURS = 168
# A failing hour is tried again and again, up to a minute apart: what a log says is not given up.
_DELAY_STEP = timedelta(seconds=5)
_MAX_DELAY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive hours asked for with one run.

    Attributes:
        first: The first hour, ISO 8601.
        last: The last one.
        token: Tells this request from an earlier one of the same hours.
        attempt: Counts its runs, from 1.
    """

    first: str
    last: str
    token: str
    attempt: int = 1

    @property
    def run_key(self) -> str:
        """The run key: never the same for two runs."""
        return f"{self.first}/{self.last}:{self.token}:{self.attempt}"

    def hours(self) -> list[datetime]:
        """The hours, in order."""
        return hours_between(datetime.fromisoformat(self.first), datetime.fromisoformat(self.last))

    def next(self) -> "Batch":
        """The same hours once more."""
        return replace(self, attempt=self.attempt + 1)

    def retry_at(self, ended: datetime) -> datetime:
        """When to try again after a run that failed."""
        return ended + min(self.attempt * _DELAY_STEP, _MAX_DELAY)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the sensor's cursor holds.

    Attributes:
        logs: How far logs were looked through.
        pending: What was asked for and is not done.
        day: The day that the last step of a round ended with, ISO 8601.
        stepped_at: When that was, ISO 8601.
    """

    logs: str | None = None
    pending: tuple[Batch, ...] = field(default=())
    day: str | None = None
    stepped_at: str | None = None

    @classmethod
    def parse(cls, cursor: str | None) -> Self:
        """Read a cursor; none is an empty memory."""
        if not cursor:
            return cls()
        found = orjson.loads(cursor)
        pending = tuple(Batch(**batch) for batch in found["pending"])
        return cls(found["logs"], pending, found.get("day"), found.get("stepped_at"))

    def text(self) -> str:
        """The cursor."""
        return orjson.dumps(asdict(self)).decode()


def batches(hours: Iterable[datetime], state: str) -> Iterator[Batch]:
    """Group hours into runs of consecutive ones.

    Args:
        hours: Changed hours, in order.
        state: What the logs looked like, as text: the same hours in another state are another request.
    """
    group: list[datetime] = []
    for hour in hours:
        if group and (hour != group[-1] + _HOUR or len(group) == MAX_HOURS):
            yield _batch(group, state)
            group = []
        group.append(hour)
    if group:
        yield _batch(group, state)


def _batch(group: list[datetime], state: str) -> Batch:
    first, last = (hour.astimezone(UTC).isoformat() for hour in (group[0], group[-1]))
    token = hashlib.blake2b(f"{first}{last}{state}".encode(), digest_size=6).hexdigest()
    return Batch(first, last, token)
