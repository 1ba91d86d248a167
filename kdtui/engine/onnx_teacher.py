"""ONNX files as teachers: logits only, computed by onnxruntime."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.class_names import named_classes
from kdtui.engine.containers import Contents
from kdtui.engine.data import PixelFormat
from kdtui.engine.families import IdentifiedNetwork
from kdtui.engine.file_kinds import ONNX_SNIPPET
from kdtui.engine.models import Parameters, one_line
from kdtui.engine.network import MAIN_OUTPUTS
from kdtui.engine.taps import TapPoint
from kdtui.engine.torch_file import shortened
from kdtui.errors import CheckpointError, TeacherError
from kdtui.store.values import parse_json

FAMILY = "ONNX"
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_INPUTS: dict[str, Any] = {**_FLOATS, "tensor(uint8)": np.uint8}
_CHANNELS = (3, 1, 4)
# Sides of the images that are tried to find the shape of the output.
_PROBES = (64, 128, 256, 512, 224)
# Nodes behind which the output of a softmax or sigmoid is still one.
_TRANSPARENT = ("Identity", "Cast", "Resize", "Upsample", "Slice", "Transpose", "Squeeze", "Unsqueeze")
_SMALLEST_PROBABILITY = 1e-12
_CUDA = "CUDAExecutionProvider"
_METADATA_ENTRIES = 64
_METADATA_CHARACTERS = 400


@dataclass(frozen=True)
class Signature:
    """Input and output of a file.

    Attributes:
        input: Name of the input.
        dtype: Its type in numpy.
        input_last: Whether its last axis is the channels (NHWC).
        batch: The number of images per call; None for any.
        size: Height and width; None for any.
        channels: Channels of the images.
        output: Name of the output.
        output_last: Whether the output's last axis is the classes.
        logits: Converts the output to logits.
    """

    input: str
    dtype: Any
    input_last: bool
    batch: int | None
    size: tuple[int, int] | None
    channels: int
    output: str
    output_last: bool
    logits: Callable[[Tensor], Tensor]


class OnnxNetwork(nn.Module):
    """A file of onnxruntime as a network of torch, without parameters or gradients.

    It runs on the GPU if the images are there and onnxruntime has its CUDA provider, otherwise on the CPU.

    Args:
        path: The file.
        session: A session on the CPU.
        signature: Its input and output.
        decisions: Whether the three classes of a hierarchical task are converted to its two decisions.
    """

    def __init__(
        self, path: Path, session: onnxruntime.InferenceSession, signature: Signature, *, decisions: bool
    ) -> None:
        super().__init__()
        self._path = path
        self._sessions = {"cpu": session}
        self._signature = signature
        self._decisions = decisions

    def tap_points(self) -> dict[str, TapPoint]:
        """It has no features."""
        return {}

    def forward(self, images: Tensor) -> Tensor:
        """Raw output f32 [B,K,H,W] for images f32 [B,C,H,W]; an output of another size is resized bilinearly.

        Raises:
            RuntimeError: The graph does not take images of this size.
        """
        if images.is_meta:
            raise RuntimeError("onnxruntime has no meta device")
        signature = self._signature
        seen = images.float()
        if signature.size is not None and tuple(images.shape[-2:]) != signature.size:
            seen = F.interpolate(seen, signature.size, mode="bilinear", align_corners=False, antialias=True)
        logits = torch.cat([self._run(part)[: len(part)] for part in self._parts(seen)]).to(images.device)
        if logits.shape[-2:] != images.shape[-2:]:
            logits = F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
        return decisions(logits) if self._decisions else logits

    def _parts(self, images: Tensor) -> Iterator[Tensor]:
        return iter(images.split(self._signature.batch or len(images)))

    def _run(self, images: Tensor) -> Tensor:
        signature = self._signature
        missing = (signature.batch or len(images)) - len(images)
        if missing:
            images = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        array = images.permute(0, 2, 3, 1) if signature.input_last else images
        if signature.dtype is np.uint8:
            array = array.round().clamp(0, 255)
        values = array.contiguous().cpu().numpy().astype(signature.dtype)
        try:
            (answer,) = self._session(images.device).run([signature.output], {signature.input: values})
        except Exception as error:  # onnxruntime's exceptions derive from Exception alone
            raise RuntimeError(one_line(error)) from error
        output = torch.from_numpy(np.asarray(answer, np.float32))
        return signature.logits(output.permute(0, 3, 1, 2) if signature.output_last else output)

    def _session(self, device: torch.device) -> onnxruntime.InferenceSession:
        if device.type != "cuda" or _CUDA not in onnxruntime.get_available_providers():
            return self._sessions["cpu"]
        if str(device) not in self._sessions:
            providers: list[Any] = [(_CUDA, {"device_id": device.index or 0}), "CPUExecutionProvider"]
            with contextlib.redirect_stdout(sys.stderr):
                self._sessions[str(device)] = onnxruntime.InferenceSession(self._path, _options(), providers=providers)
        return self._sessions[str(device)]


def decisions(classes: Tensor) -> Tensor:
    """Raw output [B,4,H,W] of a hierarchical task whose composition has these class logits, see ``models.compose``.

    Args:
        classes: Logits [B,3,H,W] of background, target and other.
    """
    person = classes[:, 1:].logsumexp(dim=1, keepdim=True)
    return torch.cat([classes[:, :1], person, classes[:, 1:]], dim=1)


def open_onnx(path: Path, *, output: str | None) -> tuple[Contents, IdentifiedNetwork]:
    """Describe and load an ONNX file.

    Args:
        path: The file.
        output: Name of the output with the logits; needed if several could be it.

    Raises:
        CheckpointError: It cannot be read or run.
        TeacherError: It has no usable input or output.
    """
    model, parts = read_model(path)
    session = load_session(path)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    ours = "kdtui" in facts
    signature = _signature(
        model, session, path, output or (MAIN_OUTPUTS.get(facts.get("output", "")) if ours else None)
    )
    classes = _classes(session, signature, path)
    hierarchical = ours and facts.get("task") == "hierarchical" and classes == 3
    network = OnnxNetwork(path, session, signature, decisions=hierarchical)
    count = float_count(model)
    described = {
        "architecture": shortened(facts.get("architecture") or FAMILY, 80),
        "encoder": shortened(facts.get("encoder", ""), 80),
        "encoder_depth": None,
        "decoder_channels": None,
        "out_channels": 4 if hierarchical else classes,
        "in_channels": signature.channels,
    }
    found = IdentifiedNetwork(
        network,
        described,
        Parameters(stored=count, used=count),
        pixels=_pixels(facts, signature) if ours or signature.dtype is np.uint8 else None,
        task="hierarchical" if hierarchical else "semantic",
        notes=tuple(_notes(signature)),
    )
    return _contents(path, parts, facts), found


def float_count(model: onnx.ModelProto) -> int:
    """Number of floating point values of a graph's weights."""
    return sum(
        int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type in _floating() and tensor.dims
    )


