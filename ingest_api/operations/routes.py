"""What operators and load balancers ask.

Belongs here: health, readiness, and the overview of what waits and how it goes. Does not belong here: what the overview
is made of (``overview``).
"""

import os
import threading
import time
from collections.abc import Sequence
from typing import Literal

from flask import Response
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import ApiError, FieldError
from ingest_api.fields import Shown
from ingest_api.keys import Access
from ingest_api.operations.models import OverviewQuery, OverviewShown
from ingest_api.services import Services
from notify_pipeline.core.ledger.group_commit import LedgerError

GROUP = Group("operations", "Health, readiness, and what waits.")
# A probe every second from several load balancers shall not become a write to S3 each.
_LAKE_CHECK_S = 5.0


class Health(Shown):
    """The process answers."""

    status: Literal["ok"]


@GROUP.endpoint("GET", "/healthz", access=Access.PUBLIC, answers={200: Answer("The process answers.", Health)})
def healthz(call: Call) -> Response:
    """Say whether this process lives."""
    return answer(200, {"status": "ok"})


@GROUP.endpoint(
    "GET",
    "/readyz",
    access=Access.PUBLIC,
    answers={200: Answer("It can take requests and keep them.", Health)},
    errors={503: "`not_ready`: details name what cannot be written."},
)
def readyz(call: Call) -> Response:
    """Say whether this process can keep what it accepts."""
    faults = [fault for fault in (_ledger_fault(call.services), _LAKE.fault(call.services)) if fault is not None]
    if faults:
        raise ApiError(503, "not_ready", "This process cannot keep what it would accept.", faults)
    return answer(200, {"status": "ok"})


@GROUP.endpoint(
    "GET",
    "/operations",
    access=Access.OPERATOR,
    answers={200: Answer("The overview, a few seconds old at most.", OverviewShown)},
)
def show_overview(call: Call, query: OverviewQuery) -> Response:
    """Show what waits, what is being sent, and how channels do.

    An admin's key sees the whole installation, any other its own tenant's part.
    """
    tenants = None if call.is_admin else call.reads(query.include_organizations)
    return answer(200, call.services.overviews.of(tenants, call.services.clock()))


def _ledger_fault(services: Services) -> FieldError | None:
    try:
        # An empty transaction through the same queue, lock and store as every write.
        services.ledger.write(_nothing, None)
    except (LedgerError, SQLAlchemyError, OSError) as error:
        return FieldError("ledger", type(error).__name__)
    return None


def _nothing(_conn: Connection, items: Sequence[None]) -> list[bool]:
    return [True for _ in items]


class _LakeCheck:
    """Writes one small file now and then, and remembers how that went."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._checked: dict[str, tuple[float, FieldError | None]] = {}

    def fault(self, services: Services) -> FieldError | None:
        """Return what is wrong with the lake, or None."""
        root = services.settings.lake
        with self._guard:
            at, fault = self._checked.get(root, (None, None))
            now = time.monotonic()
            if at is None or now - at >= _LAKE_CHECK_S:
                fault = self._write(services)
                self._checked[root] = (now, fault)
            return fault

    def _write(self, services: Services) -> FieldError | None:
        try:
            services.lake.write_bytes(f"_ready/{os.uname().nodename}-{os.getpid() % 8}", b"")
        except OSError as error:
            return FieldError("lake", type(error).__name__)
        return None


_LAKE = _LakeCheck()
