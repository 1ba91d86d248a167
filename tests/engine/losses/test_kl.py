from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdtui.engine.losses import binary_pixel_kl, pixel_kl

IGNORE = 255


def golden() -> tuple[Tensor, Tensor, Tensor]:
    i = torch.arange(120, dtype=torch.float64)
    student = (2 * torch.sin(0.37 * i)).reshape(2, 3, 4, 5)
    teacher = (3 * torch.cos(0.23 * i + 0.5)).reshape(2, 3, 4, 5)
    masks = (torch.arange(40) % 3).reshape(2, 4, 5)
    return student, teacher, masks


def mean_kl(student: Tensor, teacher: Tensor, masks: Tensor, temperature: float) -> float:
    valid = masks != IGNORE
    return float(pixel_kl(student, teacher, valid, temperature=temperature, valid_pixels=valid.sum()))


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.9086598517), (4.0, 1.8759975312)])
def test_pixel_kl_equals_the_golden_values(temperature: float, expected: float) -> None:
    student, teacher, masks = golden()
    assert mean_kl(student, teacher, masks, temperature) == pytest.approx(expected, rel=2e-6)


def test_ignored_pixels_leave_the_golden_mean() -> None:
    student, teacher, masks = golden()
    masks[0, 0, 0] = masks[1, 3, 4] = IGNORE
    assert mean_kl(student, teacher, masks, 4.0) == pytest.approx(1.7679895717, rel=2e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.3199066397), (4.0, 0.4735003567)])
def test_binary_kl_equals_the_golden_values(temperature: float, expected: float) -> None:
    student, teacher, masks = golden()
    valid = masks != IGNORE
    value = binary_pixel_kl(student[:, 0], teacher[:, 0], valid, temperature=temperature, valid_pixels=valid.sum())
    assert float(value) == pytest.approx(expected, rel=2e-6)


@given(temperature=st.floats(0.5, 20.0), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_binary_form_is_the_softmax_form_on_zero_and_z(temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 2, 3, 5, generator=generator) * 3
    valid = torch.rand(2, 3, 5, generator=generator) > 0.3

    def pair(z: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(z), z], dim=1)

    binary = binary_pixel_kl(student, teacher, valid, temperature=temperature, valid_pixels=7.0)
    softmax = pixel_kl(pair(student), pair(teacher), valid, temperature=temperature, valid_pixels=7.0)
    torch.testing.assert_close(binary, softmax, rtol=1e-4, atol=1e-5)


def test_a_teacher_distilled_into_itself_costs_nothing() -> None:
    _, teacher, masks = golden()
    assert mean_kl(teacher, teacher, masks, 4.0) == pytest.approx(0.0, abs=1e-9)


def test_ignored_pixels_have_no_gradient_and_no_value() -> None:
    student, teacher, masks = golden()
    masks[:, :, :2] = IGNORE
    valid = masks != IGNORE
    student.requires_grad_()
    pixel_kl(student, teacher, valid, temperature=4.0, valid_pixels=valid.sum()).backward()
    assert student.grad is not None
    assert torch.count_nonzero(student.grad[:, :, :, :2]) == 0
    assert torch.count_nonzero(student.grad[:, :, :, 2:]) > 0
    changed = student.detach().clone()
    changed[:, :, :, :2] = 50.0
    assert mean_kl(changed, teacher, masks, 4.0) == mean_kl(student.detach(), teacher, masks, 4.0)


def test_repeating_pixels_or_images_changes_nothing() -> None:
    student, teacher, masks = golden()
    once = mean_kl(student, teacher, masks, 4.0)
    larger = [t.repeat_interleave(2, -1).repeat_interleave(2, -2) for t in (student, teacher, masks)]
    more = [torch.cat([t, t]) for t in (student, teacher, masks)]
    assert mean_kl(larger[0], larger[1], larger[2], 4.0) == pytest.approx(once, rel=1e-6)
    assert mean_kl(more[0], more[1], more[2], 4.0) == pytest.approx(once, rel=1e-6)


def test_peaked_half_precision_maps_stay_finite() -> None:
    student = torch.full((1, 3, 2, 2), -6e4, dtype=torch.float16)
    teacher = -student
    student[:, 0], teacher[:, 1] = 6e4, -6e4
    student.requires_grad_()
    value = pixel_kl(student, teacher, torch.ones(1, 2, 2, dtype=torch.bool), temperature=1.0, valid_pixels=4.0)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_a_better_student_costs_less() -> None:
    student, teacher, masks = golden()
    costs = [mean_kl(torch.lerp(student, teacher, share), teacher, masks, 4.0) for share in (0.0, 0.3, 0.6, 0.9)]
    assert costs == sorted(costs, reverse=True)


def test_a_smaller_teacher_grid_is_resized_to_the_students() -> None:
    student, teacher, masks = golden()
    small = torch.nn.functional.interpolate(teacher, size=(2, 3), mode="bilinear", align_corners=False)
    large = torch.nn.functional.interpolate(small, size=(4, 5), mode="bilinear", align_corners=False)
    assert mean_kl(student, small, masks, 4.0) == pytest.approx(mean_kl(student, large, masks, 4.0))
