"""What ``encoders`` lists: names and costs from the catalog."""

from __future__ import annotations

from typing import Any

from kdtui import catalog


def encoder_rows(pattern: str, teacher_parameters: int | None) -> list[dict[str, Any]]:
    """Encoders whose name holds, or as a glob matches, ``pattern``; smallest first.

    Costs are of a Unet with its default decoder, four output channels, at 256 x 256.
    """
    rows = []
    for encoder in catalog.encoders(pattern or None):
        name = encoder.name
        cost = catalog.cost(name, architecture="Unet", decoder_channels=None, out_channels=4, height=256, width=256)
        if cost is None:
            continue
        row: dict[str, Any] = {"encoder": name, "parameters": cost.parameters, "macs": cost.macs}
        if teacher_parameters is not None:
            row["compression"] = teacher_parameters / cost.parameters
        rows.append(row)
    return sorted(rows, key=lambda row: int(row["parameters"]))
