"""Who does not want a send gets nothing of it, whenever they said so, and the reason is recorded."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notify_pipeline.core import consents
from notify_pipeline.core.ids import DeliveryIds, new_id, to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import (
    deliveries,
    policies,
    preferences,
    replays,
    requests,
    routing,
    suppressions,
    users,
)
from notify_pipeline.core.ledger.deliveries import Ended
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.fair import Wanted
from notify_pipeline.core.ledger.letters import Filter
from notify_pipeline.core.ledger.preferences import Change
from notify_pipeline.core.ledger.replays import Replay
from notify_pipeline.core.ledger.suppressions import NewSuppression
from notify_pipeline.core.ledger.users import Profile
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.schemas import SNAPSHOT
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, PolicyKind, RequestState, SuppressionReason
from notify_pipeline.delivery import broadcast, consenting, notifications, planning
from notify_pipeline.delivery.claims import Claims
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.known import find_known
from notify_pipeline.delivery.late import Late
from notify_pipeline.delivery.recipients import Recipients
from notify_pipeline.delivery.scheduling import Schedules
from notify_pipeline.reports import reading_recipients
from notify_pipeline.reports.reading_attempts import RecipientFilter
from tests.delivery.clocks import NOON, Clock, accept_at
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land, rows_of
from tests.delivery.test_broadcast import routed, run
from tests.delivery.test_drain import drain_to_end, drain_until, found, register
from tests.examples import examples

NAMES = ("ada", "bob", "cyd", "dan")
SAID_AT = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
SAID_ON = "2026-11-20"


def mail_of(name: str) -> str:
    return f"{name}@example.com"


def say(ledger: Ledger, name: str, enabled: bool | None, category: str = "", channel: str = "", **more: Any) -> None:
    change = Change(TENANT, f"user:{name}", {(category, channel): enabled}, more.pop("source", "api"), "k", **more)
    preferences.change(ledger, change, SAID_AT)


def suppress(ledger: Ledger, name: str, reason: SuppressionReason = SuppressionReason.COMPLAINT) -> None:
    new = NewSuppression(TENANT, Channel.EMAIL, mail_of(name).title(), reason, None, "k")
    suppressions.add(ledger, new, datetime.now(UTC))


def set_policy(ledger: Ledger, category: str, channels: dict[str, bool], *, mandatory: bool = False) -> None:
    value = {"channels": channels, "mandatory": mandatory}
    policies.put(ledger, TENANT, PolicyKind.PREFERENCES, value, "k", datetime.now(UTC), name=category)


@pytest.fixture
def mail() -> FakeSender:
    return FakeSender(Channel.EMAIL)


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender, mail: FakeSender) -> DeliveryContext:
    for name in NAMES:
        register(ledger, f"{name}-phone", user_id=name)
        users.put(ledger, TENANT, name, Profile(mail_of(name)), "k", datetime.now(UTC))
    return context(ledger, folder_lake, fcm, mail, shard_min=2, chunk_size=2)


def told(ctx: DeliveryContext, request_id: str) -> list[tuple[Any, ...]]:
    """Return what the lake has of a send: who, outcome, code, consent."""
    land(ctx.ledger, ctx.lake)
    rows = [row for row in rows_of(ctx.lake, "attempts") if row["request_id"] == request_id]
    names = ("recipient", "outcome", "provider_code", "consent")
    return sorted((tuple(row[name] for name in names) for row in rows), key=str)


def test_a_send_leaves_out_who_does_not_want_it_and_says_on_whose_word(
    ctx: DeliveryContext, fcm: FakeSender, mail: FakeSender
) -> None:
    say(ctx.ledger, "ada", False, "offers", "email", source="one_click")
    say(ctx.ledger, "bob", False)
    say(ctx.ledger, "bob", True, "offers", "fcm")
    suppress(ctx.ledger, "cyd")
    set_policy(ctx.ledger, "offers", {"fcm": False})
    request_id = accept(ctx.ledger, users=NAMES, category="offers", channels=["fcm", "email"])
    drain_to_end(ctx, request_id)
    assert [call[0] for call in mail.calls] == [mail_of("dan")]
    assert [call[0] for call in fcm.calls] == ["bob-phone"]
    refused = ("skipped", "unsubscribed")
    assert told(ctx, request_id) == [
        ("ada-phone", *refused, "policy"),
        (mail_of("ada"), *refused, f"user:one_click:{SAID_ON}"),
        ("bob-phone", "accepted", "fake_accepted", f"user:api:{SAID_ON}"),
        (mail_of("bob"), *refused, f"user:api:{SAID_ON}"),
        ("cyd-phone", *refused, "policy"),
        (mail_of("cyd"), "skipped", "suppressed:complaint", "default"),
        ("dan-phone", *refused, "policy"),
        (mail_of("dan"), "accepted", "fake_accepted", "default"),
    ]
    counts = found(ctx.ledger, request_id).counts
    assert counts["email"] == {"audience": 4, "pending": 0, "accepted": 1, "skipped": 3}
    # Another category's sends go on, and a category that is mandatory spares nobody but suppressed addresses.
    other = accept(ctx.ledger, users=["ada"], category="news", channels=["email"])
    set_policy(ctx.ledger, "terms", {"email": False}, mandatory=True)
    terms = accept(ctx.ledger, users=NAMES, category="terms", channels=["email"])
    drain_to_end(ctx, other, terms)
    assert [row[3] for row in told(ctx, other)] == ["default"]
    assert [row[1:] for row in told(ctx, terms)] == [
        ("accepted", "fake_accepted", "mandatory"),
        ("accepted", "fake_accepted", "mandatory"),
        ("skipped", "suppressed:complaint", "mandatory"),
        ("accepted", "fake_accepted", "mandatory"),
    ]


def test_a_send_that_nobody_wants_is_done_at_once(ctx: DeliveryContext, mail: FakeSender) -> None:
    say(ctx.ledger, "ada", False, "", "email")
    request_id = accept(ctx.ledger, users=["ada"], channels=["email"])
    drain_to_end(ctx, request_id)
    row = found(ctx.ledger, request_id)
    assert (row.state, row.counts["email"]["skipped"], mail.calls) == (RequestState.DONE, 1, [])


def test_where_nobody_said_anything_nobody_was_asked(ctx: DeliveryContext, mail: FakeSender) -> None:
    request_id = accept(ctx.ledger, users=["ada"], channels=["email"])
    drain_to_end(ctx, request_id)
    assert told(ctx, request_id) == [(mail_of("ada"), "accepted", "fake_accepted", None)]


def test_addresses_without_a_user_have_a_word_of_their_own(ctx: DeliveryContext, mail: FakeSender) -> None:
    for name in ("ada", "bob"):
        who = consents.recipient(None, Channel.EMAIL, mail_of(name))
        change = Change(TENANT, who, {("", "email"): False}, "one_click", "k")
        preferences.change(ctx.ledger, change, datetime.now(UTC))
    suppress(ctx.ledger, "cyd", SuppressionReason.HARD_BOUNCE)
    request_id = accept(ctx.ledger, emails=[mail_of(name).upper() for name in ("ada", "cyd", "dan")])
    drain_to_end(ctx, request_id)
    assert [call[0] for call in mail.calls] == [mail_of("dan").upper()]
    assert [row[2] for row in told(ctx, request_id)] == ["unsubscribed", "suppressed:hard_bounce", "fake_accepted"]


def test_a_user_s_word_holds_for_their_address_too(ctx: DeliveryContext, mail: FakeSender) -> None:
    """Whoever unsubscribed as a user is not written to because a send names their mailbox or number by itself."""
    sms = FakeSender(Channel.SMS)
    ctx = context(ctx.ledger, ctx.lake, mail, sms, shard_min=2, chunk_size=2)
    for name, number in (("ada", "+447700900123"), ("bob", "+447700900124")):
        users.put(ctx.ledger, TENANT, name, Profile(mail_of(name).title(), number), "k", datetime.now(UTC))
    say(ctx.ledger, "ada", False, "offers", source="one_click")
    addresses = [mail_of(name).upper() for name in ("ada", "bob", "zoe")]
    small = accept(ctx.ledger, emails=addresses, category="offers")
    texts = accept(ctx.ledger, phones=["+447700900123", "+447700900124"], category="offers")
    other = accept(ctx.ledger, emails=addresses[:1], category="news")
    drain_to_end(ctx, small, texts, other)
    assert [row[2:] for row in told(ctx, small)] == [
        ("unsubscribed", f"user:one_click:{SAID_ON}"),
        ("fake_accepted", "default"),
        ("fake_accepted", "default"),
    ]
    assert [call[0] for call in sms.calls] == ["+447700900124"]
    assert [row[1] for row in told(ctx, other)] == ["accepted"]
    mail.calls.clear()
    assert run(ctx, routed(ctx, emails=addresses, category="offers")) is RequestState.DONE
    assert sorted(call[0] for call in mail.calls) == addresses[1:]


@pytest.mark.parametrize("how", ["unsubscribes", "is suppressed"])
def test_who_leaves_while_a_provider_is_down_gets_nothing_when_it_is_back(
    ctx: DeliveryContext, mail: FakeSender, how: str
) -> None:
    def answer(recipient: Recipient, number: int) -> Outcome:
        # The very first thing that anybody says, so nothing that was read before knows of it.
        if recipient.address == mail_of("ada") and number == 1:
            say(ctx.ledger, "ada", False, "", "email") if how == "unsubscribes" else suppress(ctx.ledger, "ada")
        return Outcome.TRANSIENT if number == 1 else Outcome.ACCEPTED

    mail.answer = answer
    small = accept(ctx.ledger, users=NAMES, channels=["email"])
    drain_to_end(ctx, small)
    code = "unsubscribed" if how == "unsubscribes" else "suppressed:complaint"
    assert [(row[1], row[2]) for row in told(ctx, small) if row[0] == mail_of("ada")] == [
        ("skipped", code),
        ("transient", "fake_transient"),
    ]
    assert [call[0] for call in mail.calls].count(mail_of("ada")) == 1 and len(mail.calls) == 7
    assert found(ctx.ledger, small).counts["email"] == {"audience": 4, "pending": 0, "accepted": 3, "skipped": 1}


def test_who_leaves_while_a_broadcast_is_sent_gets_no_more_of_it(ctx: DeliveryContext, mail: FakeSender) -> None:
    def answer(recipient: Recipient, number: int) -> Outcome:
        if recipient.address == mail_of("ada") and number == 1:
            say(ctx.ledger, "ada", False, "", "email")
            suppress(ctx.ledger, "dan")
        return Outcome.TRANSIENT if number == 1 and recipient.address == mail_of("ada") else Outcome.ACCEPTED

    mail.answer = answer
    say(ctx.ledger, "bob", False, "", "email", source="page")
    request_id = routed(ctx, users=NAMES, channels=["email"])
    assert run(ctx, request_id) is RequestState.DONE
    assert sorted({call[0] for call in mail.calls} - {mail_of("dan")}) == [mail_of("ada"), mail_of("cyd")]
    rows = {(row[0], row[1]): row[2:] for row in told(ctx, request_id)}
    assert rows[mail_of("ada"), "skipped"] == ("unsubscribed", f"user:api:{SAID_ON}")
    assert rows[mail_of("ada"), "transient"] == ("fake_transient", "default")
    assert rows[mail_of("bob"), "skipped"] == ("unsubscribed", f"user:page:{SAID_ON}")
    assert rows[mail_of("cyd"), "accepted"] == ("fake_accepted", "default")
    counts = found(ctx.ledger, request_id).counts["email"]
    assert (counts["audience"], counts["pending"], counts["accepted"] + counts["skipped"]) == (4, 0, 4)


def test_who_leaves_after_a_broadcast_was_fixed_gets_nothing(ctx: DeliveryContext, mail: FakeSender) -> None:
    request_id = routed(ctx, users=NAMES, channels=["email"])
    refs = broadcast.snapshot(ctx, request_id)
    suppress(ctx.ledger, "ada")
    say(ctx.ledger, "bob", False)
    for ref in refs:
        assert broadcast.send_shard(ctx, request_id, ref.shard).done
    assert sorted(call[0] for call in mail.calls) == [mail_of("cyd"), mail_of("dan")]
    assert [row[2] for row in told(ctx, request_id)][:2] == ["suppressed:complaint", "unsubscribed"]


def test_a_topic_reaches_mailboxes_only_when_asked_to(ctx: DeliveryContext, fcm: FakeSender, mail: FakeSender) -> None:
    register(ctx.ledger, "ada-watch", topics=["t"])
    for name in NAMES:
        register(ctx.ledger, mail_of(name), Platform.EMAIL, topics=["t"])
    who = consents.recipient(None, Channel.EMAIL, mail_of("ada"))
    preferences.change(ctx.ledger, Change(TENANT, who, {("", ""): False}, "one_click", "k"), datetime.now(UTC))
    land(ctx.ledger, ctx.lake)
    plain = accept(ctx.ledger, topics=["t"])
    drain_to_end(ctx, plain)
    assert ([call[0] for call in fcm.calls], mail.calls) == (["ada-watch"], [])
    for make in (accept, lambda ledger, **body: routed(ctx, **body)):
        mail.calls.clear()
        request_id = make(ctx.ledger, topics=["t"], channels=["email"])
        if make is accept:
            drain_to_end(ctx, request_id)
        else:
            run(ctx, request_id)
        assert sorted(call[0] for call in mail.calls) == [mail_of(name) for name in NAMES[1:]]


def test_a_replay_reaches_the_same_address_unless_its_owner_left_since(ctx: DeliveryContext, mail: FakeSender) -> None:
    mail.answer = lambda recipient, number: Outcome.PERMANENT
    request_id = accept(ctx.ledger, users=NAMES, channels=["email"])
    drain_to_end(ctx, request_id)
    # The profile is another by now, the letter is not: neither its address nor whose it is.
    users.put(ctx.ledger, TENANT, "cyd", Profile("new@example.com"), "k", datetime.now(UTC))
    say(ctx.ledger, "ada", False, "", "email")
    suppress(ctx.ledger, "bob")
    mail.answer, mail.calls[:] = lambda recipient, number: Outcome.ACCEPTED, []
    done = replays.replay(ctx.ledger, Replay(TENANT, "k", datetime.now(UTC), None, Filter(), 10, 10))
    (made,) = done.answer["requests"]
    drain_to_end(ctx, made["request_id"])
    assert sorted(call[0] for call in mail.calls) == [mail_of("cyd"), mail_of("dan")]
    assert [row[2] for row in told(ctx, made["request_id"])][:2] == ["unsubscribed", "suppressed:complaint"]
    rows = [row for row in rows_of(ctx.lake, "attempts") if row["request_id"] == made["request_id"]]
    assert {row["recipient"]: row["user_id"] for row in rows} == {mail_of(name): name for name in NAMES}


_people = st.sampled_from(NAMES[:2])
_categories = st.sampled_from(("", "offers"))
_steps = st.one_of(
    st.tuples(
        st.just("say"), _people, st.sampled_from((True, False, None)), _categories, st.sampled_from(("", "email"))
    ),
    st.tuples(st.just("policy"), _categories, st.sampled_from(({}, {"email": False}, {"*": False})), st.booleans()),
    st.tuples(st.just("unset"), _categories),
    st.tuples(st.just("suppress"), _people),
    st.tuples(st.just("allow"), _people),
    st.tuples(st.just("send"), _categories),
    st.tuples(st.just("call"), st.booleans()),
    st.tuples(st.just("call"), st.booleans()),
)
_numbers = count()


class _World:
    """A tenant of its own, what was said in it, and one lane that calls a provider."""

    def __init__(self, ctx: DeliveryContext) -> None:
        self.ctx, self.ledger = ctx, ctx.ledger
        self.tenant = f"w{next(_numbers)}-{new_id()}"
        self.said: dict[tuple[str, str, str], bool] = {}
        self.policies: dict[str, tuple[dict[str, bool], bool]] = {}
        self.suppressed: set[str] = set()
        self.waiting: set[tuple[str, str]] = set()  # request, person
        self.schedules = Schedules(self.ledger)
        self.claims = Claims(ctx, Channel.EMAIL, self.tenant, self.schedules)
        self.late = [Late(self.ledger, self._notification(category), "email") for category in ("", "offers")]
        for name in NAMES[:2]:
            users.put(self.ledger, self.tenant, name, Profile(mail_of(name)), "k", datetime.now(UTC))

    def _notification(self, category: str) -> Notification:
        now = datetime.now(UTC)
        body = {"type": "news", "users": list(NAMES[:2]), "channels": ["email"], "content": {}}
        new = requests.NewRequest(
            self.tenant, new_id(), {**body, **({"category": category} if category else {})}, now, now
        )
        made = requests.accept(self.ledger, new)
        row = requests.get(self.ledger, self.tenant, made.request_id)
        assert row is not None
        return notifications.parse(row)

    def expected(self, name: str, category: str) -> str | None:
        """Return why this person is not called now; None when they are."""
        if name in self.suppressed:
            return "suppressed:complaint"
        if category and self.policies.get(category, ({}, False))[1]:
            return None
        for pair in ((category, "email"), (category, ""), ("", "email"), ("", "")):
            if (name, *pair) in self.said:
                return None if self.said[name, *pair] else "unsubscribed"
        for of in (category, ""):
            channels = self.policies.get(of, ({}, False))[0]
            for on in ("email", "*"):
                if on in channels:
                    return None if channels[on] else "unsubscribed"
        return None

    def step(self, what: str, *args: Any) -> None:
        getattr(self, f"do_{what}")(*args)
        for category, late in zip(("", "offers"), self.late, strict=True):
            looked = late.look(_chunk(NAMES[:2]), to_micros(datetime.now(UTC)))
            skips = [r and r.provider_code for r in looked.results or [None, None]]
            assert skips == [self.expected(name, category) for name in NAMES[:2]]

    def do_say(self, name: str, enabled: bool | None, category: str, channel: str) -> None:
        change = Change(self.tenant, f"user:{name}", {(category, channel): enabled}, "api", "k")
        preferences.change(self.ledger, change, datetime.now(UTC))
        if enabled is None:
            self.said.pop((name, category, channel), None)
        else:
            self.said[name, category, channel] = enabled

    def do_policy(self, category: str, channels: dict[str, bool], mandatory: bool) -> None:
        mandatory = mandatory and bool(category)
        value = {"channels": channels, "mandatory": mandatory}
        now = datetime.now(UTC)
        policies.put(self.ledger, self.tenant, PolicyKind.PREFERENCES, value, "k", now, name=category)
        self.policies[category] = (channels, mandatory)

    def do_unset(self, category: str) -> None:
        now = datetime.now(UTC)
        policies.remove(self.ledger, self.tenant, PolicyKind.PREFERENCES, "k", now, name=category)
        self.policies.pop(category, None)

    def do_suppress(self, name: str) -> None:
        new = NewSuppression(self.tenant, Channel.EMAIL, mail_of(name), SuppressionReason.COMPLAINT, None, "k")
        suppressions.add(self.ledger, new, datetime.now(UTC))
        self.suppressed.add(name)

    def do_allow(self, name: str) -> None:
        suppressions.remove(self.ledger, self.tenant, Channel.EMAIL, mail_of(name), "k", datetime.now(UTC))
        self.suppressed.discard(name)

    def do_send(self, category: str) -> None:
        send = self._notification(category)
        for row in routing.claim(self.ledger, "p", datetime.now(UTC), 5, 1_000):
            if row.request_id != send.request_id:
                routing.postpone(self.ledger, "p", [row.request_id], "another test's", datetime.now(UTC), 3600)
        known = find_known(self.ledger, [send])[send.request_id]
        rules = planning.Rules(frozenset({Channel.EMAIL}), 10, self.ctx.delivery_secret, "run")
        of_tenants = self.schedules.consents([send])
        with self.ledger.read() as conn:
            (rulings,) = consenting.rule(conn, [(send, known.recipients)], of_tenants)
        plan = planning.plan(send, known, rules, datetime.now(UTC), None, rulings)
        assert routing.store(self.ledger, "p", [plan], datetime.now(UTC)) == [True]
        wanted = {mail_of(name) for name in NAMES[:2] if self.expected(name, category) is None}
        assert {each.address for each in plan.deliveries} == wanted
        self.waiting |= {(send.request_id, address) for address in wanted}

    def do_call(self, accepted: bool) -> None:
        """Claim all that waits; the provider takes it, or is down."""
        now = datetime.now(UTC)
        for part in self.claims.take(Wanted.of(1_000), woken=True):
            outcome = Outcome.SKIPPED if part.skip else Outcome.ACCEPTED if accepted else Outcome.TRANSIENT
            for claim in part.claims:
                assert part.skip == self.expected(claim.address.partition("@")[0], part.notification.category or "")
                assert (claim.request_id, claim.address) in self.waiting
                if outcome is not Outcome.TRANSIENT:
                    self.waiting.discard((claim.request_id, claim.address))
            ended = [
                Ended(claim, outcome, to_micros(now) if outcome is Outcome.TRANSIENT else None, {})
                for claim in part.claims
            ]
            deliveries.settle(self.ledger, "email", ended, now)
        if accepted:
            assert self.waiting == set()


def _chunk(names: Sequence[str]) -> Recipients:
    rows = [{"recipient": mail_of(name), "platform": "email", "user_id": name} for name in names]
    return Recipients.of(pa.Table.from_pylist(rows, SNAPSHOT), DeliveryIds(b"s" * 32, "t", "n", "email"))


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_steps, min_size=3, max_size=14))
def test_a_provider_is_called_for_those_who_want_it_at_that_moment(ctx: DeliveryContext, steps: list[Any]) -> None:
    world = _World(ctx)
    for step in [*steps, ("call", True)]:
        world.step(*step)


def test_a_send_s_recipients_are_listed_with_on_whose_word_it_was(ctx: DeliveryContext) -> None:
    say(ctx.ledger, "ada", False, "", "email", source="page")
    small = accept(ctx.ledger, users=NAMES[:2], channels=["email"])
    drain_to_end(ctx, small)
    large = routed(ctx, users=NAMES[:2], channels=["email"])
    run(ctx, large)
    land(ctx.ledger, ctx.lake)
    for request_id in (small, large):
        everybody = RecipientFilter()
        page = reading_recipients.page(ctx.ledger, ctx.lake, request_id, everybody, 10, None, ctx.clock())
        assert sorted((each.platform, each.provider_code, each.consent) for each in page.rows) == [
            ("email", "fake_accepted", "default"),
            ("email", "unsubscribed", f"user:page:{SAID_ON}"),
        ]


@pytest.mark.parametrize("when", [{"send_at": "2026-11-22T09:00:00+00:00"}, {"send_at_local": "2026-11-22T09:00:00"}])
def test_who_leaves_before_a_scheduled_send_goes_out_gets_nothing(
    ctx: DeliveryContext, mail: FakeSender, clock: Clock, when: dict[str, str]
) -> None:
    ctx = replace(ctx, clock=clock)
    for name in NAMES:
        users.put(ctx.ledger, TENANT, name, Profile(mail_of(name), timezone="UTC"), "k", NOON)
    request_id = accept_at(ctx.ledger, NOON, users=NAMES, channels=["email"], **when)
    if "send_at_local" in when:
        # Planned in the night before, for each recipient's own morning.
        clock.set(NOON + timedelta(hours=12))
        drain_until(ctx, lambda: found(ctx.ledger, request_id).state is RequestState.SENDING)
    say(ctx.ledger, "ada", False, "", "email", source="page")
    suppress(ctx.ledger, "bob")
    clock.set(NOON + timedelta(hours=21))
    drain_to_end(ctx, request_id)
    assert sorted(call[0] for call in mail.calls) == [mail_of("cyd"), mail_of("dan")]
    assert [row[2] for row in told(ctx, request_id)][:2] == ["unsubscribed", "suppressed:complaint"]


@pytest.mark.parametrize("large", [False, True])
def test_a_cap_does_not_count_what_somebody_did_not_want(ctx: DeliveryContext, mail: FakeSender, large: bool) -> None:
    cap = {"count": 1, "period_s": 3600}
    policies.put(ctx.ledger, TENANT, PolicyKind.FREQUENCY_CAP, cap, "k", datetime.now(UTC))
    say(ctx.ledger, "ada", False, "offers", "email")
    offers = {"users": NAMES, "channels": ["email"], "category": "offers"}
    if large:
        assert run(ctx, routed(ctx, **offers)) is RequestState.DONE
    else:
        drain_to_end(ctx, accept(ctx.ledger, **offers))
    news = accept(ctx.ledger, users=NAMES, channels=["email"], category="news")
    drain_to_end(ctx, news)
    assert sorted(call[0] for call in mail.calls) == [mail_of(name) for name in NAMES]
    assert [row[2] for row in told(ctx, news)] == ["fake_accepted", *["frequency_cap"] * 3]


def test_what_a_mailbox_said_counts_for_its_user_until_they_say_otherwise(
    ctx: DeliveryContext, mail: FakeSender, fcm: FakeSender
) -> None:
    who = consents.recipient(None, Channel.EMAIL, mail_of("ada"))
    at = SAID_AT - timedelta(days=1)
    preferences.change(ctx.ledger, Change(TENANT, who, {("", "email"): False}, "one_click", "k"), at)
    first = accept(ctx.ledger, users=["ada"], channels=["email", "fcm"])
    drain_to_end(ctx, first)
    assert ([call[0] for call in fcm.calls], mail.calls) == (["ada-phone"], [])
    assert (mail_of("ada"), "skipped", "unsubscribed", "user:one_click:2026-11-19") in told(ctx, first)
    say(ctx.ledger, "ada", True, "", "email")
    drain_to_end(ctx, accept(ctx.ledger, users=["ada"], channels=["email"]))
    assert [call[0] for call in mail.calls] == [mail_of("ada")]
