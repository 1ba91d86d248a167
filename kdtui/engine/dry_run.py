"""Check with one forward pass whether a network accepts the profile's image size and batch size.

It runs on torch's meta device, which only computes shapes, so that it is fast at any size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdtui.engine.models import UNWORKABLE, device_of, input_channels, one_line, only_size, unwrapped
from kdtui.engine.network import network_kind, stride_of
from kdtui.engine.shapes import passed
from kdtui.errors import CheckpointError, EngineError, ModelError, TeacherError
from kdtui.profile import Profile

# torch refuses to train batch norms with one value per channel; two images are enough.
_ENOUGH = 2
_ONE_VALUE = "Expected more than 1 value per channel"
# Image sides that a hint suggests: the first one that the network accepts.
_SIDES = (32, 64, 96, 128, 192, 224, 256, 384, 448, 512)
# The options that set the size, for train and for evaluate.
_OPTIONS = "--set data.height={} --set data.width={}"
_PROFILE = "--profile with one of data.height = {} and data.width = {}"


def check_trainable(network: nn.Module, profile: Profile) -> None:
    """Check that a student can be trained with the profile's image and batch size.

    Args:
        network: The student, on any device; unchanged.
        profile: The profile.

    Raises:
        ModelError: It does not accept images of this size (one alone in eval mode, as evaluation and export need, and a
            training batch), or so few of them per forward pass.
    """
    settings, kind = profile.training, network_kind(profile.student)
    per_device = settings.batch_size // settings.devices
    images = min(_ENOUGH, settings.micro_batch_size or per_device)
    height, width = padded_size(profile)
    alone = _failure(network, 1, height, width, training=False)
    error = alone or _failure(network, images, height, width, training=True)
    if error is None:
        return
    if alone is None and _ONE_VALUE in str(error):
        divisor = next((n for n in range(_ENOUGH, per_device + 1) if per_device % n == 0), None)
        raise ModelError(
            f"{kind.architecture} cannot be trained with one image per forward pass at this size: "
            "its batch norms would have one value per channel",
            where="training.batch_size" if divisor is None else "training.micro_batch_size",
            found=f"{images} image of {height}x{width} (padded to the network's stride)",
            allowed=f"{_ENOUGH} images or more per forward pass",
            hint=f"--set training.batch_size={_ENOUGH * settings.devices}"
            if divisor is None
            else f"--set training.micro_batch_size={divisor}",
        ) from error
    other = _other_size(network, _ENOUGH if alone is None else 1, kind.stride, training=alone is None)
    raise ModelError(
        f"{kind.title} does not accept images of this size",
        where="data.height, data.width",
        found=_found(error, height, width),
        allowed="the size that its encoder requires, or larger images",
        hint=other and _OPTIONS.format(*other),
    ) from error


def check_teaching(network: nn.Module, profile: Profile, checkpoint: str | None = None) -> None:
    """Check that a teacher accepts the profile's image size.

    Args:
        network: The teacher, in eval mode on any device; unchanged.
        profile: The profile.
        checkpoint: Its file, for the message.

    Raises:
        TeacherError: It does not accept images of this size, or its output has another size.
    """
    _check_answer(network, profile, TeacherError, "this teacher", checkpoint, _OPTIONS)


def check_scorable(network: nn.Module, profile: Profile, checkpoint: str) -> None:
    """Check that a network can be evaluated on the profile's image size.

    Args:
        network: The network, in eval mode on any device; unchanged.
        profile: The profile.
        checkpoint: Its file, for the message.

    Raises:
        CheckpointError: It does not accept images of this size, or its output has another size.
    """
    _check_answer(network, profile, CheckpointError, "this network", checkpoint, _PROFILE)


def _check_answer(
    network: nn.Module, profile: Profile, kind: type[CheckpointError], who: str, where: str | None, size_hint: str
) -> None:
    height, width = padded_size(profile)
    error = _failure(network, 1, height, width, training=False)
    if error is None:
        return
    other = _other_size(unwrapped(network), 1, stride_of(profile), training=False)
    raise kind(
        f"{who} does not accept images of this size",
        where=where,
        found=_found(error, height, width),
        allowed="a size for which its output has the size of the input",
        hint=other and size_hint.format(*other),
    ) from error


def takes(network: nn.Module, height: int, width: int) -> bool:
    """Whether a network in eval mode accepts one image of this size and returns that size."""
    return _failure(network, 1, height, width, training=False) is None


def padded_size(profile: Profile) -> tuple[int, int]:
    """Height and width of the network's input, padded to its stride."""
    unit = stride_of(profile)
    return -(-profile.data.height // unit) * unit, -(-profile.data.width // unit) * unit


def _failure(network: nn.Module, images: int, height: int, width: int, *, training: bool) -> Exception | None:
    """The error of a forward pass, or of an output with another size; None if it succeeds."""
    if (
        _tried(network, torch.empty(images, input_channels(network), height, width, device="meta"), training=training)
        is None
    ):
        return None
    # An operator may be missing only on the meta device, so failures are confirmed on the real device.
    device = device_of(network)
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        return _tried(
            network, torch.zeros(images, input_channels(network), height, width, device=device), training=training
        )


def _tried(network: nn.Module, images: Tensor, *, training: bool) -> Exception | None:
    before = network.training
    network.train(training)
    try:
        answer = passed(network, images)
    except UNWORKABLE as error:
        return error
    finally:
        network.train(before)
    # Outputs by name may have a size of their own.
    if not isinstance(answer, Tensor) or answer.shape[-2:] == images.shape[-2:]:
        return None
    return EngineError(f"its output has {answer.shape[-2]}x{answer.shape[-1]} pixels")


def _found(error: Exception, height: int, width: int) -> str:
    words = error.what if isinstance(error, EngineError) else f"{type(error).__name__}: {one_line(error)}"
    return f"{height}x{width} (padded to the network's stride): {words}"


def _other_size(network: nn.Module, images: int, unit: int, *, training: bool) -> tuple[int, int] | None:
    """A size that the network accepts; None if none is found."""
    sides = [(side, side) for side in _SIDES if side % unit == 0]
    for height, width in [*filter(None, [only_size(network)]), *sides]:
        if (
            _tried(
                network, torch.empty(images, input_channels(network), height, width, device="meta"), training=training
            )
            is None
        ):
            return height, width
    return None
