"""Dagster's code server, whose runs and steps begin warm: ``python -m notify_pipeline.defs.code_server …``.

Belongs here: what is different about our code server. Does not belong here: the server itself and its options, which
are those of ``dagster api grpc``.

Dagster starts each run in a new interpreter, which takes two seconds of a core to import Dagster and the definitions,
and each run with steps of their own then starts a fork server, which imports them again. Here the code server imports
them once, when it starts; its fork server is a copy of it, and runs are forked from that, and so are their steps.
Sensors may wait for their reason (``watching``).
"""

import multiprocessing
import sys
from typing import Any

from notify_pipeline.defs import warm
from notify_pipeline.defs.watching import patience


def main() -> None:
    """Serve until told to stop."""
    warm.start()
    # Here, because every process that is forked runs this module's top level again, as its __main__: it would take each
    # of them 0.2 s of a core.
    import dagster._grpc.server as grpc_server
    from dagster._cli.api import api_cli

    class WarmApiServer(grpc_server.DagsterApiServer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._mp_ctx: Any = multiprocessing.get_context("forkserver")

    # Dagster has no setting for how runs are started. Its version is pinned; tests/e2e/test_crashes.py holds this.
    grpc_server.DagsterApiServer = WarmApiServer  # type: ignore[misc]
    patience.begin()
    try:
        api_cli(["grpc", *sys.argv[1:]])
    finally:
        patience.end()


if __name__ == "__main__":
    main()
