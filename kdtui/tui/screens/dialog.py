"""What every dialog has: one answer."""

from __future__ import annotations

from textual.screen import ModalScreen, ScreenResultType


class Dialog(ModalScreen[ScreenResultType]):
    """A screen over another one that ends with an answer."""

    def answer(self, result: ScreenResultType) -> None:
        """End with ``result``; the second of two keys typed in a hurry answers nothing, and ends no other screen."""
        if self.app.screen is self:
            self.dismiss(result)
