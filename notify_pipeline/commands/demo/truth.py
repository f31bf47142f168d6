"""What really happened, from the sandbox's own logs and from the attempts that the pipeline recorded.

Belongs here: reading the stand-ins' request log, the CDN's beacon log and the attempts table into comparable sets. Does
not belong here: comparing them with the reports (``reconcile``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.schemas import ATTEMPTS

Key = tuple[str, str]  # notification id, platform

# The demo's devices: FCM reaches the Android ones only.
_PLATFORM = {"fcm": "android", "apns": "ios"}
_PUSHED = 200
_DEAD = frozenset({404, 410})


@dataclass
class ProviderTruth:
    """What one provider saw of one notification."""

    requests: int = 0
    processed: Counter[str] = field(default_factory=Counter)  # recipient -> times pushed to the device
    dead: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)  # recipients with at least one request that got no answer


def provider_truth(lines: Iterable[Mapping[str, Any]]) -> dict[Key, ProviderTruth]:
    """Tally the sandbox's request log by notification and platform."""
    tally: dict[Key, ProviderTruth] = {}
    for line in lines:
        if line["notification_id"] is None or line["channel"] not in _PLATFORM:
            continue
        truth = tally.setdefault((line["notification_id"], _PLATFORM[line["channel"]]), ProviderTruth())
        truth.requests += 1
        recipient = line["recipient"]
        if line["processed"] and not line["dry_run"]:
            truth.processed[recipient] += 1
        if line["status"] in _DEAD:
            truth.dead.add(recipient)
        if line["status"] is None:
            truth.unanswered.add(recipient)
    return tally


@dataclass
class BeaconTruth:
    """What the CDN was called with for one notification."""

    hits: int = 0
    deliveries: set[str] = field(default_factory=set)


def beacon_truth(lines: Iterable[Mapping[str, Any]], event: str) -> dict[Key, BeaconTruth]:
    """Tally the CDN's log of genuine calls of one event by notification and platform."""
    tally: dict[Key, BeaconTruth] = {}
    for line in lines:
        if line["event"] == event:
            truth = tally.setdefault((line["notification_id"], line["platform"]), BeaconTruth())
            truth.hits += 1
            truth.deliveries.add(line["d"])
    return tally


def attempts(lake: Lake) -> pl.DataFrame:
    """Read the attempts table whole: one row per attempt, whatever a compaction leaves doubled for a moment dropped."""
    files = [lake.uri(file.path) for file in lake.list(ATTEMPTS.name)]
    return (
        pl.scan_parquet(files, hive_partitioning=True, storage_options=lake.polars_options() or None).unique().collect()
    )


def unexplained_duplicates(truth: Mapping[Key, ProviderTruth], recorded: pl.DataFrame) -> int:
    """Count deliveries pushed more than once without an attempt recorded as ambiguous that explains it."""
    ambiguous = recorded.filter(pl.col("outcome") == "ambiguous")
    explained = Counter(ambiguous.select("notification_id", "platform", "recipient").iter_rows())
    return sum(
        max(0, times - 1 - explained[notification, platform, recipient])
        for (notification, platform), seen in truth.items()
        for recipient, times in seen.processed.items()
    )
