"""Verify an exported file: compare onnxruntime with torch before the file is saved to its target."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdtui.engine.data import IGNORE_INDEX, Batch
from kdtui.engine.evaluate import Evaluation
from kdtui.engine.export.deployed import Deployed, InputSize, fed, resized
from kdtui.engine.export.onnx import INPUT
from kdtui.engine.export.source import SAMPLES
from kdtui.engine.metrics import SegmentationMetrics, plain_values
from kdtui.engine.models import Outputs
from kdtui.engine.network import GraphOutput
from kdtui.engine.torchmetrics import Metric
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions

RELATIVE = 1e-3
"""Maximum difference of an fp32 file, as a fraction of the largest absolute value of torch."""
AGREEMENT = 0.999
"""Minimum share of pixels with the same class in torch and in an fp32 file."""

COUNTS = (0, 1, 3, 10)
"""Lengths of inputs whose entries belong to no image, such as boxes, at which a file is compared."""

ImagesDone = Callable[[int], None]


@dataclass
class Difference:
    """Difference of two outputs over one or more calls.

    Attributes:
        max: Maximum absolute difference; None if the output consists of classes.
        mean: Mean absolute difference.
        scale: Maximum absolute value of torch's output, to which ``max`` is compared.
        agreement: Share of pixels with the same class.
        shapes: Tested input shapes.
    """

    max: float | None = None
    mean: float | None = None
    scale: float | None = None
    agreement: float = 1.0
    shapes: list[list[int]] = field(default_factory=list)

    @property
    def relative(self) -> float | None:
        """``max`` divided by ``scale``."""
        return None if self.max is None or self.scale is None else self.max / max(self.scale, 1e-12)

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self) | {"relative": self.relative}


@dataclass(frozen=True)
class Verification:
    """Result of the verification.

    Attributes:
        outputs: Difference of each output, over all calls.
        images: Number of compared images of the validation split; 0 without one.
        miou: mIoU of the file on them; None without a split.
        torch_miou: mIoU of the network in torch, in fp32.
        metrics: Metrics of the kind of network on these images: of the file, and of the network in torch.
    """

    outputs: dict[str, Difference]
    images: int
    miou: float | None
    torch_miou: float | None
    metrics: tuple[Mapping[str, float | None], Mapping[str, float | None]] = ({}, {})

    @property
    def drop(self) -> float | None:
        """Loss of mIoU of the file compared to torch, in percentage points."""
        if self.miou is None or self.torch_miou is None:
            return None
        return 100 * (self.torch_miou - self.miou)

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys; ``metrics`` and ``torch_metrics`` only of kinds that have metrics."""
        validation: dict[str, Any] = {
            "images": self.images,
            "miou": self.miou,
            "torch_miou": self.torch_miou,
            "drop_points": self.drop,
        }
        if any(self.metrics):
            validation |= {"metrics": dict(self.metrics[0]), "torch_metrics": dict(self.metrics[1])}
        return {
            "outputs": {name: difference.to_json() for name, difference in self.outputs.items()},
            "validation": validation,
        }


