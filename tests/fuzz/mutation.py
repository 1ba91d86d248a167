"""Inputs that are nearly right: a valid example with a few edits."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

TOKENS = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xc3\x28",
        b"\x1b[2J",
        b"\xc2\x9b31m",
        b"\xe2\x80\xae",
        b"\\ud800",
        b"\r\n",
        b'"',
        b"'",
        b"\\",
    ),
    *(b"{", b"}", b"[", b"]", b"[[", b"," * 3, b":", b"=", b"[" * 3000, b'{"a":' * 3000, b"a." * 3000, b"(" * 3000),
    *(
        b"null",
        b"true",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"-0.0",
        b"0",
        b"-1",
        b"9" * 25,
        b"9" * 400,
        b"9" * 5000,
    ),
    *(
        b"1e18",
        b'""',
        b"[]",
        b"{}",
        b'"1"',
        b"[1]",
        b'{"a": 1}',
        b"0x" + b"f" * 9000,
        b"x" * 20_000,
        b"..",
        b"/",
        b"~",
        b"*",
    ),
)
"""What parsers trip over: ends, escapes, depths, numbers beyond every type, values of another kind."""


def _edited(example: bytes, edits: Sequence[tuple[str, float, float, int]]) -> bytes:
    for kind, begin, length, token in edits:
        at = int(begin * (len(example) + 1))
        end = min(len(example), at + int(length * length * 40))
        if kind == "value":  # a JSON or TOML value whole: from here to the next comma, brace or line's end
            ends = [place for mark in (b",", b"}", b"]", b"\n") if (place := example.find(mark, at)) >= 0]
            start = max(example.rfind(mark, 0, at) for mark in (b":", b"=", b"[", b",")) + 1
            at, end = (start or at), min(ends, default=len(example))
        match kind:
            case "replace" | "value":
                example = example[:at] + TOKENS[token] + example[end:]
            case "flip":
                example = (
                    example[:at] + bytes(byte ^ (1 << token % 8) for byte in example[at : at + 1]) + example[at + 1 :]
                )
            case "cut":
                example = example[:at] + example[end:]
            case "end":
                example = example[:at]
            case "twice":
                example = example[:end] + example[at:end] + example[end:]
    return example


def inputs(examples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """An example, edited up to four times."""
    unit = st.floats(0, 1, exclude_max=True)
    kinds = st.sampled_from(["value", "replace", "flip", "cut", "end", "twice"])
    edit = st.tuples(kinds, unit, unit, st.integers(0, len(TOKENS) - 1))
    return st.builds(_edited, st.sampled_from(list(examples)), st.lists(edit, max_size=4))
