"""A drain in a process of its own that tells callbacks, for tests that kill it.

Run as ``python -m tests.delivery.callback_worker <folder> <ledger url>``.
"""

import sys
import threading

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.vocabulary import Channel, Outcome
from notify_pipeline.delivery.drain import run_drain
from tests.delivery.fakes import FakeSender, context


def main(folder: str, url: str) -> None:
    with Ledger.open(url) as ledger:
        sender = FakeSender(Channel.FCM, lambda *_: Outcome.ACCEPTED)
        quick = {
            "lease_seconds": 2.5,
            "callback_timeout_s": 1.0,
            "drain_idle_seconds": 60.0,
            "callback_retry_base_s": 0.0001,
        }
        ctx = context(ledger, Lake(f"{folder}/lake"), sender, callback_allow_private=True, **quick)
        run_drain(ctx, threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:])
