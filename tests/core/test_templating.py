"""Templates: what they render to, what they refuse, and that none can take long or grow without end."""

import html
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import StrictUndefined, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from notify_pipeline.channels.splice import Personal
from notify_pipeline.core.personal import FIELD, PERSONAL_FIELDS
from notify_pipeline.core.template_values import MAX_FIELD_CHARACTERS, MAX_HTML, MAX_TEXT
from notify_pipeline.core.templating import MAX_PARTS, MissingFields, RenderFailed, check, render
from tests.channels.harness import notification


@dataclass(frozen=True)
class Texts:
    content: dict[str, Any]
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)


def body(source: str, fields: dict[str, Any] | None = None) -> str | None:
    template = Texts({"body": source})
    assert check(template) == []
    made: str | None = render(template, fields or {}).content.get("body")
    return made


def fault(source: str) -> str:
    (found,) = check(Texts({"body": source}))
    assert found.field == "content.body"
    return found.message


FIELDS = {
    "name": "Ann",
    "order": {"id": 7, "total": 12.5, "items": [{"title": "a", "price": 1}, {"title": "b", "price": 2}]},
    "tags": ["x", "y", "z"],
    "vip": True,
    "nothing": None,
    "empty": "",
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Hi {{ name }}!", "Hi Ann!"),
        ("{{ order.id + 1 }} {{ order['total'] }} {{ vip }} {{ not vip }}", "8 12.5 true false"),
        (
            "{% for i in order.items %}{{ loop.index }}/{{ loop.length }} {{ i.title }};{% endfor %}",
            "1/2 a;2/2 b;",
        ),
        ("{% for k, v in order|items if k != 'items' %}{{ k }}={{ v }} {% endfor %}", "id=7 total=12.5 "),
        ("{% for t in empty_list|default([]) %}{{ t }}{% else %}none{% endfor %}", "none"),
        ("{{ tags|join(', ') }} {{ tags[0] }} {{ tags[-1] }} {{ name[:2] }} {{ tags|length }}", "x, y, z x z An 3"),
        ("{{ name ~ '-' ~ order.id }} {{ name + '!' }} {{ name|upper|truncate(4) }}", "Ann-7 Ann! ANN"),
        ("{% if 'x' in tags and order.id > 3 %}yes{% elif vip %}no{% endif %}", "yes"),
        ("{{ 'gold' if vip else 'plain' }} {{ 'a' if not vip }}", "gold "),
        (
            "{{ missing|default('x') }} {{ order.no.no|d('y') }} {{ nothing|d('z') }} {{ empty|d('e', true) }}",
            "x y z e",
        ),
        ("{{ 'y' if missing is defined else 'n' }}{{ 'y' if nothing is undefined }}", "ny"),
        ("https://e.com/?q={{ 'a b&c/é'|urlencode }}", "https://e.com/?q=a%20b%26c%2F%C3%A9"),
        ("{{ tags|tojson }} {{ order['items'][0]|tojson }}", '["x", "y", "z"] {"title": "a", "price": 1}'),
        ("{{ '<b>'|e }} {{ order.total|round }} {{ '7'|int + 1 }} {{ 'x'|int(3) }}", "&lt;b&gt; 12.0 8 3"),
        ("{# a note #}{% raw %}{{ name }}{% endraw %} { } {{ 'a-b'|replace('-', '+') }}", "{{ name }} { } a+b"),
        ("line\n{{ name }}\n", "line\nAnn\n"),
        ("{{ empty }}", None),
        ("no fields at all {", "no fields at all {"),
    ],
)
def test_what_a_text_renders_to(source: str, expected: str | None) -> None:
    assert body(source, FIELDS) == expected


