"""PReLU and factor at each width."""

import pytest
import torch
from torch import nn

from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelDim, Channels, ChannelSpace
from grainwise.primitives.slim_pointwise import SlimFactor, SlimPReLU, prelu

A = ChannelDim("a", (2, 4))
SPACE = ChannelSpace((A,))


@pytest.mark.parametrize("plan", [SPACE.narrowest, SPACE.widest])
def test_prelu_is_torchs_and_its_extract(plan: object) -> None:
    layer = SlimPReLU(Channels.of(A) + Channels.of(A))
    with torch.no_grad():
        layer.weight.copy_(torch.arange(8) / 8)
    width = plan["a"]  # type: ignore[index]
    x = torch.randn(1, 2 * width, 3, 3)
    plain = layer.extract(plan)
    assert isinstance(plain, nn.PReLU)
    slopes = torch.cat([layer.weight[:width], layer.weight[4 : 4 + width]])
    assert torch.equal(plain.weight, slopes)
    assert torch.equal(layer(x, plan), plain(x))
    assert torch.equal(layer(x, plan), nn.functional.prelu(x, slopes))
    assert layer(x.bfloat16(), plan).dtype == plain(x.bfloat16()).dtype == torch.bfloat16


def test_the_gradient_of_prelu_is_torchs() -> None:
    x, slopes = torch.randn(2, 4, 5, 5, requires_grad=True), torch.tensor([0.25, 0.0, -0.5, 2.0], requires_grad=True)
    y, expected = prelu(x, slopes), nn.functional.prelu(x, slopes)
    assert torch.equal(y, expected)
    assert torch.equal(prelu(x.detach(), slopes), expected)
    slope = torch.randn_like(y)
    for one, other in zip(
        torch.autograd.grad(y, (x, slopes), slope), torch.autograd.grad(expected, (x, slopes), slope), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_factor_and_its_extract_have_weights_of_their_own() -> None:
    layer = SlimFactor(A, initial=0.5)
    plain = layer.extract(SPACE.narrowest)
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(plain(x), layer(x, SPACE.narrowest))
    with torch.no_grad():
        plain.weight.fill_(2)
    assert float(layer.weight.detach()) == 0.5
    assert layer.macs_per_pixel(SPACE.widest) == SlimPReLU(A).macs_per_pixel(SPACE.widest) == 0


@pytest.mark.parametrize("layer", [SlimFactor(A, initial=1.0), SlimPReLU(A)])
def test_another_width_is_refused(layer: nn.Module) -> None:
    with pytest.raises(InputError, match="takes"):
        layer(torch.randn(1, 3, 3, 3), SPACE.narrowest)
