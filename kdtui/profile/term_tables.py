"""Tables of loss terms, and the lists of built-in ones.

A distillation term compares the student with its teacher, a supervised term with the labels. A new term needs a table
here (and in the list at the end) and a module in ``kdtui/engine/losses``. Other packages add terms by the entry-point
groups ``kdtui.terms`` and ``kdtui.losses``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from kdtui import plugins
from kdtui.profile.base import Bool, Float, Int, ProfileTable
from kdtui.profile.limits import MOST_EPOCHS

# A part of a curve's name, as in ``loss.distill.NAME``.
TermName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]
# Of an output of a network; networks of other packages name their own.
OutputName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,119}$")]
Weight = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0.0, le=1_000_000.0)]
Temperature = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0.0, le=1000.0)] | None
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0.0, lt=1.0)]
Exponent = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0.0, le=10.0)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"found {value}; allowed: an odd number, 3 to 63")
    return value


Band = Annotated[Int, Field(ge=3, le=63), AfterValidator(_odd)]


class Term(ProfileTable):
    """Keys of every term.

    Attributes:
        kind: Kind of the term.
        weight: Weight of the term in the sum.
        name: Name of its curve; default: the kind. Names in a list must be distinct.
    """

    implementation: ClassVar[str]
    scope: ClassVar[Literal["pixels", "batch"]] = "pixels"
    """``batch`` if the value depends on how a step is split: on the images that one device processes at once."""
    kind: str
    weight: Weight = 1.0
    name: TermName | None = None

    @property
    def label(self) -> str:
        """The last part of the name of its curve."""
        return self.name or self.kind

    @property
    def per_batch(self) -> bool:
        """Whether its value depends on how a step is split; a table may decide it by its keys instead of ``scope``."""
        return self.scope == "batch"

    @property
    def student_needs(self) -> frozenset[str]:
        """Outputs of the student that it reads; the module of a supervised term is built with their channels, if any.

        A supervised term may read the main logits anyway.
        """
        return frozenset()


class SupervisedTerm(Term):
    """Base of the terms that compare the student with the labels."""


class DistillationTerm(Term):
    """Base of the terms that compare the student with its teacher.

    A term with a temperature declares ``temperature: Temperature = None``; its module receives a number.

    Attributes:
        on: Output of the student that it reads.
    """

    unused_with_two_classes: ClassVar[str] = ""
    """The key without effect on logits of two classes."""

    on: OutputName = "logits"

    @property
    def student_needs(self) -> frozenset[str]:
        """Outputs of the student that it reads: logits by name, or feature maps such as ``encoder.5``."""
        return frozenset({self.on})

    @property
    def teacher_needs(self) -> frozenset[str]:
        """Outputs of the teacher that it reads."""
        return self.student_needs

    @property
    def needs_labels(self) -> bool:
        """Whether it reads classes of labels and not only which pixels count: then it skips images without labels."""
        return True

    @property
    def full_weight_from(self) -> int:
        """The epoch, from 1, in which its weight stops rising; 1 for a constant weight."""
        return 1

    def relations(self, height: int, width: int, images: int) -> int:
        """Number of relations between cells that are in memory at once; 0 for a term that compares cell by cell.

        Args:
            height: Height of the student's map ``on`` in cells.
            width: Its width.
            images: Images that one device processes at once.
        """
        return 0


class OutputTerm(DistillationTerm):
    """Base of the terms that compare any output of the student with any of its teacher.

    Attributes:
        on: Output of the student: `logits`, or features: `encoder` (its last stage), `encoder.K`, `decoder`,
            `decoder.K`.
        teacher_on: Output of the teacher; default: the same.
    """

    teacher_on: OutputName | None = None

    @property
    def teacher_needs(self) -> frozenset[str]:
        """One output, which may differ from the student's."""
        return frozenset({self.teacher_on or self.on})

    @property
    def needs_labels(self) -> bool:
        """Outputs are compared with each other."""
        return False


class ClassWeightedTerm(SupervisedTerm):
    """Base of the terms in which classes have weights.

    Attributes:
        class_weights: Weights of the classes: a list in the order of the labels, or computed from the labels of the
            training split: `balanced` (inverse frequency) or `effective` (Cui et al., 1901.05555).
        beta: Of `effective`: pixels of a class beyond 1 / (1 - beta) count no more; default: 0.999999.
    """

    class_weights: tuple[Weight, ...] | Literal["balanced", "effective"] | None = None
    beta: Share | None = None

    @field_validator("class_weights")
    @classmethod
    def _usable_list(cls, value: object) -> object:
        if isinstance(value, tuple) and (len(value) < 2 or not any(value)):
            found = f"[{', '.join(f'{weight:g}' for weight in value)}]"
            raise ValueError(f"found {found}; allowed: one number >= 0 for each class, at least one of them > 0")
        return value

    @model_validator(mode="after")
    def _beta_of_effective(self) -> ClassWeightedTerm:
        if self.beta is not None and self.class_weights != "effective":
            raise ValueError('found beta; allowed: only with class_weights = "effective"')
        return self


