"""Messages to a domain's contacts go the way of all sends: planned small or broadcast, attempted, counted, dropped."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import pytest
import requests as http

from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core import vapid
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit, contacts, domains, policies, preferences, replays
from notify_pipeline.core.ledger.contacts import NewContact
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.letters import Filter
from notify_pipeline.core.ledger.preferences import Change
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.push_subscriptions import Subscription, from_base64url, subscription_of, token_of
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Outcome, Platform, PolicyKind, RequestState
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.audience import rebuild_base
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.sandbox.tokens import fcm_token
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land, rows_of
from tests.delivery.test_broadcast import routed, run
from tests.delivery.test_drain import drain_to_end, drain_until, found, register
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S

SITE = "example.com"
DEAD, *LIVING = (fcm_token(f"contact-{number}") for number in range(8))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The control address of a sandbox that these tests share."""
    with running_sandbox(Settings(home=tmp_path_factory.mktemp("sandbox"))) as url:
        http.put(f"{url}/faults", json={"fcm": {"dead": [DEAD]}}, timeout=PATIENCE_S).raise_for_status()
        yield url


def name(ledger: Ledger, domain: str = SITE, enabled: bool = True) -> None:
    domains.put(ledger, TENANT, domain, {"is_push_feature_enabled": enabled}, "k", utc_now())


def contact(ledger: Ledger, token: str, domain: str = SITE, **more: Any) -> str:
    return contacts.register(ledger, TENANT, NewContact(domain, token, **more), utc_now()).token


def browser(ledger: Ledger, sandbox: str) -> str:
    """Subscribe a browser with this installation's key, and register it as a contact; return its token."""
    key = vapid.public_text(vapid.installation_key(Settings(), ledger))
    made = http.post(f"{sandbox}/webpush/subscriptions", json={"applicationServerKey": key}, timeout=PATIENCE_S).json()
    keys = {name: from_base64url(text) for name, text in made["keys"].items()}
    token = token_of(Subscription(made["endpoint"], **keys))
    return contacts.register(ledger, TENANT, NewContact(SITE, subscription=token), utc_now()).token


def ended(ctx: DeliveryContext, request_id: str) -> RequestRow:
    """Plan a message as the drain does, send it however it was planned, and return it at its end."""

    def is_planned() -> bool:
        row = found(ctx.ledger, request_id)
        return row.state.is_final or row.mode == "broadcast"

    land(ctx.ledger, ctx.lake)
    drain_until(ctx, is_planned)
    if found(ctx.ledger, request_id).state is RequestState.ROUTED:
        run(ctx, request_id)
    return found(ctx.ledger, request_id)


def reached(sandbox: str, notification_id: str) -> Counter[str]:
    lines = map(orjson.loads, http.get(f"{sandbox}/log?since=0", timeout=PATIENCE_S).content.splitlines())
    mine = (each for each in lines if each["notification_id"] == notification_id)
    return Counter(each["recipient"] for each in mine if each["status"] in (200, 201))


