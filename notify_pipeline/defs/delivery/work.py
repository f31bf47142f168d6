"""What the ops of drain and broadcast share: the context of the functions they wrap, names, errors.

Belongs here: handing resources to ``delivery``, and saying what its errors mean to Dagster. Does not belong here: jobs,
sensors, sending.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.shards import HeldBy
from notify_pipeline.core.settings import Settings

if TYPE_CHECKING:
    from notify_pipeline.delivery.context import DeliveryContext

REQUEST_TAG = "notify/request_id"
TENANT_TAG = "notify/tenant"
# Leases last seconds: whoever waits longer than this waits for a process that renews, and need not.
_MAX_WAITS = 1_000


def delivery_context(settings: Settings, ledger: Ledger, lake: Lake, run_id: str) -> "DeliveryContext":
    """The context that the functions of ``delivery`` take."""
    # Here and in the ops: delivery and channels take half as long to import as Dagster does, and every run worker
    # imports all definitions. Only the runs that send pay for it.
    from notify_pipeline.channels.registry import open_channels
    from notify_pipeline.delivery.context import DeliveryContext

    return DeliveryContext(
        settings=settings,
        ledger=ledger,
        lake=lake,
        open_channels=functools.partial(open_channels, settings, ledger),
        run_id=run_id,
    )


@contextmanager
def errors_translated(lease_s: float) -> Iterator[None]:
    """Say what errors mean: somebody else's lease is waited for, an unknown request is no use to retry.

    Args:
        lease_s: How long a lease lasts that nobody renews, in seconds.

    Raises:
        dagster.RetryRequested: A lease is held; come back when it runs out.
        dagster.Failure: Trying again cannot help.
    """
    try:
        yield
    except HeldBy as held:
        raise dg.RetryRequested(max_retries=_MAX_WAITS, seconds_to_wait=lease_s) from held
    except KeyError as error:
        raise dg.Failure(f"there is no such request: {error}", allow_retries=False) from error