class CrossEntropyTerm(ClassWeightedTerm):
    """Cross entropy, the mean over valid pixels, weighted by the weights of their classes.

    Attributes:
        label_smoothing: Share of the target that is distributed over all classes; default: 0.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.supervised:cross_entropy_loss"
    kind: Literal["ce"] = "ce"
    # None, which is not written, so that profiles of earlier and later runs are equal.
    label_smoothing: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0.0, lt=1.0)] | None = None


class DiceTerm(SupervisedTerm):
    """Soft Dice loss of each image over its classes, the mean over images."""

    implementation: ClassVar[str] = "kdtui.engine.losses.supervised:DiceLoss"
    kind: Literal["dice"] = "dice"


class JaccardTerm(SupervisedTerm):
    """Soft Jaccard loss, 1 - IoU, of each image over its classes, the mean over images."""

    implementation: ClassVar[str] = "kdtui.engine.losses.supervised:JaccardLoss"
    kind: Literal["jaccard"] = "jaccard"


class TverskyTerm(SupervisedTerm):
    """Tversky loss of each image over its classes, the mean over images (Salehi et al., 1706.05721).

    Attributes:
        alpha: Weight of false positives; with 0.5 and 0.5 the loss is Dice, with 1 and 1 Jaccard.
        beta: Weight of false negatives.
        gamma: Exponent of each class's loss; 0.75 is published as focal Tversky (Abraham and Khan, 1810.07842).
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.supervised:TverskyLoss"
    kind: Literal["tversky"] = "tversky"
    alpha: Float = Field(0.3, gt=0.0, le=100.0)
    beta: Float = Field(0.7, gt=0.0, le=100.0)
    gamma: Float = Field(1.0, gt=0.0, le=10.0)


class FocalTerm(ClassWeightedTerm):
    """Cross entropy of which confident pixels count less, the mean over valid pixels (Lin et al., 1708.02002).

    Attributes:
        gamma: Exponent of 1 - p, p the probability of the label; 0 is cross entropy.
        alpha: Weight of class 1, 1 - alpha that of class 0, as published for two classes; for more classes use
            class_weights.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.hard_pixels:FocalLoss"
    kind: Literal["focal"] = "focal"
    gamma: Exponent = 2.0
    alpha: Share | None = None

    @model_validator(mode="after")
    def _one_of_the_weights(self) -> FocalTerm:
        if self.alpha is not None and self.class_weights is not None:
            raise ValueError("found alpha and class_weights; allowed: only one of both")
        return self


class OhemTerm(SupervisedTerm):
    """Cross entropy of the hardest pixels (online hard example mining, Shrivastava et al., 1604.03540).

    Attributes:
        share: Share of the valid pixels with the largest cross entropy, whose mean is the loss.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.hard_pixels:OhemLoss"
    scope: ClassVar[Literal["pixels", "batch"]] = "batch"
    kind: Literal["ohem"] = "ohem"
    share: Float = Field(0.25, gt=0.0, le=1.0)


class BoundaryTerm(SupervisedTerm):
    """Cross entropy with a larger weight of pixels near boundaries between classes, the mean over valid pixels.

    Attributes:
        boundary_weight: Weight of the pixels in the band; that of others is 1.
        band: Width of the band around boundaries in pixels of the network's input; an odd number.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.hard_pixels:BoundaryLoss"
    kind: Literal["boundary"] = "boundary"
    boundary_weight: Float = Field(2.0, ge=0.0, le=1000.0)
    band: Band = 3


class LovaszTerm(SupervisedTerm):
    """Lovász-Softmax, a surrogate of the mean IoU of the classes that occur (Berman et al., 1705.08790)."""

    implementation: ClassVar[str] = "kdtui.engine.losses.lovasz:LovaszLoss"
    scope: ClassVar[Literal["pixels", "batch"]] = "batch"
    kind: Literal["lovasz"] = "lovasz"


class HeadTerm(SupervisedTerm):
    """Base of the terms with a head of their own on features, which is trained with the student and never exported.

    Attributes:
        on: Features of the student that its head reads, such as `decoder`, or `head` of a network with boxes.
        of_class: Number of the class whose regions count; in a hierarchical task 1 is the target.
    """

    on: OutputName = "decoder"
    of_class: Int = Field(1, ge=0, le=255)

    @property
    def student_needs(self) -> frozenset[str]:
        """One map."""
        return frozenset({self.on})


class ContourTerm(HeadTerm):
    """Contours of the regions of a class, predicted by a head of its own: cross entropy and Dice.

    Attributes:
        band: Width of the contour in pixels of the label map; an odd number.
        contour_weight: Weight of contour pixels in the cross entropy; that of others is 1.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.heads:ContourLoss"
    kind: Literal["contour"] = "contour"
    band: Band = 3
    contour_weight: Float = Field(5.0, gt=0.0, le=1000.0)