@pytest.mark.parametrize("inline_limit", [3, 100], ids=["broadcast", "drain"])
def test_a_message_reaches_each_contact_once_and_who_is_gone_is_no_contact_any_more(
    ledger: Ledger, folder_lake: Lake, sandbox: str, inline_limit: int
) -> None:
    ctx = context(ledger, folder_lake, sandbox_url=sandbox, retry_base_s=0.1, inline_limit=inline_limit, shard_min=4)
    ctx = replace(ctx, open_channels=partial(open_channels, ctx.settings, ledger))
    name(ledger)
    name(ledger, "example.org")
    dead = contact(ledger, DEAD)
    pages = [contact(ledger, token) for token in LIVING[:5]]
    land(ledger, folder_lake)
    rebuild_base(folder_lake, ledger, utc_now())
    here, gone = browser(ledger, sandbox), browser(ledger, sandbox)
    closed = subscription_of(gone)
    assert closed is not None
    http.delete(closed.endpoint.replace("/push/", "/subscriptions/"), timeout=PATIENCE_S).raise_for_status()
    contact(ledger, LIVING[5], "example.org")
    contact(ledger, LIVING[4], "example.org")  # moves there after the base was made
    contacts.delete(ledger, TENANT, contact(ledger, LIVING[6]), "user", utc_now())
    first = ended(ctx, accept(ledger, domain=SITE))
    assert first.state is RequestState.DONE
    assert first.mode == ("broadcast" if inline_limit == 3 else "drain")
    assert first.counts == {
        "fcm": {"audience": 5, "pending": 0, "accepted": 4, "invalid_recipient": 1},
        "webpush": {"audience": 2, "pending": 0, "accepted": 1, "invalid_recipient": 1},
    }
    living = {*pages[:4], here}
    assert reached(sandbox, first.notification_id) == dict.fromkeys(living, 1)
    (evidence,) = contacts.find(ledger, dead)
    assert (evidence.is_active, evidence.drop_reason) == (False, "UNREGISTERED")
    assert evidence.dropped_by == first.notification_id
    # Nobody calls a dead one again; whoever comes back is a contact again.
    contact(ledger, LIVING[6])
    second = ended(ctx, accept(ledger, domain=SITE))
    assert second.counts == {
        "fcm": {"audience": 5, "pending": 0, "accepted": 5},
        "webpush": {"audience": 1, "pending": 0, "accepted": 1},
    }
    assert reached(sandbox, second.notification_id) == dict.fromkeys({*living, LIVING[6]}, 1)
    land(ledger, folder_lake)
    attempts = [row for row in rows_of(folder_lake, "attempts") if row["notification_id"] == first.notification_id]
    assert {(row["recipient"], row["platform"], row["outcome"]) for row in attempts} == {
        *((token, "web", "accepted") for token in pages[:4]),
        (dead, "web", "invalid_recipient"),
        (here, "webpush", "accepted"),
        (gone, "webpush", "invalid_recipient"),
    }
    sizes = {
        row["platform"]: row["recipients"]
        for row in rows_of(folder_lake, "audiences")
        if row["request_id"] == first.request_id
    }
    assert sizes == {"web": 5, "webpush": 2}
    assert {row["domain"] for row in rows_of(folder_lake, "requests")} == {SITE}


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> DeliveryContext:
    name(ledger)
    for number in range(3):
        contact(ledger, f"c{number}", visitor_guid="v")
    return context(ledger, folder_lake, fcm)


@pytest.mark.parametrize("whom", [{}, {"visitors": [{"visitor_guid": "v"}]}], ids=["everybody", "visitors"])
def test_a_domain_that_is_disabled_before_planning_cancels_what_waits_for_it(
    ctx: DeliveryContext, fcm: FakeSender, whom: dict[str, Any]
) -> None:
    name(ctx.ledger, enabled=False)
    request_id, other = accept(ctx.ledger, domain=SITE, **whom), accept(ctx.ledger, devices=["c0"])
    land(ctx.ledger, ctx.lake)
    drain_to_end(ctx, request_id, other)
    row = found(ctx.ledger, request_id)
    assert (row.state, row.reason, row.counts) == (RequestState.CANCELLED, "domain_disabled", {})
    (*_, last) = audit.page(ctx.ledger, request_id)
    assert (last.event, last.actor, last.detail) == ("request.cancelled", "drain", {"reason": "domain_disabled"})
    assert [call[0] for call in fcm.calls] == ["c0"]


def test_a_domain_that_is_disabled_before_the_snapshot_cancels_the_broadcast(
    ctx: DeliveryContext, fcm: FakeSender
) -> None:
    request_id = routed(ctx, domain=SITE)
    name(ctx.ledger, enabled=False)
    assert broadcast.snapshot(ctx, request_id) == []
    assert broadcast.finish(ctx, request_id) is RequestState.CANCELLED
    row = found(ctx.ledger, request_id)
    assert (row.state, row.reason, fcm.calls) == (RequestState.CANCELLED, "domain_disabled", [])
    (*_, last) = audit.page(ctx.ledger, request_id)
    assert (last.from_state, last.actor, last.detail) == ("routed", "broadcast", {"reason": "domain_disabled"})


def test_another_tenants_domain_is_nobodys(ctx: DeliveryContext, fcm: FakeSender) -> None:
    domains.put(ctx.ledger, "t2", "example.org", {"is_push_feature_enabled": True}, "k", utc_now())
    contacts.register(ctx.ledger, "t2", NewContact("example.org", "theirs", visitor_guid="v"), utc_now())
    sends = [accept(ctx.ledger, domain="example.org", **more) for more in ({}, {"visitors": [{"visitor_guid": "v"}]})]
    land(ctx.ledger, ctx.lake)
    drain_to_end(ctx, *sends)
    assert {found(ctx.ledger, each).state for each in sends} == {RequestState.CANCELLED} and not fcm.calls


