"""How often an address may call without a key: its rate, whose address it is, and that floods hold up nobody else."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from ingest_api.limits.addresses import SETS, WAYS, AddressKeeper, network_of
from notify_pipeline.core.call_rates import NANOS, CallRate
from notify_pipeline.core.ids import to_micros
from tests.ingest_api.conftest import Clock, House, build, copied, fields_of

RATE = CallRate(2.0, 5)
SECRET = bytes(32)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keepers(tmp_path: Path, clock: Clock) -> Iterator[list[AddressKeeper]]:
    """Two processes' keepers of one host."""
    opened = [AddressKeeper(tmp_path / "ingress" / "addresses", SECRET, RATE, 0, clock) for _ in range(2)]
    yield opened
    for each in opened:
        each.close()


def test_an_address_has_one_rate_in_all_processes(keepers: list[AddressKeeper], clock: Clock) -> None:
    one, other = keepers
    assert [keeper.take(b"a") for keeper in (one, other, one, other, one)] == [0] * RATE.burst
    assert one.take(b"a") == other.take(b"a") == NANOS // 2, "it is told when to come again"
    assert other.take(b"b") == 0, "others are not held back"
    clock.advance(seconds=0.5)
    assert (other.take(b"a"), one.take(b"a")) == (0, NANOS // 2)


def test_calls_at_the_same_moment_use_a_slot_each(tmp_path: Path, clock: Clock) -> None:
    rate = CallRate(1.0, 1_000)
    keepers = [AddressKeeper(tmp_path / "addresses", SECRET, rate, 0, clock) for _ in range(4)]
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(8) as pool:
            waits = pool.map(lambda n: [keepers[n % 4].take(b"a") for _ in range(250)].count(0), range(8))
            assert sum(waits) == rate.burst
    finally:
        sys.setswitchinterval(before)
        for keeper in keepers:
            keeper.close()


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2_000_000)), min_size=10, max_size=60))
def test_no_window_sees_more_calls_than_the_rate_allows(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[int, int]]
) -> None:
    clock = Clock()
    path = tmp_path_factory.mktemp("addresses") / "addresses"
    keepers = [AddressKeeper(path, SECRET, RATE, 0, clock) for _ in range(2)]
    passed = []
    for process, micros in calls:
        clock.advance(microseconds=micros)
        if not keepers[process].take(b"a"):
            passed.append(to_micros(clock()))
    for first, since in enumerate(passed):
        for last, until in enumerate(passed[first:], first):
            assert last - first + 1 <= RATE.burst + RATE.per_s * (until - since) / 1e6
    assert len(passed) >= min(len(calls), RATE.burst)
    for keeper in keepers:
        keeper.close()


def test_a_flood_of_addresses_takes_no_more_room_and_slows_nobody(
    keepers: list[AddressKeeper], tmp_path: Path, clock: Clock
) -> None:
    flooded, _ = keepers
    size = (tmp_path / "ingress" / "addresses").stat().st_size
    assert flooded.take(b"greedy") == 0
    while not (wait := flooded.take(b"greedy")):
        pass
    for n in range(SETS * WAYS + 20_000):
        assert flooded.take(b"n%d" % n) == 0
    assert (tmp_path / "ingress" / "addresses").stat().st_size == size <= 1_048_576
    assert flooded.take(b"honest") == 0
    assert flooded.take(b"greedy") == wait, "who has used the most is the last to be forgotten"


def test_a_full_disk_is_noticed_when_the_file_is_made(keepers: list[AddressKeeper], tmp_path: Path) -> None:
    taken = (tmp_path / "ingress" / "addresses").stat()
    assert taken.st_blocks * 512 >= taken.st_size, "a page without room would end the process that writes to it"


def test_a_limit_that_cannot_be_kept_lets_nobody_in(house: House) -> None:
    house.secret.ok("PUT", "/domains/example.com", {"isPushFeatureEnabled": True})
    (house.services.settings.home / "ingress" / "addresses").mkdir(parents=True)
    refused = house.anonymous.call("GET", "/domains/example.com/isPushFeatureEnabled")
    assert (refused.status_code, fields_of(refused)) == (503, set())


def test_a_damaged_or_foreign_file_holds_nobody_up_for_long(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "addresses"
    path.write_bytes(b"\xff" * 10_000_000)
    keeper = AddressKeeper(path, SECRET, RATE, 0, clock)
    try:
        for n in range(1_000):
            keeper.take(b"%d" % n)
        clock.advance(seconds=5)
        assert {keeper.take(b"%d" % n) for n in range(1_000)} == {0}
    finally:
        keeper.close()


def _request(peer: str | None, forwarded: str | None = None) -> Request:
    environ = EnvironBuilder().get_environ()
    environ["REMOTE_ADDR"] = peer
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    return Request(environ)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "same_as"),
    [
        (0, "1.1.1.1", "9.9.9.9"),
        (1, None, "9.9.9.9"),
        (1, "", "9.9.9.9"),
        (1, "1.1.1.1", "1.1.1.1"),
        (1, "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        (1, "6.6.6.6,1.1.1.1:5123", "1.1.1.1"),
        (2, "6.6.6.6, 1.1.1.1, 10.0.0.1", "1.1.1.1"),
        (2, "1.1.1.1", "9.9.9.9"),
        (1, "6.6.6.6, unknown", "9.9.9.9"),
        (1, "[2001:db8::1]:443", "2001:db8::2"),
        (1, '"[2001:db8::1]"', "9.9.9.9"),
    ],
)
def test_the_address_is_the_one_that_our_first_proxy_saw(proxies: int, forwarded: str | None, same_as: str) -> None:
    assert network_of(_request("9.9.9.9", forwarded), proxies) == network_of(_request(same_as), 0) != b""


