"""Reports as they stand now: what the ledger knows laid over what the published version says.

Belongs here: that rule, for one report and for a page of them. Does not belong here: reading the ledger
(``core.ledger.live``), the published version (``reading``), HTTP.

A version is seconds old, or a minute while a broadcast is sent; the ledger's counts are as old as the last settled
chunk, a second or so. So until the published report is at the request's end, its state and the figures of sending come
from the ledger, wherever that knows of as many attempts; what devices reported only the versions know. A report whose
published state is final costs the ledger nothing.

By platform the ledger knows small sends until their end, and of any send the channels that reach one platform. What it
does not know by platform stays as published: then platforms may lag behind their total.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from notify_pipeline.core.ledger import live
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.live import LiveRequest, Standing
from notify_pipeline.core.ledger.progress import NO_CHANNEL
from notify_pipeline.core.vocabulary import Outcome, Platform, RequestState

Row = dict[str, Any]

LEDGER: Final = "ledger"
PUBLISHED: Final = "published"
# What the ledger counts; the other measures are of beacons and moments.
COUNTED: Final = (
    "audience",
    "attempted",
    "accepted",
    "failed",
    "invalid",
    "ambiguous",
    "skipped",
    "expired",
    "dry_run",
)
_FAILED = (Outcome.PERMANENT, Outcome.THROTTLED, Outcome.TRANSIENT)
# What a report has before any version knows the notification.
_NOTHING: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("accepted_by_beacon", "throttled", "received", "opened", "clicked", "hits"), 0),
    **dict.fromkeys(("first_accepted_at", "last_accepted_at", "p50_s", "p90_s", "p99_s", "share_120s")),
}
_PLATFORMS = {
    channel.value: [each.value for each in Platform if each.channel is channel]
    for channel in {platform.channel for platform in Platform}
}


def overlay(
    ledger: Ledger, reports: Sequence[Row], platform: str | None = None, channel: str | None = None
) -> list[Row]:
    """Return reports with what the ledger knows better, each with ``figures_from``.

    Args:
        ledger: The ledger; asked once, and only about those whose published state is not final.
        reports: As the reading functions give them: ``request_id``, ``state``, ``finished_at``, ``totals``,
            ``platforms``. They are not changed.
        platform: The only one that was asked for.
        channel: Likewise.
    """
    open_ = [row["request_id"] for row in reports if not RequestState(row["state"]).is_final]
    found = live.by_request(ledger, open_)
    return [_laid_over(row, found.get(row["request_id"]), platform, channel) for row in reports]


def unpublished(ledger: Ledger, tenant: str, notification_id: str) -> Row | None:
    """Return the report of a notification that no version knows yet, from the ledger alone; None when there is none."""
    found = live.by_notification(ledger, tenant, notification_id)
    if found is None:
        return None
    request = found.request
    report = {
        "tenant": tenant,
        "notification_id": request.notification_id,
        "request_id": request.request_id,
        "type": request.type,
        "category": request.category,
        "priority": request.priority,
        "title": (request.body.get("content") or {}).get("title"),
        "topics": request.body.get("topics") or [],
        "domain": request.body.get("domain"),
        "is_dry_run": bool(request.body.get("dry_run")),
        "state": request.state,
        "accepted_at": request.accepted_at,
        "send_at": request.body.get("send_at"),
        "finished_at": None,
        "received_through": None,
        "settled": False,
        "totals": {**dict.fromkeys(COUNTED, 0), **_NOTHING},
        "platforms": [],
    }
    return _laid_over(report, found)


def figures(standing: Iterable[Standing]) -> dict[str, int]:
    """Return the measures that the ledger counts, added up.

    Whoever was tried and is to be tried again has failed so far, as in a published report.
    """
    audience, again = 0, 0
    ended = dict.fromkeys(Outcome, 0)
    for each in standing:
        audience, again = audience + each.audience, again + each.again
        for name, number in each.outcomes.items():
            ended[Outcome(name)] += number
    called = {
        "accepted": ended[Outcome.ACCEPTED],
        "failed": sum(ended[outcome] for outcome in _FAILED) + again,
        "invalid": ended[Outcome.INVALID_RECIPIENT],
        "ambiguous": ended[Outcome.AMBIGUOUS],
    }
    return {
        "audience": audience,
        "attempted": sum(called.values()),
        **called,
        "skipped": ended[Outcome.SKIPPED],
        "expired": ended[Outcome.EXPIRED],
        "dry_run": ended[Outcome.DRY_RUN],
    }


def _laid_over(report: Row, found: LiveRequest | None, platform: str | None = None, channel: str | None = None) -> Row:
    if found is None:
        return {**report, "figures_from": PUBLISHED}
    totals = _better(report["totals"], figures(found.channels.values()))
    return {
        **report,
        "state": found.request.state,
        "finished_at": found.finished_at or report["finished_at"],
        "totals": totals or report["totals"],
        "platforms": [
            row
            for row in _platforms(report["platforms"], found)
            if platform in (None, row["platform"]) and (channel is None or row["channel"] == channel)
        ],
        "figures_from": LEDGER if totals else PUBLISHED,
    }


def _better(published: Row, known: Mapping[str, int]) -> Row | None:
    """Return the published measures with the ledger's, None where those know less.

    They do when a chunk's attempts are in the lake and are being settled.
    """
    known = _proven(known, published.get("accepted_by_beacon", 0))
    covered = [
        sum(each[name] for name in ("attempted", "skipped", "expired", "dry_run")) for each in (published, known)
    ]
    behind = covered[1] < covered[0] or any(known[name] < published[name] for name in ("audience", "accepted"))
    if behind:
        return None
    # Those who were throttled are among those who failed, of whom fewer may be left by now.
    throttled = {name: min(published[name], known["failed"]) for name in ("throttled",) if name in published}
    return {**published, **known, **throttled}


def _proven(known: Mapping[str, int], by_beacon: int) -> dict[str, int]:
    """Return the ledger's measures with the calls accepted that beacons prove to be, which it never hears of."""
    found = dict(known)
    for name in ("ambiguous", "failed", "invalid"):  # mostly such calls got no answer
        moved = min(by_beacon, found[name])
        found[name] -= moved
        found["accepted"] += moved
        by_beacon -= moved
    return found


