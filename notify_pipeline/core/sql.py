"""SQL kept in ``.sql`` files beside the module that runs it, and literals for statements that take no parameters.

Belongs here: finding and remembering such a file's text, quoting. Does not belong here: any query.
"""

from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=256)
def sql_text(module_file: str, name: str) -> str:
    """Return the text of a query in the ``sql`` folder beside a module (pass its ``__file__``)."""
    return (Path(module_file).parent / "sql" / name).read_text()


def quoted(text: str) -> str:
    """Return a SQL string literal, for the statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"
