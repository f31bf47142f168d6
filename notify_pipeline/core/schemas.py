"""The lake's tables: name, Arrow schema and how each is partitioned.

Belongs here: the column contract of every Parquet table. Does not belong here: reading or writing files (``lake``).

All tables are hive-partitioned by ``date=YYYY-MM-DD/hour=HH`` of the moment named in ``LakeTable.partition_by``; the
partition columns are in the path only. Times are microseconds, UTC. ``tenant`` is the id of a product or organization.
"""

from dataclasses import dataclass

import pyarrow as pa

_STR = pa.string()
_TIME = pa.timestamp("us", tz="UTC")
_INT = pa.int64()


@dataclass(frozen=True, slots=True)
class LakeTable:
    """One table: its name (also the folder below the lake root), its columns, and the column that dates a row."""

    name: str
    schema: pa.Schema
    partition_by: str


def _table(name: str, partition_by: str, **columns: pa.DataType) -> LakeTable:
    return LakeTable(name, pa.schema(list(columns.items())), partition_by)


REGISTRATIONS = _table(
    "registrations",
    "at",
    tenant=_STR,
    token=_STR,
    platform=_STR,
    user_id=_STR,
    topics=pa.list_(_STR),
    app_version=_STR,
    locale=_STR,
    timezone=_STR,
    op=_STR,  # RegistrationOp: the latest revision of a token says whether it is registered
    reason=_STR,
    revision=_INT,  # grows by one with each change of this tenant's token
    at=_TIME,
    domain=_STR,  # whose contact it is
    previous=_STR,  # the op of the revision before; null for a first one
)

REQUESTS = _table(
    "requests",
    "accepted_at",
    tenant=_STR,
    request_id=_STR,
    notification_id=_STR,
    type=_STR,
    category=_STR,
    priority=_STR,
    title=_STR,
    topics=pa.list_(_STR),
    collapse_key=_STR,
    dry_run=pa.bool_(),
    accepted_at=_TIME,
    send_at=_TIME,
    expires_at=_TIME,
    body=_STR,  # the canonical JSON of the request
    revision=_INT,  # an edit adds a row with the next one, from null; the newest row says what was sent
    domain=_STR,  # whose contacts it is for
)

AUDIT = _table(
    "audit",
    "at",
    audit_id=_STR,
    tenant=_STR,
    request_id=_STR,
    notification_id=_STR,
    event=_STR,
    from_state=_STR,
    to_state=_STR,
    actor=_STR,
    detail=_STR,  # JSON
    at=_TIME,
)

AUDIENCES = _table(
    "audiences",
    "at",
    tenant=_STR,
    request_id=_STR,
    notification_id=_STR,
    channel=_STR,
    platform=_STR,
    recipients=_INT,
    at=_TIME,
)

ATTEMPTS = _table(
    "attempts",
    "sent_at",
    notification_id=_STR,
    tenant=_STR,
    request_id=_STR,
    channel=_STR,
    platform=_STR,
    provider=_STR,
    recipient=_STR,
    user_id=_STR,  # whose it was when it was sent: a token that changes hands takes no history with it
    delivery_id=_STR,
    shard=pa.int32(),  # null for the drain's attempts
    attempt_no=pa.int32(),
    sent_at=_TIME,
    answered_at=_TIME,
    outcome=_STR,
    provider_code=_STR,  # also the reason of a skipped or expired attempt
    provider_message_id=_STR,
    run_id=_STR,
    consent=_STR,  # on what word the recipient was sent to or not, as it was then; null where nobody was asked
)

EVENTS = _table(
    "events",
    "at",
    tenant=_STR,
    event_id=_STR,
    source=_STR,
    type=_STR,
    id=_STR,  # the tenant's own
    state=_STR,  # EventState; the row with the greatest ``at`` says where it stands
    routes=pa.list_(_STR),
    notification_ids=pa.list_(_STR),
    reason=_STR,
    detail=_STR,  # JSON as it was sent
    accepted_at=_TIME,
    at=_TIME,
)

RECEIPTS = _table(
    "receipts",
    "at",  # partitioned by the log file's hour, not by this column: a late line stays with its file
    event=_STR,
    notification_id=_STR,
    platform=_STR,
    provider=_STR,
    delivery_id=_STR,
    at=_TIME,
    action=_STR,  # the button that was clicked; nobody vouches for it
)

QUARANTINE = _table(
    "quarantine",
    "at",  # likewise partitioned by the log file's hour
    source_file=_STR,
    line_no=_INT,
    reason=_STR,
    raw=_STR,  # the first kilobyte, undecodable bytes replaced
    at=_TIME,  # when it was parsed is not recorded: parsing twice must give identical bytes. The file's hour.
)

# One batch's recipients, ready to send; a file per shard under ``snapshots/``.
SNAPSHOT = pa.schema(
    [
        ("recipient", _STR),
        ("platform", _STR),
        ("user_id", _STR),
        ("locale", _STR),
        ("timezone", _STR),
        ("app_version", _STR),
        ("fields", _STR),  # JSON; only in files whose recipients may have fields of their own
    ]
)

# What the lander moves from the outbox.
LANDING_TABLES = {t.name: t for t in (REGISTRATIONS, REQUESTS, AUDIT, AUDIENCES, ATTEMPTS, EVENTS)}
TABLES = {**LANDING_TABLES, RECEIPTS.name: RECEIPTS, QUARANTINE.name: QUARANTINE}
