"""One forward pass before the first: whether a network takes the profile's images, as many at once as it would get.

Tried on torch's meta device, where shapes are worked out and nothing is computed, so that it costs a blink at any size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdtui.engine.models import UNWORKABLE, one_line, only_size
from kdtui.engine.network import network_kind, stride_of
from kdtui.errors import CheckpointError, EngineError, ModelError, TeacherError
from kdtui.profile import Profile

# A norm over one value per channel is no norm: torch refuses to train it, and one more image is all it wants.
_ENOUGH = 2
_ONE_VALUE = "Expected more than 1 value per channel"
# Sides that a hint may offer, the first that the network takes.
_SIDES = (32, 64, 96, 128, 192, 224, 256, 384, 448, 512)
# How either asks for another size.
_OPTIONS = "--set data.height={} --set data.width={}"
_PROFILE = "--profile with one of data.height = {} and data.width = {}"


def check_trainable(network: nn.Module, profile: Profile) -> None:
    """Refuse a student that could not make its first step.

    Args:
        network: The student, on any device; left as it was.
        profile: Size of the images, and how many there are in a forward pass.

    Raises:
        ModelError: It does not take images of this size, or not as few of them at once.
    """
    settings, kind = profile.training, network_kind(profile.student)
    per_device = settings.batch_size // settings.devices
    images = min(_ENOUGH, settings.micro_batch_size or per_device)
    height, width = padded_size(profile)
    error = _failure(network, images, height, width, training=True)
    if error is None:
        return
    if _ONE_VALUE in str(error):
        divisor = next((n for n in range(_ENOUGH, per_device + 1) if per_device % n == 0), None)
        raise ModelError(
            f"{kind.architecture} cannot be trained with one image per forward pass at this size: "
            "its batch norms would see one value per channel",
            where="training.batch_size" if divisor is None else "training.micro_batch_size",
            found=f"{images} image of {height}x{width} (padded to the network's stride)",
            allowed=f"{_ENOUGH} images or more per forward pass",
            hint=f"--set training.batch_size={_ENOUGH * settings.devices}"
            if divisor is None
            else f"--set training.micro_batch_size={divisor}",
        ) from error
    other = _other_size(network, _ENOUGH, kind.stride, training=True)
    raise ModelError(
        f"{kind.title} does not take images of this size",
        where="data.height, data.width",
        found=_found(error, height, width),
        allowed="what its encoder was made for, or larger images",
        hint=other and _OPTIONS.format(*other),
    ) from error


def check_teaching(network: nn.Module, profile: Profile) -> None:
    """Refuse a teacher that could not answer about the profile's images.

    Args:
        network: The teacher, in eval and on any device; left as it was.
        profile: Size of the images.

    Raises:
        TeacherError: It does not take images of this size, or answers in another one.
    """
    _check_answer(network, profile, TeacherError, "this teacher", profile.teacher.checkpoint, _OPTIONS)


def check_scorable(network: nn.Module, profile: Profile, checkpoint: str) -> None:
    """Refuse a network that could not be scored on the profile's images.

    Args:
        network: Any, in eval and on any device; left as it was.
        profile: Size of the images.
        checkpoint: Where it comes from.

    Raises:
        CheckpointError: It does not take images of this size, or answers in another one.
    """
    _check_answer(network, profile, CheckpointError, "this network", checkpoint, _PROFILE)


def _check_answer(
    network: nn.Module, profile: Profile, kind: type[CheckpointError], who: str, where: str | None, size_hint: str
) -> None:
    height, width = padded_size(profile)
    error = _failure(network, 1, height, width, training=False)
    if error is None:
        return
    other = _other_size(getattr(network, "network", network), 1, stride_of(profile), training=False)
    raise kind(
        f"{who} does not take images of this size",
        where=where,
        found=_found(error, height, width),
        allowed="a size that it was made for, and in which it answers each pixel",
        hint=other and size_hint.format(*other),
    ) from error


def takes(network: nn.Module, height: int, width: int) -> bool:
    """Whether a network, in eval, answers one image of this size."""
    return _failure(network, 1, height, width, training=False) is None


def padded_size(profile: Profile) -> tuple[int, int]:
    """Height and width as the network gets them."""
    unit = stride_of(profile)
    return -(-profile.data.height // unit) * unit, -(-profile.data.width // unit) * unit


def _failure(network: nn.Module, images: int, height: int, width: int, *, training: bool) -> Exception | None:
    """What keeps a forward pass from answering in the size it was asked; None when nothing does."""
    if _tried(network, torch.empty(images, 3, height, width, device="meta"), training=training) is None:
        return None
    # An operator may be missing for the meta device alone: before anything is refused, it is really computed.
    device = next(network.parameters()).device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        return _tried(network, torch.zeros(images, 3, height, width, device=device), training=training)


def _tried(network: nn.Module, images: Tensor, *, training: bool) -> Exception | None:
    # The network's own tensors are not touched: running statistics would move.
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    copies = {name: tensor.detach().to(images.device, copy=True) for name, tensor in tensors.items()}
    before = network.training
    network.train(training)
    try:
        with torch.no_grad():
            answer = functional_call(network, copies, (images,))
    except UNWORKABLE as error:
        return error
    finally:
        network.train(before)
    if answer.shape[-2:] == images.shape[-2:]:
        return None
    return EngineError(f"it answers in {answer.shape[-2]}x{answer.shape[-1]}")


def _found(error: Exception, height: int, width: int) -> str:
    words = error.what if isinstance(error, EngineError) else f"{type(error).__name__}: {one_line(error)}"
    return f"{height}x{width} (padded to the network's stride): {words}"


def _other_size(network: nn.Module, images: int, unit: int, *, training: bool) -> tuple[int, int] | None:
    """A size that would make it work, where one is found."""
    sides = [(side, side) for side in _SIDES if side % unit == 0]
    for height, width in [*filter(None, [only_size(network)]), *sides]:
        if _tried(network, torch.empty(images, 3, height, width, device="meta"), training=training) is None:
            return height, width
    return None
