"""``notify up``: a whole system on this machine, until it is told to stop.

Belongs here: the order of things from an empty home to a running system and back, and what the operator reads of it.
Does not belong here: processes (``processes``, ``supervisor``), their list (``stack``), files in the home (``home``).
"""

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from notify_pipeline.commands.console import CONSOLE, failing_clearly
from notify_pipeline.commands.up import home, stack
from notify_pipeline.commands.up.processes import Guard, adopt_orphans
from notify_pipeline.commands.up.supervisor import StartError, Supervisor
from notify_pipeline.core.ledger import keys, leases
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings

# Not logs/: that is where the CDN's raw logs arrive.
OUTPUT_FOLDER = "processes"
DRAIN_LEASE = "drain"

app = typer.Typer()


@app.command()
@failing_clearly(StartError, home.HomeTakenError)
def up() -> None:
    """Run everything: ingress, gateway, lander, Dagster, and the sandbox where credentials lack. Ctrl-C stops it."""
    settings = Settings()
    settings = settings.model_copy(update={"home": settings.home.resolve()})
    if settings.provider_mode == "real" and not settings.has_provider:
        raise StartError("provider_mode is real, but no channel has credentials: docs/operations.md lists them")
    adopt_orphans()
    with home.locked(settings.home) as lock:
        (settings.home / "run.json").unlink(missing_ok=True)  # of a system that was killed
        guard = Guard(lock)
        try:
            with Ledger.open(settings.ledger_dsn) as ledger:
                key = _admin_key(settings, ledger)
                _run(settings, ledger, guard, key)
        finally:
            guard.close()


def _run(settings: Settings, ledger: Ledger, guard: Guard, key: str) -> None:
    where = stack.choose_addresses(settings)
    stack.write_workspace(where)
    env = stack.child_environment(settings, where, home.prepare_dagster_home(settings))
    output = settings.home / OUTPUT_FOLDER
    specs = stack.children(settings, where, env, output)
    supervisor = Supervisor(specs, output, guard, CONSOLE.print)
    run_file = settings.home / "run.json"
    with supervisor.signals_handled():
        try:
            if _start(supervisor, ledger):
                home.write_run_file(
                    settings.home,
                    {
                        "http": where.http,
                        "gateway": _sockets(settings, where),
                        "dagster": where.dagster,
                        "sandbox": where.sandbox,
                        "admin_key": key,
                    },
                )
                _say_where(settings, where)
                supervisor.watch()
        finally:
            run_file.unlink(missing_ok=True)
            CONSOLE.print("stopping")
            supervisor.stop()
            shutil.rmtree(where.code_socket.parent, ignore_errors=True)
    CONSOLE.print("stopped")


def _admin_key(settings: Settings, ledger: Ledger) -> str:
    key, made = home.admin_key(settings)
    keys.create_admin(ledger, key, datetime.now(UTC))
    if made:
        CONSOLE.print(f"admin key (shown once, kept in {settings.home / 'admin-key'}): {key}", soft_wrap=True)
    return key


def _start(supervisor: Supervisor, ledger: Ledger) -> bool:
    """Start all, with a line per process; False when a signal came first."""
    began = time.monotonic()
    held = _lease_held(ledger)
    columns = (SpinnerColumn(), TextColumn("{task.description:<12}"), TextColumn("{task.fields[state]}"))
    with Progress(*columns, TimeElapsedColumn(), console=CONSOLE, transient=True) as progress:
        tasks = {
            child.spec.name: progress.add_task(child.spec.name, total=1, state="waiting")
            for child in supervisor.children
        }
        tasks[DRAIN_LEASE] = progress.add_task("first drain", total=1, state="waiting")

        def show(name: str, state: str) -> None:
            progress.update(tasks[name], state=state, completed=int(state == "ready"))

        def drain_warm() -> bool:
            warm = held(DRAIN_LEASE)
            show(DRAIN_LEASE, "ready" if warm else "starting")
            return warm

        started = supervisor.start(show, drain_warm)
    if started:
        CONSOLE.print(f"ready after {time.monotonic() - began:.1f} s")
    return started


def _lease_held(ledger: Ledger) -> Callable[[str], bool]:
    return lambda name: leases.holder(ledger, name, datetime.now(UTC)) is not None


def _about_sandbox(settings: Settings) -> str:
    without = ", ".join(settings.without_provider)
    return f"no credentials for {without}: the sandbox stands in, nothing reaches anybody there"


def _about_transport(settings: Settings) -> str:
    carrier = "our own HTTP/2 transport" if settings.transport == "wire" else "firebase-admin and aioapns"
    return f"pushes leave through {carrier} (NOTIFY_TRANSPORT={settings.transport})"


def _sockets(settings: Settings, where: stack.Addresses) -> str:
    """Where WebSocket clients connect."""
    return settings.gateway_url or where.gateway.replace("http", "ws", 1) + "/ws"


def _say_where(settings: Settings, where: stack.Addresses) -> None:
    if where.sandbox is not None:
        CONSOLE.print(_about_sandbox(settings), soft_wrap=True)
    CONSOLE.print(_about_transport(settings), soft_wrap=True)
    parts = (
        ("API", where.http),
        ("WebSocket", _sockets(settings, where)),
        ("Dagster", where.dagster),
        ("sandbox", where.sandbox),
    )
    for name, url in parts:
        if url is not None:
            CONSOLE.print(f"{name:<9} {url}", soft_wrap=True)
    CONSOLE.print(f"API docs {where.http}/docs", soft_wrap=True)
    CONSOLE.print(f"output of the processes: {settings.home / OUTPUT_FOLDER}", soft_wrap=True)
