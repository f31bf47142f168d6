"""What a route may say of its enrichers: checked when it is stored, and named with its place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ingest_api.conftest import House, build, copied, fields_of
from tests.ingest_api.test_event_routes import PATH, rule

URL = "https://api.example.com/orders/{detail.id}?lang={enrichment.user.locale}"
GOOD: list[dict[str, Any]] = [
    {"name": "user", "enricher": "user"},
    {"name": "liker", "enricher": "user", "config": {"user": "detail.liker", "attributes": ["name"]}},
    {"name": "look", "enricher": "content", "config": {"look": "detail.look_id"}},
    {"name": "order", "enricher": "http", "config": {"url": URL, "select": "order", "ttl_s": 5.0, "optional": True}},
    {"name": "more", "enricher": "http", "config": {"url": URL, "method": "POST", "body": "detail", "timeout_s": 2}},
]


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[House]:
    """An installation that lists hosts."""
    yield from build(copied(migrated, tmp_path_factory.mktemp("enrichers")), enrichment_hosts="api.example.com")


def test_enrichers_are_stored_as_they_were_put(listing: House) -> None:
    stored = listing.secret.ok("PUT", PATH, rule(enrichment=GOOD))
    assert stored["rule"]["enrichment"] == [{"config": {}, **each} for each in GOOD]
    assert listing.secret.ok("GET", PATH) == stored


@pytest.mark.parametrize(
    ("enricher", "config", "field"),
    [
        ("http", {}, "url"),
        ("http", {"url": "https://api.example.com/{detail.}"}, "url"),
        ("http", {"url": "https://{detail.host}/"}, "url"),
        ("http", {"url": "https://elsewhere.example.com/"}, "url"),
        ("http", {"url": "http://api.example.com/"}, "url"),
        ("http", {"url": "https://api.example.com:8443/"}, "url"),
        ("http", {"url": URL, "headers": {"Authorization": "x"}}, "headers"),
        ("http", {"url": URL, "body": "detail"}, "body"),
        ("http", {"url": URL, "select": "a b"}, "select"),
        ("http", {"url": URL, "ttl_s": 86_401}, "ttl_s"),
        ("http", {"url": URL, "timeout_s": 0}, "timeout_s"),
        ("http", {"url": URL, "method": "DELETE"}, "method"),
        ("user", {"url": URL}, "url"),
        ("user", {"user": "["}, "user"),
        ("content", {}, "look"),
        ("content", {"look": "a", "notification": "b"}, "notification"),
        ("python", {}, "function"),
        ("python", {"function": "os.system"}, "function"),
        ("python", {"function": "x", "options": {"x": "y" * 4_096}}, "options"),
    ],
)
def test_what_is_wrong_is_named(listing: House, enricher: str, config: dict[str, Any], field: str) -> None:
    body = rule(enrichment=[{"name": "a", "enricher": enricher, "config": config}])
    assert fields_of(listing.secret.call("PUT", PATH, body)) == {f"enrichment.0.config.{field}"}


def test_an_unknown_enricher_and_a_host_of_nobody_s_list_are_refused(house: House) -> None:
    unknown = rule(enrichment=[{"name": "a", "enricher": "magic"}])
    assert fields_of(house.secret.call("PUT", PATH, unknown)) == {"enrichment.0.enricher"}
    assert fields_of(house.secret.call("PUT", PATH, rule(enrichment=GOOD))) == {
        "enrichment.3.config.url",
        "enrichment.4.config.url",
    }