class DistanceTerm(HeadTerm):
    """Signed distance to the boundary of the regions of a class, predicted by a head of its own: smooth L1.

    Attributes:
        reach: Largest distance in pixels of the label map, by which distances are divided.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.heads:DistanceLoss"
    kind: Literal["distance"] = "distance"
    reach: Int = Field(8, ge=1, le=64)


class ForegroundTerm(SupervisedTerm):
    """Cross entropy and Dice of the foreground of whole pictures, for stage 1 of a network with boxes.

    Attributes:
        on: Output of the student with one logit per pixel.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.foreground:ForegroundLoss"
    kind: Literal["foreground"] = "foreground"
    on: Literal["foreground"] = "foreground"

    @property
    def student_needs(self) -> frozenset[str]:
        """One output."""
        return frozenset({self.on})


class KlTerm(DistillationTerm):
    """KL of the softened class distributions per pixel (Hinton et al., 1503.02531; Liu et al., 1903.04197).

    Attributes:
        on: The logits that are compared; `bg_fg` and `target_nontarget` are the two decisions of a hierarchical task,
            `foreground` is stage 1 of a network with boxes.
        temperature: T > 0; default: `distillation.temperature`.
        name: Name of its curve; default: the value of `on`.
        standardise: Whether the logits of a pixel are standardised first, so that only their pattern is compared (Sun
            et al., 2403.01427); published with temperature 2 and weight 9; for three or more classes. Default: false.
        weight_by: Weight of a pixel: `correct`, 1 where the teacher's class is the label and else 0; `confidence`, the
            teacher's probability of the label; default: none, all are 1.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.kl:kl_loss"
    kind: Literal["kl"] = "kl"
    on: Literal["logits", "bg_fg", "target_nontarget", "foreground"] = "logits"
    temperature: Temperature = None
    # None, which is not written, so that profiles of earlier and later runs are equal.
    standardise: Bool | None = None
    weight_by: Literal["none", "correct", "confidence"] | None = None

    @model_validator(mode="after")
    def _three_classes(self) -> KlTerm:
        if self.standardise and self.on != "logits":
            raise ValueError(
                f'found standardise with on = "{self.on}"; allowed: only with on = "logits", '
                "as two standardised logits differ by nothing but their order"
            )
        if self.needs_labels and self.on == "foreground":
            raise ValueError(f'found weight_by = "{self.weight_by}" with on = "foreground"; allowed: other logits')
        return self

    @property
    def label(self) -> str:
        """Its name; default the compared logits."""
        return self.name or self.on

    @property
    def needs_labels(self) -> bool:
        """Only weights of pixels do."""
        return self.weight_by not in (None, "none")


class CwdTerm(OutputTerm):
    """Channel-wise distillation: KL of each channel's softened distribution over positions (Shu et al., 2011.13256).

    Attributes:
        weight: Weight of the term in the sum; published values: 3 for logits, 50 for features.
        temperature: T > 0; default: `distillation.temperature`.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.cwd:CwdLoss"
    kind: Literal["cwd"] = "cwd"
    weight: Weight = 3.0
    temperature: Temperature = None


