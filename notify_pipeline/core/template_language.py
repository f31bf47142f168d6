"""The language of templates: Jinja2 in its sandbox, cut down to what surely ends soon and stays small.

Belongs here: what a text may say, and making it a thing that renders. Does not belong here: what a template is made of
(``templating``).

Jinja's sandbox keeps a template from Python's internals, but not from using up the processor or memory: nested loops,
``"a" * 10**9``, a text that doubles itself line by line. So only listed nodes are allowed. Nothing can be called,
nothing can be assigned but loop variables, and what goes over data pays for it beforehand (``template_values.Run``).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateSyntaxError, nodes
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from notify_pipeline.core.personal import BRACKETS, FIELD, PERSONAL_FIELDS
from notify_pipeline.core.template_filters import EACH, WEIGHED, filters, for_compiler, tests
from notify_pipeline.core.template_values import (
    MAX_HTML,
    MAX_NUMBER,
    MAX_TEXT,
    Missing,
    RenderFailed,
    member,
    number,
    shown,
    shown_in_html,
    spend,
)

# Parser and compiler recurse; people do not nest so deeply.
MAX_DEPTH = 40
# What a text may have in three brackets.
_MARKED = (*PERSONAL_FIELDS, BRACKETS)
# Compiling costs some 40 microseconds for each. A screenful of text with twenty fields in it has a hundred.
MAX_NODES = 2_000
# Python compiles at most 20 loops inside each other.
MAX_LOOPS = 5
# Compiled texts that are kept. A template has some five.
_COMPILED = 512

_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For),
    *(nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Getattr, nodes.Getitem, nodes.Slice),
    *(nodes.Filter, nodes.Test, nodes.Keyword, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    *(nodes.CondExpr, nodes.Concat, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
    *(nodes.Neg, nodes.Pos),
)
_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Call: "nothing can be called; use filters",
    nodes.Assign: "set is not available",
    nodes.AssignBlock: "set is not available",
    nodes.With: "with is not available",
    nodes.Macro: "macros are not available",
    nodes.CallBlock: "macros are not available",
    nodes.Include: "a template stands alone: include is not available",
    nodes.Import: "a template stands alone: import is not available",
    nodes.FromImport: "a template stands alone: import is not available",
    nodes.Extends: "a template stands alone: extends is not available",
    nodes.Block: "a template stands alone: block is not available",
    nodes.Pow: "powers are not available",
    nodes.Dict: "objects cannot be written down",
}


class _Environment(SandboxedEnvironment):
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    intercepted_unops = frozenset({"+", "-"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        return member(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return member(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        missed = [side for side in (left, right) if isinstance(side, Missing)]
        if missed:
            return [side.miss() for side in missed] and 0
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            spend(0, len(left) + len(right))
            return shown(left + right)
        return number(self.binop_table[operator](number(left), number(right)))

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        return arg.miss() if isinstance(arg, Missing) else number(self.unop_table[operator](number(arg)))

    def call(self, *_: Any, **__: Any) -> Any:
        raise RenderFailed("nothing can be called")


def _environment(finalize: Callable[[Any], str] = shown) -> _Environment:
    made = _Environment(
        undefined=Missing, finalize=finalize, loader=None, autoescape=False, keep_trailing_newline=True, cache_size=0
    )
    made.globals.clear()
    made.filters.clear()
    made.filters.update(filters())
    made.tests.clear()
    made.tests.update(tests())
    return made


_KNOWN = _environment()
# By whether it is HTML that a text makes.
_COMPILING = {False: _environment(), True: _environment(shown_in_html)}
for _each in _COMPILING.values():
    _each.filters.update(for_compiler())


class Refused(Exception):
    """The text is none of this language; ``line`` from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Compiled:
    """A text ready to render. Personal fields written in it come out as marks, see ``mark``."""

    template: Template
    steps: int
    most: int

    def render(self, fields: Mapping[str, Any]) -> str:
        """Return the text with ``template_values.wrapped`` fields put in; inside ``template_values.running``.

        Raises:
            RenderFailed: It cannot be.
        """
        spend(self.steps)
        pieces: list[str] = []
        room = self.most
        try:
            for piece in self.template.generate(fields):
                pieces.append(piece)
                room -= len(piece)
                if room < 0:
                    raise RenderFailed(f"has a text of more than {self.most} characters")
        except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise RenderFailed(f"cannot be rendered: {error}") from error
        return "".join(pieces)


