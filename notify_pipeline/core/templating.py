"""Templates of notifications: from texts with places for fields to content.

Belongs here: what a template is made of, checking it and rendering it. Does not belong here: the language of its texts
(``template_language``), versions (``ledger.templates``), what content may be sent (``ingest_api``).

Fields are the template's variables: ``{"name": "Ann"}`` fills ``{{ name }}``. Personal fields (``[[[user_id]]]``,
``personal``) that a template has stay open for each recipient. What only looks like one because of a field's value is
text. In ``html`` values are escaped, so that they are text there too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from notify_pipeline.core.personal import BRACKETS, PERSONAL_FIELDS, literal, unknown_in
from notify_pipeline.core.template_language import Refused, compiled, mark
from notify_pipeline.core.template_values import MAX_HTML, Object, RenderFailed, running, wrapped

__all__ = ["MAX_HTML", "Fault", "MissingFields", "RenderFailed", "Rendered", "Texts", "check", "render"]

# Of one text as it is written, and of all texts of a template together.
MAX_SOURCE = 20_000
MAX_SOURCES = 65_536
# Of the page of an e-mail, whose styles are written at every element.
MAX_HTML_SOURCE = 50_000
# Of the parts that all texts together are compiled from.
MAX_PARTS = 4_000
# Where personal fields are filled; elsewhere brackets are brackets.
_PERSONAL = ("title", "body", "data", "html")
# Where markup is markup, and values are text in it.
_MARKUP = "html"


class Texts(Protocol):
    """A template, whatever holds it: content as of a send, its texts written in the language of templates.

    ``overrides`` has by channel what differs there; null takes a field away.
    """

    @property
    def content(self) -> Mapping[str, Any]:
        """Texts by field of content, of ``data`` by key, of each of ``actions`` likewise."""

    @property
    def overrides(self) -> Mapping[str, Mapping[str, Any]]:
        """Likewise, by channel."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Content and overrides as a send has them. A field whose text came out empty is absent; of an override, null.

    An action without a title is left out.
    """

    content: dict[str, Any]
    overrides: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a template, and where: a dotted path and the line of the text."""

    field: str
    message: str


class MissingFields(Exception):
    """Fields that the template needs were not given: their dotted names, such as ``user.name``, as they were met."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"missing: {', '.join(names)}")
        self.names = names


def check(template: Texts) -> list[Fault]:
    """Return what is wrong with a template; nothing where it can be rendered with the right fields."""
    found: list[Fault] = []
    characters = parts = 0
    for field, name, source in _sources(template):
        characters += len(source)
        if characters > MAX_SOURCES or parts > MAX_PARTS:
            limits = f"{MAX_SOURCES} characters or {MAX_PARTS} parts"
            found.append(Fault(field, f"is beyond what a template may have in all: {limits}"))
            break
        try:
            parts += _parts(source, name == _MARKUP)
        except Refused as refused:
            found.append(Fault(field, f"line {refused.line}: {refused}"))
    return found


def render(template: Texts, fields: Mapping[str, Any]) -> Rendered:
    """Return the content that a template makes of fields.

    Args:
        template: One that ``check`` finds nothing wrong with.
        fields: JSON values. Null counts as not given.

    Raises:
        MissingFields: Some are needed that are not there. All that were met are named; what only a branch not taken
            needs is not.
        RenderFailed: These fields do not suit it; its ``field`` names the text, or the field.
    """
    with running() as run:
        texts = _Rendering(wrapped(fields))
        content = texts.render("content", template.content)
        overrides = {channel: texts.render(f"overrides.{channel}", of) for channel, of in template.overrides.items()}
        if run.missing:
            raise MissingFields(tuple(run.missing))
    if texts.failure is not None:
        raise texts.failure
    whole = {name: value for name, value in content.items() if value is not None}
    return Rendered(whole, overrides)


class _Rendering:
    """Renders one text after another, and goes on after a failure to find what else is missing."""

    def __init__(self, fields: Object) -> None:
        self._fields = fields
        self.failure: RenderFailed | None = None

    def render(self, where: str, texts: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, source in texts.items():
            if isinstance(source, Mapping):
                made[name] = {key: self._one(f"{where}.{name}.{key}", name, text) for key, text in source.items()}
            elif isinstance(source, list):
                actions = [self._action(f"{where}.{name}.{number}", name, each) for number, each in enumerate(source)]
                made[name] = [action for action in actions if "title" in action] or None
            else:
                made[name] = (None if source is None else self._one(f"{where}.{name}", name, source)) or None
        return made

    def _action(self, where: str, name: str, texts: Mapping[str, str | None]) -> dict[str, str]:
        made = {key: self._one(f"{where}.{key}", name, text) for key, text in texts.items() if text is not None}
        return {key: text for key, text in made.items() if text}

    def _one(self, field: str, name: str, source: str) -> str:
        try:
            if "{" in source:
                text = compiled(source, name == _MARKUP).render(self._fields)
                return _closed(text, literal if name in _PERSONAL else str)
        except RenderFailed as failure:
            self.failure = self.failure or RenderFailed(str(failure), failure.field or field)
        return source


def _closed(text: str, escape: Callable[[str], str]) -> str:
    """Return a rendered text with its personal fields written again, and nothing else that reads as one."""
    if "\0" not in text:
        return escape(text)
    text = escape(text)
    for number, name in enumerate((*PERSONAL_FIELDS, BRACKETS)):
        text = text.replace(mark(number), f"[[[{name}]]]")
    # What a filter has cut a mark into.
    return text.replace("\0", "")


def _sources(template: Texts) -> Iterator[tuple[str, str, str]]:
    """Yield where each text stands, its field's name, and the text."""
    parts = {"content": template.content, **{f"overrides.{c}": texts for c, texts in template.overrides.items()}}
    for where, texts in parts.items():
        for name, source in texts.items():
            yield from ((place, name, text) for place, text in _texts(f"{where}.{name}", source) if text is not None)


def _texts(where: str, source: Any) -> Iterator[tuple[str, str | None]]:
    """Yield the texts that a field has: itself, its keys', those of each of its actions."""
    if isinstance(source, Mapping):
        yield from ((f"{where}.{key}", text) for key, text in source.items())
    elif isinstance(source, list):
        yield from (each for number, action in enumerate(source) for each in _texts(f"{where}.{number}", action))
    else:
        yield where, source


def _parts(source: str, is_markup: bool) -> int:
    most = MAX_HTML_SOURCE if is_markup else MAX_SOURCE
    if len(source) > most:
        raise Refused(f"has more than {most} characters", 1)
    for name in unknown_in(source):
        line = source[: source.index(f"[[[{name}]]]")].count("\n") + 1
        raise Refused(f"the personal field {name} is unknown; known are {', '.join(PERSONAL_FIELDS)}", line)
    return compiled(source, is_markup).steps if "{" in source else 1
