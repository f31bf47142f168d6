"""A real ingress, sandbox and Chromium for pages that load the page script.

Belongs here: what those tests share. Does not belong here: what pages do (the tests).

One thing is replaced: this browser reaches no push service, so that ``PushManager`` gives subscriptions of the
sandbox's, and what was sent to them is handed to the service worker by the browser's own protocol (DevTools).
"""

import gzip
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs

import orjson
import requests as http

from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from tests.browsers import Site
from tests.delivery.fakes import context, land
from tests.delivery.test_drain import drain_until
from tests.ingest_api.server import Server
from tests.waiting import PATIENCE_S, wait_for

T = TypeVar("T")
WORKER = "/push-worker.js"
# Where the subscription is kept that this browser has at a push service.
_PUSH_MANAGER = """
(() => {
  const key = "the browser's subscription";
  const plain = (text) => atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  const bytes = (text) => Uint8Array.from(plain(text), (letter) => letter.charCodeAt(0)).buffer;
  const kept = ({ json, applicationServerKey }) => ({
    toJSON: () => json,
    options: { applicationServerKey: bytes(applicationServerKey) },
    unsubscribe: async () => (localStorage.removeItem(key), true),
  });
  PushManager.prototype.getSubscription = async () => {
    const found = localStorage.getItem(key);
    return found ? kept(JSON.parse(found)) : null;
  };
  PushManager.prototype.subscribe = async ({ applicationServerKey }) => {
    const made = { json: await sandboxSubscription(applicationServerKey), applicationServerKey };
    localStorage.setItem(key, JSON.stringify(made));
    return kept(made);
  };
})()
"""
# Counts what the worker says it has shown.
_ARRIVED = """
window.arrived = 0;
navigator.serviceWorker?.addEventListener("message", ({ data }) => (arrived += data.notifyPush === "notification"));
navigator.serviceWorker?.startMessages();
"""
# As a browser would, but that no gesture of a user's lets it open a window or show a tab: that it tries is told.
_CLICK = """
async ([tag, action]) => {
  const opened = [], waits = [];
  self.clients.openWindow = async (url) => void opened.push(url);
  WindowClient.prototype.focus = async function () { opened.push(`focused ${this.url}`); };
  const [notification] = await self.registration.getNotifications({ tag });
  const event = new NotificationEvent("notificationclick", { notification, action });
  event.waitUntil = (promise) => waits.push(promise);
  self.dispatchEvent(event);
  await Promise.all(waits);
  return opened;
}
"""
_SHOWN = """
async (scope) => {
  const registration = await navigator.serviceWorker.getRegistration(scope);
  const buttons = (actions) => actions.map(({ action, title, icon }) => ({ action, title, icon }));
  return (await registration.getNotifications()).map(({ title, body, icon, image, tag, actions, data }) =>
    ({ title, body, icon, image, tag, data, actions: buttons(actions) }));
}
"""


@dataclass
class Visitor:
    """Somebody with a page of a site open."""

    page: Any
    site: Site
    scope: str
    cdp: Any
    registrations: dict[str, str] = field(default_factory=dict)

    def run(self, script: str, argument: object = None) -> Any:
        """Run a script in the page; an error of the page script's is its code."""
        caught = "catch (error) { return { failed: error.code ?? String(error) }; }"
        return self.page.evaluate(f"async (it) => {{ try {{ return await ({script}); }} {caught} }}", argument)

    def push(self, payload: object) -> None:
        """Hand a push to the service worker, as the browser does, and wait until it was shown.

        Text goes as it is, all else as JSON. Who asks Chromium for its notifications in that moment loses the one that
        is about to be shown: so nobody asks before.
        """
        data = payload if isinstance(payload, str) else orjson.dumps(payload).decode()
        registration = self.soon(lambda: self.registrations.get(self.scope), "a registration")
        message = {"origin": self.site.origin, "registrationId": registration, "data": data}
        before = self.page.evaluate("arrived")
        self.cdp.send("ServiceWorker.deliverPushMessage", message)
        self.soon(lambda: self.page.evaluate("arrived") > before, data)

    def shown(self) -> list[dict[str, Any]]:
        """Return the notifications that are shown now."""
        found: list[dict[str, Any]] = self.page.evaluate(_SHOWN, self.scope)
        return found

    def soon(self, done: Callable[[], T], what: str) -> T:
        """Wait until something is true; meanwhile the browser's events are heard."""

        def heard() -> T:
            self.page.wait_for_timeout(5)
            return done()

        return wait_for(heard, what=what, every_s=0.01)

    def worker(self) -> Any:
        """Return the service worker."""
        workers = self.page.context
        return self.soon(
            lambda: next((w for w in workers.service_workers if w.url.startswith(self.site.origin)), None), "the worker"
        )

    def click(self, tag: str, action: str = "") -> list[str]:
        """Click a notification, or one of its buttons; return the windows that opened."""
        opened: list[str] = self.worker().evaluate(_CLICK, [tag, action])
        return opened


