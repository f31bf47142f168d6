"""E-mail the whole way: accepted, planned, sent by the drain to the sandbox's relay; bounced, and then left out."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import suppressions, users
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.unsubscribe_tokens import SECRET, Unsubscribing, check
from notify_pipeline.core.vocabulary import Channel, Platform
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.fakes import TENANT, accept, context, land, rows_of
from tests.delivery.test_drain import drain_to_end, register
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S

DEAD, ADA, BOB = "dead@example.com", "ada@example.com", "bob@example.com"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[str]:
    with running_sandbox(Settings(home=tmp_path)) as url:
        yield url


def mails(sandbox: str, to: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = requests.get(f"{sandbox}/mail?to={to}", timeout=PATIENCE_S).json()["items"]
    return found


def faults(sandbox: str, **email: float) -> None:
    requests.put(f"{sandbox}/faults", json={"email": email}, timeout=PATIENCE_S).raise_for_status()


def attempts(ctx: DeliveryContext, request_id: str) -> set[tuple[str, str, str | None]]:
    land(ctx.ledger, ctx.lake)
    rows = [row for row in rows_of(ctx.lake, "attempts") if row["request_id"] == request_id]
    return {(row["recipient"], row["outcome"], row["provider_code"]) for row in rows}


def test_mailboxes_get_it_and_the_dead_ones_are_not_asked_again(
    sqlite_ledger: Ledger, folder_lake: Lake, sandbox: str, tmp_path: Path
) -> None:
    ledger, settings = sqlite_ledger, Settings(home=tmp_path, sandbox_url=sandbox)
    ctx = context(ledger, folder_lake, home=tmp_path)
    object.__setattr__(ctx, "open_channels", partial(open_channels, settings, ledger))
    register(ledger, BOB, Platform.EMAIL, topics=["t"])
    users.put(ledger, TENANT, "ada", users.Profile(email=ADA), "test", utc_now())
    land(ledger, folder_lake)

    faults(sandbox, unregistered=1)
    bounced = accept(ledger, emails=[DEAD])
    drain_to_end(ctx, bounced)
    assert attempts(ctx, bounced) == {(DEAD, "invalid_recipient", "550 5.1.1")}
    with ledger.read() as conn:
        assert list(suppressions.find(conn, TENANT, Channel.EMAIL, [DEAD])) == [DEAD]

    faults(sandbox)
    content = {"title": "Hello", "body": "Hello [[[user_id]]]"}
    sends = [
        accept(ledger, emails=[DEAD, "New@example.com"], content=content),
        accept(ledger, topics=["t"], channels=["email"], content=content),
        accept(ledger, users=["ada"], channels=["email"], content=content, category="news"),
        accept(ledger, emails=[BOB], content=content, dry_run=True),
    ]
    drain_to_end(ctx, *sends)
    assert [attempts(ctx, each) for each in sends[1:]] == [
        {(BOB, "accepted", None)},
        {(ADA, "accepted", None)},
        {(BOB, "dry_run", None)},
    ]
    assert {(word, code) for _, word, code in attempts(ctx, sends[0])} == {
        ("skipped", "suppressed:hard_bounce"),
        ("accepted", None),
    }
    assert [len(mails(sandbox, to)) for to in (DEAD, "new@example.com", BOB, ADA)] == [0, 1, 1, 1]
    (mail,) = mails(sandbox, ADA)
    assert (mail["subject"], mail["text"].splitlines()[0]) == ("Hello", "Hello ada")
    found = re.search(r"/unsubscribe/([\w-]+)", mail["headers"]["List-Unsubscribe"])
    assert found is not None
    about = Unsubscribing(TENANT, "user:ada", "news", Channel.EMAIL)
    assert check(ledger.secret(SECRET), found[1]) == about
