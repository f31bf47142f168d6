"""What a running system keeps in its home besides data: the lock, run.json, the admin key, Dagster's configuration.

Belongs here: those files. Does not belong here: the ledger's content, processes.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from notify_pipeline.core.ledger import keys
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import KeyScope

# In the package, so that a wheel has it; the checkout's dagster.yaml is a link to it.
_DAGSTER_YAML = Path(__file__).resolve().parents[2] / "defs" / "dagster.yaml"
# The guard of a supervisor that was killed needs this long at most to end its children.
_TAKEOVER_S = 20.0
_OWNER_ONLY = 0o600


class HomeTakenError(Exception):
    """Another system runs in this home."""


@contextmanager
def locked(home: Path) -> Iterator[int]:
    """Hold the home: at most one system runs in it.

    Args:
        home: The folder, made if need be.

    Yields:
        The lock's file descriptor: a process that inherits it holds the lock too.

    Raises:
        HomeTakenError: Another system runs here. After one that was killed, this waits until its processes are gone.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = home / "up.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _OWNER_ONLY)
    try:
        deadline = time.monotonic() + _TAKEOVER_S
        while not _try_lock(descriptor):
            owner = path.read_text().strip()
            if (owner.isdigit() and Path(f"/proc/{owner}").exists()) or time.monotonic() > deadline:
                raise HomeTakenError(f"a system already runs in {home} (process {owner or 'unknown'})")
            time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def is_running(home: Path) -> bool:
    """Tell whether a system runs in this home."""
    path = home / "up.lock"
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR)
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def write_run_file(home: Path, content: dict[str, Any]) -> None:
    """Say where the running system is to be found: ``run.json``."""
    write_private(home / "run.json", orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_run_file(home: Path) -> dict[str, Any] | None:
    """What ``run.json`` says, None when there is none."""
    path = home / "run.json"
    if not path.exists():
        return None
    content: dict[str, Any] = orjson.loads(path.read_bytes())
    return content


def admin_key(settings: Settings) -> tuple[str, bool]:
    """The admin key: the configured one, else the one made at the first start.

    Returns:
        The key, and whether it was made just now.
    """
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value(), False
    path = settings.home / "admin-key"
    if path.exists():
        return path.read_text().strip(), False
    key = keys.new_key(KeyScope.ADMIN)
    write_private(path, key.encode() + b"\n")
    return key, True


def prepare_dagster_home(settings: Settings) -> Path:
    """Make DAGSTER_HOME: the project's dagster.yaml, with PostgreSQL storage in place of SQLite where that is set."""
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    text = _DAGSTER_YAML.read_text()
    if settings.dagster_storage_url is not None:
        text += "\nstorage:\n  postgres:\n    postgres_url:\n      env: NOTIFY_DAGSTER_STORAGE_URL\n"
    (home / "dagster.yaml").write_text(text)
    return home


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
