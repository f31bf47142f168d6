"""The token bucket of one provider credential: how much may be sent now, and what a provider's pause does to that.

Belongs here: the arithmetic, pure; every time is handed in, in microseconds since the epoch. Does not belong here:
where the bucket is kept (``ledger.rates``), who waits for tokens (``channels.rates``), which limit a provider has
(``settings``).

The rate rises linearly from a tenth to the whole over a minute whenever nothing was asked for during a minute, and
after every pause that a provider asked for. Google's guide calls sudden spikes the problem and asks to raise the rate
gradually (https://firebase.google.com/docs/cloud-messaging/scale-fcm); a minute is the length of its quota's window.

Where tokens are scarce, high priority comes first: each priority leaves some of the bucket to those above it, so that
these find tokens whatever the lower ones would take, and take all there are as long as they need them. Nobody starves:
for a sixteenth of the time all priorities are equal. While higher ones want everything, a lower one gets its share of
that, some 3 % of the rate; alone it gets all of it. A limit of two per second leaves nothing to keep: all are equal.

Clocks jump. One that was set back by little (hosts that disagree) mints nothing and stalls for as long; by more, all
that is stored moves along. One that was set forward mints one burst at most.
"""

from dataclasses import dataclass, replace

RAMP_S = 60.0
RAMP_FLOOR = 0.1
IDLE_S = 60.0
# Tokens that nobody took are kept for this long: longer than an answer takes, far from a spike.
BURST_S = 0.5
# What each priority leaves to the one above it: more than is minted between two visits of a process that is short of
# tokens (``channels.rates`` comes every tenth of a second), so that lower ones do not collect between its visits; and
# for both steps together less than the burst, so that the lowest finds a slice when it is alone.
RESERVE_S = 0.15
# How often and for how long nobody leaves anything: longer than the pause between two visits of whoever gets nothing.
EQUAL_EVERY_S = 8.0
EQUAL_S = 0.5
# After a pause, a credential without a limit ramps up to the rate it had before, or to this one if that was lower:
# a tenth of FCM's default quota, per second.
STARTING_PER_S = 1_000.0
# No provider asks for more (``channels.retry_after``); a stored pause that is longer comes from a clock gone wrong.
MAX_HOLD_S = 3_600.0
# Hosts that share a ledger keep their clocks closer together than this.
MAX_SKEW_S = 2.0

