"""``notify demo``.

Belongs here: options and exit codes. Does not belong here: the demo (``run``).
"""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from notify_pipeline.commands.demo.run import run_demo
from notify_pipeline.commands.demo.system import SystemNotReadyError
from notify_pipeline.commands.demo.traffic import UnexpectedAnswerError
from notify_pipeline.core.settings import Settings

# What rich writes names fonts on a host of rich's choice; a viewer's own will do.
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Send real traffic through a whole system in a home of its own, and compare every figure.")
def demo(
    devices: Annotated[
        int, typer.Option(min=2_002, help="How many devices register; more than the inline limit.")
    ] = 20_000,
    home: Annotated[Path | None, typer.Option(help="Emptied first. Default: demo/ below NOTIFY_HOME.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Also save what is printed as an SVG file.")] = None,
) -> None:
    """Exit 0 only if everything reconciles."""
    console = Console(record=picture is not None)
    try:
        code = run_demo(home or Settings().home / "demo", console, devices)
        if picture is not None:
            picture.write_text(_FONTS.sub("", console.export_svg(title="make demo")))
    except (SystemNotReadyError, UnexpectedAnswerError) as error:
        console.print(f"[red]demo failed:[/] {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    raise typer.Exit(code)