def mark(number: int) -> str:
    """Return what stands for a personal field, by its place among them and ``brackets``: no value holds a NUL."""
    return f"\0{number}\0"


@lru_cache(_COMPILED)
def compiled(source: str, is_markup: bool = False) -> Compiled:
    """Return what renders a text; in markup (HTML) values are escaped.

    Raises:
        Refused: It is not well-formed, or says what this language does not have.
    """
    try:
        tree = _KNOWN.parse(source)
        steps = _check(tree)
        _Guard().visit(tree)
        compiling = _COMPILING[is_markup]
        template = Template.from_code(compiling, compiling.compile(tree), {})
        return Compiled(template, steps, MAX_HTML if is_markup else MAX_TEXT)
    except TemplateSyntaxError as error:
        raise Refused(error.message or "is not well-formed", error.lineno) from error
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise Refused("is nested too deeply", 1) from error
    except ValueError as error:  # a number of more digits than Python reads
        raise Refused("has a number that is too large", 1) from error


def _check(tree: nodes.Template) -> int:
    """Refuse what is not allowed; return how many nodes there are. Walks without recursion, which depth could break."""
    waiting: list[tuple[nodes.Node, int, int, int]] = [(tree, 0, 0, 1)]
    seen = 0
    while waiting:
        node, depth, loops, line = waiting.pop()
        seen += 1
        line = node.lineno or line
        fault = _fault(node)
        loops += isinstance(node, nodes.For)
        if depth > MAX_DEPTH or loops > MAX_LOOPS:
            fault = "is nested too deeply"
        if seen > MAX_NODES:
            fault = f"has more than {MAX_NODES} parts by here"
        if fault is not None:
            raise Refused(fault, line)
        waiting.extend((child, depth + 1, loops, line) for child in node.iter_child_nodes())
    return seen


def _fault(node: nodes.Node) -> str | None:
    if not isinstance(node, _ALLOWED):
        return _REFUSED.get(type(node), f"{type(node).__name__.lower()} is not available")
    if isinstance(node, (nodes.Filter, nodes.Test)):
        known, what = (_KNOWN.filters, "filter") if isinstance(node, nodes.Filter) else (_KNOWN.tests, "test")
        if node.name not in known:
            return f"there is no {what} {node.name!r}; there are {', '.join(sorted(known))}"
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            return "arguments cannot be unpacked"
    if isinstance(node, nodes.For) and node.recursive:
        return "loops cannot be recursive"
    if isinstance(node, nodes.Slice) and node.step is not None:
        return "slices have no step"
    if isinstance(node, nodes.Name) and node.name == "self":
        return "self is not available"
    if (
        isinstance(node, nodes.Const)
        and not isinstance(node.value, str)
        and not -MAX_NUMBER <= node.value <= MAX_NUMBER
    ):
        return "has a number that is too large"
    return None


class _Guard(NodeTransformer):
    """Makes loops and comparisons pay, joins with a bound, and marks personal fields."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        steps = sum(1 for part in (*node.body, node.target, node.test) if part for _ in _all(part))
        self.generic_visit(node)
        node.iter = _filtered(node.iter, EACH, nodes.Const(steps))
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filtered(node.expr, WEIGHED)
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, WEIGHED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "join")

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        node.data = _marked(node.data)
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Node:
        if isinstance(node.value, str):
            node.value = _marked(node.value)
        return node


def _all(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    yield from node.find_all(nodes.Node)


def _filtered(node: nodes.Node, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _marked(text: str) -> str:
    text = text.replace("\0", "")
    return FIELD.sub(lambda found: mark(_MARKED.index(found[1])) if found[1] in _MARKED else found[0], text)
