"""Conditions on topics, as FCM writes them: ``'uk' in topics && !('sport' in topics || 'x' in topics)``.

Belongs here: the language: parsing, and what a parsed condition is. Does not belong here: finding who satisfies one
(``delivery.audience``).

FCM reads ``&&`` and ``||`` from left to right, most languages give ``&&`` the first turn. A condition that mixes them
without parentheses means two things to two readers, so it is refused.
https://firebase.google.com/docs/cloud-messaging/send-topic-messages
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

# FCM's own rule for topic names, with a slash between levels.
# https://firebase.google.com/docs/cloud-messaging/manage-topic-subscriptions
TOPIC = r"[A-Za-z0-9\-_.~%/]{1,200}"
# FCM allows five topics. Each of ours is one test of a list per registration; a hundred take seconds for a million.
MAX_TOPICS = 100
# A hundred of the longest topics with what stands between them would be more; nobody writes that.
MAX_LENGTH = 10_000
# Both parser and query nest as deep as parentheses and negations do.
MAX_DEPTH = 20

_TOKEN = re.compile(rf"\s*(?:'(?P<topic>{TOPIC})'\s+in\s+topics\b|(?P<sign>&&|\|\||!|\(|\)))", re.ASCII)
_SPACE = re.compile(r"\s*", re.ASCII)


class ConditionError(ValueError):
    """The condition cannot be read; the message says what is wrong and at which character, counted from 1."""


@dataclass(frozen=True, slots=True)
class HasTopic:
    """Satisfied by whoever has the topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class Not:
    """Satisfied by whoever does not satisfy the operand."""

    operand: "Condition"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Satisfied by whoever satisfies every operand; there are two at least."""

    operands: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Satisfied by whoever satisfies one operand or more; there are two at least."""

    operands: tuple["Condition", ...]


Condition: TypeAlias = HasTopic | Not | AllOf | AnyOf
_END = "the end"


@dataclass(frozen=True, slots=True)
class _Token:
    at: int  # from 1
    sign: str  # "topic", a sign, or _END
    topic: str = ""


def parse(text: str) -> Condition:
    """Return what a condition says.

    Raises:
        ConditionError: It is no condition, or longer, deeper or with more topics than is allowed.
    """
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"has {len(text)} characters; {MAX_LENGTH} are allowed")
    tokens = list(_tokens(text))
    topics = [token for token in tokens if token.sign == "topic"]
    if len(topics) > MAX_TOPICS:
        raise ConditionError(f"names more than {MAX_TOPICS} topics, from character {topics[MAX_TOPICS].at} on")
    return _Parser(tokens).whole()


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while found := _TOKEN.match(text, position):
        at = found.start(found.lastgroup or 0) + 1
        if found.lastgroup == "topic":
            yield _Token(at - 1, "topic", found["topic"])  # at its quotation mark
        else:
            yield _Token(at, found["sign"])
        position = found.end()
    spaces = _SPACE.match(text, position)
    end = position if spaces is None else spaces.end()
    if end < len(text):
        raise ConditionError(
            f"cannot be read from character {end + 1} on: expected 'a topic' in topics, &&, ||, !, ( )"
        )
    yield _Token(end + 1, _END)


class _Parser:
    """Recursive descent: a chain is terms with one operator; a term is a topic, a negation or a chain in brackets."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    def whole(self) -> Condition:
        condition = self._chain(0)
        if self._peek.sign != _END:
            raise self._unexpected("&&, || or the end")
        return condition

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _chain(self, depth: int) -> Condition:
        operands = [self._term(depth)]
        operator = self._peek.sign
        while self._peek.sign in ("&&", "||"):
            if self._peek.sign != operator:
                raise ConditionError(
                    f"mixes && and || at character {self._peek.at}: parentheses must say which comes first"
                )
            self._take()
            operands.append(self._term(depth))
        if len(operands) == 1:
            return operands[0]
        return AllOf(tuple(operands)) if operator == "&&" else AnyOf(tuple(operands))

    def _term(self, depth: int) -> Condition:
        token = self._peek
        if token.sign == "topic":
            return HasTopic(self._take().topic)
        if token.sign not in ("!", "("):
            raise self._unexpected("'a topic' in topics, ! or (")
        if depth == MAX_DEPTH:
            raise ConditionError(f"nests deeper than {MAX_DEPTH} at character {token.at}")
        self._take()
        if token.sign == "!":
            return Not(self._term(depth + 1))
        inner = self._chain(depth + 1)
        if self._peek.sign != ")":
            raise self._unexpected("&&, || or )")
        self._take()
        return inner

    def _unexpected(self, wanted: str) -> ConditionError:
        found = self._peek
        return ConditionError(
            f"expected {wanted} at character {found.at}, not {'a topic' if found.sign == 'topic' else found.sign}"
        )
