"""A predictor fitted to a network knows where width pays."""

from dataclasses import dataclass

import pytest
import torch

from grainwise.core.errors import InputError, TrainingError
from grainwise.data.crops import Batch
from grainwise.networks.gain_predictor import CELL, FEATURES
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.mdrn import MDRN, SIZES
from grainwise.training.release import fit_predictor
from grainwise.training.routing import SIDE, families_of, fit, measure


class HalfTextured:
    """Crops whose left two thirds are flat, and whose right third is textured."""

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        generator = torch.Generator().manual_seed(seed[-1])
        clean = torch.full((count, 3, size, size), 0.5)
        clean[..., 2 * CELL :] += 0.9 * (torch.rand(count, 1, size, size - 2 * CELL, generator=generator) - 0.5)
        sigma = torch.full((count,), 0.1)
        return Batch(clean, clean + 0.1 * torch.randn(clean.shape, generator=generator), sigma)


@dataclass
class Dulling:
    """Stands in for a supernet: a narrow plan blurs, the wide one leaves the picture as it is."""

    space: object

    def extract(self, plan: object) -> object:
        blurred = plan == self.space.narrowest  # type: ignore[attr-defined]

        def run(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(x, 9, 1, 4) if blurred else x

        return run


def test_it_learns_that_texture_needs_the_wide_plan_and_flat_parts_the_narrow_one() -> None:
    network = HalfUNet(widths=((16, 24), (16, 24)), blocks=(1, 1))
    narrow, wide = network.space.narrowest, network.space.plan({"level0": 24, "level1": 16})
    stand_in = Dulling(network.space)
    predictor = fit(stand_in, [[narrow, wide]], HalfTextured(), crops=24, steps=300)  # type: ignore[arg-type]
    batch = HalfTextured().batch(SIDE, 1, (12345,))
    error = predictor(batch.noisy, batch.sigma)[0]
    assert (error[0, :, 2] > error[1, :, 2]).all()
    assert (error[0, :, 0] < error[1, :, 0]).all()


def test_what_is_measured_has_a_best_plan_in_every_cell() -> None:
    network = HalfUNet(widths=((16, 24), (16, 24)), blocks=(1, 1)).eval()
    families = families_of(network, [network.space.narrowest, network.space.widest])
    assert [[plan["level1"] for plan in family] for family in families] == [[16, 16], [24, 24]]
    features, excess = measure(network, families, HalfTextured(), crops=4)
    assert features.shape == (36, FEATURES)
    assert excess.shape == (36, 4)
    torch.testing.assert_close(excess.amin(1), torch.zeros(36))


def test_families_are_spread_over_the_costs() -> None:
    network = HalfUNet()
    plans = [network.space.plan({"level0": 16, "level1": a, "level2": b}) for a in (32, 40, 48, 64) for b in (48, 80)]
    kinds = [(family[0]["level1"], family[0]["level2"]) for family in families_of(network, plans)]
    assert kinds[0] == (32, 48)
    assert kinds[-1] == (64, 80)
    assert len(kinds) == 3
    assert len(families_of(network, plans[:1])) == 1


def test_too_few_crops_and_other_networks_are_refused() -> None:
    network = HalfUNet(widths=((16, 24), (16, 24)), blocks=(1, 1))
    for crops in (0, 3, 5):
        with pytest.raises(InputError, match="multiple of 4"):
            fit(network, [[network.space.narrowest]], HalfTextured(), crops=crops)
    with pytest.raises(TrainingError, match="predictor_crops=0"):
        fit_predictor(MDRN(**SIZES["tiny"]), [], HalfTextured(), crops=4)
