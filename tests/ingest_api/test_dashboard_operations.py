"""The pages for operators, asked as their script asks: who sees what, and who may send what again."""

from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from ingest_api.dashboard import words
from ingest_api.dashboard.pages import operations_letters
from notify_pipeline.core.ledger import keys
from tests.ingest_api.conftest import ADMIN, House
from tests.ingest_api.dashboards import OURS, UPDATE, show, sign_in
from tests.ingest_api.test_dead_letters import died

OPERATIONS, LETTERS = "/dashboard/operations", "/dashboard/dead-letters"
ROWS = operations_letters._ROWS
LISTED = "..letters-said.children...letters.children...letters-selected.submit_n_clicks...letters-all.submit_n_clicks.."


@pytest.fixture
def browsers(house: House) -> dict[str, FlaskClient]:
    """A signed-in client for each kind of key."""
    found = {}
    for name, key in (("mine", house.mine.secret_key), ("other", house.other.secret_key), ("admin", ADMIN)):
        found[name] = house.client.application.test_client()
        assert sign_in(found[name], key).status_code == 303
    return found


def seen(browser: FlaskClient, path: str, search: str = "") -> str:
    """Return what an address shows, as its page's script gets it."""
    answer = show(browser, path, search)
    assert answer.status_code == 200
    return answer.text


def press(browser: FlaskClient, button: str, ids: list[str], search: str = "", **headers: str) -> Any:
    """Press one of the list's two buttons, with these letters ticked."""
    parts = [part.rpartition(".") for part in LISTED.strip(".").split("...")]
    values = {"letters-selected": 0, "letters-all": 0, button: 1}
    boxes = [{"id": f"letter-{n}", "property": "value", "value": ids[n : n + 1]} for n in range(ROWS)]
    body = {
        "output": LISTED,
        "outputs": [{"id": name, "property": prop} for name, _, prop in parts],
        "inputs": [
            {"id": name, "property": "submit_n_clicks", "value": values[name]}
            for name in ("letters-selected", "letters-all")
        ],
        "state": [{"id": "address", "property": "search", "value": search}, *boxes],
        "changedPropIds": [f"{button}.submit_n_clicks"],
    }
    return browser.post(UPDATE, data=orjson.dumps(body), content_type="application/json", headers={**OURS, **headers})


def letter(browser: FlaskClient, delivery_id: str, pressed: int) -> Any:
    body = {
        "output": "letter-said.children",
        "outputs": {"id": "letter-said", "property": "children"},
        "inputs": [{"id": "letter-one", "property": "submit_n_clicks", "value": pressed}],
        "state": [{"id": "address", "property": "pathname", "value": f"{LETTERS}/{delivery_id}"}],
        "changedPropIds": ["letter-one.submit_n_clicks"],
    }
    return browser.post(UPDATE, data=orjson.dumps(body), content_type="application/json", headers=OURS)


def waiting(house: House) -> set[str]:
    """Return the recipients of my dead letters that were not sent again."""
    items = house.secret.ok("GET", "/dead-letters?replayed=false&limit=100")["items"]
    return {item["recipient"] for item in items}


def test_each_sees_its_own(house: House, browsers: dict[str, FlaskClient]) -> None:
    died(house, house.secret, "mine-1", ["a"], type="letters-of-mine")
    mine, other, admin = (seen(browsers[name], OPERATIONS) for name in ("mine", "other", "admin"))
    assert "Queues" in mine and "Throttling and roles" not in mine
    assert "What waits, by queue and priority" in mine
    assert "Nothing waits." in other
    assert "Throttling and roles" in admin and '"mine"' in admin
    assert "letters-of-mine" in seen(browsers["mine"], LETTERS)
    assert "letters-of-mine" not in seen(browsers["other"], LETTERS)
    assert "There is no such page." in seen(browsers["admin"], LETTERS)


