"""The CDN in front of the beacons: it answers, and writes its log files with the usual disorder.

Belongs here: log lines, files, disorder, and the truth about genuine beacons. Does not belong here: HTTP
(``control``), parsing logs (another room's business entirely).

A file is gzip JSON lines in the form that Fastly services commonly log, below
``fastly/date=YYYY-MM-DD/hour=HH/`` of the log root. Every genuine beacon is in the truth log before it is answered,
and reaches a file at least once, also across a kill: what the files lack is read back from the truth log at start.
"""

import asyncio
import gzip
import logging
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

import orjson

from notify_pipeline.core.partitions import partition
from notify_pipeline.core.receipt_log import receipt_line
from notify_pipeline.sandbox.faults import CdnFaults, FaultBook
from notify_pipeline.sandbox.standin import Clock
from notify_pipeline.sandbox.truthlog import TruthLog

EVENTS = frozenset({"received", "opened", "clicked"})
_POPS = ("LCY", "LHR", "FRA", "AMS", "IAD")
_OTHER_PATHS = ("/", "/favicon.ico", "/article/8812", "/notification", "/notification/preferences", "/healthz")
# A late line misses up to this many files.
_LATEST = 5
# How many notifications /stats tells about, the latest ones.
_COUNTED = 1000

log = logging.getLogger(__name__)


class LogStore(Protocol):
    """Where files go: ``core.lake.Lake`` over the log root."""

    def write_bytes(self, path: str, data: bytes) -> Any:
        """Write a file whole or not at all."""
        ...


@dataclass(slots=True)
class _Line:
    number: int
    at: datetime
    text: bytes


