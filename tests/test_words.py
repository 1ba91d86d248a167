"""The words of messages: standard terms, no personification."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kdtui

ROOT = Path(kdtui.__file__).parent
AVOIDED = {
    "answers to": "matches",
    "gives up": "cancels",
    "given up": "cancelled",
    "giving up": "cancelling",
    "goes on": "continues, resumes",
    "is told": "is reported",
    "lies there": "exists",
    "lives": "is running",
    "mend": "fix, correct",
    "nobody": "no user, no process",
    "puts? away": "closes",
    "stands? beside": "is shown with",
    "whoever": "the user, the process",
    "without a last word": "without reporting a result",
}


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a module that is no documentation."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


@pytest.mark.parametrize("avoided", AVOIDED)
def test_messages_use_standard_terms(avoided: str) -> None:
    word = re.compile(rf"\b{avoided}\b", re.IGNORECASE)
    uses = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}"
        for path in sorted(ROOT.rglob("*.py"))
        for line, text in messages(path)
        if word.search(text)
    ]
    assert not uses, f"say {AVOIDED[avoided]} instead"
