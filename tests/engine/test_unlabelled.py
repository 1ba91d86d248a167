"""Training with images without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdtui import events
from kdtui.engine.check import check
from kdtui.engine.data import Batch, train_loader
from kdtui.engine.fit import Fit
from kdtui.engine.report import Report
from kdtui.engine.setup import set_up
from kdtui.store.run import Run
from tests.engine.data.makers import label_folder
from tests.engine.data.miniatures import saved
from tests.engine.runs import StoppedAt, curve, events_of, fit, make_run, record, same_weights

HARD = {"target": "hard", "threshold": 0.4, "share": 0.6}
SOFT = {"threshold": 0.4}
SMALL: dict[str, Any] = {"training__epochs": 1, "training__batch_size": 2}
TERMS = [{"kind": "kl"}, {"kind": "feature", "on": "decoder"}, {"kind": "edge_body"}]


def settings(teacher: Run, **changes: Any) -> dict[str, Any]:
    """A distilled run with 8 labelled crops and 16 without labels."""
    return {
        "teacher__checkpoint": str(teacher.best),
        "distillation": {"enabled": True, "terms": TERMS},
        "data__train_limit": 8,
        "data__augmentation": "heavy",
        "training__batch_size": 4,
        "training__precision": "fp32",
        **changes,
    }


class Opened:
    """An attempt up to its first step, with batch norm in eval."""

    def __init__(self, run: Run) -> None:
        self.stage = set_up(run, record(run), world_size=1)
        self.fit = Fit(self.stage, Report(run, active=False))
        self.fit.load_teacher()
        self.stage.module.eval()

    def batches(self) -> list[Batch]:
        """The micro-batches of the first step."""
        stage = self.stage
        order = train_loader(stage.train_set, stage.profile.training, seed=0, epoch=1, unlabelled=stage.unlabelled)
        return list(order)[: len(order) // stage.steps_per_epoch]

    def gradients(self, batches: list[Batch]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The gradients of a step, and the parts of its loss."""
        self.stage.optimizer.zero_grad()
        parts = self.fit.backward(batches)
        named = self.stage.trainable.named_parameters()
        return {name: p.grad.clone() for name, p in named if p.grad is not None}, parts


