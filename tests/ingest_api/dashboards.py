"""A dashboard for tests: a published world of sends, and a browser's part in it without a browser."""

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import orjson
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ingest_api.services import Services
from notify_pipeline.reports.build import build_candidate, publish
from tests.reports import worlds
from tests.reports.worlds import World

OURS = {"Sec-Fetch-Site": "same-origin"}
HOME = "/dashboard/"
SIGN_IN = "/dashboard/sign-in"
UPDATE = "/dashboard/_dash-update-component"
SHOWN = (("page", "children"), ("page", "data-title"), ("page", "data-path"), ("navigation", "children"))
MARKUP = "<b>Bold</b> & <script>alert(1)</script>"
TITLES = ("Parliament dissolved", "Storm Berta: red warning", "Final score: City 3, United 2", MARKUP)


def sign_in(browser: FlaskClient, key: str, following: str = "", **headers: str) -> TestResponse:
    """Send the sign-in page's form."""
    return browser.post(SIGN_IN, data={"key": key, "next": following}, headers={**OURS, **headers})


def called(outputs: Any, inputs: Any, state: Any = (), changed: Any = ()) -> dict[str, Any]:
    """Return what Dash's script sends to call a callback: inputs and state as (id, property, value)."""
    names = [f"{name}.{part}" for name, part in outputs]
    return {
        "output": f"..{'...'.join(names)}.." if len(names) > 1 else names[0],
        "outputs": [{"id": name, "property": part} for name, part in outputs][slice(None) if len(names) > 1 else 0],
        "inputs": [{"id": name, "property": part, "value": value} for name, part, value in inputs],
        "state": [{"id": name, "property": part, "value": value} for name, part, value in state],
        "changedPropIds": list(changed),
    }


def update(browser: FlaskClient, body: Any, **headers: str) -> TestResponse:
    """Call a callback."""
    data = orjson.dumps(body)
    return browser.post(UPDATE, data=data, content_type="application/json", headers={**OURS, **headers})


def show(browser: FlaskClient, pathname: Any, search: Any = "", **headers: str) -> TestResponse:
    """Ask for what an address shows."""
    where = [("address", "pathname", pathname), ("address", "search", search)]
    return update(browser, called(SHOWN, where), **headers)


def texts(node: Any) -> Iterator[str]:
    """Yield every text that components show, in their order."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for each in node:
            yield from texts(each)
    elif isinstance(node, dict):
        yield from texts(node.get("props", {}).get("children"))


def publish_world(services: Services, world: World, number: int = 1) -> None:
    """Put a world into the lake and publish its reports."""
    world.put(services.lake, f"part-{number}")
    settings, now = services.settings, services.clock()
    publish(build_candidate(services.lake, settings.reports, settings, now), settings, now)


def send(world: World, name: str, tenant: str, at: float, size: int = 20, **more: Any) -> None:
    """Let a send run its course: most of it accepted, most of that received."""
    draws = random.Random(name)
    buttons = orjson.dumps({"content": {"actions": [{"action": "save", "title": "Save"}]}}).decode()
    world.request(name, tenant, at, **{"body": buttons, **more})
    for platform in ("android", "ios", "web"):
        world.audience(size, platform, name, tenant)
        for who in range(size):
            common: dict[str, Any] = {"platform": platform, "notification": name, "tenant": tenant}
            sent_at = at + 0.5 + draws.random() * 15
            if who % 10 == 9:
                world.attempt(f"{platform}-{who}", "invalid_recipient", sent_at, code="UNREGISTERED", **common)
                continue
            made = world.attempt(f"{platform}-{who}", "accepted", sent_at, **common)
            if who % 10 < 8:
                received_at = sent_at + min(draws.lognormvariate(1.2, 1.4), 900)
                world.beacon(made, at=received_at, notification=name)
                if who % 4 == 0:
                    world.beacon(made, "opened", at=received_at + 20, notification=name)
                    world.beacon(made, "clicked", at=received_at + 25, notification=name, action="save")
    for state, later in (("routed", 0.1), ("sending", 0.2), ("done", 20.0)):
        world.state(name, tenant, state, at + later)


def ago(services: Services, **delta: float) -> float:
    """Return a moment as worlds count: seconds after their start."""
    return (services.clock() - timedelta(**delta) - worlds.START).total_seconds()
