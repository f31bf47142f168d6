"""A shop whose visitors are sent to in their browsers: they register without a key, get one message, and click.

Belongs here: that story, and what it promises. Does not belong here: an HTTP client (``traffic``), the order of the
script and its verdict (``run``).
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from notify_pipeline.commands.demo.traffic import Answer, Api

DOMAIN = "shop.example"
MESSAGE = "sale-1"
_PAGE = {"Origin": f"https://{DOMAIN}"}
_FOREIGN = {"Origin": "https://elsewhere.example"}
# Two with a subscription of their own and two with an FCM token; a fifth has a token that FCM calls dead.
_SUBSCRIBED = 2
_TOKENS = tuple(f"browser{n}:APA91b" + "0" * 128 for n in range(2))
_DEAD = "gone:APA91b" + "0" * 128
_BROWSERS = _SUBSCRIBED + len(_TOKENS)
_BODY = {
    "title": "Summer sale",
    "body": "Everything at half the price, today only.",
    "onClickLink": f"https://{DOMAIN}/sale",
    "actions": [{"action": "buy", "title": "Buy now", "link": f"https://{DOMAIN}/cart"}],
}
_SENT_S, _SEEN_S = 60.0, 120.0
_DETAILS = f"/push-contacts/{DOMAIN}/messages/{MESSAGE}/details"

# What was tried, the answer, its promised status, and whether the rest of it holds.
Check = Callable[[str, Answer, int, bool], None]


def visit(api: Api, anonymous: Api, sandbox: Api, check: Check) -> None:
    """Let browsers register for the domain, send them a message, and click its button in one of them.

    Args:
        api: With a secret key.
        anonymous: Without any.
        sandbox: The stand-ins' control API; its FCM calls one token dead for as long as this takes.
        check: Notes what was promised.
    """
    api.expect(200, "PUT", f"/domains/{DOMAIN}", {"isPushFeatureEnabled": True})
    configuration = anonymous.expect(200, "GET", f"/domains/{DOMAIN}/push-configuration")
    for _ in range(_SUBSCRIBED):
        asked = {"applicationServerKey": configuration["applicationServerKey"]}
        _register(anonymous, {"subscription": sandbox.expect(201, "POST", "/webpush/subscriptions", asked)})
    for token in (*_TOKENS, _TOKENS[0]):  # the first one twice: it stays one contact
        _register(anonymous, {"deviceToken": token})
    faults = sandbox.expect(200, "GET", "/faults")
    sandbox.expect(200, "PUT", "/faults", {**faults, "fcm": {**faults["fcm"], "dead": [_DEAD]}})
    body = {"domain": DOMAIN, "deviceToken": _DEAD}
    check("a browser whose token FCM calls dead", anonymous.call("POST", "/push-contacts", body, _PAGE), 400, True)
    sandbox.expect(200, "PUT", "/faults", faults)
    body = {"domain": DOMAIN, "deviceToken": "stranger:APA91b" + "0" * 128}
    check("a page of another site", anonymous.call("POST", "/push-contacts", body, _FOREIGN), 403, True)
    sent = api.call("POST", f"/push-contacts/{DOMAIN}/message", _BODY, {"Idempotency-Key": MESSAGE})
    check("a message to the domain's browsers", sent, 202, sent.body["messageId"] == MESSAGE)
    _wait(lambda: _details(api)["sent"] >= _BROWSERS, _SENT_S)
    _click(sandbox)


def judge(api: Api, sandbox: Api, check: Check) -> None:
    """Say whether every browser got the message once, and the one click is there, once the logs have been read."""
    _wait(lambda: _details(api)["actionClicks"] == {"buy": 1}, _SEEN_S)
    answer = api.call("GET", _DETAILS)
    told: dict[str, Any] = answer.body
    once = Counter(line["recipient"] for line in _lines(sandbox) if line["processed"] and not line["dry_run"])
    holds = (
        told["sent"] == told["delivered"] + told["notDelivered"] == told["delivered"] == _BROWSERS
        and set(once.values()) == {1}
        and len(once) == _BROWSERS
        and told["clicked"] >= 1
        and told["actionClicks"] == {"buy": 1}
    )
    check(f"{_BROWSERS} browsers: each once; a button's click counted", answer, 200, holds)


def _register(anonymous: Api, browser: Mapping[str, Any]) -> None:
    answer = anonymous.call("POST", "/push-contacts", {"domain": DOMAIN, **browser}, _PAGE)
    if answer.status != 201:
        raise RuntimeError(f"a browser could not register: {answer.status} {answer.body}")


def _details(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.expect(200, "GET", _DETAILS)
    return found


def _lines(sandbox: Api) -> list[Mapping[str, Any]]:
    return [line for line in sandbox.lines("/log?since=0") if line["notification_id"] == MESSAGE]


def _click(sandbox: Api) -> None:
    line = next(line for line in _lines(sandbox) if line["channel"] == "webpush" and line["processed"])
    query = {"notificationId": MESSAGE, "platform": "webpush", "provider": "webpush", "d": line["d"], "action": "buy"}
    sandbox.expect(204, "GET", f"/notification/clicked?{urlencode(query)}")


def _wait(done: Callable[[], bool], seconds: float) -> None:
    """Wait until it is done or time is up: what is missing then is for the verdict to say."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)
