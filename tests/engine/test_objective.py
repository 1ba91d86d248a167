from __future__ import annotations

import contextlib
import dataclasses
import importlib
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from kdtui.engine.data import IGNORE_INDEX as IGNORE
from kdtui.engine.losses import Labels, StepShare, cross_entropy, dice_per_image, pixel_kl
from kdtui.engine.models import Outputs, compose
from kdtui.engine.objective import FrozenTeacher, LossTerms, Objective, build_objective
from kdtui.engine.term_memory import check_fits
from kdtui.errors import ModelError
from kdtui.profile import Distillation, FolderData, Loss, Profile, SyntheticData
from kdtui.profile.term_tables import CrossEntropyTerm, CwdTerm, KlTerm, distillation_terms


def raw_pair(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher output of four channels, and masks with very unequal ignore areas."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 8, 4, 8, 8, generator=generator) * 2
    masks = torch.randint(0, 3, (8, 8, 8), generator=generator)
    for image in range(8):
        masks[image, : image - 1] = IGNORE
    masks[7] = IGNORE
    masks[7, 0, 0] = 1
    return student, teacher, masks


def objective_of(profile: Profile) -> Objective:
    return build_objective(profile, 3, nn.Identity(), nn.Identity())


def labels_of(masks: Tensor) -> Labels:
    return Labels(masks, IGNORE)


def share(masks: Tensor) -> StepShare:
    return StepShare(valid_pixels=float((masks != IGNORE).sum()), images=len(masks))


def loss(student: Tensor, teacher: Tensor | None, masks: Tensor, **settings: float) -> LossTerms:
    objective = objective_of(Profile(name="any", distillation=Distillation(enabled=teacher is not None, **settings)))
    theirs = None if teacher is None else compose(teacher, "hierarchical")
    terms: LossTerms = objective(compose(student, "hierarchical"), theirs, labels_of(masks), share(masks))
    return terms


def base_of(student: Tensor, masks: Tensor) -> Tensor:
    logits = compose(student, "hierarchical").main
    ce = cross_entropy(logits, masks, ignore_index=IGNORE, valid_pixels=(masks != IGNORE).sum())
    return ce + dice_per_image(logits, masks, ignore_index=IGNORE).mean()


def test_without_a_teacher_the_loss_is_the_base_loss() -> None:
    student, _, masks = raw_pair()
    terms = loss(student, None, masks)
    torch.testing.assert_close(terms.total, base_of(student, masks))
    assert set(terms.parts) == {"loss", "loss.base", "loss.base.ce", "loss.base.dice"}


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.7, 1.0])
def test_alpha_weights_the_loss_as_in_the_formula(alpha: float) -> None:
    student, teacher, masks = raw_pair()
    parts = loss(student, teacher, masks, alpha=alpha).parts
    expected = alpha * parts["loss.distill"] + (1 - alpha) * parts["loss.base"]
    torch.testing.assert_close(parts["loss"], expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 9.0])
def test_temperature_reaches_every_distillation_term(temperature: float) -> None:
    student, teacher, masks = raw_pair()
    ours, theirs, valid = compose(student, "hierarchical"), compose(teacher, "hierarchical"), masks != IGNORE
    parts = loss(student, teacher, masks, temperature=temperature, bg_fg=0.3, target_nontarget=0.2, logits=1.5).parts

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return pixel_kl(a, b, valid, temperature=temperature, valid_pixels=valid.sum())

    torch.testing.assert_close(parts["loss.distill.logits"], 1.5 * kl(ours["logits"], theirs["logits"]))
    torch.testing.assert_close(parts["loss.distill.bg_fg"], 0.3 * kl(ours["bg_fg"], theirs["bg_fg"]))
    torch.testing.assert_close(
        parts["loss.distill.target_nontarget"], 0.2 * kl(ours["target_nontarget"], theirs["target_nontarget"])
    )
    total = sum(value for name, value in parts.items() if name.startswith("loss.distill."))
    torch.testing.assert_close(parts["loss.distill"], total)


SOFTENED = [
    table.model_fields["kind"].default
    for table in distillation_terms()
    if "temperature" in table.model_fields and table.model_fields["temperature"].default is None
]


