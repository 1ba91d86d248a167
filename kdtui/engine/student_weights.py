"""Initial weights of a student from a checkpoint: all of them, or those of its encoder."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from kdtui.engine.checkpoint import check_dense, differences, shown_keys
from kdtui.engine.class_names import listed
from kdtui.engine.containers import SMP, Places, as_tensors, open_places, with_counters
from kdtui.engine.hub_cache import published_files
from kdtui.engine.identify import renamings
from kdtui.engine.models import all_finite
from kdtui.engine.shapes import ShapesOnly
from kdtui.errors import CheckpointError
from kdtui.profile import Model
from kdtui.store.checkpoint_files import file_of
from kdtui.store.files import sha256_of
from kdtui.store.run import Run
from kdtui.text import counted

_HEAD = "segmentation_head."
_ENCODER_ONLY = "--set student.weights_part=encoder"
_DEEPEST = 5


def load_weights(network: nn.Module, table: Model, classes: Sequence[str]) -> str:
    """Load the checkpoint of ``student.weights`` into a network.

    Args:
        network: The student, on the CPU; unchanged if the weights do not match.
        table: Its table, with ``weights`` set.
        classes: Class names of the data.

    Returns:
        What was loaded: the part, the file and the number of tensors.

    Raises:
        CheckpointError: Not readable, or the weights do not match.
    """
    assert table.weights is not None
    places = open_places(table.weights)
    if table.weights_part == "encoder":
        match = _encoder_match(network, table, places)
        if match.problems:
            raise CheckpointError(
                f"the encoder of this checkpoint is not {table.encoder}",
                where=places.file,
                found="; ".join(match.problems),
                allowed=f"all tensors of {table.encoder} with the same names and shapes, after any prefix",
                hint="`kdtui inspect FILE` describes the file",
            )
        state = _checked(match.state, places.file)
        # Not the encoder's own method, which renames keys for some encoders of timm.
        nn.Module.load_state_dict(_encoder(network), state)
        return f"encoder of {places.file}: {counted(len(state), 'tensor')}"
    state = _whole_state(network, places)
    if problems := differences(network, state):
        raise _mismatch(network, table, places, state, problems, classes)
    network.load_state_dict(_checked(state, places.file))
    return f"all weights of {places.file}: {counted(len(state), 'tensor')}{_other_names(places, classes)}"


def check_unchanged(run: Run) -> None:
    """Check that the checkpoint of a run's initial weights is the one in its manifest.

    Raises:
        CheckpointError: It was changed after the run was created.
    """
    recorded = run.manifest().weights or {}
    path = getattr(run.profile().student, "weights", None)
    known, file = recorded.get("sha256"), file_of(path or "")
    if known is None or path is None or not file.is_file():
        return
    current = sha256_of(file)
    if current != known:
        raise CheckpointError(
            "the checkpoint of the initial weights was changed after the run was created",
            where=file,
            found=f"sha256 {current[:12]}…",
            allowed=f"sha256 {str(known)[:12]}…",
            hint=f"kdtui train {run.profile_path} trains a new run with its present weights",
        )


def record_published(run: Run) -> None:
    """Add the cached file of a run's published weights and its hash to the manifest, unless it is not in the cache."""
    student = run.profile().student
    if getattr(student, "encoder_weights", "none") == "none":
        return
    for file in published_files(str(getattr(student, "encoder", "")))[:1]:  # the others have no weights
        path = file.cached
        with contextlib.suppress(OSError):  # removed from the cache after it was loaded
            if path is not None:
                run.record_weights({"checkpoint": str(path), "sha256": sha256_of(path), "run": None})


def encoder_tensors(network: nn.Module) -> int:
    """Number of tensors of the encoder of a network of smp."""
    return len(_encoder(network).state_dict())


def _encoder(network: nn.Module) -> nn.Module:
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    return encoder


