"""The settings of raw logs: what they look like, and how late they come.

Belongs here: those names, defaults and what they mean. Does not belong here: where logs lie, beside every other place
(``settings``); the reading of any setting.
"""

from pydantic import Field
from pydantic_settings import BaseSettings

from notify_pipeline.core.vocabulary import LogFormat


class LogSettings(BaseSettings):
    """A part of ``Settings``."""

    log_formats: dict[str, LogFormat] = Field(
        default_factory=dict,
        description='What the lines of a source look like, as JSON: {"cdn-eu": "cloudfront"}. Formats: fastly, '
        "cloudfront, cloudfront_json, combined. Default: each file's first lines tell.",
    )
    log_alarm_sends: int = Field(
        default=1_000,
        ge=1,
        description="When a provider accepted so many sends in an hour and no beacon came since, the logs' freshness "
        "check fails. Fewer say nothing: nights are quiet.",
    )
    # Fastly writes a file when its period is over, 3,600 s by default; CloudFront usually delivers within an hour.
    log_delay_minutes: float = Field(
        default=60.0,
        ge=0,
        description="How late the CDNs may deliver a log file: logs count as looked through up to this long ago. What "
        "comes later corrects the reports all the same.",
    )
