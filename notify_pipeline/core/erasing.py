"""Erasures carried through: what follows the ledger's part, step by step, until a verification finds nobody.

Belongs here: the order, and what is waited for. Does not belong here: the ledger's part (``ledger.erasures``), going
through files (``erasure_lake``), when it runs (``defs.maintenance``).

Twice through the lake, because whoever was sending when the person was erased writes down afterwards to whom: once as
soon as everything accepted before has landed, and once when all that was under way has ended. Then everything is looked
through again, and what that saw is the proof. Each step can be done again: a process that dies leaves the erasure where
it was, and the next one goes on.
"""

import time
from collections.abc import Callable, Iterator, Sequence
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
_Wanted: TypeAlias = tuple[list[LakeFile], Rule]


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
        """Take each erasure as far as it can go now; return them as they then are. One process at a time does.

        Those that take the same step share a way through the lake.
        """
        lease = leases.acquire(self.ledger, LEASE, f"erasing-{new_id()}", _LEASE_S, self.clock())
        if lease is None:
            return []
        try:
            standing = {each.erasure_id: each for each in erasures.pending(self.ledger)}
            for is_next, step in ((_is_new, self._begin), (self._may_end, self._finish)):
                todo = [each for each in standing.values() if is_next(each)]
                standing |= {each.erasure_id: each for each in step(todo, lease)} if todo else {}
            return list(standing.values())
        finally:
            leases.release(self.ledger, lease)

    def due(self) -> bool:
        """Tell whether any erasure can take a step now, as far as the clock says."""
        return any(self._settled(each) for each in erasures.pending(self.ledger))

    def _settled(self, erasure: Erasure) -> bool:
        return erasure.lake_done_at is None or self.clock() >= erasure.lake_done_at + self.settle

    def _may_end(self, erasure: Erasure) -> bool:
        return not _is_new(erasure) and self._settled(erasure)

    def _begin(self, todo: Sequence[Erasure], lease: leases.Lease) -> Iterator[Erasure]:
        try:
            begun = self._through(todo, lease, is_last=False)
        except NotYet as waits:
            begun = [self._waits(each, waits) for each in todo]
        for each in begun:
            yield each if _is_new(each) or self._settled(each) else self._waits(each, "what was under way to end")

    def _finish(self, todo: Sequence[Erasure], lease: leases.Lease) -> Iterator[Erasure]:
        ready: list[Erasure] = []
        for each in todo:
            try:
                ready.append(self._quiet(each))
            except NotYet as waits:
                yield self._waits(each, waits)
        if not ready:
            return
        try:
            ready = self._through(ready, lease, is_last=True)
            seen = self._look(ready, lease, rewrite=False, is_last=True)
        except NotYet as waits:
            yield from (self._waits(each, waits) for each in ready)
            return
        for each, tables in zip(ready, seen, strict=True):
            yield self._verified(each, tables)

    def _quiet(self, erasure: Erasure) -> Erasure:
        """Return an erasure of somebody whom nothing is on its way to any more.

        Raises:
            NotYet: Something is. Asked before all files are gone through for nothing, as broadcasts may take hours.
        """
        erasures.again(self.ledger, erasure, self.clock())
        erasure = erasures.get(self.ledger, erasure.tenant, erasure.erasure_id) or erasure
        if waiting := erasure_standing.unfinished(self.ledger, erasure):
            raise NotYet(f"{waiting} deliveries to be skipped")
        self._snapshots(erasure, self._rules(erasure))
        return erasure

    def _verified(self, erasure: Erasure, seen: dict[str, Swept]) -> Erasure:
        left = erasures.left(self.ledger, erasure)
        if named := {name: each.named for name, each in seen.items() if each.named} | left:
            return self._waits(erasure, f"another pass: rows were written meanwhile in {', '.join(sorted(named))}")
        whole = Swept()
        for name in sorted(seen):
            whole = whole.and_(seen[name])
        proof = {"files": whole.files, "rows": whole.rows, "left": 0, "digest": whole.digest}
        return erasures.verified(self.ledger, erasure, proof, self.clock())

    def _waits(self, erasure: Erasure, what: object) -> Erasure:
        return erasures.wait_for(self.ledger, erasure, str(what))

    def _through(self, todo: Sequence[Erasure], lease: leases.Lease, is_last: bool) -> list[Erasure]:
        """Rewrite the lake, now that everything that was told it before has landed."""
        self._wait_for_landing()
        self.fold()
        now_done = []
        for erasure, swept in zip(todo, self._look(todo, lease, rewrite=True, is_last=is_last), strict=True):
            counts = {name: each.named for name, each in swept.items() if each.named}
            now_done.append(erasures.lake_erased(self.ledger, erasure, counts, self.clock()))
        return now_done

    def _look(
        self, todo: Sequence[Erasure], lease: leases.Lease, rewrite: bool, is_last: bool
    ) -> list[dict[str, Swept]]:
        """Go through the lake once; return what was looked through for each erasure, by table."""
        rules = [self._rules(each) for each in todo]
        keeper = _Keeper(self, lease)
        seen: list[dict[str, Swept]] = [{} for _ in todo]

        def go(name: str, wanted: list[_Wanted]) -> None:
            for mine, swept in zip(seen, sweep(self.lake, wanted, rewrite, keeper.keep), strict=True):
                mine[name] = mine[name].and_(swept) if name in mine else swept

        for name in rules[0].of_tables:
            with keeper.alone(f"compaction/{name}", rewrite and name in LANDING_TABLES):
                if name == REGISTRATIONS.name:
                    # In one hold: a compaction between the two could bring a device back.
                    with keeper.alone("audience-base", rewrite):
                        for kind in self._base(rules, is_last):
                            go(_BASE, kind)
                files = self.lake.list(name)
                go(name, [(files, each.of_tables[name]) for each in rules])
        mine = zip(todo, rules, strict=True)
        go(_SNAPSHOTS, [(self._snapshots(each, theirs), theirs.of_snapshots) for each, theirs in mine])
        return seen

    def _rules(self, erasure: Erasure) -> Rules:
        subject = erasure.subject or Subject(erasure.tenant)
        live = erasure_standing.live_again(self.ledger, subject)
        return Rules(Scrubber(subject), to_micros(erasure.requested_at), live)

    def _base(self, rules: Sequence[Rules], is_last: bool) -> Iterator[list[_Wanted]]:
        """Yield the base: who was removed, and at last what was written before, as nobody reads that any more."""
        files = [file for file in self.lake.list(_BASE) if file.path.count("/") > 2]
        current = f"{_BASE}/version={self._base_version()}/"
        removed = [file for file in files if file.path.startswith(f"{current}devices/")]
        yield [(removed, each.of_base) for each in rules]
        if is_last:
            old = [file for file in files if not file.path.startswith(current)]
            yield [(old, each.of_old_base) for each in rules]

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
        is_last = not _is_new(erasure)
        if is_last and going_on and sweep(self.lake, [(going_on, rules.of_snapshots)], rewrite=False)[0].named:
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


def _is_new(erasure: Erasure) -> bool:
    return erasure.state is ErasureState.LEDGER_DONE


def _request(file: LakeFile) -> str:
    return file.path.split("/")[1].removeprefix("request=")