def session(path: Path, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """Create a session of onnxruntime on the CPU with ``threads``, by default as many as torch uses."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or torch.get_num_threads()
    settings.log_severity_level = 3
    # Waiting threads must not spin: they would slow down other threads on the same core.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


class TorchAnswers:
    """Cached outputs of torch by call, for exports of the same network in other precisions.

    Args:
        most: Maximum size in bytes; further outputs are computed again.
    """

    def __init__(self, most: int = 1 << 29) -> None:
        self._kept: list[list[NDArray[Any]]] = []
        self._left = most

    def answer(self, call: int, compute: Callable[[], list[NDArray[Any]]]) -> list[NDArray[Any]]:
        """The output of call number ``call``; computed if it is not cached."""
        if call < len(self._kept):
            return self._kept[call]
        arrays = compute()
        size = sum(array.nbytes for array in arrays)
        if call == len(self._kept) and size <= self._left:
            self._kept.append(arrays)
            self._left -= size
        return arrays


class Verifier:
    """Runs both and accumulates their differences.

    Args:
        deployed: The exported network.
        path: The file.
        options: Options of the export.
        classes: Number of classes.
        answers: Cached outputs of torch for the same calls; none by default.

    Raises:
        ExportError: The file is not valid ONNX, or onnxruntime cannot run it.
    """

    def __init__(
        self,
        deployed: Deployed,
        path: Path,
        options: ExportOptions,
        *,
        classes: int,
        answers: TorchAnswers | None = None,
    ) -> None:
        self._class_count = classes
        self._deployed = deployed.eval()
        self._answers = answers or TorchAnswers(most=0)
        self._calls = itertools.count()
        self._options = options
        self._totals: dict[str, list[float]] = {}
        self._outputs = {name: Difference() for name in deployed.output_names}
        self._main = deployed.outputs[0]
        try:
            onnx.checker.check_model(str(path), full_check=True)
            self._session = session(path)
        except Exception as error:  # both raise exceptions without a common base class
            raise ExportError(
                "the exported file is not valid ONNX; it was discarded",
                found=" ".join(str(error).split())[:400],
                hint="try `kdtui export RUN --opset N`, or `kdtui export RUN --precision fp32`",
            ) from error

    def compare(self, images: Tensor, extras: Mapping[str, Tensor]) -> Tensor:
        """Run both on normalised images f32 [N,3,H,W] and further inputs.

        A graph with a static batch is run several times, the last time with repeated images if necessary.

        Returns:
            The main output of torch and that of the file, f32 [N,2K,H,W]: K channels each, 1 and 0 for classes.
        """
        if self._options.dynamic_batch:
            return self._compared(images, extras)
        size, answers = self._options.batch, []
        for first in range(0, len(images), size):
            own = slice(first, first + size)
            part = {name: _filled(values[own], size) for name, values in extras.items()}
            answers.append(self._compared(_filled(images[own], size), part))
        return torch.cat(answers)[: len(images)]

    def _compared(self, images: Tensor, extras: Mapping[str, Tensor]) -> Tensor:
        taken = fed(images, self._options, self._deployed.pixels)
        further = {entry.name: extras[entry.name] for entry in self._deployed.inputs}
        ours = self._answers.answer(next(self._calls), lambda: self._torch(taken, *further.values()))
        theirs = self._ask(taken, further)
        for output, one, other in zip(self._deployed.outputs, ours, theirs, strict=True):
            if one.shape != other.shape:
                raise ExportError(
                    "an output of the exported file has another shape than the network's; the file was discarded",
                    where=f"output {output.name}, input {list(taken.shape)}",
                    found=list(other.shape),
                    allowed=list(one.shape),
                )
            self._count(output, one, other)
        shape = list(taken.shape)
        for difference in self._outputs.values():
            if shape not in difference.shapes:
                difference.shapes.append(shape)
        return torch.cat([self._channels(ours[0]), self._channels(theirs[0])], dim=1)

    def _channels(self, answer: NDArray[Any]) -> Tensor:
        """A main output as f32 [N,K,H,W]; 1 and 0 for classes."""
        values = torch.from_numpy(answer)
        if self._options.output != "argmax":
            return values.float()
        return functional.one_hot(values.long(), self._class_count).movedim(-1, 1).float()

    def sizes(self, samples: Callable[[int], Batch]) -> None:
        """Compare at other sizes and batch sizes, if they are dynamic.

        Args:
            samples: Makes a batch of this many images, which are resized.
        """
        height, width = samples(1).images.shape[-2:]
        stride = self._deployed.stride
        sizes = [InputSize(height, width)]
        if self._options.dynamic_size:
            # One that is divisible by the stride and one that is not, neither of them square.
            sizes = [InputSize(height + stride, width + 2 * stride), InputSize(height + stride // 2 - 1, width + 5)]
        counts = [1, 3] if self._options.dynamic_batch else [self._options.batch]
        for place in range(max(len(sizes), len(counts))):
            size, count = sizes[place % len(sizes)], counts[place % len(counts)]
            batch = samples(count)
            self.compare(resized(batch.images, size), batch.extras)

    def lengths(self, samples: Callable[[int], Batch]) -> None:
        """Compare with :data:`COUNTS` entries of inputs that have a length of their own, for one image and for two.

        Args:
            samples: Makes a batch of this many images.
        """
        own = [entry.name for entry in self._deployed.inputs if entry.axes.get(0) != "batch"]
        examples = {entry.name: entry.example(1) for entry in self._deployed.inputs}
        for images in (1, 2) if own else ():
            batch = samples(images)
            for count in COUNTS:
                extras = dict(batch.extras)
                for name in own:
                    values = batch.extras[name] if len(batch.extras[name]) else examples[name]
                    extras[name] = values[torch.arange(count) % len(values)]
                self.compare(batch.images, extras)

    def difference(self) -> dict[str, Difference]:
        """The differences so far, by output."""
        return self._outputs

    def _torch(self, taken: Tensor, *extras: Tensor) -> list[NDArray[Any]]:
        with torch.inference_mode():
            return [answer.numpy() for answer in self._deployed(taken, *extras)]

    def _ask(self, taken: Tensor, extras: Mapping[str, Tensor]) -> list[NDArray[Any]]:
        feed = {INPUT: taken.numpy(), **{name: value.numpy() for name, value in extras.items()}}
        try:
            return list(self._session.run(None, feed))
        except Exception as error:  # onnxruntime's exceptions have no other common base class
            raise ExportError(
                "onnxruntime cannot run the exported file; it was discarded",
                where=f"input {list(taken.shape)}",
                found=" ".join(str(error).split())[:400],
                hint="export it for a fixed size: `kdtui export RUN --dynamic batch`",
            ) from error

    def _classes(self, answer: NDArray[Any]) -> NDArray[np.uint8]:
        chosen = answer if self._options.output == "argmax" else answer.argmax(axis=1)
        return np.ascontiguousarray(chosen.astype(np.uint8))

    def _count(self, output: GraphOutput, one: NDArray[Any], other: NDArray[Any]) -> None:
        difference = self._outputs[output.name]
        same, pixels, apart, values = self._totals.setdefault(output.name, [0.0, 0.0, 0.0, 0.0])
        if output.logits:
            classes, others = self._classes(one), self._classes(other)
            same, pixels = same + float((classes == others).sum()), pixels + classes.size
            difference.agreement = same / max(pixels, 1.0)
        if self._options.output != "argmax" or not output.logits:
            # NaN counts as an infinite difference, because comparisons with NaN would pass.
            far = np.nan_to_num(np.abs(one.astype(np.float64) - other), nan=np.inf, posinf=np.inf)
            apart, values = apart + float(far.sum()), values + far.size
            difference.max = max(difference.max or 0.0, float(far.max(initial=0.0)))
            difference.mean = apart / max(values, 1.0)
            difference.scale = max(difference.scale or 0.0, float(np.abs(one).max(initial=0.0)))
        self._totals[output.name] = [same, pixels, apart, values]


def verify(
    deployed: Deployed,
    path: Path,
    options: ExportOptions,
    *,
    classes: Sequence[str],
    batches: Iterable[Batch] | None,
    evaluation: Evaluation | None = None,
    samples: Callable[[int], Batch],
    metrics: Callable[[], Sequence[Metric]] = tuple,
    seen: ImagesDone = lambda images: None,
    answers: TorchAnswers | None = None,
) -> Verification:
    """Compare the file with the network and compute its scores.

    Args:
        deployed: The exported network.
        path: The file.
        options: Options of the export.
        classes: Class names.
        batches: The validation split; None for an external checkpoint without data.
        evaluation: How it is given to the network, where labels have a size of their own.
        samples: Makes a batch of this many images, for other sizes, and for everything without a split.
        metrics: Makes the metrics of the kind of network, for labels of the network's size.
        seen: Called with the number of processed images.
        answers: Cached outputs of torch from another precision of the same graph on the same images.

    Raises:
        ExportError: The file differs too much from the network; the message has the numbers.
    """
    verifier = Verifier(deployed, path, options, classes=len(classes), answers=answers)
    scores = [SegmentationMetrics(classes, ignore_index=IGNORE_INDEX) for _ in range(2)]
    further = [metrics() for _ in scores]
    images = 0
    for batch in batches if batches is not None else ():
        for answer, labels in _answers(verifier, batch, evaluation, options):
            for confusion, own, one in zip(scores, further, answer.chunk(2, dim=1), strict=True):
                confusion.update(one.argmax(dim=1), labels)
                for metric in own if batch.truths is None else ():
                    metric.update(Outputs(one), batch)
        images += len(batch.images)
        seen(images)
    if batches is None:
        made = samples(SAMPLES if options.dynamic_batch else options.batch)
        verifier.compare(made.images, made.extras)
    verifier.sizes(samples)
    verifier.lengths(samples)
    torch_miou, miou = (confusion.scores().miou if images else None for confusion in scores)
    in_torch, of_file = (_values(own) if images else {} for own in further)
    verdict = Verification(verifier.difference(), images, miou, torch_miou, (of_file, in_torch))
    _judge(verdict, options)
    return verdict


def _values(metrics: Iterable[Metric]) -> dict[str, float | None]:
    return {name: value for metric in metrics for name, value in plain_values(metric.compute()).items()}


def _answers(
    verifier: Verifier, batch: Batch, evaluation: Evaluation | None, options: ExportOptions
) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs of torch and of the file, f32 [N,2K,h,w], with labels i64 [N,h,w] of their size."""
    images, masks = batch.images, batch.masks
    static = None if options.dynamic_size else _static_size(options, evaluation)
    windows = evaluation is not None and batch.truths is not None and evaluation.mode == "slide"
    if evaluation is not None and windows and static in (None, InputSize(*evaluation.window)):
        answer = evaluation.slide(lambda windows: verifier.compare(windows, {}), batch)
    else:
        if static is not None:
            # Label maps that do not have the size of the images do not follow it.
            if masks.shape[-2:] == images.shape[-2:] != (static.height, static.width):
                masks = functional.interpolate(masks[:, None].float(), (static.height, static.width))[:, 0].long()
            images = resized(images, static)
        answer = verifier.compare(images, batch.extras)
    if evaluation is None or batch.truths is None:
        yield answer, masks
        return
    for logits, truth in zip(evaluation.at_own_size(answer, batch), batch.truths, strict=True):
        yield logits, truth[None].long()


def _static_size(options: ExportOptions, evaluation: Evaluation | None) -> InputSize | None:
    """Input size of a static graph; None for that of the images."""
    if options.height:
        return InputSize(options.height, options.width)
    return None if evaluation is None else InputSize(*evaluation.grid)


def _filled(values: Tensor, count: int) -> Tensor:
    """Values [N,...] with the last entry repeated up to ``count``."""
    return torch.cat([values, values[-1:].expand(count - len(values), *values.shape[1:])])


def _judge(verdict: Verification, options: ExportOptions) -> None:
    faults = []
    exact = options.precision == "fp32"
    for name, difference in verdict.outputs.items():
        relative = difference.relative
        if difference.max is not None and not math.isfinite(difference.max):
            # The agreement is not tested: argmax of NaN is class 0, which may be correct for most pixels.
            faults.append(f"{name}: values that are not finite")
            continue
        if exact and relative is not None and not relative <= RELATIVE:
            faults.append(f"{name}: differs by {difference.max:.3g}, {relative:.2g} of the maximum")
        # The parts of an untrained or saturated network may have ties; only the main output is tested.
        if name == next(iter(verdict.outputs)):
            least = AGREEMENT if exact else 1 - options.limit / 100 if verdict.drop is None else 0.0
            if difference.agreement < least:
                faults.append(f"{name}: {difference.agreement:.3%} of the pixels have the same class")
    limit = 100 * (1 - AGREEMENT) if exact else options.limit
    if verdict.drop is not None and verdict.drop > limit:
        faults.append(f"mIoU {verdict.miou:.4f} instead of {verdict.torch_miou:.4f}: {verdict.drop:.2f} points lost")
    if not faults:
        return
    allowed = f"at most {options.limit:g} points of mIoU lost"
    if exact:
        allowed = f"a difference of at most {RELATIVE:g} of the maximum, the same class in {AGREEMENT:.1%} of pixels"
    hints = {
        "fp32": "this is a bug of kdtui: please report it with the profile of the run",
        "fp16": "values exceed the range of fp16: `kdtui export RUN --precision fp32`",
        "int8": "try any of `kdtui export RUN --precision int8 --keep-float both --calibration N --limit POINTS`",
    }
    raise ExportError(
        f"the outputs of the {options.precision} file differ too much from the network's; it was discarded",
        found="; ".join(faults),
        allowed=allowed,
        hint=hints[options.precision],
    )
