"""What a user was sent, or an address: the lake's attempts an hour at a time, newest first.

Belongs here: finding their deliveries, and what became of each. Does not belong here: HTTP, one send's recipients
(``reading_recipients``).

An attempt says whose address it went to when it was sent, so that a token that changed hands takes no history with it.
A delivery is listed once, at its first attempt (or its skip), with what its last one gave.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.ledger import routing
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.request_lists import RequestFilter
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.partitions import HOUR, hour_start, partition_of
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import RETRYABLE_OUTCOMES, Channel
from notify_pipeline.reports import reading_attempts
from notify_pipeline.reports.reading_attempts import Row

# When a delivery's first attempt began, in microseconds since the epoch, and its id: newest first.
Position = tuple[int, str]
# A page looks through so many files at most, and whole hours of them; then it is short. A second's work on a disk.
MOST_FILES = 2_000
# Beyond every delivery id: the end of an hour.
_END = "~"
# Compactions delete files between listing and reading.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose messages to list; ``since`` is inclusive, ``until`` exclusive, both of the first attempt.

    Either a user's, or those that went to any of some addresses.
    """

    tenant: str
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    channel: Channel | None = None
    addresses: Sequence[str] = ()

    @property
    def where(self) -> dict[str, Sequence[str]]:
        """The values that its attempts' columns have."""
        whose = {"recipient": self.addresses} if self.user_id is None else {"user_id": [self.user_id]}
        return {"tenant": [self.tenant], **whose}


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery.

    Attributes:
        request: The send.
        first: The row of its first attempt, or of its skip.
        last: The row of its last.
        outcome: Of its last attempt; None while there may be another.
    """

    request: RequestRow
    first: Row
    last: Row
    outcome: str | None

    @property
    def position(self) -> Position:
        """Where it is in the list."""
        return _position(self.first)


@dataclass(frozen=True, slots=True)
class MessagePage:
    """A page; ``complete`` is False where attempts are still on their way to the lake."""

    rows: Sequence[Message]
    following: Position | None
    complete: bool


def page(
    ledger: Ledger, lake: Lake, asked: Asked, limit: int, after: Position | None, wait_s: float = 2.0
) -> MessagePage:
    """Return a page of what somebody was sent, newest first.

    Args:
        ledger: The ledger.
        lake: The lake.
        asked: Whose, when, and on which channel.
        limit: At most so many.
        after: ``following`` of the page before.
        wait_s: How long the first page waits for attempts to land.
    """
    complete = reading_attempts.wait_until_landed(ledger, wait_s) if after is None else True
    found: list[Message] = []
    looked = 0
    for hour in _hours(lake, asked, after):
        files = len(lake.list(partition(ATTEMPTS, hour)))
        if looked and looked + files > MOST_FILES:
            return MessagePage(found, (to_micros(hour + HOUR), _END), complete)
        looked += files
        firsts, lasts = _hour(lake, asked, hour)
        beyond = [row for row in firsts if after is None or _position(row) < after]
        found += _messages(ledger, lake, beyond[: limit + 1 - len(found)], lasts, hour)
        if len(found) > limit:
            return MessagePage(found[:limit], found[limit - 1].position, complete)
    return MessagePage(found, None, complete)


def requests_page(
    ledger: Ledger,
    lake: Lake,
    asked: Asked,
    where: RequestFilter,
    limit: int,
    after: Position | None,
    wait_s: float = 2.0,
) -> tuple[list[RequestRow], Position | None]:
    """Return a page of the requests that sent a user something, by the newest delivery of each.

    One whose deliveries began in different hours may come again on a later page.
    """
    if after is None:
        reading_attempts.wait_until_landed(ledger, wait_s)
    found: dict[str, tuple[Position, RequestRow]] = {}
    looked = 0
    for hour in _hours(lake, asked, after):
        files = len(lake.list(partition(ATTEMPTS, hour)))
        if looked and looked + files > MOST_FILES:
            return [row for _, row in found.values()], (to_micros(hour + HOUR), _END)
        looked += files
        newest: dict[str, Position] = {}
        for row in _hour(lake, asked, hour)[0]:
            newest.setdefault(row["request_id"], _position(row))
        fresh = [name for name, place in newest.items() if (after is None or place < after) and name not in found]
        there = {row.request_id: row for row in routing.load(ledger, fresh)}
        found.update({name: (newest[name], there[name]) for name in fresh if where.fits(there[name])})
        if len(found) > limit:
            page = list(found.values())[:limit]
            return [row for _, row in page], page[-1][0]
    return [row for _, row in found.values()], None


def _position(row: Row) -> Position:
    return to_micros(row["sent_at"]), row["delivery_id"]


def _hours(lake: Lake, asked: Asked, after: Position | None) -> Iterator[datetime]:
    """Yield the hours that there are files of and that may hold the page, newest first."""
    last = None if asked.until is None else hour_start(asked.until)
    if after is not None:
        place = hour_start(datetime.fromtimestamp(0, UTC) + timedelta(microseconds=after[0]))
        last = place if last is None else min(last, place)
    for day in reversed(lake.folders(ATTEMPTS.name)):
        for name in reversed(lake.folders(f"{ATTEMPTS.name}/{day}")):
            hour = partition_of(f"{day}/{name}")
            if asked.since is not None and hour < hour_start(asked.since):
                return
            if last is None or hour <= last:
                yield hour


def _read(lake: Lake, hour: datetime, where: dict[str, Sequence[str]]) -> list[Row]:
    for left in reversed(range(_TRIES)):
        paths = [file.path for file in lake.list(partition(ATTEMPTS, hour))]
        try:
            return [row for rows in reading_attempts.matching(lake, paths, where) for row in rows]
        except FileNotFoundError:
            if not left:
                raise
    return []


def _hour(lake: Lake, asked: Asked, hour: datetime) -> tuple[list[Row], dict[str, Row]]:
    """Return the first attempts of an hour, newest first, and the last ones that it has by delivery."""
    firsts: dict[str, Row] = {}
    lasts: dict[str, Row] = {}
    for row in _read(lake, hour, asked.where):
        _keep_last(lasts, row)
        if row["attempt_no"] <= 1 and _fits(row, asked):
            firsts[row["delivery_id"]] = row
    return sorted(firsts.values(), key=_position, reverse=True), lasts


def _fits(row: Row, asked: Asked) -> bool:
    if asked.channel is not None and row["channel"] != asked.channel:
        return False
    began = row["sent_at"]
    return (asked.since is None or began >= asked.since) and (asked.until is None or began < asked.until)


def _keep_last(lasts: dict[str, Row], row: Row) -> None:
    mine = lasts.get(row["delivery_id"])
    if mine is None or mine["attempt_no"] < row["attempt_no"]:
        lasts[row["delivery_id"]] = row


def _messages(
    ledger: Ledger, lake: Lake, firsts: Sequence[Row], lasts: dict[str, Row], hour: datetime
) -> Iterator[Message]:
    requests = {row.request_id: row for row in routing.load(ledger, sorted({row["request_id"] for row in firsts}))}
    unsure = [row for row in firsts if lasts[row["delivery_id"]]["outcome"] in RETRYABLE_OUTCOMES]
    if unsure:
        # Attempts of later hours; a request that has ended since has none.
        until = max(requests[row["request_id"]].updated_at for row in unsure)
        for row in _later(lake, hour, until, [row["delivery_id"] for row in unsure]):
            _keep_last(lasts, row)
    for first in firsts:
        request, last = requests[first["request_id"]], lasts[first["delivery_id"]]
        is_over = request.state.is_final or last["outcome"] not in RETRYABLE_OUTCOMES
        yield Message(request, first, last, last["outcome"] if is_over else None)


def _later(lake: Lake, hour: datetime, until: datetime, delivery_ids: Collection[str]) -> Iterator[Row]:
    while (hour := hour + HOUR) <= until:
        yield from _read(lake, hour, {"delivery_id": sorted(delivery_ids)})
