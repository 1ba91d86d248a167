from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from kdtui import events
from kdtui.compare.bootstrap import read_counts
from kdtui.engine import checkpoint
from kdtui.engine.check import check
from kdtui.engine.fit import Fit
from kdtui.engine.models import count_parameters
from kdtui.engine.network import build_student
from kdtui.engine.report import Report
from kdtui.engine.schedules import rate_factor
from kdtui.engine.setup import set_up
from kdtui.errors import CheckpointError, DivergedError, ModelError, TeacherError
from kdtui.store.run import Run
from tests.engine.runs import (
    StoppedAt,
    curve,
    events_of,
    fit,
    make_run,
    record,
    same_counts,
    same_weights,
    tiny_profile,
)

RESUMABLE: dict[str, Any] = {
    # Its decoder drops channels at random: generators matter.
    "student": {"architecture": "PSPNet", "encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": 16},
    "data__augmentation": "heavy",
    "data__train_samples": 12,
    "training__epochs": 3,
    "training__precision": "bf16",
    "training__batch_size": 4,
    "training__micro_batch_size": 2,
    "training__warmup": 0.2,
    "training__keep_checkpoints": 9,
}
TERMS = [
    {"kind": "kl"},
    {"kind": "kl", "on": "bg_fg", "weight": 0.3},
    {"kind": "kl", "on": "target_nontarget", "weight": 0.3},
    {"kind": "feature", "on": "decoder", "weight": 0.1},
]
"""The default terms, and one whose projection is trained: the decoders of student and teacher have other widths."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("teacher"), name="teacher", seed=7)
    assert fit(run) == "finished"
    return run


def test_a_run_leaves_what_it_promises(teacher: Run) -> None:
    kinds = [event.kind for event in events_of(teacher)]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    for path in (teacher.untrained, teacher.best, teacher.last, teacher.epoch_checkpoint(2), teacher.training_log):
        assert path.stat().st_size > 0
    assert list(teacher.logs.glob("events.out.tfevents.*"))
    assert [step for step, *_ in curve(teacher, "val", "miou")] == [3, 6]
    assert [step for step, *_ in curve(teacher, "train", "loss")] == [2, 3, 4, 6]
    assert all(0 < share < 1 for _, share in curve(teacher, "train", "data_wait"))
    started = events_of(teacher)[0]
    assert isinstance(started, events.Started)
    assert started.teacher is None
    assert started.precision == "bf16" or started.precision == "fp32"


def test_epochs_may_pass_without_an_evaluation(tmp_path: Path) -> None:
    whole, parts = (
        make_run(tmp_path, name=name, training__epochs=3, training__evaluate_every=every)
        for name, every in (("whole", None), ("parts", 2))
    )
    fit(whole)
    stopped = StoppedAt(parts.path, lambda seen: any(isinstance(event, events.Saved) for event in seen))
    assert fit(stopped) == "stopped"  # before the first evaluation
    assert fit(Run(parts.path), attempt=2) == "finished"
    assert [step for step, _ in curve(parts, "val", "miou")] == [6, 9]
    assert curve(parts, "val", "miou") == curve(whole, "val", "miou")[1:]
    assert curve(parts, "train", "loss") == curve(whole, "train", "loss")
    assert same_weights(parts.last, whole.last)
    best = max(curve(parts, "val", "miou"), key=lambda point: point[1])
    assert checkpoint.load(parts.best)["step"] == best[0]
    assert read_counts(parts).miou == pytest.approx(best[1], abs=1e-9)


def test_training_changes_the_student_and_seeds_repeat_bit_for_bit(tmp_path: Path, teacher: Run) -> None:
    again = make_run(tmp_path, name="again", seed=7)
    other = make_run(tmp_path, name="other", seed=8, training__epochs=1)
    fit(again)
    fit(other)
    assert same_weights(teacher.last, again.last)
    assert curve(teacher, "train", "loss") == curve(again, "train", "loss")
    assert not same_weights(teacher.epoch_checkpoint(1), other.last)
    assert not same_weights(teacher.last, teacher.untrained)


def distilled(root: Path, teacher: Run, **changes: Any) -> Run:
    return make_run(
        root,
        **{
            "teacher__checkpoint": str(teacher.best),
            "distillation__enabled": True,
            "distillation__terms": TERMS,
            **RESUMABLE,
            **changes,
        },
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, teacher: Run) -> Run:
    run = distilled(tmp_path_factory.mktemp("undisturbed"), teacher)
    assert fit(run) == "finished"
    return run


def during_evaluation_of_epoch_2(seen: list[events.Event]) -> bool:
    return any(isinstance(e, events.Measured) and e.split == "train" and e.step == 6 for e in seen)


def after_epoch_2(seen: list[events.Event]) -> bool:
    return any(isinstance(e, events.Saved) and e.step == 6 for e in seen)


def in_the_middle_of_epoch_3(seen: list[events.Event]) -> bool:
    return any(isinstance(e, events.Measured) and e.split == "train" and e.step == 8 for e in seen)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, teacher: Run) -> Run:
    """A distilled run that was stopped in the middle of its last epoch; its loading processes were ahead of it."""
    run = distilled(tmp_path_factory.mktemp("stopped"), teacher, training__workers=2)
    assert fit(StoppedAt(run.path, in_the_middle_of_epoch_3)) == "stopped"
    return run


@pytest.mark.parametrize("when", [during_evaluation_of_epoch_2, after_epoch_2, in_the_middle_of_epoch_3])
def test_resuming_equals_never_having_stopped(
    tmp_path: Path, teacher: Run, stopped: Run, undisturbed: Run, when: Any
) -> None:
    if when is in_the_middle_of_epoch_3:
        run = Run(Path(shutil.copytree(stopped.path, tmp_path / stopped.id)))
    else:
        run = distilled(tmp_path, teacher)
        assert fit(StoppedAt(run.path, when)) == "stopped"
    assert isinstance(events_of(run)[-1], events.Stopped)
    assert fit(run, attempt=2) == "finished"
    names = ("loss", "loss.base", "loss.distill", "lr", "gradient_norm", "miou", "best_miou", "retention", "agreement")
    for split in ("train", "val"):
        assert curve(run, split, *names) == curve(undisturbed, split, *names)
    assert same_weights(run.last, undisturbed.last)
    assert same_weights(run.best, undisturbed.best)
    assert same_counts(run, undisturbed)
    ours, theirs = (checkpoint.load(r.last)["resume"] for r in (run, undisturbed))
    moments, expected = ours["optimizer"]["state"], theirs["optimizer"]["state"]
    assert all(torch.equal(moments[k]["exp_avg_sq"], expected[k]["exp_avg_sq"]) for k in expected)
    assert list(theirs["terms"]) == ["distill_feature.projection.weight", "distill_feature.projection.bias"]
    assert all(torch.equal(ours["terms"][name], value) for name, value in theirs["terms"].items())


def test_what_the_loss_trains_is_kept_beside_the_student_and_counted_apart(undisturbed: Run) -> None:
    last, best = checkpoint.load(undisturbed.last), checkpoint.load(undisturbed.best)
    assert last["student"].keys() == best["student"].keys()
    assert not any("projection" in name for name in last["student"])
    assert "resume" not in best
    trained, begun = last["resume"]["terms"], checkpoint.load(undisturbed.epoch_checkpoint(1))["resume"]["terms"]
    assert not any(torch.equal(trained[name], begun[name]) for name in trained)
    started = events_of(undisturbed)[0]
    assert isinstance(started, events.Started)
    network = build_student(undisturbed.profile().student, task="hierarchical", classes=3)
    assert started.student["parameters"] == count_parameters(network).stored
    assert all(math.isfinite(value) for _, value in curve(undisturbed, "train", "loss.distill.feature"))


def test_a_new_run_with_other_terms_starts_those_anew_and_is_reported(
    tmp_path: Path, teacher: Run, stopped: Run
) -> None:
    other = [{"kind": "kl"}, {"kind": "cwd", "on": "decoder"}]
    child = distilled(tmp_path, teacher, name="child", distillation__terms=other, resume_from=stopped.last)
    assert fit(child) == "finished"
    warnings = {event.code: event.message for event in events_of(child) if isinstance(event, events.Warned)}
    assert "distill_feature.projection" in warnings["terms-restarted"]
    assert "distill_cwd.projection" in warnings["terms-restarted"]
    ours, theirs = (checkpoint.load(path)["resume"]["optimizer"]["state"] for path in (child.last, stopped.last))
    assert float(ours[0]["step"]) > float(theirs[0]["step"]) > float(ours[max(ours)]["step"]) > 0


def test_a_term_on_features_that_do_not_exist_is_refused_before_training(tmp_path: Path, teacher: Run) -> None:
    run = distilled(tmp_path, teacher, distillation__terms=[{"kind": "feature", "on": "encoder.9"}])
    with pytest.raises(ModelError, match="the student has no output of this name") as caught:
        fit(run)
    assert caught.value.where == "distillation.terms[0].on"
    assert caught.value.allowed is not None
    assert "encoder.1, encoder.2, encoder.3, encoder, decoder" in caught.value.allowed
    (answer,) = [answer for answer in check(run.profile())["checks"] if not answer["ok"]]
    assert (answer["name"], answer["message"]) == ("loss terms", caught.value.message)


def test_a_term_on_features_that_the_teacher_lacks_names_the_key_to_set(tmp_path: Path, teacher: Run) -> None:
    term = {"kind": "feature", "on": "decoder", "teacher_on": "decode"}
    looks = check(distilled(tmp_path, teacher, distillation__terms=[term]).profile())["checks"]
    (answer,) = [answer for answer in looks if not answer["ok"]]
    assert "the teacher has no output of this name" in answer["message"]
    assert answer["hint"] == 'set teacher_on of this term to "decoder"'


def test_the_check_states_what_each_term_trains_and_the_memory_of_relations(tmp_path: Path, teacher: Run) -> None:
    terms = [{"kind": "mgd", "on": "decoder"}, {"kind": "relation", "on": "logits"}, {"kind": "attention"}]
    checks = check(distilled(tmp_path, teacher, distillation__terms=terms).profile())["checks"]
    (message,) = [answer["message"] for answer in checks if answer["name"] == "loss terms"]
    assert message.split("\n  ")[1:] == [
        "distill.mgd: trains 1,304 parameters of its own, which are not exported",
        "distill.relation: about 48.0 MiB for relations",
    ]


def test_a_check_without_the_teacher_reports_that_its_terms_are_not_checked(tmp_path: Path) -> None:
    profile = tiny_profile(
        distillation__enabled=True, distillation__terms=TERMS, teacher__checkpoint=str(tmp_path / "absent.pth")
    )
    (terms,) = [answer for answer in check(profile)["checks"] if answer["name"] == "loss terms"]
    assert terms["message"].endswith("those of the distillation need the teacher")


def test_a_teacher_leaves_the_random_draws_of_its_student_alone(tmp_path: Path, teacher: Run) -> None:
    """The matched baseline: with alpha 0 a distilled student is the student alone, dropped channels included."""
    settings = {**RESUMABLE, "training__epochs": 1}
    alone = make_run(tmp_path, name="alone", **settings)
    taught = distilled(tmp_path, teacher, distillation__alpha=0.0, **{**settings, "name": "taught"})
    fit(alone)
    fit(taught)
    assert curve(alone, "train", "loss.base", "gradient_norm") == curve(taught, "train", "loss.base", "gradient_norm")
    assert same_weights(alone.last, taught.last)


def test_a_new_run_starts_from_the_state_of_another(
    tmp_path: Path, teacher: Run, stopped: Run, undisturbed: Run
) -> None:
    child = distilled(tmp_path, teacher, name="child", resume_from=stopped.last)
    assert fit(child) == "finished"
    assert same_weights(child.last, undisturbed.last)
    assert curve(child, "val", "miou", "best_miou") == curve(undisturbed, "val", "miou", "best_miou")


@pytest.mark.parametrize("beside", [True, False])
def test_a_new_run_that_never_beats_the_score_it_inherits_has_its_weights(
    tmp_path: Path, teacher: Run, stopped: Run, beside: bool
) -> None:
    if beside:  # the state is that of the middle of a later epoch
        parent = stopped
    else:
        parent = distilled(tmp_path, teacher, training__epochs=1)
        fit(parent)
        parent.best.rename(tmp_path / "elsewhere.pth")
    child = distilled(tmp_path, teacher, name="child", training__epochs=1, resume_from=parent.last)
    assert fit(child) == "finished"  # nothing is left to train
    assert same_weights(child.best, parent.best if beside else parent.last)
    assert checkpoint.load(child.best)["run"] == child.id


def test_a_new_horizon_moves_the_schedule_and_is_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    fit(run)
    before = run.profile_path.read_bytes()
    assert fit(run, attempt=2, total_epochs=3) == "finished"
    assert run.profile_path.read_bytes() == before
    started = [e for e in events_of(run) if isinstance(e, events.Started)]
    assert [(e.epochs, e.resumed_step) for e in started] == [(2, 0), (3, 6)]
    (noted,) = [e for e in events_of(run) if isinstance(e, events.Noted)]
    assert "from 2 to 3" in noted.message
    rates = dict(curve(run, "train", "lr"))
    assert rates[6] == pytest.approx(3e-3 * rate_factor(5, 6, warmup=0.05))
    assert rates[8] == pytest.approx(3e-3 * rate_factor(7, 9, warmup=0.05))


# Weights of 10^38 within ten steps: a matrix is multiplied by 1 - rate x decay with each.
DIVERGING: dict[str, Any] = {
    "training__learning_rate": 100.0,
    "training__weight_decay": 100.0,
    "training__gradient_clip": 0.0,
    "training__warmup": 0.0,
}


def test_a_diverged_loss_fails_with_its_step_and_parts_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__batch_size=2, **DIVERGING)
    with pytest.raises(DivergedError) as caught:
        fit(run)
    step = int(caught.value.what.rsplit("step ", 1)[1])
    assert 2 <= step < 12  # of twelve in the first epoch
    assert "loss.base.ce" in caught.value.message
    untrained = checkpoint.load(run.untrained)["student"]
    assert all(torch.isfinite(tensor).all() for tensor in untrained.values())
    assert not run.last.exists()


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"temperature": 1e-40}, "--set distillation.temperature=4.0"),
        ({"terms": [{"kind": "kl", "temperature": 1e-40}]}, "a higher temperature of the term 'logits'"),
    ],
    ids=["of all terms", "of one term"],
)
def test_a_tiny_temperature_is_named_as_the_cause(
    tmp_path: Path, teacher: Run, changes: dict[str, Any], hint: str
) -> None:
    settings = {f"distillation__{key}": value for key, value in ({"terms": None} | changes).items()}
    run = distilled(tmp_path, teacher, training__precision="fp32", **settings)
    with pytest.raises(DivergedError) as caught:
        fit(run)
    assert caught.value.hint and caught.value.hint.endswith(hint)


def test_a_stop_between_two_reports_saves_no_broken_weights(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        training__log_every=99,
        training__batch_size=2,
        data__train_samples=48,
        **DIVERGING,
    )

    class StoppedAtLook(Run):
        looks = 0

        def stop_requested(self) -> bool:
            self.looks += 1
            return self.looks == 12  # before the twelfth of 24 steps: diverged, and no report yet

    with pytest.raises(DivergedError):
        fit(StoppedAtLook(run.path))
    assert not run.last.exists()


def test_a_gradient_that_is_not_finite_is_found_before_its_weights_are_saved(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__epochs=1, training__precision="fp32", data__train_samples=8)
    stage = set_up(run, record(run), world_size=1)
    weight = next(parameter for parameter in stage.student.parameters() if parameter.requires_grad)
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with Report(run, active=True) as report, pytest.raises(DivergedError, match="gradient_norm"):
        Fit(stage, report).train()
    assert not run.last.exists()


def test_the_best_weights_are_kept_before_the_state_that_calls_them_best(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__epochs=1)
    fit(run)
    tags = [event.tag for event in events_of(run) if isinstance(event, events.Saved)]
    assert tags == ["epoch", "best", "last"]


def test_tensorboard_keeps_the_point_that_a_run_was_resumed_from(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__epochs=1)
    fit(run)
    assert fit(run, attempt=2, total_epochs=2) == "finished"
    board = EventAccumulator(str(run.logs))
    board.Reload()
    assert [point.step for point in board.Scalars("val/miou")] == [3, 6]


def test_a_start_that_was_cut_short_keeps_its_own_horizon(tmp_path: Path) -> None:
    parent = make_run(tmp_path, training__epochs=1)
    fit(parent)
    child = make_run(tmp_path, training__epochs=2, resume_from=parent.last)
    # Its first attempt left no state of its own, and died before it wrote the points that it inherits.
    assert fit(child, attempt=2) == "finished"
    assert [step for step, *_ in curve(child, "val", "miou")] == [3, 6]


def test_early_stopping_ends_a_run_that_no_longer_improves_and_draws_its_last_epoch(tmp_path: Path) -> None:
    # One step per epoch over the same images: the statistics of the batch norms settle as well.
    few: dict[str, Any] = {"data__train_samples": 8, "data__val_samples": 2, "training__visualize_every": 0}
    run = make_run(tmp_path, training__learning_rate=1e-12, training__epochs=9, training__early_stopping=2, **few)
    fit(run)
    last = events_of(run)[-1]
    assert isinstance(last, events.Finished)
    assert last.epoch < 9
    assert "no better mIoU in 2 epochs" in last.reason
    assert run.visualization(last.epoch).is_dir()


def test_only_the_last_epoch_checkpoints_stay(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__epochs=3, training__keep_checkpoints=1)
    fit(run)
    assert run.epoch_checkpoints() == [run.epoch_checkpoint(3)]
    assert run.best.exists()
    assert run.untrained.exists()


def test_the_teachers_evaluation_is_kept_and_used_again(tmp_path: Path, teacher: Run) -> None:
    run = distilled(tmp_path, teacher, training__epochs=1, training__visualize_every=1)
    fit(run)
    kept = sorted(path.name for path in (tmp_path / ".cache" / "teachers").iterdir())
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / ".cache" / "teachers").iterdir())]
    assert len(kept) == 2
    again = distilled(tmp_path, teacher, training__epochs=1)
    fit(again)
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / ".cache" / "teachers").iterdir())] == stamps
    ours, theirs = events_of(run)[0], events_of(again)[0]
    assert isinstance(ours, events.Started)
    assert isinstance(theirs, events.Started)
    assert ours.teacher == theirs.teacher
    assert ours.teacher is not None
    assert 0 < ours.teacher["miou"] <= 1
    assert sum(ours.teacher["pixel"].values()) == pytest.approx(1, abs=1e-4)
    assert set(ours.teacher["pixel"]) == set(ours.teacher["iou"])
    assert len(list(run.visualization(1).glob("*.png"))) == 4


def test_the_best_and_the_last_epoch_have_pictures_and_no_weight_differs_for_them(tmp_path: Path) -> None:
    weights, drawn = [], []
    for every in (-1, 0, 2):
        few: dict[str, Any] = {"data__train_samples": 8, "data__val_samples": 4}
        run = make_run(tmp_path / str(every), training__epochs=4, training__visualize_every=every, **few)
        torch.manual_seed(0)
        fit(run)
        weights.append(checkpoint.load(run.last)["student"])
        drawn.append({int(path.name.removeprefix("epoch_")) for path in run.visualizations.iterdir()})
        assert all(len(list(run.visualization(epoch).glob("*.png"))) == 4 for epoch in drawn[-1])
    last = [e for e in events_of(run) if isinstance(e, events.Measured) and e.split == "val"][-1]
    best = int(last.scalars["best_epoch"] or 0)
    assert drawn == [set(), {best, 4}, {best, 2, 4}]
    for other in weights[1:]:
        assert other.keys() == weights[0].keys()
        assert all(torch.equal(other[name], weights[0][name]) for name in other)


def test_pictures_that_cannot_be_written_end_no_training(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__epochs=1, training__visualize_every=0)
    run.visualizations.rmdir()
    run.visualizations.write_text("in the way")
    assert fit(run) == "finished"
    (noted,) = [e for e in events_of(run) if isinstance(e, events.Noted)]
    assert noted.message == "could not write the pictures of epoch 1: Not a directory"


def test_counts_that_cannot_be_written_end_no_training(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__epochs=1)
    run.evaluations.rmdir()
    assert fit(run) == "finished"
    (noted,) = [e for e in events_of(run) if isinstance(e, events.Noted)]
    assert noted.message == "could not write the counts per image: No such file or directory"


def test_a_foreign_checkpoint_cannot_be_resumed(tmp_path: Path, teacher: Run) -> None:
    foreign = tmp_path / "foreign.pth"
    torch.save(checkpoint.load(teacher.best)["student"], foreign)
    run = make_run(tmp_path / "runs", resume_from=foreign)
    with pytest.raises(CheckpointError, match="cannot resume from it"):
        fit(run)


def test_another_batch_size_is_reported_and_counted_from_the_last_whole_epoch(tmp_path: Path) -> None:
    parent = make_run(tmp_path, training__epochs=3)
    assert fit(StoppedAt(parent.path, lambda seen: any(getattr(e, "step", 0) == 4 for e in seen))) == "stopped"
    child = make_run(tmp_path, name="child", resume_from=parent.last, training__epochs=3, training__batch_size=4)
    assert fit(child) == "finished"
    (noted,) = [e for e in events_of(child) if isinstance(e, events.Noted)]
    assert "the steps per epoch change from 3 to 6" in noted.message
    (started,) = [e for e in events_of(child) if isinstance(e, events.Started)]
    assert started.resumed_step == 6
    assert [step for step, *_ in curve(child, "val", "miou")][-2:] == [12, 18]


def test_distillation_without_a_teacher_does_not_train_alone_in_silence(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="no teacher"):
        fit(make_run(tmp_path, distillation__enabled=True))
