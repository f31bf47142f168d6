"""Our transport, as a client of the benchmark."""

import asyncio
from pathlib import Path

from benchmarks.fanout_clients.meter import Measurement, Meter
from benchmarks.fanout_clients.workload import APNS, FCM, Job, requests
from notify_pipeline.channels.transport import Answer, End
from notify_pipeline.channels.wire.transport import WireTransport

_TIMEOUT_S = 20.0
# As the APNs channel has it: headers that its provider wants out of its table.
_UNINDEXED = ("authorization",)


def run(job: Job) -> Measurement:
    """Send a job's requests."""
    return asyncio.run(_run(job))


async def _run(job: Job) -> Measurement:
    transport = WireTransport(
        job.target.url(job.shape),
        ca=Path(job.target.ca),
        max_in_flight=job.in_flight,
        timeout_s=_TIMEOUT_S,
        unindexed=_UNINDEXED if job.shape == APNS else (),
    )
    await transport.post_many(requests(job.shape, job.target, job.warm_up), lambda _number, _end: None)
    answered = bytearray(job.count)
    is_fcm = job.shape == FCM

    def on_end(number: int, end: End) -> None:
        if (
            type(end) is Answer
            and end.status == 200
            and (b'"name"' in end.body if is_fcm else "apns-id" in end.headers)
        ):
            answered[number] += 1

    meter = Meter()
    await transport.post_many(requests(job.shape, job.target, job.count), on_end)
    measurement = meter.stop(job.count, answered.count(1))
    await transport.aclose()
    return measurement
