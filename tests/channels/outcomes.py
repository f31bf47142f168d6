"""What every channel's harness gives the outcomes suite: a real sender, and a real server that answers as it is told.

A channel's owner writes a harness beside the channel's other tests and adds it to ``harnesses``.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import orjson

from notify_pipeline.channels.base import ChannelSender
from notify_pipeline.channels.rates import Gate
from notify_pipeline.core.records import Content
from notify_pipeline.core.vocabulary import Outcome, Platform
from tests.channels import harness as push
from tests.channels.peer import Drop, Hang, Seen


class Case(StrEnum):
    """What may become of a send to one recipient."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    INVALID_RECIPIENT = "invalid_recipient"
    AMBIGUOUS = "ambiguous"
    DRY_RUN = "dry_run"
    EXPIRED = "expired"
    OVERSIZED = "oversized"

    @property
    def is_answer(self) -> bool:
        """Whether it is the provider who decides."""
        return self not in (Case.DRY_RUN, Case.EXPIRED, Case.OVERSIZED)


class Harness(Protocol):
    """One channel, open: its sender as ``open_channels`` would make it, and its provider."""

    @property
    def sender(self) -> ChannelSender:
        """The sender under test."""
        ...

    @property
    def gate(self) -> Gate:
        """The sender's gate; the provider has a limit of its own only where it is told to throttle."""
        ...

    @property
    def platform(self) -> Platform:
        """The recipients'."""
        ...

    @property
    def oversized(self) -> Content:
        """Content that is too large for everybody."""
        ...

    @property
    def gives_ids(self) -> bool:
        """Whether the provider tells the id of what it accepted."""
        ...

    @property
    def throttled_s(self) -> float | None:
        """For how long the provider asks to wait when it throttles; None where it cannot say."""
        ...

    def address(self, number: int) -> str:
        """Return the n-th recipient's address; numbers up to 99 have different ones."""
        ...

    def answer(self, case: Case) -> None:
        """Make the provider answer everything like this from now on; only for cases that are answers.

        ``AMBIGUOUS``: the provider takes the whole message, and its answer gets lost.
        """
        ...

    def hang(self) -> None:
        """Make the provider take everything and answer nothing from now on."""
        ...

    @property
    def called(self) -> Sequence[str]:
        """Whom the provider was asked to deliver to so far, by address, a repetition as often as it was asked.

        Dry runs of providers that have such a thing do not count.
        """
        ...

    @property
    def marks(self) -> Sequence[str] | None:
        """By what the provider or the device could know a repetition, of each that was asked for, in the same order.

        The delivery id, or what is made of it. None where the provider's messages have room for nothing like it.
        """
        ...


Open: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Harness]]


@dataclass
class PushHarness:
    """A push channel, as the richer suite of push has it."""

    inner: push.Harness
    gate: Gate

    gives_ids = True
    throttled_s = 7.0
    oversized = Content("Title", "ä" * 3_000)

    @property
    def sender(self) -> ChannelSender:
        return self.inner.sender

    @property
    def platform(self) -> Platform:
        return self.inner.platform

    def address(self, number: int) -> str:
        return self.inner.address(number)

    def answer(self, case: Case) -> None:
        if case is Case.AMBIGUOUS:
            self.inner.script(lambda _: Drop())
        else:
            self.inner.answer(case.value)

    def hang(self) -> None:
        self.inner.script(lambda _: Hang())

    @property
    def _asked(self) -> list[tuple[Seen, Any]]:
        pairs = [(seen, orjson.loads(seen.body)) for seen in self.inner.peer.seen]
        return [(seen, body) for seen, body in pairs if not body.get("validate_only")]

    @property
    def called(self) -> list[str]:
        if self.platform is Platform.IOS:
            return [seen.path.rpartition("/")[2] for seen, _ in self._asked]
        return [body["message"]["token"] for _, body in self._asked]

    @property
    def marks(self) -> list[str]:
        if self.platform is Platform.IOS:
            return [body["d"] for _, body in self._asked]
        return [body["message"]["data"]["d"] for _, body in self._asked]


def push_harness(opened: push.Open) -> Open:
    @asynccontextmanager
    async def open_push(folder: Path) -> AsyncIterator[Harness]:
        async with opened(folder) as inner:
            yield PushHarness(inner, inner.sender._gate)  # type: ignore[attr-defined]

    return open_push


# What each case that reaches the sender is called.
OUTCOMES: dict[Case, Outcome] = {case: Outcome(case.value) for case in Case if case is not Case.OVERSIZED}
