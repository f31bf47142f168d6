"""Who is registered, for a topic, for a domain or at all, now: the base plus what has landed since.

Belongs here: audiences that the lake answers, and folding landed registrations into a new base. Does not belong here:
audiences that name users or devices (the ledger answers those), the base's layout (``audience_base``), sending.

The delta is deduplicated by token and its tokens are anti-joined from the base, which is one hash of the small side;
picking the newest row per token over both took ten times as long and five times the memory.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import and_, or_

import polars as pl

from notify_pipeline.core import conditions
from notify_pipeline.core.conditions import AllOf, AnyOf, Condition, HasTopic, Not
from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import leases, outbox, segments
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Audience
from notify_pipeline.core.schemas import REGISTRATIONS
from notify_pipeline.core.vocabulary import RegistrationOp
from notify_pipeline.delivery import audience_base
from notify_pipeline.delivery.audience_base import DEVICE_COLUMNS, DEVICE_SCHEMA, PROFILE, Base

log = logging.getLogger(__name__)

BATCH_ROWS = 50_000
_UPSERT = RegistrationOp.UPSERT.value
# A compaction may remove a file between listing and reading it; the next listing names its replacement.
_LISTINGS = 5


class NotLanded(Exception):
    """Registrations accepted before the send are not in the lake yet, and did not come in time."""


@dataclass(frozen=True, slots=True)
class CountedAudience:
    """The recipients of a send that the lake counted out: everybody once.

    Attributes:
        at_least: A lower bound of their number.
    """

    at_least: int
    _sources: tuple[pl.LazyFrame, ...]

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
        """Yield the recipients in frames of at most ``rows`` rows of ``PROFILE`` columns, in no particular order."""
        for source in self._sources:
            for frame in source.collect_batches(chunk_size=rows, maintain_order=False):
                for start in range(0, frame.height, rows):
                    yield frame.slice(start, rows)


class AudienceReader:
    """Answers audiences. Keeps the index of the current base, which never changes, between calls."""

    def __init__(self, lake: Lake, ledger: Ledger) -> None:
        self._lake = lake
        self._ledger = ledger
        self._base = audience_base.EMPTY

    def find(self, tenant: str, audience: Audience) -> CountedAudience:
        """Return who an audience is that ``is_counted_out``, as far as registrations have landed."""
        if audience.everyone:
            return self.everyone(tenant, audience.condition)
        if audience.domain is not None:
            return self.contacts(tenant, audience.domain)
        return self.topics(tenant, audience.topics)

    def everyone(self, tenant: str, condition: str | None = None) -> CountedAudience:
        """Return who is registered and satisfies the condition, as far as registrations have landed.

        Contacts of domains are among them, as they are among those of a topic.

        Raises:
            conditions.ConditionError: It cannot be read.
        """
        wanted = pl.col("op") == _UPSERT
        if condition is not None:
            wanted &= satisfied(conditions.parse(condition))
        base, delta = self._now(tenant)
        news = delta.filter(wanted).select(PROFILE)
        sources, known = [news.lazy()] if news.height else [], 0
        if files := base.device_files(tenant):
            part = audience_base.scan_devices(self._lake, files).filter(wanted)
            known = part.select(pl.len()).collect().item()
            part = part.select(PROFILE)
            sources.append(part.join(delta.lazy().select("token"), on="token", how="anti") if delta.height else part)
        return CountedAudience(max(0, known - delta.height) + news.height, tuple(sources))

    def topics(self, tenant: str, topics: Sequence[str]) -> CountedAudience:
        """Return who is registered for at least one of the topics, as far as registrations have landed."""
        names = list(dict.fromkeys(topics))
        return self._partitioned(tenant, names, reduce(or_, (pl.col("topics").list.contains(name) for name in names)))

    def contacts(self, tenant: str, domain: str) -> CountedAudience:
        """Return who is registered for a domain, as far as registrations have landed."""
        return self._partitioned(tenant, [audience_base.topic_of_domain(domain)], pl.col("domain") == domain)

    def _partitioned(self, tenant: str, names: Sequence[str], wanted: pl.Expr) -> CountedAudience:
        """Return who is in one of these partitions of the base, or news that are ``wanted``."""
        base, delta = self._now(tenant)
        news = delta.filter((pl.col("op") == _UPSERT) & wanted).select(PROFILE)
        changed = delta.lazy().select("token")
        sources = [news.lazy()] if news.height else []
        largest = 0
        for number, name in enumerate(names):
            files, rows = base.topic_files(tenant, name)
            largest = max(largest, rows)
            if files:
                part = audience_base.scan(self._lake, files)
                for before in names[:number]:
                    part = part.filter(~pl.col("topics").list.contains(before))
                part = part.select(PROFILE)
                sources.append(part.join(changed, on="token", how="anti") if delta.height else part)
        return CountedAudience(max(0, largest - delta.height) + news.height, tuple(sources))

    def _now(self, tenant: str) -> tuple[Base, pl.DataFrame]:
        for _ in range(_LISTINGS):
            # The base first, then the listing: a listing older than the base could lack what the base does not hold.
            if audience_base.current_version(self._lake) != self._base.version:
                self._base = audience_base.load(self._lake)
            files = list(segments.landed(self._ledger, REGISTRATIONS.name).not_in(self._base.folded).values())
            try:
                return self._base, self._delta(tenant, files)
            except FileNotFoundError:
                log.info("a registrations segment was replaced while it was being read; listing again")
        raise NotLanded(f"registrations segments kept moving through {_LISTINGS} listings")

    def _delta(self, tenant: str, files: list[str]) -> pl.DataFrame:
        """Return the newest landed row of each token of the tenant that the base does not know."""
        if not files:
            return pl.DataFrame(schema={**DEVICE_SCHEMA, "at": pl.Datetime("us", "UTC")})
        rows = _landed_rows(self._lake, files).filter(pl.col("tenant") == tenant)
        return _unknown(self._lake, self._base, _newest(rows).collect(), tenant)


def satisfied(condition: Condition) -> pl.Expr:
    """Return the expression over the column ``topics`` that is true, never null, where a condition is satisfied."""
    match condition:
        case HasTopic(topic):
            return pl.col("topics").list.contains(topic).fill_null(False)
        case Not(operand):
            return ~satisfied(operand)
        case AllOf(operands):
            return reduce(and_, map(satisfied, operands))
        case AnyOf(operands):
            return reduce(or_, map(satisfied, operands))


def high_water(ledger: Ledger) -> int:
    """Return the mark that ``has_landed`` waits for: every registration committed before this call is below it."""
    return outbox.high_water(ledger, REGISTRATIONS.name)


def has_landed(ledger: Ledger, mark: int) -> bool:
    """Tell whether every registration up to the mark can be read from the lake."""
    return outbox.pending_through(ledger, REGISTRATIONS.name, mark) == 0


def wait_until_landed(
    ledger: Ledger, timeout_s: float, now: Callable[[], datetime], sleep: Callable[[float], None]
) -> None:
    """Return once every registration committed before this call has landed.

    Raises:
        NotLanded: It took longer than ``timeout_s``; the message says how many are missing.
    """
    mark = high_water(ledger)
    deadline = to_micros(now()) + round(timeout_s * 1e6)
    while waiting := outbox.pending_through(ledger, REGISTRATIONS.name, mark):
        if to_micros(now()) >= deadline:
            raise NotLanded(f"{waiting} registrations had not landed after {timeout_s:g} s; is the lander running?")
        sleep(0.05)


def _landed_rows(lake: Lake, files: list[str]) -> pl.LazyFrame:
    """Scan segments of registrations; one that was written before there were domains has none."""
    return audience_base.scan(lake, files, pl.Schema({**DEVICE_SCHEMA, "at": pl.Datetime("us", "UTC")}))


def _newest(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Keep the highest revision of each (tenant, token)."""
    return (
        rows.select(*DEVICE_COLUMNS, "at")
        .sort("revision", maintain_order=False)
        .unique(subset=["tenant", "token"], keep="last", maintain_order=True)
    )


