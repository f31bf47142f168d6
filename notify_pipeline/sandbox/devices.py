"""Simulated devices: they get what a stand-in accepted, show it once, and call the beacons.

Belongs here: when a push arrives, whether, and what the device does then. Does not belong here: HTTP (``beacons``),
the rates (``faults``).

What a device does is drawn from the delivery id, so it is the same in every run with the same seed and the same when
the same push arrives again.
"""

import asyncio
import hashlib
import heapq
import itertools
import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import orjson

from notify_pipeline.sandbox.beacons import Beacons
from notify_pipeline.sandbox.faults import FaultBook
from notify_pipeline.sandbox.standin import Clock, Push
from notify_pipeline.sandbox.truthlog import TruthLog

# Pushes under way to devices: about 150 MB. Beyond that one counts as not received, as with a phone that is off.
MAX_UNDER_WAY = 200_000
# Arrivals per turn of the event loop, so that the stand-ins go on answering.
_PER_TURN = 200
# Shown notifications that are remembered, to show each once: two generations of this many 8-byte digests.
_REMEMBERED = 1_000_000
_RECEIVED = "/notification/received"
# Of those who click, so many click an action (button) where there is one.
_ON_ACTION = 0.5
_AGENTS = {
    "fcm": "NotifyDevice/1.0 (Android 16)",
    "apns": "NotifyDevice/1.0 (iOS 26.1)",
    "webpush": "NotifyDevice/1.0 (a browser)",
}


@dataclass(slots=True)
class _Delivery:
    channel: str
    recipient: str | None
    notification_id: str | None
    delivery_id: str | None
    collapse_id: str | None
    receipt: str | None
    accepted_at: datetime
    actions: tuple[str, ...]

    @property
    def subject(self) -> str:
        return self.delivery_id or f"{self.recipient} {self.notification_id}"


class SimulatedDevices:
    """All devices of all users."""

    def __init__(self, book: FaultBook, log: TruthLog, beacons: Beacons, clock: Clock) -> None:
        self._book = book
        self._log = log
        self._beacons = beacons
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[float, int, _Delivery]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._shown: set[int] = set()
        self._shown_before: set[int] = set()
        self.counts: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        """Pushes and beacons that are still under way."""
        return len(self._due) + self._beacons.pending

    def deliver(self, channel: str, push: Push, now: datetime) -> None:
        """Take one accepted push; it arrives after its delay."""
        delivery = _Delivery(
            channel,
            push.recipient,
            push.text("notificationId"),
            push.text("d"),
            push.collapse_id,
            push.text("receipt"),
            now,
            _actions(push.data.get("actions")),
        )
        if len(self._due) >= MAX_UNDER_WAY:
            self.counts["overflow"] += 1
            self._record(delivery, received=False, shown=False, beacons=[])
            return
        heapq.heappush(self._due, (self._loop.time() + self._delay_s(delivery), next(self._order), delivery))
        self._arm()

    async def drain(self, timeout_s: float) -> bool:
        """Let everything arrive now and wait for the beacons; tell whether all was done in time."""
        while self._due:
            self._arrive(heapq.heappop(self._due)[2])
            await asyncio.sleep(0)
        self._log.commit()
        return await self._beacons.drain(timeout_s)

    def close(self) -> None:
        """Stop. What is still under way is lost."""
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()
        self._beacons.close()

    def _delay_s(self, delivery: _Delivery) -> float:
        rates = self._book.current.devices
        delay = rates.delay_ms
        if rates.delay_mean_ms:
            delay -= rates.delay_mean_ms * math.log(1 - self._book.share(delivery.subject, "delay"))
        return min(delay, rates.delay_max_ms) / 1000

    def _arm(self) -> None:
        due = self._due[0][0]
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._loop.time()
        for _ in range(_PER_TURN):
            if not self._due or self._due[0][0] > now:
                break
            self._arrive(heapq.heappop(self._due)[2])
        self._log.commit()
        if self._due:
            self._arm()

    def _arrive(self, delivery: _Delivery) -> None:
        rates = self._book.current.devices
        subject = delivery.subject
        if self._book.share(subject, "receive") >= rates.receive:
            self._record(delivery, received=False, shown=False, beacons=[])
            return
        shown = self._show(delivery)
        events = ["received"]
        # Only what is shown can be opened, and a repetition replaces what is shown already.
        if shown and self._book.share(subject, "open") < rates.open:
            events.append("opened")
            if self._book.share(subject, "click") < rates.click:
                events.append("clicked")
        beacons = [e for e in events for _ in range(1 + (self._book.share(subject, f"2{e}") < rates.twice))]
        if not delivery.receipt:
            beacons = []
        self._record(delivery, received=True, shown=shown, beacons=beacons)
        for event in beacons:
            url = (delivery.receipt or "").replace(_RECEIVED, f"/notification/{event}", 1)
            if event == "clicked" and delivery.actions:
                url += self._action(delivery)
            self._beacons.call(url, _AGENTS.get(delivery.channel, "NotifyDevice/1.0"))

    def _action(self, delivery: _Delivery) -> str:
        """Return what the beacon of a click says of the action, nothing where none was clicked."""
        drawn = self._book.share(delivery.subject, "action") / _ON_ACTION
        return "" if drawn >= 1 else f"&action={quote(delivery.actions[int(drawn * len(delivery.actions))], safe='')}"

    def _show(self, delivery: _Delivery) -> bool:
        """Tell whether this is new on the device: a push with the same collapse id or notification replaces."""
        what = delivery.collapse_id or delivery.notification_id or delivery.subject
        digest = hashlib.blake2b(f"{delivery.channel} {delivery.recipient} {what}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        if key in self._shown or key in self._shown_before:
            return False
        if len(self._shown) >= _REMEMBERED:
            self._shown_before, self._shown = self._shown, set()
        self._shown.add(key)
        return True

    def _record(self, delivery: _Delivery, *, received: bool, shown: bool, beacons: list[str]) -> None:
        self.counts["received" if received else "not_received"] += 1
        if shown:
            self.counts["shown"] += 1
        self._log.append(
            {
                "n": 0,
                "time": self._clock(),
                "accepted_at": delivery.accepted_at,
                "channel": delivery.channel,
                "recipient": delivery.recipient,
                "notification_id": delivery.notification_id,
                "d": delivery.delivery_id,
                "collapse_id": delivery.collapse_id,
                "received": received,
                "shown": shown,
                "beacons": beacons,
            }
        )


def _actions(value: object) -> tuple[str, ...]:
    """Return the names of a push's actions: a list of objects, as JSON in a text where data is text only (FCM)."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return ()
    if not isinstance(value, list):
        return ()
    names = (each.get("action") for each in value if isinstance(each, dict))
    return tuple(name for name in names if isinstance(name, str))
