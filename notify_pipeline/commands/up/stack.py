"""Which processes a running system consists of, on which ports, with which environment.

Belongs here: the list of children and what each needs. Does not belong here: starting them (``supervisor``).
"""

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from notify_pipeline.commands.up import probes
from notify_pipeline.commands.up.processes import ChildSpec
from notify_pipeline.core.settings import Settings

_LOOPBACK = "127.0.0.1"
_LOCATION = "notify"
_TOKEN_DESK = "notify_pipeline.delivery.token_desk"  # noqa: S105 - a module
# Two steps of a broadcast, the drain, receipts and reports run beside each other: each takes a share, not the machine.
_POLARS_THREADS = "2"
# Dagster is pinned, and says at every start of every run what is in beta.
_QUIET = ("ignore:Parameter `backfill_policy`", "ignore:Parameter `owners`")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of this system are to be found."""

    http: str
    dagster: str
    sandbox: str | None
    gateway: str
    token_desk: str
    code_socket: Path

    @property
    def workspace(self) -> Path:
        """Dagster's workspace file; it lives and goes with the socket that it names."""
        return self.code_socket.with_name("workspace.yaml")


def choose_addresses(settings: Settings) -> Addresses:
    """Settle the ports: the configured ones, or any free ones where 0 is configured.

    The code server listens on a UNIX socket in a folder of its own: a path below home could be too long for one (107
    bytes), and a path that is never used again cannot be taken for the server of an earlier life.
    """
    sandbox = None
    if settings.needs_sandbox:
        sandbox = f"http://{_LOOPBACK}:{_port(settings.sandbox_port, _LOOPBACK)}"
    return Addresses(
        http=f"http://{settings.http_host}:{_port(settings.http_port, settings.http_host)}",
        dagster=f"http://{_LOOPBACK}:{_port(settings.dagster_port, _LOOPBACK)}",
        sandbox=sandbox,
        gateway=f"http://{settings.gateway_host}:{_port(settings.gateway_port, settings.gateway_host)}",
        token_desk=f"http://{settings.token_desk_host}:{_port(settings.token_desk_port, settings.token_desk_host)}",
        code_socket=Path(tempfile.mkdtemp(prefix="notify-")) / "code.sock",
    )


def write_workspace(where: Addresses) -> None:
    """Tell the daemon and the UI of the one code server, under the name that people see."""
    where.workspace.write_text(
        f"load_from:\n  - grpc_server: {{socket: {where.code_socket}, location_name: {_LOCATION}}}\n"
    )


def child_environment(settings: Settings, where: Addresses, dagster_home: Path) -> dict[str, str]:
    """The environment of every child: ours, with what this system settled on spelled out."""
    env = {
        **os.environ,
        "NOTIFY_HOME": str(settings.home.resolve()),
        "NOTIFY_HTTP_PORT": port_of(where.http),
        "NOTIFY_DAGSTER_PORT": port_of(where.dagster),
        "NOTIFY_GATEWAY_PORT": port_of(where.gateway),
        "NOTIFY_TOKEN_DESK_PORT": port_of(where.token_desk),
        "DAGSTER_HOME": str(dagster_home.resolve()),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "PYTHONWARNINGS": ",".join((*filter(None, [os.environ.get("PYTHONWARNINGS")]), *_QUIET)),
    }
    env.setdefault("POLARS_MAX_THREADS", _POLARS_THREADS)
    if where.sandbox is not None:
        env |= {"NOTIFY_SANDBOX_PORT": port_of(where.sandbox), "NOTIFY_SANDBOX_URL": where.sandbox}
    env.pop("NOTIFY_ADMIN_KEY", None)  # the ledger holds its hash; no child needs it
    return env


def children(settings: Settings, where: Addresses, env: dict[str, str], output: Path) -> list[ChildSpec]:
    """The children, in the order in which they are started; ``output`` is the folder of their output files.

    Dagster's daemon and webserver wait for the code server: three processes that create Dagster's storage at once leave
    it broken.
    """
    landing = probes.output_grows(output / "lander.log")
    specs = [
        ChildSpec("code-server", _code_server(where), env, probes.accepts(where.code_socket)),
        ChildSpec("ingress", _ingress(settings, where), env, probes.http_answers(f"{where.http}/readyz")),
        ChildSpec("gateway", _python("ingest_api.gateway"), env, probes.http_answers(f"{where.gateway}/readyz")),
        ChildSpec("token-desk", _python(_TOKEN_DESK), env, probes.http_answers(f"{where.token_desk}/readyz")),
        ChildSpec("lander", _notify("lander"), env, landing, outlives=True),
        ChildSpec("daemon", _dagster_daemon(where), env, _dagster(where, probes.daemons_healthy), ("code-server",)),
        ChildSpec("webserver", _webserver(where), env, _dagster(where, probes.code_loaded), ("code-server",)),
    ]
    if where.sandbox is not None:
        answers = probes.http_answers(f"{where.sandbox}/healthz")
        specs.insert(0, ChildSpec("sandbox", _notify("sandbox"), env, answers, outlives=True))
    return specs


def port_of(url: str) -> str:
    """The port in one of our URLs, which always name it."""
    return url.rpartition(":")[2]


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", module, *arguments]


def _notify(*arguments: str) -> Sequence[str]:
    return _python("notify_pipeline.cli", *arguments)


def _ingress(settings: Settings, where: Addresses) -> Sequence[str]:
    return _python(
        "granian",
        *("--interface", "wsgi", "--factory", "--host", settings.http_host, "--port", port_of(where.http)),
        *("--workers", str(settings.http_workers), "--blocking-threads", str(settings.http_threads)),
        *("--http", "1", "--no-ws"),
        # A killed worker is back at once, not after 3.5 s. A stop that reaches a worker in the middle of its start is
        # swallowed by it, and granian would wait for ever.
        *("--respawn-failed-workers", "--respawn-interval", "0.1", "--workers-kill-timeout", "10"),
        "ingest_api.worker:create_app",
    )


def _code_server(where: Addresses) -> Sequence[str]:
    # Without -P: Dagster drops the first entry of sys.path as "the script's folder", whatever it is.
    return [
        *(sys.executable, "-m", "notify_pipeline.defs.code_server"),
        *("--socket", str(where.code_socket), "--module-name", "notify_pipeline.definitions"),
        *("--location-name", _LOCATION, "--empty-working-directory", "--log-level", "warning"),
        *("--log-format", "json"),
    ]


def _dagster_daemon(where: Addresses) -> Sequence[str]:
    return _python(
        "dagster._daemon",
        *("run", "--workspace", str(where.workspace), "--log-level", "warning", "--log-format", "json"),
    )


def _webserver(where: Addresses) -> Sequence[str]:
    return _python(
        "dagster_webserver",
        *("--host", _LOOPBACK, "--port", port_of(where.dagster), "--workspace", str(where.workspace)),
        *("--log-format", "json"),
    )


def _dagster(where: Addresses, question: Callable[[dict[str, object]], bool]) -> Callable[[], bool]:
    def probe() -> bool:
        state = probes.dagster_state(where.dagster)
        return state is not None and question(state)

    return probe


def _port(configured: int, host: str) -> int:
    if configured:
        return configured
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