def test_all_that_is_missing_is_named_at_once() -> None:
    template = Texts(
        {
            "title": "{{ name }} {{ user.first }} {{ user.address.city }}",
            "body": "{% if vip %}{{ never }}{% endif %}{% for i in order.items %}{{ i.price + i.tax }}{% endfor %}",
            "data": {"k": "{{ tags[5] }}{{ nothing|upper }}{{ 'x' if a == b }}{{ 1 if c in tags }}{{ tags|join(s) }}"},
        },
        {"fcm": {"title": "{{ name }}{{ other }}{{ -n }}{{ t[:m] }}{{ d is even }}", "body": None}},
    )
    assert check(template) == []
    with pytest.raises(MissingFields) as caught:
        render(template, {"user": {"last": "x"}, "order": FIELDS["order"], "tags": ["t"], "nothing": None, "t": "t"})
    assert set(caught.value.names) == {
        *("name", "user.first", "user.address.city", "vip", "order.items.0.tax", "order.items.1.tax"),
        *("tags.5", "nothing", "a", "b", "c", "s", "other", "n", "m", "d"),
    }
    assert caught.value.names[0] == "name"


def test_content_and_overrides_are_rendered_field_by_field() -> None:
    template = Texts(
        {
            "title": "{{ a }}",
            "body": "{{ b }}",
            "link": "https://e.com/{{ a }}",
            "data": {"k": "{{ a }}", "e": "{{ b }}"},
        },
        {"fcm": {"title": "{{ b }}", "body": None, "data": {}}, "apns": {}},
    )
    made = render(template, {"a": "A", "b": ""})
    assert made.content == {"title": "A", "link": "https://e.com/A", "data": {"k": "A", "e": ""}}
    assert made.overrides == {"fcm": {"title": None, "body": None, "data": {}}, "apns": {}}


@pytest.mark.parametrize(
    ("source", "line", "about"),
    [
        ("{{ name", 1, "end of template"),
        ("a\n\n{% if x %}", 3, "endif"),
        ("a\n{{ x() }}", 2, "called"),
        ("{{ range(10) }}", 1, "called"),
        ("{{ x.__class__.__mro__() }}", 1, "called"),
        ("{% set x = 1 %}", 1, "set"),
        ("{% with x = 1 %}{% endwith %}", 1, "with"),
        ("{% macro m() %}{% endmacro %}", 1, "macro"),
        ("{% include 'x' %}", 1, "include"),
        ("{% import 'x' as y %}", 1, "import"),
        ("{% extends 'x' %}", 1, "extends"),
        ("{% block x %}{% endblock %}", 1, "block"),
        ("{% filter upper %}x{% endfilter %}", 1, "filterblock"),
        ("{% autoescape true %}x{% endautoescape %}", 1, "not available"),
        ("{% for a in b recursive %}{% endfor %}", 1, "recursive"),
        ("{{ 2 ** 9 }}", 1, "powers"),
        ("{{ x[::2] }}", 1, "step"),
        ("{{ x|center(9) }}", 1, "center"),
        ("{{ x|map('center') }}", 1, "map"),
        ("{% if false %}{{ x|attr('y') }}{% endif %}", 1, "attr"),
        ("{{ x|join(*y) }}", 1, "unpacked"),
        ("{{ x is callable }}", 1, "callable"),
        ("{{ self }}", 1, "self"),
        ("{{ {} }}", 1, "objects"),
        ("{{ 1" + "0" * 5_000 + " }}", 1, "too large"),
        ("{{ 1e999 }}", 1, "too large"),
        ("a\n[[[nobody]]]", 2, "nobody"),
        ("{{ " + "(" * 4_000 + "1" + ")" * 4_000 + " }}", 1, "deeply"),
        ("{{ a" + ".b" * 1_000 + " }}", 1, "deeply"),
        ("{{ " + "not " * 900 + "a }}", 1, "deeply"),
        ("{% for a in b %}" * 6 + "{% endfor %}" * 6, 1, "deeply"),
        ("{{ a }}" * 2_000, 1, "2000 parts"),
        ("x" * 20_001, 1, "20000 characters"),
    ],
)
def test_what_a_text_may_not_say(source: str, line: int, about: str) -> None:
    message = fault(source)
    assert message.startswith(f"line {line}: ") and about in message


def test_faults_are_named_where_they_are() -> None:
    template = Texts(
        {"title": "{{", "body": "ok", "data": {"a.b": "{% x %}"}}, {"fcm": {"body": "{{ x( }}", "title": None}}
    )
    assert [found.field for found in check(template)] == ["content.title", "content.data.a.b", "overrides.fcm.body"]