@pytest.mark.parametrize("unlabelled", [SOFT, HARD], ids=["soft", "hard"])
def test_micro_batches_change_nothing_and_every_part_adds_up(
    tmp_path: Path, short_teacher: Run, unlabelled: dict[str, Any]
) -> None:
    results = []
    for size in (4, 1):
        changes = {"training__micro_batch_size": size, "data__unlabelled": {"weight": 2.0, **unlabelled}}
        run = Opened(make_run(tmp_path / str(size), **settings(short_teacher, **changes)))
        results.append(run.gradients(run.batches()))
    (whole, parts), (micro, micro_parts) = results
    for name, gradient in whole.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(micro[name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)
    torch.testing.assert_close(parts, micro_parts, rtol=1e-4, atol=1e-6)
    assert [*parts][:2] == ["loss", "loss.base"] and [*parts][-1] == "confident"
    own = [name for name in parts if name.startswith("loss.unlabelled.")]
    assert own == [f"loss.unlabelled.{name}" for name in (["hard"] if unlabelled is HARD else ["logits", "feature"])]
    torch.testing.assert_close(parts["loss.unlabelled"], torch.stack([parts[name] for name in own]).sum())
    both = parts["loss.distill"] + parts["loss.unlabelled"]
    torch.testing.assert_close(parts["loss"], 0.7 * both + 0.3 * parts["loss.base"])
    assert 0 < float(parts["confident"]) <= 1


def test_the_same_step_without_those_images_is_the_step_without_labels_less(tmp_path: Path, short_teacher: Run) -> None:
    """They add to the gradient of the labelled images, which they leave as it is."""
    run = Opened(make_run(tmp_path, **settings(short_teacher, data__unlabelled=SOFT)))
    batches = run.batches()
    labelled = [batch for batch in batches if batch.weak is None]
    others = [batch for batch in batches if batch.weak is not None]
    assert len(labelled) == len(others) == 1 and len(others[0].images) == 4
    both, alone, added = (run.gradients(part)[0] for part in (batches, labelled, others))
    for name, gradient in both.items():
        torch.testing.assert_close(alone[name] + added.get(name, 0), gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_the_teacher_sees_its_own_view(tmp_path: Path, short_teacher: Run) -> None:
    run = Opened(make_run(tmp_path, **settings(short_teacher, data__unlabelled=SOFT)))
    (batch,) = [batch for batch in run.batches() if batch.weak is not None]
    weak = batch.weak
    assert weak is not None and not torch.equal(batch.images, weak)
    views = (batch.images, weak), (torch.zeros_like(weak), weak), (weak, batch.images)
    shares = [run.gradients([batch._replace(images=one, weak=other)])[1]["confident"] for one, other in views]
    assert shares[0] == shares[1] != shares[2]


def test_pixels_that_show_no_picture_have_no_gradient(tmp_path: Path, short_teacher: Run) -> None:
    run = Opened(make_run(tmp_path, **settings(short_teacher, data__unlabelled=SOFT)))
    (batch,) = [batch for batch in run.batches() if batch.weak is not None]
    nothing = batch._replace(masks=torch.full_like(batch.masks, 255))
    gradients, parts = run.gradients([nothing])
    assert all(not gradient.any() for gradient in gradients.values())
    assert float(parts["loss"]) == float(parts["confident"]) == 0.0


def in_the_middle_of_epoch_2(seen: list[events.Event]) -> bool:
    return any(isinstance(event, events.Measured) and event.split == "train" and event.step == 3 for event in seen)


def test_resuming_equals_never_having_stopped(tmp_path: Path, short_teacher: Run) -> None:
    changes = settings(short_teacher, data__unlabelled=HARD, data__views=2, training__log_every=1)
    whole = make_run(tmp_path / "whole", **changes)
    cut = make_run(tmp_path / "cut", **changes, training__workers=1)
    assert fit(whole) == "finished"
    assert fit(StoppedAt(cut.path, in_the_middle_of_epoch_2)) == "stopped"
    assert fit(cut, attempt=2) == "finished"
    names = ("loss", "loss.unlabelled", "loss.unlabelled.hard", "confident", "gradient_norm")
    assert curve(whole, "train", *names) == curve(cut, "train", *names)
    assert all(None not in point for point in curve(whole, "train", *names))
    assert same_weights(whole.last, cut.last)


def test_unreadable_images_are_reported_once(tmp_path: Path, short_teacher: Run) -> None:
    del short_teacher
    more = tmp_path / "more"
    for number in range(11):
        saved(torch.randint(0, 255, (20, 30, 3), dtype=torch.uint8).numpy(), more / f"{number}.png")
    (more / "3.png").write_bytes(b"")
    data = label_folder(tmp_path / "data", count=4).model_dump(mode="json", exclude_none=True)
    data |= {"height": 32, "width": 32, "unlabelled": {"images": str(more), "share": 0.8}}
    teacher = make_run(tmp_path / "teacher", data={k: v for k, v in data.items() if k != "unlabelled"}, **SMALL)
    assert fit(teacher) == "finished"
    run = make_run(
        tmp_path / "run", data=data, teacher__checkpoint=str(teacher.best), distillation__enabled=True, **SMALL
    )
    assert fit(run) == "finished"
    notes = [event.message for event in events_of(run) if isinstance(event, events.Noted)]
    warnings = [event for event in events_of(run) if getattr(event, "code", "") == "unreadable-image"]
    assert [note for note in notes if "3.png" in note] == [
        f"skipped: {more / '3.png'}: an image has a format that is not read (an empty file)"
    ]
    assert len(warnings) == 1


def test_a_check_states_how_many_images_there_are_what_they_cost_and_which_terms_skip_them(
    tmp_path: Path, short_teacher: Run
) -> None:
    profile = make_run(tmp_path, **settings(short_teacher, data__unlabelled=HARD)).profile()
    (answer,) = [one for one in check(profile)["checks"] if one["name"] == "unlabelled images"]
    assert answer["ok"]
    assert answer["message"] == (
        "16 images (training samples beyond data.train_limit), hard targets; 6 in a step with 4 labelled ones: "
        "a step takes about 2.5 times as long; about 0.1 MiB of decoded images"
    )
    profile = make_run(tmp_path, **settings(short_teacher, data__unlabelled=SOFT)).profile()
    (answer,) = [one for one in check(profile)["checks"] if one["name"] == "unlabelled images"]
    assert answer["message"].endswith(" of decoded images; distill.edge_body: not on them, as labels are needed")


def test_terms_that_all_need_labels_leave_soft_labels(tmp_path: Path, short_teacher: Run) -> None:
    changes = {"distillation": {"enabled": True, "terms": [{"kind": "edge_body"}]}, "data__unlabelled": SOFT}
    run = Opened(make_run(tmp_path, **settings(short_teacher, **changes)))
    _, parts = run.gradients(run.batches())
    assert float(parts["loss.unlabelled.soft"]) == float(parts["loss.unlabelled"]) > 0
