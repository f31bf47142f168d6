"""One ingress, one sandbox and one browser for all tests of this folder: starting them takes longer than any test."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from tests import browsers
from tests.browser.push_desk import Desk, replace_push_manager
from tests.ingest_api.server import Server
from tests.sandboxes import running_sandbox


@pytest.fixture(scope="package")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """An ingress, a sandbox and a browser for all of these tests."""
    path = browsers.executable()
    if path is None:
        pytest.skip("there is no Chromium here")
    home = tmp_path_factory.mktemp("push")
    with (
        running_sandbox(Settings(home=home)) as sandbox,
        Ledger.open(Settings(home=home).ledger_dsn) as ledger,
        browsers.persistent(path, home / "profile") as context,
        ThreadPoolExecutor(1) as hands,
        pytest.MonkeyPatch.context() as environment,
    ):
        # All of these browsers have one address.
        environment.setenv("NOTIFY_ANONYMOUS_BURST", "100000")
        made = tenants.create_product(ledger, "shop", (), utc_now())
        ingress = Server(home, workers=1, threads=8).start()
        replace_push_manager(context, sandbox)
        try:
            yield Desk(context, ingress, sandbox, ledger, made.secret_key, made.tenant, hands)
        finally:
            ingress.stop()