class FeatureTerm(OutputTerm):
    """Mean squared difference of features; the student's are projected if widths differ (Romero et al., 1412.6550).

    Attributes:
        form: How features are compared: `mse`, `smooth_l1`, or `cosine`, 1 - cos over the channels; default: mse.
        standardise: Whether the teacher's channels are standardised over the images that one device processes at once,
            for teachers whose channels have very different sizes. Default: false.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.feature:FeatureLoss"
    kind: Literal["feature"] = "feature"
    on: OutputName = "encoder"
    # None, which is not written, so that profiles of earlier and later runs are equal.
    form: Literal["mse", "smooth_l1", "cosine"] | None = None
    standardise: Bool | None = None

    @property
    def per_batch(self) -> bool:
        """Only the statistics of a standardised teacher depend on it."""
        return bool(self.standardise)


class DistTerm(DistillationTerm):
    """Correlations of the class probabilities between classes and within each class (DIST; Huang et al., 2205.10536).

    Attributes:
        on: The logits that are compared.
        temperature: T > 0, that of the publication, not `distillation.temperature`.
        beta: Weight of the correlation between the classes of a pixel; without effect on two classes.
        gamma: Weight of the correlation within a class over the pixels that one device processes at once.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.dist:DistLoss"
    unused_with_two_classes = "beta"
    scope: ClassVar[Literal["pixels", "batch"]] = "batch"
    kind: Literal["dist"] = "dist"
    on: Literal["logits"] = "logits"
    temperature: Float = Field(1.0, gt=0.0, le=1000.0)
    beta: Weight = 1.0
    gamma: Weight = 1.0

    @property
    def needs_labels(self) -> bool:
        """Probabilities are compared with each other."""
        return False


class EdgeBodyTerm(DistillationTerm):
    """KL per pixel near boundaries between classes, and KL or channel-wise distillation elsewhere (BPKD, 2306.08075).

    Attributes:
        on: The logits that are compared.
        temperature: T > 0; default: `distillation.temperature`.
        band: Width of the band around boundaries of the labels in pixels of the network's input; an odd number.
        body: What compares the pixels outside of the band.
        edge_weight: Weight of the part in the band.
        body_weight: Weight of the other part.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.edge_body:EdgeBodyLoss"
    kind: Literal["edge_body"] = "edge_body"
    on: Literal["logits"] = "logits"
    temperature: Temperature = None
    band: Band = 3
    body: Literal["kl", "cwd"] = "kl"
    edge_weight: Weight = 1.0
    body_weight: Weight = 1.0


class DkdTerm(DistillationTerm):
    """KL of the label's probability and, apart, of the other classes (DKD, 2203.08679); for three or more classes.

    Attributes:
        on: The logits that are compared.
        temperature: T > 0; default: `distillation.temperature`.
        alpha: Weight of the part on the label's probability.
        beta: Weight of the part on the other classes.
        warmup: Epochs in which the weight of the term rises linearly; 0 for none.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.dkd:DkdLoss"
    kind: Literal["dkd"] = "dkd"
    on: Literal["logits"] = "logits"
    temperature: Temperature = None
    alpha: Weight = 1.0
    beta: Weight = 8.0
    warmup: Int = Field(20, ge=0, le=MOST_EPOCHS)

    @property
    def full_weight_from(self) -> int:
        """The end of its warm-up."""
        return max(1, self.warmup)


class PkdTerm(OutputTerm):
    """Features whose channels are standardised over the batch, so that their correlation counts (PKD, 2207.02039).

    Attributes:
        weight: Weight of the term in the sum; published: 6 for each of four maps.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.pkd:PkdLoss"
    scope: ClassVar[Literal["pixels", "batch"]] = "batch"
    kind: Literal["pkd"] = "pkd"
    weight: Weight = 6.0
    on: OutputName = "encoder"


class AttentionTerm(OutputTerm):
    """Where features are large: their mean square over channels, without a projection (attention transfer, 1612.03928).

    Attributes:
        weight: Weight of the term in the sum; published: 10000.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.attention:AttentionLoss"
    kind: Literal["attention"] = "attention"
    weight: Weight = 10_000.0
    on: OutputName = "encoder"


class IfvdTerm(OutputTerm):
    """How features of a class vary around their mean in an image, without a projection (IFVD, Wang et al., 2020).

    Attributes:
        weight: Weight of the term in the sum; published: 200.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.ifvd:IfvdLoss"
    kind: Literal["ifvd"] = "ifvd"
    weight: Weight = 200.0
    on: OutputName = "encoder"

    @property
    def needs_labels(self) -> bool:
        """Their classes have the means."""
        return True


class MgdTerm(OutputTerm):
    """The teacher's features, generated from a part of the student's (masked generative distillation, 2205.01529).

    Attributes:
        weight: Weight of the term in the sum; published: 0.00002, as the term is a sum over cells and channels.
        masked: Share of the student's cells that are hidden at random.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.mgd:MgdLoss"
    kind: Literal["mgd"] = "mgd"
    weight: Weight = 2e-5
    on: OutputName = "encoder"
    masked: Float = Field(0.75, ge=0.0, lt=1.0)

    @property
    def needs_labels(self) -> bool:
        """They determine which cells are hidden."""
        return True


