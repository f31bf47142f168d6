"""Every provider is down, and everything of ours is killed meanwhile: what was accepted arrives once they are back.

In the end only the supervisor is killed, and nothing is left behind.
"""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import orjson

from notify_pipeline.commands.demo import people
from notify_pipeline.commands.demo.system import RunningSystem
from notify_pipeline.commands.demo.traffic import Api
from tests.e2e.system import of_this_home, processes
from tests.waiting import wait_for

PROVIDERS = ("fcm", "apns", "email", "sms")
DOWN = {name: {"unavailable": 1.0} for name in PROVIDERS}
# Down from the first moment of both lives. The waits in between are short, so that the test is.
SETTINGS = {
    "NOTIFY_SANDBOX_FAULTS": orjson.dumps(DOWN).decode(),
    "NOTIFY_RETRY_CAP_S": "2",
    "NOTIFY_RETRY_ATTEMPTS": "500",
    "NOTIFY_HTTP_WORKERS": "1",
}
NOT_WANTED = {"email": "carl@example.com", "sms": "+447700900124"}


def test_what_was_accepted_arrives_once_when_the_providers_are_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RunningSystem(home, **SETTINGS) as first:
        first.wait_until_ready()
        admin, sandbox = first.addresses["admin_key"], Api(first.addresses["sandbox"])
        key = first.api(admin).expect(201, "POST", "/products", {"name": "Outage"})["secret_key"]
        api = first.api(key)
        token = people.meet(api)
        _refuse(api)
        people.happen(api)
        wait_for(lambda: _tried(sandbox) >= {*PROVIDERS}, what="a call of each provider")
        _kill(first)
    (home / "run.json").unlink()
    with RunningSystem(home, **SETTINGS) as second:
        second.wait_until_ready()
        assert second.addresses["admin_key"] == admin
        assert second.output().count(admin) == 1
        api, sandbox = second.api(key), Api(second.addresses["sandbox"])
        last = max(line["n"] for line in sandbox.lines("/log?since=0"))
        wait_for(lambda: _tried(sandbox, last) >= {*PROVIDERS}, what="a call of each provider again")
        # Nobody was sent anything so far; the app was closed, and is opened now.
        assert not any(line["processed"] for line in sandbox.lines("/log?since=0"))
        sandbox.expect(200, "PUT", "/faults", {})
        with people.WebSocketClient(second.addresses["gateway"], token, cursor=0) as client:
            meeting = people.wait(api, sandbox, client)
        assert meeting.is_exact, meeting.arrived
        added = [told["item"]["content"]["title"] for told in client.told if told["type"] == "inbox.added"]
        assert sorted(added) == sorted(each.title for each in people.HAPPENINGS)
        wait_for(lambda: _states(api) == {"done": 3}, what="every send to be done")
        _check_refused(api, sandbox)
        # Run monitoring notices that the code server is another than that of the first life's drain.
        wait_for(lambda: len(_started_drains(home)) == 1, what="one drain run")
        os.kill(second.pid, signal.SIGKILL)
    wait_for(lambda: of_this_home(home) == [], what="the guard")


def _kill(system: RunningSystem) -> None:
    """Send SIGKILL to everything, the guard that would end the others in order included."""
    below = list(processes(system.pid))
    os.kill(system.pid, signal.SIGKILL)
    for process in below:
        process.kill()


def _started_drains(home: Path) -> list[dg.DagsterRun]:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        return list(instance.get_runs(dg.RunsFilter(job_name="drain", statuses=[dg.DagsterRunStatus.STARTED])))


def _tried(sandbox: Api, since: int = 0) -> set[str]:
    return {line["channel"] for line in sandbox.lines(f"/log?since={since}")}


def _states(api: Api) -> dict[str, int]:
    return Counter(send["state"] for send in api.expect(200, "GET", "/notifications")["items"])


def _refuse(api: Api) -> None:
    """Make somebody known who wants no mail, and whose number is not to be written to; and send both something."""
    api.expect(200, "PUT", "/users/carl", {"email": NOT_WANTED["email"], "phone": NOT_WANTED["sms"]})
    preferences = {"preferences": {"orders": {"email": False}}}
    api.expect(200, "PUT", "/users/carl/preferences", preferences)
    api.expect(201, "POST", "/suppressions", {"channel": "sms", "address": NOT_WANTED["sms"]})
    order: dict[str, Any] = {"source": "orders", "type": "order.refunded", "id": "order-7", "recipients": ["carl"]}
    api.expect(202, "POST", "/events", {**order, "detail": {"order": {"id": 7}}})


def _check_refused(api: Api, sandbox: Api) -> None:
    assert not {line["recipient"] for line in sandbox.lines("/log?since=0")} & {*NOT_WANTED.values()}
    (send,) = api.expect(200, "GET", "/notifications?type=order.refunded")["items"]
    recipients = api.expect(200, "GET", f"/requests/{send['request_id']}/recipients")["items"]
    told = {each["channel"]: (each["outcome"], each["provider_code"]) for each in recipients}
    assert told["email"] == ("skipped", "unsubscribed")
    assert told["sms"] == ("skipped", "suppressed:manual")
    assert told["inbox"] == ("accepted", None)
