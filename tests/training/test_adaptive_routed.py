"""A network whose finest width differs from cell to cell."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.benchmarks import benchmark

from grainwise.core.errors import InputError
from grainwise.networks.gain_predictor import CELL
from grainwise.networks.half_unet import HalfUNet
from grainwise.primitives.channels import ChannelPlan

RoutedHalfUNet = benchmark("adaptive_routed").RoutedHalfUNet
WIDTHS = ((16, 24, 32), (16, 24), (16, 24))
torch.manual_seed(0)
NET = HalfUNet(widths=WIDTHS, blocks=(2, 1, 1)).eval().requires_grad_(False)
PLANS = [NET.space.plan({"level0": width, "level1": 24, "level2": 16}) for width in WIDTHS[0]]
ROUTED = RoutedHalfUNet(NET, PLANS)
SIGMA = torch.tensor([0.1])


def noisy(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height + 1000 * width))


def cells(height: int, width: int) -> tuple[int, int]:
    return -(-height // CELL), -(-width // CELL)


@settings(max_examples=15)
@given(height=st.integers(1, 260), width=st.integers(1, 260), plan=st.integers(0, 2))
def test_one_plan_everywhere_is_the_network_of_that_plan(height: int, width: int, plan: int) -> None:
    x = noisy(height, width)
    routed = ROUTED(x, torch.full(cells(height, width), plan), sigma=SIGMA)
    torch.testing.assert_close(routed, NET(x, PLANS[plan], sigma=SIGMA), rtol=0, atol=1e-6)


def test_far_from_other_plans_a_cell_is_as_if_alone() -> None:
    x = noisy(192, 832)
    route = torch.zeros(cells(192, 832), dtype=torch.int64)
    route[:, 6:] = 2
    mixed = ROUTED(x, route, sigma=SIGMA)
    left, right = (NET(x, PLANS[plan], sigma=SIGMA) for plan in (0, 2))
    reach = NET.facts.halo
    torch.testing.assert_close(mixed[..., : 384 - reach], left[..., : 384 - reach], rtol=0, atol=1e-6)
    torch.testing.assert_close(mixed[..., 384 + reach :], right[..., 384 + reach :], rtol=0, atol=1e-6)
    assert not torch.allclose(mixed[..., 384:], left[..., 384:], atol=1e-6)


def test_a_tile_on_the_grid_of_cells_gives_the_pixels_of_the_whole() -> None:
    x, sigma = noisy(256, 448), torch.rand(1, 1, 256, 448) / 4
    route = torch.randint(3, cells(256, 448), generator=torch.Generator().manual_seed(1))
    whole = ROUTED(x, route, sigma=sigma)
    first = 128
    tile = ROUTED(x[..., first:], route[:, first // CELL :], sigma=sigma[..., first:])
    inner = first + -(-NET.facts.halo // CELL) * CELL
    torch.testing.assert_close(tile[..., inner - first :], whole[..., inner:], rtol=0, atol=1e-6)


def test_wrong_plans_and_routes_are_refused() -> None:
    other = ChannelPlan((("level0", 16), ("level1", 16), ("level2", 16)))
    with pytest.raises(InputError, match="differ in level0 alone"):
        RoutedHalfUNet(NET, [PLANS[0], other])
    with pytest.raises(InputError, match="differ in level0 alone"):
        RoutedHalfUNet(NET, [])
    conditioned = HalfUNet(widths=((16, 24), (16,)), blocks=(1, 1), convs="hyper")
    with pytest.raises(InputError, match="depend on a level"):
        RoutedHalfUNet(conditioned, [conditioned.space.widest])
    x = noisy(100, 70)
    with pytest.raises(InputError, match="needs a route"):
        ROUTED(x, torch.zeros(1, 2, dtype=torch.int64), sigma=SIGMA)
    with pytest.raises(InputError, match="from 0 to 2"):
        ROUTED(x, torch.full((2, 2), 3), sigma=SIGMA)
    with pytest.raises(InputError, match="needs a route"):
        ROUTED(x.expand(2, -1, -1, -1), torch.zeros(2, 2, dtype=torch.int64), sigma=SIGMA)
    with pytest.raises(InputError, match="takes"):
        ROUTED(x[:, :1], torch.zeros(2, 2, dtype=torch.int64), sigma=SIGMA)
