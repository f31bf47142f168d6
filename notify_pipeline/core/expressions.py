"""Expressions over events, in JMESPath (https://jmespath.org/specification.html), which surely end soon and stay small.

Belongs here: reading an expression, and evaluating it within bounds. Does not belong here: what it is asked about
(``route_rules``).

JMESPath has no loops, but a short expression can double a list, a text or a nest of lists with each step. So an
expression has a bounded length and number of parts, evaluation has a bounded number of steps, and what a step makes
counts by its size. What the language calls an error (an operand of the wrong type) is one here too.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jmespath import functions, parser, visitor
from jmespath.exceptions import EmptyExpressionError, IncompleteExpressionError, JMESPathError, LexerError, ParseError

MAX_LENGTH = 2_000
MAX_PARTS = 400
MAX_DEPTH = 40
# A comparison of two fields takes 3 steps, a filter some 5 per element. This many take about 30 ms.
MAX_STEPS = 20_000
# Elements, characters and members that all steps together may look at or make.
MAX_SIZE = 300_000
_COSTLY = frozenset({"to_string", "contains", "join", "sort", "sort_by", "max_by", "min_by", "reverse", "map"})
_SIZED, _NESTED = frozenset({str, list, dict}), frozenset({list, dict})
_TOO_MUCH = "makes too much of this event"
_TAKE_EXPRESSIONS = frozenset({"map", "max_by", "min_by", "sort_by"})
# Identifiers, raw texts and literals, each whole: what looks like one inside another is none.
_QUOTED = re.compile(r"""("|'|`)(?:\\.|(?!\1).)*\1""", re.DOTALL)
_INTO = frozenset(
    {"subexpression", "index_expression", "projection", "filter_projection", "value_projection", "flatten"}
)
_FUNCTIONS: Mapping[str, Any] = functions.Functions.FUNCTION_TABLE


class BadExpression(ValueError):
    """The expression cannot be read; the message says what is wrong and at which character, counted from 1."""


class NotEvaluated(Exception):
    """The expression does not suit this event: an operand has the wrong type, or it would take too long."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that can be read."""

    text: str
    parsed: Mapping[str, Any]

    def search(self, value: Any) -> Any:
        """Return what it finds in a JSON value: a JSON value.

        Raises:
            NotEvaluated: It does not suit the value.
        """
        try:
            run = _Bounded()
            found = run.visit(self.parsed, value)
            run.weigh(found)
        except NotEvaluated:
            raise
        except RecursionError as error:
            raise NotEvaluated("nests too deep") from error
        except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError) as error:
            raise NotEvaluated(_shortened(str(error) or type(error).__name__)) from error
        return found

    def holds(self, value: Any) -> bool:
        """Tell whether it holds as a condition: null, false, and what is empty does not. Zero does.

        Raises:
            NotEvaluated: It does not suit the value.
        """
        found = self.search(value)
        return not (found is None or found is False or found in ("", [], {}))


@lru_cache(maxsize=4_096)
def compiled(text: str) -> Expression:
    """Return an expression, read once.

    Raises:
        BadExpression: It cannot be read, names an unknown function, or is larger than allowed.
    """
    tree = _parsed(text)
    _check_no_expref({"children": [tree]})
    for number, (node, depth) in enumerate(_nodes(tree)):
        if number >= MAX_PARTS:
            raise BadExpression(f"has more than {MAX_PARTS} parts")
        if depth > MAX_DEPTH:
            raise BadExpression(f"nests deeper than {MAX_DEPTH}")
        if node["type"] == "function_expression":
            _check_function(node, text)
        if node["type"] != "function_expression" or node["value"] not in _TAKE_EXPRESSIONS:
            _check_no_expref(node)
        if node["type"] in _INTO and node["children"][0].get("type") == "not_expression":
            # In this grammar "!" goes before "." and "[": "!a.b" would be (!a).b, which is always null.
            raise BadExpression(f"! takes parentheses here, as in !(a.b) (at character {text.find('!') + 1})")
    return Expression(text, tree)


def _parsed(text: str) -> Mapping[str, Any]:
    if len(text) > MAX_LENGTH:
        raise BadExpression(f"has {len(text)} characters; {MAX_LENGTH} are allowed")
    _check_literals(text)
    try:
        parsed = parser.Parser().parse(text)
    except RecursionError as error:
        raise BadExpression(f"nests deeper than {MAX_DEPTH}") from error
    except EmptyExpressionError as error:
        raise BadExpression("is empty") from error
    except (JMESPathError, ValueError) as error:
        raise BadExpression(_fault(error, text)) from error
    tree: Mapping[str, Any] = parsed.parsed
    return tree


