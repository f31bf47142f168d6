"""A lake and its reports, for tests."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import checks, reading_details
from notify_pipeline.reports.build import Candidate, build_candidate, publish
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.versions import writer
from tests.reports.worlds import START

NOW = START + timedelta(hours=1)


class Desk:
    """A lake and its reports."""

    def __init__(self, lake: Lake, root: Path) -> None:
        self.lake = lake
        self.root = root
        self.settings = Settings(home=root, settle_hours=1)
        self.reader = ReportReader(root)

    def build(self, *, full: bool = False) -> Candidate:
        """Build a candidate, as the one writer."""
        return build_candidate(self.lake, self.root, self.settings, NOW, full=full)

    def publish(self, *, full: bool = False) -> None:
        """Build and publish. The checks take as long as the rest: this is for tests that ask nothing of them."""
        self._publish(full, lambda candidate: [])

    def update(self, *, full: bool = False) -> list[checks.CheckResult]:
        """Build, check and publish."""
        return self._publish(full, lambda candidate: checks.run(candidate, self.lake, self.settings))

    def _publish(self, full: bool, check: Callable[[Candidate], list[checks.CheckResult]]) -> list[checks.CheckResult]:
        with writer(self.root):
            candidate = self.build(full=full)
            results = check(candidate)
            if candidate.is_changed:
                publish(candidate, self.settings, NOW)
            candidate.discard()
        return results

    def report(self, notification: str = "n1", tenant: str = "t1") -> dict[str, Any]:
        """Return a notification's report."""
        found = reading_details.one(self.reader, tenant, notification)
        assert found is not None
        return found

    def knows(self, notification: str, tenant: str = "t1") -> bool:
        """Tell whether there is a report of a notification."""
        return reading_details.one(self.reader, tenant, notification) is not None

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Query the current version."""
        with self.reader.cursor() as cursor:
            assert cursor is not None
            return cursor.execute(sql).fetchall()


def passed(results: list[checks.CheckResult]) -> bool:
    """Tell whether all checks passed, and show those that did not."""
    assert [(result.name, result.examples) for result in results if not result.passed] == []
    return bool(results)
