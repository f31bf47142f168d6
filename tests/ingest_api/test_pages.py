"""What pages of a domain and of others get from a real ingress, in a real browser."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from notify_pipeline.core.ledger import domains, tenants
from notify_pipeline.core.ledger.domains import DomainChange
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from tests.browsers import Site, served
from tests.ingest_api.server import Server
from tests.waiting import PATIENCE_S

_FETCH = """
async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return {status: answer.status, retryAfter: answer.headers.get("Retry-After"), body: await answer.text()};
  } catch (error) {
    return {failed: error.name};
  }
}
"""
FAILED = {"failed": "TypeError"}
BURST, PER_MINUTE = 40, 60
PATH = "/domains/example.com/isPushFeatureEnabled"
# A header that no plain form could send: the browser asks first.
ASKS_FIRST = {"headers": {"Content-Type": "application/json"}}


class Web(NamedTuple):
    """An ingress, a page of the domain example.com, and a page of nobody's."""

    ingress: Server
    own: Any
    foreign: Any

    def fetch(self, page: Any, path: str, **options: Any) -> Any:
        """Fetch from a page."""
        return page.evaluate(_FETCH, [self.ingress.url + path, options])


@pytest.fixture(scope="module")
def sites() -> Iterator[tuple[Site, Site]]:
    """The site of a domain, and another."""
    with served() as own, served() as foreign:
        yield own, foreign


@pytest.fixture(scope="module")
def ingress(sites: tuple[Site, Site], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An ingress that lets each address call forty times at once."""
    home: Path = tmp_path_factory.mktemp("web")
    with Ledger.open(Settings(home=home).ledger_dsn) as ledger:
        tenant = tenants.create_product(ledger, "product", (), utc_now()).tenant
        change = DomainChange(is_push_feature_enabled=True, allowed_origins=[sites[0].origin])
        domains.put(ledger, tenant, "example.com", change, "test", utc_now())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTIFY_ANONYMOUS_BURST", str(BURST))
        patch.setenv("NOTIFY_ANONYMOUS_PER_MINUTE", str(PER_MINUTE))
        server = Server(home, workers=2, threads=4).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def web(chromium: Any, sites: tuple[Site, Site], ingress: Server) -> Web:
    """The sites' pages, opened."""
    return Web(ingress, *(opened(chromium, site) for site in sites))


def opened(chromium: Any, site: Site) -> Any:
    """Open a site's page."""
    page = chromium.new_page()
    page.goto(site.origin)
    return page


@pytest.mark.parametrize("options", [{}, ASKS_FIRST], ids=["plain", "asks first"])
def test_a_page_of_the_domain_reads_what_another_may_not(web: Web, options: Any) -> None:
    found = web.fetch(web.own, PATH, **options)
    assert (found["status"], found["body"]) == (200, '{"isPushFeatureEnabled":true}')
    assert web.fetch(web.foreign, PATH, **options) == FAILED
    assert web.fetch(web.foreign, PATH, mode="no-cors")["status"] == 0, "a page cannot look into that answer"


def test_a_page_reads_what_was_wrong(web: Web) -> None:
    path = "/domains/nobody.example/push-configuration"
    found = web.fetch(web.own, path)
    assert found["status"] == 404
    assert "unknown_domain" in found["body"]
    assert web.fetch(web.foreign, path) == FAILED


def test_no_page_reaches_what_needs_a_key(web: Web) -> None:
    with_key = {"headers": {"Authorization": "Bearer nsk_x"}}
    for page in (web.own, web.foreign):
        assert web.fetch(page, "/domains/example.com", **with_key) == FAILED
        assert web.fetch(page, "/domains/example.com") == FAILED


def test_a_flood_from_one_address_slows_no_other(ingress: Server) -> None:
    """Four connections from one address, over both processes, while another calls at its leisure."""
    begun = time.monotonic()
    flood_over = threading.Event()

    def flood(_: int) -> list[int]:
        return [call_from("127.0.0.2", ingress) for _ in range(BURST)]

    def stroll() -> list[int]:
        found = []
        while len(found) < BURST // 4 or not (flood_over.is_set() or len(found) == BURST):
            found.append(call_from("127.0.0.3", ingress))
        return found

    with ThreadPoolExecutor(5) as pool:
        strolling = pool.submit(stroll)
        answers = [status for found in pool.map(flood, range(4)) for status in found]
        flood_over.set()
        assert set(strolling.result()) == {200}
    passed = answers.count(200)
    assert set(answers) == {200, 429}
    assert BURST <= passed <= BURST + PER_MINUTE / 60 * (time.monotonic() - begun)


def call_from(address: str, ingress: Server) -> int:
    """Call from an address of this machine."""
    connection = HTTPConnection("127.0.0.1", ingress.port, timeout=PATIENCE_S, source_address=(address, 0))
    with closing(connection):
        connection.request("GET", PATH)
        answered = connection.getresponse()
        answered.read()
        return answered.status


def test_a_page_that_calls_too_often_reads_when_to_come_again(web: Web) -> None:
    for _ in range(10 * BURST):
        found = web.fetch(web.own, PATH, cache="no-store")
        if found["status"] != 200:
            break
    assert (found["status"], found["retryAfter"]) == (429, "1")
    assert "rate_limited" in found["body"]
