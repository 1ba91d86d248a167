"""The ``predict`` verb: segment pictures with a network of a run, a checkpoint or an ONNX file."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_map

from kdtui.engine.data import PixelFormat
from kdtui.engine.data.box_file import read_boxes
from kdtui.engine.data.geometry import content_of, shown_whole
from kdtui.engine.data.images import ImageFormat, displayed, read_values
from kdtui.engine.data.source import Size, Values
from kdtui.engine.evaluate import palette
from kdtui.engine.export.deployed import RGB_PIXELS, fed
from kdtui.engine.export.make import read_facts
from kdtui.engine.export.source import ExportNetwork, of_checkpoint, of_run
from kdtui.engine.export.verify import session
from kdtui.engine.inference import Inference, Mode, resampled
from kdtui.engine.models import outputs_of
from kdtui.engine.ranks import make_fabric
from kdtui.engine.roi.predict import Instances, InstanceWriter, check_matched, segmented
from kdtui.engine.roi.predict import Network as InstanceNetwork
from kdtui.errors import CheckpointError, ExportError, KdtuiError, UsageError
from kdtui.export_options import ExportOptions
from kdtui.palette import COLOUR, class_colours
from kdtui.profile import DataTable, Profile, SyntheticData, Teacher
from kdtui.store.run import Run, write_atomically

_READERS = 2
_AHEAD = 4
"""Pictures that are decoded in advance for each picture of a batch."""
_BATCH = 8
_OVERLAY = 0.5
BOXES = "rois"
"""Input of networks that segment the instances in boxes."""
Progress = Callable[..., None]


@dataclass(frozen=True)
class PredictRequest:
    """What to segment, and how; sent as JSON.

    Attributes:
        pictures: Input and output path of each picture; the output has no ending.
        network: Checkpoint or ONNX file.
        run: Folder of the run that the checkpoint belongs to.
        profile: Profile of the run with its overrides, or of the data of an external checkpoint.
        mode: See :class:`Inference`; empty for that of the run.
        overlap: Share of a window that neighbours have in common; None for that of the run.
        format: ``index`` (palette PNG), ``colour`` (RGB PNG) or ``probabilities`` (f16 [K,h,w] in a ``.npy`` file).
        overlay: Whether to write the picture with the classes in colours over it as well.
        boxes: File of boxes, whose instances are segmented.
        results: File of the instances' run lengths.
    """

    pictures: Sequence[tuple[str, str]]
    network: str
    run: str | None = None
    profile: str | None = None
    mode: str = ""
    overlap: float | None = None
    format: str = "index"
    overlay: bool = False
    accelerator: str = "auto"
    boxes: str | None = None
    results: str = ""


@dataclass(frozen=True)
class Segmenter:
    """A network ready to segment pictures.

    Attributes:
        logits: Normalised images f32 [B,C,H,W] on the CPU to logits of the classes.
        own_colours: ``#rrggbb`` of each class, or empty.
        size: Size of the network's input in training, a multiple of the stride.
        data: How evaluations show pictures.
        any_size: Whether it takes other sizes.
        has_scores: Whether its logits are more than a one-hot of the class.
        pixels: Normalisation and channel order of its images.
        instances: For a network that segments the instances in boxes, which has no ``logits`` of whole images.
    """

    logits: Callable[[Tensor], Tensor]
    classes: tuple[str, ...]
    own_colours: tuple[str, ...]
    size: Size
    data: DataTable
    stride: int
    any_size: bool
    value_range: tuple[float, ...] | None
    device: str
    has_scores: bool = True
    pixels: PixelFormat = RGB_PIXELS
    instances: InstanceNetwork | None = None

    @property
    def images(self) -> ImageFormat:
        """How values of files become those of its images."""
        return ImageFormat(self.pixels.channels, self.value_range)


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        number: Its place in the request.
        pixels: uint8 [h,w,C], or f32 on the scale 0 to 255.
    """

    number: int
    pixels: Values


