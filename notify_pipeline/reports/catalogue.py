"""The report tables that people read: what a row is, and what each column says.

Belongs here: these texts, once, for whoever shows them: DuckDB as comments, Dagster's catalogue. Does not belong here:
the tables themselves (``sql/*.sql``); a test compares the two.

Plain data: no database is opened for it, because every process of the pipeline loads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from notify_pipeline.core.sql import quoted

_TEXT: Final = "VARCHAR"
_TEXTS: Final = "VARCHAR[]"
_COUNT: Final = "BIGINT"
_NUMBER: Final = "DOUBLE"
_FLAG: Final = "BOOLEAN"
_TIME: Final = "TIMESTAMP WITH TIME ZONE"
_DAY: Final = "DATE"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type in DuckDB and what it says."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table or view of schema ``main``.

    Attributes:
        name: Its name.
        comment: What a row is.
        names: Its columns, in order, parted by spaces.
        own: What columns say that say something else here than elsewhere.
        counted: The table of ``facts`` that has a row for each of its rows, where one has.
    """

    name: str
    comment: str
    names: str
    own: Mapping[str, str] = field(default_factory=dict)
    counted: str | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns, in order."""
        return tuple(
            Column(name, _COMMON[name][0], self.own.get(name, _COMMON[name][1])) for name in self.names.split()
        )


# What columns are and say wherever no other is said.
_COMMON: Final = {
    "accepted": (_COUNT, "Deliveries that the provider accepted, or that a genuine beacon proves."),
    "accepted_at": (_TIME, "When the API accepted the notification."),
    "accepted_by_beacon": (
        _COUNT,
        "Of accepted: those that only a beacon proves; the provider's answer was lost or said otherwise.",
    ),
    "action": (_TEXT, "The button's name, one of those that the notification has."),
    "active": (_COUNT, "Tokens that are registered at the day's end: the sum of net up to here."),
    "ambiguous": (_COUNT, "Deliveries whose call got no answer and that no beacon proves."),
    "answered": (_COUNT, "Of attempts: those that the provider answered at all. The seconds are theirs."),
    "attempted": (_COUNT, "Deliveries that a provider was called for: accepted + failed + invalid + ambiguous."),
    "attempts": (_COUNT, "Attempts that ended so."),
    "audience": (_COUNT, "Recipients planned for. Until that is known, those whose outcome is."),
    "bucket_s": (_COUNT, "Where the 10 seconds begin, in seconds after acceptance (after send_at, where scheduled)."),
    "built_at": (_TIME, "When this version was built."),
    "category": (_TEXT, "The request's category, which users may have opted out of; null: none."),
    "channel": (_TEXT, "The channel (fcm, apns, webpush, websocket, email, sms, inbox); none: no way to reach them."),
    "clicked": (_COUNT, "Distinct deliveries with a clicked beacon."),
    "day": (_DAY, "The day (UTC) on which the API accepted the notifications."),
    "deliveries": (_COUNT, "Deliveries that are known to have gone through the stage; the seconds are theirs."),
    "domain": (_TEXT, "The domain whose contacts it is for; null: it is for others."),
    "dropped": (_COUNT, "Tokens that a provider said are dead."),
    "dry_run": (_COUNT, "Recipients of a dry run."),
    "ended_at": (_TIME, "When it was final and its last attempt made; null: it is not over."),
    "expired": (_COUNT, "Recipients whose time ran out before any call."),
    "expires_at": (_TIME, "When it stops being sent."),
    "failed": (_COUNT, "Deliveries whose last word was permanent, transient or throttled."),
    "files": (_COUNT, "Files of the lake that it is made of."),
    "finished_at": (_TIME, "When it reached a final state; null: it has not."),
    "first_accepted_at": (_TIME, "When the first of accepted was; null: none was."),
    "first_at": (_TIME, "When the first of these attempts was made."),
    "foreign_deliveries": (_COUNT, "Delivery ids in beacons that no notification of the lake sent."),
    "foreign_hits": (_COUNT, "Their beacons by log lines."),
    "hits": (_COUNT, "Received beacons by log lines, repeats included."),
    "hour_at": (_TIME, "Where the hour begins in which the calls were made."),
    "invalid": (_COUNT, "Deliveries whose recipient the provider says does not exist."),
    "is_dry_run": (_FLAG, "True where it was only to be counted out, and no provider was called."),
    "last_accepted_at": (_TIME, "When the last of accepted was; null: none was."),
    "last_at": (_TIME, "When the last of these attempts was made."),
    "last_attempt_at": (_TIME, "When its last attempt was made, calls or not; null: none was."),
    "max_s": (_NUMBER, "The longest of them, in seconds."),
    "mean_s": (_NUMBER, "Mean seconds from call to answer, exact; null: none was answered."),
    "net": (_COUNT, "registered - unregistered - dropped."),
    "notification_id": (_TEXT, "The notification, unique within its tenant."),
    "notifications": (_COUNT, "Notifications that have recipients so."),
    "opened": (_COUNT, "Distinct deliveries with an opened beacon."),
    "outcome": (
        _TEXT,
        "How they ended: invalid_recipient, throttled, transient, permanent, ambiguous, skipped, expired.",
    ),
    "p50_s": (
        _NUMBER,
        "Median seconds from being due (acceptance by the API, or send_at) to the first received beacon; null: none"
        " came.",
    ),
    "p90_s": (_NUMBER, "Like p50_s, for nine in ten."),
    "p99_s": (_NUMBER, "Like p50_s, for 99 in 100."),
    "platform": (_TEXT, "What the recipient is reached on: ios, android, web, email, …; unknown: nobody can tell."),
    "platforms": (_TEXTS, "Those that it has recipients on, sorted."),
    "priority": (_TEXT, "high, normal or low."),
    "provider": (_TEXT, "Who was called; of recipients that got no call: whom their channel calls."),
    "provider_code": (
        _TEXT,
        "The provider's word for it, or the reason of a skipped or expired recipient; empty: none.",
    ),
    "received": (_COUNT, "Distinct deliveries with a received beacon."),
    "received_through": (_TIME, "How far the logs are read, whoever's beacons; null: not at all."),
    "recomputed": (_COUNT, "Notifications that were computed anew for it."),
    "refreshed": (_COUNT, "Changes of tokens that were registered already: user, topics, app version and so on."),
    "registered": (_COUNT, "Tokens that were not registered before: new ones, and those that came back."),
    "request_id": (_TEXT, "The request that it was accepted as."),
    "second_at": (_TIME, "Where the second begins in which the provider accepted them."),
    "send_at": (_TIME, "When it was to be sent; null: at once."),
    "settled": (_FLAG, "True once the request is final and the logs are read far enough past its last attempt."),
    "settled_through": (_TIME, "What ended up to here is settled; null: nothing is."),
    "share_120s": (
        _NUMBER,
        'Share received within 120 seconds of being due ("90in2"), of the accepted deliveries on channels whose devices'
        " report: not of e-mail, SMS and inbox. Null where there are none.",
    ),
    "skipped": (_COUNT, "Recipients that got no call, for the reason in failures.provider_code."),
    "stage": (
        _TEXT,
        "queued: due to first call; provider: first call to acceptance, retries included; device: provider's acceptance"
        " to received beacon; total: due to received beacon. Due is acceptance by the API, or send_at.",
    ),
    "state": (_TEXT, "The request's state by the audit trail."),
    "tenant": (_TEXT, "The product or organization that sent it."),
    "throttled": (_COUNT, "Of failed: those last throttled."),
    "title": (_TEXT, "Its title, as last edited; null: none."),
    "topic": (_TEXT, "The topic's name."),
    "topics": (_TEXTS, "The topics that it is for; empty: it is for people or tokens."),
    "type": (_TEXT, "The sender's word for what it is."),
    "unregistered": (_COUNT, "Tokens that an app, a page or an erasure took back."),
    "version": (_COUNT, "The version's number."),
}
_MEASURES: Final = (
    "audience attempted accepted accepted_by_beacon failed throttled invalid ambiguous skipped expired dry_run received"
    " opened clicked hits first_accepted_at last_accepted_at p50_s p90_s p99_s share_120s received_through settled"
)
TABLES: Final = (
    ReportTable(
        "notifications",
        "One row per notification of a tenant: what was sent, to how many, how many devices received it and how fast. A"
        " delivery is one recipient on one channel and counts once, whatever its retries: its final outcome decides.",
        "tenant notification_id request_id type category priority title topics domain is_dry_run accepted_at send_at"
        f" expires_at state finished_at last_attempt_at ended_at platforms {_MEASURES}",
        counted="notifications",
    ),
    ReportTable(
        "platform_reports",
        "The same figures per notification, channel, platform and provider; their sums are those of notifications.",
        f"tenant notification_id accepted_at ended_at channel platform provider {_MEASURES}",
        counted="platform_reports",
    ),
    ReportTable(
        "timeline",
        "Deliveries accepted and received in each 10 seconds after a notification was due. Empty ones have no row.",
        "tenant notification_id platform bucket_s accepted received",
        {
            "accepted": "Deliveries accepted in these 10 seconds.",
            "received": "Deliveries whose first received beacon is of these 10 seconds.",
        },
        "timeline",
    ),
    ReportTable(
        "failures",
        "Attempts that were not accepted, by outcome and provider code, and the deliveries that ended so.",
        "tenant notification_id channel platform provider outcome provider_code attempts deliveries first_at last_at",
        {"deliveries": "Deliveries for which that was the final outcome."},
        "failures",
    ),
    ReportTable(
        "actions",
        "Clicks on the actions (buttons) of notifications. Actions that nobody clicked, and names that the notification"
        " does not have, are missing.",
        "tenant notification_id domain accepted_at platform action clicked hits",
        {
            "clicked": "Distinct deliveries whose user clicked it. One may have clicked several actions.",
            "hits": "Clicks by log lines, repeats included.",
        },
        "actions",
    ),
    ReportTable(
        "consumed",
        "Deliveries of sends to a domain that a provider accepted, by notification and the second of that word. Each"
        " delivery once, at its first acceptance.",
        "tenant domain notification_id second_at accepted",
        {
            "accepted": "Deliveries accepted in it; those that only a beacon proves are not among them.",
            "domain": "The domain whose contacts it is for.",
        },
        "consumed",
    ),
    ReportTable(
        "latencies",
        "How long a notification's deliveries took, stage by stage: exact percentiles per channel, platform and"
        " provider. Moments that clocks put into the wrong order count as zero seconds. A stage that no delivery is"
        " known to have gone through has no row.",
        "tenant notification_id channel platform provider stage deliveries p50_s p90_s p99_s max_s",
        {
            "p50_s": "Median seconds of the stage.",
            "p90_s": "Nine in ten took no longer.",
            "p99_s": "99 in 100 took no longer.",
        },
        "latencies",
    ),
    ReportTable(
        "channel_hours",
        "Calls of providers by the hour in which they were made: attempts, not deliveries. attempts = accepted + failed"
        " + invalid + ambiguous.",
        "tenant hour_at channel platform provider attempts accepted failed throttled invalid ambiguous answered mean_s"
        " p50_s p90_s p99_s max_s",
        {
            "attempts": "Calls made.",
            "accepted": "Of attempts: accepted by the provider.",
            "failed": "Of attempts: permanent, transient or throttled.",
            "throttled": "Of failed: throttled.",
            "invalid": "Of attempts: the provider says that the recipient does not exist.",
            "ambiguous": "Of attempts: without an answer.",
            "provider": "Who was called.",
            "tenant": "Whose notifications.",
            "p50_s": "Median seconds from call to answer, at most 9 % too high: buckets that add up; null: no answer.",
            "max_s": "Seconds of the slowest answer, exact; null: none was answered.",
        },
    ),
    ReportTable(
        "topic_reach",
        "What the notifications to a topic reached, by the day (UTC) on which the API accepted them, whatever happened"
        " to them later. One for several topics counts for each, so that topics do not add up. Without dry runs.",
        "tenant day topic notifications audience accepted received opened clicked",
        {"notifications": "Notifications for the topic."},
    ),
    ReportTable(
        "tenant_usage",
        "What a tenant sent, by channel, platform and the day (UTC) on which the API accepted it, whatever happened to"
        " it later.",
        "tenant day channel platform notifications audience attempted accepted failed invalid ambiguous skipped expired"
        " dry_run received opened clicked",
        {
            "notifications": "Notifications with recipients there. One with some on several platforms counts for each.",
        },
    ),
    ReportTable(
        "token_churn",
        "What became of a tenant's device tokens, by the day (UTC) on which it did and platform. Days without changes"
        " have no row.",
        "tenant day platform registered refreshed unregistered dropped net active",
        {
            "day": "The day (UTC) of the changes.",
            "platform": "What the tokens are of: ios, android, web, webpush.",
            "tenant": "Whose tokens.",
        },
        "token_days",
    ),
    ReportTable(
        "build",
        "One row: this version, how far the logs were read, and the beacons that belong to no delivery.",
        "version built_at received_through settled_through files recomputed foreign_deliveries foreign_hits",
    ),
)


def comments(database: str) -> str:
    """Return the statements that give a database's tables and views their comments."""
    statements = []
    for table in TABLES:
        where, kind = f"{database}.main.{table.name}", "TABLE" if table.name == "build" else "VIEW"
        statements.append(f"COMMENT ON {kind} {where} IS {quoted(table.comment)};")
        statements += [f"COMMENT ON COLUMN {where}.{each.name} IS {quoted(each.comment)};" for each in table.columns]
    return "\n".join(statements)
