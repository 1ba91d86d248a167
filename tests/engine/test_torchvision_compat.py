"""Each in a process without torchvision: an import is only done once, and operators stay declared.

The processes are forked from an interpreter that has torch imported, which takes most of the time of each.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.forks import ENVIRONMENT, Run, forking

# What a torchvision built for another torch does when it is imported; where its operators load, nothing happens.
REGISTERS = """
import torch
from torchvision import parts
for name in ("nms", "qnms"):
    torch.library.register_fake(f"torchvision::{name}")(lambda dets, scores, iou_threshold: dets)
loaded = True
"""
OPERATORS_LOAD = """
import torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
LOOK = """
import sys
import kdtui.engine
from kdtui.engine import torchvision_compat
module = sys.modules["torchvision"]
print(module.loaded, module.parts is sys.modules["torchvision.parts"], len(torchvision_compat._declared))
"""


def stand_in(folder: Path, code: str) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(code, encoding="utf-8")
    (package / "parts.py").touch()
    return folder


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs code where torch is imported, and torchvision is the one in a folder."""
    with forking('import sys, torch\nassert "torchvision" not in sys.modules') as run:
        yield run


def run_fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=False)


def test_missing_operators_are_declared_and_the_import_is_done_again(tmp_path: Path, run: Run) -> None:
    folder = stand_in(tmp_path, REGISTERS)
    plain = run("import torchvision", folder)
    assert "operator torchvision::nms does not exist" in plain.stderr
    done = run(LOOK, folder)
    assert done.stdout.split() == ["True", "True", "1"], done.stderr


def test_nothing_is_done_where_the_operators_load(tmp_path: Path, run: Run) -> None:
    done = run(LOOK, stand_in(tmp_path, OPERATORS_LOAD + REGISTERS))
    assert done.stdout.split() == ["True", "True", "0"], done.stderr


@pytest.mark.parametrize("error", ["RuntimeError('another one')", "ImportError('another one')"])
def test_other_failures_of_the_import_are_left_as_they_are(tmp_path: Path, run: Run, error: str) -> None:
    done = run("import kdtui.engine", stand_in(tmp_path, f"raise {error}"))
    assert done.returncode == 1
    assert f"{error.partition('(')[0]}: another one" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_installed_torchvision_works_either_way() -> None:
    plain = run_fresh("import torchvision")
    code = """
from kdtui.engine import torchvision_compat
import torch
from torchvision.transforms import v2
assert v2.functional.hflip(torch.arange(3.0)[None, None]).tolist() == [[[2.0, 1.0, 0.0]]]
print(len(torchvision_compat._declared))
"""
    done = run_fresh(code)
    assert done.stdout.strip() == ("0" if plain.returncode == 0 else "1"), done.stderr