def test_a_template_is_bounded_as_a_whole() -> None:
    assert check(Texts({"data": {str(n): "x" * 20_000 for n in range(4)}}))[0].field == "content.data.3"
    many = {str(n): "{{ a }}" * 400 for n in range(MAX_PARTS // 400 + 2)}
    assert "in all" in check(Texts({"data": many}))[-1].message


LONG = [str(n) for n in range(3_000)]
BIG = "a" * 19_000


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in long %}{% for b in long %}{% for c in long %}{{ a }}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in long %}{% for b in long %}{% endfor %}{% endfor %}",
        "{% for a in long if a in long %}{% endfor %}",
        "{% for a in long %}{% if big + a in big %}{% endif %}{% endfor %}",
        "{% for a in long %}{{ long[1:]|length }}{% endfor %}",
        "{% for a in long %}{{ big|title|length }}{% endfor %}",
        "{% for a in long %}{{ [long, long, long] == [long, long, big] }}{% endfor %}",
        "{{ big ~ big }}",
        "{{ big + big }}",
        "{{ big }}{{ big }}",
        "{{ long|join(big) }}",
        "{{ big|replace('a', 'bb') }}",
        "{{ quotes" + "|tojson" * 12 + " }}",
        "{{ [" + "big, " * 300 + "1]|tojson }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 3 * 3 }}{{ 9007199254740991 * 9007199254740991 }}",
        "{{ 1.5|round(1000000000) }}",
        "{{ 1 / 0 }}",
        "{{ big|truncate('x') }}",
        "{{ 'x' < 1 }}",
        "{{ name|join }}{{ name.upper }}",
        "{{ long }}",
        "{{ order|items|first }}",
        "{{ order|length }}{{ order }}",
        "{% for a in name %}{% endfor %}",
        "{% for a, b in long %}{% endfor %}",
    ],
)
def test_what_would_not_end_or_fit_is_refused(source: str) -> None:
    template = Texts({"title": "fine", "body": source})
    assert check(template) == []
    with pytest.raises(RenderFailed) as caught:
        render(template, {"long": LONG, "big": BIG, "quotes": '"' * 50, "name": "n", "order": {}})
    assert caught.value.field == "content.body"


def test_fields_are_bounded_too() -> None:
    deep: Any = "x"
    for _ in range(30):
        deep = {"a": deep}
    for fields in ({"a": "x" * MAX_FIELD_CHARACTERS}, {"a": [1] * 6_000}, deep, {"a": "x\0"}):
        with pytest.raises(RenderFailed) as caught:
            render(Texts({"body": "{{ a }}"}), fields)
        assert (caught.value.field or "").startswith("fields")
    with pytest.raises(RenderFailed):
        render(Texts({"body": "{{ a }}"}), {"a": "x" * (MAX_TEXT + 1)})


PLAIN = st.text(st.sampled_from('[]_au{}%#é"\\ <'), max_size=8)
PERSONAL = st.sampled_from([f"[[[{name}]]]" for name in (*PERSONAL_FIELDS, "brackets", "nobody")])
VALUE = st.lists(PLAIN | PERSONAL | st.sampled_from(["{{ x }}", "{% if %}", "[[[", "]]]"]), max_size=4).map("".join)
KNOWN = {name: f"<{name}>" for name in PERSONAL_FIELDS} | {"brackets": "[[["}


def read(text: str) -> str:
    """What a recipient reads whose registration has ``<name>`` for each field: as channels fill it in."""
    personal = Personal(notification())
    text = personal.opened(text)
    for name, hole in zip(PERSONAL_FIELDS, personal.holes, strict=True):
        text = text.replace(hole.mark, KNOWN[name])
    return text


