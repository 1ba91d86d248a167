"""Networks of segmentation-models-pytorch, whose architecture and encoder follow from the tensors."""

from __future__ import annotations

from kdtui.engine import models
from kdtui.engine.containers import SMP, Contents, as_tensors
from kdtui.engine.families.family import Family, IdentifiedNetwork
from kdtui.engine.identify import RGB, NetworkIdentity, identify


class SmpFamily(Family):
    """See :mod:`kdtui.engine.identify`."""

    layout = SMP

    def identify(self, contents: Contents, *, architecture: str | None, encoder: str | None) -> IdentifiedNetwork:
        """See the base class."""
        identity = identify(contents, architecture=architecture, encoder=encoder)
        counts = _count(identity)
        network = identity.network
        network.load_state_dict(as_tensors(identity.state))
        facts = {
            "architecture": identity.decoder.architecture,
            "encoder": identity.encoder,
            "encoder_depth": identity.depth,
            "decoder_channels": identity.decoder.channels,
            "out_channels": identity.decoder.out_channels,
            "in_channels": identity.in_channels,
        }
        padded = bool(network.requires_divisible_input_shape)
        stride = int(network.encoder.output_stride) if padded else None  # type: ignore[union-attr, arg-type]
        return IdentifiedNetwork(network, facts, counts, stride)


def _count(identity: NetworkIdentity) -> models.Parameters:
    """Stored and used parameters; the unused ones are found by a backward pass with an RGB image."""
    rgb = identity.network if identity.in_channels == RGB else identity.rebuilt(in_channels=RGB)
    models.freeze_unused(rgb)
    counts = models.count_parameters(rgb)
    stored = sum(parameter.numel() for parameter in identity.network.parameters())
    return models.Parameters(stored=stored, used=stored - counts.stored + counts.used)
