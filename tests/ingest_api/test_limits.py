"""Limits over HTTP: how fast a key may call, in one process and in several."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from ingest_api.limits.models import UsageShown
from notify_pipeline.core.ledger import policies, tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.ledger.tenant_tables import USAGE
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import PolicyKind
from tests.ingest_api.conftest import ADMIN, House, build, copied, fields_of, send
from tests.ingest_api.server import Server, call


def limit(house: House, tenant: str, **limits: Any) -> None:
    """Set a tenant's limits and let them take effect."""
    house.api(ADMIN).ok("PUT", f"/tenants/{tenant}/limits", limits)
    house.clock.advance(seconds=3)
    house.services.limits.forget()


def test_a_key_that_calls_too_fast_is_told_when_to_come_again(any_house: House) -> None:
    house = any_house
    limit(house, house.mine.tenant, requests_per_s=0.5, burst=3)
    assert [house.secret.call("GET", "/policies").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = house.secret.call("GET", "/policies")
    assert fields_of(refused) == set()
    assert refused.json is not None
    assert refused.json["error"]["code"] == "rate_limited"
    assert refused.headers["Retry-After"] == "2"
    house.clock.advance(seconds=1)
    assert house.secret.call("GET", "/policies").headers["Retry-After"] == "1"
    house.clock.advance(seconds=1)
    assert house.secret.call("GET", "/policies").status_code == 200
    assert house.secret.call("GET", "/policies").status_code == 429


def test_each_key_has_a_rate_of_its_own_and_others_have_none(house: House) -> None:
    limit(house, house.mine.tenant, requests_per_s=1)
    branch = house.api(house.mine.organizations[0].secret_key)
    for api in (house.secret, branch):
        assert [api.call("GET", "/limits").status_code for _ in range(2)] == [200, 429]
    assert {house.stranger.call("GET", "/limits").status_code for _ in range(20)} == {200}
    admin = house.api(ADMIN)
    assert {admin.call("GET", f"/tenants/{house.mine.tenant}/limits").status_code for _ in range(20)} == {200}
    assert {house.anonymous.call("GET", "/healthz").status_code for _ in range(20)} == {200}


def test_a_changed_limit_holds_as_soon_as_it_is_read(house: House) -> None:
    limit(house, house.mine.tenant, requests_per_s=1, burst=1)
    assert [house.secret.call("GET", "/limits").status_code for _ in range(2)] == [200, 429]
    limit(house, house.mine.tenant, requests_per_s=1, burst=10)
    assert {house.secret.call("GET", "/limits").status_code for _ in range(9)} == {200}
    limit(house, house.mine.tenant)
    assert {house.secret.call("GET", "/limits").status_code for _ in range(50)} == {200}


@pytest.fixture
def limited_by_default(tmp_path: Path, migrated: Path) -> Iterator[House]:
    yield from build(copied(migrated, tmp_path), requests_per_s=1.0, burst=2)


def test_the_settings_name_a_rate_for_whoever_has_none(limited_by_default: House) -> None:
    house = limited_by_default
    assert [house.secret.call("GET", "/limits").status_code for _ in range(3)] == [200, 200, 429]
    limit(house, house.mine.tenant, requests_per_s=100)
    assert {house.secret.call("GET", "/limits").status_code for _ in range(50)} == {200}


def test_processes_share_one_rate(tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ingresses of two processes each: in no window do more requests pass than one key may make."""
    monkeypatch.setenv("NOTIFY_LEDGER_URL", ledger_url)
    per_s, burst, seconds = 40, 60, 3.0
    with Ledger.open(Settings(home=tmp_path, ledger_url=ledger_url).ledger_dsn) as ledger:
        product = tenants.create_product(ledger, "product", (), utc_now())
        value = {"requests_per_s": per_s, "burst": burst}
        policies.put(ledger, product.tenant, PolicyKind.LIMITS, value, "test", utc_now())
    servers = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        servers.append(Server(tmp_path / name, threads=8).start())
    until = time.monotonic() + seconds

    def hammer(n: int) -> list[tuple[float, float, int]]:
        answers = []
        while (begun := time.monotonic()) < until:
            status = call(servers[n % 2].url, "GET", "/limits", product.secret_key).status
            answers.append((begun, time.monotonic(), status))
        return answers

    try:
        with ThreadPoolExecutor(8) as pool:
            answers = [answer for found in pool.map(hammer, range(8)) for answer in found]
    finally:
        for server in servers:
            server.stop()
    assert {status for _, _, status in answers} == {200, 429}
    passed = sorted((begun, ended) for begun, ended, status in answers if status == 200)
    ends = sorted(ended for _, ended in passed)
    for begin, _ in passed:
        for end in ends:
            within = sum(begin <= b and e <= end for b, e in passed)
            assert within <= per_s * max(0.0, end - begin) + burst
    assert len(passed) >= burst, "and nobody is refused what is there"


def test_a_days_quota_of_sends_is_exact_and_repetitions_are_free(any_house: House) -> None:
    house = any_house
    house.secret.ok("POST", "/notifications", send(id="before"))
    limit(house, house.mine.tenant, daily_requests=3)
    branch = house.api(house.mine.organizations[0].secret_key)
    house.secret.ok("POST", "/notifications", send(id="a"))
    branch.ok("POST", "/notifications", send(id="a"))
    for api in (house.secret, branch):
        refused = api.call("POST", "/notifications", send(id="b"))
        assert refused.status_code == 429
        assert refused.json is not None
        assert refused.json["error"]["code"] == "quota_exceeded"
        assert refused.headers["Retry-After"] == str(86_400 - (6 * 3_600 + 34 * 60 + 2)), "until midnight UTC"
    again = house.secret.call("POST", "/notifications", send(id="a"))
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert house.secret.call("POST", "/notifications", send(id="a", type="sport")).status_code == 409
    assert house.secret.call("GET", "/notifications/b").status_code == 404
    house.stranger.ok("POST", "/notifications", send(id="b"))
    house.clock.advance(hours=18)
    house.secret.ok("POST", "/notifications", send(id="b"))


def test_content_and_lists_that_are_too_large_are_refused(house: House) -> None:
    content = {"title": "Ten bytes!"}
    limit(house, house.mine.tenant, max_content_bytes=len('{"title":"Ten bytes!"}'), max_audience=2)
    house.secret.ok("POST", "/notifications", send(content=content))
    for n, body in enumerate(({"content": content | {"body": "."}}, {"overrides": {"fcm": {"body": "."}}})):
        refused = house.secret.call("POST", "/notifications", send(id=f"c{n}", content=content) | body)
        assert refused.status_code == 422
        assert fields_of(refused) == {"content"}
    for kind in ("users", "devices"):
        body = send(id=kind, topics=..., content=content)
        house.secret.ok("POST", "/notifications", body | {kind: ["a", "b"]})
        refused = house.secret.call("POST", "/notifications", body | {kind: ["a", "b", "c"]})
        assert refused.status_code == 422
        assert fields_of(refused) == {kind}
    house.stranger.ok("POST", "/notifications", send())


def test_usage_by_day_and_what_is_left_agree_with_each_other_and_the_counter(any_house: House) -> None:
    house = any_house
    branch = house.api(house.mine.organizations[0].secret_key)
    house.secret.ok("POST", "/notifications", send(id="yesterday"))
    house.clock.advance(days=1)
    house.secret.ok("POST", "/notifications", send(id="before"))
    limit(house, house.mine.tenant, daily_requests=10, daily_recipients=7)
    house.secret.ok("POST", "/notifications", send(id="a"))
    branch.ok("POST", "/notifications", send(id="b"))
    used = house.secret.ok("GET", "/usage?from=2026-11-20&until=2026-11-22")
    UsageShown.model_validate_json(orjson.dumps(used))
    none = {"requests": 0, "recipients": 0, "channels": {}}
    assert used["days"] == [
        none | {"day": "2026-11-20"},
        none | {"day": "2026-11-21", "requests": 1},
        none | {"day": "2026-11-22", "requests": 2},
    ]
    assert used["today"] == {
        "day": "2026-11-22",
        "resets_at": "2026-11-23T00:00:00Z",
        "daily_requests": [{"of": "own", "limit": 10, "used": 3, "left": 7}],
        "daily_recipients": [{"of": "own", "limit": 7, "used": 0, "left": 7}],
    }
    together = house.secret.ok("GET", "/usage?include_organizations=true")
    assert [day["requests"] for day in together["days"]] == [0, 0, 0, 0, 0, 1, 3]
    with house.services.ledger.read() as conn:
        counted = conn.execute(select(USAGE.c.requests).where(USAGE.c.tenant == house.mine.tenant)).scalar_one()
    assert counted == together["today"]["daily_requests"][0]["used"] == together["days"][-1]["requests"]
    seen = branch.ok("GET", "/usage")
    assert seen["days"][-1]["requests"] == 1
    unknown = {"of": "product", "used": None, "left": None}
    assert seen["today"]["daily_requests"] == [unknown | {"limit": 10}], "what its siblings do is none of its business"
    assert house.stranger.ok("GET", "/usage")["today"]["daily_requests"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-11-22&until=2026-11-21", "until"),
        ("from=2026-11-22", "from"),
        ("from=2026-01-01", "from"),
        ("until=20261121", "until"),
        ("from=1700000000", "from"),
        ("days=3", "days"),
    ],
)
def test_days_that_make_no_sense_are_refused(house: House, query: str, field: str) -> None:
    refused = house.secret.call("GET", f"/usage?{query}")
    assert refused.status_code == 422
    assert fields_of(refused) == {field}


@pytest.mark.long
def test_a_quota_set_under_load_is_exact_in_all_processes(
    tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four processes accept while the quota comes: what passed before they all know of it counts, too."""
    monkeypatch.setenv("NOTIFY_LEDGER_URL", ledger_url)
    # Eight callers, 40 ms apart at best, accept at most 200 a second, so fewer than this before the quota counts.
    daily, pause_s = 1_000, 0.04
    servers = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        servers.append(Server(tmp_path / name, threads=8).start())
    with Ledger.open(ledger_url) as ledger:
        product = tenants.create_product(ledger, "product", ("organization",), utc_now())
        keys = (product.secret_key, product.organizations[0].secret_key)

        def post(n: int) -> int:
            accepted = refused = number = 0
            while refused < 3:
                number += 1
                url, key = servers[n % 2].url, keys[n // 2 % 2]
                status = call(url, "POST", "/notifications", key, send(id=f"{n}-{number}")).status
                assert status in (202, 429)
                accepted, refused = accepted + (status == 202), refused + (status == 429)
                time.sleep(pause_s)
            return accepted

        try:
            with ThreadPoolExecutor(8) as pool:
                running = [pool.submit(post, n) for n in range(8)]
                limits = {"daily_requests": daily}
                policies.put(ledger, product.tenant, PolicyKind.LIMITS, limits, "test", utc_now())
                assert sum(each.result() for each in running) == daily
        finally:
            for server in servers:
                server.stop()
        with ledger.read() as conn:
            assert conn.execute(select(USAGE.c.requests)).scalars().all() == [daily]
            assert conn.execute(select(func.count()).select_from(REQUESTS)).scalar_one() == daily
