"""The networks that a search considers: encoders, architectures and decoder widths."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdtui import catalog
from kdtui.errors import UsageError
from kdtui.launch.plan import out_channels
from kdtui.launch.teachers import ready, with_normalisation
from kdtui.profile.network_tables import Model

if TYPE_CHECKING:
    from kdtui.profile import Profile

ENCODERS = (
    "tu-lcnet_050",
    "tu-mobilenetv3_small_100",
    "tu-ghostnet_100",
    "tu-mobilenetv4_conv_small",
    "mobilenet_v2",
    "tu-efficientnet_lite0",
    "tu-mobilenetv3_large_100",
    "mit_b0",
    "timm-efficientnet-b0",
    "tu-mobilenetv4_conv_medium",
    "resnet18",
    "resnet34",
)
"""The default: small to medium, of different designs."""
WIDTHS = (1.0, 0.5, 0.25, 0.125)
"""The default, as shares of the decoder width that segmentation-models-pytorch uses."""
ARCHITECTURES = ("Unet", "FPN")
"""The default."""
_STAGED = ("Unet", "UnetPlusPlus", "MAnet")
_NARROWEST_STAGE = 4
_WIDTH = {
    "FPN": (256, 64),
    "PSPNet": (512, 8),
    "PAN": (32, 8),
    "DeepLabV3": (256, 16),
    "DeepLabV3Plus": (256, 16),
    "UPerNet": (256, 16),
    "Segformer": (256, 16),
    "DPT": (256, 16),
}
"""Width of segmentation-models-pytorch, and the least that it can build, of decoders with one width."""
ALL_ARCHITECTURES = (*_STAGED, "Linknet", *_WIDTH)
MOST = 2000


@dataclass(frozen=True)
class Candidate:
    """A student network.

    Attributes:
        width: Share of the default decoder width.
        decoder_channels: The width as in a profile; None for a decoder without one.
    """

    encoder: str
    architecture: str
    width: float
    decoder_channels: int | tuple[int, ...] | None

    @property
    def key(self) -> str:
        """Its name, unique in a search."""
        return f"{self.encoder}-{self.architecture}-w{self.width:g}"

    @property
    def cell(self) -> dict[str, Any]:
        """What identifies its runs in manifests."""
        return {"student.encoder": self.encoder, "student.architecture": self.architecture, "width": self.width}

    def network(self, base: Model) -> Model:
        """``[student]``: that of the base with this network."""
        own = {"encoder": self.encoder, "architecture": self.architecture, "decoder_channels": self.decoder_channels}
        return base.model_copy(update=own)


def candidates(
    encoders: Sequence[str], architectures: Sequence[str], widths: Sequence[float], *, depth: int = 5
) -> list[Candidate]:
    """All combinations; of widths that give the same decoder, the first.

    Args:
        encoders: Names of segmentation-models-pytorch.
        architectures: Of :data:`ALL_ARCHITECTURES`.
        widths: Shares of the default decoder width.
        depth: Stages of the encoder.
    """
    found: dict[object, Candidate] = {}
    for encoder, architecture, width in itertools.product(encoders, architectures, widths):
        channels = _channels(architecture, width, depth)
        found.setdefault((encoder, architecture, channels), Candidate(encoder, architecture, width, channels))
    return list(found.values())


def _channels(architecture: str, width: float, depth: int) -> int | tuple[int, ...] | None:
    if architecture in _STAGED:
        return tuple(max(_NARROWEST_STAGE, round(wide * width)) for wide in catalog.DECODER_CHANNELS[-depth:])
    if architecture not in _WIDTH:
        return None
    usual, least = _WIDTH[architecture]
    return max(least, round(usual * width))


def check_encoders(names: Iterable[str]) -> tuple[str, ...]:
    """Names of encoders without duplicates.

    Raises:
        UsageError: One is not known; near names are suggested. ``tu-`` names outside of the catalog are left to the
            engine.
    """
    known = [cost.name for cost in catalog.encoders()]
    return _known(names, known, "encoder", "--encoders", other=lambda name: name.startswith("tu-"))


def check_architectures(names: Iterable[str]) -> tuple[str, ...]:
    """Names of architectures without duplicates.

    Raises:
        UsageError: One is not known; near names are suggested.
    """
    return _known(names, ALL_ARCHITECTURES, "architecture", "--architectures", other=lambda name: False)


def _known(names: Iterable[str], known: Sequence[str], what: str, where: str, *, other: Any) -> tuple[str, ...]:
    listed = tuple(dict.fromkeys(names))
    for name in listed:
        if name in known or other(name):
            continue
        folded = {one.casefold(): one for one in known}
        near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
        near_names = ", ".join(folded[one] for one in near)
        hint = "`kdtui encoders` lists them; `tu-NAME` is any encoder of timm"
        raise UsageError(
            f"no such {what}",
            where=where,
            found=name,
            allowed=f"nearest: {near_names}" if near else ", ".join(known) if what == "architecture" else None,
            hint=hint if what == "encoder" else None,
        )
    if not listed:
        raise UsageError(f"no {what} is given", where=where, allowed="names separated by commas")
    return listed


def read_widths(text: str) -> tuple[float, ...]:
    """Shares of the default width from a list such as ``1,0.5``.

    Raises:
        UsageError: One is not a number above 0 and at most 2.
    """
    widths = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = 0.0
        if not 0 < value <= 2:
            raise UsageError(
                "not a share of the decoder width",
                where="--widths",
                found=part.strip(),
                allowed="numbers above 0 and at most 2, separated by commas, such as 1,0.5,0.25",
            )
        widths.append(value)
    return tuple(dict.fromkeys(widths))


def profile_of(base: Profile, candidate: Candidate, seed: int, *, normalise: bool) -> Profile:
    """The profile that distils a candidate.

    Args:
        base: Data, training, teacher and distillation.
        candidate: The student.
        seed: Seed of the training.
        normalise: Whether the normalisation of images follows from the student's published weights.
    """
    assert isinstance(base.student, Model)
    own = {
        "name": f"{candidate.key}-from-{base.name}"[:80].rstrip("-."),
        "description": f"{candidate.key} distilled, of a search",
        "student": candidate.network(base.student),
        "seed": seed,
    }
    profile = base.model_copy(update=own)
    return ready(with_normalisation(profile) if normalise else profile)


def parameters_of(base: Profile, candidate: Candidate) -> tuple[int, int] | None:
    """Stored and used parameters by the catalog; None if it does not have this network."""
    assert isinstance(base.student, Model)
    channels = out_channels(base)
    if channels is None:
        return None
    cost = catalog.cost(
        **candidate.network(base.student).catalog_arguments(),
        out_channels=channels,
        height=base.data.height,
        width=base.data.width,
    )
    return None if cost is None else (cost.parameters, cost.parameters_used)
