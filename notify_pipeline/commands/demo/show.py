"""What the demo prints.

Belongs here: rich tables. Does not belong here: deciding whether figures agree (``reconcile``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from notify_pipeline.commands.demo.reconcile import Figure

_COUNTS = ("audience", "attempted", "accepted", "failed", "invalid", "received", "opened", "hits")


def report_table(console: Console, title: str, report: Mapping[str, Any]) -> None:
    """Print one notification's report: a row per platform and one for all."""
    table = Table(title=title, title_justify="left")
    table.add_column("platform")
    for name in (*_COUNTS, "p50 s", "p90 s", "p99 s", "in 120 s"):
        table.add_column(name, justify="right")
    for row in [*report["platforms"], {"platform": "all", **report["totals"]}]:
        counts = [f"{row[name]:,}" for name in _COUNTS]
        seconds = ["–" if row[name] is None else f"{row[name]:.2f}" for name in ("p50_s", "p90_s", "p99_s")]
        share = "–" if row["share_120s"] is None else f"{row['share_120s']:.1%}"
        table.add_row(row["platform"], *counts, *seconds, share)
    console.print(table)


def differences(console: Console, figures: Sequence[Figure]) -> None:
    """Print how many figures agree, and each that does not."""
    wrong = [figure for figure in figures if not figure.agrees]
    console.print(f"{len(figures) - len(wrong)} of {len(figures)} figures equal the sandbox's own log")
    if wrong:
        table = Table("notification", "platform", "figure", "reported", "actual", title="These differ")
        for figure in wrong:
            table.add_row(
                figure.notification_id, figure.platform, figure.name, str(figure.reported), str(figure.actual)
            )
        console.print(table)


def checks_table(console: Console, checks: Sequence[tuple[str, str, bool]]) -> None:
    """Print what the API was tried with and how it answered."""
    table = Table("tried", "answer", "", title="The API's promises", title_justify="left")
    for tried, answer, passed in checks:
        table.add_row(tried, answer, "[green]as promised[/]" if passed else "[red]NOT as promised[/]")
    console.print(table)
