"""Muon, and which optimiser holds which weight."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from grainwise.training.optimizers import STEP, Muon, optimizers_of, orthogonalized


@settings(max_examples=25)
@given(rows=st.integers(1, 40), columns=st.integers(1, 200), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_singular_values_come_near_one(rows: int, columns: int, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    full = torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns), generator=generator))[0]
    spread = torch.linspace(0.3, 1, full.shape[1])
    matrix = scale * (full * spread if rows >= columns else (full * spread).T)
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_a_step_has_the_stated_size_and_momentum_is_nesterovs() -> None:
    kernel = nn.Parameter(torch.zeros(32, 16, 3, 3))
    optimizer = Muon([kernel], lr=1e-2)
    kernel.grad = torch.randn(32, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    assert float(kernel.detach().square().mean().sqrt()) == pytest.approx(1e-2 * STEP, rel=0.25)
    assert float((kernel.detach() * kernel.grad).sum()) < 0
    torch.testing.assert_close(optimizer.state[kernel]["momentum"], 0.05 * kernel.grad)


def test_weight_decay_is_decoupled() -> None:
    kernel = nn.Parameter(torch.ones(16, 16, 3, 3))
    kernel.grad = torch.zeros_like(kernel)
    Muon([kernel], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(kernel.detach(), torch.full((16, 16, 3, 3), 0.95))


def test_every_parameter_is_held_once() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 32, 3, groups=32), nn.Conv2d(32, 3, 3)
    )
    settings = {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.0}
    (adam,) = optimizers_of(module, "adamw", **settings)
    assert {id(p) for p in adam.param_groups[0]["params"]} == {id(p) for p in module.parameters()}
    muon, adam = optimizers_of(module, "muon", **settings)
    assert [id(p) for p in muon.param_groups[0]["params"]] == [id(module[1].weight)]
    assert len(adam.param_groups[0]["params"]) == 7
    assert len(optimizers_of(nn.Conv2d(3, 3, 1), "muon", **settings)) == 1
