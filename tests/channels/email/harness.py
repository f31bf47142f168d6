"""E-mail's harness for the outcomes suite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from notify_pipeline.channels.base import ChannelSender
from notify_pipeline.channels.email.answers import THROTTLED_S
from notify_pipeline.channels.rates import Gate
from notify_pipeline.core.records import Content
from notify_pipeline.core.vocabulary import Platform
from tests.channels.email import relay as mail
from tests.channels.outcomes import Case, Harness


@dataclass
class EmailHarness:
    """E-mail over a relay of its own."""

    sender: ChannelSender
    gate: Gate
    relay: mail.Relay

    platform = Platform.EMAIL
    gives_ids = True
    throttled_s = THROTTLED_S
    oversized = Content("Title", html="ä" * 600_000)
    _answers = {
        Case.ACCEPTED: mail.Script(),
        Case.THROTTLED: mail.Script(rcpt="450 4.7.0 too much"),
        Case.TRANSIENT: mail.Script(rcpt="451 4.3.0 not now"),
        Case.PERMANENT: mail.Script(content="554 5.7.1 we do not like it"),
        Case.INVALID_RECIPIENT: mail.Script(rcpt="550 5.1.1 nobody here"),
        Case.AMBIGUOUS: mail.Script(content="drop"),
    }

    def address(self, number: int) -> str:
        return f"reader-{number}@example.com"

    def answer(self, case: Case) -> None:
        self.relay.script = self._answers[case]

    def hang(self) -> None:
        self.relay.script = mail.Script(content="hang")

    @property
    def _asked(self) -> list[mail.Asked]:
        # Whose content never came was certainly not sent to, whatever was said before it.
        return [asked for asked in self.relay.asked if asked.refused or asked.message_id is not None]

    @property
    def called(self) -> list[str]:
        return [asked.address for asked in self._asked]

    @property
    def marks(self) -> list[str]:
        return [asked.message_id or "" for asked in self._asked]


@asynccontextmanager
async def open_email(folder: Path) -> AsyncIterator[Harness]:
    async with mail.running(folder) as relay:
        sender, gate, _ = mail.sender_over(relay)
        yield EmailHarness(sender, gate, relay)
        await sender.aclose()
