"""libcurl's multi interface through pycurl, driven as fast as Python can drive it.

Belongs here: handles, one loop over ``CurlMulti.perform``, each result read once. Does not belong here: what is sent
and what an answer must say (``workload``), time and memory (``meter``).

There is no event loop and no callback of ours: ``socket_action`` under asyncio costs half as much again. A connection
carries all streams; a handle keeps its options and gets a new body, and where it changes a new address.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pycurl

from benchmarks.fanout_clients.meter import Measurement, Meter
from benchmarks.fanout_clients.workload import FCM, Job, requests
from notify_pipeline.channels.transport import Request

_TIMEOUT_S = 20
_SELECT_S = 1.0


class CurlClient:
    """Posts requests over one connection, up to ``in_flight`` at a time."""

    def __init__(self, url: str, ca: Path, in_flight: int, read_headers: bool) -> None:
        """Prepare the handles.

        Args:
            url: Scheme, host and port.
            ca: What the server's certificate must chain to.
            in_flight: Requests under way at once.
            read_headers: Collect the answers' headers too, where an answer's proof is one of them.
        """
        self._url = url
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
        self._multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, in_flight)
        self._parts: dict[pycurl.Curl, list[bytes]] = {}
        self._idle = [self._handle(ca, read_headers) for _ in range(in_flight)]
        self._numbers: dict[pycurl.Curl, int] = {}
        self._paths: dict[pycurl.Curl, str] = {}

    def _handle(self, ca: Path, read_headers: bool) -> pycurl.Curl:
        curl = pycurl.Curl()
        parts: list[bytes] = []
        self._parts[curl] = parts
        curl.setopt(pycurl.WRITEFUNCTION, parts.append)
        if read_headers:
            curl.setopt(pycurl.HEADERFUNCTION, parts.append)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
        curl.setopt(pycurl.PIPEWAIT, 1)
        curl.setopt(pycurl.CAINFO, str(ca))
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.NOPROXY, "*")
        curl.setopt(pycurl.TIMEOUT, _TIMEOUT_S)
        return curl

    def post_many(self, requests: Iterator[Request], on_end: Callable[[int, int, bytes], None]) -> None:
        """Send all; report each one's number, status (0 for none) and what was collected of its answer."""
        drawn = False
        while True:
            while self._idle and not drawn:
                request = next(requests, None)
                if request is None:
                    drawn = True
                else:
                    self._start(self._idle.pop(), request)
            if not self._numbers:
                return
            self._multi.perform()
            if not self._collect(on_end):
                self._multi.select(_SELECT_S)

    def _start(self, curl: pycurl.Curl, request: Request) -> None:
        if self._paths.get(curl) != request.path:
            if curl not in self._paths:
                curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in request.headers])
            curl.setopt(pycurl.URL, self._url + request.path)
            self._paths[curl] = request.path
        curl.setopt(pycurl.POSTFIELDS, request.body)
        self._numbers[curl] = request.number
        self._multi.add_handle(curl)

    def _collect(self, on_end: Callable[[int, int, bytes], None]) -> bool:
        """Report what ended; tell whether anything did."""
        left, ended = 1, False
        while left:
            left, succeeded, failed = self._multi.info_read(len(self._numbers))
            for curl in succeeded:
                self._end(curl, curl.getinfo(pycurl.RESPONSE_CODE), on_end)
            for curl, _errno, _text in failed:
                self._end(curl, 0, on_end)
            ended = ended or bool(succeeded or failed)
        return ended

    def _end(self, curl: pycurl.Curl, status: int, on_end: Callable[[int, int, bytes], None]) -> None:
        self._multi.remove_handle(curl)
        parts = self._parts[curl]
        collected = b"".join(parts)
        parts.clear()
        self._idle.append(curl)
        on_end(self._numbers.pop(curl), status, collected)

    def close(self) -> None:
        """Close the connection."""
        for curl in self._idle:
            curl.close()
        self._multi.close()


def run(job: Job) -> Measurement:
    """Send a job's requests."""
    target = job.target
    client = CurlClient(target.url(job.shape), Path(target.ca), job.in_flight, read_headers=job.shape != FCM)
    client.post_many(requests(job.shape, target, job.warm_up), lambda _number, _status, _answer: None)
    answered = bytearray(job.count)
    proof = b'"name"' if job.shape == FCM else b"apns-id:"

    def on_end(number: int, status: int, answer: bytes) -> None:
        if status == 200 and proof in answer:
            answered[number] += 1

    meter = Meter()
    client.post_many(requests(job.shape, target, job.count), on_end)
    measurement = meter.stop(job.count, answered.count(1))
    client.close()
    return measurement
