"""Channel attention, pooled layers and what an extract shares."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from grainwise.core.errors import PlanError
from grainwise.primitives.attention import SigmoidAttention, SlimPooled, TanhAttention, pooled, tanh_scale
from grainwise.primitives.channels import ChannelDim, Channels, ChannelSpace
from grainwise.primitives.plain_conv import PLAIN
from grainwise.primitives.slim_conv import SLIMMABLE, SlimConv2d, extract

DIM = ChannelDim("c", (8, 16, 24))
SPACE = ChannelSpace((DIM,))
PLANS = [SPACE.plan({"c": width}) for width in DIM.widths]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_sigmoid_attention_is_its_formula_and_its_extract(plan) -> None:
    attention = SigmoidAttention(DIM, squeeze=4, bias=False)
    c = plan["c"]
    x = torch.randn(2, c, 5, 7)
    w1, w2 = attention.reduce.weight[: c // 4, :c, 0, 0], attention.expand.weight[:c, : c // 4, 0, 0]
    scale = torch.sigmoid(F.relu(x.mean((2, 3)) @ w1.T) @ w2.T)
    torch.testing.assert_close(attention(x, plan), x * scale[:, :, None, None])
    assert torch.equal(attention(x, plan), extract(attention, plan)(x))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_tanh_attention_starts_at_the_identity_and_follows_eq_9(plan) -> None:
    attention = TanhAttention(24, DIM, 8)
    tap, c = torch.randn(2, 24, 5, 7), plan["c"]
    assert torch.equal(attention(tap, plan), tap[:, :c])
    nn.init.normal_(attention.expand.weight)
    reduced = F.relu(tap.mean((2, 3)) @ attention.reduce.weight[:, :, 0, 0].T + attention.reduce.bias)
    torch.testing.assert_close(attention.reduced(tap, plan)[:, :, 0, 0], reduced)
    scale = 1 + torch.tanh(reduced @ attention.expand.weight[:c, :, 0, 0].T)
    torch.testing.assert_close(attention(tap, plan), tap[:, :c] * scale[:, :, None, None])
    assert torch.equal(attention(tap, plan), extract(attention, plan)(tap))


def test_the_reduced_feature_does_not_depend_on_the_plan() -> None:
    attention = TanhAttention(24, DIM, 8)
    tap = torch.randn(1, 24, 4, 4)
    assert torch.equal(attention.reduced(tap, PLANS[0]), attention.reduced(tap, PLANS[2]))


def test_pooling_any_number_of_axes() -> None:
    x = torch.rand(2, 3, 4, 5, 6)
    torch.testing.assert_close(pooled(x), x.mean((2, 3, 4))[:, :, None, None])
    assert tanh_scale(torch.tensor(0.0)) == 1


def test_gradients() -> None:
    attention = TanhAttention(24, DIM, 8).double()
    nn.init.normal_(attention.expand.weight)
    tap = torch.randn(2, 24, 3, 3, dtype=torch.float64, requires_grad=True)
    inputs = (tap, *attention.parameters())
    assert torch.autograd.gradcheck(lambda x, *w: attention(x, PLANS[1]), inputs, fast_mode=True)


def test_a_pooled_layer_costs_per_picture() -> None:
    layer = SlimPooled(DIM, Channels.of(DIM).divided(4))
    for plan in PLANS:
        assert layer.macs_per_pixel(plan) == 0
        assert layer.macs_per_picture(plan) == plan["c"] ** 2 / 4


def test_only_whole_shares_of_a_layout() -> None:
    assert Channels.of(12).divided(4).widest == 3
    with pytest.raises(PlanError, match="divisible by 16"):
        Channels.of(DIM).divided(16)
    with pytest.raises(PlanError, match="divisible by 5"):
        Channels.of(12).divided(5)


def test_an_extract_copies_other_parameters_and_keeps_them_shared() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SlimConv2d(DIM, DIM)
            self.first = self.second = nn.PReLU()
            self.scale = nn.Parameter(torch.ones(1))
            self.norm = nn.BatchNorm2d(3, affine=False)

    module = Shared()
    plain = extract(module, PLANS[0])
    assert plain.first is plain.second
    assert plain.first is not module.first
    plain.double()
    assert module.first.weight.dtype is module.scale.dtype is module.norm.running_mean.dtype is torch.float32
    assert plain.scale.dtype is torch.float64


def test_the_plain_set_has_the_layers_of_full_width() -> None:
    plan = SPACE.widest
    for name, arguments in {
        "conv": (3, DIM),
        "depthwise": (DIM,),
        "transposed": (DIM, 5),
    }.items():
        slim, plain = getattr(SLIMMABLE, name)(*arguments), getattr(PLAIN, name)(*arguments)
        plain.load_state_dict(slim.state_dict())
        x = torch.randn(1, slim.inputs.widest, 6, 6)
        assert torch.equal(plain(x), slim(x, plan))
