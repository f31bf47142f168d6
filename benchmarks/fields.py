"""What personal fields cost per recipient: microseconds to make one request's body, and their ratio to one without any.

FCM's body for a browser, and a web push's before it is encrypted, of the same content with no field, with what
registrations know, and with fields that came with the send. Rounds alternate; the best of each counts, because other
processes only ever add.

    python -m benchmarks.fields [--recipients 100000] [--rounds 7]
"""

import argparse
import timeit
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from notify_pipeline.channels.fcm.message import FcmCodec
from notify_pipeline.channels.webpush import message as webpush
from notify_pipeline.core.records import Audience, Content, Notification, Recipient, Visitor
from notify_pipeline.core.vocabulary import Platform

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RECEIPTS = "https://receipts.example.com"
DELIVERY = "d" * 40
TOKEN = "cTokenTokenTokenToken0:APA91b" + "x" * 134  # noqa: S105 - the form of a token
WHO = Recipient(TOKEN, Platform.WEB, "user-42", "en-GB", "Europe/London", fields='{"name":"Ann","City":"London"}')
VISITORS = Audience(domain="example.com", visitors=(Visitor("guid", {}),))
KINDS = {
    "none": ("Hello you", "News of it", Audience()),
    "usual": ("Hello [[[user_id]]]", "News in [[[locale]]]", Audience()),
    "own": ("Hello [[[name]]]", "News of [[[city]]]", VISITORS),
}


def made(kind: str) -> dict[str, Callable[[], object]]:
    """Return what makes one recipient's body, by channel."""
    title, body, audience = KINDS[kind]
    content = Content(title, body, "https://example.com/1", data={"section": "politics"})
    sent = Notification("t", "r", "n", "news", audience, content, NOW, NOW + timedelta(hours=1))
    codec = FcmCodec("project", RECEIPTS)
    render = codec.renderer(codec.prepare(sent, Platform.WEB), NOW)
    plain = webpush.prepare(sent, Platform.WEBPUSH, RECEIPTS).plaintext
    return {"fcm": lambda: render(WHO, DELIVERY), "webpush": lambda: plain(WHO, DELIVERY)}


def main() -> None:
    """Measure, and print microseconds and ratios."""
    parser = argparse.ArgumentParser(description="What personal fields cost.")
    parser.add_argument("--recipients", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    work = {(channel, kind): make for kind in KINDS for channel, make in made(kind).items()}
    best: dict[tuple[str, str], float] = {}
    for _ in range(asked.rounds):
        for key, make in work.items():
            took = timeit.timeit(make, number=asked.recipients) / asked.recipients * 1e6
            best[key] = min(took, best.get(key, took))
    for (channel, kind), took in sorted(best.items()):
        print(f"{channel:8} {kind:6} {took:5.2f} µs  {took / best[channel, 'none']:5.1f} ×")


if __name__ == "__main__":
    main()