_MICROS = 1_000_000
_RAMP = round(RAMP_S * _MICROS)
_IDLE = round(IDLE_S * _MICROS)
_MAX_HOLD = round(MAX_HOLD_S * _MICROS)
_MAX_SKEW = round(MAX_SKEW_S * _MICROS)
_EQUAL_EVERY = round(EQUAL_EVERY_S * _MICROS)
_EQUAL = round(EQUAL_S * _MICROS)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be sent with a credential.

    Attributes:
        per_minute: Requests per minute once the ramp is over; None for as many as there are.
    """

    per_minute: float | None

    def __post_init__(self) -> None:
        """Refuse what could never grant anything."""
        if self.per_minute is not None and not self.per_minute > 0:
            raise ValueError("a limit must be larger than 0")


@dataclass(frozen=True, slots=True)
class State:
    """A bucket at one moment.

    Attributes:
        tokens: Requests that may be sent at once.
        at: When that was so.
        ramp_from: When the rate began to rise.
        held_until: Nothing is granted before.
        pace: Requests per second that the ramp after a pause leads up to where there is no limit.
    """

    tokens: float
    at: int
    ramp_from: int
    held_until: int = 0
    pace: float = STARTING_PER_S


def fresh(now: int) -> State:
    """Return the bucket of a credential that was never used: empty, at the foot of the ramp."""
    return State(0.0, now, now)


def is_free(state: State | None, limits: Limits, now: int) -> bool:
    """Say whether there is nothing to count: no limit, no pause, and the ramp after the last pause is over."""
    if limits.per_minute is not None:
        return False
    if state is None or state.held_until == 0:
        return True
    state = _moved(state, now)
    return now >= state.held_until + _RAMP


def rate_at(state: State, limits: Limits, moment: int) -> float:
    """Return the rate at a moment, in requests per second."""
    whole = state.pace if limits.per_minute is None else limits.per_minute / 60
    risen = min(max(moment - state.ramp_from, 0), _RAMP) / _RAMP
    return whole * (RAMP_FLOOR + (1 - RAMP_FLOOR) * risen)


def kept_from(rank: int, per_s: float, now: int) -> float:
    """Return how many tokens a priority leaves to those above it.

    Args:
        rank: The priority's; 0 leaves none.
        per_s: The rate.
        now: Microseconds since the epoch.
    """
    if now % _EQUAL_EVERY < _EQUAL:
        return 0.0
    return _reserve(rank, per_s)


def take(state: State, limits: Limits, now: int, wanted: int, rank: int = 0) -> tuple[State, int, float]:
    """Take up to ``wanted`` tokens out of a bucket.

    Args:
        state: The bucket as it was left.
        limits: The credential's limits.
        now: Microseconds since the epoch.
        wanted: At least 1.
        rank: The priority's: those below the highest leave it some.

    Returns:
        The bucket afterwards; how many were granted; and where that is none, the seconds until there is one, if nobody
        else takes any.
    """
    if wanted < 1:
        raise ValueError("take at least one token")
    state = _moved(state, now)
    if now < state.held_until:
        return replace(state, at=max(state.at, now)), 0, (state.held_until - now) / _MICROS
    if is_free(state, limits, now):
        return replace(state, at=max(state.at, now)), wanted, 0.0
    state = _refilled(state, limits, now)
    per_s = rate_at(state, limits, now)
    kept = kept_from(rank, per_s, now)
    granted = min(wanted, max(0, int(state.tokens - kept)))
    if granted:
        return replace(state, tokens=state.tokens - granted), granted, 0.0
    return state, 0, (1 + _reserve(rank, per_s) - state.tokens) / per_s


def hold(state: State, now: int, until: int, pace: float = 0.0) -> State:
    """Grant nothing before a moment, and ramp up from there; a pause that lasts longer already is left as it is.

    Args:
        state: The bucket.
        now: Microseconds since the epoch.
        until: Likewise; no more than ``MAX_HOLD_S`` later.
        pace: Requests per second that were sent before the pause.
    """
    state = _moved(state, now)
    until = max(state.held_until, min(until, now + _MAX_HOLD))
    if until <= now:
        return state
    again = now < state.held_until + _RAMP  # in the ramp of an earlier pause the pace says nothing new
    pace = max(state.pace if again else STARTING_PER_S, pace)
    return State(0.0, max(state.at, now), until, until, pace)


def _moved(state: State, now: int) -> State:
    """Follow a clock that was set back, so that nothing waits for the time it once showed."""
    back = state.at - now
    if back > _MAX_SKEW:
        held_until = max(0, state.held_until - back)
        state = replace(state, at=now, ramp_from=state.ramp_from - back, held_until=held_until)
    if state.held_until > now + _MAX_HOLD:
        until = now + _MAX_HOLD
        state = replace(state, held_until=until, ramp_from=until)
    return state


def _refilled(state: State, limits: Limits, now: int) -> State:
    since = max(state.at, state.held_until)
    if now <= since:
        return state
    if now - since >= _IDLE:
        state = replace(state, ramp_from=now)
    # Linear in between: the mean of both ends is exact within the ramp, and below the truth where it ends in between.
    rate = rate_at(state, limits, now)
    tokens = state.tokens + (rate_at(state, limits, since) + rate) / 2 * (now - since) / _MICROS
    return replace(state, tokens=min(tokens, _capacity(rate)), at=now)


def _capacity(per_s: float) -> float:
    # A bucket that holds less than one token would never give one.
    return max(1.0, per_s * BURST_S)


def _reserve(rank: int, per_s: float) -> float:
    return min(rank * RESERVE_S * per_s, _capacity(per_s) - 1)
