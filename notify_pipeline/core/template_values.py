"""What a template works on while it is rendered: the fields, what is missing of them, and what it may still spend.

Belongs here: values and the account of one rendering. Does not belong here: the filters (``template_filters``), what a
template may say (``template_language``).
"""

import html
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from jinja2 import Undefined
from jinja2.runtime import LoopContext

# One unit pays for one step of a template or for 64 characters gone over, either about a microsecond: a rendering takes
# a tenth of a second at worst.
BUDGET = 100_000
CHARACTERS_PER_UNIT = 64
# Of all fields of a rendering together. Push takes 4 KB, and an e-mail rarely has more than a screenful of figures.
MAX_FIELD_CHARACTERS = 65_536
MAX_FIELD_ITEMS = 5_000
MAX_FIELD_DEPTH = 16
# Of any text on the way, and of what a text renders to: the longest that a notification takes.
MAX_TEXT = 20_000
# Of the page of an e-mail: mail programs show no more.
MAX_HTML = 100_000
# Numbers that JSON readers agree upon (RFC 8259 §6); beyond that arithmetic grows without end.
MAX_NUMBER = 2**53
_LOOP_NAMES = frozenset({"index", "index0", "revindex", "revindex0", "first", "last", "length"})


class RenderFailed(Exception):
    """The template cannot be rendered with these fields; the message says why. ``field``: which text, if one is."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Escaped(str):
    """A text that HTML takes as it is: the filter ``escape`` made it."""

    __slots__ = ()


class Run:
    """The account of one rendering."""

    def __init__(self) -> None:
        self._left = BUDGET
        # In the order in which they were missed, each once.
        self.missing: dict[str, None] = {}

    def spend(self, steps: int, characters: int = 0) -> None:
        """Pay for some work before it is done.

        Raises:
            RenderFailed: Too much was done already.
        """
        self._left -= steps + characters // CHARACTERS_PER_UNIT
        if self._left < 0:
            raise RenderFailed("takes too many steps to render")


_run: ContextVar[Run] = ContextVar("template run")


@contextmanager
def running() -> Iterator[Run]:
    """Open the account that everything rendered inside the with block pays from."""
    token = _run.set(Run())
    try:
        yield _run.get()
    finally:
        _run.reset(token)


def spend(steps: int, characters: int = 0) -> None:
    """Like ``Run.spend``, on the account that is open."""
    _run.get().spend(steps, characters)


class Missing(Undefined):
    """A field that was not given. It stands for nothing, and goes on: one rendering finds all that is missing."""

    __slots__ = ()

    @property
    def path(self) -> str | None:
        """The dotted name as the template has it; None for nothing that could have been given."""
        return self._undefined_name

    def miss(self, *_: object) -> Any:
        """Note that a value was needed.

        Raises:
            RenderFailed: No field could have given it: there is a hint instead of a name.
        """
        if self._undefined_hint is not None:
            raise RenderFailed(self._undefined_hint)
        if self.path is not None:
            _run.get().missing[self.path] = None
        return False

    def __getitem__(self, *_: object) -> Self:  # type: ignore[override]
        """Answer a slice."""
        self.miss()
        return self

    def __index__(self) -> int:
        self.miss()
        return 0

    def __str__(self) -> str:
        self.miss()
        return ""

    def __iter__(self) -> Iterator[Any]:
        self.miss()
        return iter(())

    def __len__(self) -> int:
        self.miss()
        return 0

    __eq__ = __ne__ = __bool__ = __contains__ = __lt__ = __le__ = __gt__ = __ge__ = miss
    __hash__ = Undefined.__hash__


class Object(dict[str, Any]):
    """An object among the fields, which knows its dotted name and how many characters it holds."""

    path = ""
    size = 0


class Items(list[Any]):
    """A list among the fields, likewise."""

    path = ""
    size = 0


def wrapped(fields: Mapping[str, Any]) -> Object:
    """Return fields (JSON values) as templates see them.

    Raises:
        RenderFailed: There is too much of them, or a text has a NUL.
    """
    made: Object = _Wrapper().wrap(fields, "")
    # A null is nothing that could be shown: the same as not given.
    for name in [name for name, value in made.items() if value is None]:
        del made[name]
    return made


class _Wrapper:
    def __init__(self) -> None:
        self._characters = self._items = 0

    def wrap(self, value: Any, path: str) -> Any:
        before = self._characters
        self._count(1, len(value) if isinstance(value, str) else 8)
        if path.count(".") >= MAX_FIELD_DEPTH:
            raise RenderFailed("is nested too deeply", "fields")
        if isinstance(value, Mapping):
            made: Object | Items = Object()
            for key, item in value.items():
                self._count(0, len(key))
                made[key] = self.wrap(item, _under(path, key))
        elif isinstance(value, (list, tuple)):
            made = Items(self.wrap(item, _under(path, n)) for n, item in enumerate(value))
        else:
            if isinstance(value, str) and "\0" in value:
                raise RenderFailed("must not contain NUL", f"fields.{path}")
            return value
        made.path, made.size = path, self._characters - before
        return made

    def _count(self, items: int, characters: int) -> None:
        self._items += items
        self._characters += characters
        if self._items > MAX_FIELD_ITEMS or self._characters > MAX_FIELD_CHARACTERS:
            limits = f"{MAX_FIELD_ITEMS} values or {MAX_FIELD_CHARACTERS} characters"
            raise RenderFailed(f"must not hold more than {limits}", "fields")


def member(owner: Any, key: Any) -> Any:
    """Return what ``owner.key`` or ``owner[key]`` means: an entry of an object or a list, never a Python attribute."""
    if isinstance(owner, Missing):
        return Missing(name=None if owner.path is None else _under(owner.path, key))
    if isinstance(owner, LoopContext):
        found = getattr(owner, key) if key in _LOOP_NAMES else None
    elif isinstance(owner, Object):
        found = owner.get(key) if isinstance(key, str) else None
    elif isinstance(owner, (list, tuple)):
        found = _item(owner, key)
    else:
        raise RenderFailed(f"has nothing named {str(key)[:50]!r} in {kind(owner)}")
    return Missing(name=_under(getattr(owner, "path", "?"), key)) if found is None else found


def _item(owner: list[Any] | tuple[Any, ...], key: Any) -> Any:
    if not isinstance(key, int) or isinstance(key, bool):
        return None
    return owner[key] if -len(owner) <= key < len(owner) else None


def _under(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def size(value: Any) -> int:
    """Return about how many characters a value holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, (Object, Items)):
        return value.size
    if isinstance(value, (list, tuple)):
        spend(len(value))
        return sum(map(size, value))
    return 8


def shown(value: Any) -> str:
    """Return the text that stands for a value.

    Raises:
        RenderFailed: It is an object or a list, or too long.
    """
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise RenderFailed(f"has a text of more than {MAX_TEXT} characters")
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    # Besides what is missing, what an if-expression without an else leaves.
    if value is None or isinstance(value, Undefined):
        return "" if value is None else str(value)
    raise RenderFailed(f"shows {kind(value)}; name an item of it, or use join or tojson")


def shown_in_html(value: Any) -> str:
    """Return the text that stands for a value in HTML, in an attribute's quotes too.

    Raises:
        RenderFailed: It is an object or a list, or too long.
    """
    text = shown(value)
    return text if isinstance(text, Escaped) else html.escape(text)


def number(value: Any) -> int | float:
    """Return a value that must be a number within what JSON readers agree upon.

    Raises:
        RenderFailed: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RenderFailed(f"calculates with {kind(value)}")
    if not math.isfinite(value) or abs(value) > MAX_NUMBER:
        raise RenderFailed("has a number that is too large")
    return value


def kind(value: object) -> str:
    """Return what a value is called in messages."""
    if isinstance(value, str):
        return "a text"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, (list, tuple)) else "nothing"
