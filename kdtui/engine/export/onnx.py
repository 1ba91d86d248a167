"""Writing fp32: torch's dynamo exporter, and the older TorchScript one where that cannot."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor

from kdtui.engine.export.deployed import Deployed, axes
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions

INPUT = "images"
# The oldest operator set that the dynamo exporter writes; it would turn an older wish into this one silently.
_DYNAMO_OPSET = 18


@dataclass(frozen=True)
class Exporter:
    """Which exporter wrote the file, and why it was not dynamo; None where it was."""

    name: str
    instead: str | None = None


def write_onnx(deployed: Deployed, images: Tensor, path: Path, options: ExportOptions) -> Exporter:
    """Trace ``deployed`` with ``images`` and write it to ``path``.

    Raises:
        ExportError: Neither exporter can, or the file has another opset than was asked for.
    """
    if options.opset < _DYNAMO_OPSET:
        exporter = Exporter("torchscript", f"the dynamo exporter writes opset {_DYNAMO_OPSET} and newer")
        try:
            _torchscript(deployed, images, path, options)
        except OSError:
            raise
        except Exception as error:  # torch has no class of its own for what this exporter cannot do
            raise _unsupported(f"TorchScript exporter: {_reason(error)}", options) from error
    else:
        exporter = _either(deployed, images, path, options)
    written = opset_of(onnx.load(path, load_external_data=False))
    if written != options.opset:
        raise ExportError(
            "the exporter wrote another opset than was asked for",
            found=written,
            allowed=options.opset,
            hint=f"`kdtui export RUN --opset {written}`",
        )
    return exporter


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a file uses."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _either(deployed: Deployed, images: Tensor, path: Path, options: ExportOptions) -> Exporter:
    try:
        _dynamo(deployed, images, path, options)
    except OSError:
        raise  # a full disk is no reason to try the other one
    except Exception as error:
        # Every failure of it is its own OnnxExporterError around whatever went wrong; the older exporter traces where
        # this one has to prove shapes. It is deprecated, so it is the second choice, and the report says so.
        reason = _reason(error)
        try:
            _torchscript(deployed, images, path, options)
        except OSError:
            raise
        except Exception as second:
            raise _unsupported(
                f"dynamo exporter: {reason}; TorchScript exporter: {_reason(second)}", options
            ) from error
        return Exporter("torchscript", f"dynamo: {reason}")
    return Exporter("dynamo")


def _dynamo(deployed: Deployed, images: Tensor, path: Path, options: ExportOptions) -> None:
    shapes = axes(options)  # a name makes an axis dynamic, and stands in the file
    with _quiet():
        program = torch.onnx.export(
            deployed,
            (images,),
            dynamo=True,
            opset_version=options.opset,
            input_names=[INPUT],
            output_names=list(deployed.output_names),
            dynamic_shapes=(shapes,) if shapes else None,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


def _torchscript(deployed: Deployed, images: Tensor, path: Path, options: ExportOptions) -> None:
    named = axes(options)
    out = {0: "batch"} if 0 in named else {}
    if options.dynamic_size:
        first = 1 if options.output == "argmax" else 2
        out |= {first: "height", first + 1: "width"}
    with _quiet():
        torch.onnx.export(
            deployed,
            (images,),
            str(path),
            dynamo=False,
            opset_version=options.opset,
            input_names=[INPUT],
            output_names=list(deployed.output_names),
            dynamic_axes={INPUT: named, **dict.fromkeys(deployed.output_names, out)},
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own talk: it names files of this machine, and what matters of it is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _reason(error: BaseException) -> str:
    """The innermost cause in a line: what stands around it repeats it with pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def _unsupported(reasons: str, options: ExportOptions) -> ExportError:
    hint = "`kdtui export RUN --opset N`, or another encoder"
    if options.dynamic_size:
        hint = "a network of one size: `kdtui export RUN --dynamic batch`"
    return ExportError(
        "this network cannot be written as ONNX",
        found=reasons,
        allowed="operators that ONNX has, for sizes that the network takes",
        hint=hint,
    )