@pytest.mark.parametrize("own", [None, 2.0])
@pytest.mark.parametrize("kind", SOFTENED)
def test_a_scheduled_temperature_applies_to_terms_without_their_own(kind: str, own: float | None) -> None:
    student, teacher, masks = raw_pair()
    ours, theirs, labels = compose(student, "hierarchical"), compose(teacher, "hierarchical"), labels_of(masks)

    def value(temperature: float, scheduled: float) -> Tensor:
        keys = {"enabled": True, "temperature": temperature, "terms": [{"kind": kind, "temperature": own}]}
        objective = objective_of(Profile(name="any", distillation=Distillation.model_validate(keys)))
        objective.schedule(temperature=scheduled, alpha=0.25)
        totals = dataclasses.replace(share(masks), masses=objective.masses(theirs, labels))
        terms: LossTerms = objective(ours, theirs, labels, totals)
        parts = terms.parts
        assert torch.equal(terms.total, 0.25 * parts["loss.distill"] + 0.75 * parts["loss.base"])
        return parts["loss.distill"]

    assert torch.equal(value(4.0, 3.0), value(3.0, 3.0))
    assert torch.equal(value(4.0, 4.0), value(4.0, 3.0)) == (own is not None)


def test_a_teacher_distilled_into_itself_has_no_distillation_loss() -> None:
    student, _, masks = raw_pair()
    assert float(loss(student, student, masks).parts["loss.distill"]) == pytest.approx(0.0, abs=1e-6)


def test_ignored_pixels_have_no_gradient_in_any_term() -> None:
    student, teacher, masks = raw_pair()
    student.requires_grad_()
    loss(student, teacher, masks).total.backward()
    assert student.grad is not None
    ignored = (masks == IGNORE).unsqueeze(1).expand_as(student)
    assert torch.count_nonzero(student.grad[ignored]) == 0


def test_disabled_distillation_ignores_the_teacher() -> None:
    student, teacher, masks = raw_pair()
    objective = objective_of(Profile(name="any", distillation=Distillation(enabled=False)))
    terms = objective(
        compose(student, "hierarchical"), compose(teacher, "hierarchical"), labels_of(masks), share(masks)
    )
    torch.testing.assert_close(terms.total, base_of(student, masks))


def test_a_semantic_task_distils_the_main_logits_alone() -> None:
    student, teacher, masks = raw_pair()
    data = FolderData(kind="folder", root="anywhere")
    objective = objective_of(Profile(name="any", data=data, distillation=Distillation(enabled=True)))
    parts = objective(compose(student, "semantic"), compose(teacher, "semantic"), labels_of(masks), share(masks)).parts
    assert [name for name in parts if name.startswith("loss.distill.")] == ["loss.distill.logits"]


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_micro_batches_add_up_to_the_whole_step(micro_batch: int) -> None:
    student, teacher, masks = raw_pair()
    objective = objective_of(Profile(name="any", distillation=Distillation(enabled=True)))
    whole_share = share(masks)
    network = nn.Conv2d(4, 4, 3, padding=1)

    def gradient(size: int) -> tuple[Tensor, Tensor]:
        network.zero_grad()
        value = torch.zeros(())
        for at in range(0, 8, size):
            cut = slice(at, at + size)
            ours = compose(network(student[cut]), "hierarchical")
            terms = objective(ours, compose(teacher[cut], "hierarchical"), labels_of(masks[cut]), whole_share)
            terms.total.backward()
            value = value + terms.parts["loss"]
        assert network.weight.grad is not None
        return value, network.weight.grad.clone()

    torch.testing.assert_close(gradient(8), gradient(micro_batch), rtol=1e-4, atol=1e-6)


def test_the_teacher_is_frozen_and_its_answers_can_stand_in_a_graph() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    teacher = FrozenTeacher(network, task="hierarchical", autocast=contextlib.nullcontext)
    images = torch.randn(2, 3, 4, 4)
    logits = teacher.outputs(images)
    assert isinstance(logits, Outputs)
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    (student * logits.main).sum().backward()
    assert student.grad is not None
    assert not any(parameter.requires_grad for parameter in network.parameters())
    torch.testing.assert_close(logits.main, teacher.outputs(images).main, rtol=0, atol=0)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


class Unbuildable(KlTerm):
    """A term whose module raises what no one expects."""

    implementation: ClassVar[str] = "builtins:int"


def test_a_term_that_cannot_be_built_is_named_with_its_reason() -> None:
    profile = Profile(name="any", distillation=Distillation(enabled=True, terms=(Unbuildable(name="odd"),)))
    with pytest.raises(ModelError, match="the loss term 'odd' cannot be built") as caught:
        objective_of(profile)
    assert caught.value.where == "builtins:int"
    assert str(caught.value.found).startswith("TypeError: ")


