"""Whether a file answers as the network does: torch beside onnxruntime, before anybody gets to see the file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
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
from kdtui.engine.export.deployed import Deployed, Size, fed
from kdtui.engine.export.onnx import INPUT
from kdtui.engine.metrics import SegmentationMetrics
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions

RELATIVE = 1e-3
"""Largest difference of an fp32 file, as a share of the largest absolute value that torch gives."""
AGREEMENT = 0.999
"""Least share of pixels of one class in torch and in an fp32 file."""

ImagesDone = Callable[[int], None]


@dataclass
class Difference:
    """What separates two answers over one or more calls.

    Attributes:
        max: Largest absolute difference; None where only classes are known.
        mean: Mean absolute difference.
        scale: Largest absolute value of torch's answers, which ``max`` is measured against.
        agreement: Share of pixels of the same class.
        shapes: Input shapes that were tried.
    """

    max: float | None = None
    mean: float | None = None
    scale: float | None = None
    agreement: float = 1.0
    shapes: list[list[int]] = field(default_factory=list)

    @property
    def relative(self) -> float | None:
        """``max`` as a share of ``scale``."""
        return None if self.max is None or self.scale is None else self.max / max(self.scale, 1e-12)

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self) | {"relative": self.relative}


@dataclass(frozen=True)
class Verification:
    """What the verification measured.

    Attributes:
        outputs: Difference per output, over every call.
        images: Images of the validation split that both answered; 0 without one.
        miou: mIoU of the file on them; None without a split.
        torch_miou: The network's own, in fp32.
    """

    outputs: dict[str, Difference]
    images: int
    miou: float | None
    torch_miou: float | None

    @property
    def drop(self) -> float | None:
        """Points of mIoU that the file is behind torch."""
        if self.miou is None or self.torch_miou is None:
            return None
        return 100 * (self.torch_miou - self.miou)

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return {
            "outputs": {name: difference.to_json() for name, difference in self.outputs.items()},
            "validation": {
                "images": self.images,
                "miou": self.miou,
                "torch_miou": self.torch_miou,
                "drop_points": self.drop,
            },
        }


def session(path: Path, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session of onnxruntime on the CPU with as many threads as torch has, or ``threads``."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or torch.get_num_threads()
    settings.log_severity_level = 3
    # Threads that wait do not burn a core meanwhile: of two that share one, the other would wait for it.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


class TorchAnswers:
    """What torch answered, call by call, for exports of the same network in other precisions.

    Args:
        most: Bytes that are kept; torch is asked again for what is beyond them.
    """

    def __init__(self, most: int = 1 << 29) -> None:
        self._kept: list[list[NDArray[Any]]] = []
        self._left = most

    def answer(self, call: int, compute: Callable[[], list[NDArray[Any]]]) -> list[NDArray[Any]]:
        """The answer of call number ``call``; computed where it is not kept."""
        if call < len(self._kept):
            return self._kept[call]
        arrays = compute()
        size = sum(array.nbytes for array in arrays)
        if call == len(self._kept) and size <= self._left:
            self._kept.append(arrays)
            self._left -= size
        return arrays


class Verifier:
    """Asks both and keeps count.

    Args:
        deployed: The network as it was exported.
        path: The file.
        options: What was asked for.
        answers: Those of the same calls to the same network; none by default.

    Raises:
        ExportError: The file is not valid ONNX, or onnxruntime cannot run it.
    """

    def __init__(
        self, deployed: Deployed, path: Path, options: ExportOptions, answers: TorchAnswers | None = None
    ) -> None:
        self._deployed = deployed.eval()
        self._answers = answers or TorchAnswers(most=0)
        self._calls = itertools.count()
        self._options = options
        self._totals: dict[str, list[float]] = {}
        self._outputs = {name: Difference() for name in deployed.output_names}
        try:
            onnx.checker.check_model(str(path), full_check=True)
            self._session = session(path)
        except Exception as error:  # each of the two raises whatever class its C++ has chosen
            raise ExportError(
                "the exported file is not valid ONNX, so it was not kept",
                found=" ".join(str(error).split())[:400],
                hint="`kdtui export RUN --opset N`, or `kdtui export RUN --precision fp32`",
            ) from error

    def compare(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Both answers to normalised images f32 [N,3,H,W]: classes of torch and of the file, uint8 [N,H,W]."""
        taken = fed(images, self._options)
        ours = self._answers.answer(next(self._calls), lambda: self._torch(taken))
        theirs = self._ask(taken)
        for name, one, other in zip(self._outputs, ours, theirs, strict=True):
            if one.shape != other.shape:
                raise ExportError(
                    "the exported file answers in another shape than the network, so it was not kept",
                    where=f"output {name}, input {list(taken.shape)}",
                    found=list(other.shape),
                    allowed=list(one.shape),
                )
            self._count(name, one, other)
        shape = list(taken.shape)
        for difference in self._outputs.values():
            if shape not in difference.shapes:
                difference.shapes.append(shape)
        first, second = self._classes(ours[0]), self._classes(theirs[0])
        return torch.from_numpy(first), torch.from_numpy(second)

    def sizes(self, image: Tensor) -> None:
        """Compare at other sizes and numbers of images, where the graph leaves them open.

        Args:
            image: Normalised images f32 [N,3,H,W] to make others from.
        """
        height, width = image.shape[-2:]
        stride = self._deployed.stride
        sizes = [Size(height, width)]
        if self._options.dynamic_size:
            # One that the stride divides and one that it does not, neither square.
            sizes = [Size(height + stride, width + 2 * stride), Size(height + stride // 2 - 1, width + 5)]
        counts = [1, 3] if self._options.dynamic_batch else [self._options.batch]
        for place in range(max(len(sizes), len(counts))):
            size, count = sizes[place % len(sizes)], counts[place % len(counts)]
            made = functional.interpolate(image, (size.height, size.width), mode="bilinear", align_corners=False)
            self.compare(made[torch.arange(count) % len(made)])

    def difference(self) -> dict[str, Difference]:
        """What separates the two so far."""
        return self._outputs

    def _torch(self, taken: Tensor) -> list[NDArray[Any]]:
        with torch.inference_mode():
            return [answer.numpy() for answer in self._deployed(taken)]

    def _ask(self, taken: Tensor) -> list[NDArray[Any]]:
        try:
            return list(self._session.run(None, {INPUT: taken.numpy()}))
        except Exception as error:  # onnxruntime has a dozen classes without a common base but this one
            raise ExportError(
                "onnxruntime cannot run the exported file, so it was not kept",
                where=f"input {list(taken.shape)}",
                found=" ".join(str(error).split())[:400],
                hint="static sizes: `kdtui export RUN --dynamic batch`, or none",
            ) from error

    def _classes(self, answer: NDArray[Any]) -> NDArray[np.uint8]:
        chosen = answer if self._options.output == "argmax" else answer.argmax(axis=1)
        return np.ascontiguousarray(chosen.astype(np.uint8))

    def _count(self, name: str, one: NDArray[Any], other: NDArray[Any]) -> None:
        difference = self._outputs[name]
        same, pixels, apart, values = self._totals.setdefault(name, [0.0, 0.0, 0.0, 0.0])
        classes, others = self._classes(one), self._classes(other)
        same, pixels = same + float((classes == others).sum()), pixels + classes.size
        if self._options.output != "argmax":
            # Not a number anywhere is infinitely far away: a comparison with it would pass.
            far = np.nan_to_num(np.abs(one.astype(np.float64) - other), nan=np.inf, posinf=np.inf)
            apart, values = apart + float(far.sum()), values + far.size
            difference.max = max(difference.max or 0.0, float(far.max(initial=0.0)))
            difference.mean = apart / values
            difference.scale = max(difference.scale or 0.0, float(np.abs(one).max(initial=0.0)))
        difference.agreement = same / max(pixels, 1.0)
        self._totals[name] = [same, pixels, apart, values]


def verify(
    deployed: Deployed,
    path: Path,
    options: ExportOptions,
    *,
    classes: Sequence[str],
    batches: Iterable[Batch] | None,
    samples: Tensor,
    seen: ImagesDone = lambda images: None,
    answers: TorchAnswers | None = None,
) -> Verification:
    """Compare, score, and refuse what is too far off.

    Args:
        deployed: The network as it was exported.
        path: The file.
        options: What was asked for.
        classes: Class names.
        batches: The validation split; None where there is none, as for a foreign checkpoint without data.
        samples: Normalised images f32 [N,3,H,W] for the other sizes, and for everything without a split.
        seen: Told how many images are done.
        answers: Torch's, from the verification of another precision of the same graph on the same images.

    Raises:
        ExportError: The file is too far from the network; the message has the numbers.
    """
    verifier = Verifier(deployed, path, options, answers)
    scores = [SegmentationMetrics(classes, ignore_index=IGNORE_INDEX) for _ in range(2)]
    images = 0
    for batch in batches if batches is not None else ():
        for pictures, masks in _grouped(batch, options):
            for metrics, answer in zip(scores, verifier.compare(pictures), strict=True):
                metrics.update(answer, masks)
            images += len(pictures)
            seen(images)
    if batches is None:
        _without_data(verifier, samples, options)
    verifier.sizes(samples)
    known = [metrics.scores().miou if images else None for metrics in scores]
    verdict = Verification(verifier.difference(), images, miou=known[1], torch_miou=known[0])
    _judge(verdict, options)
    return verdict


def _grouped(batch: Batch, options: ExportOptions) -> Iterable[Batch]:
    """A batch as the graph takes it: at the static size, and in its number of images, the last of them repeated."""
    pictures, masks = batch
    if not options.dynamic_size and options.height:
        size = (options.height, options.width)
        if tuple(pictures.shape[-2:]) != size:
            pictures = functional.interpolate(pictures, size, mode="bilinear", align_corners=False)
            masks = functional.interpolate(masks[:, None].float(), size, mode="nearest")[:, 0].long()
    if options.dynamic_batch:
        yield Batch(pictures, masks)
        return
    for first in range(0, len(pictures), options.batch):
        part = Batch(pictures[first : first + options.batch], masks[first : first + options.batch])
        missing = options.batch - len(part.images)
        if missing:
            # Repeated images are asked for and counted nowhere.
            ignored = torch.full_like(part.masks[:1], IGNORE_INDEX).expand(missing, -1, -1)
            part = Batch(
                torch.cat([part.images, part.images[-1:].expand(missing, -1, -1, -1)]), torch.cat([part.masks, ignored])
            )
        yield part


def _without_data(verifier: Verifier, samples: Tensor, options: ExportOptions) -> None:
    count = len(samples) if options.dynamic_batch else options.batch
    verifier.compare(samples[torch.arange(count) % len(samples)])


def _judge(verdict: Verification, options: ExportOptions) -> None:
    faults = []
    exact = options.precision == "fp32"
    for name, difference in verdict.outputs.items():
        relative = difference.relative
        if difference.max is not None and not math.isfinite(difference.max):
            # Their class is the first one, which may well be the right one nearly everywhere.
            faults.append(f"{name}: answers that are no finite numbers")
            continue
        if exact and relative is not None and not relative <= RELATIVE:
            faults.append(f"{name}: differs by {difference.max:.3g}, {relative:.2g} of its scale")
        # Two-way parts of an untrained or saturated decision are ties in places; the main output decides.
        if name == next(iter(verdict.outputs)):
            least = AGREEMENT if exact else 1 - options.limit / 100 if verdict.drop is None else 0.0
            if difference.agreement < least:
                faults.append(f"{name}: {difference.agreement:.3%} of the pixels have the same class")
    limit = 100 * (1 - AGREEMENT) if exact else options.limit
    if verdict.drop is not None and verdict.drop > limit:
        faults.append(
            f"mIoU {verdict.miou:.4f} where torch has {verdict.torch_miou:.4f}: {verdict.drop:.2f} points lost"
        )
    if not faults:
        return
    allowed = f"at most {options.limit:g} points of mIoU lost"
    if exact:
        allowed = f"at most {RELATIVE:g} of the scale apart, at least {AGREEMENT:.1%} of the pixels of one class"
    hints = {
        "fp32": "this is a fault of kdtui: please report it with the profile of the run",
        "fp16": "values beyond fp16's range: `kdtui export RUN --precision fp32`",
        "int8": "any of `kdtui export RUN --precision int8 --keep-float both --calibration N --limit POINTS`",
    }
    raise ExportError(
        f"the {options.precision} file does not answer as the network does, so it was not kept",
        found="; ".join(faults),
        allowed=allowed,
        hint=hints[options.precision],
    )