@dataclass
class Desk:
    """What the tests of a module share."""

    context: Any
    ingress: Server
    sandbox: str
    ledger: Ledger
    key: str
    tenant: str
    hands: ThreadPoolExecutor

    def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run something in another thread: in this one playwright runs its event loop."""
        return self.hands.submit(work, *arguments).result(PATIENCE_S)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the ingress with the secret key; return the JSON."""
        headers = {"Authorization": f"Bearer {self.key}"}
        answered = http.request(method, self.ingress.url + path, json=body, headers=headers, timeout=PATIENCE_S)
        answered.raise_for_status()
        return answered.json() if answered.content else None

    def visit(self, site: Site, path: str = "/", scope: str = "/notify-push-scope", allows: bool = True) -> Visitor:
        """Open a page of a site, whose notifications its user allows."""
        if allows:
            self.allow(site)
        page = self.context.new_page()
        visitor = Visitor(page, site, site.origin + scope, self.context.new_cdp_session(page))

        def updated(event: Any) -> None:
            for each in event["registrations"]:
                visitor.registrations[each["scopeURL"]] = each["registrationId"]

        visitor.cdp.on("ServiceWorker.workerRegistrationUpdated", updated)
        visitor.cdp.send("ServiceWorker.enable")
        page.goto(site.origin + path)
        return visitor

    def allow(self, site: Site) -> None:
        """Allow a site to notify, as its user would."""
        self.context.grant_permissions(["notifications"], origin=site.origin)

    def leave(self, site: Site) -> None:
        """Close all pages of a site."""
        for page in self.context.pages:
            if page.url.startswith(site.origin):
                page.close()

    def deliver(self, notification_id: str) -> Any:
        """Let the pipeline send what was accepted; return what the sandbox's browser read of it. See ``aside``."""
        lake = Lake(str(self.ingress.home / "lake"))
        land(self.ledger, lake)
        urls = {"sandbox_url": self.sandbox, "receipt_url": self.ingress.url}
        ctx = context(self.ledger, lake, home=self.ingress.home, **urls)
        ctx = replace(ctx, open_channels=partial(open_channels, ctx.settings, self.ledger))

        def got() -> list[dict[str, Any]]:
            lines = map(orjson.loads, http.get(f"{self.sandbox}/log?since=0", timeout=PATIENCE_S).content.splitlines())
            return [line for line in lines if line["notification_id"] == notification_id]

        drain_until(ctx, lambda: bool(got()))
        (line,) = got()
        return line["body"]

    def receipts(self, notification_id: str) -> list[tuple[str, str | None]]:
        """Return the beacons of a notification that this browser sent, each with its action, sorted."""
        found = []
        for line in map(orjson.loads, self._lines()):
            query = parse_qs(line["querystring"])
            # The sandbox's own browsers send theirs.
            if query["notificationId"] == [notification_id] and "Chrome" in line["user_agent"]:
                found.append((line["event"].removeprefix("/notification/"), query.get("action", [None])[0]))
        return sorted(found, key=str)

    def _lines(self) -> set[bytes]:
        """Return the ingress's log; a file may move from the open ones to the delivered meanwhile."""
        found: set[bytes] = set()
        for pattern in ("ingress/receipts/*.log", "logs/**/*.log.gz"):
            for path in self.ingress.home.glob(pattern):
                with suppress(FileNotFoundError):
                    data = path.read_bytes()
                    found.update((gzip.decompress(data) if path.suffix == ".gz" else data).splitlines())
        return found


class Dropping(AbstractContextManager["Dropping"]):
    """A server that hangs up on the first who asks it, and answers the others."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    head = connection.recv(65_536).decode()
                    # Browsers open connections that they do not use.
                    if not head:
                        continue
                    self.asked.append(head.partition("\r\n")[0])
                    if len(self.asked) > 1:
                        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def replace_push_manager(context: Any, sandbox: str) -> None:
    """Let all pages of a browser subscribe at the sandbox's push service."""

    def subscription(key: str) -> Any:
        return http.post(
            f"{sandbox}/webpush/subscriptions", json={"applicationServerKey": key}, timeout=PATIENCE_S
        ).json()

    context.expose_function("sandboxSubscription", subscription)
    context.add_init_script(_PUSH_MANAGER)
    context.add_init_script(_ARRIVED)


def page_of(ingress: str, **data: str) -> dict[str, str]:
    """Return a site's page that loads the page script with these data attributes, and its worker."""
    attributes = "".join(f' data-{name}="{value}"' for name, value in data.items())
    script = f'<script src="{ingress}/push/script.js"{attributes}></script>'
    return {
        "/": f"<!doctype html><title>shop</title><body>{script}</body>",
        "/offers": "<!doctype html><title>offers</title>",
        WORKER: f"importScripts({json.dumps(f'{ingress}/push/worker.js')});",
    }
