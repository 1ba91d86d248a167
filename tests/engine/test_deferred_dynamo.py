"""Each in a process of its own, forked where the engine is imported: what is imported stays imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.forks import Run, forking

STEP = """
import sys
import torch
network = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(network.parameters())
def step():
    optimizer.zero_grad()
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
def imported():
    return "torch._dynamo.eval_frame" in sys.modules
"""
CASES = {
    "no training step": """
import kdtui.engine.fit
step()
assert not imported()
""",
    "a submodule": """
import torch._dynamo.eval_frame as frames
from torch._dynamo import utils
assert frames is sys.modules["torch._dynamo.eval_frame"] is torch._dynamo.eval_frame
assert frames.__spec__.loader is frames.__loader__ and frames.__spec__.origin == frames.__file__
assert utils is sys.modules["torch._dynamo.utils"] is torch._dynamo.utils
assert not [name for name, module in sys.modules.items() if "deferred" in type(module).__module__]
assert not [finder for finder in sys.meta_path if "deferred" in type(finder).__module__]
from kdtui.engine.deferred_dynamo import defer_dynamo
package = torch._dynamo
defer_dynamo()
assert torch._dynamo is sys.modules["torch._dynamo"] is package
""",
    "what was read before": """
from torch._dynamo import OptimizedModule, disable, graph_break
from torch._dynamo.utils import is_compile_supported
assert not isinstance(network, OptimizedModule)
step()
disabled = disable(lambda x: x + 1)
graph_break()
assert disabled(1) == 2 and not imported()
compiled = torch.compile(network, backend="eager")
assert imported() and isinstance(compiled, OptimizedModule) and not isinstance(network, OptimizedModule)
assert disabled(1) == 2
assert is_compile_supported("cpu") is torch._dynamo.utils.is_compile_supported("cpu")
step()
""",
}


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with forking("import kdtui.engine, torch") as run:
        yield run


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if "compile" in code else ()) for case, code in CASES.items()]
)
def test_the_compiler_is_imported_by_the_first_that_needs_more_than_its_name(
    case: str, tmp_path: Path, run: Run
) -> None:
    done = run(STEP + CASES[case], tmp_path)
    assert done.returncode == 0, done.stderr
