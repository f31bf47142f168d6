"""Compares every figure of the reports with what the sandbox itself logged.

Belongs here: which figures must be equal, and the verdict. Does not belong here: reading logs (``truth``), traffic,
printing (``show``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from notify_pipeline.commands.demo.truth import BeaconTruth, Key, ProviderTruth


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one notification on one platform, as the report says and as it was."""

    notification_id: str
    platform: str
    name: str
    reported: int
    actual: int

    @property
    def agrees(self) -> bool:
        """True when the report is exact."""
        return self.reported == self.actual


@dataclass(frozen=True, slots=True)
class Sent:
    """What the demo sent: a notification, and how many devices of each platform it was for."""

    notification_id: str
    audience: Mapping[str, int]


def figures(
    sent: Sequence[Sent],
    reports: Mapping[str, Mapping[str, Any]],
    providers: Mapping[Key, ProviderTruth],
    beacons: Mapping[str, Mapping[Key, BeaconTruth]],
) -> list[Figure]:
    """Return every figure that must agree, in the order of what was sent.

    Args:
        sent: What the demo sent.
        reports: ``GET /reports/{id}`` by notification id.
        providers: The stand-ins' log, tallied.
        beacons: The CDN's log, tallied, by event.
    """
    found = []
    for one in sent:
        rows = {row["platform"]: row for row in reports[one.notification_id]["platforms"]}
        for platform, audience in one.audience.items():
            key = (one.notification_id, platform)
            actual = _actual(audience, providers.get(key, ProviderTruth()), beacons, key)
            row = rows.get(platform, {})
            found += [
                Figure(one.notification_id, platform, name, row.get(name, 0), value) for name, value in actual.items()
            ]
    return found


def lost(sent: Sequence[Sent], providers: Mapping[Key, ProviderTruth]) -> int:
    """Count recipients whom no provider got a push for, and whom none called unregistered."""
    missing = 0
    for one in sent:
        for platform, audience in one.audience.items():
            truth = providers.get((one.notification_id, platform), ProviderTruth())
            missing += max(0, audience - len(truth.dead | truth.processed.keys()))
    return missing


def _actual(
    audience: int, truth: ProviderTruth, beacons: Mapping[str, Mapping[Key, BeaconTruth]], key: Key
) -> dict[str, int]:
    pushed = truth.processed.keys()
    invalid = len(truth.dead - pushed)
    return {
        "audience": audience,
        "attempted": len(pushed | truth.dead),
        "accepted": len(pushed),
        "invalid": invalid,
        "failed": audience - len(pushed) - invalid,
        **{event: len(tally[key].deliveries) if key in tally else 0 for event, tally in beacons.items()},
    }
