from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import OnAmbiguous, Outcome
from notify_pipeline.delivery.retry import Again, Final, GaveUp, Jitter, RetryPolicy, Wishes

NOW = 1_800_000_000_000_000
FAR = NOW + 86_400_000_000
OUTCOMES = st.sampled_from(Outcome)
DRAWS = st.floats(0, 1, exclude_max=True)


def policy(draw: float = 0.5, attempts: int = 6, base_s: float = 0.5, cap_s: float = 60.0) -> RetryPolicy:
    return RetryPolicy(attempts, base_s, cap_s, lambda: draw)


@given(
    outcome=OUTCOMES,
    attempt_no=st.integers(1, 200),
    draw=DRAWS,
    lifetime=st.integers(-10, 10**9),
    retry_after=st.none() | st.floats(-5, 10_000),
    retry=st.booleans(),
    on_ambiguous=st.sampled_from(OnAmbiguous),
)
def test_an_attempt_is_never_due_after_expiry_before_retry_after_or_beyond_the_bound(
    outcome: Outcome,
    attempt_no: int,
    draw: float,
    lifetime: int,
    retry_after: float | None,
    retry: bool,
    on_ambiguous: OnAmbiguous,
) -> None:
    wishes = Wishes(NOW + lifetime, retry, on_ambiguous)
    rule = policy(draw)
    decision = rule.after(outcome, attempt_no, NOW, wishes, retry_after)
    if isinstance(decision, Final):
        assert outcome.is_retryable == (decision.reason is not None)
        return
    assert outcome.is_retryable
    assert attempt_no < rule.attempts
    floor_s = max(0.0, retry_after or 0.0)
    wait_s = (decision.due_at - NOW) / 1e6
    assert floor_s - 1e-6 <= wait_s <= floor_s + rule.bound_s(attempt_no) + 1e-6
    assert NOW <= decision.due_at < wishes.expires_at
    assert retry or outcome is Outcome.AMBIGUOUS
    assert outcome is not Outcome.AMBIGUOUS or on_ambiguous is OnAmbiguous.RESEND


@given(attempt_no=st.integers(1, 10_000), base_s=st.floats(0.001, 10), cap_s=st.floats(0.001, 1000))
def test_the_bound_doubles_until_its_cap(attempt_no: int, base_s: float, cap_s: float) -> None:
    rule = policy(base_s=base_s, cap_s=cap_s)
    here, after = rule.bound_s(attempt_no), rule.bound_s(attempt_no + 1)
    assert here <= after <= cap_s
    assert after == min(cap_s, 2 * here) or here == cap_s


@given(outcome=OUTCOMES, lives=st.integers(1, 12))
def test_a_delivery_that_always_fails_ends_after_its_attempts(outcome: Outcome, lives: int) -> None:
    rule = policy(attempts=lives)
    attempt_no, now = 1, NOW
    while isinstance(decision := rule.after(outcome, attempt_no, now, Wishes(FAR)), Again):
        attempt_no, now = attempt_no + 1, decision.due_at
        assert attempt_no <= lives
    assert attempt_no == (lives if outcome.is_retryable else 1)


def test_every_reason_is_given() -> None:
    rule = policy()
    assert rule.after(Outcome.ACCEPTED, 1, NOW, Wishes(FAR)) == Final()
    assert rule.after(Outcome.TRANSIENT, 6, NOW, Wishes(FAR)) == Final(GaveUp.ATTEMPTS)
    assert rule.after(Outcome.TRANSIENT, 1, NOW, Wishes(FAR, retry=False)) == Final(GaveUp.NO_RETRY)
    assert rule.after(Outcome.THROTTLED, 1, NOW, Wishes(NOW + 10_000_000), 10.0) == Final(GaveUp.EXPIRES)
    leave = Wishes(FAR, on_ambiguous=OnAmbiguous.LEAVE)
    assert rule.after(Outcome.AMBIGUOUS, 1, NOW, leave) == Final(GaveUp.LEFT)
    assert rule.after(Outcome.AMBIGUOUS, 1, NOW, Wishes(FAR, retry=False)) == Again(NOW + 250_000)


def test_retry_after_may_exceed_the_cap() -> None:
    assert policy(draw=0.0).after(Outcome.THROTTLED, 1, NOW, Wishes(FAR), 600.0) == Again(NOW + 600_000_000)


def test_settings_make_the_policy() -> None:
    rule = RetryPolicy.of(Settings(retry_attempts=3, retry_base_s=2.0, retry_cap_s=5.0), lambda: 0.0)
    assert (rule.attempts, rule.bound_s(1), rule.bound_s(2), rule.bound_s(3)) == (3, 2.0, 4.0, 5.0)


@given(attempt_no=st.integers(1, 5), draw=DRAWS, retry_after=st.none() | st.floats(0, 100))
def test_without_jitter_every_wait_is_its_bound(attempt_no: int, draw: float, retry_after: float | None) -> None:
    rule = RetryPolicy(6, 0.5, 60.0, lambda: draw, Jitter.NONE)
    wait_s = rule.bound_s(attempt_no) + (retry_after or 0.0)
    assert rule.after(Outcome.TRANSIENT, attempt_no, NOW, Wishes(FAR), retry_after) == Again(NOW + round(wait_s * 1e6))
