"""Values that no training writes but that files may contain, for tests of how the cockpit displays them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from kdtui.events import Event, decode

WORDS = (
    "[bold]",
    "[/]",
    "[red",
    "[@click=app.quit]x[/]",
    "a  b",
    "two\nlines",
    "tab\tbed",
    "\x1b[31mred",
    "\u202eright to left",
    "漢字かな",
    "\ud800",
    "",
    " ",
    "$error",
    "{}",
    "%s",
    "…" * 90,
)
NUMBERS = (0, -1, 1, 2**31, 2**62, -(2**62), 10**18, 0.0, -0.0, 5e-324, 1e-300, 1e18, 1.7e308, -1.7e308)
texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=12))
integers = st.one_of(st.sampled_from([n for n in NUMBERS if isinstance(n, int)]), st.integers(-(2**70), 2**70))
floats = st.one_of(st.sampled_from([float(n) for n in NUMBERS]), st.floats())
numbers = st.one_of(integers, floats)
maybe = st.one_of(st.none(), numbers)
values = st.recursive(
    st.one_of(maybe, texts, st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=4,
)
"""Anything that JSON can hold, and what Python writes beyond it."""
_scalars = st.dictionaries(
    st.one_of(
        st.sampled_from(
            ["loss", "loss.base", "loss.distill", "loss.distill.kl", "lr", "miou", "best_miou", "best_epoch", "iou.a"]
        ),
        texts,
    ),
    maybe,
    max_size=5,
)
_times = st.one_of(numbers, st.just(1_787_322_600.0))
_teacher = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"parameters": values, "miou": values, "iou": values, "pixel": values, "encoder": values},
        optional={"architecture": values},
    ),
    st.dictionaries(texts, values, max_size=2),
)
_BODIES: dict[str, Any] = {
    "queued": {"attempt": integers},
    "started": {
        "attempt": integers,
        "ranks": st.lists(st.dictionaries(texts, values, max_size=2), max_size=2),
        "device": texts,
        "precision": texts,
        "threads": integers,
        "world_size": integers,
        "epochs": integers,
        "steps_per_epoch": integers,
        "resumed_step": integers,
        "student": st.dictionaries(texts, values, max_size=2),
        "teacher": _teacher,
    },
    "measured": {
        "split": st.sampled_from(["train", "val", "odd"]),
        "step": integers,
        "epoch": integers,
        "images": integers,
        "scalars": _scalars,
        "epochs": st.one_of(st.none(), integers),
    },
    "saved": {"step": integers, "tag": texts, "path": texts, "value": st.one_of(st.none(), floats)},
    "visualized": {"epoch": integers, "path": texts},
    "noted": {"message": texts},
    "finished": {"step": integers, "epoch": integers, "reason": texts},
    "stopped": {"step": integers, "epoch": integers, "reason": texts},
    "failed": {"error": texts, "message": texts, "hint": st.one_of(st.none(), texts)},
    "exited": {"attempt": integers, "code": integers, "signal": st.one_of(st.none(), texts)},
}
lines = st.one_of(
    *(
        st.fixed_dictionaries({"v": st.just(1), "kind": st.just(kind), "time": _times, **body})
        for kind, body in _BODIES.items()
    )
).map(json.dumps)
"""A line of ``events.jsonl`` whose types are right and whose values may be anything."""


def read(written: list[str]) -> list[Event]:
    """The events that are read from such lines."""
    return [event for line in written if (event := decode(line)) is not None]
