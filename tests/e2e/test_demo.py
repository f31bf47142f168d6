"""The demo is the main job end to end; a smaller one is the test of it."""

from pathlib import Path

import orjson
import pytest
from rich.console import Console

from notify_pipeline.commands.demo.run import run_demo


@pytest.mark.parametrize("transport", ["wire", pytest.param("library", marks=pytest.mark.long)])
def test_every_figure_reconciles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setenv("NOTIFY_TRANSPORT", transport)
    monkeypatch.setenv("NOTIFY_INLINE_LIMIT", "1000")
    code = run_demo(tmp_path / "demo", Console(stderr=True), 1_200)
    verdict = orjson.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert verdict["ok"] is True, verdict
    assert code == 0
    assert verdict["lost"] == verdict["duplicates"] == 0
    assert verdict["everywhere_once"] is True
    assert 0 < verdict["received"] <= verdict["accepted"]
