"""The page script's files as browsers get them; what they do is in ``tests/browser``."""

import base64
import gzip
import hashlib
import re

import pytest

from tests.ingest_api.conftest import House

FILES = {
    "/push/script.js": "text/javascript; charset=utf-8",
    "/push/worker.js": "text/javascript; charset=utf-8",
    "/push/demo": "text/html; charset=utf-8",
}


@pytest.mark.parametrize(("path", "content_type"), FILES.items())
def test_a_file_is_served_once_and_then_known(house: House, path: str, content_type: str) -> None:
    api = house.anonymous
    first = api.call("GET", path)
    assert (first.status_code, first.content_type) == (200, content_type)
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    assert first.headers["Vary"] == "Accept-Encoding"
    assert int(first.headers["Content-Length"]) == len(first.data)
    packed = api.call("GET", path, headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == first.data
    again = api.call("GET", path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    assert "Content-Length" not in again.headers
    assert api.call("GET", path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_pages_of_any_site_may_load_the_script_and_import_the_worker(house: House) -> None:
    for path in ("/push/script.js", "/push/worker.js"):
        assert house.anonymous.call("GET", path).headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_the_worker_is_asked_for_each_time_and_the_script_once_an_hour(house: House) -> None:
    cached = {path: house.anonymous.call("GET", path).headers["Cache-Control"] for path in FILES}
    assert cached["/push/worker.js"] == cached["/push/demo"] == "no-cache"
    assert "max-age=3600" in cached["/push/script.js"]


def test_a_page_loads_a_few_kilobytes(house: House) -> None:
    sizes = {
        path: len(house.anonymous.call("GET", path, headers={"Accept-Encoding": "gzip"}).data)
        for path in ("/push/script.js", "/push/worker.js")
    }
    assert sizes["/push/script.js"] < 6_000
    assert sizes["/push/worker.js"] < 4_000


def test_the_demo_page_runs_what_its_policy_names_and_nothing_else(house: House) -> None:
    page = house.anonymous.call("GET", "/push/demo?domain=example.com")
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), page.data, re.DOTALL)
        assert len(inline) > 1_000
        digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
        assert f"'sha256-{digest}'" in next(part for part in policy.split("; ") if part.startswith(directive))
