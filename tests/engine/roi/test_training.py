"""Networks of kind ``roi`` in the ordinary training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.check import check
from kdtui.errors import ModelError
from kdtui.store.run import Run
from tests.engine.rank_processes import ranks
from tests.engine.roi.gradients import keep_gradients
from tests.engine.roi.networks import TERMS, make_roi_run
from tests.engine.runs import StoppedAt, curve, events_of, fit, same_counts, same_weights


def test_it_trains_and_its_best_checkpoint_is_that_of_the_best_target_iou(trained: Run) -> None:
    values = {epoch: iou for epoch, (_, iou) in enumerate(curve(trained, "val", "target_iou"), 1)}
    content = checkpoint.load(trained.best)
    assert (content["monitor"], content["epoch"]) == ("target_iou", max(values, key=lambda epoch: values[epoch]))
    assert {name for name, _ in events_scalars(trained, "train")} >= {"loss.base.contour", "loss.base.dice"}
    assert not any("contour" in name or "terms" in name for name in content["student"])
    assert len(list(trained.visualization(2).glob("*.png"))) == 4


def events_scalars(run: Run, split: str) -> list[tuple[str, float | None]]:
    points = [event for event in events_of(run) if isinstance(event, events.Measured) and event.split == split]
    return [item for point in points for item in point.scalars.items()]


def test_a_stopped_training_continues_bit_for_bit(trained: Run, tmp_path: Path) -> None:
    run = make_roi_run(tmp_path, training__visualize_every=1, **TERMS)
    stopping = StoppedAt(run.path, lambda done: sum(isinstance(event, events.Measured) for event in done) >= 1)
    assert fit(stopping) == "stopped"
    assert fit(run, attempt=2) == "finished"
    for name in ("best_model.pth", "last.pth"):
        assert same_weights(run.path / "checkpoints" / name, trained.path / "checkpoints" / name)
    assert same_counts(run, trained)


def distilled(folder: Path, teacher: Run, terms: list[dict[str, Any]], **changes: Any) -> Run:
    """A run whose student is distilled from a trained network of another width."""
    own = {"teacher__checkpoint": str(teacher.best), "distillation": {"enabled": True, "terms": terms}}
    return make_roi_run(folder, **own, **changes)


FOREGROUND = {"kind": "kl", "on": "foreground"}


def test_stage_1_is_trained_first_and_then_frozen(trained: Run, tmp_path: Path) -> None:
    """In the first epoch by its labels and by its teacher, and not by the masks of boxes."""
    terms = [{"kind": "kl"}, FOREGROUND, {"kind": "feature", "on": "decoder"}]
    run = distilled(tmp_path, trained, terms, student__stage1_epochs=1, student__head_channels=12, **TERMS)
    assert fit(run) == "finished"
    before, first, second = (
        checkpoint.load(run.path / "checkpoints" / name)["student"]
        for name in ("untrained_model.pth", "checkpoint_epoch_0001.pth", "checkpoint_epoch_0002.pth")
    )

    def changed(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
        return {name.split(".")[0] for name in one if not one[name].equal(other[name])}

    assert changed(before, first) == {"stage1"}
    assert changed(first, second) == {"head"}


def test_a_dry_run_says_why_the_teacher_sees_every_picture(trained: Run, tmp_path: Path) -> None:
    for changes, reason in (({"data__view_seed": 0}, "its outputs are not one map of logits per image"), ({}, "")):
        profile = distilled(tmp_path / str(len(changes)), trained, [{"kind": "kl"}], **changes).profile()
        (message,) = [one["message"] for one in check(profile)["checks"] if one["name"] == "teacher"]
        assert message.partition("cannot be cached: ")[2] == reason


def test_stage_1_alone_needs_a_term_that_trains_it(tmp_path: Path) -> None:
    run = make_roi_run(tmp_path, student__stage1_epochs=1)
    with pytest.raises(ModelError, match="no loss term trains stage 1") as refused:
        fit(run)
    assert refused.value.found == "ce, dice"


def gradients(folder: Path, teacher: Run, world_size: int = 1, micro: int | None = None) -> dict[str, torch.Tensor]:
    terms = [
        {"kind": "kl"},
        {"kind": "kl", "on": "bg_fg"},
        FOREGROUND,
        {"kind": "feature", "on": "encoder", "name": "stage1"},
        {"kind": "feature", "on": "head", "name": "head"},
        {"kind": "cwd", "on": "head.0"},
    ]
    run = distilled(
        folder,
        teacher,
        terms,
        student__head_channels=12,
        data__train_samples=4,
        training__micro_batch_size=micro,
        training__devices=world_size,
        distillation__stage1_alpha=0.5,
        **TERMS,
    )
    if world_size == 1:
        assert len(set(keep_gradients(run))) == (1 if micro is None else 2)  # batches of different numbers of boxes
    else:
        ranks(world_size, str(Path(__file__).with_name("gradients.py")), str(run.path))
    kept: dict[str, torch.Tensor] = torch.load(run.path / "gradients.pth", weights_only=True)
    return kept


def test_gradients_do_not_depend_on_micro_batches_or_ranks(trained: Run, tmp_path: Path) -> None:
    whole = gradients(tmp_path / "whole", trained)
    others = gradients(tmp_path / "micro", trained, micro=2), gradients(tmp_path / "ranks", trained, world_size=2)
    own = {f"objective.terms.{name}.weight" for name in ("distill_cwd.projection", "base_contour.head.0")}
    assert own <= whole.keys()
    for other in others:
        for name, gradient in whole.items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=1e-4 * scale + 1e-9, msg=name)