def predict(request: PredictRequest, progress: Progress) -> dict[str, Any]:
    """Segment the pictures; those that cannot be read are reported and skipped.

    Args:
        request: The request.
        progress: Called with each step, and with the ``report`` of each picture.

    Returns:
        ``{"pictures", "skipped", "classes", "mode", "input_size", "device", "images_per_second"}``.

    Raises:
        CheckpointError: The network cannot be loaded.
        UsageError: The network cannot be used in this way.
        OSError: An output cannot be written.
    """
    segmenter = of_onnx(Path(request.network)) if request.network.endswith(".onnx") else _of_torch(request)
    job = _job(request, segmenter)
    total, done, skipped = len(request.pictures), 0, 0
    begun = time.monotonic()
    with ThreadPoolExecutor(_READERS) as pool:
        writes: deque[Future[None]] = deque()
        for batch in _batches(request, segmenter, pool, size=job.batch):
            pictures = [one for one in batch if isinstance(one, Picture)]
            for one in batch:
                if not isinstance(one, Picture):
                    number, error = one
                    done, skipped = done + 1, skipped + 1
                    report = {"picture": request.pictures[number][0], "error": _described(error)}
                    progress("predicting", done, total, report=report)
            for picture, result in zip(pictures, job.results(pictures), strict=True):
                writes.append(pool.submit(job.write, picture, result))
                done += 1
                progress("predicting", done, total)
            while len(writes) > _BATCH * _AHEAD:
                writes.popleft().result()
        for write in writes:
            write.result()
    further = job.finish()
    seconds = time.monotonic() - begun
    return {
        "pictures": total,
        "skipped": skipped,
        "classes": list(segmenter.classes),
        "mode": job.mode,
        "input_size": list(job.window),
        "device": segmenter.device,
        "images_per_second": round((total - skipped) / seconds, 3) if seconds > 0 else None,
        **further,
    }


class _Job(ABC):
    """What is done with the pictures of a request.

    Attributes:
        mode: How the network gets them.
        window: Size of its input.
        batch: Number of pictures in a forward pass.
    """

    mode: Mode
    window: Size
    batch: int

    @abstractmethod
    def results(self, pictures: Sequence[Picture]) -> Iterator[Any]:
        """The result of each picture."""

    @abstractmethod
    def write(self, picture: Picture, result: Any) -> None:
        """Write the result of a picture."""

    def finish(self) -> dict[str, Any]:
        """Write what concerns all pictures; further entries of the report."""
        return {}


def _job(request: PredictRequest, segmenter: Segmenter) -> _Job:
    if segmenter.instances is None and request.boxes is not None:
        raise UsageError(
            "this network segments whole pictures and takes no boxes",
            where=request.network,
            found=f"--boxes {request.boxes}",
            hint="omit --boxes",
        )
    if segmenter.instances is None:
        return _Whole(request, segmenter)
    if request.boxes is None:
        raise UsageError(
            "this network segments the instances in boxes, and needs them",
            where=request.network,
            allowed="COCO results, or annotations, as JSON",
            hint="--boxes FILE",
        )
    return _Instances(request, segmenter, segmenter.instances)


class _Instances(_Job):
    """Segments the instances in the boxes of each picture."""

    mode = "resize"
    batch = 1

    def __init__(self, request: PredictRequest, segmenter: Segmenter, network: InstanceNetwork) -> None:
        if request.mode not in ("", "resize") or request.overlap is not None:
            raise UsageError(
                "pictures with boxes are resized for the network",
                found=f"--evaluation {request.mode or 'resize'}" if request.overlap is None else "--overlap",
                allowed="--evaluation resize",
            )
        if request.format == "probabilities":
            raise UsageError(
                "instances have no probabilities of whole pictures",
                found="--format probabilities",
                allowed="--format index or colour",
            )
        assert request.boxes is not None
        self.window = segmenter.size
        self._request, self._segmenter, self._network = request, segmenter, network
        boxes = read_boxes(Path(request.boxes))
        paths = [Path(path) for path, _ in request.pictures]
        check_matched(boxes, paths, request.boxes)
        self._boxes = [[box for box in boxes if box.is_of(path)] for path in paths]
        self._all = len(boxes)
        self._writer = InstanceWriter(Path(request.results), form=request.format, overlay=request.overlay)

    def results(self, pictures: Sequence[Picture]) -> Iterator[Instances]:
        """See the base class."""
        for picture in pictures:
            yield segmented(
                picture.pixels,
                self._boxes[picture.number],
                self._network,
                data=self._segmenter.data,
                size=self.window,
                pixels=self._segmenter.pixels,
            )

    def write(self, picture: Picture, result: Instances) -> None:
        """See the base class."""
        self._writer.write(picture.number, self._request.pictures[picture.number][1], picture.pixels, result)

    def finish(self) -> dict[str, Any]:
        """See the base class."""
        unused = self._all - sum(map(len, self._boxes))
        return {
            "instances": self._writer.finish(),
            "results": self._request.results,
            "without_boxes": sum(not boxes for boxes in self._boxes),
            "unused_boxes": max(0, unused),
        }