def read_model(path: Path) -> tuple[onnx.ModelProto, tuple[Path, ...]]:
    """The graph without external tensors, and all files of the model.

    Raises:
        CheckpointError: It cannot be read, or a file is missing.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise CheckpointError("no such checkpoint", where=path, hint="kdtui teachers") from error
    except Exception as error:  # protobuf raises exceptions of its own
        raise CheckpointError("this ONNX file cannot be read", where=path, found=one_line(error)) from error
    names = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in sorted(names):
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if not inside or not (path.parent / name).is_file():
            raise CheckpointError(
                "weights of this ONNX file are missing",
                where=path,
                found=f"external file {shortened(name)}",
                allowed="files in the same folder",
                hint="copy the external files of the model too",
            )
    return model, (path, *(path.parent / name for name in sorted(names)))


def _options(threads: int = 0) -> onnxruntime.SessionOptions:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or torch.get_num_threads()
    settings.log_severity_level = 4
    # Waiting threads must not spin: they would slow down other threads on the same core.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return settings


def load_session(path: Path, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session on the CPU with ``threads``, by default as many as torch uses.

    Raises:
        CheckpointError: onnxruntime does not accept the file.
    """
    try:
        # onnxruntime prints errors to stdout, which is the answer of the engine.
        with contextlib.redirect_stdout(sys.stderr):
            session = onnxruntime.InferenceSession(path, _options(threads), providers=["CPUExecutionProvider"])
        # Names are decoded when they are read.
        for one in (*session.get_inputs(), *session.get_outputs()):
            _ = one.name, one.shape, one.type
        return session
    except Exception as error:  # onnxruntime's exceptions derive from Exception alone
        raise CheckpointError(
            "onnxruntime cannot load this file",
            where=path,
            found=one_line(error),
            allowed=f"a model that onnxruntime {onnxruntime.__version__} supports",
            hint=ONNX_SNIPPET,
        ) from error


def _signature(
    model: onnx.ModelProto, session: onnxruntime.InferenceSession, path: Path, output: str | None
) -> Signature:
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _INPUTS:
        raise TeacherError(
            "this ONNX file does not take images alone",
            where=path,
            found="; ".join(f"{shortened(one.name, 80)}: {one.type} {one.shape}" for one in inputs) or "no inputs",
            allowed="one input of four dimensions, float [N,C,H,W] or uint8 [N,H,W,C]",
        )
    shape = [side if isinstance(side, int) and side > 0 else None for side in inputs[0].shape]
    last = shape[1] not in _CHANNELS and shape[3] in _CHANNELS
    height, width = (shape[1], shape[2]) if last else (shape[2], shape[3])
    chosen, classes_last = _output(session, path, output, input_last=last)
    return Signature(
        input=inputs[0].name,
        dtype=_INPUTS[inputs[0].type],
        input_last=last,
        batch=shape[0],
        size=None if height is None or width is None else (height, width),
        channels=(shape[3] if last else shape[1]) or _CHANNELS[0],
        output=chosen,
        output_last=classes_last,
        logits=_to_logits(model, chosen),
    )


