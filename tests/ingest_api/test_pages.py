"""What pages of a domain and of others get from a real ingress, in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from notify_pipeline.core.ledger import domains, tenants
from notify_pipeline.core.ledger.domains import DomainChange
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from tests.browsers import Site, served
from tests.ingest_api.server import Server

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
def web(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    home: Path = tmp_path_factory.mktemp("web")
    with served() as own, served() as foreign:
        with Ledger.open(Settings(home=home).ledger_dsn) as ledger:
            tenant = tenants.create_product(ledger, "product", (), utc_now()).tenant
            change = DomainChange(is_push_feature_enabled=True, allowed_origins=[own.origin])
            domains.put(ledger, tenant, "example.com", change, "test", utc_now())
        ingress = Server(home, workers=1, threads=4).start()
        try:
            yield Web(ingress, opened(chromium, own), opened(chromium, foreign))
        finally:
            ingress.stop()


def opened(chromium: Any, site: Site) -> Any:
    """Open a site's page."""
    page = chromium.new_page()
    page.goto(site.origin)
    return page


@pytest.mark.parametrize("options", [{}, ASKS_FIRST], ids=["plain", "asks first"])
def test_a_page_of_the_domain_reads_what_another_may_not(web: Web, options: Any) -> None:
    path = "/domains/example.com/isPushFeatureEnabled"
    found = web.fetch(web.own, path, **options)
    assert (found["status"], found["body"]) == (200, '{"isPushFeatureEnabled":true}')
    assert web.fetch(web.foreign, path, **options) == FAILED
    assert web.fetch(web.foreign, path, mode="no-cors")["status"] == 0, "a page cannot look into that answer"


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
