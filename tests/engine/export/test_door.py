"""Giving up an export in the engine itself."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kdtui.errors import Interrupted
from kdtui.exports import ExportOptions
from kdtui.launch.converse import Step
from kdtui.launch.exporting import Order, export
from kdtui.store.run import Run


@pytest.fixture(autouse=True)
def own_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDTUI_ENGINE", raising=False)


def test_given_up_while_torch_traces(run: Run, tmp_path: Path) -> None:
    """The dynamo exporter catches exceptions and tries again; it must not catch this."""
    target = tmp_path / "best_model.onnx"
    heard: list[Step] = []
    late = threading.Event()
    timer = threading.Timer(1.0, late.set)  # well inside the seconds that tracing takes

    def hear(order: Order, step: Step) -> None:
        heard.append(step)
        if step.words == "exporting":
            timer.start()

    with pytest.raises(Interrupted):
        export([Order(run.best, run, target, ExportOptions())], heard=hear, cancelled=late.is_set)
    timer.cancel()
    assert [step.words for step in heard] == ["loading", "exporting"]
    assert list(tmp_path.iterdir()) == []
