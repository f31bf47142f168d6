"""The pure rules of telling callbacks: signatures, the schedule, and who gets how much room."""

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import callbacks
from notify_pipeline.core.ledger.callback_claims import GONE, Claimed, Endpoint
from notify_pipeline.core.vocabulary import MessageState
from notify_pipeline.delivery.callback_room import MOST, MOST_PER_HOST, Room
from notify_pipeline.delivery.callback_schedule import WAITS, Answer, told
from notify_pipeline.delivery.callback_signing import signed_headers

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
# The specification's worked example, which every library of it tests itself with.
SPEC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
SPEC_ID, SPEC_AT, SPEC_BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SPEC_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def claimed(attempt_no: int = 1, url: str = "https://a.example/", tenant: str = "t", callback_id: str = "c") -> Claimed:
    return Claimed("m", callback_id, tenant, url, (SPEC_SECRET,), "{}", attempt_no, "o")


def test_the_specifications_example() -> None:
    assert signed_headers(SPEC_ID, SPEC_BODY, [SPEC_SECRET], datetime.fromtimestamp(SPEC_AT, UTC)) == {
        "webhook-id": SPEC_ID,
        "webhook-timestamp": str(SPEC_AT),
        "webhook-signature": SPEC_SIGNATURE,
    }


def test_the_guides_receiver_believes_us_and_nobody_else() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - it is our own guide
    verify, now = names["verify"], datetime.now(UTC)
    other = callbacks.new_secret()
    headers = signed_headers("id", SPEC_BODY, [other, SPEC_SECRET], now)
    verify(SPEC_SECRET, headers, SPEC_BODY)
    verify(other, headers, SPEC_BODY)
    stale = signed_headers("id", SPEC_BODY, [SPEC_SECRET], now - timedelta(minutes=6))
    for secret, given_headers, body in (
        (callbacks.new_secret(), headers, SPEC_BODY),
        (SPEC_SECRET, headers, SPEC_BODY + b" "),
        (SPEC_SECRET, {**headers, "webhook-id": "other"}, SPEC_BODY),
        (SPEC_SECRET, stale, SPEC_BODY),
    ):
        with pytest.raises(ValueError, match=r"not from us|too old"):
            verify(secret, given_headers, body)


@given(st.binary(min_size=24, max_size=64), st.binary(min_size=24, max_size=64), st.binary(max_size=500))
def test_both_secrets_sign_the_same_bytes(new: bytes, old: bytes, payload: bytes) -> None:
    secrets = [f"whsec_{base64.b64encode(key).decode()}" for key in (new, old)]
    headers = signed_headers("id", payload, secrets, NOW)
    content = b"id." + headers["webhook-timestamp"].encode() + b"." + payload
    assert headers["webhook-signature"].split(" ") == [
        "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in (new, old)
    ]


@given(
    st.integers(1, 20), st.integers(100, 599), st.none() | st.floats(0, 3600), st.floats(0, 0.999), st.floats(0.01, 60)
)
def test_what_follows_an_answer(number: int, status: int, pause: float | None, drawn: float, base_s: float) -> None:
    after = told(claimed(number), Answer(status, None, pause), base_s, lambda: drawn, NOW)
    assert after.status == status
    if 200 <= status < 300:
        assert after.state is MessageState.DELIVERED
    elif status == 410:
        assert (after.state, after.error) == (MessageState.FAILED, GONE)
    elif number > len(WAITS):
        assert after.state is MessageState.FAILED
    else:
        wait_s = (after.again_at - to_micros(NOW)) / 1e6
        least = max(WAITS[number - 1] * base_s, pause or 0.0)
        assert after.state is MessageState.WAITING
        assert least - 1e-5 <= wait_s <= least * 1.2 + 1e-5


def test_the_schedule_lasts_longer_than_a_night() -> None:
    waits = []
    for number in range(1, 20):
        after = told(claimed(number), Answer(error="timeout"), 5.0, lambda: 0.0, NOW)
        if after.state is MessageState.FAILED:
            break
        waits.append((after.again_at - to_micros(NOW)) / 1e6)
    assert waits == [5, 300, 1800, 7200, 18000, 36000, 36000]


def endpoints(number: int, tenant: str = "t") -> list[Endpoint]:
    return [Endpoint(f"{tenant}{n}", tenant, f"https://h{n}.example/") for n in range(number)]


def begin(room: Room, due: list[Endpoint]) -> list[Claimed]:
    found = room.share(due, 0.0)
    of = {each.callback_id: each for each in due}
    begun = [claimed(1, of[i].url, of[i].tenant, i) for i, count in found.items() for _ in range(count)]
    for each in begun:
        room.begin(each)
    return begun


def answer(
    room: Room, begun: list[Claimed], *, well: bool = True, took_s: float = 0.1, held_until: float = 0.0
) -> None:
    for each in begun:
        room.answered(each, well, took_s, held_until)
        room.end(each)


def test_a_host_earns_its_room_and_loses_it() -> None:
    room, due = Room(), endpoints(1)
    assert len(first := begin(room, due)) == 1
    assert begin(room, due) == []
    answer(room, first)
    assert len(more := begin(room, due)) == MOST_PER_HOST
    answer(room, more, well=False)
    assert len(one := begin(room, due)) == 1
    answer(room, one, took_s=9.0)
    assert 1 < len(begin(room, due)) < MOST_PER_HOST


def test_a_host_is_left_alone_as_long_as_it_asked() -> None:
    room, due = Room(), endpoints(2)
    answer(room, [each for each in begin(room, due) if each.callback_id == "t0"], well=False, held_until=5.0)
    assert "t0" not in room.share(due, 4.9)
    assert "t0" in room.share(due, 5.1)


def test_hosts_that_keep_us_waiting_leave_half_to_the_others() -> None:
    room, slow, quick = Room(), endpoints(1_000, "slow"), endpoints(1_000, "quick")
    answer(room, begin(room, slow[:200]), well=False, took_s=10.0)
    answer(room, begin(room, slow[200:400]), took_s=10.0)
    begun = begin(room, slow[:400])
    assert len(begun) == MOST // 2
    assert len(begin(room, [*slow[:400], *quick])) == MOST // 2
    assert room.under_way == MOST


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans(), st.floats(0, 20)), max_size=60))
def test_never_more_than_there_is_room_for(steps: list[tuple[int, int, bool, float]]) -> None:
    room, under_way = Room(), []
    for tenant, number, well, took_s in steps:
        under_way += begin(room, endpoints(number, f"t{tenant}"))
        assert len(under_way) == room.under_way <= MOST
        half, under_way = under_way[::2], under_way[1::2]
        answer(room, half, well=well, took_s=took_s)


@pytest.mark.parametrize("same", ["https://a.example:8443/x", "https://A.EXAMPLE/", "https://a.example./"])
def test_a_host_is_one_however_it_is_written(same: str) -> None:
    room = Room()
    assert len(begin(room, [Endpoint("c", "t", "https://a.example/"), Endpoint("d", "t", same)])) == 1