def _described(error: KdtuiError) -> dict[str, str | None]:
    return {"error": type(error).__name__, "message": error.message, "hint": error.hint}


def _inference(request: PredictRequest, segmenter: Segmenter) -> Inference:
    data = segmenter.data
    mode: Mode = cast(Mode, request.mode) if request.mode else data.evaluation_mode
    window = segmenter.size
    if mode == "slide" and not request.mode and data.window is not None:
        window = Size(*(-(-side // segmenter.stride) * segmenter.stride for side in data.window))
    if not segmenter.any_size and (mode == "whole" or window != segmenter.size):
        raise UsageError(
            "this file has a fixed input size",
            where=request.network,
            found=f"--{mode}" if mode == "whole" else f"{window.width}x{window.height}",
            allowed=f"{segmenter.size.width}x{segmenter.size.height}: pictures are resized to it, or --slide",
            hint="`kdtui export RUN --dynamic all` writes a file for any size",
        )
    overlap = data.overlap if request.overlap is None else request.overlap
    return Inference(mode, window, overlap, _BATCH)


def _batches(
    request: PredictRequest, segmenter: Segmenter, pool: ThreadPoolExecutor, *, size: int
) -> Iterator[list[Picture | tuple[int, KdtuiError]]]:
    """Decoded pictures, or the errors of those that cannot be read, in order; decoding runs ahead."""

    def read(number: int) -> Picture | tuple[int, KdtuiError]:
        path = Path(request.pictures[number][0])
        try:
            return Picture(number, segmenter.images.image(read_values(path), path))
        except KdtuiError as error:
            return number, error

    pending: deque[Future[Picture | tuple[int, KdtuiError]]] = deque()
    numbers = iter(range(len(request.pictures)))
    batch: list[Picture | tuple[int, KdtuiError]] = []
    while True:
        while len(pending) < size + _AHEAD and (number := next(numbers, None)) is not None:
            pending.append(pool.submit(read, number))
        if not pending:
            break
        batch.append(pending.popleft().result())
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _segment(pictures: Sequence[Picture], segmenter: Segmenter, inference: Inference) -> Iterator[Tensor]:
    """Logits f32 [K,h,w] of each picture, at its size."""
    if not pictures:
        return
    images = torch.stack([_input(picture.pixels, segmenter, inference) for picture in pictures])
    with torch.inference_mode():
        if inference.mode != "resize":
            yield inference(segmenter.logits, images, Size(*pictures[0].pixels.shape[:2]))[0]
            return
        of = Size(*images.shape[-2:])
        for picture, one in zip(pictures, segmenter.logits(images), strict=True):
            size = Size(*picture.pixels.shape[:2])
            yield resampled(one[None], content_of(segmenter.data, size), of=of, to=size)[0]


def _input(pixels: Values, segmenter: Segmenter, inference: Inference) -> Tensor:
    """The normalised image f32 [C,H,W] for the network: resized, or padded at its own size."""
    window, stride = inference.window, segmenter.stride
    if inference.mode == "resize":
        fill = tuple(255 * value for value in segmenter.pixels.mean)
        pixels = shown_whole(segmenter.data, pixels, fill)
    image = segmenter.pixels.normalised(torch.tensor(pixels).permute(2, 0, 1))
    height, width = image.shape[-2:]
    if inference.mode == "slide":
        down, right = max(0, window.height - height), max(0, window.width - width)
    else:
        down, right = -height % stride, -width % stride
    # Zero is the mean colour after normalisation; training pads in the same way.
    return torch.nn.functional.pad(image, (0, right, 0, down))


class _Whole(_Job):
    """Segments whole pictures into classes."""

    def __init__(self, request: PredictRequest, segmenter: Segmenter) -> None:
        self._inference = _inference(request, segmenter)
        if request.format == "probabilities" and not segmenter.has_scores:
            raise UsageError(
                "this file only has the class of each pixel, no probabilities",
                where=request.network,
                allowed="--format index or colour",
                hint="`kdtui export RUN --output softmax` writes a file with probabilities",
            )
        self.mode, self.window = self._inference.mode, self._inference.window
        self.batch = _BATCH if self.mode == "resize" else 1
        self._request, self._segmenter = request, segmenter
        self._table = palette(class_colours(segmenter.own_colours))

    def results(self, pictures: Sequence[Picture]) -> Iterator[Tensor]:
        """Logits f32 [K,h,w] of each picture."""
        return _segment(pictures, self._segmenter, self._inference)

    def write(self, picture: Picture, logits: Tensor) -> None:
        """Write the classes or probabilities, and the overlay if requested."""
        target = self._request.pictures[picture.number][1]
        classes = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        if self._request.format == "probabilities":
            buffer = BytesIO()
            np.save(buffer, logits.softmax(dim=0).to(torch.float16).cpu().numpy(), allow_pickle=False)
            write_atomically(Path(f"{target}.npy"), buffer.getvalue())
        elif self._request.format == "colour":
            self._png(Image.fromarray(self._table[classes]), f"{target}.png")
        else:
            image = Image.fromarray(classes)
            image.putpalette(self._table.flatten().tolist())
            self._png(image, f"{target}.png")
        if self._request.overlay:
            mixed = (1 - _OVERLAY) * displayed(picture.pixels) + _OVERLAY * self._table[classes]
            self._png(Image.fromarray(mixed.round().astype(np.uint8)), f"{target}-overlay.png")

    def _png(self, image: Image.Image, path: str) -> None:
        buffer = BytesIO()
        image.save(buffer, format="PNG")
        write_atomically(Path(path), buffer.getvalue())


def _of_torch(request: PredictRequest) -> Segmenter:
    from kdtui.profile import load

    profile = None if request.profile is None else load(request.profile)
    path = Path(request.network)
    if request.run is not None:
        source = of_run(Run(Path(request.run)), path, profile)
        colours = _colours_of(Run(Path(request.run)), len(source.classes))
    else:
        source = of_checkpoint(path, teacher=_overrides(profile), profile=profile)
        colours = ("",) * len(source.classes)
    boxes = _reads_boxes([entry.name for entry in source.inputs], path)
    return _torch_segmenter(source, colours, accelerator=request.accelerator, boxes=boxes)


def _overrides(profile: Profile | None) -> Teacher:
    if profile is None:
        return Teacher()
    configured = profile.teacher
    return Teacher(task=configured.task, architecture=configured.architecture, encoder=configured.encoder)


def _torch_segmenter(source: ExportNetwork, colours: tuple[str, ...], *, accelerator: str, boxes: bool) -> Segmenter:
    fabric = make_fabric(accelerator=accelerator)
    network = source.network.to(fabric.device).eval()

    def logits(images: Tensor) -> Tensor:
        raw = network(images.to(fabric.device))
        return outputs_of(network, raw.float(), source.task).main

    def instances(images: Tensor, rois: Tensor) -> Tensor:
        raw = network(images.to(fabric.device), **{BOXES: rois.to(fabric.device)})
        return outputs_of(network, tree_map(Tensor.float, raw), source.task).main

    value_range = source.value_range
    return Segmenter(
        logits,
        source.classes,
        colours,
        Size(source.size.height, source.size.width),
        SyntheticData(height=source.size.height, width=source.size.width)
        if source.profile is None
        else source.profile.data,
        source.stride,
        any_size=True,
        value_range=None if value_range is None else tuple(value_range),
        device=fabric.device.type,
        pixels=source.pixels,
        instances=instances if boxes else None,
    )


def _colours_of(run: Run, count: int) -> tuple[str, ...]:
    """Colours of the classes as the run recorded them."""
    from kdtui import events
    from kdtui.store.event_log import Tail

    for event in Tail(run.events_path).stream():
        if isinstance(event, events.Started):
            written = event.student.get("class_colours")
            if isinstance(written, list) and len(written) == count and all(map(_is_colour, written)):
                return tuple(written)
    return ("",) * count


def _is_colour(value: object) -> bool:
    return isinstance(value, str) and COLOUR.fullmatch(value) is not None


def of_onnx(path: Path) -> Segmenter:
    """The network of an ONNX file that kdtui wrote, on the CPU.

    Raises:
        CheckpointError: Another program wrote it, or it reads more than images.
        ExportError: It cannot be read.
    """
    facts, asked = _opened(path)
    try:
        classes = tuple(map(str, json.loads(facts["classes"])))
        size = Size(*map(int, json.loads(facts["input_size"])))
        options = ExportOptions(
            input=facts["input"],
            output=facts["output"],
            dynamic=facts["dynamic"],
        )
        stride = int(facts["stride"])
        # Files of earlier versions take RGB images.
        normalisation = json.loads(facts["normalisation"])
        pixels = PixelFormat(
            tuple(normalisation["mean"]), tuple(normalisation["std"]), json.loads(facts.get("bgr", "false"))
        )
        value_range = json.loads(facts.get("value_range", "null"))
        data = SyntheticData(
            **json.loads(facts.get("evaluation", "{}")) or {"height": size.height, "width": size.width}
        )
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            "this ONNX file was not written by kdtui, so its input and classes are unknown",
            where=path,
            found=f"no usable metadata entry {error}",
            hint="`kdtui export RUN` writes files that describe themselves",
        ) from error
    images, *others = asked.get_inputs()
    boxes = _reads_boxes([entry.name for entry in others], path)
    shape = images.shape
    fixed = shape[0] if isinstance(shape[0], int) else None

    def logits(images: Tensor) -> Tensor:
        parts = [images] if fixed is None else _filled(images, fixed)
        answers = [
            torch.from_numpy(asked.run(None, {"images": fed(part, options, pixels).numpy()})[0]) for part in parts
        ]
        return scores(torch.cat(answers)[: len(images)])

    def instances(images: Tensor, rois: Tensor) -> Tensor:
        fields = {"images": fed(images, options, pixels).numpy(), BOXES: rois.numpy()}
        return scores(torch.from_numpy(asked.run(None, fields)[0]))

    def scores(answer: Tensor) -> Tensor:
        if options.output == "argmax":
            return torch.nn.functional.one_hot(answer.long(), len(classes)).permute(0, 3, 1, 2).float()
        return answer.clamp_min(1e-12).log() if options.output == "softmax" else answer

    return Segmenter(
        logits,
        classes,
        ("",) * len(classes),
        size,
        data,
        1 if options.dynamic_size else stride,
        any_size=options.dynamic_size,
        value_range=None if value_range is None else tuple(value_range),
        device="onnxruntime cpu",
        has_scores=options.output != "argmax",
        pixels=pixels,
        instances=instances if boxes else None,
    )


def _reads_boxes(names: Sequence[str], path: Path) -> bool:
    """Whether a network reads boxes beside images.

    Raises:
        CheckpointError: It reads another input, which pictures do not have.
    """
    others = [name for name in names if name != BOXES]
    if others:
        raise CheckpointError(
            "this network reads an input that pictures do not have",
            where=path,
            found=others[0],
            allowed=f"a network whose inputs are images, or images and {BOXES}",
            hint="`kdtui evaluate RUN` uses the inputs of its data",
        )
    return BOXES in names


def _opened(path: Path) -> tuple[Mapping[str, str], Any]:
    try:
        return read_facts(path), session(path)
    except OSError as error:
        raise ExportError("this ONNX file cannot be read", where=path, found=error.strerror) from error
    except Exception as error:  # exceptions of onnx and onnxruntime have no common base class
        raise ExportError(
            "this ONNX file cannot be read", where=path, found=" ".join(str(error).split())[:300]
        ) from error


def _filled(images: Tensor, batch: int) -> Iterable[Tensor]:
    """Batches of a fixed size; the last image is repeated if necessary."""
    for part in images.split(batch):
        yield part if len(part) == batch else torch.cat([part, part[-1:].expand(batch - len(part), -1, -1, -1)])
