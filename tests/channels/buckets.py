"""A bucket of provider tokens without a ledger."""

from notify_pipeline.core import rates
from notify_pipeline.core.ledger.rates import Taken
from notify_pipeline.core.rates import Limits, State


class OwnBucket:
    """A bucket in memory: this process's alone."""

    def __init__(self) -> None:
        self._state: State | None = None

    async def take(self, limits: Limits, now: int, wanted: int, rank: int = 0) -> Taken:
        taken = Taken(*rates.take(self._state or rates.fresh(now), limits, now, wanted, rank))
        self._state = taken.state
        return taken

    async def hold(self, now: int, until: int, pace: float) -> State:
        self._state = rates.hold(self._state or rates.fresh(now), now, until, pace)
        return self._state

    async def read(self) -> State | None:
        return self._state
