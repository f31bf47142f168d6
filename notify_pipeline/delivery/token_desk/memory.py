"""What was found out lately, so that a page that registers at every visit costs no provider call each time.

Belongs here: remembering, for how long and how much. Does not belong here: finding out (``desk``).

Tokens are remembered by digest: nothing here tells one.
"""

from collections import OrderedDict
from collections.abc import Callable

from notify_pipeline.core.token_desk import TokenState

# A token that dies meanwhile is found out by the next send to it, so this only has to be short next to a token's life.
GOOD_FOR_S = 600.0
# A bad one is asked about again soon: the word may have been about the project, and was put right.
BAD_FOR_S = 5.0
# Some 6 MB.
MOST = 20_000


class Memory:
    """The last findings, the oldest forgotten first."""

    def __init__(self, monotonic: Callable[[], float], most: int = MOST) -> None:
        """Args: monotonic: tells seconds that pass. most: how many are remembered."""
        self._monotonic = monotonic
        self._most = most
        self._kept: OrderedDict[bytes, tuple[float, TokenState]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, digest: bytes) -> TokenState | None:
        """Return what is remembered and not too old."""
        found = self._kept.get(digest)
        if found is None:
            return None
        if self._monotonic() < found[0]:
            return found[1]
        del self._kept[digest]
        return None

    def put(self, digest: bytes, state: TokenState) -> None:
        """Remember a finding; that nothing is known is none."""
        if state.is_valid is None:
            return
        self._kept[digest] = (self._monotonic() + (GOOD_FOR_S if state.is_valid else BAD_FOR_S), state)
        self._kept.move_to_end(digest)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
