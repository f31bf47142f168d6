"""A worker process's own application: ``granian --interface wsgi --factory ingest_api.worker:create_app``.

Belongs here: what a whole process gives itself up to for the sake of speed. Does not belong here: the application.

One interpreter runs on one core at a time, whatever its threads. Left to itself the system wakes each of them on
whichever core is free, and they spend their time handing the interpreter's lock from core to core: held to one core, a
worker answers the same requests with a fifth less of CPU time.
"""

import fcntl
import gc
import logging
import os
from pathlib import Path

from flask import Flask

from ingest_api.app import create_app as create_plain_app
from notify_pipeline.core.settings import Settings

# Long-lived objects are many and requests make no cycles: look for garbage rarely, never among what was there first.
_GC_THRESHOLDS = (50_000, 20, 50)

_log = logging.getLogger(__name__)
# Held open for the life of the process: the lock says that the slot is taken.
_slots: list[int] = []


def create_app(settings: Settings | None = None) -> Flask:
    """Prepare this process and build the application."""
    settings = settings or Settings()
    prepare(settings)
    app = create_plain_app(settings)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    return app


def prepare(settings: Settings) -> None:
    """Hold this process, and every thread that it will start, to one core, if the settings say so."""
    cores = sorted(os.sched_getaffinity(0))
    if not settings.http_pin_workers or len(cores) < 2:
        return
    slot = _take_slot(settings.home.resolve() / "ingress", settings.http_workers)
    if slot is not None:
        os.sched_setaffinity(0, {cores[slot % len(cores)]})


def _take_slot(folder: Path, slots: int) -> int | None:
    """Return the first slot that no living worker has; the kernel frees it when this process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(slots):
        fd = os.open(folder / f"worker-{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        _slots.append(fd)
        return slot
    _log.info("more workers than slots: this one is not held to a core")
    return None