class PairTerm(OutputTerm):
    """Base of the terms that compare relations between cells, whose number grows with the square of the map's size.

    Attributes:
        pool: Side of the squares of cells that are pooled to one cell first; more need less memory.
    """

    on: OutputName = "encoder"
    pool: Int = Field(1, ge=1, le=256)

    def pooled(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in cells after pooling."""
        return -(-height // self.pool), -(-width // self.pool)

    def relations(self, height: int, width: int, images: int) -> int:
        """Each cell with each of its image."""
        rows, columns = self.pooled(height, width)
        return images * (rows * columns) ** 2


class RelationTerm(PairTerm):
    """How similar each cell of an image is to all others, for networks of any two widths.

    Attributes:
        temperature: Of the softmax over the similarities, which are cosines.
        pool: Side of the squares of cells whose mean is one cell; more need less memory.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.relation:RelationLoss"
    kind: Literal["relation"] = "relation"
    temperature: Float = Field(0.07, gt=0.0, le=1000.0)


class CirkdTerm(PairTerm):
    """How similar each cell is to those of all images of a batch (mini-batch term of CIRKD, 2204.06986).

    Attributes:
        temperature: Of the softmax over the similarities, which are cosines.
        pool: Side of the squares of cells whose mean is one cell; more need less memory.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.cirkd:CirkdLoss"
    scope: ClassVar[Literal["pixels", "batch"]] = "batch"
    kind: Literal["cirkd_minibatch"] = "cirkd_minibatch"
    temperature: Float = Field(0.1, gt=0.0, le=1000.0)

    def relations(self, height: int, width: int, images: int) -> int:
        """Each cell with each of every image."""
        return images * super().relations(height, width, images)


class SkdPairwiseTerm(PairTerm):
    """Squared differences of the similarities of cells (pairwise term of SKD, 1903.04197).

    Attributes:
        pool: Side of the squares of cells whose largest features are one cell; more need less memory.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.skd_pairwise:SkdPairwiseLoss"
    kind: Literal["skd_pairwise"] = "skd_pairwise"
    pool: Int = Field(2, ge=1, le=256)


MOST_GROUPS = 16
"""Groups of channels of the term `af_dcd`, as published, if the teacher's channels can be divided by it."""


class AfDcdTerm(PairTerm):
    """Contrast of groups of channels within patches of cells (Af-DCD, Fan et al., 2023).

    Attributes:
        weight: Weight of the term in the sum; published: 0.01.
        temperature: Divisor of the distances.
        groups: Number of groups, a divisor of the teacher's channels; default: the largest one up to 16.
        patch: Side of a patch in cells.
        pool: Side of the squares of cells whose largest features are one cell; published: 4 on maps of stride 8.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.af_dcd:AfDcdLoss"
    kind: Literal["af_dcd"] = "af_dcd"
    weight: Weight = 0.01
    temperature: Float = Field(0.07, gt=0.0, le=1000.0)
    groups: Int | None = Field(None, ge=2, le=64)
    patch: Int = Field(4, ge=1, le=16)

    def relations(self, height: int, width: int, images: int) -> int:
        """Each group of a cell with each of the cells in its patch."""
        rows, columns = (-(-cells // self.patch) for cells in self.pooled(height, width))
        return images * rows * columns * (self.patch**2 * (self.groups or MOST_GROUPS)) ** 2


SUPERVISED_TERMS: tuple[type[SupervisedTerm], ...] = (
    CrossEntropyTerm,
    DiceTerm,
    JaccardTerm,
    TverskyTerm,
    FocalTerm,
    OhemTerm,
    BoundaryTerm,
    LovaszTerm,
    ContourTerm,
    DistanceTerm,
    ForegroundTerm,
)
DISTILLATION_TERMS: tuple[type[DistillationTerm], ...] = (
    KlTerm,
    CwdTerm,
    FeatureTerm,
    DistTerm,
    EdgeBodyTerm,
    RelationTerm,
    MgdTerm,
    AttentionTerm,
    PkdTerm,
    SkdPairwiseTerm,
    IfvdTerm,
    CirkdTerm,
    DkdTerm,
    AfDcdTerm,
)


def supervised_terms() -> tuple[type[SupervisedTerm], ...]:
    """The tables of all supervised terms, built-in ones first."""
    return (*SUPERVISED_TERMS, *plugins.tables(plugins.LOSSES, SupervisedTerm, "kind", built_in=SUPERVISED_TERMS))


def distillation_terms() -> tuple[type[DistillationTerm], ...]:
    """The tables of all distillation terms, built-in ones first."""
    return (*DISTILLATION_TERMS, *plugins.tables(plugins.TERMS, DistillationTerm, "kind", built_in=DISTILLATION_TERMS))
