"""The settings of reports: how they are built, when they settle, how long what they are made of is kept.

Belongs here: those names, defaults and what they mean. Does not belong here: where reports lie, beside every other
place (``settings``); the reading of any setting.
"""

from datetime import UTC, datetime

from pydantic import Field
from pydantic_settings import BaseSettings


class ReportSettings(BaseSettings):
    """A part of ``Settings``."""

    receipts_from: datetime = Field(
        default=datetime(2026, 1, 1, tzinfo=UTC), description="The first hour of logs; earlier ones are not looked at."
    )
    duckdb_memory: str = Field(default="1GB", description="What DuckDB may take, to read reports and to build them.")
    report_memory: str = Field(
        default="64MB",
        description="... to build them at first: what does not fit is spilled to disk, which takes next to no longer. "
        "What cannot be spilled is built again with duckdb_memory.",
    )
    duckdb_threads: int = 2
    settle_hours: float = Field(
        default=3.0, description="A report settles when logs are read this far past its last attempt."
    )
    report_versions_kept: int = Field(
        default=50, ge=1, description="So many of the last report versions are kept, for as_of and for readers."
    )
    report_version_days: int = Field(
        default=30, ge=0, description="... and for so many days the last version of each day."
    )
    dashboard_session_hours: float = Field(
        default=12.0, gt=0, le=720, description="Who signed in to the dashboard has to again after this."
    )
    sign_ins_per_minute: int = Field(
        default=10, ge=1, description="Attempts to sign in to the dashboard per minute from each address."
    )
    dagster_url: str | None = Field(
        default=None, description="Where operators reach the Dagster UI; the operations page links to it."
    )
    erasure_settle_s: float = Field(
        default=600.0,
        ge=0,
        description="How long after an erasure's first way through the lake it is gone through again: longer than any "
        "process that was sending then takes to write down to whom.",
    )

    lake_registrations_days: int | None = Field(
        default=None,
        ge=1,
        description="Days of the lake's registrations that are kept whole; of older ones only each token's last word. "
        "None, here and below: for ever.",
    )
    lake_requests_days: int | None = Field(default=None, ge=1, description="Days of requests that are kept.")
    lake_audiences_days: int | None = Field(default=None, ge=1, description="... of audiences.")
    lake_audit_days: int | None = Field(default=None, ge=1, description="... of the audit trail in the lake.")
    lake_attempts_days: int | None = Field(default=None, ge=1, description="... of attempts.")
    lake_events_days: int | None = Field(default=None, ge=1, description="... of events.")
    lake_receipts_days: int | None = Field(default=None, ge=1, description="... of receipts.")
    lake_quarantine_days: int | None = Field(
        default=30, ge=1, description="... of quarantined log lines: time enough to look into them."
    )
    lake_snapshots_days: int | None = Field(
        default=90,
        ge=1,
        description="... of broadcasts' recipient lists after their last change; for a broadcast without its list no "
        "recipients are shown any more. One that is not over keeps its list.",
    )
    lake_extracts_days: int | None = Field(default=None, ge=1, description="... of extracts of reports.")