def test_every_term_is_logged_by_its_name_with_its_weight() -> None:
    student, teacher, masks = raw_pair()
    table = Distillation(enabled=True, terms=(KlTerm(weight=2.0, name="twice"), CwdTerm(weight=0.0)))
    loss_table = Loss(terms=(CrossEntropyTerm(weight=0.5, name="half"),))
    profile = Profile(name="any", distillation=table, loss=loss_table)
    ours, theirs = compose(student, "hierarchical"), compose(teacher, "hierarchical")
    parts = objective_of(profile)(ours, theirs, labels_of(masks), share(masks)).parts
    plain = loss(student, teacher, masks).parts
    assert set(parts) == {
        *("loss", "loss.base", "loss.base.half", "loss.distill", "loss.distill.twice", "loss.distill.cwd")
    }
    torch.testing.assert_close(parts["loss.distill.twice"], 2 * plain["loss.distill.logits"])
    torch.testing.assert_close(parts["loss.distill"], parts["loss.distill.twice"])
    torch.testing.assert_close(parts["loss.base"], 0.5 * plain["loss.base.ce"])
    torch.testing.assert_close(parts["loss"], 0.7 * parts["loss.distill"] + 0.3 * parts["loss.base"])


def relational(**keys: object) -> Profile:
    """A student of 64 x 64 pixels with a term on the relations of 64 x 64 cells, 16 images at once."""
    term = {"kind": "relation", "on": "logits"} | keys
    return Profile.model_validate(
        {
            "name": "any",
            "data": {"kind": "synthetic", "height": 64, "width": 64},
            "distillation": {"enabled": True, "terms": [term]},
            "training": {"accelerator": "cpu"},
        }
    )


EXTENSION = Path(__file__).parents[1] / "extension_package"


@pytest.mark.parametrize(("own", "expected"), [(None, 2.0), (3.0, 3.0)])
def test_a_term_of_another_package_follows_the_schedule_of_the_temperature(
    monkeypatch: pytest.MonkeyPatch, own: float | None, expected: float
) -> None:
    monkeypatch.syspath_prepend(EXTENSION)
    table = importlib.import_module("kdtui_example.tables").LogitDistanceTerm(temperature=own)
    # Only an installed package is in the union of the tables.
    distillation = Distillation(enabled=True, temperature=4.0).model_copy(update={"terms": (table,)})
    objective = objective_of(Profile(name="any").model_copy(update={"distillation": distillation}))
    student, teacher, masks = raw_pair()
    outputs = [compose(raw, "hierarchical") for raw in (student, teacher)]

    def value() -> Tensor:
        terms: LossTerms = objective(*outputs, labels_of(masks), share(masks))
        return terms.parts["loss.distill.logit_distance"]

    before = value() * (own or 4.0) ** 2
    objective.schedule(temperature=2.0, alpha=0.5)
    torch.testing.assert_close(value() * expected**2, before)


def test_a_module_that_is_no_loss_of_its_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KlTerm, "implementation", "torch.nn:Sequential")
    monkeypatch.setattr("torch.nn.Sequential.__init__", lambda module, *_: nn.Module.__init__(module))
    with pytest.raises(ModelError, match="wrong base class") as caught:
        objective_of(Profile(name="any", distillation=Distillation(enabled=True)))
    assert caught.value.allowed == "kdtui.engine.losses.term.DistillationLoss"


def test_relations_that_do_not_fit_into_memory_are_refused_with_a_pool_that_fits() -> None:
    profile = relational()
    (table,) = profile.distillation.active_terms("semantic")
    with pytest.raises(ModelError) as caught:
        check_fits(table, (64, 64), profile, "distillation.terms[0]", 2**30)
    assert caught.value.where == "distillation.terms[0].on"
    assert caught.value.found == "logits: 64x64 cells, 16 images: 6.00 GiB"
    assert caught.value.allowed == "at most 1.00 GiB, the memory of the device"
    assert caught.value.hint == "set pool of this term to 2"
    with pytest.raises(ModelError, match="smaller map"):
        check_fits(table, (64, 64), profile, "distillation.terms[0]", 100)
    assert check_fits(relational(pool=2).distillation.active_terms("semantic")[0], (64, 64), profile, "", 2**30) > 0


def test_a_term_that_does_not_fit_is_refused_when_the_loss_is_built() -> None:
    huge = SyntheticData.model_construct(height=4096, width=4096)
    profile = relational(kind="cirkd_minibatch").model_copy(update={"data": huge})
    with pytest.raises(ModelError, match="do not fit into memory"):
        build_objective(profile, 3, nn.Identity(), nn.Identity())
    objective = objective_of(relational(pool=4))
    assert objective.relation_bytes == {"distill.relation": 24 * 16 * (16 * 16) ** 2}
