"""The rooms of the house: who may import whom, and how large a module may grow."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ingest_api", "notify_pipeline")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ROOMS = ("core", "delivery", "channels", "receipts", "reports", "defs", "sandbox", "commands")
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40
_LOOKED_AT = (ast.Module, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef)


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    """Parse once what each test here looks at; the module itself comes first."""
    return tuple(node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, _LOOKED_AT))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    return tuple(_each_import(path))


def _each_import(path: Path) -> Iterator[str]:
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)}:{node.lineno} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _importers_of(package: str) -> set[str]:
    return {_name(path) for path in MODULES if any(_within(name, package) for name in _imports(path))}


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 40
    assert all((ROOT / "notify_pipeline" / room).is_dir() for room in ROOMS)


def test_only_defs_imports_dagster() -> None:
    allowed = ("notify_pipeline.defs", "notify_pipeline.definitions")
    assert [m for m in _importers_of("dagster") if not any(_within(m, a) for a in allowed)] == []


def test_only_the_ingress_imports_flask() -> None:
    assert [m for m in _importers_of("flask") if not _within(m, "ingest_api")] == []


def test_only_the_dashboard_imports_dash_and_nobody_does_before_it_is_opened() -> None:
    importers = _importers_of("dash") | _importers_of("plotly")
    assert importers
    assert [m for m in importers if not _within(m, "ingest_api.dashboard")] == []
    # In a process of its own: this one may have opened the dashboard.
    code = "import sys, ingest_api.worker; sys.exit('dash' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_pipeline_never_imports_the_ingress() -> None:
    assert [m for m in _importers_of("ingest_api") if not _within(m, "ingest_api")] == []


def test_the_ingress_imports_core_and_the_reading_side_of_reports_only() -> None:
    def may(name: str) -> bool:
        # The reading side: every module of reports whose name begins with "reading".
        return _within(name, "notify_pipeline.core") or name.startswith("notify_pipeline.reports.reading")

    bad = [
        f"{_name(path)} imports {name}"
        for path in MODULES
        if _within(_name(path), "ingest_api")
        for name in _imports(path)
        if _within(name, "notify_pipeline")
        and not may(name)
        and name not in ("notify_pipeline", "notify_pipeline.reports")
    ]
    assert bad == []


# Each room and the sibling rooms it may know; defs, commands and definitions bind everything together.
SIBLINGS = {
    "core": (),
    "channels": ("core",),
    "sandbox": ("core",),
    "receipts": ("core",),
    "reports": ("core",),
    "delivery": ("core", "channels"),
}


@pytest.mark.parametrize("room", SIBLINGS)
def test_rooms_know_only_what_they_may(room: str) -> None:
    allowed = tuple(f"notify_pipeline.{r}" for r in (room, *SIBLINGS[room]))
    bad = [
        f"{_name(path)} imports {name}"
        for path in MODULES
        if _within(_name(path), f"notify_pipeline.{room}")
        for name in _imports(path)
        if _within(name, "notify_pipeline") and name != "notify_pipeline" and not any(_within(name, a) for a in allowed)
    ]
    assert bad == []


def _faults(path: Path) -> Iterator[str]:
    """Yield what a module has too little or too much of."""
    text = path.read_text()
    if path.name == "__init__.py":
        if text:
            yield "is not empty"
        return
    module, *nodes = _nodes(path)
    assert isinstance(module, ast.Module)
    if not ast.get_docstring(module):
        yield "does not say what belongs in it"
    if (lines := len(text.splitlines())) > MAX_MODULE_LINES:
        yield f"has {lines} lines"
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{node.name} has {lines} lines"


def test_modules_say_what_they_are_and_stay_small() -> None:
    assert [f"{_name(path)}: {fault}" for path in MODULES for fault in _faults(path)] == []


def test_nothing_tracked_names_this_machine_or_a_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--hash=sha256:" in lock
