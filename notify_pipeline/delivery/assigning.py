"""When each recipient of a broadcast is due, a frame at a time: whoever is due together goes into the same shards.

Belongs here: the rules of ``timing`` and frequency caps applied to frames. Does not belong here: the rules, what
applies (``scheduling``), writing shards (``shard_writer``).

A frame of 50,000 recipients has some dozens of time zones and quiet hours, so the rule is asked once for each of these
and joined to the rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

import orjson
import polars as pl

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import caps, users
from notify_pipeline.core.ledger.caps import FREQUENCY_CAP
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.vocabulary import Platform, QuietHours
from notify_pipeline.delivery import consenting, planning
from notify_pipeline.delivery.consenting import TenantConsents
from notify_pipeline.delivery.known import wanted_channels
from notify_pipeline.delivery.scheduling import Schedule, window_of
from notify_pipeline.delivery.timing import AT_ONCE, Person, Slot, Timing

# Quiet hours that users set may end at any minute, and each end is a wave of shards. Whoever waits for one waits for
# the next quarter of an hour of UTC, at which quiet hours that end on the hour end in every zone of the world.
_WAVE_US = 900_000_000
_PERSON = ("timezone", "user_timezone", "own")
# Recipients whose uses are taken in one transaction: some 50 ms on SQLite, during which nobody else writes.
_USES = 2_000


class Assigner:
    """Says when the recipients of one broadcast are due.

    Args:
        ledger: The ledger.
        schedule: What applies to the send.
        now: When its recipients are fixed.
        of_tenants: What the tenant goes by when it leaves recipients out, if anything. These go into shards like all
            others, and are left out when they would be sent to; but no use of a cap is taken of them.
    """

    def __init__(
        self, ledger: Ledger, schedule: Schedule, now: datetime, of_tenants: Mapping[str, TenantConsents] | None = None
    ) -> None:
        self._ledger = ledger
        self._schedule = schedule
        self._of_tenants = of_tenants or {}
        wanted = wanted_channels(schedule.timing.notification)
        self._platforms = [platform.value for platform in Platform if platform.channel in wanted]
        self._now = now
        self._told = _told(ledger, schedule.timing.notification.tenant) if schedule.timed else None
        self._plain = Timing(replace(schedule.timing.notification, quiet_hours=QuietHours.IGNORE))

    def split(self, frame: pl.DataFrame) -> Iterator[tuple[Slot, pl.DataFrame]]:
        """Yield the recipients on channels that the send wants, by when they are due or why they are skipped."""
        for slot, part in self._timed(frame.filter(pl.col("platform").is_in(self._platforms))):
            if slot.skip is not None or not self._schedule.capped:
                yield slot, part
                continue
            over = self._over(part)
            if over is None:
                yield slot, part
                continue
            is_over = _who().is_in(over)
            yield slot, part.filter(~is_over)
            yield Slot(skip=FREQUENCY_CAP), part.filter(is_over)

    def _timed(self, frame: pl.DataFrame) -> Iterator[tuple[Slot, pl.DataFrame]]:
        if self._told is None:
            yield AT_ONCE, frame
            return
        told = frame.join(self._told, on="user_id", how="left")
        people = told.select(_PERSON).unique()
        slots: dict[Slot, int] = {}
        numbers = [slots.setdefault(self._slot(*person), len(slots)) for person in people.iter_rows()]
        numbered = people.with_columns(pl.Series("slot", numbers, pl.UInt32))
        joined = told.join(numbered, on=_PERSON, nulls_equal=True, how="left").select(*frame.columns, "slot")
        for slot, number in slots.items():
            yield slot, joined.filter(pl.col("slot") == number).drop("slot")

    def _slot(self, timezone: str | None, user_timezone: str | None, own: str | None) -> Slot:
        window = None if own is None else window_of(orjson.loads(own), "a user")
        person, timing = Person(timezone, user_timezone, window), self._schedule.timing
        slot = timing.slot(person, self._now)
        if slot.due_at is None or slot.due_at == self._plain.slot(person, self._now).due_at:
            return slot
        wave = -(-slot.due_at // _WAVE_US) * _WAVE_US
        expires_at = to_micros(timing.notification.expires_at) if slot.expires_at is None else slot.expires_at
        return slot._replace(due_at=wave) if wave < expires_at else slot

    def _over(self, part: pl.DataFrame) -> list[str] | None:
        """Take uses; return who is over a cap, None when nobody is."""
        over: list[str] = []
        who = self._wanting(part) if self._of_tenants else part.select(_who().unique().sort()).to_series().to_list()
        for start in range(0, len(who), _USES):
            uses = self._schedule.uses_of(frozenset(who[start : start + _USES]))
            over.extend(caps.take(self._ledger, uses))
        return over or None

    def _wanting(self, part: pl.DataFrame) -> list[str]:
        """Return who may get it as far as they said by now, as ``caps.recipient`` names them."""
        recipients = list(planning.recipients_of(part))
        with self._ledger.read() as conn:
            (rulings,) = consenting.rule(conn, [(self._schedule.timing.notification, recipients)], self._of_tenants)
        wanting = zip(recipients, rulings or (), strict=True)
        return sorted({caps.recipient(each.user_id, each.address) for each, ruling in wanting if ruling.skip is None})


def _who() -> pl.Expr:
    """Return ``caps.recipient`` as an expression."""
    by_user = pl.lit(caps.recipient("", "")) + pl.col("user_id")
    token = pl.col("token")
    folded = pl.when(token.str.contains("@", literal=True)).then(token.str.to_lowercase()).otherwise(token)
    by_device = pl.lit(caps.recipient(None, "")) + folded
    return pl.when(pl.col("user_id").is_null()).then(by_device).otherwise(by_user)


def _told(ledger: Ledger, tenant: str) -> pl.DataFrame:
    schema = {"user_id": pl.String(), "user_timezone": pl.String(), "own": pl.String()}
    frames = [
        pl.DataFrame([(row.user_id, row.timezone, _own(row)) for row in piece], schema, orient="row")
        for piece in users.with_time(ledger, tenant)
    ]
    return pl.concat(frames)


def _own(row: users.UserRow) -> str | None:
    return None if row.quiet_hours is None else orjson.dumps(row.quiet_hours, option=orjson.OPT_SORT_KEYS).decode()
