"""The words of messages and documentation: standard terms, no personification."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import lru_cache
from pathlib import Path

import pytest

import kdtui

ROOT = Path(kdtui.__file__).parent
AVOIDED = {
    "answers? to": "matches",
    "gives? up": "cancels",
    "given up": "cancelled",
    "giving up": "cancelling",
    "goes on": "continues, resumes",
    "is told": "is reported",
    "lies there": "exists",
    "lives": "is running",
    "mend(s|ed)?": "fix, correct",
    "nobody": "no user, no process",
    "puts? away": "closes",
    "stands? beside": "is shown with",
    "whoever": "the user, the process",
    "without a (last )?word": "without reporting a result",
}
"""Not in messages: a pattern, and what to say instead."""
AVOIDED_IN_DOCUMENTATION = AVOIDED | {
    r"(are|is) other(?! than)": "changed",
    "anybody|somebody": "a user, a process",
    "asked for": "requested",
    "had of": "obtained from",
    "has (its|a|no) say": "affects",
    "lets? go": "releases",
    "meanwhile": "during that time",
    "of (its|one's) own accord": "automatically",
    "put away": "closed",
    "say(s|ing)? so": "reports it",
    "stands? (above|before|below|there)": "is displayed",
    "tell(s|ing)? (nobody|anybody)": "without posting a message",
    "went on": "continued",
    "what (lies|stands) (there|here)": "existing files",
    "wished for": "requested",
}
"""Not in docstrings and comments."""


@lru_cache(None)
def texts_of(path: Path) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Messages and documentation of a module, each text on one line, with its line number."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    messages: list[tuple[int, str]] = []
    documentation: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts = documentation if id(node) in docstrings else messages
            texts.append((node.lineno, " ".join(node.value.split())))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            documentation.append((token.start[0], token.string))
    return messages, documentation


def uses(pattern: str, folder: Path, *, documentation: bool) -> list[str]:
    word = re.compile(rf"\b({pattern})\b", re.IGNORECASE)
    return [
        f"{path.relative_to(folder)}:{line}: {text!r}"
        for path in sorted(folder.rglob("*.py"))
        for line, text in texts_of(path)[documentation]
        if word.search(text)
    ]


@pytest.mark.parametrize("avoided", AVOIDED)
def test_messages_use_standard_terms(avoided: str) -> None:
    assert not uses(avoided, ROOT, documentation=False), f"say {AVOIDED[avoided]} instead"


@pytest.mark.parametrize("avoided", AVOIDED_IN_DOCUMENTATION)
def test_documentation_uses_standard_terms(avoided: str) -> None:
    assert not uses(avoided, ROOT, documentation=True), f"say {AVOIDED_IN_DOCUMENTATION[avoided]} instead"


def test_messages_docstrings_and_comments_are_searched(tmp_path: Path) -> None:
    text = '"""Whoever\nasks."""\nTEXT = "whoever it is"  # whoever else\n'
    (tmp_path / "module.py").write_text(text, encoding="utf-8")
    assert uses("whoever", tmp_path, documentation=False) == ["module.py:3: 'whoever it is'"]
    assert len(uses("whoever", tmp_path, documentation=True)) == 2