def _platforms(published: Sequence[Row], found: LiveRequest) -> list[Row]:
    rows = list(published)
    for (channel, platform), standing in _by_platform(published, found).items():
        known = figures([standing])
        mine = [number for number, row in enumerate(rows) if row["platform"] == platform]
        if not mine and known["audience"]:
            rows.append({"channel": channel, "platform": platform, "provider": channel, **_NOTHING, **known})
        elif len(mine) == 1:  # where two providers serve a platform, the ledger does not know whose is which
            rows[mine[0]] = _better(rows[mine[0]], known) or rows[mine[0]]
    return sorted(rows, key=lambda row: (row["platform"], row["provider"]))


def _by_platform(published: Sequence[Row], found: LiveRequest) -> dict[tuple[str, str], Standing]:
    """Return what the ledger knows exactly, by channel and platform."""
    known: dict[tuple[str, str], Standing] = {}
    for channel, standing in found.channels.items():
        queued = {key: each for key, each in found.platforms.items() if key[0] == channel}
        if queued and sum(each.audience for each in queued.values()) == standing.audience:
            known |= queued
        elif channel != NO_CHANNEL and (platform := _only(channel, standing, published)) is not None:
            known[channel, platform] = standing
    return known


def _only(channel: str, standing: Standing, published: Sequence[Row]) -> str | None:
    """Return the one platform that a channel's recipients are on; None when there may be several."""
    platforms = _PLATFORMS.get(channel, [])
    if len(platforms) == 1:
        return platforms[0]
    there = [row for row in published if row["platform"] in platforms]
    return there[0]["platform"] if len(there) == 1 and there[0]["audience"] == standing.audience else None
