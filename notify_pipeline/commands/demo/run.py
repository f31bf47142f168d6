"""The demo: starts a system of its own, sends real traffic through all of it, and compares every figure.

Belongs here: the script's order and its verdict. Does not belong here: HTTP details (``traffic``), tallies (``truth``),
comparisons (``reconcile``), tables (``show``).
"""

import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from notify_pipeline.commands.demo import browsers, people, readers, show, traffic, truth
from notify_pipeline.commands.demo.people import Meeting
from notify_pipeline.commands.demo.reconcile import Sent, figures, lost
from notify_pipeline.commands.demo.system import RunningSystem
from notify_pipeline.commands.demo.traffic import Answer, Api, Device
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings

# What goes wrong in the sandbox while the demo sends: enough that every kind of trouble happens in 20,000 sends.
FAULTS = {
    "seed": 7,
    "fcm": {
        "unregistered": 0.01,
        # No 429: FCM's means that the project's quota is used up, and would hold the whole demo for minutes.
        "retry_after_s": 1,
        "unavailable": 0.03,
        "reset": 0.001,
        "reset_after_processing": 0.0005,
        "hang": 0.0002,
    },
    "apns": {
        "unregistered": 0.01,
        "unregistered_age_s": 86_400,
        "throttled": 0.01,
        "unavailable": 0.01,
        "reset": 0.001,
        "reset_after_processing": 0.0005,
    },
    "devices": {
        "receive": 0.97,
        "open": 0.2,
        "twice": 0.05,
        "delay_ms": 50,
        "delay_mean_ms": 150,
        "delay_max_ms": 2000,
    },
    "cdn": {"late": 0.02, "repeated": 0.02, "garbage": 0.01, "other_paths": 0.05},
}
# Dead tokens are dropped by the broadcast, so the single sends are to devices that are alive: no faults for them.
SINGLES = 21
_DONE_S = 120.0
_REPORTED_S = 120.0
_EVENTS = ("received", "opened")


@dataclass
class Story:
    """What happened so far; the verdict is made of it."""

    sent: list[Sent] = field(default_factory=list)
    checks: list[tuple[str, str, bool]] = field(default_factory=list)
    meeting: Meeting = field(default_factory=Meeting)

    def check(self, tried: str, answer: Answer, status: int, holds: bool = True) -> None:
        """Note how the API answered to something it promises."""
        self.checks.append((tried, str(answer.status), answer.status == status and holds))


