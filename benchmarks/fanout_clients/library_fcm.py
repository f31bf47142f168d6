"""firebase-admin's ``send_each_async``, as a client of the benchmark.

It takes at most 500 messages a call, of which httpx has a hundred under way on its one connection.
"""

import asyncio
import datetime as dt
import os
import sys
from collections import Counter

import firebase_admin
import google.auth.credentials
from firebase_admin import credentials, messaging

from benchmarks.fanout_clients.meter import Measurement, Meter
from benchmarks.fanout_clients.workload import COLLAPSE_KEY, DATA, TTL_S, Job, fcm_path, fcm_token

MAX_CALL = 500
_REASONS = 3


class _Fixed(google.auth.credentials.Credentials):
    """A token that is always good: fetching one is not what is compared."""

    def __init__(self, token: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = token

    def refresh(self, request: object) -> None:
        """Do nothing."""


class _Credential(credentials.Base):  # type: ignore[misc]
    def __init__(self, token: str) -> None:
        self._fixed = _Fixed(token)

    def get_credential(self) -> _Fixed:
        return self._fixed


def _message(number: int) -> messaging.Message:
    android = messaging.AndroidConfig(collapse_key=COLLAPSE_KEY, priority="high", ttl=dt.timedelta(seconds=TTL_S))
    return messaging.Message(token=fcm_token(number), data=DATA, android=android)


async def _send(count: int, at_once: int, app: firebase_admin.App) -> int:
    answered = 0
    reasons: Counter[str] = Counter()
    for start in range(0, count, at_once):
        messages = [_message(number) for number in range(start, min(start + at_once, count))]
        batch = await messaging.send_each_async(messages, app=app)
        answered += sum(bool(response.success and response.message_id) for response in batch.responses)
        reasons.update(repr(response.exception) for response in batch.responses if not response.success)
    for reason, times in reasons.most_common(_REASONS):
        print(f"firebase-admin: {times} failed with {reason}", file=sys.stderr)
    return answered


def run(job: Job) -> Measurement:
    """Send a job's requests, in calls of as many as may be in flight."""
    os.environ["SSL_CERT_FILE"] = job.target.ca  # httpx trusts what this names
    app = firebase_admin.initialize_app(_Credential(job.target.bearer), {"projectId": job.target.project})
    # The library has no public setting for another server.
    messaging._get_messaging_service(app)._fcm_url = job.target.fcm_url + fcm_path(job.target)
    at_once = min(job.in_flight, MAX_CALL)

    async def main() -> Measurement:
        await _send(job.warm_up, at_once, app)
        meter = Meter()
        answered = await _send(job.count, at_once, app)
        return meter.stop(job.count, answered)

    return asyncio.run(main())
