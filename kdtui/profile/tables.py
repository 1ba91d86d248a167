"""The tables of a profile: frozen pydantic models that reject unknown keys.

Profiles are edited by hand, so all errors of a file are reported at once, each with its key.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from kdtui.profile.base import Bool, Float, Int, PathTo, ProfileTable, TaskName, one_of
from kdtui.profile.data_tables import DataTable, Deviation, Mean, SyntheticData, data_kinds
from kdtui.profile.find import OF_RUN
from kdtui.profile.launch_tables import DEFAULT as DEFAULT_LAUNCH
from kdtui.profile.launch_tables import LaunchTable, launch_tables
from kdtui.profile.limits import MOST_EPOCHS
from kdtui.profile.network_tables import Model, NetworkTable, network_kinds
from kdtui.profile.schedules import DEFAULTS, AlphaCourse, Course, RateCourse
from kdtui.profile.term_tables import (
    CrossEntropyTerm,
    DiceTerm,
    DistillationTerm,
    KlTerm,
    SupervisedTerm,
    Term,
    distillation_terms,
    supervised_terms,
)

# Upper bounds catch typing errors: far above useful values, and far below values that fill a disk, overflow or never
# end.
_MOST_IMAGES = 65_536
_RARELY = 1_000_000
# Safe in folder names and terminals: no separators, no control characters, no leading dot or dash.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}$")]
Tag = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+=-]{0,39}$")]


if TYPE_CHECKING:
    Data = DataTable
    Network = NetworkTable
else:
    Data = one_of(data_kinds(), "kind")
    Network = one_of(network_kinds(), "kind", default="smp")


class SingleTeacher(ProfileTable):
    """One teacher. All keys except ``checkpoint`` are inferred from the file if not set.

    Attributes:
        checkpoint: A file, or `run:NAME` for the best checkpoint of a run: the newest finished one of this name, or the
            one with this id. A run that is queued or running has to finish first.
        classes: Class names of the teacher in the order of its output; default: the names in the file, else those of
            the data.
        class_map: Class of the data for each class of the teacher (a name, or its number from 0), if they differ;
            probabilities of one class are added, classes that are not listed are dropped.
        mean: Mean that the teacher's normalisation subtracts from values of 0 to 1, per channel in its channel order;
            default: that in the file, else that of the data.
        std: Standard deviation by which the teacher's normalisation divides; default as for ``mean``.
        bgr: Whether the teacher expects blue, green, red instead of red, green, blue.
        scale: Factor of the size at which the teacher sees the images; default 1.
        output: Name of the output with the logits, for an ONNX file with several.
        weight: Weight of its probabilities in the mean of several teachers; default 1.
    """

    checkpoint: Annotated[str, PathTo("FILE", OF_RUN)] | None = None
    task: TaskName | None = None
    architecture: str | None = None
    encoder: str | None = None
    classes: tuple[str, ...] | None = Field(None, min_length=2, max_length=256)
    class_map: dict[str, str] | None = Field(None, min_length=1, max_length=4096)
    mean: tuple[Mean, ...] | None = Field(None, min_length=1, max_length=64)
    std: tuple[Deviation, ...] | None = Field(None, min_length=1, max_length=64)
    bgr: Bool | None = None
    scale: Float | None = Field(None, gt=0.0, le=16.0)
    output: str | None = None
    weight: Float | None = Field(None, gt=0.0, le=1000.0)

    @model_validator(mode="after")
    def _whole_normalisation(self) -> Self:
        if (self.mean is None) != (self.std is None):
            given, missing = ("mean", "std") if self.std is None else ("std", "mean")
            raise ValueError(f"found {given} without {missing}; allowed: both, or neither")
        return self


class EnsembleTeacher(SingleTeacher):
    """A further teacher."""

    checkpoint: Annotated[str, PathTo("FILE", OF_RUN)]


class Teacher(SingleTeacher):
    """The teacher.

    Attributes:
        ensemble: Tables `[[teacher.ensemble]]` with the same keys, one for each further teacher: the student learns
            from the weighted mean of all softened probabilities. Terms on features read the first teacher.
        cache: Whether logits for training views that runs see again are kept in the run store, in fp16: with
            `data.views` or `data.view_seed`, and terms that read logits only.
    """

    unwritten: ClassVar[frozenset[str]] = frozenset({"cache"})
    ensemble: tuple[EnsembleTeacher, ...] | None = Field(None, max_length=16)
    cache: Literal["auto", "off"] = "auto"

    @field_validator("ensemble")
    @classmethod
    def _none_if_empty(cls, value: tuple[EnsembleTeacher, ...] | None) -> tuple[EnsembleTeacher, ...] | None:
        return value or None

    @property
    def members(self) -> tuple[SingleTeacher, ...]:
        """The teachers, the first one of the table itself."""
        return (self, *(self.ensemble or ()))

    def of_another_file(self) -> Teacher:
        """The settings that identify any network; the others describe the file in ``checkpoint``."""
        return Teacher(task=self.task, architecture=self.architecture, encoder=self.encoder)


if TYPE_CHECKING:
    AnyDistillationTerm = DistillationTerm
    AnySupervisedTerm = SupervisedTerm
    Launch = LaunchTable
else:
    AnyDistillationTerm = one_of(distillation_terms(), "kind")
    AnySupervisedTerm = one_of(supervised_terms(), "kind")
    Launch = one_of(launch_tables(), "target")


def _check_list(terms: tuple[Term, ...] | None) -> None:
    if terms is not None and not terms:
        raise ValueError("found []; allowed: at least one table")
    if terms and not any(term.weight for term in terms):
        raise ValueError("found only weights of 0, which train nothing; allowed: at least one weight > 0")
    twice = [label for label, count in Counter(term.label for term in terms or ()).items() if count > 1]
    if twice:
        raise ValueError(f"found two terms named '{twice[0]}'; allowed: distinct names; set 'name' of one of them")


class Loss(ProfileTable):
    """The supervised loss, ``L_base``: a weighted sum of terms.

    Attributes:
        terms: Tables `[[loss.terms]]`; default: `ce` and `dice`, each of weight 1.
    """

    terms: tuple[AnySupervisedTerm, ...] | None = None

    @field_validator("terms")
    @classmethod
    def _sound_list(cls, value: tuple[SupervisedTerm, ...] | None) -> tuple[SupervisedTerm, ...] | None:
        _check_list(value)
        return value

    def active_terms(self) -> tuple[SupervisedTerm, ...]:
        """The terms of the sum."""
        return self.terms or (CrossEntropyTerm(), DiceTerm())


KL_WEIGHTS = ("logits", "bg_fg", "target_nontarget")
"""Keys of the distillation that its ``terms`` replace."""


class Distillation(ProfileTable):
    """``L = alpha * L_distill + (1 - alpha) * L_base``; ``L_distill`` is a weighted sum of terms.

    Attributes:
        temperature: T > 0; softens both distributions, and the term is scaled by T squared.
        temperature_schedule: How T gets from `temperature` in the first epoch to `temperature_end` in the last one, for
            all terms without a temperature of their own.
        temperature_end: T of the last epoch.
        alpha: Weight of the distillation loss, in [0, 1].
        alpha_schedule: How the weight gets from `alpha` in the first epoch to `alpha_end` in the last one; `warmup`
            rises linearly to `alpha` over `alpha_warmup` epochs; `adaptive` is `alpha_end` while the student is nearly
            as good as its teacher.
        alpha_end: Weight in the last epoch, or the lower one of `adaptive`.
        alpha_warmup: Epochs until `warmup` reaches `alpha`.
        alpha_upper: Share of the teacher's validation mIoU from which `adaptive` is `alpha_end`.
        alpha_lower: Share below which `adaptive` is `alpha` again.
        stage1_alpha: As `alpha`, constant, for the terms on stage 1 of a network with boxes; default: `alpha`.
        logits: Weight of the KL on the main logits.
        bg_fg: Weight of the KL on background | person (hierarchical only).
        target_nontarget: Weight of the KL on target | other (hierarchical only).
        terms: Tables `[[distillation.terms]]`, instead of the three weights; default: a `kl` on each of the logits.
    """

    unwritten: ClassVar[frozenset[str]] = frozenset(DEFAULTS) | {"stage1_alpha"}
    enabled: Bool = False
    temperature: Float = Field(4.0, gt=0.0, le=1000.0)
    alpha: Float = Field(0.7, ge=0.0, le=1.0)
    logits: Float = Field(1.0, ge=0.0, le=1000.0)
    bg_fg: Float = Field(0.3, ge=0.0, le=1000.0)
    target_nontarget: Float = Field(0.3, ge=0.0, le=1000.0)
    terms: tuple[AnyDistillationTerm, ...] | None = None
    temperature_schedule: Course = DEFAULTS["temperature_schedule"]
    temperature_end: Float = Field(DEFAULTS["temperature_end"], gt=0.0, le=1000.0)
    alpha_schedule: AlphaCourse = DEFAULTS["alpha_schedule"]
    alpha_end: Float = Field(DEFAULTS["alpha_end"], ge=0.0, le=1.0)
    alpha_warmup: Int = Field(DEFAULTS["alpha_warmup"], ge=1, le=MOST_EPOCHS)
    alpha_upper: Float = Field(DEFAULTS["alpha_upper"], gt=0.0, le=10.0)
    alpha_lower: Float = Field(DEFAULTS["alpha_lower"], ge=0.0, le=10.0)
    stage1_alpha: Float | None = Field(None, ge=0.0, le=1.0)

    @field_validator("terms")
    @classmethod
    def _sound_list(cls, value: tuple[DistillationTerm, ...] | None) -> tuple[DistillationTerm, ...] | None:
        _check_list(value)
        return value

    @model_validator(mode="after")
    def _terms_or_weights(self) -> Distillation:
        weights = [key for key in KL_WEIGHTS if key in self.model_fields_set]
        if self.terms is not None and weights:
            raise ValueError(
                f"found terms and {', '.join(weights)}; allowed: only one of both; "
                f'write the weight as a term {{kind = "kl", on = "{weights[0]}", weight = …}}'
            )
        return self

    @model_validator(mode="after")
    def _sound_schedules(self) -> Distillation:
        if self.alpha_schedule == "exponential" and 0.0 in (self.alpha, self.alpha_end):
            raise ValueError(
                f'found alpha_schedule = "exponential" with {"alpha" if self.alpha == 0.0 else "alpha_end"} = 0; '
                "allowed: both > 0, or another schedule, such as linear"
            )
        if self.alpha_lower > self.alpha_upper:
            raise ValueError(
                f"found alpha_lower = {self.alpha_lower:g} with alpha_upper = {self.alpha_upper:g}; "
                "allowed: at most alpha_upper"
            )
        return self

    @model_serializer(mode="wrap")
    def _written(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        table = super()._written(serialize)
        return table if self.terms is None else {key: table[key] for key in table if key not in KL_WEIGHTS}

    def active_terms(self, task: TaskName) -> tuple[DistillationTerm, ...]:
        """The terms of the sum, each with its temperature.

        Args:
            task: Task of the data; only a hierarchical one has ``bg_fg`` and ``target_nontarget``.
        """
        return tuple(
            term.model_copy(update={"temperature": self.temperature})
            if getattr(term, "temperature", self.temperature) is None
            else term
            for term in self.listed_terms(task)
        )

    def listed_terms(self, task: TaskName) -> tuple[DistillationTerm, ...]:
        """The terms of the sum as a profile lists them: those without a temperature use the common one."""
        if self.terms is not None:
            return self.terms
        names = KL_WEIGHTS if task == "hierarchical" else KL_WEIGHTS[:1]
        return tuple(KlTerm(on=name, weight=getattr(self, name)) for name in names)


class Unfreezing(ProfileTable):
    """Progressive unfreezing of the student's encoder, stage by stage; its decoder and head are always trained.

    Attributes:
        start: Epoch from which the deepest stage is trained, counted from 1; before it the whole encoder is frozen.
        every: Epochs after which one more stage is trained.
        stages: Number of stages that are trained in the end; default: all.
        encoder_rate: Factor of the learning rate in the encoder.
    """

    start: Int = Field(2, ge=1, le=MOST_EPOCHS)
    every: Int = Field(1, ge=1, le=MOST_EPOCHS)
    stages: Int | None = Field(None, ge=1, le=64)
    encoder_rate: Float = Field(0.3, gt=0.0, le=100.0)


class Training(ProfileTable):
    """Settings of the training.

    Attributes:
        micro_batch_size: Images per forward pass on one device, with gradient accumulation; default: one pass per step.
        optimizer: Name of an optimizer of timm, such as `adamw`, `sgd` (with Nesterov momentum 0.9) or `lion`.
        schedule: How the learning rate falls from its peak to zero; `poly` with the power 0.9.
        ema: Decay of a moving average of the student's weights, such as 0.999; the average is then evaluated, chosen as
            best and exported. Default: none.
        unfreezing: Table `[training.unfreezing]`: the encoder is frozen first; default: all parameters are trained.
        warmup: Share of all steps in which the learning rate rises linearly.
        gradient_clip: Maximum global gradient norm; 0 disables clipping.
        devices: Number of ranks: CPU processes or GPUs.
        precision: ``auto`` selects the faster one for this network on this device.
        compile: With `auto`, student and teacher are compiled by `torch.compile` if a trial before the first step shows
            that this is faster. Rounding then differs, and a resumed run may take the other way.
        workers: Data loading processes per rank; `auto` chooses their number by cores, threads, device and shared
            memory. No result depends on it.
        threads: Torch threads per rank; 0 leaves it to torch. A CPU run is reproducible only with the same number.
        early_stopping: Number of epochs without a better validation mIoU after which training ends; 0 disables it.
        evaluate_every: Epochs between evaluations; the last epoch is always evaluated. Default: after every epoch.
        keep_checkpoints: Number of ``checkpoint_epoch_*`` files that are kept.
        visualize_every: Epochs between pictures of predictions, in addition to the best and the last epoch; 0 for only
            these two, -1 for none.
        log_every: Optimizer steps between two ``measured`` train events.
        cache_gib: How much the teacher logits in the run store may take in GiB; default: a tenth of the free disk, at
            most 20.
    """

    unwritten: ClassVar[frozenset[str]] = frozenset({"optimizer", "schedule", "compile"})
    epochs: Int = Field(20, ge=1, le=MOST_EPOCHS)
    batch_size: Int = Field(16, ge=1, le=_MOST_IMAGES)
    micro_batch_size: Int | None = Field(None, ge=1, le=_MOST_IMAGES)
    learning_rate: Float = Field(1e-3, gt=0.0, le=100.0)
    weight_decay: Float = Field(0.01, ge=0.0, le=100.0)
    warmup: Float = Field(0.05, ge=0.0, lt=1.0)
    gradient_clip: Float = Field(1.0, ge=0.0, le=1_000_000.0)
    devices: Int = Field(1, ge=1, le=64)
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: Bool | Literal["auto"] = "auto"
    workers: Annotated[Int, Field(ge=0, le=64)] | Literal["auto"] = 0
    threads: Int = Field(0, ge=0, le=256)
    early_stopping: Int = Field(0, ge=0, le=_RARELY)
    evaluate_every: Int | None = Field(None, ge=1, le=_RARELY)
    keep_checkpoints: Int = Field(2, ge=1, le=_RARELY)
    visualize_every: Int = Field(0, ge=-1, le=_RARELY)
    log_every: Int = Field(10, ge=1, le=_RARELY)
    optimizer: str = Field("adamw", pattern=r"^[a-z0-9]{1,40}$")
    schedule: RateCourse = "cosine"
    ema: Float | None = Field(None, gt=0.0, lt=1.0)
    unfreezing: Unfreezing | None = None
    compile: Literal["off", "auto"] = "off"
    cache_gib: Float | None = Field(None, ge=0.0, le=1_000_000.0)

    @property
    def loading_processes(self) -> int:
        """The number of ``workers``, once ``auto`` was replaced by a number."""
        assert self.workers != "auto"
        return self.workers

    @model_validator(mode="after")
    def _batch_divides(self) -> Training:
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by devices {self.devices}")
        per_device = self.batch_size // self.devices
        if self.micro_batch_size is not None and per_device % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide the {per_device} images per device and step"
            )
        return self


class Profile(ProfileTable):
    """The complete settings of a run: a resolved TOML file, saved as ``profile.toml`` in the run folder."""

    name: Name
    description: str = ""
    tags: tuple[Tag, ...] = ()
    seed: Int = Field(0, ge=0, lt=2**32)
    data: Data = SyntheticData()
    student: Network = Model()
    teacher: Teacher = Teacher()
    distillation: Distillation = Field(Distillation(), validate_default=True)
    loss: Loss | None = None
    training: Training = Training()
    launch: Launch = DEFAULT_LAUNCH()

    @field_validator("distillation")
    @classmethod
    def _distils_the_unlabelled(cls, value: Distillation, info: ValidationInfo) -> Distillation:
        if not value.enabled and getattr(info.data.get("data"), "unlabelled", None) is not None:
            raise ValueError(
                "found enabled = false and data.unlabelled, images that only the distillation uses; "
                "allowed: enabled = true, or no data.unlabelled"
            )
        return value
