"""A trained network of kind ``roi``, shared by the tests that only read its run."""

from __future__ import annotations

import pytest

from kdtui.store.run import Run
from tests.engine.roi.networks import TERMS, make_roi_run
from tests.engine.runs import fit


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_roi_run(tmp_path_factory.mktemp("roi"), training__visualize_every=1, **TERMS)
    assert fit(run) == "finished"
    return run
