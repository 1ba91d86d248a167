"""Displays the effect of the temperature on a distribution over classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical

from kdtui.tui.widgets.bars import Bar, Bars
from kdtui.tui.widgets.panel import Panel

ROWS = 4
"""Number of bars; with more classes, the least probable share the last one."""
_WORDS = ((0.15, "nearly one-hot"), (0.5, "confident"), (0.85, "uncertain"))
_FLAT = "nearly uniform"


def normalised(values: Sequence[float]) -> list[float]:
    """``values`` scaled to sum 1; empty if a value is negative or not finite, or if all are zero."""
    highest = max(values, default=0.0)
    if not (0 < highest < math.inf and all(value >= 0 for value in values)):
        return []
    shares = [value / highest for value in values]  # the sum of the values may overflow
    return [share / sum(shares) for share in shares]


def softened(probabilities: Sequence[float], temperature: float) -> list[float]:
    """``softmax(z / T)`` of the logits that give ``probabilities`` at T = 1: ``p^(1/T)``, normalised.

    Args:
        probabilities: A distribution.
        temperature: Above 0, finite.
    """
    logs = [math.log(p) if p > 0 else -math.inf for p in probabilities]
    highest = max(logs)
    # Subtract before dividing: with T near zero log(p) / T is infinite, and inf - inf is not a number.
    weights = [math.exp((value - highest) / temperature) for value in logs]
    return [weight / sum(weights) for weight in weights]


def entropy(probabilities: Sequence[float]) -> float:
    """Entropy in bits."""
    return sum(p * math.log2(1 / p) for p in probabilities if p > 0)


class Distribution(Vertical):
    """Bars of the softened probabilities, each marked with the value at T = 1, and a description of the entropy.

    Args:
        title: Text above the bars: the source of the probabilities, or that they are an example.
    """

    DEFAULT_CSS = """
    Distribution { height: auto; width: 1fr; }
    """

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._bars = Bars(title, mark="│ at T=1")
        self._words = Panel(wraps=True)

    def compose(self) -> ComposeResult:
        """Compose the bars and the description below."""
        yield self._bars
        yield self._words

    def entitle(self, title: str) -> None:
        """Set the title."""
        self._bars.entitle(title)

    def show(self, classes: Sequence[tuple[str, float]], temperature: float | None) -> None:
        """Display the distribution at a temperature; clear it when the temperature or the probabilities are invalid.

        Args:
            classes: Name and probability at T = 1 of each class.
            temperature: Temperature; valid if finite and above 0.
        """
        before = normalised([p for _, p in classes])
        if temperature is None or not 0 < temperature < math.inf or not before:
            self._bars.show([])
            self._words.show([])
            return
        after = softened(before, temperature)
        rows = [(name, now, then) for (name, _), now, then in zip(classes, after, before, strict=True)]
        if len(rows) > ROWS:
            rows = _most_probable(rows)
        self._bars.show([Bar(name, now, mark=then) for name, now, then in rows])
        self._words.show([[(in_words(before, after), "muted")]])


def _most_probable(rows: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """The most probable classes at T = 1, and one row for the sum of the others."""
    ordered = sorted(rows, key=lambda row: row[2], reverse=True)
    rest = ordered[ROWS - 1 :]
    return [*ordered[: ROWS - 1], (f"{len(rest)} others", sum(row[1] for row in rest), sum(row[2] for row in rest))]


def in_words(before: Sequence[float], after: Sequence[float]) -> str:
    """The entropy before and after, each with a descriptive word."""
    most = math.log2(len(before))

    def said(probabilities: Sequence[float]) -> tuple[str, str]:
        bits = entropy(probabilities)
        return f"{bits:.2f}", next((word for bound, word in _WORDS if bits <= bound * most), _FLAT)

    (old, old_word), (new, new_word) = said(before), said(after)
    if old == new:
        return f"entropy {new} of {most:.2f} bits: {new_word}"
    return f"entropy {old} → {new} of {most:.2f} bits: {old_word} → {new_word}"
