"""Which faults the stand-ins show, and the draws that decide when.

Belongs here: the model of ``PUT /faults`` and the random or keyed draws. Does not belong here: what a fault looks like
on the wire (``standin``, ``h2server``, ``cdn``).

Whether a token is unregistered is a property of the token, so that it is the same at every retry. Throttling,
unavailability, resets and hangs are drawn anew for each request. The default is no fault at all.
"""

import hashlib
import random
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Rate = Annotated[float, Field(ge=0, le=1)]
Millis = Annotated[float, Field(ge=0, le=600_000)]


class Fault(StrEnum):
    """What befalls one request."""

    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"
    RESET = "reset"
    RESET_AFTER_PROCESSING = "reset_after_processing"
    HANG = "hang"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProviderFaults(_Model):
    """Rates for one provider. The per-request ones exclude each other, so they add up to at most 1."""

    unregistered: Rate = Field(default=0, description="Share of tokens that are dead (FCM 404, APNs 410).")
    dead: frozenset[str] = Field(
        default=frozenset(), max_length=10_000, description="Tokens that are dead besides, each by name."
    )
    unregistered_age_s: float = Field(
        default=0, ge=0, le=10**8, description="APNs 410: how long ago its timestamp says."
    )
    throttled: Rate = Field(default=0, description="429.")
    unavailable: Rate = Field(default=0, description="503.")
    internal: Rate = Field(default=0, description="500.")
    reset: Rate = Field(default=0, description="No answer, and the request was not processed.")
    reset_after_processing: Rate = Field(default=0, description="No answer, but the device gets it.")
    hang: Rate = Field(default=0, description="No answer, ever; not processed.")
    retry_after_s: int | None = Field(default=None, ge=0, description="Retry-After of 429 and 503; none when null.")
    quota: int | None = Field(
        default=None,
        ge=0,
        description="Requests that are taken in one window; the rest are 429, with what is left of it as Retry-After.",
    )
    quota_window_s: float = Field(
        default=60,
        gt=0,
        le=86_400,
        description="How long a window is; it begins with the first request after the last.",
    )
    latency_ms: Millis = Field(default=0, description="From request to answer.")
    latency_jitter_ms: Millis = Field(default=0, description="Up to this much more, uniformly.")

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if sum(getattr(self, fault) for fault in Fault) > 1:
            raise ValueError(f"the rates of {', '.join(Fault)} add up to more than 1")
        return self

    @cached_property
    def bounds(self) -> list[tuple[Fault, float]]:
        """The per-request faults that can happen, each with the upper end of its part of [0, 1)."""
        bounds, upper = [], 0.0
        for fault in Fault:
            rate = float(getattr(self, fault))
            upper += rate
            if rate:
                bounds.append((fault, upper))
        return bounds


class SmsFaults(ProviderFaults):
    """Rates for the SMS provider; its dead numbers are refused as no mobile numbers (21614)."""

    undelivered: Rate = Field(
        default=0, description="Share of numbers that a message is accepted for, and then said to be unknown (30005)."
    )


class DeviceFaults(_Model):
    """What devices do with a push. Drawn from the delivery id, so the same at every repetition."""

    receive: Rate = Field(default=1, description="Share of accepted pushes that reach their device.")
    open: Rate = Field(default=0, description="Share of received ones that are opened.")
    click: Rate = Field(default=0, description="Share of opened ones that are clicked.")
    twice: Rate = Field(default=0, description="Share of beacons that are called twice.")
    delay_ms: Millis = Field(default=0, description="Shortest time from acceptance to device.")
    delay_mean_ms: Millis = Field(default=0, description="Mean of the exponential part on top.")
    delay_max_ms: Millis = Field(default=60_000, description="Longest time from acceptance to device.")


class CdnFaults(_Model):
    """Disorder of the log files, per genuine line."""

    late: Rate = Field(default=0, description="The line appears in a later file.")
    repeated: Rate = Field(default=0, description="The line appears twice.")
    garbage: Rate = Field(default=0, description="A line that does not parse appears beside it.")
    other_paths: Rate = Field(default=0, description="A line of another path appears beside it.")


class Faults(_Model):
    """All faults at once: the body of ``PUT /faults`` and ``GET /faults``. What is left out is off."""

    seed: int = Field(
        default=1, ge=0, lt=2**63, description="Makes draws repeatable, as far as the order of requests is."
    )
    fcm: ProviderFaults = ProviderFaults(retry_after_s=1)
    apns: ProviderFaults = ProviderFaults()
    email: ProviderFaults = ProviderFaults()
    sms: SmsFaults = SmsFaults()
    webpush: ProviderFaults = ProviderFaults(retry_after_s=1)
    devices: DeviceFaults = DeviceFaults()
    cdn: CdnFaults = CdnFaults()


class FaultBook:
    """The faults in force, and the draws."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.set(faults or Faults())

    def set(self, faults: Faults) -> None:
        """Replace all faults and start the draws anew from the seed."""
        self.current = faults
        self.random = random.Random(faults.seed)  # noqa: S311 - repeatable on purpose
        self._key = faults.seed.to_bytes(8, "big")

    def draw(self, rates: ProviderFaults) -> Fault | None:
        """Draw what befalls one request, None for nothing."""
        point = self.random.random()
        for fault, bound in rates.bounds:
            if point < bound:
                return fault
        return None

    def dead_since(self, rates: ProviderFaults, now: datetime) -> datetime:
        """Return since when a dead token is said to be dead."""
        return now - timedelta(seconds=rates.unregistered_age_s)

    def latency_s(self, rates: ProviderFaults) -> float:
        """Draw the time from request to answer, in seconds."""
        if not rates.latency_ms and not rates.latency_jitter_ms:
            return 0.0
        return (rates.latency_ms + self.random.random() * rates.latency_jitter_ms) / 1000

    def is_dead(self, rates: ProviderFaults, token: str) -> bool:
        """Tell whether this token is one of the unregistered share. The same answer for the same seed and rate."""
        if token in rates.dead:
            return True
        return rates.unregistered > 0 and self.share(token, "unregistered") < rates.unregistered

    def share(self, subject: str, purpose: str) -> float:
        """Return a number in [0, 1) that belongs to the subject and the purpose under this seed."""
        digest = hashlib.blake2b(subject.encode(), digest_size=8, key=self._key, person=purpose.encode()[:16]).digest()
        return int.from_bytes(digest, "big") / 2**64
