"""aioapns, as a client of the benchmark."""

import asyncio
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsProductionClientProtocol
from aioapns.exceptions import ConnectionError, MaxAttemptsExceeded

from benchmarks.fanout_clients.meter import Measurement, Meter
from benchmarks.fanout_clients.workload import COLLAPSE_KEY, TTL_S, Job, apns_payload, apns_token


async def _send(apns: APNs, count: int, in_flight: int) -> int:
    """Send from as many tasks as may be in flight; return how many were answered well."""
    numbers: Iterator[int] = iter(range(count))
    answered = 0

    async def work() -> None:
        nonlocal answered
        for number in numbers:
            request = NotificationRequest(
                device_token=apns_token(number),
                message=apns_payload(f"{number:022d}"),
                time_to_live=TTL_S,
                priority=10,
                collapse_key=COLLAPSE_KEY,
                push_type=PushType.ALERT,
            )
            try:
                result = await apns.send_notification(request)
            except (ConnectionError, MaxAttemptsExceeded):
                continue  # counted as failed
            answered += bool(result.is_successful)

    await asyncio.gather(*(work() for _ in range(min(in_flight, count))))
    return answered


async def _run(job: Job) -> Measurement:
    logging.getLogger("aioapns").setLevel(logging.CRITICAL)
    address = urlsplit(job.target.apns_url)
    # Its way to reach another server.
    APNsProductionClientProtocol.APNS_SERVER = address.hostname or ""
    APNsProductionClientProtocol.APNS_PORT = address.port or 443
    context = ssl.create_default_context(cafile=job.target.ca)
    context.set_alpn_protocols(["h2"])
    apns = APNs(
        key=Path(job.target.apns_key).read_text(),
        key_id=job.target.key_id,
        team_id=job.target.team_id,
        topic=job.target.topic,
        max_connections=1,
        ssl_context=context,
    )
    # APNs allows one stream until it has seen a good token.
    await _send(apns, 1, 1)
    await _send(apns, job.warm_up, job.in_flight)
    meter = Meter()
    answered = await _send(apns, job.count, job.in_flight)
    measurement = meter.stop(job.count, answered)
    apns.pool.close()
    return measurement


def run(job: Job) -> Measurement:
    """Send a job's requests."""
    return asyncio.run(_run(job))
