"""Enrichers find what an event lacks, in the ledger, over HTTP or in a function; failures are told apart."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notify_pipeline.channels import public_http
from notify_pipeline.core.enrichers import EnricherSpec
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import looks, users
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.delivery.enrichment import kept
from notify_pipeline.delivery.enrichment.base import Again, Enriched, Failed, Findings, Found, Need, RouteNeed, Stage
from notify_pipeline.delivery.enrichment.stage import open_stage
from tests.delivery.fakes import TENANT, accept, context
from tests.delivery.service import Question, Reply, Service


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as started:
        yield started


def need(
    *specs: EnricherSpec, users: tuple[str, ...] = (), tenant: str = TENANT, attempt: int = 1, **detail: Any
) -> Need:
    event = {"source": "shop", "type": "order", "id": "1", "detail": detail, "recipients": None, "accepted_at": "…"}
    return Need(tenant, "e", attempt, event, utc_now(), {"r": RouteNeed(specs, users)})


def http(url: str, **config: Any) -> EnricherSpec:
    return EnricherSpec("http", "http", {"url": url, **config})


def python(function: str, **config: Any) -> EnricherSpec:
    return EnricherSpec("found", "python", {"function": function, **config})


class Stages:
    """Stages over a ledger, each in an event loop of its own."""

    def __init__(self, ledger: Ledger, lake: Lake) -> None:
        self.ledger = ledger
        self._lake = lake

    def run(self, work: Any, **settings: Any) -> Any:
        quick = {"enrichment_allow_private": True, "enrichment_hosts": "", **settings}
        ctx = context(self.ledger, self._lake, **quick)

        async def inside() -> Any:
            async with open_stage(ctx) as stage:
                return await work(stage)

        return asyncio.run(inside())

    def enrich(self, *needs: Need, **settings: Any) -> list[Enriched]:
        async def work(stage: Stage) -> list[Enriched]:
            return [await stage.enrich(each) for each in needs]

        found: list[Enriched] = self.run(work, **settings)
        return found

    def findings(self, given: Need, **settings: Any) -> dict[str, Findings]:
        (found,) = self.enrich(given, **settings)
        assert isinstance(found, Found), found
        return dict(found.routes["r"])


@pytest.fixture
def stages(sqlite_ledger: Ledger, folder_lake: Lake) -> Stages:
    return Stages(sqlite_ledger, folder_lake)


def test_users_are_shown_without_their_addresses(ledger: Ledger, folder_lake: Lake) -> None:
    stages, told = Stages(ledger, folder_lake), {"name": "Ada", "pets": ["cat"], "user_id": "not hers"}
    ada = users.Profile("ada@example.com", "+447700900123", "en-GB", "Europe/London", told)
    users.put(ledger, TENANT, "ada", ada, "k", utc_now())
    users.put(ledger, "other", "bob", ada, "k", utc_now())
    shown = {"user_id": "ada", "locale": "en-GB", "timezone": "Europe/London", "name": "Ada", "pets": ["cat"]}
    spec, only = EnricherSpec("user", "user"), EnricherSpec("user", "user", {"attributes": ["name", "shoe"]})
    assert stages.findings(need(spec, users=("ada",)))["user"] == Findings(shown, {"ada": shown})
    both = stages.findings(need(only, users=("ada", "bob")))["user"]
    del shown["pets"]
    assert both == Findings(None, {"ada": shown, "bob": {"user_id": "bob"}})
    liker = EnricherSpec("liker", "user", {"user": "detail.liker", "attributes": ["name"]})
    assert stages.findings(need(liker, users=("bob",), liker="ada"))["liker"] == Findings(shown)
    assert stages.findings(need(liker, users=("bob",)))["liker"] == Findings()
    assert stages.enrich(need(liker, liker=["ada"])) == [Failed("liker: detail.liker is no id")]


def test_content_of_looks_and_earlier_sends(ledger: Ledger, folder_lake: Lake) -> None:
    stages, now = Stages(ledger, folder_lake), utc_now()
    looks.put(ledger, looks.NewLook(TENANT, "7", "ann", "https://example.com/7.jpg"), "k", now)
    accept(ledger, "n", users=["u"], category="c", content={"title": "Hello", "data": {"a": "b"}})
    look = EnricherSpec("content", "content", {"look": "detail.look"})
    send = EnricherSpec("content", "content", {"notification": "detail.send"})
    expected = {"look_id": "7", "owner_id": "ann", "image_url": "https://example.com/7.jpg"}
    assert stages.findings(need(look, look=7))["content"] == Findings(expected)
    assert stages.findings(need(look, look="8"))["content"] == Findings()
    assert stages.findings(need(look, tenant="other", look=7))["content"] == Findings()
    said = {"notification_id": "n", "type": "news", "category": "c", "title": "Hello", "data": {"a": "b"}}
    assert stages.findings(need(send, send="n"))["content"] == Findings(said)


def test_a_service_is_asked_with_the_event_s_fields_and_what_was_found_before(stages: Stages, service: Service) -> None:
    users.put(stages.ledger, TENANT, "ada", users.Profile(locale="en-GB"), "k", utc_now())
    service.reply = lambda _: Reply({"order": {"lines": [{"name": "Hat"}, {"name": "Coat"}]}})
    user = EnricherSpec("user", "user", {"user": "detail.who"})
    get = http(service.url + "/orders/{detail.id}?lang={enrichment.user.locale}", select="order.lines[].name")
    post = EnricherSpec("more", "http", {"url": service.url + "/x", "method": "POST", "body": "{who: detail.who}"})
    plain = EnricherSpec("all", "http", {"url": service.url + "/y", "method": "POST"})
    found = stages.findings(need(user, get, post, plain, id="a b", who="ada"), enrichment_hosts=service.host)
    assert found["http"] == Findings(["Hat", "Coat"])
    assert service.questions[:2] == [
        Question("GET", "/orders/a%20b?lang=en-GB", None),
        Question("POST", "/x", {"who": "ada"}),
    ]
    assert service.questions[2].body["detail"] == {"id": "a b", "who": "ada"}
    assert service.questions[2].body["enrichment"]["http"] == ["Hat", "Coat"]


def test_answers_are_kept_for_their_time_and_asked_for_once(stages: Stages, service: Service) -> None:
    service.reply = lambda question: Reply({"path": question.path}, status=200 if question.path != "/bad" else 503)

    async def work(stage: Stage) -> None:
        for spec, times, asked in (
            (http(service.url + "/a"), 20, 1),
            (http(service.url + "/a", ttl_s=0), 3, 3),
            (http(service.url + "/a", method="POST"), 2, 2),
            (http(service.url + "/a", method="POST", ttl_s=60), 2, 1),
            (http(service.url + "/bad"), 2, 1),
            (http(service.url + "/bad"), 1, 1),
        ):
            service.questions.clear()
            found = await asyncio.gather(*(stage.enrich(need(spec)) for _ in range(times)))
            assert len(service.questions) == asked
            assert all(each == found[0] or isinstance(each, Again) for each in found)
        service.questions.clear()
        await stage.enrich(need(http(service.url + "/a"), tenant="other"))
        assert len(service.questions) == 1

    stages.run(work, enrichment_hosts=service.host)


def test_kept_answers_take_bounded_memory_and_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_BYTES", 30)
    now, asked = [0.0], []

    async def work() -> None:
        answers = kept.Kept(lambda: now[0])

        async def get(key: str, ttl_s: float = 10.0) -> bytes:
            async def ask() -> bytes:
                asked.append(key)
                return b"x" * 10

            return await answers.get(key, ttl_s, ask)

        for key in ("a", "b", "c", "a", "d", "a", "b"):
            await get(key)
        assert asked == ["a", "b", "c", "d", "b"]
        now[0] = 5.0
        await get("b", ttl_s=5.0)
        await get("d")
        assert asked == ["a", "b", "c", "d", "b", "b"]

    asyncio.run(work())


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status=404), "answered 404"),
        (Reply(status=302, headers={"Location": "/elsewhere"}), "answered 302, a redirect, which is not followed"),
        (Reply(b"", status=204), "answered 204"),
        (Reply(b"<p>", type="text/html"), "did not answer with JSON"),
        (Reply(b'{"a": '), "did not answer with JSON"),
        (Reply(b'"' + b"x" * 65_536 + b'"'), "answered with more than 65536 bytes"),
        (Reply(b"x", headers={"Content-Encoding": "gzip"}), "content encoding"),
    ],
)
def test_what_will_not_pass_ends_it(stages: Stages, service: Service, reply: Reply, reason: str) -> None:
    service.reply = lambda _: reply
    (found,) = stages.enrich(need(http(service.url + "/secret-path")), enrichment_hosts=service.host)
    assert isinstance(found, Failed)
    assert reason in found.reason
    assert "secret-path" not in found.reason
    assert len(service.questions) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again_and_not_before_the_service_says(
    stages: Stages, service: Service, status: int
) -> None:
    service.reply = lambda _: Reply(status=status, headers={"Retry-After": "77"})
    spec = http(service.url + "/", ttl_s=0)
    again, last = stages.enrich(need(spec), need(spec, attempt=3), enrichment_hosts=service.host, enrichment_attempts=3)
    assert again == Again(77.0, f"http: 127.0.0.1 answered {status}")
    assert last == Failed(f"http: 127.0.0.1 answered {status} (attempt 3, the last)")


def test_waits_grow_to_their_cap(stages: Stages) -> None:
    spec = http("http://127.0.0.1:9/")  # nobody listens at "discard"
    tries = [need(spec, attempt=attempt) for attempt in (1, 2, 4, 90)]
    found = stages.enrich(*tries, enrichment_hosts="127.0.0.1:9", enrichment_attempts=100)
    waits = [each.after_s for each in found if isinstance(each, Again)]
    assert [0.5 <= wait / bound <= 1 for wait, bound in zip(waits, (1, 2, 8, 300), strict=True)] == [True] * 4
    assert found[0] == Again(waits[0], "http: 127.0.0.1: not_connected")


def test_only_listed_hosts_with_public_addresses_are_asked(
    stages: Stages, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        (http(service.url + "/"), {}),
        (http(service.url + "/"), {"enrichment_hosts": service.host, "enrichment_allow_private": False}),
        (http("https://metadata.example.com/"), {"enrichment_hosts": "*.example.com"}),
    ]

    async def lying(*_: object, **__: object) -> list[Any]:
        return [{"hostname": "x", "host": "127.0.0.1", "port": 443, "family": 2, "proto": 6, "flags": 0}]

    monkeypatch.setattr(public_http._Resolver, "resolve", lying)
    reasons = []
    for spec, settings in asked:
        (found,) = stages.enrich(need(spec), **{"enrichment_allow_private": False, **settings})
        assert isinstance(found, Failed)
        reasons.append(found.reason)
    assert reasons == [
        "http: url must begin with https://",
        "http: url must begin with https://",
        "http: metadata.example.com: private_address",
    ]
    assert stages.enrich(need(http(service.url + "/"))) == [Failed("http: 127.0.0.1 is no host that may be asked here")]
    assert service.questions == []


def test_one_tenant_s_slow_service_keeps_no_other_waiting(stages: Stages, service: Service) -> None:
    def reply(question: Question) -> Reply:
        if question.path.startswith("/slow"):
            service.released.wait()
        return Reply()

    service.reply = reply

    async def work(stage: Stage) -> None:
        slow = [asyncio.create_task(stage.enrich(need(http(f"{service.url}/slow/{number}")))) for number in range(40)]
        quick = await stage.enrich(need(http(service.url + "/quick"), tenant="other"))
        assert isinstance(quick, Found)
        assert not any(task.done() for task in slow)
        assert sum(each.path.startswith("/slow") for each in service.questions) <= 8
        service.released.set()
        assert all(isinstance(each, Found) for each in await asyncio.gather(*slow))

    stages.run(work, enrichment_hosts=service.host)


def test_an_event_has_its_time_and_an_optional_enricher_may_find_nothing(stages: Stages, service: Service) -> None:
    service.reply = lambda _: Reply(service.released.wait())
    slow = http(service.url + "/")
    assert isinstance(stages.enrich(need(slow), enrichment_hosts=service.host, enrichment_timeout_s=0.1)[0], Again)
    brief = http(service.url + "/", timeout_s=0.1)
    assert stages.findings(need(http(service.url + "/", timeout_s=0.1, optional=True)), enrichment_hosts=service.host)
    (found,) = stages.enrich(need(brief), enrichment_hosts=service.host)
    assert isinstance(found, Again)
    assert found.reason == "http: 127.0.0.1: timeout"


_FUNCTIONS = """
import threading, time
from notify_pipeline.core.enrichers import TryLater