def _output(
    session: onnxruntime.InferenceSession, path: Path, output: str | None, *, input_last: bool
) -> tuple[str, bool]:
    """The name of the output with the logits, and whether its last axis is the classes."""
    outputs = session.get_outputs()
    maps = {one.name: one.shape for one in outputs if len(one.shape) == 4 and one.type in _FLOATS}
    listed = "; ".join(f"{shortened(one.name, 80)}: {one.type} {one.shape}" for one in outputs)
    if output is not None and output in maps:
        chosen = output
    elif not maps:
        raise TeacherError(
            "this ONNX file has no logits: it only has the class of each pixel"
            if any(len(one.shape) in (3, 4) for one in outputs)
            else "this ONNX file has no output of a segmentation network",
            where=path,
            found=listed,
            allowed="an output of logits or probabilities, float [N,K,H,W]",
            hint="a file of kdtui: `kdtui export RUN --output logits`; otherwise export the network without argmax",
        )
    elif output is not None or len(maps) > 1:
        raise TeacherError(
            "this ONNX file has several outputs" if output is None else "this ONNX file has no output of this name",
            where="teacher.output" if output else path,
            found=output or listed,
            allowed=", ".join(shortened(name, 80) for name in maps),
            hint="choose one: teacher.output in a profile, or `kdtui inspect FILE --logits NAME`",
        )
    else:
        (chosen,) = maps
    # A graph with channels last, as converters from TensorFlow write it, has its classes last too, if they are few.
    second, last = (side if isinstance(side, int) else None for side in (maps[chosen][1], maps[chosen][3]))
    return chosen, input_last and second is None and last is not None


def _to_logits(model: onnx.ModelProto, output: str) -> Callable[[Tensor], Tensor]:
    """Convert the output to logits: the log of the probabilities where the graph ends in a softmax or sigmoid."""
    makers = {name: node for node in model.graph.node for name in node.output}
    name, left = output, len(model.graph.node)
    while (node := makers.get(name)) is not None and node.op_type in _TRANSPARENT and node.input and left:
        name, left = node.input[0], left - 1
    kind = "" if node is None else node.op_type
    if kind == "Softmax":
        return lambda values: values.clamp_min(_SMALLEST_PROBABILITY).log()
    return (lambda values: values.logit(eps=1e-6)) if kind == "Sigmoid" else (lambda values: values)


def _classes(session: onnxruntime.InferenceSession, signature: Signature, path: Path) -> int:
    """Number of classes, from a call with a black image."""
    reasons: list[str] = []
    for size in [signature.size] if signature.size else [(side, side) for side in _PROBES]:
        shape = (signature.batch or 1, signature.channels, *size)
        order = (0, 2, 3, 1) if signature.input_last else (0, 1, 2, 3)
        image = np.zeros([shape[axis] for axis in order], signature.dtype)
        try:
            (answer,) = session.run([signature.output], {signature.input: image})
        except Exception as error:  # onnxruntime's exceptions derive from Exception alone
            reasons.append(one_line(error))
            continue
        return int(answer.shape[3 if signature.output_last else 1])
    raise TeacherError(
        "this ONNX file cannot be run on images",
        where=path,
        found=reasons[0],
        allowed=f"images of {' or '.join(map(str, _PROBES))} pixels, or a fixed size",
        hint=ONNX_SNIPPET,
    )


def _pixels(facts: Mapping[str, str], signature: Signature) -> PixelFormat | None:
    """The images that a file of kdtui, or one with bytes as input, takes."""
    zeros, ones = (0.0,) * signature.channels, (1.0,) * signature.channels
    bgr = _json(facts.get("bgr", "")) is True
    if signature.dtype is np.uint8:
        return PixelFormat(zeros, tuple(one / 255 for one in ones), bgr)
    if facts.get("input") == "float":
        return PixelFormat(zeros, ones, bgr)
    table = _json(facts.get("normalisation", ""))
    try:
        return PixelFormat(tuple(map(float, table["mean"])), tuple(map(float, table["std"])), bgr)
    except (KeyError, TypeError, ValueError):
        return None


def _json(text: str) -> Any:
    try:
        return parse_json(text.encode())
    except ValueError:
        return text


def _notes(signature: Signature) -> Iterator[str]:
    if signature.size is not None:
        yield f"the ONNX file takes images of {signature.size[0]}x{signature.size[1]} only; others are resized"
    if torch.cuda.is_available() and _CUDA not in onnxruntime.get_available_providers():
        yield "onnxruntime has no CUDA provider: the ONNX teacher runs on the CPU (a GPU needs onnxruntime-gpu)"


def _floating() -> tuple[int, ...]:
    kinds = onnx.TensorProto
    return (kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE)


def _contents(path: Path, parts: tuple[Path, ...], facts: Mapping[str, str]) -> Contents:
    shown = list(facts.items())[:_METADATA_ENTRIES]
    return Contents(
        family=FAMILY,
        state={},
        container="graph",
        candidates=("graph",),
        places={},
        prefix="",
        ignored=(),
        metadata={shortened(key): shortened(value, _METADATA_CHARACTERS) for key, value in shown},
        names=tuple(named_classes({key: _json(value) for key, value in facts.items()})),
        file=path,
        parts=parts,
    )
