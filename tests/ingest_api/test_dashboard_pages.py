"""What the dashboard's pages say, and to whom: its callbacks are called as anybody with a session could."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient

from tests.ingest_api.conftest import ADMIN, House, build, copied
from tests.ingest_api.dashboards import (
    HOME,
    MARKUP,
    OURS,
    TITLES,
    ago,
    called,
    publish_world,
    send,
    show,
    sign_in,
    texts,
    update,
)
from tests.reports.worlds import World

LIST = (("list-results", "children"), ("list-days", "children"), ("list-about", "children"), ("list-token", "data"))
BOXES = (
    *("chips", "sentence", "figures", "funnel", "timeline-told", "latency-told"),
    *("rows", "platforms", "latencies", "failures", "actions", "said"),
)
MOVE = (
    *((f"notification-{name}", "children") for name in BOXES),
    ("timeline-graph", "figure"),
    ("latency-graph", "figure"),
    ("notification-token", "data"),
    ("notification-tick", "interval"),
    ("notification-tick", "disabled"),
)


class World_(NamedTuple):
    """A house with published reports, and browsers of its people."""

    house: House
    branch: str
    product: FlaskClient
    organization: FlaskClient
    stranger: FlaskClient


@pytest.fixture(scope="module")
def world(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World_]:
    """Nine sends of a product, one of them a dry run, one of an organization's, one of a stranger's."""
    for house in build(copied(migrated, tmp_path_factory.mktemp("dashboard"))):
        made, branch = World(), house.organization(house.mine, "Branch office")
        for number in range(9):
            at = ago(house.services, days=number / 2, minutes=30)
            topics = ["breaking/uk"] if number % 2 else ["sport"]
            more = {"type": "news" if number % 2 else "sport", "topics": topics, "dry_run": number == 8}
            send(made, f"n-{number}", house.mine.tenant, at, title=TITLES[number % 4], **more)
        send(made, "b-1", branch.tenant, ago(house.services, hours=3), title="Of the branch")
        send(made, "s-1", house.other.tenant, ago(house.services, hours=2), title="A stranger's secret")
        publish_world(house.services, made)
        people = [house.client.application.test_client() for _ in range(3)]
        for browser, key in zip(people, (house.mine, branch, house.other), strict=True):
            assert sign_in(browser, key.secret_key).status_code == 303
        yield World_(house, branch.tenant, *people)


def page(browser: FlaskClient, path: str, search: str = "") -> Any:
    answer = show(browser, HOME + path, search)
    assert answer.status_code == 200 and answer.json is not None
    return answer.json["response"]["page"]


def said(browser: FlaskClient, path: str = "", search: str = "") -> str:
    return " | ".join(texts(page(browser, path, search)["children"]))


def titles(browser: FlaskClient, search: str = "") -> list[str]:
    shown = list(texts(page(browser, "", search)["children"]))
    return [text for text in shown if text in (*TITLES, "Of the branch", "A stranger's secret")]


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("", [0, "b", 1, 2, 3, 4, 5, 6, 7]),
        ("?range=today", [0, "b"]),
        ("?range=today&include_dry_run=true", [0, "b"]),
        ("?range=30d&include_dry_run=true", [0, "b", 1, 2, 3, 4, 5, 6, 7, 8]),
        ("?from=2026-11-19&to=2026-11-20", [1, 2, 3, 4]),
        ("?q=STORM", [1, 5]),
        ("?type=sport&topic=sport", [0, 2, 4, 6]),
        ("?platform=ios&q=final", [2, 6]),
        ("?state=failed", []),
        ("?sort=accepted_at&q=storm", [5, 1]),
        ("?type=nothing", []),
        ("?type=sport&state=bad&sort=worse&cursor=x&page=7", [0, 2, 4, 6]),
        ("?q=%3Cscript", [3, 7]),
    ],
)
def test_the_address_says_what_is_listed(world: World_, search: str, expected: list[Any]) -> None:
    wanted = ["Of the branch" if each == "b" else TITLES[each % 4] for each in expected]
    assert titles(world.product, search) == wanted


def test_a_product_chooses_among_its_organizations_and_sees_no_other(world: World_) -> None:
    assert titles(world.product, f"?organization={world.branch}") == ["Of the branch"]
    assert "Of the branch" not in titles(world.product, f"?organization={world.house.mine.tenant}")
    assert titles(world.organization) == ["Of the branch"]
    assert titles(world.stranger) == ["A stranger's secret"]
    for browser, foreign in ((world.product, world.house.other), (world.organization, world.house.mine)):
        assert page(browser, "", f"?organization={foreign.tenant}")["data-title"] == "Not found"


def test_sums_are_those_of_all_pages(world: World_) -> None:
    # Of 540: nine of ten are accepted, eight received.
    shown = said(world.product)
    assert "9 notifications" in shown
    assert "540" in shown and "486" in shown and "432" in shown
    assert "90.0\u00a0% of audience" in shown


def test_a_list_says_what_was_wrong_with_its_address(world: World_) -> None:
    shown = said(world.product, "", "?state=bad&from=yesterday&sort=worse&q=" + "x" * 300)
    assert "“bad” says nothing as state" in shown
    assert "“yesterday” is no day" in shown
    assert "“worse” says nothing as sort" in shown
    assert "as q" in shown


def test_a_notification_is_shown_whole(world: World_) -> None:
    found = page(world.product, "notifications/n-1")
    assert found["data-title"] == TITLES[1]
    shown = " | ".join(texts(found["children"]))
    for text in (
        "Android",
        "iOS",
        "Web (FCM)",
        "UNREGISTERED",
        "Invalid recipient",
        "Queued",
        "Device",
        "Settled",
        "save",
    ):
        assert text in shown, text
    for text in ("60", "54", "48"):
        assert f" {text} " in shown, text


def test_titles_are_text(world: World_) -> None:
    found = page(world.product, "notifications/n-3")
    assert found["data-title"] == MARKUP
    assert MARKUP in list(texts(found["children"]))
    assert b"dangerously" not in show(world.product, HOME + "notifications/n-3").data


def test_two_sends_stand_side_by_side(world: World_) -> None:
    shown = said(world.product, "notifications/n-1", "?with=n-2")
    assert TITLES[2] in shown and "They are of different types." in shown and "±0" in shown
    assert "There is no such notification" in said(world.product, "notifications/n-1", "?with=s-1")


FOREIGN = "/dashboard/notifications/s-1"


def moved(pathname: Any, search: Any = "", token: Any = None) -> dict[str, Any]:
    state = [("address", "pathname", pathname), ("address", "search", search), ("notification-token", "data", token)]
    return called(MOVE, [("notification-tick", "n_intervals", 1)], state)


def compared(pathname: Any, search: Any) -> dict[str, Any]:
    state = [("address", "pathname", pathname)]
    return called([("notification-comparison", "children")], [("address", "search", search)], state)


def listed(search: Any, pathname: Any = HOME, token: Any = None) -> dict[str, Any]:
    inputs = [("address", "search", search), ("list-tick", "n_intervals", 1)]
    return called(LIST, inputs, [("address", "pathname", pathname), ("list-token", "data", token)], ["address.search"])


def test_no_callback_tells_of_another_tenants_notification(world: World_) -> None:
    other, own = world.house.other.tenant, "/dashboard/notifications/n-1"
    attacks = [
        moved(FOREIGN),
        moved(FOREIGN, f"?organization={other}"),
        moved("/dashboard/notifications/s%2D1"),
        compared(FOREIGN, "?with=n-1"),
        compared(own, f"?with=s-1&organization={other}"),
        listed(f"?organization={other}"),
    ]
    for browser in (world.product, world.organization):
        for attack in attacks:
            answer = update(browser, attack)
            assert answer.status_code == 404, attack
            assert "secret" not in answer.text
    # What one asks for in another's name is asked for in one's own.
    answers = [update(world.product, compared(own, "?with=s-1")), update(world.product, listed("?range=30d"))]
    answers.append(show(world.product, FOREIGN))
    for answer in answers:
        assert answer.status_code == 200 and "secret" not in answer.text
    assert update(world.stranger, moved(FOREIGN)).status_code == 200
    assert page(world.stranger, "notifications/s-1")["data-title"] == "A stranger's secret"


def test_no_callback_tells_an_administrator_of_notifications(world: World_) -> None:
    admin = world.house.client.application.test_client()
    sign_in(admin, ADMIN)
    for attack in (moved(FOREIGN), compared(FOREIGN, "?with=n-1"), listed("")):
        assert update(admin, attack).status_code == 404


@pytest.mark.parametrize(
    "strange", [None, 7, [], {}, "", "/", "/dashboard/notifications/", "/dashboard/notifications/a/b"]
)
def test_callbacks_take_nothing_for_granted(world: World_, strange: Any) -> None:
    for body in (moved(strange, strange, strange), compared(strange, strange), listed(strange, strange, strange)):
        assert update(world.product, body).status_code in (200, 204, 404)


def test_what_has_not_changed_is_not_drawn_again(world: World_) -> None:
    pathname = "/dashboard/notifications/n-1"
    first = update(world.product, moved(pathname)).json
    assert first is not None
    token = first["response"]["notification-token"]["data"]
    assert update(world.product, moved(pathname, "", token)).status_code == 204
    assert first["response"]["notification-tick"]["disabled"] is True, "it is settled"
    first = update(world.product, listed("?q=storm")).json
    assert first is not None
    token = first["response"]["list-token"]["data"]
    assert update(world.product, listed("?q=storm", HOME, token)).status_code == 204
    assert update(world.product, listed("?q=final", HOME, token)).status_code == 200


def test_before_the_first_version_the_list_says_what_to_expect(house: House) -> None:
    browser = house.client.application.test_client()
    sign_in(browser, house.mine.secret_key)
    assert "There are no reports yet" in said(browser)


def test_downloads_have_the_lists_filters_and_need_a_session(world: World_) -> None:
    answer = world.product.get("/dashboard/reports.csv?q=storm&from=2026-11-15&include_organizations=true")
    assert answer.status_code == 200 and answer.content_type.startswith("text/csv")
    assert answer.text.count("Storm Berta") == 2
    assert answer.headers["Content-Disposition"] == 'attachment; filename="reports.csv"'
    assert "secret" not in world.product.get("/dashboard/reports.ndjson").text
    assert world.product.get(f"/dashboard/reports.csv?organization={world.house.other.tenant}").status_code == 404
    assert world.product.get("/dashboard/reports.csv?nonsense=1").status_code == 422
    assert world.product.get("/dashboard/reports.parquet").data[:4] == b"PAR1"
    nobody = world.house.client.application.test_client()
    assert nobody.get("/dashboard/reports.csv").status_code == 303
    sign_in(nobody, ADMIN)
    assert nobody.get("/dashboard/reports.csv", headers=OURS).status_code == 404
