"""What holds for every term of the loss, built-in or not: one test per property, over all registered tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from kdtui import plugins
from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import DistillationLoss, Labels, StepShare, SupervisedLoss
from kdtui.engine.models import Outputs
from kdtui.profile import Distillation
from kdtui.profile.term_tables import (
    DISTILLATION_TERMS,
    SUPERVISED_TERMS,
    AfDcdTerm,
    CirkdTerm,
    CrossEntropyTerm,
    CwdTerm,
    DistillationTerm,
    EdgeBodyTerm,
    FeatureTerm,
    FocalTerm,
    KlTerm,
    OhemTerm,
    RelationTerm,
    SkdPairwiseTerm,
    SupervisedTerm,
    Term,
    TverskyTerm,
)

IMAGES, CLASSES, SIDE, CELL = 8, 3, 8, 2
STUDENT_WIDTH, TEACHER_WIDTH = 4, 6
TERMS: list[Term] = [
    *(table.model_validate({}) for table in SUPERVISED_TERMS),
    CrossEntropyTerm(label_smoothing=0.1),
    CrossEntropyTerm(class_weights=(0.25, 1.0, 4.0), label_smoothing=0.1),
    FocalTerm(gamma=0.5, class_weights=(0.25, 1.0, 4.0)),
    OhemTerm(share=1.0),
    TverskyTerm(gamma=0.75),
    *(table.model_validate({}) for table in DISTILLATION_TERMS),
    KlTerm(on="bg_fg"),
    KlTerm(on="target_nontarget", weight_by="correct"),
    KlTerm(standardise=True),
    KlTerm(weight_by="confidence"),
    KlTerm(on="foreground"),
    CwdTerm(on="decoder"),
    EdgeBodyTerm(body="cwd"),
    FeatureTerm(on="encoder.3", teacher_on="encoder.5"),
    FeatureTerm(form="smooth_l1"),
    FeatureTerm(form="cosine"),
    FeatureTerm(standardise=True),
    RelationTerm(pool=3),
    CirkdTerm(pool=3),
    SkdPairwiseTerm(pool=1),
    AfDcdTerm(groups=2, patch=3, pool=2),
]
DISTILLING = [table for table in TERMS if isinstance(table, DistillationTerm)]


NEIGHBOURS = {"boundary", "edge_body", "mgd", "attention", "skd_pairwise", "ifvd", "af_dcd", "contour", "distance"}
"""Terms whose value changes with the resolution: they measure distances in pixels or cells, or sum over cells."""
GENERATED = {"mgd", "contour", "distance"}
"""Terms that a trained network computes from the student's features; at first it is random."""
SIMILARITIES = {"relation", "cirkd_minibatch", "skd_pairwise"}
"""Terms on relations of cells, which may be further from the teacher's in a mean of two unrelated maps than in both."""


def has_zero(table: DistillationTerm) -> bool:
    """Whether its value is 0 at student = teacher."""
    standardised_teacher = table.kind == "feature" and bool(getattr(table, "standardise", False))
    return table.kind not in GENERATED | {"af_dcd"} and not standardised_teacher


def unbiased(table: Term) -> bool:
    """Whether it divides by the number of values less one, which a repetition changes."""
    return table.kind == "pkd" or (table.per_batch and bool(getattr(table, "standardise", False)))


def label(table: Term) -> str:
    changed = table.model_dump(exclude_defaults=True)
    return " ".join([table.kind, *(f"{key}={value}" for key, value in changed.items())])


def same_place(table: Term) -> Term:
    """The term on one output of both networks."""
    return table.model_copy(update={"teacher_on": None}) if hasattr(table, "teacher_on") else table


def twice(values: Tensor) -> Tensor:
    """Every image twice."""
    return torch.cat([values, values])


def finer(values: Tensor) -> Tensor:
    """Every pixel as 2 x 2 pixels."""
    return values.repeat_interleave(2, -1).repeat_interleave(2, -2)


every_term = pytest.mark.parametrize("table", TERMS, ids=label)


