"""URL templates: whatever an event says, the URL leads to the same host, the same path and the same parameters."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.url_templates import BadTemplate, NotFilled, is_listed, read

TEMPLATE = "https://api.example.com/v1/orders/{detail.id}/lines?lang={detail.lang}&all=1"


def scope(**detail: Any) -> dict[str, Any]:
    return {"detail": detail}


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        (7, "7"),
        (2.5, "2.5"),
        (True, "true"),
        ("a b", "a%20b"),
        ("ä", "%C3%A4"),
        ("a?b=c&d#e", "a%3Fb%3Dc%26d%23e"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
    ],
)
def test_values_are_encoded_as_a_whole(value: object, filled: str) -> None:
    expected = f"https://api.example.com/v1/orders/{filled}/lines?lang=en&all=1"
    assert read(TEMPLATE, False).fill(scope(id=value, lang="en")) == expected


@pytest.mark.parametrize("value", [None, [], {}, "", ".", "..", "a/b", "..\\x", "../../admin", "x" * 2_048])
def test_a_path_is_left_for_no_other(value: object) -> None:
    with pytest.raises(NotFilled):
        read(TEMPLATE, False).fill(scope(id=value, lang="en"))


@given(st.text(min_size=1, max_size=50), st.text(max_size=50))
def test_what_is_filled_in_stays_where_it_was_put(one: str, two: str) -> None:
    try:
        made = urlsplit(read(TEMPLATE, False).fill(scope(id=one, lang=two)))
    except NotFilled:
        assert one in (".", "..") or "/" in one or "\\" in one
        return
    assert (made.scheme, made.netloc, made.fragment) == ("https", "api.example.com", "")
    segments = made.path.split("/")
    assert [*segments[:3], unquote(segments[3]), *segments[4:]] == ["", "v1", "orders", one, "lines"]
    assert parse_qsl(made.query, keep_blank_values=True) == [("lang", two), ("all", "1")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.example.com/x",
        "http://api.example.com/x",
        "https://{detail.host}/x",
        "https://api.{detail.host}/x",
        "https://api.example.com{detail.path}",
        "https://api.example.com:{detail.port}/x",
        "https://user:secret@api.example.com/{detail.id}",
        "https://user{detail.id}@api.example.com/",
        "https://api.example.com/x#{detail.id}",
        "https://10.0.0.1/{detail.id}",
        "https://[::1]/{detail.id}",
        "https://localhost/{detail.id}",
        "https://api.example.com/a/../{detail.id}",
        "https://api.example.com/a/%2e%2e/{detail.id}",
        "https://api.example.com/{detail.",
        "https://api.example.com/{}",
        "https://api.example.com/{detail.id ||}",
        "https://api.example.com/}x{",
        "https://api.example.com/ä",
        "https://api.example.com/" + "x" * 2_048,
        "https://api.example.com/?" + "{detail.id}," * 17,
    ],
)
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(BadTemplate):
        read(text, False)


def test_private_hosts_are_for_those_who_allow_them() -> None:
    made = read("http://127.0.0.1:8080/{id}", True)
    assert (made.host, made.port, made.is_default_port) == ("127.0.0.1", 8080, False)
    assert made.fill({"id": 1}) == "http://127.0.0.1:8080/1"
    assert read("https://API.example.com./", False).host == "api.example.com"


@pytest.mark.parametrize(
    ("url", "hosts", "listed"),
    [
        ("https://api.example.com/", "", False),
        ("https://api.example.com/", "api.example.com", True),
        ("https://API.Example.com./", " other.org , Api.Example.Com ", True),
        ("https://api.example.com/", "example.com", False),
        ("https://api.example.com/", "*.example.com", True),
        ("https://example.com/", "*.example.com", False),
        ("https://badexample.com/", "*.example.com", False),
        ("https://api.example.com.evil.org/", "api.example.com,*.example.com", False),
        ("https://api.example.com:8443/", "api.example.com", False),
        ("https://api.example.com:8443/", "api.example.com:8443", True),
        ("https://api.example.com/", "api.example.com:8443", False),
        ("https://api.example.com:443/", "api.example.com", True),
        ("https://[2606:4700::1111]/", "[2606:4700::1111]", True),
        ("https://api.example.com/", "*", False),
        ("https://api.example.com/", ",", False),
    ],
)
def test_a_host_is_asked_only_if_it_is_listed(url: str, hosts: str, listed: bool) -> None:
    assert is_listed(read(url, False), hosts) is listed
