"""The guides' calls, as they are written, against a real ingress: each answers with the status that the page says."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notify_pipeline.core import unsubscribe_tokens
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import keys, tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.inbox import NewItem
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.unsubscribe_tokens import Unsubscribing
from notify_pipeline.core.vocabulary import Channel, KeyScope
from tests.ingest_api.conftest import ADMIN, copied
from tests.ingest_api.furnished import add_item, publish_lake
from tests.ingest_api.server import Server, call
from tests.reports.worlds import World
from tests.waiting import PATIENCE_S

_DOCS = Path(__file__).parents[2] / "docs"
_GUIDES = (
    "tenants",
    "templates",
    "sending",
    "scheduling",
    "tracking",
    "dead-letters",
    "callbacks",
    "limits",
    "users",
    "events",
    "likes",
    "enrichment",
    "inbox",
    "sms",
    "preferences",
    "email",
    "webpush",
    "contacts",
    "domains",
    "push-script",
    "messages",
    "contacts-figures",
    "websocket",
    "erasure",
    "reports",
)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STATUS = re.compile(r"^# (\d{3})\b", re.MULTILINE)
# What the pages plan ahead lies ahead whenever this runs.
_PLANNED = re.compile(r"20(?:26-12|27-01)-\d\d")
_CURL = 'curl() { command curl -o /dev/null -w "%{http_code}\\n" "$@"; }\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Server]:
    """An ingress of one process."""
    home = copied(migrated, tmp_path_factory.mktemp("guides"))
    with closing(Ledger.open(Settings(home=home).ledger_dsn)) as ledger:
        keys.create_admin(ledger, ADMIN, datetime.now(UTC))
    started = Server(home, workers=1).start()
    yield started
    started.stop()


def surroundings(server: Server, name: str) -> dict[str, str]:
    """Return what the guides' variables stand for: a product of its own with one of everything."""
    now = datetime.now(UTC)
    with closing(Ledger.open(Settings(home=server.home).ledger_dsn)) as ledger:
        made = tenants.create_product(ledger, name, ("Branch",), now)
        item = add_item(ledger, NewItem(made.tenant, "user-42", "n-1", "news", {"title": "Hello"}), now)
        about = Unsubscribing(made.tenant, "user:user-42", "offers", Channel.EMAIL)
        unsubscribe = unsubscribe_tokens.mint(ledger.secret(unsubscribe_tokens.SECRET), about)
        spare = keys.create(ledger, made.tenant, KeyScope.SECRET, None, "test", now)
    if name == "reports":
        publish(server, made.tenant)
    send = {"type": "news", "users": ["user-42"], "content": {"title": "Hello"}}
    sent = call(server.url, "POST", "/notifications", made.secret_key, send).json()
    callback = call(server.url, "POST", "/callbacks", made.secret_key, {"url": "https://example.com/"}).json()
    return {
        "URL": server.url,
        "ADMIN_KEY": ADMIN,
        "KEY": made.secret_key,
        "PRODUCT_ID": made.tenant,
        "ORGANIZATION_ID": made.organizations[0].tenant,
        "KEY_ID": spare.key_id,
        "REQUEST_ID": sent["request_id"],
        "NOTIFICATION_ID": "reported",
        "OTHER_ID": "reported-too",
        "ITEM_ID": item,
        "CALLBACK_ID": callback["callback_id"],
        "UNSUBSCRIBE_TOKEN": unsubscribe,
    }


def publish(server: Server, tenant: str) -> None:
    """Publish a version with the reports of two notifications."""
    settings, world, now = Settings(home=server.home), World(), datetime.now(UTC)
    for name in ("reported", "reported-too"):
        world.request(name, tenant)
        world.audience(2, "android", name, tenant)
        made = world.attempt("one", "accepted", platform="android", notification=name, tenant=tenant)
        world.attempt("two", "permanent", platform="android", notification=name, tenant=tenant, code="Gone")
        world.beacon(made, notification=name)
    world.put(Lake(settings.lake), tenant)
    publish_lake(settings, now)


@pytest.mark.parametrize("name", _GUIDES)
def test_a_guide_s_calls_do_what_it_says(server: Server, name: str) -> None:
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    blocks = "".join(_BLOCK.findall((_DOCS / f"{name}.md").read_text()))
    script = _CURL + _PLANNED.sub(tomorrow, blocks)
    wanted = _STATUS.findall(blocks)
    assert len(wanted) == len(re.findall(r"^curl ", blocks, re.MULTILINE)) > 0
    done = subprocess.run(
        ["bash", "-eu", "-c", script],
        env={**os.environ, **surroundings(server, name)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == wanted
