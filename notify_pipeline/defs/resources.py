"""What ops, assets and sensors are handed: settings, and the stores opened from them.

Belongs here: one resource per thing, opened for one run (or step, or sensor tick) and closed after it. Does not belong
here: the things themselves. Nothing is read or opened at import.
"""

from collections.abc import Iterator

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.receipts.logs import Logs


@dg.resource(description="The settings as the environment has them when the run starts.")
def settings(context: dg.InitResourceContext) -> Settings:
    """Read them."""
    return Settings()


@dg.resource(required_resource_keys={"settings"}, description="The ledger, open for as long as the run.")
def ledger(context: dg.InitResourceContext) -> Iterator[Ledger]:
    """Open and close it."""
    with Ledger.open(_settings(context).ledger_dsn) as opened:
        yield opened


@dg.resource(required_resource_keys={"settings"}, description="The lake: Parquet tables below one root.")
def lake(context: dg.InitResourceContext) -> Lake:
    """Point at its root."""
    found = _settings(context)
    return Lake(found.lake, found.s3_endpoint_url)


@dg.resource(required_resource_keys={"settings"}, description="The store that raw CDN logs arrive in.")
def logs(context: dg.InitResourceContext) -> Logs:
    """Point at its root."""
    found = _settings(context)
    return Logs(found.logs, found.s3_endpoint_url, found.log_formats)


def make_resources() -> dict[str, object]:
    """One of each, by the names that ops and sensors ask for."""
    return {"settings": settings, "ledger": ledger, "lake": lake, "logs": logs}


def _settings(context: dg.InitResourceContext) -> Settings:
    found = context.resources.settings
    if not isinstance(found, Settings):
        raise TypeError(f"the resource settings is a {type(found).__name__}")
    return found
