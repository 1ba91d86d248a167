"""Size and latency of untrained networks: which of many candidates fit a budget, before any of them is trained."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kdtui.engine.data import build_dataset, pixel_format
from kdtui.engine.export.deployed import InputSize, examples
from kdtui.engine.export.onnx import INPUT, to_int8, write_onnx
from kdtui.engine.export.source import ExportNetwork
from kdtui.engine.export.verify import session
from kdtui.engine.measure import Call, device_of, interleaved, on_cpu, on_gpu, setup_of, timed, without_graph
from kdtui.engine.models import count_parameters, freeze_unused, input_channels, one_line
from kdtui.engine.network import build_student, network_kind, stride_of
from kdtui.engine.profile_model import count_macs
from kdtui.errors import ExportError, Interrupted, KdtuiError
from kdtui.export_options import ExportOptions
from kdtui.measure_options import MeasureOptions
from kdtui.profile import NetworkTable, Profile

_OPSET = 17
"""Written by the older exporter of torch, which takes a quarter of the time; the timed graph is about the same."""
_CALIBRATION = 2
"""Random images from which ranges of int8 are computed: values of untrained networks mean nothing."""
Report = Callable[..., None]


def screen(
    profile: Profile,
    networks: Mapping[str, NetworkTable],
    settings: MeasureOptions,
    *,
    runtime: str,
    precision: str,
    sizes_only: bool = False,
    progress: Report = lambda words, done, total, **more: None,
) -> dict[str, Any]:
    """Build, export and time networks with random weights, one after the other.

    Args:
        profile: Data of the networks.
        networks: ``[student]`` by name.
        settings: Device, threads and repeats; one image at a time.
        runtime: ``onnxruntime`` or ``torch``.
        precision: Precision of the export; torch computes in fp32.
        sizes_only: Count parameters only.
        progress: Called with the result of each network as ``target`` and ``report``.

    Returns:
        ``{"runs": {name: {"parameters", "macs", "bytes", "latency", "setup"}}}``; ``{"error"}`` for one that fails.

    Raises:
        DataError: The data of the profile cannot be read.
        EngineError: There is no GPU to measure on.
    """
    device = device_of(settings)
    torch.set_num_threads(settings.threads)
    classes = build_dataset(profile.data, "val", stride=stride_of(profile), seed=profile.seed).classes
    answers: dict[str, Any] = {}
    for place, (name, table) in enumerate(networks.items()):
        progress("counting parameters" if sizes_only else "measuring", place, len(networks), target=name)
        own = profile.model_copy(update={"student": table})
        try:
            if sizes_only:
                answers[name] = _parameters(own, classes)
            else:
                answers[name] = _timed(_untrained(own, classes), settings, device, runtime, precision)
        except Interrupted:
            raise
        except KdtuiError as error:
            answers[name] = {"error": error.brief}
        except Exception as error:  # exporters, quantizers and runtimes raise any exception
            traceback.print_exc()
            answers[name] = {"error": f"{type(error).__name__}: {one_line(error)}"}
        progress("measured", place + 1, len(networks), target=name, report=answers[name])
    return {"runs": answers}


def _parameters(profile: Profile, classes: Sequence[str]) -> dict[str, int]:
    """Parameters without weights in memory; some networks need real tensors while they are built."""
    data = profile.data
    build = partial(build_student, profile.student, task=data.task, classes=len(classes), channels=data.image_channels)
    try:
        with torch.device("meta"):
            counts = count_parameters(build(download=False))
    except (KdtuiError, RuntimeError, NotImplementedError):
        counts = count_parameters(build(download=False))
    return {"parameters": counts.stored, "parameters_used": counts.used}


def _untrained(profile: Profile, classes: tuple[str, ...]) -> ExportNetwork:
    data, kind = profile.data, network_kind(profile.student)
    torch.manual_seed(0)
    network = build_student(
        profile.student, task=data.task, classes=len(classes), channels=data.image_channels, download=False
    )
    height, width = (-(-side // kind.stride) * kind.stride for side in (data.height, data.width))
    return ExportNetwork(
        network=network.eval(),
        task=data.task,
        classes=classes,
        stride=kind.stride,
        size=InputSize(height, width),
        profile=None,
        facts=kind.facts(),
        out_channels=profile.student.out_channels(data.task, len(classes)),
        kind=kind,
        pixels=pixel_format(data),
    )


def _timed(
    source: ExportNetwork, settings: MeasureOptions, device: torch.device, runtime: str, precision: str
) -> dict[str, Any]:
    network, size = source.network, source.size
    freeze_unused(network.requires_grad_(True))
    facts: dict[str, Any] = {
        "parameters": count_parameters(network).stored,
        "macs": count_macs(network, height=size.height, width=size.width),
        "bytes": sum(value.nbytes for value in network.state_dict().values()),
    }
    network.requires_grad_(False)
    with tempfile.TemporaryDirectory(prefix="kdtui-") as folder:
        if runtime == "torch":
            images = torch.randn(1, input_channels(network), size.height, size.width, device=device)
            call: Call = without_graph(partial(network.to(device), images))
        else:
            file = _exported(source, Path(folder), precision)
            facts["bytes"] = file.stat().st_size
            feed = _feed(source, ExportOptions(dynamic="none", batch=1))
            call = partial(session(file, threads=settings.threads).run, None, feed)
        clock = on_gpu if device.type == "cuda" else on_cpu
        times = interleaved({"": call}, repeats=settings.repeats, warmup=settings.warmup, clock=clock)[""]
    setup = setup_of(settings, device) | {"height": size.height, "width": size.width, "runtime": runtime}
    return facts | {"latency": timed(times, 1), "setup": setup | {"precision": precision}}


def _exported(source: ExportNetwork, folder: Path, precision: str) -> Path:
    """The file that an export with default options would have about."""
    plain, inputs = folder / "fp32.onnx", examples(source.inputs, ExportOptions(), source.size, source.pixels)
    try:
        options = ExportOptions(opset=_OPSET)
        write_onnx(source.deployed(options), inputs, plain, options)
    except ExportError:
        options = ExportOptions()
        write_onnx(source.deployed(options), inputs, plain, options)
    if precision == "fp32":
        return plain
    target = folder / f"{precision}.onnx"
    to_int8(plain, target, [_feed(source, ExportOptions(batch=1, dynamic="none"))] * _CALIBRATION, options)
    return target


def _feed(source: ExportNetwork, options: ExportOptions) -> dict[str, Any]:
    names = [INPUT, *(entry.name for entry in source.inputs)]
    tensors = examples(source.inputs, options, source.size, source.pixels)
    return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