class _Bounded(visitor.TreeInterpreter):
    """The library's interpreter, which counts."""

    def __init__(self) -> None:
        super().__init__(_OPTIONS)
        self._methods = _METHODS
        self._steps = MAX_STEPS
        self._size = MAX_SIZE

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._steps -= 1
        if self._steps < 0:
            raise NotEvaluated("takes too many steps for this event")
        found = self._methods[node["type"]](self, node, *args, **kwargs)
        if found.__class__ in _SIZED:
            self._size -= len(found)
            if self._size < 0:
                raise NotEvaluated(_TOO_MUCH)
        return found

    def visit_comparator(self, node: Any, value: Any) -> Any:
        sides = [self.visit(child, value) for child in node["children"]]
        if sides[0].__class__ in _NESTED and sides[1].__class__ in _NESTED:
            # Equality looks as deep as both sides go.
            for side in sides:
                self.weigh(side)
        if node["value"] in ("eq", "ne"):
            return self.COMPARATOR_FUNC[node["value"]](*sides)
        return self.COMPARATOR_FUNC[node["value"]](*sides) if all(map(_is_ordered, sides)) else None

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        if node["value"] not in _COSTLY:
            return super().visit_function_expression(node, value)
        given = [self.visit(child, value) for child in node["children"]]
        for each in given:
            self.weigh(each)
        return _CALLED.call_function(node["value"], given)

    def weigh(self, value: Any) -> None:
        """Charge for everything in a value, each time that it occurs."""
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, list):
                self._charge(len(item) + 1)
                waiting.extend(item)
            elif isinstance(item, dict):
                self._charge(len(item) + 1)
                waiting.extend(item.values())
            elif isinstance(item, str):
                self._charge(len(item))

    def _charge(self, size: int) -> None:
        self._size -= size
        if self._size < 0:
            raise NotEvaluated(_TOO_MUCH)


def _is_ordered(side: Any) -> bool:
    return isinstance(side, int | float | str) and not isinstance(side, bool)


# What a node of each type does, by the library's own naming.
_METHODS = {name.removeprefix("visit_"): getattr(_Bounded, name) for name in dir(_Bounded) if name.startswith("visit_")}
# The functions hold no state: one instance serves all.
_CALLED = functions.Functions()
_OPTIONS = visitor.Options(custom_functions=_CALLED)


def _nodes(tree: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int]]:
    waiting = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        waiting.extend((child, depth + 1) for child in node.get("children", ()) if isinstance(child, Mapping))


def _check_no_expref(node: Mapping[str, Any]) -> None:
    if any(isinstance(child, Mapping) and child["type"] == "expref" for child in node.get("children", ())):
        raise BadExpression(f"& may only stand before an argument of {', '.join(sorted(_TAKE_EXPRESSIONS))}")


def _check_literals(text: str) -> None:
    """Refuse a literal that is not JSON: the library would take it for a text, and warn in a log."""
    for found in _QUOTED.finditer(text):
        if found[0][0] == "`":
            try:
                json.loads(found[0][1:-1].replace("\\`", "`"))
            except (ValueError, RecursionError) as error:
                where = f"(at character {found.start() + 1})"
                raise BadExpression(
                    f"a literal in backticks is JSON, a text in it has double quotes {where}"
                ) from error


def _check_function(node: Mapping[str, Any], text: str) -> None:
    name, given = node["value"], len(node["children"])
    found = re.search(rf"\b{re.escape(name)}\s*\(", text)
    at = 1 if found is None else found.start() + 1
    if name not in _FUNCTIONS:
        raise BadExpression(f"there is no function {name}() (at character {at})")
    signature = _FUNCTIONS[name]["signature"]
    variadic = bool(signature) and signature[-1].get("variadic", False)
    if given < len(signature) if variadic else given != len(signature):
        least = "at least " if variadic else ""
        raise BadExpression(f"{name}() takes {least}{len(signature)} arguments, not {given} (at character {at})")


def _fault(error: Exception, text: str) -> str:
    if isinstance(error, IncompleteExpressionError):
        return f"ends too early (at character {len(text) + 1})"
    if isinstance(error, LexerError):
        return f"{_shortened(error.message)} (at character {error.lexer_position + 1})"
    if isinstance(error, ParseError):
        return f"cannot be read at {_shortened(repr(error.token_value))} (at character {error.lex_position + 1})"
    return _shortened(str(error).partition("\n")[0])


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"
