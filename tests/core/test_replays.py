"""Replays: what they are made of, that each letter is sent again once, and what is left behind."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.ids import DeliveryIds, own_collapse_key, to_micros
from notify_pipeline.core.ledger import audit, dead_letters, devices, letters, replays, requests
from notify_pipeline.core.ledger.accepting import IdReused
from notify_pipeline.core.ledger.dead_letters import DeadLetter
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.letters import Filter, Letter
from notify_pipeline.core.ledger.replay_bodies import ID_LENGTH, grouped, replay_body, replay_id
from notify_pipeline.core.ledger.replay_keys import KeyReused
from notify_pipeline.core.ledger.replays import Replay, UnknownLetters
from notify_pipeline.core.ledger.requests import NewRequest
from notify_pipeline.core.records import notification_from_body
from notify_pipeline.core.vocabulary import Channel, DeadLetterReason, Outcome, Platform

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=5)
TENANT = "t1"
BODY = {"type": "news", "content": {"title": "Hello"}, "topics": ["t"], "priority": "high", "ttl": 60}
DELIVERIES = st.sets(st.text("0123456789abcdef", min_size=40, max_size=40), min_size=1, max_size=8)
IDS = st.from_regex(r"\A[!-.0-~]{1,128}\Z")


def letter(number: int, request_id: str, channel: str, fields: str | None = None) -> Letter:
    return Letter(
        f"{number:040x}", TENANT, request_id, "n", "news", None, channel, "android", f"d{number}", None,
        Outcome.TRANSIENT, None, DeadLetterReason.ATTEMPTS, 6, NOW, None, None, fields,
    )  # fmt: skip


@given(
    where=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["fcm", "apns"])), max_size=40),
    most=st.integers(1, 7),
    shuffle=st.randoms(),
)
def test_each_letter_is_in_one_group_of_its_request_and_channel(
    where: list[tuple[str, str]], most: int, shuffle: Any
) -> None:
    all_ = [letter(number, *each) for number, each in enumerate(where)]
    groups = grouped(all_, most)
    assert Counter(each.delivery_id for group in groups for each in group) == Counter(e.delivery_id for e in all_)
    assert all(1 <= len(group) <= most for group in groups)
    assert all(len({(each.request_id, each.channel) for each in group}) == 1 for group in groups)
    sizes = Counter(where)
    assert len(groups) == sum(-(-size // most) for size in sizes.values())
    shuffle.shuffle(all_)
    assert grouped(all_, most) == groups


@given(original=IDS, first=DELIVERIES, second=DELIVERIES)
def test_ids_of_replays_fit_and_differ_however_often_something_is_replayed(
    original: str, first: set[str], second: set[str]
) -> None:
    one = replay_id(original, first)
    assert 1 <= len(one) <= ID_LENGTH and one == replay_id(original, reversed(sorted(first)))
    again = replay_id(one, second)
    assert (again == one) == (first == second)
    assert len(again) == len(one), "ids do not grow"
    assert all(33 <= ord(c) < 127 and c != "/" for c in again)


@given(
    body=st.fixed_dictionaries(
        {"type": st.just("news"), "content": st.just({"title": "Hello"})},
        optional={
            "overrides": st.just({"fcm": {"title": "Hi"}}),
            "priority": st.sampled_from(["high", "low"]),
            "dry_run": st.booleans(),
            "retry": st.booleans(),
            "quiet_hours": st.sampled_from(["wait", "skip"]),
            "collapse_key": st.just("mine"),
            "category": st.just("politics"),
            "ttl": st.integers(0, 100),
            "send_at": st.just("2026-11-21T12:00:00Z"),
            "send_at_local": st.just("2026-11-21T12:00"),
        },
    ),
    audience=st.sampled_from(
        [
            {"topics": ["t"]},
            {"users": ["u"]},
            {"devices": ["x"]},
            {"everyone": True, "condition": "'a' in topics"},
            {"domain": "example.com"},
            {"domain": "example.com", "visitors": [{"visitor_guid": "v", "fields": {"name": "Ada"}}]},
        ]
    ),
    content=st.none() | st.just({"body": "Other"}),
)
def test_a_replay_is_the_original_for_these_addresses_at_once(
    body: dict[str, Any], audience: dict[str, Any], content: dict[str, Any] | None
) -> None:
    ada = '{"name":"Ada"}' if "visitors" in audience else None
    dead = [letter(1, "r", "fcm", ada), letter(2, "r", "fcm")]
    made = replay_body({**body, **audience}, TENANT, "n", dead, content)
    said = {"tenant": TENANT, "request_id": "r", "notification_id": "n2", "accepted_at": NOW, "expires_at": LATER}
    replayed = notification_from_body(made, **said)
    original = notification_from_body({**body, **audience}, **said)
    assert replayed.audience.devices == ("d1", "d2") and not replayed.audience.users + replayed.audience.topics
    assert not replayed.audience.is_counted_out and replayed.audience.condition is None
    assert (replayed.audience.domain, replayed.audience.visitors) == (audience.get("domain"), ())
    assert replayed.audience.device_fields == ({} if ada is None else {"d1": ada, "d2": None})
    assert replayed.has_own_fields is original.has_own_fields
    assert (replayed.send_at, replayed.send_at_local, replayed.channels) == (None, None, {Channel.FCM})
    assert replayed.collapse_key == body.get("collapse_key", own_collapse_key(TENANT, "n"))
    for kept in ("type", "priority", "dry_run", "retry", "quiet_hours", "category", "on_ambiguous"):
        assert getattr(replayed, kept) == getattr(original, kept)
    assert made.get("ttl") == body.get("ttl")
    if content is None:
        assert (replayed.content, replayed.overrides) == (original.content, original.overrides)
    else:
        assert (replayed.content.body, replayed.content.title, replayed.overrides) == ("Other", None, {})
    again = replay_body(made, TENANT, "n2", dead[1:], None)
    assert again["devices"] == ["d2"]
    assert again.get("device_fields") == (None if ada is None else {"d2": None}), "of somebody who was given none, too"
    assert again["collapse_key"] == made["collapse_key"]


@pytest.mark.parametrize(
    ("channel", "name"),
    [("email", "emails"), ("sms", "phones"), ("websocket", "users"), ("webpush", "devices"), ("apns", "devices")],
)
def test_a_replay_names_addresses_as_their_channel_does(channel: str, name: str) -> None:
    body = {"type": "news", "content": {}, "users": ["u"], "emails": ["x"], "phones": ["+1"]}
    made = replay_body(body, TENANT, "n", [letter(number, "r", channel) for number in (1, 2)], None)
    named = {kind: made[kind] for kind in ("users", "devices", "emails", "phones", "topics") if kind in made}
    assert (named, made["channels"]) == ({name: ["d1", "d2"]}, [channel])


def sent(ledger: Ledger, notification_id: str, **body: Any) -> str:
    new = NewRequest(TENANT, notification_id, {**BODY, **body}, NOW, NOW + timedelta(seconds=60))
    return requests.accept(ledger, new).request_id


def died(
    ledger: Ledger, request_id: str, addresses: Sequence[str], channel: str = "fcm", users: bool = False
) -> list[str]:
    row = requests.get(ledger, TENANT, request_id)
    assert row is not None
    ids = DeliveryIds(b"secret", TENANT, row.notification_id, channel).of_all(addresses)
    dead = [
        DeadLetter(delivery_id, "android", address, f"u-{address}" if users else None, Outcome.TRANSIENT, "503",
                   DeadLetterReason.ATTEMPTS, 6)
        for delivery_id, address in zip(ids, addresses, strict=True)
    ]  # fmt: skip

    def add(conn: Any, items: Any) -> list[None]:
        for number, item in enumerate(items[0]):
            dead_letters.add(conn, channel, {request_id: [item]}, to_micros(NOW) + number)
        return [None]

    ledger.write(add, dead)
    return ids


def asked(ids: Sequence[str] | None = None, **more: Any) -> Replay:
    said = {"wanted": Filter(), "limit": 1_000, "most": 100, **more}
    return Replay(TENANT, "key-1", LATER, ids, **said)


def replayed_as(ledger: Ledger) -> dict[str, str | None]:
    return {
        each.address: each.replayed_as for each in letters.page(ledger, [TENANT], Filter(replayed=True), 5_000).rows
    }


def test_letters_become_new_requests_linked_to_their_originals(ledger: Ledger) -> None:
    first, second = sent(ledger, "n1", topics=["t"]), sent(ledger, "n2", dry_run=True, collapse_key="k")
    ids = [
        *died(ledger, first, ["a", "b", "c"]),
        *died(ledger, first, ["i"], "apns"),
        *died(ledger, second, ["a"]),
    ]
    done = replays.replay(ledger, asked(ids[:2] + ids[3:]))
    assert not done.repeated
    made = {(each["replay_of"], each["channel"]): each for each in done.answer["requests"]}
    assert {key: each["dead_letters"] for key, each in made.items()} == {
        (first, "fcm"): 2,
        (first, "apns"): 1,
        (second, "fcm"): 1,
    }
    assert (done.answer["already_replayed"], done.answer["left_out"], done.answer["left"]) == ([], [], 0)
    row = requests.get(ledger, TENANT, made[first, "fcm"]["request_id"])
    assert row is not None
    assert (row.state, row.replay_of, row.priority, row.type) == ("accepted", first, "high", "news")
    assert sorted(row.body["devices"]) == ["a", "b"] and "topics" not in row.body
    assert row.body["collapse_key"] == own_collapse_key(TENANT, "n1") and row.body["channels"] == ["fcm"]
    assert (row.accepted_at, row.due_at, row.expires_at) == (LATER, LATER, LATER + timedelta(seconds=60))
    other = requests.get(ledger, TENANT, made[second, "fcm"]["request_id"])
    assert other is not None and (other.body["dry_run"], other.body["collapse_key"]) == (True, "k")
    (accepted,) = audit.page(ledger, row.request_id)
    assert (accepted.event, accepted.actor, accepted.detail) == ("request.accepted", "key-1", {"replay_of": first})
    marks = [each.detail for each in audit.page(ledger, first) if each.event == "dead_letters.replayed"]
    assert sorted(each["channel"] for each in marks if each) == ["apns", "fcm"]
    assert {each["replayed_as"] for each in marks if each} == {made[first, c]["request_id"] for c in ("fcm", "apns")}
    again = replays.replay(ledger, asked(ids))
    (rest,) = again.answer["requests"]
    assert (rest["replay_of"], rest["dead_letters"]) == (first, 1)
    assert {each["delivery_id"]: each["replayed_as"] for each in again.answer["already_replayed"]} == {
        ids[0]: row.request_id,
        ids[1]: row.request_id,
        ids[3]: made[first, "apns"]["request_id"],
        ids[4]: other.request_id,
    }


def test_a_filter_takes_the_longest_dead_and_says_what_is_left(ledger: Ledger) -> None:
    request_id = sent(ledger, "n1")
    died(ledger, request_id, [f"d{number}" for number in range(7)])
    died(ledger, sent(ledger, "n2", type="likes"), ["other"])
    wanted = {"wanted": Filter(type="news"), "limit": 3, "most": 2}
    first = replays.replay(ledger, asked(**wanted))
    assert ([each["dead_letters"] for each in first.answer["requests"]], first.answer["left"]) == ([2, 1], 4)
    assert sorted(replayed_as(ledger)) == ["d0", "d1", "d2"]
    rounds = [replays.replay(ledger, asked(**wanted)).answer for _ in range(3)]
    assert [(sum(r["dead_letters"] for r in each["requests"]), each["left"]) for each in rounds] == [
        (3, 1),
        (1, 0),
        (0, 0),
    ]
    assert "other" not in replayed_as(ledger)


@pytest.mark.parametrize("by_filter", [False, True])
def test_whoever_replays_at_the_same_time_each_letter_is_sent_again_once(ledger: Ledger, by_filter: bool) -> None:
    ids: list[str] = []
    for number in range(3):
        ids += died(ledger, sent(ledger, f"n{number}"), [f"d{n}" for n in range(20)])
    one = asked(most=7, limit=25) if by_filter else asked(ids, most=7)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: replays.replay(ledger, one).answer, range(8)))
    # Those who look at the same time choose the same letters, and some then find that nothing is left of theirs.
    while by_filter and (rest := replays.replay(ledger, one).answer)["requests"]:
        answers.append(rest)
    made = [each for answer in answers for each in answer["requests"]]
    rows = [requests.get(ledger, TENANT, each["request_id"]) for each in made]
    got = Counter((row.replay_of, token) for row in rows if row is not None for token in row.body["devices"])
    assert len(got) == 60 and set(got.values()) == {1}
    assert len({each["notification_id"] for each in made}) == len(made)
    assert sum(each["dead_letters"] for each in made) == 60


def test_a_key_gives_the_same_answer_and_no_other_replay(ledger: Ledger) -> None:
    ids = died(ledger, sent(ledger, "n1"), ["a", "b"])
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: replays.replay(ledger, asked(ids[:1], key="k")), range(4)))
    assert sorted(each.repeated for each in answers) == [False, True, True, True]
    assert len({str(each.answer) for each in answers}) == 1 and len(answers[0].answer["requests"]) == 1
    with pytest.raises(KeyReused):
        replays.replay(ledger, asked(ids, key="k"))
    assert list(replayed_as(ledger)) == ["a"]
    with pytest.raises(UnknownLetters):
        replays.replay(ledger, asked(["0" * 40], key="k2"))
    assert len(replays.replay(ledger, asked(ids[1:], key="k2")).answer["requests"]) == 1


def test_nothing_is_replayed_when_an_id_is_unknown_or_anothers(ledger: Ledger) -> None:
    ids = died(ledger, sent(ledger, "n1"), ["a"])
    with pytest.raises(UnknownLetters) as caught:
        replays.replay(ledger, asked([*ids, "f" * 40]))
    assert caught.value.delivery_ids == ("f" * 40,)
    with pytest.raises(UnknownLetters):
        replays.replay(ledger, Replay("t2", "key-2", LATER, ids, Filter(), 10, 10))
    assert replays.replay(ledger, Replay("t2", "key-2", LATER, None, Filter(), 10, 10)).answer["requests"] == []
    assert replayed_as(ledger) == {}


def test_a_device_that_has_changed_hands_is_left_out(ledger: Ledger) -> None:
    for token, user in (("same", "u-same"), ("sold", "somebody-else"), ("out", None)):
        devices.register(ledger, TENANT, Registration(token, Platform.ANDROID, user_id=user), NOW)
    request_id = sent(ledger, "n1", users=["u"])
    ids = dict(
        zip(
            ("same", "sold", "out", "gone"),
            died(ledger, request_id, ["same", "sold", "out", "gone"], users=True),
            strict=True,
        )
    )
    done = replays.replay(ledger, asked()).answer
    (made,) = done["requests"]
    row = requests.get(ledger, TENANT, made["request_id"])
    # Nobody has registered "gone": planning will say so.
    assert row is not None and sorted(row.body["devices"]) == ["gone", "same"]
    assert sorted(done["left_out"]) == sorted([ids["sold"], ids["out"]])
    assert replayed_as(ledger) == {"same": made["request_id"], "gone": made["request_id"], "sold": None, "out": None}
    assert replays.replay(ledger, asked()).answer == {"requests": [], "already_replayed": [], "left_out": [], "left": 0}


def test_an_id_that_somebody_took_on_purpose_undoes_the_whole_replay(ledger: Ledger) -> None:
    first = died(ledger, sent(ledger, "n1"), ["a"])
    second = died(ledger, sent(ledger, "n2"), ["a"])
    sent(ledger, replay_id("n2", second))
    with pytest.raises(IdReused):
        replays.replay(ledger, asked([*first, *second], key="k"))
    assert replayed_as(ledger) == {}
    assert len(replays.replay(ledger, asked(first, key="k")).answer["requests"]) == 1


def test_a_replay_that_dies_is_replayed_again_with_the_first_ones_key(ledger: Ledger) -> None:
    root = sent(ledger, "n1")
    died(ledger, root, ["a"])
    (first,) = replays.replay(ledger, asked()).answer["requests"]
    died(ledger, first["request_id"], ["a"])
    (second,) = replays.replay(ledger, asked()).answer["requests"]
    assert (first["replay_of"], second["replay_of"]) == (root, first["request_id"])
    assert first["notification_id"] != second["notification_id"]
    assert second["notification_id"].startswith("n1~r") and second["notification_id"].count("~r") == 1
    row = requests.get(ledger, TENANT, second["request_id"])
    assert row is not None and row.body["collapse_key"] == own_collapse_key(TENANT, "n1")


def test_a_mailbox_is_left_out_once_it_is_unsubscribed_or_another_user_s(ledger: Ledger) -> None:
    for address, user in (("same@x", "u-same@x"), ("anyone@x", None), ("sold@x", "somebody"), ("left@x", "u-left@x")):
        devices.register(ledger, TENANT, Registration(address, Platform.EMAIL, user_id=user), NOW)
    devices.delete(ledger, TENANT, "left@x", NOW)
    devices.register(ledger, TENANT, Registration("+447700900123", Platform.ANDROID, user_id="somebody"), NOW)
    request_id = sent(ledger, "n1", users=["u"], channels=["email", "sms"])
    addresses = ["same@x", "anyone@x", "sold@x", "left@x", "profile@x"]
    died(ledger, request_id, addresses, "email", users=True)
    died(ledger, request_id, ["+447700900123"], "sms", users=True)
    done = replays.replay(ledger, asked()).answer
    bodies = {}
    for made in done["requests"]:
        row = requests.get(ledger, TENANT, made["request_id"])
        assert row is not None
        bodies[made["channel"]] = row.body
        theirs = letters.users_of(ledger, request_id, made["request_id"])
        assert theirs == {address: f"u-{address}" for address in theirs} and len(theirs) == made["dead_letters"]
    assert sorted(bodies["email"]["emails"]) == ["anyone@x", "profile@x", "same@x"]
    assert bodies["sms"]["phones"] == ["+447700900123"]
    assert len(done["left_out"]) == 2