def test_an_ipv6_customer_is_one_address() -> None:
    def of(peer: str | None) -> bytes:
        return network_of(_request(peer), 0)

    assert of("2001:db8:0:1::1") == of("2001:db8:0:1:ffff::") != of("2001:db8:0:2::1")
    assert of("::ffff:1.2.3.4") == of("1.2.3.4") != of("1.2.3.5")
    assert of(None) == of("") == of("unix:") == b"", "who has none is one, whoever it is"


@pytest.fixture
def limited(tmp_path: Path, migrated: Path) -> Iterator[House]:
    yield from build(copied(migrated, tmp_path), anonymous_burst=2, trusted_proxies=1)


def test_calls_without_a_key_are_refused_in_the_envelope(limited: House) -> None:
    house, path = limited, "/domains/example.com/isPushFeatureEnabled"
    house.secret.ok("PUT", "/domains/example.com", {"isPushFeatureEnabled": True})
    page = {"Origin": "https://example.com", "X-Forwarded-For": "1.1.1.1"}

    def call(**headers: str) -> int:
        return house.anonymous.call("GET", path, headers=page | headers).status_code

    def preflight() -> int:
        return house.anonymous.call("OPTIONS", path, headers=page).status_code

    assert [call(), preflight(), call(), preflight()] == [200, 204, 200, 204], "asking first does not count"
    refused = house.anonymous.call("GET", path, headers=page)
    assert (refused.status_code, fields_of(refused)) == (429, set())
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["Access-Control-Allow-Origin"] == "https://example.com"
    assert refused.headers["Access-Control-Expose-Headers"] == "Retry-After"
    assert call(Origin="https://foreign.example") == 429
    assert (
        "Access-Control-Allow-Origin"
        not in house.anonymous.call("GET", path, headers=page | {"Origin": "https://foreign.example"}).headers
    )
    assert house.anonymous.call("GET", "/domains/a..b/isPushFeatureEnabled", headers=page).status_code == 429
    assert call(**{"X-Forwarded-For": "1.1.1.2"}) == 200, "another address is not slowed"
    house.clock.advance(seconds=0.5)
    assert [call(), call()] == [200, 429]
    assert {call(Authorization=f"Bearer {house.mine.secret_key}") for _ in range(9)} == {200}, "a server for many"
    for key in ("nsk_unknown", house.mine.publishable_key, ""):
        assert call(Authorization=f"Bearer {key}") == 429, "which takes a good key"
    assert {house.secret.call("GET", "/domains", headers=page).status_code for _ in range(9)} == {200}
    assert {house.anonymous.call("GET", "/healthz", headers=page).status_code for _ in range(9)} == {200}
    beacon = "/notification/received?notificationId=n&platform=web&provider=fcm&d=x"
    assert 429 not in {house.anonymous.call("GET", beacon, headers=page).status_code for _ in range(9)}


def test_a_key_lifts_the_limit_for_its_own_tenants_domains_only(limited: House) -> None:
    house = limited
    house.secret.ok("PUT", "/domains/example.com", {"isPushFeatureEnabled": True})
    branch = house.mine.organizations[0]
    house.api(branch.secret_key).ok("PUT", "/domains/branch.example", {"isPushFeatureEnabled": True})

    def post(key: str, domain: str, n: int, **headers: str) -> int:
        body = {"domain": domain, "deviceToken": f"fcm:{n}"}
        answered = house.api(key).call("POST", "/push-contacts", body, headers=headers)
        return answered.status_code

    for domain, headers in (("example.com", {}), ("branch.example", {"Notify-Organization": branch.tenant})):
        assert {post(house.mine.secret_key, domain, n, **headers) for n in range(4)} == {201}
    foreign = {"X-Forwarded-For": "1.1.1.1"}
    assert [post(house.other.secret_key, "example.com", n, **foreign) for n in range(4)] == [201, 201, 429, 429]
    for n, key in enumerate((house.mine.secret_key, house.other.secret_key)):
        headers = {"X-Forwarded-For": f"1.1.2.{n}", "Notify-Organization": branch.tenant}
        expected = [201] * 4 if key == house.mine.secret_key else [201, 201, 429, 429]
        assert [post(key, "branch.example", each, **headers) for each in range(4)] == expected
    assert house.secret.ok("GET", "/domains/example.com/stats")["contacts"]["total"] == 4