HOLD = threading.Event()

def total(event, options):
    event["detail"]["changed"] = True
    return {"total": sum(event["detail"]["prices"]) * options.get("times", 1)}

def later(event, options): raise TryLater("closed", 9.5)
def unreachable(event, options): raise ConnectionError("of ada@example.com")
def broken(event, options): raise KeyError("ada@example.com")
def a_list(event, options): return [1]
def not_json(event, options): return {"x": object()}
def nothing(event, options): return None
def stops(event, options): raise SystemExit
def hangs(event, options):
    HOLD.wait()
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An installed package that offers functions."""
    (tmp_path / "offered_functions.py").write_text(_FUNCTIONS)
    info = tmp_path / "offered-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
    names = ("total", "later", "unreachable", "broken", "a_list", "not_json", "nothing", "stops", "hangs", "missing")
    lines = [f"{name} = offered_functions:{name}" for name in names]
    (info / "entry_points.txt").write_text("[notify_pipeline.enrichers]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import offered_functions  # type: ignore[import-not-found]

    yield offered_functions
    offered_functions.HOLD.set()
    del sys.modules["offered_functions"]


def test_a_function_finds_or_says_why_not(stages: Stages, package: Any, caplog: pytest.LogCaptureFixture) -> None:
    given = need(python("total", options={"times": 2}), prices=[1, 2])
    assert stages.findings(given)["found"] == Findings({"total": 6})
    assert given.event["detail"] == {"prices": [1, 2]}
    assert stages.findings(need(python("nothing")))["found"] == Findings()
    expected: dict[str, Enriched] = {
        "later": Again(9.5, "found: later: closed"),
        "broken": Failed("found: broken: KeyError"),
        "a_list": Failed("found: a_list returned a list and no mapping"),
        "not_json": Failed("found: the answer has no JSON form"),
        "stops": Failed("found: stops: RuntimeError"),
        "missing": Failed("found: missing: AttributeError"),
        "unknown": Failed("found: there is no function unknown"),
    }
    assert stages.enrich(*(need(python(name)) for name in expected)) == list(expected.values())
    (unreachable,) = stages.enrich(need(python("unreachable")))
    assert isinstance(unreachable, Again)
    assert unreachable.reason == "found: unreachable: ConnectionError"
    assert "offered_functions.py" in caplog.text
    assert "ada@example.com" not in caplog.text


def test_a_function_that_hangs_holds_only_its_own_callers_up(stages: Stages, package: Any) -> None:
    async def work(stage: Stage) -> list[Enriched]:
        hangs = need(python("hangs", timeout_s=0.05))
        ended = [await stage.enrich(hangs) for _ in range(5)]
        assert [each.reason for each in ended if isinstance(each, Again)] == [
            *["found: hangs: timeout"] * 4,
            "found: hangs is busy",
        ]
        assert isinstance(await stage.enrich(need(python("hangs", timeout_s=0.05), tenant="other")), Again)
        return [await stage.enrich(need(python("total"), prices=[1]))]

    (found,) = stages.run(work)
    assert isinstance(found, Found)
    assert sum(each.name == "enricher hangs" for each in threading.enumerate()) == 5


def test_what_is_too_much_for_the_ledger_is_refused(stages: Stages) -> None:
    for name in range(70):
        told = users.Profile(attributes={"x": "y" * 16_000})
        users.put(stages.ledger, TENANT, f"u{name}", told, "k", utc_now())
    spec = EnricherSpec("user", "user")
    (found,) = stages.enrich(need(spec, users=tuple(f"u{name}" for name in range(70))))
    assert isinstance(found, Failed)
    assert "1048576 are allowed" in found.reason
    assert stages.findings(need(spec, users=tuple(map(str, range(2_000)))))["user"] == Findings()


def test_failures_of_several_routes_are_one(stages: Stages, service: Service) -> None:
    service.reply = lambda _: Reply(status=503)
    given = need()
    passing = RouteNeed((http(service.url + "/"),))
    for_good = RouteNeed((EnricherSpec("x", "unheard_of"),))
    both = Need(TENANT, "e", 1, given.event, utc_now(), {"a": passing, "b": for_good})
    assert stages.enrich(both, enrichment_hosts=service.host) == [Failed("x: there is no enricher unheard_of")]
