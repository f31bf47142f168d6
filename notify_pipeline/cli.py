"""The ``notify`` command: which commands there are.

Belongs here: the table of commands. Does not belong here: what they do (``commands/``, one module per group). The
module of a command is imported when it is called: a process that only lands rows does not load what reports need.
"""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

# Command → the module below notify_pipeline.commands that defines it as ``app``.
_COMMANDS = {
    "up": "up.command",
    "demo": "demo.command",
    "status": "status",
    "db": "db",
    "sandbox": "sandbox",
    "lander": "lander",
    "receipts": "receipts",
    "reports": "reports",
    "audience": "audience",
    "compact": "compact",
    "erase": "erase",
    "sql": "sql",
    "retention": "retention",
}


class _Commands(TyperGroup):
    """Finds a command's module when the command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command, its module imported now; None for an unknown name."""
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"notify_pipeline.commands.{_COMMANDS[cmd_name]}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it prints local variables: keys and tokens among them
    help="A notification pipeline whose delivery truth is data. Settings come from NOTIFY_* variables.",
)


@app.callback()
def _root() -> None:
    """A notification pipeline whose delivery truth is data. Settings come from NOTIFY_* variables."""


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
