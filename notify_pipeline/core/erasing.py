"""Erasures carried through: what follows the ledger's part, step by step, until a verification finds nobody.

Belongs here: the order, and what is waited for. Does not belong here: the ledger's part (``ledger.erasures``), going
through files (``erasure_lake``), when it runs (``defs.maintenance``).

Twice through the lake, because whoever was sending when the person was erased writes down afterwards to whom: once as
soon as everything accepted before has landed, and once when all that was under way has ended. Then everything is looked
through again, and what that saw is the proof. Each step can be done again: a process that dies leaves the erasure where
it was, and the next one goes on.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

import orjson

from notify_pipeline.core.erasure import Scrubber, Subject
from notify_pipeline.core.erasure_lake import Swept, sweep
from notify_pipeline.core.erasure_tables import Rule, Rules
from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.lake import Lake, LakeFile
from notify_pipeline.core.ledger import erasure_standing, erasures, leases, outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.erasures import Erasure
from notify_pipeline.core.schemas import LANDING_TABLES, REGISTRATIONS
from notify_pipeline.core.vocabulary import ErasureState

LEASE = "erasure"
# A dead process's successor waits this long; one file takes seconds, and the leases are kept between files.
_LEASE_S = 60.0
_KEEP_S = _LEASE_S / 3
# How long one step waits for the lander or for a compaction before it leaves the erasure for the next run.
_PATIENCE_S = 30.0
_LOOK_S = 0.05
_BASE, _SNAPSHOTS = "audience", "snapshots"
# ``delivery.audience_base`` writes it.
_BASE_POINTER = f"{_BASE}/current.json"
_Go: TypeAlias = Callable[[list[LakeFile], Rule], Swept]


class NotYet(Exception):
    """The step waits for what the message says."""


@dataclass(frozen=True, slots=True)
class Erasing:
    """What carrying erasures through takes.

    Attributes:
        ledger: The ledger.
        lake: The lake.
        fold: Puts every landed registration into the audience base; older ones are then read by nobody.
        settle: How long after the lake's first part nothing is under way any more that was when the ledger's was done.
        clock: The time.
    """

    ledger: Ledger
    lake: Lake
    fold: Callable[[], object]
    settle: timedelta
    clock: Callable[[], datetime]

    def run(self) -> list[Erasure]:
        """Take each erasure as far as it can go now; return them as they then are. One process at a time does."""
        lease = leases.acquire(self.ledger, LEASE, f"erasing-{new_id()}", _LEASE_S, self.clock())
        if lease is None:
            return []
        try:
            return [self._advance(each, lease) for each in erasures.pending(self.ledger)]
        finally:
            leases.release(self.ledger, lease)

    def due(self) -> bool:
        """Tell whether any erasure can take a step now, as far as the clock says."""
        return any(self._settled(each) for each in erasures.pending(self.ledger))

    def _advance(self, erasure: Erasure, lease: leases.Lease) -> Erasure:
        try:
            if erasure.state is ErasureState.LEDGER_DONE:
                erasure = self._through(erasure, lease, is_last=False)
            if not self._settled(erasure):
                raise NotYet("what was under way to end")
            return self._finish(erasure, lease)
        except NotYet as waits:
            return erasures.wait_for(self.ledger, erasure, str(waits))

    def _settled(self, erasure: Erasure) -> bool:
        return erasure.lake_done_at is None or self.clock() >= erasure.lake_done_at + self.settle

    def _finish(self, erasure: Erasure, lease: leases.Lease) -> Erasure:
        erasures.again(self.ledger, erasure, self.clock())
        erasure = erasures.get(self.ledger, erasure.tenant, erasure.erasure_id) or erasure
        if waiting := erasure_standing.unfinished(self.ledger, erasure):
            raise NotYet(f"{waiting} deliveries to be skipped")
        # Before all files are gone through for nothing, as broadcasts may take hours.
        self._snapshots(erasure, self._rules(erasure))
        erasure = self._through(erasure, lease, is_last=True)
        seen = self._look(erasure, lease, rewrite=False, is_last=True)
        left = erasures.left(self.ledger, erasure)
        named = {name: each.named for name, each in seen.items() if each.named} | left
        if named:
            raise NotYet(f"another pass: rows were written meanwhile in {', '.join(sorted(named))}")
        whole = Swept()
        for name in sorted(seen):
            whole = whole.and_(seen[name])
        proof = {"files": whole.files, "rows": whole.rows, "left": 0, "digest": whole.digest}
        return erasures.verified(self.ledger, erasure, proof, self.clock())

    def _through(self, erasure: Erasure, lease: leases.Lease, is_last: bool) -> Erasure:
        """Rewrite the lake, now that everything that was told it before has landed."""
        self._wait_for_landing()
        self.fold()
        swept = self._look(erasure, lease, rewrite=True, is_last=is_last)
        counts = {name: each.named for name, each in swept.items() if each.named}
        return erasures.lake_erased(self.ledger, erasure, counts, self.clock())

    def _look(self, erasure: Erasure, lease: leases.Lease, rewrite: bool, is_last: bool) -> dict[str, Swept]:
        rules = self._rules(erasure)
        keeper = _Keeper(self, lease)

        def go(files: list[LakeFile], rule: Rule) -> Swept:
            return sweep(self.lake, files, rule, rewrite, keeper.keep)

        seen: dict[str, Swept] = {}
        for name in rules.of_tables:
            with keeper.alone(f"compaction/{name}", rewrite and name in LANDING_TABLES):
                if name == REGISTRATIONS.name:
                    # In one hold: a compaction between the two could bring a device back.
                    with keeper.alone("audience-base", rewrite):
                        seen[_BASE] = self._sweep_base(rules, go, is_last)
                seen[name] = go(self.lake.list(name), rules.of_tables[name])
        seen[_SNAPSHOTS] = go(self._snapshots(erasure, rules), rules.of_snapshots)
        return seen

    def _rules(self, erasure: Erasure) -> Rules:
        subject = erasure.subject or Subject(erasure.tenant)
        live = erasure_standing.live_again(self.ledger, subject)
        return Rules(Scrubber(subject), to_micros(erasure.requested_at), live)

    def _sweep_base(self, rules: Rules, go: _Go, is_last: bool) -> Swept:
        """Go through the base: who was removed, and at last what was written before, as nobody reads that any more."""
        files = [file for file in self.lake.list(_BASE) if file.path.count("/") > 2]
        current = f"{_BASE}/version={self._base_version()}/"
        swept = go([file for file in files if file.path.startswith(f"{current}devices/")], rules.of_base)
        if not is_last:
            return swept
        return swept.and_(go([file for file in files if not file.path.startswith(current)], rules.of_old_base))

    def _base_version(self) -> int:
        if not self.lake.exists(_BASE_POINTER):
            return 0
        return int(orjson.loads(self.lake.read_bytes(_BASE_POINTER))["version"])

    def _snapshots(self, erasure: Erasure, rules: Rules) -> list[LakeFile]:
        """Return the snapshots of the tenant's sends that are over.

        Raises:
            NotYet: One that is not over names the person; whoever sends it skips them, but reads it still.
        """
        files = self.lake.list(_SNAPSHOTS)
        by_request = erasure_standing.of_requests(self.ledger, {_request(file) for file in files})
        mine = [f for f in files if by_request.get(_request(f), (erasure.tenant, True))[0] == erasure.tenant]
        going_on = [f for f in mine if not by_request.get(_request(f), (erasure.tenant, True))[1]]
        # The first time what is rewritten counts; the last time nothing may be left.
        is_last = erasure.state is not ErasureState.LEDGER_DONE
        if is_last and going_on and sweep(self.lake, going_on, rules.of_snapshots, rewrite=False).named:
            raise NotYet(f"{len({_request(file) for file in going_on})} broadcasts to end")
        return [file for file in mine if file not in going_on]

    def _wait_for_landing(self) -> None:
        marks = {name: outbox.high_water(self.ledger, name) for name in LANDING_TABLES}
        deadline = time.monotonic() + _PATIENCE_S
        while any(outbox.pending_through(self.ledger, name, mark) for name, mark in marks.items()):
            if time.monotonic() > deadline:
                raise NotYet("rows to land in the lake")
            time.sleep(_LOOK_S)


class _Keeper:
    """Keeps the leases of one way through the lake, some of them for a table only."""

    def __init__(self, erasing: Erasing, lease: leases.Lease) -> None:
        self._erasing = erasing
        self._held = [lease]
        self._kept_at = 0.0  # at once: nobody knows how long ago the first was taken

    def keep(self) -> None:
        """Extend them, unless that was done a moment ago.

        Raises:
            LeaseLost: Another took one over; what was rewritten so far is what it would have rewritten.
        """
        if time.monotonic() < self._kept_at + _KEEP_S:
            return
        ledger, now = self._erasing.ledger, self._erasing.clock()
        if any(leases.renew(ledger, each, _LEASE_S, now) is None for each in self._held):
            raise leases.LeaseLost("another process carries erasures through")
        self._kept_at = time.monotonic()

    @contextmanager
    def alone(self, role: str, really: bool) -> Iterator[None]:
        """Keep others from what they would write after from what they read before."""
        if not really:
            yield
            return
        ledger, clock = self._erasing.ledger, self._erasing.clock
        owner, deadline = f"erasing-{new_id()}", time.monotonic() + _PATIENCE_S
        while (held := leases.acquire(ledger, role, owner, _LEASE_S, clock())) is None:
            if time.monotonic() > deadline:
                raise NotYet(f"{role} to end")
            time.sleep(_LOOK_S)
        self._held.append(held)
        try:
            yield
        finally:
            self._held.remove(held)
            leases.release(ledger, held)


def _request(file: LakeFile) -> str:
    return file.path.split("/")[1].removeprefix("request=")