def test_a_selection_is_sent_again_in_the_name_of_the_sessions_key(
    house: House, browsers: dict[str, FlaskClient]
) -> None:
    _, ids = died(house, house.secret, "mine-1", ["a", "b", "c"])
    refused = press(browsers["other"], "letters-selected", ids[:2])
    assert "Nothing was sent" in refused.text
    assert press(browsers["admin"], "letters-selected", ids[:2]).status_code == 404
    assert press(browsers["mine"], "letters-selected", ids[:2], **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert waiting(house) == {"a", "b", "c"}
    assert "Nothing is selected." in press(browsers["mine"], "letters-selected", []).text
    answer = press(browsers["mine"], "letters-selected", ids[:2])
    assert "Sent again: 2. New sends: 1." in answer.text
    assert waiting(house) == {"c"}
    key = keys.find(house.services.ledger, house.mine.secret_key)
    (entry,) = house.secret.ok("GET", "/audit?event=dead_letters.replayed")["items"]
    assert key is not None and entry["actor"] == key.key_id


def test_what_a_filter_shows_is_what_is_sent(house: House, browsers: dict[str, FlaskClient]) -> None:
    died(house, house.secret, "mine-1", ["a"], type="news")
    died(house, house.secret, "mine-2", ["b"], type="sport")
    shown = seen(browsers["mine"], LETTERS, "?type=sport")
    assert "mine-2" in shown and "mine-1" not in shown
    assert "Sent again: 1." in press(browsers["mine"], "letters-all", [], "?type=sport").text
    assert waiting(house) == {"a"}
    wrong = press(browsers["mine"], "letters-all", [], "?channel=pigeon")
    assert "Nothing was sent" in wrong.text and "channel" in wrong.text
    assert "Some of these filters" in seen(browsers["mine"], LETTERS, "?channel=pigeon")
    assert waiting(house) == {"a"}


def test_one_letter_shows_what_was_to_be_sent_and_no_more(house: House, browsers: dict[str, FlaskClient]) -> None:
    token = "secret-token-" + "x" * 60
    content = {"title": "Hello", "body": "World"}
    _, (delivery_id,) = died(house, house.secret, "mine-1", [token], content=content)
    shown = seen(browsers["mine"], f"{LETTERS}/{delivery_id}")
    assert "Hello" in shown and "UNAVAILABLE" in shown
    listed = seen(browsers["mine"], LETTERS)
    # The user has a name like it, which is shown.
    assert token not in (shown + listed).replace(f"u-{token}", "")
    assert "There is no such dead letter." in seen(browsers["other"], f"{LETTERS}/{delivery_id}")
    assert "Nothing was sent" in letter(browsers["other"], delivery_id, 1).text
    assert letter(browsers["mine"], delivery_id, 0).status_code == 200
    assert waiting(house) == {token}
    assert "Sent again: 1." in letter(browsers["mine"], delivery_id, 1).text
    assert waiting(house) == set()


def test_whoever_signs_out_is_told_nothing_more(house: House, browsers: dict[str, FlaskClient]) -> None:
    body = {
        "output": "operations-panels.children",
        "outputs": {"id": "operations-panels", "property": "children"},
        "inputs": [{"id": "operations-tick", "property": "n_intervals", "value": 1}],
        "changedPropIds": ["operations-tick.n_intervals"],
    }

    def refresh() -> Any:
        data = orjson.dumps(body)
        return browsers["mine"].post(UPDATE, data=data, content_type="application/json", headers=OURS)

    assert "Queues" in refresh().text
    house.revoke(house.mine.secret_key)
    house.services.keys.forget_everywhere()
    assert refresh().status_code == 401


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        (0, 0, "–"),
        (0, 3, "0\u00a0%"),
        (1, 9_999_999, "< 0.1\u00a0%"),
        (9_999_999, 10_000_000, "> 99.9\u00a0%"),
        (1, 3, "33.3\u00a0%"),
        (5, 5, "100\u00a0%"),
    ],
)
def test_nothing_is_whole_before_its_time(part: int, whole: int, said: str) -> None:
    assert words.share_of(part, whole) == said