def _unknown(lake: Lake, base: Base, delta: pl.DataFrame, tenant: str | None) -> pl.DataFrame:
    """Leave out rows that the base holds in the same or a later revision.

    A compacted file can hold rows that are in the base beside rows that are not. Only a row no younger than the
    youngest in the base can be one of those, so there is usually nothing to look up.
    """
    files = base.device_files(tenant)
    suspects = delta.filter(pl.col("at").dt.epoch("us") <= base.folded_through)
    if not suspects.height or not files:
        return delta
    known = (
        audience_base.scan_devices(lake, files)
        .select("tenant", "token", "revision")
        .join(suspects.lazy().select("tenant", "token", news="revision"), on=["tenant", "token"])
        .filter(pl.col("revision") >= pl.col("news"))
        .select("tenant", "token")
        .collect()
    )
    return delta.join(known, on=["tenant", "token"], how="anti")


@dataclass(frozen=True, slots=True)
class BaseReport:
    """What a rebuild made: ``folded`` segments were news; ``changed`` is False when there were none."""

    version: int
    devices: int
    topics: int
    rows: int
    folded: int
    changed: bool
    stopped_reason: str | None = None


# One pass holds about this many devices in memory, some 300 MiB.
_PASS_ROWS = 500_000
# Versions before the current one that are kept for readers that still stream them.
_KEPT = 2
_LEASE_S = 120.0


