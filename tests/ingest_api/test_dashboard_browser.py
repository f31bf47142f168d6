"""The dashboard in a real browser, from a real ingress: whatever is refused or fails on a page fails the test."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ingest_api.services import Services
from notify_pipeline.core.ledger import keys, tenants
from notify_pipeline.core.ledger.engine import utc_now
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import KeyScope
from tests.ingest_api.dashboards import MARKUP, TITLES, ago, publish_world, send
from tests.ingest_api.server import Server, call
from tests.reports.worlds import World
from tests.waiting import PATIENCE_S, wait_for

# Made when asked for, so that a test run leaves the tree as it was.
IMAGES = Path(__file__).parents[2] / "docs" / "images" if os.environ.get("NOTIFY_SCREENSHOTS") else None
LOOK = Path(__file__).with_name("looked_at.js").read_text()
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 800}


@dataclass
class Office:
    """An ingress with published reports, and whoever looks at them."""

    server: Server
    services: Services
    tenant: tenants.NewTenant
    world: World
    chromium: Any
    state: Any = None
    wrong: list[str] = field(default_factory=list)

    def page(self, path: str = "", *, signed_in: bool = True, **options: Any) -> Any:
        """Open a page in a window of its own, in the session of the first who signed in."""
        given = {"viewport": DESK, **({"storage_state": self.state} if signed_in else {}), **options}
        context = self.chromium.new_context(**given)
        context.set_default_timeout(PATIENCE_S * 1000)
        page = context.new_page()
        # Among errors is whatever the content security policy refuses.
        page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.goto(f"{self.server.url}/dashboard/{path}")
        return page

    def sign_in(self, page: Any, key: str) -> None:
        """Type a key."""
        page.get_by_label("Secret key").fill(key)
        page.get_by_role("button", name="Sign in").click()

    def picture(self, page: Any, name: str) -> None:
        """Keep what a page looks like, if asked to."""
        if IMAGES is not None:
            IMAGES.mkdir(exist_ok=True)
            clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": 1_120}
            page.screenshot(path=IMAGES / f"dashboard-{name}.png", animations="disabled", full_page=True, clip=clip)


@pytest.fixture(scope="module")
def running(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """An ingress of two processes, with a week of sends."""
    home = tmp_path_factory.mktemp("office")
    services, world = Services(Settings(home=home)), World()
    product = tenants.create_product(services.ledger, "The Daily Planet", ("UK edition",), utc_now())
    sizes = (60, 40, 20, 50, 30, 55, 15, 45)
    for number, size in enumerate(sizes):
        more = {"type": "news" if number % 2 else "sport", "topics": ["breaking/uk"], "title": TITLES[number % 4]}
        send(world, f"n-{number}", product.tenant, ago(services, hours=1 + 20 * number), size, **more)
    publish_world(services, world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTIFY_SIGN_INS_PER_MINUTE", "1000")
        server = Server(home, workers=2, threads=4).start()
    office = Office(server, services, product, world, chromium)
    try:
        page = office.page(signed_in=False)
        office.sign_in(page, product.secret_key)
        page.wait_for_selector("table.list")
        office.state = page.context.storage_state()
        page.context.close()
        yield office
    finally:
        server.stop()
        services.close()


@pytest.fixture
def office(running: Office) -> Iterator[Office]:
    """The same, in which nothing may go wrong and all windows are closed in the end."""
    running.wrong.clear()
    yield running
    for context in running.chromium.contexts:
        context.close()
    assert running.wrong == []


def rows(page: Any) -> list[str]:
    found: list[str] = page.locator("table.list tbody .title").all_inner_texts()
    return found


def shows(page: Any, expected: list[str]) -> None:
    wait_for(lambda: rows(page) == expected, what=f"the list to show {expected}")


def whole(page: Any) -> None:
    """Wait until one notification is shown with its charts."""
    page.wait_for_selector("#timeline-graph .scatterlayer .js-line", state="attached")
    page.wait_for_selector("#latency-graph .scatterlayer .js-line", state="attached")


def test_a_key_opens_it_and_a_sign_out_closes_it(office: Office) -> None:
    page = office.page("notifications/n-1", signed_in=False, viewport=PHONE)
    assert page.evaluate(LOOK) == []
    page.get_by_label("Secret key").fill("nsk_wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    # The status of that page, which browsers write down.
    assert [each for each in office.wrong if "401" not in each] == []
    office.wrong.clear()
    office.sign_in(page, office.tenant.secret_key)
    page.get_by_role("heading", name=TITLES[1]).wait_for()
    assert page.url.endswith("/dashboard/notifications/n-1")
    assert office.tenant.secret_key not in page.content()
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("Object.keys(localStorage).concat(Object.keys(sessionStorage))") == []
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Secret key").wait_for()
    page.go_back()
    page.get_by_label("Secret key").wait_for()


def test_a_revoked_key_closes_the_open_page(office: Office) -> None:
    made = keys.create(office.services.ledger, office.tenant.tenant, KeyScope.SECRET, None, "test", utc_now())
    page = office.page(signed_in=False)
    office.sign_in(page, made.plaintext)
    page.wait_for_selector("table.list")
    keys.revoke(office.services.ledger, office.tenant.tenant, made.key_id, "test", utc_now())
    page.get_by_label("Secret key").wait_for()
    assert [each for each in office.wrong if "401" not in each] == []
    office.wrong.clear()


def test_the_address_holds_the_filters(office: Office) -> None:
    page = office.page("?range=30d")
    everything = [TITLES[number % 4] for number in range(8)]
    shows(page, everything)
    assert page.title() == "Notifications · Notify"
    search = page.get_by_label("Search in titles")
    search.fill("storm")
    # Whoever goes on typing elsewhere at once loses nothing.
    search.press("Tab")
    page.keyboard.type("ne")
    shows(page, [TITLES[1], TITLES[1]])
    assert page.get_by_label("Type").input_value() == "ne"
    page.get_by_label("Type").fill("")
    page.get_by_label("Platform").select_option("ios")
    page.wait_for_url("**platform=ios*")
    assert {"range=30d", "q=storm", "platform=ios"} <= set(page.url.partition("?")[2].split("&"))
    again = office.page(page.url.partition("/dashboard/")[2])
    shows(again, [TITLES[1], TITLES[1]])
    assert again.get_by_label("Platform").input_value() == "ios"
    page.go_back()
    page.go_back()
    shows(page, everything)
    assert (search.input_value(), page.get_by_label("Platform").input_value()) == ("", "")
    page.get_by_role("link", name="Audience").click()
    page.locator("th[aria-sort=descending]", has_text="Audience").wait_for()
    # By size: n-0, n-5, n-3, n-7, n-1, n-4, n-2, n-6.
    assert rows(page) == [TITLES[number % 4] for number in (0, 5, 3, 7, 1, 4, 2, 6)]
    assert page.evaluate("document.activeElement.id") == "sort-audience", "the keyboard goes on where it was"
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert Path(download.value.path()).read_text().count("\n") == 9


def test_a_notification_is_shown_as_text_and_charts(office: Office) -> None:
    page = office.page()
    page.get_by_role("link", name=MARKUP).first.click()
    page.get_by_role("heading", level=1, name=MARKUP).wait_for()
    whole(page)
    assert page.title() == f"{MARKUP} · Notify"
    assert page.evaluate("document.activeElement.id") == "page", "a new page begins at its top"
    assert page.locator("main script, main b").count() == 0
    page.get_by_label("Notification id").fill("n-4")
    page.keyboard.press("Enter")
    page.get_by_text("They are of different types.").wait_for()
    assert page.url.endswith("?with=n-4")
    page.emulate_media(media="print")
    assert not page.locator(".top").is_visible() and page.locator("#notification-funnel").is_visible()
    missing = office.page("notifications/nobody's")
    missing.get_by_role("heading", name="Not found").wait_for()


def test_a_keyboard_is_enough(office: Office) -> None:
    page = office.page()
    page.wait_for_selector("table.list")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "page"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "range-today"
    page.locator("#range-30d").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**range=30d*")
    wait_for(lambda: page.evaluate("document.activeElement.id") == "range-30d", what="the focus")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"


@pytest.mark.parametrize(
    "path", ["", "notifications/n-1?with=n-2", "?q=nothing&state=bad"], ids=["list", "one", "empty"]
)
def test_nobody_stumbles(office: Office, path: str) -> None:
    page = office.page(path, color_scheme="light")
    if path.startswith("notifications"):
        whole(page)
        page.get_by_text("They are of different types.").wait_for()
    else:
        page.wait_for_selector(".empty" if "nothing" in path else "table.list")
    name = {"": "list", "?": "empty", "n": "notification"}[path[:1]]
    # Colours are a theme's and widths a size's; the two between are for pictures.
    between = (("dark", DESK), ("light", PHONE)) if IMAGES is not None else ()
    for theme, size in (("light", DESK), *between, ("dark", PHONE)):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size(size)
        wait_for(
            lambda at=size: page.evaluate("document.documentElement.scrollWidth") == at["width"],
            PATIENCE_S,
            "no wider page",
        )
        if name != "empty" and (size is DESK or theme == "light"):
            office.picture(page, f"{name}-{'phone' if size is PHONE else theme}")
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert page.evaluate(LOOK) == []
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = false; })")


def test_the_theme_that_was_chosen_stays(office: Office) -> None:
    page = office.page(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    page.get_by_role("button", name="Dark theme").click()
    dark = page.evaluate(ground)
    page.reload()
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(ground) != dark
    page.emulate_media(color_scheme="dark")
    page.get_by_role("button", name="Light theme").wait_for()
    assert page.evaluate(ground) == dark, "what the system says is followed again"


def test_an_open_page_moves_and_leaves_its_reader_alone(office: Office) -> None:
    services, at = office.services, ago(office.services, seconds=20)
    office.world.request("live", office.tenant.tenant, at, title="Under way")
    for state, later in (("routed", 0.1), ("sending", 0.2)):
        office.world.state("live", office.tenant.tenant, state, at + later)
    office.world.audience(500, "ios", "live", office.tenant.tenant)
    for who in range(40):
        receive(office, who, at)
    publish_world(services, office.world, 2)
    page = office.page("notifications/live")
    whole(page)
    figures = page.locator("#notification-figures .value")
    assert (
        figures.all_inner_texts()[:3] == ["500", "40", "40"]
        and "Sending" in page.locator("#notification-chips").inner_text()
    )
    page.locator("summary").click()
    page.get_by_label("Notification id").fill("half a wor")
    page.evaluate(
        "document.querySelectorAll('input, details, .tall, #latency-graph .main-svg').forEach((n) => n.kept = 1)"
    )
    before = page.evaluate("[scrollY, document.querySelectorAll('.tall')[0].scrollTop]")
    for who in range(40, 90):
        receive(office, who, at)
    publish_world(services, office.world, 3)
    wait_for(lambda: figures.all_inner_texts()[:3] == ["500", "90", "90"], what="the figures to move")
    assert page.locator("#notification-said").text_content() == "Sending: 10 percent of 500 recipients tried."
    assert page.locator("#notification-rows").inner_text().count("90") > 0
    assert page.evaluate("document.activeElement.value") == "half a wor"
    assert page.evaluate("[scrollY, document.querySelectorAll('.tall')[0].scrollTop]") == before
    kept = (
        "Array.from(document.querySelectorAll('input, details, .tall, #latency-graph .main-svg')).every((n) => n.kept)"
    )
    assert page.evaluate(kept) and page.locator("details").evaluate("(each) => each.open")


def receive(office: Office, who: int, at: float) -> None:
    tenant = office.tenant.tenant
    made = office.world.attempt(f"live-{who}", "accepted", at + 1, notification="live", tenant=tenant)
    office.world.beacon(made, at=at + 2 + who % 15, notification="live")


def test_a_send_is_there_before_any_report_of_it(office: Office) -> None:
    body = {"id": "fresh", "type": "news", "topics": ["t"], "content": {"title": "Fresh", "body": "From the API."}}
    assert call(office.server.url, "POST", "/notifications", office.tenant.secret_key, body).status == 202
    page = office.page("notifications/fresh")
    page.get_by_role("heading", name="Fresh").wait_for()
    chips = page.locator("#notification-chips")
    assert "Accepted" in chips.inner_text()
    assert call(office.server.url, "DELETE", "/notifications/fresh", office.tenant.secret_key).status < 300
    wait_for(lambda: "Cancelled" in chips.inner_text(), what="the end of the send")
