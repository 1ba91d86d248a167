from __future__ import annotations

import torch

from kdtui.engine.losses.mgd import hidden_cells

MASKS = torch.randint(0, 3, (64, 16, 12), generator=torch.Generator().manual_seed(0))


def hidden(masks: torch.Tensor = MASKS, *, step: int = 0, masked: float = 0.75) -> torch.Tensor:
    return hidden_cells(masks, torch.zeros(len(masks), 5, 8, 6), step, masked)


def test_the_share_of_hidden_cells_is_that_of_the_term() -> None:
    assert not hidden(masked=0.0).any()
    for masked in (0.25, 0.75):
        shares = hidden(masked=masked).float().mean(dim=(1, 2))
        assert abs(float(shares.mean()) - masked) < 0.03
        assert float(shares.std()) > 0.02  # the cells are independent of each other


def test_hidden_cells_follow_from_step_and_labels_of_the_image_alone() -> None:
    before = torch.get_rng_state()
    whole = hidden()
    assert torch.equal(whole, hidden())
    assert torch.equal(whole[8:16], hidden(MASKS[8:16]))
    assert torch.equal(before, torch.get_rng_state())
    for other in (hidden(step=1), hidden(step=2**40), hidden(MASKS.flip(2))):
        assert 0.2 < float((whole ^ other).float().mean()) < 0.55
    assert len(torch.unique(whole.flatten(1), dim=0)) == len(MASKS)