def rebuild_base(lake: Lake, ledger: Ledger, now: datetime) -> BaseReport:
    """Fold every landed registration that the base lacks into a new version, and make it the current one.

    Runs beside sends: they read the version that the pointer named when they began. One rebuild runs at a time; a
    version number is never used twice, so that one whose process slept cannot touch a newer version's files.
    """
    lease = leases.acquire(ledger, "audience-base", new_id(), _LEASE_S, now)
    if lease is None:
        base = audience_base.load(lake)
        return BaseReport(base.version, base.devices, 0, 0, 0, False, "another rebuild is running")
    try:
        for _ in range(_LISTINGS):
            try:
                return _rebuild(lake, ledger, lease, now)
            except FileNotFoundError:
                log.info("a registrations segment was replaced during the rebuild; beginning again")
        raise NotLanded(f"registrations segments kept moving through {_LISTINGS} listings")
    finally:
        leases.release(ledger, lease)


def _rebuild(lake: Lake, ledger: Ledger, lease: leases.Lease, now: datetime) -> BaseReport:
    base = audience_base.load(lake)
    landed = segments.landed(ledger, REGISTRATIONS.name)
    news = landed.not_in(base.folded)
    if not news:
        return BaseReport(base.version, base.devices, 0, 0, 0, False)
    # The fence number alone is new each time; the pointer counts only should a lake outlive its ledger.
    writer = audience_base.VersionWriter(lake, max(lease.fence, base.version + 1))
    rows = _landed_rows(lake, list(news.values()))
    old = base.device_files()
    size, through = rows.select(pl.len(), pl.col("at").dt.epoch("us").max()).collect().row(0)
    known = audience_base.scan_devices(lake, old) if old else pl.LazyFrame(schema=DEVICE_SCHEMA)
    passes = 1 + (size + known.select(pl.len()).collect().item()) // _PASS_ROWS
    for number in range(passes):
        writer.add(_merged(known, rows, (number, passes)))
        _keep(ledger, lease)
    _keep(ledger, lease)
    writer.finish(list(landed.paths), max(base.folded_through, -1 if through is None else through), now)
    for paths in audience_base.old_versions(lake, writer.version, _KEPT):
        lake.delete(paths)
    return BaseReport(writer.version, writer.devices, writer.topics, writer.rows, len(news), True)


def _merged(known: pl.LazyFrame, rows: pl.LazyFrame, part: tuple[int, int]) -> pl.DataFrame:
    """Return one part of the devices: the highest revision of each token, old or new."""
    # hash() differs between versions of polars, but not within a run, and nothing outlives the run.
    mine = pl.col("token").hash(0) % part[1] == part[0]
    news = _newest(rows.filter(mine)).select(DEVICE_COLUMNS).collect()
    old = known.filter(mine).select(DEVICE_COLUMNS)
    key = ["tenant", "token"]
    held = old.select(*key, was="revision").join(news.lazy().select(key), on=key, how="semi").collect()
    news = news.join(held, on=key, how="left").filter(pl.col("was").is_null() | (pl.col("revision") > pl.col("was")))
    news = news.select(DEVICE_COLUMNS)
    kept = old.join(news.lazy().select(key), on=key, how="anti").collect()
    return pl.concat([kept, news]).sort(key)


def _keep(ledger: Ledger, lease: leases.Lease) -> None:
    if leases.renew(ledger, lease, _LEASE_S, ledger.clock()) is None:
        raise leases.LeaseLost("another rebuild took over; this one changed nothing")