class Cdn:
    """One CDN service."""

    def __init__(self, book: FaultBook, truth: TruthLog, store: LogStore, state: Path, clock: Clock) -> None:
        """Make the service; ``recover`` must be awaited before the first beacon.

        Args:
            book: Decides on disorder.
            truth: Genuine beacons, as answered.
            store: Takes the files.
            state: A small file that says how far the truth has reached files.
            clock: The time of beacons.
        """
        self._book = book
        self._truth = truth
        self._store = store
        self._state = state
        self._clock = clock
        self._pending: list[_Line] = []
        self._late: list[tuple[int, _Line]] = []
        self._round = 0
        self._flushing = asyncio.Lock()
        self.by_notification: dict[str, Counter[str]] = {}
        self.counts: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        """Lines that no file has yet."""
        return len(self._pending) + len(self._late)

    async def recover(self) -> None:
        """Queue what a former process answered and did not write."""
        through = 0
        if self._state.exists():
            through = min(int(orjson.loads(self._state.read_bytes())["through"]), self._truth.last)
        async for block in self._truth.stream(through):
            for text in block.splitlines():
                record = orjson.loads(text)
                at = datetime.fromisoformat(record["time"])
                self._pending.append(_Line(record["n"], at, _render(record, at)))
        self.counts["recovered"] = len(self._pending)

    def beacon(self, event: str, querystring: str, user_agent: str, client_ip: str) -> None:
        """Take one beacon: durable in the truth log when this returns, in a file later."""
        now = self._clock()
        fields = parse_qs(querystring, max_num_fields=None)
        record: dict[str, Any] = {
            "n": 0,
            "time": now,
            "event": event,
            "notification_id": fields.get("notificationId", [None])[0],
            "platform": fields.get("platform", [None])[0],
            "provider": fields.get("provider", [None])[0],
            "d": fields.get("d", [None])[0],
            "querystring": querystring,
            "user_agent": user_agent,
            "client_ip": _anonymous(client_ip),
        }
        number = self._truth.append(record)
        self._truth.commit()
        self._pending.append(_Line(number, now, _render(record, now)))
        self._count(record["notification_id"], event)

    async def run(self, interval_s: float) -> None:
        """Write files every so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.flush()

    async def flush(self, *, everything: bool = False) -> int:
        """Write what is due into files and return how many were written.

        Args:
            everything: Late lines too.
        """
        async with self._flushing:
            self._round += 1
            taken, self._pending = self._pending, []
            last = self._truth.last
            late, self._late = self._late, []
            faults = self._book.current.cdn
            draws = random.Random(self._book.random.random())  # noqa: S311 - repeatable on purpose
            now: list[_Line] = []
            for line in taken:
                if not everything and faults.late and draws.random() < faults.late:
                    self._late.append((self._round + draws.randint(1, _LATEST), line))
                    self.counts["late"] += 1
                else:
                    now.append(line)
            arrived = [line for due, line in late if everything or due <= self._round]
            self._late += [(due, line) for due, line in late if not everything and due > self._round]
            try:
                files = await asyncio.to_thread(self._write, now, arrived, faults, draws, self._clock())
            except OSError:
                # Nothing is lost: the next round tries again. Some lines may then appear twice, as they do in life.
                self._pending = now + arrived + self._pending
                self.counts["failed_flushes"] += 1
                if everything:
                    raise
                log.exception("CDN log files could not be written; they are tried again")
                return 0
            self._mark(min((line.number - 1 for _, line in self._late), default=last))
            return files

    def _write(
        self, lines: list[_Line], late: list[_Line], faults: CdnFaults, draws: random.Random, now: datetime
    ) -> int:
        files: dict[str, list[bytes]] = {}
        for line in lines:
            files.setdefault(_folder(line.at), []).extend(_disorder(line, faults, draws))
        for line in late:
            # A late line lies where it belongs or where it turned up.
            files.setdefault(_folder(draws.choice((line.at, now))), []).append(line.text)
        for folder, texts in files.items():
            if faults.late or faults.repeated:
                draws.shuffle(texts)
            name = f"{now.strftime('%Y%m%dT%H%M%S')}-{os.urandom(6).hex()}.log.gz"
            data = gzip.compress(b"\n".join([*texts, b""]), compresslevel=3)
            self._store.write_bytes(f"{folder}/{name}", data)
            self.counts["lines"] += len(texts)
        self.counts["files"] += len(files)
        return len(files)

    def _mark(self, through: int) -> None:
        temporary = self._state.with_suffix(".tmp")
        temporary.write_bytes(orjson.dumps({"through": through}))
        temporary.replace(self._state)

    def _count(self, notification_id: str | None, event: str) -> None:
        self.counts[event] += 1
        key = notification_id or ""
        counter = self.by_notification.get(key)
        if counter is None:
            if len(self.by_notification) >= _COUNTED:
                del self.by_notification[next(iter(self.by_notification))]
            counter = self.by_notification[key] = Counter()
        counter[event] += 1


def _folder(at: datetime) -> str:
    return f"fastly/{partition(at)}"


def _render(record: dict[str, Any], at: datetime) -> bytes:
    return receipt_line(
        f"/notification/{record['event']}",
        record["querystring"],
        at,
        status=204,
        user_agent=record["user_agent"],
        client_ip=record["client_ip"],
        pop=_POPS[record["n"] % len(_POPS)],
    )


def _disorder(line: _Line, faults: CdnFaults, draws: random.Random) -> list[bytes]:
    """Return a genuine line, always, and what disorder adds beside it."""
    lines = [line.text]
    if faults.repeated and draws.random() < faults.repeated:
        lines.append(line.text)
    if faults.garbage and draws.random() < faults.garbage:
        lines.append(draws.choice(_GARBAGE)(line))
    if faults.other_paths and draws.random() < faults.other_paths:
        lines.append(
            receipt_line(draws.choice(_OTHER_PATHS), "utm_source=app&x=%C3%A9", line.at, status=200, pop="LCY")
        )
    return lines


# What damaged or foreign log lines look like. None of them is a beacon that a reader may count.
_GARBAGE: tuple[Callable[[_Line], bytes], ...] = (
    lambda line: line.text[: len(line.text) // 3],
    lambda line: line.text[:40] + b"\xff\xfe\x80" + line.text[40:70],
    lambda line: b"\x00" * 64,
    lambda line: line.text[:50] + b"\x00" + line.text[50:60],
    lambda line: b"",
    lambda line: b"null",
    lambda line: b'["not", "an", "object"]',
    lambda line: b"<134>2026-11-21T06:33:59Z cache-lcy1 beacons[1234]: syslog prefix without a body",
    lambda line: line.text.partition(b',"querystring"')[0] + b"}",
    lambda line: receipt_line("/notification/received", "platform=android&provider=fcm", line.at),
    lambda line: orjson.dumps({"datetime": "yesterday", "event": "/notification/received", "querystring": "d=1"}),
)


def _anonymous(address: str) -> str:
    """Return an address without its host part: the last octet of IPv4, all but the first 48 bits of IPv6."""
    if ":" in address:
        return ":".join(address.split(":")[:3]) + "::"
    return address.rpartition(".")[0] + ".0"
