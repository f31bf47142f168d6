"""An ingress in the test's process, with keys of every kind and two tenants that each own one of everything."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, update
from werkzeug.test import TestResponse

from ingest_api.services import Services
from notify_pipeline.core.ledger import keys, tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tenant_tables import KEYS, TENANTS
from notify_pipeline.core.settings import Settings
from tests.ingest_api.apps import client_of

ADMIN = "test-admin-key"
# Tests call from one address, while time stands still.
FROM_ONE_ADDRESS: dict[str, Any] = {"anonymous_burst": 1_000_000}


@dataclass
class Clock:
    """Time stands still until a test moves it."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 21, 6, 33, 59, 123456, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)


class Api:
    """The test client with a key and JSON."""

    def __init__(self, client: FlaskClient, key: str | None) -> None:
        self.client = client
        self.key = key

    def call(self, method: str, path: str, body: object = None, **options: Any) -> TestResponse:
        """Send one request."""
        headers = dict(options.pop("headers", {}))
        if self.key is not None:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        if body is not None:
            options["data"] = body if isinstance(body, bytes) else orjson.dumps(body)
            options.setdefault("content_type", "application/json")
        return self.client.open(path, method=method, headers=headers, **options)

    def ok(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """Send one request that must succeed and return its JSON."""
        response = self.call(method, path, body, **options)
        assert response.status_code < 300, response.text
        return response.json


@dataclass
class House:
    """The ingress, its handles, and its tenants."""

    services: Services
    clock: Clock
    client: FlaskClient
    mine: tenants.NewTenant
    other: tenants.NewTenant

    def api(self, key: str | None) -> Api:
        return Api(self.client, key)

    @property
    def secret(self) -> Api:
        return self.api(self.mine.secret_key)

    @property
    def publishable(self) -> Api:
        return self.api(self.mine.publishable_key)

    @property
    def stranger(self) -> Api:
        return self.api(self.other.secret_key)

    @property
    def anonymous(self) -> Api:
        return self.api(None)

    def organization(self, product: tenants.NewTenant, name: str) -> tenants.NewTenant:
        return tenants.create_organization(self.services.ledger, product.tenant, name, self.clock())

    def revoke(self, plaintext: str) -> None:
        found = keys.find(self.services.ledger, plaintext)
        assert found is not None
        change(self.services.ledger, update(KEYS).where(KEYS.c.key_id == found.key_id).values(revoked_at=1))

    def deactivate(self, tenant: str) -> None:
        change(self.services.ledger, update(TENANTS).where(TENANTS.c.tenant == tenant).values(active=False))


def change(ledger: Ledger, statement: Any) -> None:
    """Run one statement in a write transaction."""

    def handler(conn: Connection, items: Any) -> list[None]:
        for item in items:
            conn.execute(item)
        return [None for _ in items]

    ledger.write(handler, statement)


def build(home: Path, **settings: Any) -> Iterator[House]:
    """Open an ingress with two products, and close it after."""
    clock = Clock()
    services = Services(Settings(home=home, **FROM_ONE_ADDRESS | settings), clock)
    with client_of(services) as client:
        keys.create_admin(services.ledger, ADMIN, clock())
        mine = tenants.create_product(services.ledger, "mine", ("branch",), clock())
        other = tenants.create_product(services.ledger, "other", (), clock())
        yield House(services, clock, client, mine, other)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite ledger to copy: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "ledger.db"
    Ledger.open(f"sqlite:///{path}").close()
    return path


def copied(migrated: Path, home: Path) -> Path:
    """Put a copy of the migrated ledger into a home and return the home."""
    (home / "ledger").mkdir()
    shutil.copy(migrated, home / "ledger" / "ledger.db")
    return home


@pytest.fixture
def house(tmp_path: Path, migrated: Path) -> Iterator[House]:
    """An ingress on SQLite."""
    yield from build(copied(migrated, tmp_path))


@pytest.fixture
def any_house(tmp_path: Path, ledger_url: str) -> Iterator[House]:
    """An ingress, once on SQLite and once on PostgreSQL."""
    yield from build(tmp_path, ledger_url=ledger_url)


def send(**changes: Any) -> dict[str, Any]:
    """Return the body of a valid send."""
    body = {
        "id": "n-1",
        "type": "news",
        "topics": ["breaking/uk"],
        "content": {"title": "Parliament dissolved", "body": "An election."},
    }
    return {key: value for key, value in (body | changes).items() if value is not ...}


def registration(**changes: Any) -> dict[str, Any]:
    """Return the body of a valid registration."""
    return {"token": "dGhl:APA91b", "platform": "android", "user_id": "u-1", "topics": ["breaking/uk"], **changes}


def fields_of(response: TestResponse) -> set[str]:
    """Return the fields that an error names; checks the envelope on the way."""
    assert response.content_type == "application/json"
    assert response.json is not None
    assert set(response.json) == {"error"}
    error = response.json["error"]
    assert set(error) == {"code", "message", "details"}
    assert error["code"] and error["message"]
    return {detail["field"] for detail in error["details"]}