def run_demo(home: Path, console: Console, count: int) -> int:
    """Run the whole demo in an empty home.

    Args:
        home: Emptied first; holds everything the demo's system writes.
        console: For progress and tables. The last line printed is JSON.
        count: How many devices register.

    Returns:
        0 when every figure agrees and nothing was lost or doubled, 1 otherwise.
    """
    started = time.monotonic()
    shutil.rmtree(home, ignore_errors=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with RunningSystem(home) as system:
        with Progress(*columns, console=console) as progress:
            steps = Steps(progress)
            steps.run("start the system", system.wait_until_ready)
            story, reports = _play(system, steps, count)
        verdict = _judge(system, story, reports, console)
        addresses = system.addresses
    pages = f"{addresses['http']}/dashboard, {addresses['http']}/docs and {addresses['dagster']}"
    console.print(f"The pages were at {pages}; `make up` keeps them up.")
    verdict["seconds"] = round(time.monotonic() - started, 1)
    # Not through the console: the line must not be wrapped.
    print(orjson.dumps(verdict).decode(), flush=True)
    return 0 if verdict["ok"] else 1


class Steps:
    """A progress line per step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def run(self, what: str, action: Callable[[], Any], total: int = 1) -> Any:
        """Do one step under its own progress line."""
        task = self._progress.add_task(what, total=total)
        result = action()
        self._progress.update(task, completed=total)
        return result

    def each(self, what: str, total: int, action: Callable[[Callable[[], None]], Any]) -> Any:
        """Do one step that reports each of its parts."""
        task = self._progress.add_task(what, total=total)
        return action(lambda: self._progress.advance(task))


def _play(system: RunningSystem, steps: Steps, count: int) -> tuple[Story, dict[str, Any]]:
    story = Story()
    admin, sandbox = system.api(system.addresses["admin_key"]), Api(system.addresses["sandbox"])
    product = admin.expect(201, "POST", "/products", {"name": "Demo News"})
    other = admin.expect(201, "POST", "/products", {"name": "Somebody Else"})
    api = system.api(product["secret_key"])
    devices = traffic.devices(count)
    publishable = system.api(product["publishable_key"])
    steps.each(
        f"register {count:,} devices", count, lambda progress: traffic.register_all(publishable, devices, progress)
    )
    quiet = {**FAULTS, "fcm": {}, "apns": {}}
    sandbox.expect(200, "PUT", "/faults", quiet)
    steps.each(f"send to {SINGLES} single users", SINGLES, lambda progress: _singles(api, story, devices, progress))
    story.meeting = steps.run(
        "a like and an order, on every channel", lambda: people.gather(api, sandbox, system.addresses["gateway"])
    )
    steps.run("a message to a shop's browsers", lambda: browsers.visit(api, system.api(None), sandbox, story.check))
    sandbox.expect(200, "PUT", "/faults", FAULTS)
    requests = steps.run("broadcast, and what must be refused", lambda: _broadcast(system, api, other, story, devices))
    steps.run(
        "wait for the last provider's answer", lambda: _wait(lambda: _is_done(api, requests), _DONE_S, "the broadcast")
    )
    steps.run("wait for the devices' beacons", lambda: _wait(lambda: _is_quiet(sandbox), _DONE_S, "the devices"))
    steps.run("write the CDN's last log files", lambda: sandbox.expect(200, "POST", "/cdn/flush"))
    beacons = {e: truth.beacon_truth(sandbox.lines("/cdn/log?since=0"), e) for e in _EVENTS}
    reports = steps.run("wait for the reports", lambda: _reports(api, story.sent, beacons))
    browsers.judge(api, sandbox, story.check)
    readers.judge(api, system.addresses["http"], product["secret_key"], "election-1", story.check)
    return story, reports


def _singles(api: Api, story: Story, devices: Sequence[Device], progress: Callable[[], None]) -> None:
    for n in range(SINGLES):
        user, notification_id = devices[2 * n].user_id, f"single-{n}"
        accepted = api.expect(202, "POST", "/notifications", traffic.single_body(notification_id, user))
        audience = Counter(device.platform for device in devices if device.user_id == user)
        story.sent.append(Sent(notification_id, audience))
        path = accepted["status_url"]
        _wait(partial(_is_done, api, path), _DONE_S, notification_id)
        progress()


def _broadcast(system: RunningSystem, api: Api, other: dict[str, Any], story: Story, devices: Sequence[Device]) -> str:
    body = traffic.broadcast_body("election-1")
    first = api.expect(202, "POST", "/notifications", body)
    story.sent.append(Sent("election-1", Counter(device.platform for device in devices)))
    again = api.call("POST", "/notifications", body)
    same = again.status == 202 and again.body == {**first, "duplicate": True}
    story.check("the same id and body again: the first answer", again, 202, same)
    changed = traffic.broadcast_body("election-1", title="Parliament not dissolved")
    story.check("the same id with another body", api.call("POST", "/notifications", changed), 409)
    story.check("no key", system.api(None).call("POST", "/notifications", body), 401)
    story.check("an unknown key", system.api("nsk_unknown").call("POST", "/notifications", body), 401)
    foreign = system.api(other["secret_key"])
    story.check("another tenant's notification", foreign.call("GET", "/notifications/election-1"), 404)
    bad = api.call("POST", "/notifications", {**body, "id": "bad-1", "priority": "urgent"})
    names_it = bad.body is not None and any("priority" in d["field"] for d in bad.body["error"]["details"])
    story.check("a priority that does not exist: the field is named", bad, 422, names_it)
    return str(first["status_url"])


def _is_done(api: Api, path: str) -> bool:
    state = api.expect(200, "GET", path)["state"]
    if state in ("failed", "cancelled", "expired", "unrouted"):
        raise traffic.UnexpectedAnswerError(f"{path} ended as {state}")
    return bool(state == "done")


def _is_quiet(sandbox: Api) -> bool:
    return bool(sandbox.expect(200, "GET", "/stats")["devices"]["pending"] == 0)


def _reports(api: Api, sent: Sequence[Sent], beacons: dict[str, dict[truth.Key, truth.BeaconTruth]]) -> dict[str, Any]:
    """Poll until each report has as many receipts as the CDN was called with, or time is up: then they are judged."""
    wanted = {
        one.notification_id: {
            e: sum(len(tally[k].deliveries) for k in tally if k[0] == one.notification_id)
            for e, tally in beacons.items()
        }
        for one in sent
    }
    reports: dict[str, Any] = {}

    def all_there() -> bool:
        for one in sent:
            answer = api.call("GET", f"/reports/{one.notification_id}")
            if answer.status != 200:
                return False
            reports[one.notification_id] = answer.body
        return all(
            reports[n]["totals"][event] >= value for n, values in wanted.items() for event, value in values.items()
        )

    deadline = time.monotonic() + _REPORTED_S
    while not all_there() and time.monotonic() < deadline:
        time.sleep(0.5)
    return reports


def _judge(system: RunningSystem, story: Story, reports: dict[str, Any], console: Console) -> dict[str, Any]:
    sandbox = Api(system.addresses["sandbox"])
    providers = truth.provider_truth(sandbox.lines("/log?since=0"))
    beacons = {e: truth.beacon_truth(sandbox.lines("/cdn/log?since=0"), e) for e in _EVENTS}
    if missing := [one.notification_id for one in story.sent if one.notification_id not in reports]:
        raise traffic.UnexpectedAnswerError(f"no report within {_REPORTED_S:.0f} s for {', '.join(missing)}")
    compared = figures(story.sent, reports, providers, beacons)
    settings = Settings(home=system.home)
    recorded = truth.attempts(Lake(settings.lake, settings.s3_endpoint_url))
    duplicates = truth.unexplained_duplicates(providers, recorded)
    missing_pushes = lost(story.sent, providers)
    show.report_table(console, "Broadcast election-1", reports["election-1"])
    show.people_table(console, story.meeting)
    show.checks_table(console, story.checks)
    show.differences(console, compared)
    agrees = all(f.agrees for f in compared) and all(passed for *_, passed in story.checks)
    totals = [reports[one.notification_id]["totals"] for one in story.sent]
    singles = [t["p50_s"] for one, t in zip(story.sent, totals, strict=True) if one.notification_id != "election-1"]
    return {
        "ok": agrees and missing_pushes == 0 and duplicates == 0 and story.meeting.is_exact,
        "everywhere_once": story.meeting.is_exact,
        "accepted": sum(t["accepted"] for t in totals),
        "received": sum(t["received"] for t in totals),
        "lost": missing_pushes,
        "duplicates": duplicates,
        "ambiguous_attempts": recorded.filter(recorded["outcome"] == "ambiguous").height,
        "p50_accept_to_device_s": round(statistics.median(s for s in singles if s is not None), 3),
        "broadcast_p50_accept_to_device_s": reports["election-1"]["totals"]["p50_s"],
    }


def _wait(done: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise traffic.UnexpectedAnswerError(f"{what} did not finish within {seconds:.0f} s")
        time.sleep(0.1)
