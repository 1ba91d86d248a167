"""Tables of loss terms, and the lists of built-in ones.

A distillation term compares the student with its teacher, a supervised term with the labels. A new term needs a table
here (and in the list at the end) and a module in ``kdtui/engine/losses``. Other packages add terms by the entry-point
groups ``kdtui.terms`` and ``kdtui.losses``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kdtui.profile.base import ProfileTable

# A part of a curve's name, as in ``loss.distill.NAME``.
TermName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]
# Of an output of a network; networks of other packages name their own.
OutputName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,119}$")]
Weight = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0.0, le=1_000_000.0)]
Temperature = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0.0, le=1000.0)] | None


class Term(ProfileTable):
    """Keys of every term.

    Attributes:
        kind: Kind of the term.
        weight: Weight of the term in the sum.
        name: Name of its curve; default: the kind. Names in a list must be distinct.
    """

    implementation: ClassVar[str]
    kind: str
    weight: Weight = 1.0
    name: TermName | None = None

    @property
    def label(self) -> str:
        """The last part of the name of its curve."""
        return self.name or self.kind


class SupervisedTerm(Term):
    """Base of the terms that compare the student with the labels."""


class DistillationTerm(Term):
    """Base of the terms that compare the student with its teacher.

    A term with a temperature declares ``temperature: Temperature = None``; its module receives a number.

    Attributes:
        on: Output of the student that it reads.
    """

    on: OutputName = "logits"

    @property
    def student_needs(self) -> frozenset[str]:
        """Outputs of the student that it reads: logits by name, or feature maps such as ``encoder.5``."""
        return frozenset({self.on})

    @property
    def teacher_needs(self) -> frozenset[str]:
        """Outputs of the teacher that it reads."""
        return self.student_needs


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


class CrossEntropyTerm(SupervisedTerm):
    """Cross entropy, the mean over valid pixels."""

    implementation: ClassVar[str] = "kdtui.engine.losses.supervised:CrossEntropyLoss"
    kind: Literal["ce"] = "ce"


class DiceTerm(SupervisedTerm):
    """Soft Dice loss of each image over its classes, the mean over images."""

    implementation: ClassVar[str] = "kdtui.engine.losses.supervised:DiceLoss"
    kind: Literal["dice"] = "dice"


class KlTerm(DistillationTerm):
    """KL of the softened class distributions per pixel (Hinton et al., 1503.02531; Liu et al., 1903.04197).

    Attributes:
        on: The logits that are compared; `bg_fg` and `target_nontarget` are the two decisions of a hierarchical task.
        temperature: T > 0; default: `distillation.temperature`.
        name: Name of its curve; default: the value of `on`.
    """

    implementation: ClassVar[str] = "kdtui.engine.losses.kl:KlLoss"
    kind: Literal["kl"] = "kl"
    on: Literal["logits", "bg_fg", "target_nontarget"] = "logits"
    temperature: Temperature = None

    @property
    def label(self) -> str:
        """Its name; default the compared logits."""
        return self.name or self.on


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
    """Mean squared difference of features; the student's are projected if widths differ (Romero et al., 1412.6550)."""

    implementation: ClassVar[str] = "kdtui.engine.losses.feature:FeatureLoss"
    kind: Literal["feature"] = "feature"
    on: OutputName = "encoder"


SUPERVISED_TERMS: tuple[type[SupervisedTerm], ...] = (CrossEntropyTerm, DiceTerm)
DISTILLATION_TERMS: tuple[type[DistillationTerm], ...] = (KlTerm, CwdTerm, FeatureTerm)
