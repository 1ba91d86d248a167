"""Keys of schedules, optimizer and student: defaults are not written, and impossible ends are refused."""

from __future__ import annotations

from typing import Any

import pytest

from kdtui.errors import ProfileError
from kdtui.profile import Distillation, dump, load
from kdtui.profile.schedules import distillation_text, schedules_text


def test_defaults_are_not_written_even_if_they_were_set() -> None:
    sets = ["distillation.temperature_schedule=constant", "distillation.temperature_end=1.0"]
    assert dump(load("demo-distilled", sets)) == dump(load("demo-distilled"))
    assert b'temperature_schedule = "cosine"' in dump(load("distill-b0-from-b3-temperature"))


@pytest.mark.parametrize(
    ("setting", "key", "allowed"),
    [
        ("temperature_end=0.0", "distillation.temperature_end", "> 0"),
        ("alpha_end=1.5", "distillation.alpha_end", "<= 1"),
        ("alpha_schedule=cosin", "distillation.alpha_schedule", "did you mean cosine?"),
        ("alpha_warmup=0", "distillation.alpha_warmup", ">= 1"),
        ("alpha_lower=0.96", "distillation", "at most alpha_upper"),
    ],
)
def test_an_impossible_schedule_is_refused(setting: str, key: str, allowed: str) -> None:
    with pytest.raises(ProfileError) as refused:
        load("demo-distilled", [f"distillation.{setting}"])
    (mistake,) = refused.value.mistakes
    assert mistake.startswith(f"{key} (")
    assert allowed in mistake


@pytest.mark.parametrize("key", ["alpha", "alpha_end"])
def test_an_exponential_weight_cannot_start_or_end_at_0(key: str) -> None:
    with pytest.raises(ProfileError, match="exponential") as refused:
        load("demo-distilled", ["distillation.alpha_schedule=exponential", f"distillation.{key}=0.0"])
    assert f"with {key} = 0; allowed: both > 0" in refused.value.mistakes[0]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "T 4, α 0.7"),
        ({"temperature_schedule": "cosine"}, "T 4 → 1 (cosine), α 0.7"),
        ({"alpha_schedule": "linear", "alpha_end": 0.0}, "T 4, α 0.7 → 0 (linear)"),
        ({"alpha_schedule": "warmup"}, "T 4, α 0 → 0.7 (over 5 epochs)"),
        ({"alpha_schedule": "adaptive"}, "T 4, α 0.7, 0.1 from 0.95 of the teacher's mIoU until below 0.9"),
    ],
)
def test_a_schedule_is_described_in_one_line(keys: dict[str, Any], text: str) -> None:
    assert distillation_text(Distillation(**keys).model_dump()) == text


def test_optimizer_and_student_are_described_in_one_line() -> None:
    sets = ["optimizer=sgd", "schedule=poly", "ema=0.999", "unfreezing.start=3"]
    profile = load("demo-baseline", [f"training.{text}" for text in sets])
    text = "sgd, learning rate poly, EMA 0.999, encoder unfrozen from epoch 3, a stage every 1"
    assert schedules_text(profile.model_dump()) == text
    assert schedules_text(load("demo-baseline", ["training.optimizer=adamw"]).model_dump()) == ""


@pytest.mark.parametrize(
    "setting", ["optimizer=Adam W", "schedule=step", "ema=1.0", "unfreezing.start=0", "unfreezing.x=1"]
)
def test_an_impossible_training_is_refused(setting: str) -> None:
    with pytest.raises(ProfileError) as refused:
        load("demo-distilled", [f"training.{setting}"])
    assert refused.value.mistakes[0].startswith(f"training.{setting.partition('=')[0]} (")
