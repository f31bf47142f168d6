"""The operators' pages in a real browser: they move by themselves, and ask before they send dead letters again."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, insert, update

from notify_pipeline.core.ids import DeliveryIds, to_micros
from notify_pipeline.core.ledger import dead_letters, keys, leases, letters, rates, requests, tenants
from notify_pipeline.core.ledger.dead_letters import DeadLetter
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.letters import Filter
from notify_pipeline.core.ledger.tables import REQUESTS, SHARDS
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import DeadLetterReason, Outcome
from tests.ingest_api.conftest import change
from tests.ingest_api.server import Server
from tests.waiting import wait_for

ADMIN = "an-admin-key-of-the-operators-page"
# Asked for by whoever changes the pages; a test run leaves the tree as it is.
IMAGES = Path(__file__).parents[2] / "docs" / "images" if os.environ.get("NOTIFY_SCREENSHOTS") else None


@dataclass
class Desk:
    """An ingress, its ledger, and a tenant with dead letters."""

    url: str
    ledger: Ledger
    tenant: tenants.NewTenant

    def send(self, notification_id: str) -> str:
        now = utc_now()
        body = {"type": "news", "topics": ["t"], "content": {"title": "Hello", "body": "World"}}
        new = requests.NewRequest(self.tenant.tenant, notification_id, body, now, now + timedelta(hours=1))
        return requests.accept(self.ledger, new).request_id

    def die(self, notification_id: str, count: int) -> None:
        """Let deliveries of a new send become dead letters."""
        request_id = self.send(notification_id)
        addresses = [f"token-{number:03d}-" + "x" * 60 for number in range(count)]
        ids = DeliveryIds(b"s", self.tenant.tenant, notification_id, "fcm").of_all(addresses)
        rows = [
            DeadLetter(each, "android", address, "u", Outcome.TRANSIENT, "UNAVAILABLE", DeadLetterReason.ATTEMPTS, 6)
            for each, address in zip(ids, addresses, strict=True)
        ]

        def add(conn: Connection, items: Any) -> list[None]:
            for item in items:
                dead_letters.add(conn, "fcm", {request_id: item}, to_micros(utc_now()))
            return [None for _ in items]

        self.ledger.write(add, rows)

    def broadcast(self, notification_id: str) -> None:
        """Let a new send be under way: one of its two shards is done."""
        request_id = self.send(notification_id)
        counts = {"apns": {"audience": 400_000, "pending": 150_000, "accepted": 249_000, "invalid_recipient": 1_000}}
        sending = {"state": "sending", "mode": "broadcast", "counts": orjson.dumps(counts).decode()}
        change(self.ledger, update(REQUESTS).where(REQUESTS.c.request_id == request_id).values(sending))
        shard = {"request_id": request_id, "channel": "apns", "path": "s", "recipients": 200_000}
        until = to_micros(utc_now()) + 600_000_000
        rows = [{"shard": 0, "done_at": 1, "lease_until": None}, {"shard": 1, "done_at": None, "lease_until": until}]
        change(self.ledger, insert(SHARDS).values([shard | row for row in rows]))

    def waiting(self) -> int:
        return len(letters.oldest_waiting(self.ledger, self.tenant.tenant, Filter(), 1_000))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("operations")
    with Ledger.open(Settings(home=home).ledger_dsn) as ledger:
        keys.create_admin(ledger, ADMIN, utc_now())
        made = tenants.create_product(ledger, "Daily", (), utc_now())
        server = Server(home, workers=1, threads=8).start()
        try:
            yield Desk(server.url, ledger, made)
        finally:
            server.stop()


@dataclass
class Tab:
    """A page, and what went wrong on it."""

    page: Any
    wrong: list[str]

    def picture(self, name: str) -> None:
        if IMAGES is not None:
            IMAGES.mkdir(exist_ok=True)
            self.page.screenshot(path=IMAGES / f"dashboard-{name}.png", full_page=True, animations="disabled")


@pytest.fixture
def tabs(chromium: Any, desk: Desk) -> Iterator[Any]:
    """Opens pages for the holder of a key; nothing may go wrong on any of them."""
    opened: list[tuple[Any, Tab]] = []

    def open_(key: str, path: str, **options: Any) -> Tab:
        context = chromium.new_context(**options)
        tab = Tab(context.new_page(), [])
        opened.append((context, tab))
        # Among these is whatever the content security policy refuses.
        tab.page.on("console", lambda said: tab.wrong.append(said.text) if said.type == "error" else None)
        tab.page.on("pageerror", lambda error: tab.wrong.append(str(error)))
        tab.page.goto(f"{desk.url}/dashboard/sign-in?next=/dashboard/{path}")
        tab.page.fill("input[name=key]", key)
        tab.page.click("button[type=submit]")
        return tab

    yield open_
    for context, tab in opened:
        context.close()
        assert tab.wrong == []


def test_the_page_moves_by_itself(desk: Desk, tabs: Any) -> None:
    now = utc_now()
    leases.acquire(desk.ledger, "lander", "host:1", 60, now)
    rates.hold(desk.ledger, "fcm:project", to_micros(now), to_micros(now) + 600_000_000, 500.0)
    desk.broadcast("breaking-1")
    tab = tabs(ADMIN, "operations", color_scheme="dark")
    page = tab.page
    page.wait_for_selector("#operations-panels table")
    region = page.get_by_role("region", name="Roles that one process holds")
    assert "lander" in region.inner_text()
    assert "paused for 10 min more" in page.inner_text("#operations-panels")
    assert "accepted" not in page.inner_text("#operations-panels")
    assert "250,000 (62.5\u00a0%)" in page.get_by_role("region", name="Large sends").inner_text()
    assert page.get_by_role("link", name="Dead letters").count() == 0
    region.focus()
    desk.send("moved-1")
    desk.send("moved-2")
    wait_for(lambda: "accepted" in page.inner_text("#operations-panels"), what="the queue on the page")
    focused = "document.activeElement.getAttribute('aria-label')"
    wait_for(lambda: page.evaluate(focused) == "Roles that one process holds", what="the keyboard's place")
    tab.picture("operations")


def test_dead_letters_are_sent_again_after_a_question(desk: Desk, tabs: Any) -> None:
    desk.die("died-1", 4)
    tab = tabs(desk.tenant.secret_key, "dead-letters")
    page = tab.page
    answers = iter([False, True, True, True])
    page.on("dialog", lambda dialog: dialog.accept() if next(answers) else dialog.dismiss())
    boxes = page.get_by_role("checkbox", name="Select token")
    page.wait_for_selector("#letters table")
    tab.picture("dead-letters")
    assert boxes.count() == 4
    boxes.nth(0).check()
    boxes.nth(1).check()
    selected = page.get_by_role("button", name="Send the selected again")
    selected.click()
    assert desk.waiting() == 4
    selected.click()
    page.wait_for_selector("text=Sent again: 2.")
    assert desk.waiting() == boxes.count() == 2
    page.select_option("#letters-replayed", "false")
    wait_for(lambda: page.get_by_text("sent again", exact=True).count() == 0, what="the filtered list")
    page.locator("#letters tbody th a").first.click()
    page.wait_for_selector("text=What was to be sent")
    page.get_by_role("button", name="Send again").click()
    page.wait_for_selector("text=Sent again: 1.")
    page.get_by_role("link", name="All dead letters").click()
    page.wait_for_selector("#letters table")
    page.get_by_role("button", name="Send all that fit again").click()
    page.wait_for_selector("text=Sent again: 1.")
    assert desk.waiting() == 0


@pytest.mark.parametrize("path", ["operations", "dead-letters"])
def test_a_phone_scrolls_down_only(desk: Desk, tabs: Any, path: str) -> None:
    desk.die(f"narrow-{path}", 1)
    page = tabs(desk.tenant.secret_key, path, viewport={"width": 360, "height": 740}).page
    page.wait_for_selector("#page table")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
