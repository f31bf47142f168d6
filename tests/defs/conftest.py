"""A home with a real ledger, lake and sandbox, Dagster's definitions bound to it, and an instance of Dagster."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.lander import Lander
from notify_pipeline.core.ledger import devices, requests, tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Platform
from notify_pipeline.definitions import build_defs
from notify_pipeline.receipts.logs import Logs
from tests.sandboxes import running_sandbox

TOPIC = "breaking/uk"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster on SQLite, as by default."""
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.instance_for_test(temp_dir=str(home)) as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home without a sandbox."""
    return Settings(home=tmp_path / "home", drain_seconds=60, drain_idle_seconds=1)


@pytest.fixture
def sandbox_url(settings: Settings) -> Iterator[str]:
    """A running sandbox in the same home."""
    with running_sandbox(settings) as url:
        yield url


@dataclass
class World:
    """One installation: its stores, and how to run Dagster's jobs on it."""

    settings: Settings
    ledger: Ledger
    lake: Lake
    logs: Logs
    instance: dg.DagsterInstance
    tenant: str

    @property
    def resources(self) -> dict[str, Any]:
        """What jobs and sensors are handed."""
        return {"settings": self.settings, "ledger": self.ledger, "lake": self.lake, "logs": self.logs}

    @property
    def repository(self) -> dg.RepositoryDefinition:
        """Everything that is defined, bound to this installation."""
        return build_defs(self.settings, self.resources).get_repository_def()

    def run(self, job: str, **more: Any) -> dg.ExecuteInProcessResult:
        """Run a job in this process."""
        return self.repository.get_job(job).execute_in_process(instance=self.instance, raise_on_error=False, **more)

    def tick(self, sensor: str, cursor: str | None = None) -> dg.SensorEvaluationContext | Any:
        """Evaluate a sensor once."""
        context = dg.build_sensor_context(
            self.instance, cursor=cursor, resources=self.resources, repository_def=self.repository
        )
        return self.repository.get_sensor_def(sensor).evaluate_tick(context)

    def register(self, count: int) -> None:
        """Register devices of both platforms to one topic."""
        for number in range(count):
            platform = (Platform.ANDROID, Platform.IOS)[number % 2]
            token = f"{number:064x}" if platform is Platform.IOS else f"android-{number:08d}-" + "a" * 120
            registration = devices.Registration(token, platform, user_id=f"user-{number}", topics=(TOPIC,))
            devices.register(self.ledger, self.tenant, registration, utc_now())
        self.land()

    def land(self) -> None:
        """Land what waits for the lake."""
        lander = Lander(self.ledger, self.lake, utc_now)
        lander.run_once()
        lander.release()

    def send(self, notification_id: str, **audience: Any) -> str:
        """Accept a send; give the request's id."""
        now = datetime.now(UTC)
        body = {"type": "news", "content": {"title": "Title", "body": "Body"}, **audience}
        new = requests.NewRequest(self.tenant, notification_id, body, now, now + timedelta(hours=1))
        return requests.accept(self.ledger, new).request_id

    def state(self, request_id: str) -> str:
        """Where a request stands."""
        found = requests.get(self.ledger, self.tenant, request_id)
        assert found is not None
        return str(found.state)


@pytest.fixture
def make_world(settings: Settings, instance: dg.DagsterInstance) -> Iterator[Callable[..., World]]:
    """Makes the installation, with some settings changed."""
    opened = []

    def make(**changes: Any) -> World:
        changed = settings.model_copy(update=changes)
        ledger = Ledger.open(changed.ledger_dsn)
        opened.append(ledger)
        tenant = tenants.create_product(ledger, "Product", (), utc_now()).tenant
        return World(changed, ledger, Lake(changed.lake), Logs(changed.logs), instance, tenant)

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """The installation, without a sandbox."""
    return make_world()
