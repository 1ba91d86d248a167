"""Every profile that is shipped loads, and the pairs are matched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdtui.compare import settings
from kdtui.profile import Unfreezing, dump, load
from kdtui.profile.find import SHIPPED, listing

NAMES = sorted(path.stem for path in SHIPPED.glob("*.toml"))
WANTED = {"baseline", "hierarchical-b3", "hierarchical-b0", "distill-b0-from-b3"} | {
    f"{data}-{role}" for data in ("camvid", "people", "demo") for role in ("teacher", "baseline", "distilled")
}


def test_the_promised_ones_are_there() -> None:
    assert set(NAMES) >= WANTED


@pytest.mark.parametrize("name", NAMES)
def test_loads_under_its_own_name(name: str) -> None:
    profile = load(SHIPPED / f"{name}.toml")
    assert profile.name == name
    assert profile.description
    assert load(SHIPPED / f"{name}.toml", ["seed=3"]).seed == 3


@pytest.mark.parametrize("name", NAMES)
def test_survives_dump(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    profile = load(SHIPPED / f"{name}.toml")
    file = tmp_path_factory.mktemp("dump") / "other-name.toml"
    file.write_bytes(dump(profile))
    assert load(file) == profile


@pytest.mark.parametrize(
    ("baseline", "distilled"),
    [(f"{data}-baseline", f"{data}-distilled") for data in ("camvid", "people", "demo")]
    + [("hierarchical-b0", "distill-b0-from-b3")],
)
def test_pairs_differ_in_the_treatment_only(baseline: str, distilled: str) -> None:
    alone, taught = (load(SHIPPED / f"{name}.toml").model_dump() for name in (baseline, distilled))
    ignored = ("name", "tags", "description", "teacher", "distillation")
    assert settings(alone, without=ignored) == settings(taught, without=ignored)
    assert not alone["distillation"]["enabled"]
    assert taught["distillation"]["enabled"]


def test_the_predecessors_recipe() -> None:
    profile = load("distill-b0-from-b3")
    assert (profile.distillation.temperature, profile.distillation.alpha) == (4.0, 0.7)
    assert (profile.training.epochs, profile.training.batch_size, profile.training.learning_rate) == (100, 2, 1e-4)
    assert load("hierarchical-b3").student.label == "timm-efficientnet-b3"


def test_its_staged_recipes_differ_from_it_in_their_schedule_only() -> None:
    whole = load("distill-b0-from-b3").model_dump()
    ignored = ("name", "tags", "description", "distillation")
    for name in ("temperature", "adaptive"):
        assert settings(load(f"distill-b0-from-b3-{name}").model_dump(), without=ignored) == settings(
            whole, without=ignored
        )
    temperature = load("distill-b0-from-b3-temperature").distillation
    assert (temperature.temperature, temperature.temperature_end, temperature.temperature_schedule) == (4, 1, "cosine")
    assert load("distill-b0-from-b3-adaptive").distillation.alpha_schedule == "adaptive"
    assert load("distill-b0-from-b3-progressive").training.unfreezing == Unfreezing(start=11, every=10)


def test_no_shipped_profile_names_this_machine() -> None:
    for name in NAMES:
        text = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
        assert "../" not in text
        assert '"/' not in text.replace("--set data.root=/", "")


def test_the_list_reads_descriptions() -> None:
    assert all(file.description for file in listing() if file.shipped)


def test_a_pipe_among_the_profiles_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").mkdir()
    os.mkfifo(tmp_path / "profiles" / "pipe.toml")
    assert {file.name: file.description for file in listing()}["pipe"] == "(not a file)"
