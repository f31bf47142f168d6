"""What routes hold their sends to is what callers' sends are held to."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest_api.notifications.models import NewSend
from notify_pipeline.core import send_checks
from tests.examples import examples

MOST = 10
SIZES = (0, 1, 999, 1_000, 1_001, 4_096, 4_097, 20_000, 20_001, 102_400, 102_401)
TEXTS = st.text("aé\x00\n\ud800😀", max_size=3) | st.sampled_from(SIZES).map("x".__mul__)
LINKS = TEXTS | st.sampled_from(
    ["https://a", "http://a b", "app://x", "https://", "https://" + "a" * 2_048, "a" * 2_049]
)
KEYS = st.sampled_from(["a", "", "d", "aps", "google.x", "gcm.", "receipt", "a\x01", "é", "k" * 100, "k" * 101])
DATA = (
    TEXTS.map(lambda text: {"a": text})
    | KEYS.map(lambda key: {key: "x"})
    | st.sampled_from([0, 100, 101]).map(lambda number: {str(n): "" for n in range(number)})
)
FIELDS = {"title": TEXTS, "body": TEXTS, "html": TEXTS, "link": LINKS, "image_url": LINKS, "icon_url": LINKS}
ACTION = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["a", "b-._9", "", "a b", "é", "a\n", "x" * 64, "x" * 65]),
        "title": TEXTS | st.just("t"),
    },
    optional={"link": LINKS, "icon_url": LINKS},
)
ACTIONS = st.lists(ACTION, max_size=2) | st.integers(0, 5).map(
    lambda n: [{"action": str(i), "title": "t"} for i in range(n)]
)
# One thing that may be wrong at a time, beside what is right.
ODD = st.one_of(
    *(
        of.map(lambda value, name=name: {name: value})
        for name, of in {**FIELDS, "data": DATA, "actions": ACTIONS}.items()
    )
)
NULLS = st.dictionaries(st.sampled_from(["title", "body", "data"]), st.none())
CONTENT = st.builds(lambda base, odd: {**base, **odd}, st.sampled_from([{}, {"title": "t"}, {"body": "b"}]), ODD)
OVERRIDE = st.builds(lambda nulls, odd: {**nulls, **odd}, NULLS, ODD | st.just({}))
MEMBERS = st.sampled_from(
    [
        "a",
        "",
        "a b",
        "é",
        "a\x00",
        "u" * 256,
        "u" * 257,
        "a@example.com",
        "@",
        "a@b@c",
        "+447700900123",
        "+44 7700 900123",
    ]
    + ["+1", "447700900123", "t/o/p", "t" * 201, "x:y-z.w", "\ud800"]
    + ["Example.com", "münchen.example", "10.0.0.1", "10.0", "a..b", "https://example.com", f"{'a.' * 126}a"]
)


def is_send(**body: Any) -> bool:
    """Tell whether a caller may send this; half a surrogate pair cannot be in JSON at all."""
    try:
        send = NewSend.model_validate({"type": "t", **body})
    except ValidationError:
        return False
    return not list(send.faults(MOST)) and is_unicode(body)


def is_unicode(value: Any) -> bool:
    try:
        repr(value).encode()
        _ = [text.encode() for text in texts_of(value)]
    except UnicodeEncodeError:
        return False
    return True


def texts_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for each in inner for text in texts_of(each)]


@settings(max_examples=examples(500), deadline=None)
@given(CONTENT, st.dictionaries(st.sampled_from(["fcm", "email"]), OVERRIDE, max_size=1))
def test_content(content: dict[str, Any], overrides: dict[str, dict[str, Any]]) -> None:
    faults = list(send_checks.content_faults(content, overrides))
    assert (not faults) == is_send(users=["u"], content=content, overrides=overrides), faults


@settings(max_examples=examples(500), deadline=None)
@given(st.sampled_from(send_checks.AUDIENCES), st.lists(MEMBERS, min_size=1, max_size=MOST + 1))
def test_audiences(kind: str, members: list[str]) -> None:
    made, fault = send_checks.audience(kind, members, MOST)
    whom = members[0] if kind == "domain" and len(members) == 1 else members
    assert (fault is None) == is_send(**{kind: whom}, content={"title": "x"}), fault
    if fault is None:
        send = NewSend.model_validate({"type": "t", kind: whom})
        assert made == ([send.domain] if kind == "domain" else list(dict.fromkeys(getattr(send, kind))))


@settings(max_examples=examples(300), deadline=None)
@given(TEXTS | st.sampled_from(["a", "a b", "x" * 64, "x" * 65, "é", "~!"]))
def test_collapse_keys(key: str) -> None:
    assert (send_checks.collapse_key_fault(key) is None) == is_send(
        users=["u"], content={"title": "x"}, collapse_key=key
    )


def test_content_at_each_limit() -> None:
    odd: list[dict[str, Any]] = [{name: "x" * size} for name in ("title", "body", "html") for size in SIZES]
    odd += [
        {name: f"https://{'a' * size}"}
        for name in ("link", "image_url", "icon_url")
        for size in (0, 1, 2_040, 2_041, 2_048, 2_049)
    ]
    odd += [{"actions": [{"action": "a", "title": "x" * size}]} for size in (0, 1, 100, 101)]
    odd += [{"data": {"a": "x" * size}} for size in SIZES]
    odd += [{"data": {key: "x"}} for key in (*"ad", "", "aps", "google.x", "gcm.", "k" * 100, "k" * 101, "a\x7f")]
    odd += [{"data": {str(n): "" for n in range(number)}} for number in (100, 101)]
    for each in odd:
        content = {"title": "t", **each}
        found = not list(send_checks.content_faults(content, {}))
        assert found == is_send(users=["u"], content=content), str(each)[:100]
