"""Giving up an export in the engine itself."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from kdtui.errors import Interrupted
from kdtui.export_options import ExportOptions
from kdtui.store.run import Run
from tests.engine.preloaded import Process

ENGINE = """
import os, signal, sys
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from kdtui.engine.__main__ import main

def wait_while_traced(module, inputs):
    if torch.compiler.is_exporting():
        os.write(1, b"tracing\\n")
        signal.pause()

register_module_forward_pre_hook(wait_while_traced)
sys.exit(main())
"""


def test_an_export_is_cancelled_while_torch_traces(run: Run, tmp_path: Path) -> None:
    """The dynamo exporter catches exceptions and tries again; it must not catch this."""
    target = tmp_path / "best_model.onnx"
    options = json.dumps(ExportOptions().to_json())
    arguments = ["export", str(run.best), "--run", str(run.path), "--file", str(target), options]
    read, write = os.pipe()
    with os.fdopen(read) as answers:
        process = Process("-c", ENGINE, *arguments, stdout=write)
        os.close(write)
        try:
            assert answers.readline() == "tracing\n"
            os.kill(process.pid, signal.SIGTERM)
            answer = answers.read()
            _, progress = process.communicate(60)
        finally:
            process.kill()
    assert json.loads(answer)["error"]["error"] == "Interrupted"
    assert process.returncode == Interrupted.exit_code
    steps = [json.loads(line)["progress"]["words"] for line in progress.splitlines() if line.startswith('{"progress"')]
    assert steps == ["loading", "exporting"]
    assert list(tmp_path.iterdir()) == []