class Case:
    """One term with a student, a teacher and labels with very unequal ignored areas."""

    def __init__(self, table: Term, *, dtype: torch.dtype = torch.float32, same_width: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        widths = (STUDENT_WIDTH, STUDENT_WIDTH if same_width else TEACHER_WIDTH)
        self.table = table
        self.student, self.teacher = (self._outputs(width, generator, dtype) for width in widths)
        masks = torch.randint(0, CLASSES, (IMAGES, SIDE, SIDE), generator=generator)
        for image in range(IMAGES):
            masks[image, : image // CELL * CELL] = IGNORE_INDEX
        masks[IMAGES - 1] = IGNORE_INDEX
        self.labels = Labels(masks, IGNORE_INDEX)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.term = self._built(widths).to(dtype)

    @staticmethod
    def _outputs(width: int, generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        sizes = {"logits": (CLASSES, SIDE), "bg_fg": (2, SIDE), "target_nontarget": (2, SIDE)}
        places = ("encoder", "encoder.3", "encoder.5", "decoder")
        sizes |= dict.fromkeys(places, (width, SIDE // CELL))
        maps = {
            name: (2 * torch.randn(IMAGES, channels, side, side, generator=generator)).to(dtype)
            for name, (channels, side) in sizes.items()
        }
        return maps | {"foreground": maps["bg_fg"][:, 1:] - maps["bg_fg"][:, :1]}

    def _built(self, widths: Sequence[int]) -> SupervisedLoss | DistillationLoss:
        table = self.table
        implementation = plugins.imported(table.implementation)
        if isinstance(table, SupervisedTerm):
            needs = {name: self.student[name].shape[1] for name in table.student_needs}
            supervised: SupervisedLoss = implementation(table, *([needs] if needs else []))
            return supervised
        assert isinstance(table, DistillationTerm)
        (complete,) = Distillation(enabled=True, terms=(table,)).active_terms("hierarchical")
        channels = [{name: values.shape[1] for name, values in side.items()} for side in (self.student, self.teacher)]
        distilling: DistillationLoss = implementation(complete, *channels)
        return distilling

    @property
    def reads(self) -> list[str]:
        """Outputs of the student that get a gradient."""
        return sorted(self.table.student_needs) or ["logits"]

    def labels_of(self, cut: slice) -> Labels:
        """The labels of some images."""
        return Labels(self.labels.masks[cut], IGNORE_INDEX)

    def masses(self, cuts: Sequence[slice]) -> dict[str, Tensor]:
        """The term's own masses over all cuts of the step."""
        total: dict[str, Tensor] = {}
        for cut in cuts:
            labels = self.labels_of(cut)
            if isinstance(self.term, DistillationLoss):
                masses = self.term.masses(outputs(self.teacher, cut), labels)
            else:
                masses = self.term.masses(labels)
            total = {name: total.get(name, 0) + mass for name, mass in masses.items()}
        return total

    def value(self, cut: slice = slice(None), *, share: StepShare | None = None) -> Tensor:
        """The loss of some images as their share of the step over all of them."""
        share = share or self.share()
        labels = self.labels_of(cut)
        teacher = (outputs(self.teacher, cut),) if isinstance(self.term, DistillationLoss) else ()
        loss: Tensor = self.term(outputs(self.student, cut), *teacher, labels, share)
        return loss

    def share(self, *, world_size: int = 1, cuts: Sequence[slice] = (slice(None),)) -> StepShare:
        """The step over all images."""
        valid = max(1.0, float(self.labels.valid.sum()))
        return StepShare(valid, len(self.labels.masks), world_size=world_size, masses=self.masses(cuts))

    def gradients(self, *cuts: slice, world_size: int = 1) -> list[Tensor]:
        """Gradients of the student's outputs and of the projection, averaged over ranks as DDP does."""
        leaves = [self.student[name].requires_grad_() for name in self.reads] + list(self.term.parameters())
        for leaf in leaves:
            leaf.grad = None
        share = self.share(world_size=world_size, cuts=cuts)
        for cut in cuts:
            (self.value(cut, share=share) / world_size).backward()
        return [leaf.grad for leaf in leaves if leaf.grad is not None]


def labels_as_logits(case: Case) -> Tensor:
    """1 for the class of each pixel, 0 for the others."""
    return torch.nn.functional.one_hot(case.labels.masks.clamp(max=CLASSES - 1), CLASSES).movedim(-1, 1).float()


def outputs(values: dict[str, Tensor], cut: slice = slice(None)) -> Outputs:
    cuts = {name: tensor[cut] for name, tensor in values.items()}
    extra = {name: cuts.pop(name) for name in ("bg_fg", "target_nontarget", "foreground")}
    return Outputs(cuts.pop("logits"), extra, cuts)


@pytest.mark.parametrize("table", [table for table in DISTILLING if has_zero(table)], ids=label)
def test_a_student_that_equals_its_teacher_has_no_loss(table: DistillationTerm) -> None:
    case = Case(same_place(table), same_width=True)
    assert float(case.value()) > 1e-3
    case.student = {name: values.clone() for name, values in case.teacher.items()}
    assert float(case.value()) == pytest.approx(0.0, abs=1e-6)
    for gradient in case.gradients(slice(None)):
        assert gradient.abs().max() < 1e-4


@every_term
def test_ignored_pixels_have_no_gradient(table: Term) -> None:
    case = Case(table)
    case.gradients(slice(None))
    for name in case.reads:
        gradient = case.student[name].grad
        assert gradient is not None
        step = SIDE // gradient.shape[-1]
        valid = case.labels.valid[:, ::step, ::step].unsqueeze(1).expand_as(gradient)
        assert torch.count_nonzero(gradient[~valid]) == 0
        assert torch.count_nonzero(gradient[valid]) > 0


@every_term
def test_values_of_ignored_pixels_change_nothing(table: Term) -> None:
    case = Case(table)
    before = case.value()
    for name in case.reads:
        values = case.student[name]
        step = SIDE // values.shape[-1]
        ignored = ~case.labels.valid[:, ::step, ::step].unsqueeze(1)
        case.student[name] = values.masked_fill(ignored, 30.0)
    torch.testing.assert_close(case.value(), before)


@every_term
def test_peaked_half_precision_maps_give_finite_values_and_gradients(table: Term) -> None:
    case = Case(table)
    for side, sign in ((case.student, 1), (case.teacher, -1)):
        for name, values in side.items():
            peaked = torch.full_like(values, -6e4 * sign)
            peaked[..., ::2] *= -1
            side[name] = peaked.half()
    gradients = case.gradients(slice(None))
    assert torch.isfinite(case.value())
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("table", [table for table in TERMS if isinstance(table, SupervisedTerm)], ids=label)
@pytest.mark.parametrize("sign", [1, -1])
def test_certain_predictions_give_finite_values_and_gradients(table: Term, sign: int) -> None:
    """Probabilities of exactly 1 and 0, all right or all wrong."""
    case = Case(table)
    case.student["logits"] = (sign * 6e4 * (2 * labels_as_logits(case) - 1)).half()
    gradients = case.gradients(slice(None))
    assert torch.isfinite(case.value())
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@every_term
def test_half_precision_is_computed_in_single_precision(table: Term) -> None:
    case = Case(table)
    case.student = {name: values.half() for name, values in case.student.items()}
    half = case.value()
    case.student = {name: values.float() for name, values in case.student.items()}
    assert half.dtype == torch.float32
    assert torch.equal(half, case.value())


@every_term
def test_double_precision_is_kept_and_the_gradient_is_the_derivative(table: Term) -> None:
    case = Case(table, dtype=torch.float64)
    assert case.value().dtype == torch.float64
    names, whole = case.reads, dict(case.student)
    one = slice(0, 2)

    def loss(*values: Tensor) -> Tensor:
        case.student = whole | dict(zip(names, values, strict=True))
        case.student = {name: value if name in names else value[one] for name, value in case.student.items()}
        labels = case.labels_of(one)
        teacher = (outputs(case.teacher, one),) if isinstance(case.term, DistillationLoss) else ()
        result: Tensor = case.term(outputs(case.student), *teacher, labels, case.share())
        return result

    inputs = [whole[name][one].clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


@pytest.mark.parametrize("table", [table for table in TERMS if not table.per_batch], ids=label)
@pytest.mark.parametrize(("size", "world_size"), [(1, 1), (2, 1), (4, 1), (4, 2)])
def test_how_a_step_is_cut_changes_no_gradient(table: Term, size: int, world_size: int) -> None:
    case = Case(table, dtype=torch.float64)
    whole = [gradient.clone() for gradient in case.gradients(slice(None))]
    cut = case.gradients(*(slice(at, at + size) for at in range(0, IMAGES, size)), world_size=world_size)
    torch.testing.assert_close(cut, whole)


@pytest.mark.parametrize("table", [table for table in TERMS if table.per_batch], ids=label)
def test_equal_micro_batches_of_a_batch_term_add_up_to_it(table: Term) -> None:
    case = Case(table, dtype=torch.float64)
    once = case.value()
    half = slice(0, IMAGES)
    for side in (case.student, case.teacher):
        side.update({name: twice(values) for name, values in side.items()})
    case.labels = Labels(twice(case.labels.masks), IGNORE_INDEX)
    torch.testing.assert_close(2 * case.value(half), once)


@every_term
def test_a_batch_without_valid_pixels_costs_nothing(table: Term) -> None:
    case = Case(table)
    case.labels.masks.fill_(IGNORE_INDEX)
    gradients = case.gradients(slice(None))
    assert float(case.value().detach()) == 0.0
    assert all(torch.count_nonzero(gradient) == 0 and torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("table", [table for table in TERMS if table.kind not in GENERATED], ids=label)
def test_a_better_student_costs_less(table: Term) -> None:
    case = Case(same_place(table), same_width=True)
    before = case.student
    if isinstance(table, SupervisedTerm):
        truth = labels_as_logits(case)
        person = 1 - 2 * truth[:, :1]
        steps = {"logits": truth, "foreground": person}
        better = before | {name: before[name] + 3.0 * step for name, step in steps.items()}
    else:
        better = case.teacher
    costs = []
    for step in (0.3, 0.6, 0.9) if table.kind in SIMILARITIES else (0.0, 0.3, 0.6, 0.9):
        case.student = {name: torch.lerp(before[name], better[name], step) for name in before}
        costs.append(float(case.value()))
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.9 * costs[0]


def test_terms_on_relations_pool_the_valid_parts_of_cells() -> None:
    """A pooled map of equal squares is the map of their cells, whatever ignored cells hold."""
    for table in (RelationTerm(pool=2), CirkdTerm(pool=2), SkdPairwiseTerm(pool=4), AfDcdTerm(pool=2, groups=2)):
        case = Case(table, dtype=torch.float64)
        plain = Case(table.model_copy(update={"pool": table.pool // 2}), dtype=torch.float64).value()
        for side in (case.student, case.teacher):
            side.update({name: finer(values) for name, values in side.items()})
        case.labels = Labels(finer(case.labels.masks), IGNORE_INDEX)
        torch.testing.assert_close(case.value(), plain)


REPEATED = [
    (table, repeat)
    for table in TERMS
    for repeat in (twice, finer)
    if not unbiased(table) and (repeat is twice or not (table.kind in NEIGHBOURS or getattr(table, "pool", 1) > 1))
]


@pytest.mark.parametrize(("table", "repeat"), REPEATED, ids=lambda value: getattr(value, "__name__", None))
def test_repeating_images_or_pixels_changes_nothing(table: Term, repeat: Callable[[Tensor], Tensor]) -> None:
    case = Case(table, dtype=torch.float64)
    before = case.value()
    case.student, case.teacher = (
        {name: repeat(values) for name, values in side.items()} for side in (case.student, case.teacher)
    )
    case.labels = Labels(repeat(case.labels.masks), IGNORE_INDEX)
    torch.testing.assert_close(case.value(), before)


@pytest.mark.parametrize("table", [table for table in DISTILLING if not table.needs_labels], ids=label)
def test_a_term_that_needs_no_labels_does_not_depend_on_them(table: DistillationTerm) -> None:
    case, losses = Case(table), []
    for labels in (case.labels, Labels(case.labels.masks.where(~case.labels.valid, 0), IGNORE_INDEX)):
        case.labels = labels
        losses.append(case.value())
    assert torch.equal(*losses)
