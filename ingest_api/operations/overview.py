"""The overview: everything that operators look at, gathered once for all who look at the same time.

Belongs here: putting it together from the ledger and the published version, and remembering it for a moment. Does not
belong here: the reads themselves (``core.ledger.overview``, ``reports.reading_operations``), the route, the page.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ingest_api.fields import fields_of
from ingest_api.operations.models import ErasureUnderWay
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import erasures
from notify_pipeline.core.ledger import overview as ledger_overview
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.overview import Running
from notify_pipeline.reports import reading_operations
from notify_pipeline.reports.reading import ReportReader

# Whose: None is the whole installation.
Whose = tuple[str, ...] | None
# Pages ask every few seconds. To count what waits takes a ten-thousandth of a second per thousand, so that a backlog of
# a million makes the overview older rather than the ledger slower.
_LEAST_S = 1.0
_SHARE = 0.05
# Lines in quarantine are counted from the lake's files, which on S3 is a call each.
_QUARANTINE_S = 60.0
_MOST_REMEMBERED = 256


class Overviews:
    """Gathers overviews for one process. Thread-safe."""

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        lake: Callable[[], Lake],
        reports: Callable[[], ReportReader],
        dagster_url: str | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing: the stores are asked for when they are needed."""
        self._ledger = ledger
        self._lake = lake
        self._reports = reports
        self._dagster_url = dagster_url
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._known: dict[Whose, tuple[float, dict[str, Any]]] = {}
        self._quarantined: tuple[float, int] = (float("-inf"), 0)

    def of(self, tenants: Sequence[str] | None, now: datetime) -> dict[str, Any]:
        """Return the overview of some tenants, or with None of the installation; at most some seconds old.

        Its fields are those of ``models.OverviewShown``.
        """
        whose = None if tenants is None else tuple(sorted(tenants))
        # One gathers, the others wait for it and take the same.
        with self._guard:
            until, found = self._known.get(whose, (0.0, {}))
            began = self._monotonic()
            if not found or began >= until:
                found = self._gather(whose, now)
                ended = self._monotonic()
                if len(self._known) >= _MOST_REMEMBERED:
                    self._known.clear()
                self._known[whose] = (ended + max(_LEAST_S, (ended - began) / _SHARE), found)
            return found

    def _gather(self, whose: Whose, now: datetime) -> dict[str, Any]:
        ledger, reports = self._ledger(), self._reports()
        build = reading_operations.build(reports)
        found: dict[str, Any] = {
            "at": now,
            "queues": [asdict(each) for each in ledger_overview.waiting(ledger, now, whose)],
            "broadcasts": [_broadcast(each) for each in ledger_overview.running(ledger, now, whose)],
            "channels": [_channel(each) for each in reading_operations.channels(reports, now, whose)],
            "dead_letters": ledger_overview.letters_waiting(ledger, whose),
            "erasures": _erasures(ledger, whose),
            "logs": None,
            "version": None,
            "installation": None if whose is not None else self._installation(ledger, now),
        }
        named = (*found["queues"], *found["broadcasts"], *found["erasures"])
        of = {str(each["tenant"]) for each in named if each["tenant"] is not None}
        found["tenants"] = ledger_overview.names(ledger, sorted(of)) if of else {}
        if build is not None:
            found["logs"] = self._logs(build, whose, now)
            found["version"] = {"version": build.version, "published_at": build.published_at}
        return found

    def _logs(self, build: reading_operations.Build, whose: Whose, now: datetime) -> dict[str, Any]:
        """Return how far logs are read. Lines that are nobody's are the installation's, and no tenant's to count."""
        through = {"received_through": build.received_through, "settled_through": build.settled_through}
        if whose is not None:
            return through | dict.fromkeys(("foreign_deliveries", "foreign_hits", "quarantined"))
        foreign = {"foreign_deliveries": build.foreign_deliveries, "foreign_hits": build.foreign_hits}
        return {**through, **foreign, "quarantined": self._count(now)}

    def _installation(self, ledger: Ledger, now: datetime) -> dict[str, Any]:
        return {
            "roles": [asdict(each) for each in ledger_overview.roles(ledger, now)],
            "throttles": [asdict(each) for each in ledger_overview.throttles(ledger, now)],
            "lake": asdict(ledger_overview.backlog(ledger)),
            "dagster_url": self._dagster_url,
        }

    def _count(self, now: datetime) -> int:
        at, count = self._quarantined
        if self._monotonic() >= at + _QUARANTINE_S:
            count = reading_operations.quarantined(self._lake(), now)
            self._quarantined = self._monotonic(), count
        return count


def _channel(health: reading_operations.ChannelHealth) -> dict[str, Any]:
    codes = [{"provider_code": code, "attempts": attempts} for code, attempts in health.codes]
    return {**asdict(health), "codes": codes}


def _erasures(ledger: Ledger, whose: Whose) -> list[dict[str, Any]]:
    pending = [each for each in erasures.pending(ledger) if whose is None or each.tenant in whose]
    return [fields_of(ErasureUnderWay, each) for each in pending]


def _broadcast(running: Running) -> dict[str, Any]:
    due, request = running.due, running.live.request
    channels = running.live.channels.values()
    return {
        "tenant": due.tenant,
        "request_id": due.request_id,
        "notification_id": due.notification_id,
        "priority": due.priority,
        "state": request.state,
        "accepted_at": request.accepted_at,
        "shards": due.shards,
        "shards_done": due.shards_done,
        "is_held": due.lease_alive,
        "audience": sum(each.audience for each in channels),
        "finished": sum(sum(each.outcomes.values()) for each in channels),
        "accepted": sum(each.outcomes.get("accepted", 0) for each in channels),
        "waiting_again": sum(each.again for each in channels),
        "drops_stopped": running.drops_stopped,
    }