@pytest.mark.parametrize(
    "whom", [{}, {"visitors": [{"visitor_guid": "v", "fields": {"x": "y"}}]}], ids=["all", "visitors"]
)
@pytest.mark.parametrize("as_broadcast", [False, True])
def test_contacts_go_by_what_their_user_said_and_each_counts_for_itself(
    ctx: DeliveryContext, fcm: FakeSender, whom: dict[str, Any], as_broadcast: bool
) -> None:
    register(ctx.ledger, "c0", Platform.WEB, user_id="ada")
    register(ctx.ledger, "c1", Platform.WEB, user_id="bob")
    change = Change(TENANT, "user:ada", {("offers", ""): False}, "api", "k")
    preferences.change(ctx.ledger, change, utc_now())
    policies.put(ctx.ledger, TENANT, PolicyKind.FREQUENCY_CAP, {"count": 1, "period_s": 3600}, "k", utc_now())

    def send() -> RequestRow:
        land(ctx.ledger, ctx.lake)
        wanted = {"domain": SITE, "category": "offers", **whom}
        if as_broadcast:
            run(ctx, made := routed(ctx, **wanted))
        else:
            drain_to_end(ctx, made := accept(ctx.ledger, **wanted))
        return found(ctx.ledger, made)

    assert send().counts == {"fcm": {"audience": 3, "pending": 0, "accepted": 2, "skipped": 1}}
    assert sorted(call[0] for call in fcm.calls) == ["c1", "c2"]
    assert send().counts == {"fcm": {"audience": 3, "pending": 0, "skipped": 3}}
    assert len(fcm.calls) == 2


def test_a_replay_leaves_out_who_is_another_visitor_s_or_another_domain_s(
    ctx: DeliveryContext, fcm: FakeSender
) -> None:
    fcm.answer = lambda recipient, number: Outcome.PERMANENT
    name(ctx.ledger, "example.org")
    for token, guid in (("ada", "v-ada"), ("sold", "v-sold"), ("moved", "v-moved"), ("gone", "v-gone")):
        contact(ctx.ledger, token, visitor_guid=guid)
    names = ("ada", "sold", "moved", "gone", "bob")
    visitors = [{"visitor_guid": f"v-{each}", "fields": {"name": each}} for each in names]
    drain_to_end(ctx, accept(ctx.ledger, domain=SITE, visitors=visitors))
    contact(ctx.ledger, "sold", visitor_guid="v-bob")
    contact(ctx.ledger, "moved", "example.org")
    contacts.delete(ctx.ledger, TENANT, "gone", "user", utc_now())

    def replayed() -> tuple[list[str], int]:
        answer = replays.replay(ctx.ledger, replays.Replay(TENANT, "k", utc_now(), None, Filter(), 10, 10)).answer
        (replay,) = answer["requests"]
        drain_to_end(ctx, replay["request_id"])
        return sorted(found(ctx.ledger, replay["request_id"]).body["devices"]), len(answer["left_out"])

    assert replayed() == (["ada", "gone"], 2)
    assert replayed() == (["ada"], 0)
    contact(ctx.ledger, "ada", visitor_guid="v-bob")
    answer = replays.replay(ctx.ledger, replays.Replay(TENANT, "k", utc_now(), None, Filter(), 10, 10)).answer
    assert (answer["requests"], len(answer["left_out"])) == ([], 1), "a replay of a replay asks the first message"


def test_a_replay_of_a_message_stays_the_domains_and_ends_with_it(ctx: DeliveryContext, fcm: FakeSender) -> None:
    fcm.answer = lambda recipient, number: Outcome.PERMANENT
    visitors = [{"visitor_guid": "v", "fields": {"name": "Ada"}}]
    drain_to_end(ctx, accept(ctx.ledger, domain=SITE, visitors=visitors))
    made = []
    for _ in range(2):
        asked = replays.Replay(TENANT, "k", utc_now(), None, Filter(), 10, 10)
        (replay,) = replays.replay(ctx.ledger, asked).answer["requests"]
        name(ctx.ledger, enabled=not made)
        drain_to_end(ctx, replay["request_id"])
        made.append(found(ctx.ledger, replay["request_id"]))
    assert [each.body["domain"] for each in made] == [SITE, SITE]
    assert [each.state for each in made] == [RequestState.FAILED, RequestState.CANCELLED]
    assert Counter(call[0] for call in fcm.calls) == {"c0": 2, "c1": 2, "c2": 2}
