"""Deep network interpolation."""

import pytest
import torch

from grainwise.core.errors import InputError
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.interpolation import interpolated

SMALL = {"blocks": 1, "stream": (16,), "convs": "slim"}


def test_the_ends_are_the_networks_and_the_middle_their_mean() -> None:
    first, second = (HyperRes(**SMALL).state_dict() for _ in range(2))
    for share, expected in ((0.0, first), (1.0, second)):
        for name, value in interpolated(first, second, share).items():
            assert torch.equal(value, expected[name])
    for name, value in interpolated(first, second, 0.5).items():
        torch.testing.assert_close(value, (first[name] + second[name]) / 2)


def test_it_is_a_level_conditioned_network_with_the_difference_as_slope() -> None:
    first, second = (HyperRes(**SMALL) for _ in range(2))
    second.load_state_dict({k: v for k, v in first.state_dict().items() if "blocks" not in k}, strict=False)
    hyper = HyperRes(blocks=1, stream=(16,), convs="hyper")
    hyper.load_state_dict(first.state_dict(), strict=False)
    with torch.no_grad():
        for name, parameter in hyper.named_parameters():
            if name.endswith("_slope"):
                base = name.removesuffix("_slope")
                parameter.copy_(second.get_parameter(base) - first.get_parameter(base))
    middle = HyperRes(**SMALL)
    middle.load_state_dict(interpolated(first.state_dict(), second.state_dict(), 0.3))
    x, plan = torch.rand(1, 3, 12, 12), middle.space.widest
    torch.testing.assert_close(hyper(x, plan, 0.3), middle(x, plan))


def test_unlike_networks_are_refused() -> None:
    with pytest.raises(InputError, match="differ in"):
        interpolated(HyperRes(**SMALL).state_dict(), HyperRes(**SMALL, channels=1).state_dict(), 0.5)
    with pytest.raises(InputError, match="differ in blocks.1"):
        interpolated(HyperRes(**SMALL).state_dict(), HyperRes(**{**SMALL, "blocks": 2}).state_dict(), 0.5)
