"""From a message in a mailbox to nothing more of it: real SMTP, the link as a message carries it, the API, a drain."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests as http

from ingest_api.app import create_app
from ingest_api.services import Services
from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from tests.delivery.fakes import context
from tests.delivery.test_replays import Installation
from tests.ingest_api.conftest import Api
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S


@pytest.fixture
def installed(ledger: Ledger, ledger_url: str, tmp_path: Path) -> Iterator[Installation]:
    with running_sandbox(Settings(home=tmp_path / "sandbox")) as url:
        services = Services(Settings(home=tmp_path, ledger_url=ledger_url))
        product = tenants.create_product(ledger, "mine", (), utc_now())
        ctx = context(ledger, Lake(f"{tmp_path}/lake"), sandbox_url=url, request_timeout_s=5.0)
        ctx = replace(ctx, open_channels=partial(open_channels, ctx.settings, ledger))
        yield Installation(Api(create_app(services=services).test_client(), product.secret_key), ctx, url)
        services.close()


def mailed(installed: Installation, address: str) -> list[Any]:
    """Return the headers of a mailbox's messages, newest first."""
    shown = http.get(f"{installed.sandbox}/mail", params={"to": address}, timeout=PATIENCE_S).json()
    return [each["headers"] for each in shown["items"]]


def sent(installed: Installation, **body: Any) -> None:
    whole = {"type": "news", "category": "offers", "content": {"title": "Hello", "body": "You"}, **body}
    installed.drain(installed.api.ok("POST", "/notifications", whole)["request_id"])


def test_one_click_in_a_message_is_the_end_of_its_kind(installed: Installation) -> None:
    api = installed.api
    api.ok("PUT", "/users/ada", {"email": "ada@example.com"})
    sent(installed, users=["ada"], channels=["email"])
    sent(installed, emails=["bob@example.com"])
    for address in ("ada@example.com", "bob@example.com"):
        (message,) = mailed(installed, address)
        link = urlsplit(message["List-Unsubscribe"].strip("<>")).path
        form = dict([message["List-Unsubscribe-Post"].split("=")])
        assert api.client.post(link, data=form).status_code == 200
    sent(installed, users=["ada"], channels=["email"])
    sent(installed, emails=["BOB@example.com", "cyd@example.com"])
    sent(installed, users=["ada"], category="news", channels=["email"])
    # Its own kind is over; what was not refused goes on.
    assert [len(mailed(installed, f"{name}@example.com")) for name in ("ada", "bob", "cyd")] == [2, 1, 1]
