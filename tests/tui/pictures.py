"""Pictures as the engine writes them, without an engine."""

from __future__ import annotations

from PIL import Image

from kdtui.events import Visualized
from kdtui.store.run import EventLog, Run

WIDE, HIGH, GAP = 16, 12, 2


def picture(parts: int) -> Image.Image:
    """Parts of one colour each, beside each other, with a white gap between."""
    image = Image.new("RGB", (parts * (WIDE + GAP) - GAP, HIGH), (255, 255, 255))
    for part in range(parts):
        image.paste((40 * part, 200 - 30 * part, 10), (part * (WIDE + GAP), 0, part * (WIDE + GAP) + WIDE, HIGH))
    return image


def draw_epoch(run: Run, epoch: int, count: int, *, parts: int = 5) -> None:
    """The pictures of an epoch, and the event that says so."""
    folder = run.visualization(epoch)
    folder.mkdir(parents=True)
    for number in range(count):
        picture(parts).save(folder / f"{number:03d}.png")
    with EventLog(run.events_path) as log:
        log.append(Visualized(epoch, f"visualizations/{folder.name}"))
