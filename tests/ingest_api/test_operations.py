"""Health, readiness, the document and its page."""

import re
import shutil
from pathlib import Path

import pytest

from ingest_api.operations import routes
from notify_pipeline.core.ledger.group_commit import LedgerBusy
from tests.ingest_api.conftest import House, fields_of


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_it_is_well(any_house: House, path: str) -> None:
    assert any_house.anonymous.ok("GET", path) == {"status": "ok"}


def test_not_ready_without_the_lake(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_LAKE_CHECK_S", 0.0)
    house.anonymous.ok("GET", "/readyz")
    lake = Path(house.services.settings.lake)
    shutil.rmtree(lake)
    lake.write_text("no folder")
    answered = house.anonymous.call("GET", "/readyz")
    assert (answered.status_code, fields_of(answered)) == (503, {"lake"})
    house.anonymous.ok("GET", "/healthz")
    lake.unlink()
    house.anonymous.ok("GET", "/readyz")


def test_not_ready_without_the_ledger(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise LedgerBusy("nobody took it")

    monkeypatch.setattr(house.services.ledger, "write", busy)
    answered = house.anonymous.call("GET", "/readyz")
    assert (answered.status_code, fields_of(answered)) == (503, {"ledger"})


def test_a_busy_ledger_is_503_on_every_route(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise LedgerBusy("nobody took it")

    house.secret.ok("GET", "/notifications")
    monkeypatch.setattr(house.services.ledger, "write", busy)
    answered = house.secret.call("DELETE", "/devices/abc")
    assert answered.status_code == 503
    assert answered.headers["Retry-After"]
    fields_of(answered)


def test_a_bug_is_told_without_its_insides(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("secret insides")

    house.secret.ok("GET", "/notifications")
    monkeypatch.setattr(house.services.ledger, "write", bug)
    answered = house.secret.call("DELETE", "/devices/abc")
    assert answered.status_code == 500
    assert b"secret insides" not in answered.data
    fields_of(answered)


def test_the_page_and_all_it_loads_come_from_here(house: House) -> None:
    page = house.anonymous.call("GET", "/docs")
    assert page.content_type.startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"].split("script-src")[1].split(";")[0]
    assert "http" not in page.text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) == 4
    for asset in assets:
        loaded = house.anonymous.call("GET", asset)
        assert loaded.status_code == 200
        assert loaded.headers["X-Content-Type-Options"] == "nosniff"
        assert loaded.data
    assert "<script>" not in page.text


def test_an_unknown_asset_is_404(house: House) -> None:
    assert house.anonymous.call("GET", "/docs/swagger-ui.js.map").status_code == 404
