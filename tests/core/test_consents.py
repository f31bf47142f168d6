"""The rule of consent, over whatever users and tenants may have said."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core import consents
from notify_pipeline.core.consents import ALL, Defaults, Pair, Said, decide
from notify_pipeline.core.vocabulary import Channel

CATEGORIES = ("news", "offers")
CHANNELS = (Channel.EMAIL, Channel.SMS)
AT = 1_795_000_000_000_000  # 2026-11-18
PAIRS = [(category, channel) for category in (*CATEGORIES, ALL) for channel in (*map(str, CHANNELS), ALL)]
said = st.dictionaries(st.sampled_from(PAIRS), st.builds(Said, st.booleans(), st.just("api"), st.just(AT)))
defaults = st.dictionaries(
    st.sampled_from((*CATEGORIES, ALL)),
    st.builds(
        Defaults, st.dictionaries(st.sampled_from((*map(str, CHANNELS), ALL)), st.booleans()), mandatory=st.booleans()
    ),
)
sends = st.tuples(st.sampled_from((None, *CATEGORIES)), st.sampled_from(CHANNELS))


@given(send=sends, said=said, defaults=defaults)
def test_who_decided_is_who_spoke_most_particularly(
    send: tuple[str | None, Channel], said: dict[Pair, Said], defaults: dict[str, Defaults]
) -> None:
    category, channel = send
    consent = decide(category, channel, said, defaults)
    mandatory = category is not None and category in defaults and defaults[category].mandatory
    about = [pair for pair in said if pair[0] in (category or ALL, ALL) and pair[1] in (channel, ALL)]
    if mandatory:
        assert consent == (True, "mandatory")
    elif about:
        # The category weighs more than the channel.
        most = max(about, key=lambda pair: (pair[0] != ALL, pair[1] != ALL))
        assert consent == (said[most].enabled, "user:api:2026-11-18")
    else:
        ways = [
            (name != ALL, on != ALL, enabled)
            for name, each in defaults.items()
            for on, enabled in each.channels.items()
            if name in (category or ALL, ALL) and on in (channel, ALL)
        ]
        assert consent == ((max(ways)[2], "policy") if ways else (True, "default"))


@given(send=sends, said=said, defaults=defaults, other=st.sampled_from(PAIRS), enabled=st.booleans())
def test_what_is_said_of_something_else_changes_nothing(
    send: tuple[str | None, Channel],
    said: dict[Pair, Said],
    defaults: dict[str, Defaults],
    other: Pair,
    enabled: bool,
) -> None:
    if other in consents.pairs(*send):
        return
    more = {**said, other: Said(enabled, "page", AT)}
    assert decide(*send, more, defaults) == decide(*send, said, defaults)


@given(one=said, other=said)
def test_of_two_names_the_later_word_counts(one: dict[Pair, Said], other: dict[Pair, Said]) -> None:
    later = {pair: each._replace(at=AT + 1) for pair, each in other.items()}
    assert consents.newest(one, later) == {**one, **later} == consents.newest(later, one)
    for pair, each in consents.newest(one, other).items():
        assert each.enabled == all(given[pair].enabled for given in (one, other) if pair in given)


@given(said=said, send=sends, wanted=st.sampled_from(CHANNELS))
def test_refusing_a_channel_leaves_nothing_that_comes_by_it(
    said: dict[Pair, Said], send: tuple[str | None, Channel], wanted: Channel
) -> None:
    category, channel = send
    new = consents.refusing_all(wanted, said)
    after = {**said, **{pair: Said(bool(enabled), "page", AT) for pair, enabled in new.items()}}
    after = {pair: each for pair, each in after.items() if new.get(pair, True) is not None}
    if channel is wanted:
        assert not decide(category, channel, after, {}).allowed
    else:
        assert decide(category, channel, after, {}) == decide(category, channel, said, {})


@pytest.mark.parametrize(
    ("user_id", "channel", "address", "name"),
    [
        ("u1", Channel.EMAIL, "Ada@Example.com", "user:u1"),
        (None, Channel.EMAIL, "Ada@Example.com", "device:ada@example.com"),
        (None, Channel.FCM, "Token", "device:Token"),
    ],
)
def test_a_mailbox_is_one_recipient_however_it_is_spelled(
    user_id: str | None, channel: Channel, address: str, name: str
) -> None:
    assert consents.recipient(user_id, channel, address) == name


def test_a_stored_policy_is_read_with_a_star_for_all_channels() -> None:
    value: dict[str, Any] = {"channels": {"*": False, "email": True}, "mandatory": True}
    assert Defaults.of(value) == Defaults({ALL: False, "email": True}, mandatory=True)