def _checked(state: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The state in f32, after checking that it has dense tensors of finite values."""
    check_dense(state, where=where)
    broken = [key for key, value in state.items() if not all_finite(value)]
    if broken:
        raise CheckpointError(
            "some weights of this checkpoint are not finite: its training diverged",
            where=where,
            found=f"{counted(len(broken), 'tensor')}: {shown_keys(broken)}",
            allowed="finite weights",
            hint="use an earlier checkpoint",
        )
    return as_tensors(dict(state))


def _whole_state(network: nn.Module, places: Places) -> dict[str, Tensor]:
    """The state of the first network in the checkpoint; all tensors of the first place if there is none."""
    for tensors in places.tensors.values():
        for prefix in SMP.prefixes(tensors):
            inside = tuple(prefix + part for part in SMP.inside)
            state = {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(inside)}
            candidates = list(renamings(with_counters(state)))
            return next((state for state in candidates if not differences(network, state)), candidates[0])
    return with_counters(next(iter(places.tensors.values())))


def _mismatch(
    network: nn.Module,
    table: Model,
    places: Places,
    state: Mapping[str, Tensor],
    problems: Sequence[str],
    classes: Sequence[str],
) -> CheckpointError:
    """The error for a checkpoint that does not match the whole student."""
    fits = not _encoder_match(network, table, places).problems
    hint = f"{_ENCODER_ONLY} loads its encoder alone" if fits else "`kdtui inspect FILE` describes the file"
    own = network.state_dict()
    differing = [key for key in own if key not in state or state[key].shape != own[key].shape]
    of_head = state.keys() == own.keys() and all(key.startswith(_HEAD) for key in differing)
    if of_head and all(state[key].shape[1:] == own[key].shape[1:] for key in differing):
        return CheckpointError(
            "these weights have another number of output channels than the student",
            where=places.file,
            found=counted(len(state[differing[0]]), "output channel"),
            allowed=f"{counted(len(own[differing[0]]), 'output channel')}, for {counted(len(classes), 'class')}",
            hint=hint,
        )
    return CheckpointError(
        "these weights do not match the student",
        where=places.file,
        found="; ".join(problems),
        allowed=f"exactly the names and shapes of {table.architecture} {table.encoder} with the profile's widths",
        hint=hint,
    )


def _other_names(places: Places, classes: Sequence[str]) -> str:
    """A remark on classes with other names or in another order, which training may change."""
    names = next((names for names in places.names if len(names) == len(classes)), None)
    if names is None or tuple(names) == tuple(classes):
        return ""
    return f"; its classes are {listed(names)}, those of the data {listed(classes)}"


@dataclass(frozen=True)
class _Match:
    """Tensors of a checkpoint for an encoder.

    Attributes:
        state: With the keys of the encoder.
        problems: What is missing, of another shape or unexpected.
        count: Number of such tensors.
    """

    state: dict[str, Tensor]
    problems: tuple[str, ...]
    count: int


def _encoder_match(network: nn.Module, table: Model, places: Places) -> _Match:
    """The place and prefix in the checkpoint that match the encoder best."""
    own = _encoder(network).state_dict()
    expected = _spellings(own) | _spellings(_full_keys(table.encoder))
    matches = [
        _match(own, expected, with_counters(tensors))
        for place in places.tensors.values()
        for tensors in _candidates(next(iter(own)), place)
    ]
    return min(matches, key=lambda match: match.count)


def _candidates(first: str, tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors below each prefix that may be that of an encoder, without the prefix.

    Args:
        first: A key of the encoder.
        tensors: All of one place.
    """
    ending = _spelling(first)
    prefixes = {
        key[: len(key) - len(ending)]: None
        for key in tensors
        if _spelling(key, inner=False).endswith(ending) and key[: len(key) - len(ending)][-1:] in ("", ".")
    }
    for prefix in prefixes or {"": None}:
        yield {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _match(own: Mapping[str, Tensor], expected: set[str], tensors: Mapping[str, Tensor]) -> _Match:
    by_spelling = {_spelling(key, inner=False): key for key in tensors}
    keys = {key: by_spelling[_spelling(key)] for key in own if _spelling(key) in by_spelling}
    missing = [key for key in own if key not in keys]
    shapes = [
        f"{key} {tuple(tensors[other].shape)} instead of {tuple(own[key].shape)}"
        for key, other in keys.items()
        if tensors[other].shape != own[key].shape
    ]
    # A larger encoder of the same family has all tensors of a smaller one, and more beside them.
    tops = {_spelling(key.removeprefix("model.").split(".")[0], inner=False) + "_" for key in own}
    unexpected = [key for text, key in by_spelling.items() if text not in expected and text.startswith(tuple(tops))]
    sorts = {"missing": missing, "of another shape": shapes, "unexpected": unexpected}
    return _Match(
        {key: tensors[other] for key, other in keys.items()},
        tuple(f"{len(lines)} {sort}: {shown_keys(lines)}" for sort, lines in sorts.items() if lines),
        sum(map(len, sorts.values())),
    )


def _spelling(key: str, *, inner: bool = True) -> str:
    """A key as it is compared: timm writes ``stages_0`` instead of ``stages.0`` for feature extraction.

    Args:
        key: The key.
        inner: Whether to remove ``model.``, inside which smp has the encoders of timm.
    """
    return (key.removeprefix("model.") if inner else key).replace(".", "_")


def _spellings(keys: Mapping[str, object]) -> set[str]:
    return {_spelling(key) for key in keys}


def _full_keys(encoder: str) -> dict[str, Tensor]:
    """The keys of the complete encoder, of which a shallow student or a feature extractor has a part."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), ShapesOnly(), torch.device("meta"):
        warnings.simplefilter("ignore")  # about deprecated names
        if encoder.startswith("tu-"):
            return dict(timm.create_model(encoder.removeprefix("tu-"), pretrained=False).state_dict())
        return dict(smp.encoders.get_encoder(encoder, depth=_DEEPEST, weights=None).state_dict())
