"""The other fields."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, Vertical

from kdtui.tui.screens.new_run.section import FieldRow, Section

_LEFT = ("epochs", "batch_size", "learning_rate", "seeds", "precision")
_RIGHT = ("accelerator", "devices", "name", "tags", "extra")
_WORDS = {"precision": ("auto", "fp32", "bf16", "fp16"), "accelerator": ("auto", "cpu", "gpu")}


class TrainingSection(Section):
    """One row a field."""

    TITLE = "TRAINING"
    PLACES = (*_LEFT, *_RIGHT)

    def __init__(self) -> None:
        super().__init__(id="training")

    def fields(self) -> ComposeResult:
        """Two halves."""
        with Container(classes="pair"):
            for half in (_LEFT, _RIGHT):
                with Vertical(classes="half"):
                    for name in half:
                        yield FieldRow(name, _WORDS.get(name, ()))
