"""A tenant that keeps sending, as a well-behaved client does: what gets no answer is sent again with the same id."""

import itertools
import threading
import time
from collections.abc import Sequence

import urllib3

from notify_pipeline.commands.demo import traffic
from notify_pipeline.commands.demo.traffic import Api, Device


class Load:
    """Threads that send to single users until stopped; ``accepted`` holds the id and user of every 202."""

    def __init__(
        self, api: Api, devices: Sequence[Device], prefix: str, threads: int = 2, pause_s: float = 0.05
    ) -> None:
        self._api = api
        self._users = sorted({device.user_id for device in devices})
        self._numbers = itertools.count()
        self._prefix, self._pause_s = prefix, pause_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send_until_stopped) for _ in range(threads)]
        self.accepted: dict[str, str] = {}
        self.resent = 0
        self.refused: list[str] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send_until_stopped(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            notification_id, user = f"{self._prefix}-{number}", self._users[number % len(self._users)]
            self._send(notification_id, user)
            time.sleep(self._pause_s)

    def _send(self, notification_id: str, user: str) -> None:
        body = traffic.single_body(notification_id, user)
        for _ in range(100):
            try:
                answer = self._api.call("POST", "/notifications", body)
            except urllib3.exceptions.HTTPError:
                self.resent += 1
                time.sleep(0.1)
                continue
            if answer.status == 202:
                self.accepted[notification_id] = user
                return
            if answer.status < 500:
                break
            self.resent += 1
            time.sleep(0.1)
        self.refused.append(notification_id)