@given(st.lists(st.tuples(st.sampled_from(["", "[", "[[", " x", *(f"[[[{n}]]]" for n in KNOWN)]), VALUE), max_size=4))
@example([("[[[user_id]]]", "[[[user_id]]]")])
@example([("[[", "[user_id]]]")])
@example([("[[", "[[[user_id]]]"), ("", "]")])
def test_a_value_is_never_read_as_anything_but_text(parts: list[tuple[str, str]]) -> None:
    source = "".join(f"{written}{{{{ v{n} }}}}" for n, (written, _) in enumerate(parts))
    fields = {f"v{n}": value for n, (_, value) in enumerate(parts)}
    template = Texts({"body": source, "data": {"k": source}, "link": source})
    assert check(template) == []
    made = render(template, fields).content
    expected = "".join(FIELD.sub(lambda found: KNOWN[found[1]], written) + value for written, value in parts)
    assert read(made.get("body", "")) == expected
    assert read(made["data"]["k"]) == expected
    assert made.get("link", "") == "".join(map("".join, parts)), "links have no personal fields"


def test_constants_of_the_template_may_have_personal_fields() -> None:
    assert body("{{ name|default('[[[user_id]]]') }} {{ '[[[locale]]]'|lower }}") == "[[[user_id]]] [[[locale]]]"
    assert body("{{ '[[[user_id]]]'[:2] }}x") == "0x", "what is cut is not a field any more, and no mark is left"


EXPRESSION = st.recursive(
    st.sampled_from(["a", "b", "o.x", "o.y", "xs", "xs[0]", "xs[1]", "1", "'s'", "n", "missing", "o.missing"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "~", "==", "<", "and", "or", "in", "-"]), inner).map(" ".join),
        st.tuples(inner, st.sampled_from(["|upper", "|length", "|join(',')", "|default('d')", "|first", "|trim"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
        inner.map("({} is odd)".format),
        st.tuples(inner, inner, inner).map(lambda three: f"({three[0]} if {three[1]} else {three[2]})"),
    ),
    max_leaves=4,
)
SOURCE = st.one_of(
    EXPRESSION.map(lambda e: f"{{{{ {e} }}}}"),
    st.tuples(EXPRESSION, EXPRESSION).map(
        lambda pair: (
            f"{{% for i in {pair[0]} %}}{{{{ i }}}}{{% if loop.last %}}{{{{ {pair[1]} }}}}{{% endif %}}{{% endfor %}}"
        )
    ),
)
REFERENCE = SandboxedEnvironment(undefined=StrictUndefined)


@given(SOURCE)
def test_what_is_rendered_is_what_jinja_renders(source: str) -> None:
    fields = {"a": "Ab", "b": "", "n": 3, "xs": ["p", "q"], "o": {"x": "X", "y": 2}}
    template = Texts({"body": source})
    assert check(template) == []
    try:
        made = render(template, fields).content.get("body", "")
    except MissingFields as missing:
        assert set(missing.names) <= {"missing", "o.missing"}
        with pytest.raises(Exception) as caught:  # noqa: PT011 - an undefined name, or an error that comes before it
            REFERENCE.from_string(source).render(fields)
        assert isinstance(caught.value, (UndefinedError, TypeError, ValueError, LookupError))
        return
    except RenderFailed:
        # We calculate with numbers only and show no lists: Jinja may do as it likes.
        return
    assert made.lower() == REFERENCE.from_string(source).render(fields).lower(), "true is True there"


def page(source: str, fields: dict[str, Any]) -> str:
    template = Texts({"html": source})
    assert check(template) == []
    made: str = render(template, fields).content["html"]
    return made


@given(st.text(st.characters(exclude_characters="\0[", exclude_categories=["Cs"]), min_size=1))
def test_a_value_is_text_in_html(value: str) -> None:
    made = page("<p title='{{ x }}'>{{ x|e }}{{ x ~ '' }}</p>", {"x": value})
    inner = made.removeprefix("<p title='").removesuffix("</p>")
    assert not set(inner.replace("'>", "", 1)) & set("<>\"'")
    assert html.unescape(inner) == f"{value}'>{value}{value}"


def test_the_page_of_an_e_mail_may_be_longer() -> None:
    assert (
        len(page("x" * 40_000 + "{% for i in n %}{{ t }}{% endfor %}", {"n": [1, 2, 3], "t": "y" * 19_000})) == 97_000
    )
    with pytest.raises(RenderFailed):
        page("{% for i in n %}{{ t }}{% endfor %}", {"n": list(range(6)), "t": "<" * 10_000})
    assert MAX_HTML == 100_000
