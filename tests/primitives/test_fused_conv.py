"""Fused convolutions equal what they fuse."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from grainwise.primitives import fused_conv
from grainwise.primitives.channels import ChannelDim, ChannelSpace
from grainwise.primitives.fused_conv import conv_add, conv_leaky_relu, conv_relu
from grainwise.primitives.slim_conv import SlimConv2d


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.04)])
@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"stride": 2}, {"groups": 8}, {"kernel_size": 1, "padding": 0}]
)
def test_fused_equals_separate(dtype: torch.dtype, tolerance: float, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, **{"kernel_size": 3, "padding": 1, **options}).to(dtype)
    x = torch.randn(2, 8, 20, 24).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        plain = conv(x)
        other = torch.randn_like(plain)
        kept = other.clone()
        assert fused_conv._can_fuse(conv, x) == fused_conv._FUSED
        torch.testing.assert_close(conv_relu(conv, x), F.relu(plain), atol=tolerance, rtol=tolerance)
        leaky = F.leaky_relu(plain, 0.2)
        torch.testing.assert_close(conv_leaky_relu(conv, x, 0.2), leaky, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(conv_add(conv, x, other), plain + other, atol=tolerance, rtol=tolerance)
        assert torch.equal(other, kept)


def test_training_and_slimmable_layers_take_the_plain_way() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    x = torch.randn(1, 4, 8, 8)
    assert not fused_conv._can_fuse(conv, x)
    conv_add(conv, conv_relu(conv, x), x).sum().backward()
    assert conv.weight.grad is not None
    dim = ChannelDim("a", (2, 4))
    slim, plan = SlimConv2d(dim, dim), ChannelSpace((dim,)).narrowest
    with torch.inference_mode():
        assert not fused_conv._can_fuse(slim, x)
        y = conv_relu(slim, x[:, :2], plan)
        assert torch.equal(y, F.relu(slim(x[:, :2], plan)))
        y = conv_leaky_relu(slim, x[:, :2], 0.2, plan)
        assert torch.equal(y, F.leaky_relu(slim(x[:, :2], plan), 0.2))


def test_export_sees_plain_operations() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return conv_add(self.conv, conv_relu(self.conv, x), x)

    with torch.inference_mode():
        program = torch.export.export(Block().eval(), (torch.randn(1, 4, 8, 8),))
    assert "mkldnn" not in str(program.graph)
