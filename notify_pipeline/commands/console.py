"""What all commands share towards the operator: one console, and errors as one clear line.

Belongs here: output. Does not belong here: any command.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from sqlalchemy.exc import SQLAlchemyError

# Text that is printed is data (paths, names), not markup.
CONSOLE = Console(markup=False, highlight=False)
_ERRORS = Console(stderr=True, highlight=False)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def steps(items: Sequence[T], what: str) -> Iterator[T]:
    """Go through items with a progress bar that vanishes at the end."""
    yield from track(items, description=what, console=CONSOLE, transient=True)


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show that something is going on whose length nobody knows."""
    with CONSOLE.status(what):
        yield


def failing_clearly(*expected: type[Exception]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a command: expected errors, bad settings and an unreachable ledger become one line and exit code 1.

    Args:
        *expected: Errors that say all an operator needs. Any other is a defect and keeps its traceback.
    """

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(command)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return command(*args, **kwargs)
            except ValidationError as error:
                for problem in error.errors(include_url=False, include_input=False):
                    name = "_".join(str(part) for part in problem["loc"]).upper()
                    _fail(f"NOTIFY_{name}: {problem['msg']}")
                sys.exit(1)
            except SQLAlchemyError as error:  # its first line says what; the others repeat the statement
                _fail(f"ledger: {str(error).splitlines()[0]}")
                sys.exit(1)
            except expected as error:
                _fail(str(error))
                sys.exit(1)

        return wrapper

    return decorate


def _fail(text: str) -> None:
    _ERRORS.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
