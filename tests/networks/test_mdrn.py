"""What is special to MDRN."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from grainwise.core.errors import InputError
from grainwise.networks import mdrn
from grainwise.networks.mdrn import MDRN, SIZES, ChannelAttention

SMALLEST = {"widths": ((16, 24),) * 4, "blocks": 1}


def test_the_table_of_sizes_is_true() -> None:
    table = Path(mdrn.__file__).read_text()
    rows = dict(re.findall(r"^\| (\w+) \| ([\d,]+ \| [\d,]+) \|$", table, re.MULTILINE))
    assert set(rows) == set(SIZES)
    for name, config in SIZES.items():
        net = MDRN(**config)
        macs, parameters = (int(figure.replace(",", "")) for figure in rows[name].split(" | "))
        assert net.space.narrowest == net.space.widest
        assert net.macs_per_pixel(net.space.widest) == macs
        assert sum(p.numel() for p in net.parameters()) == parameters
    assert [round(MDRN(**c).macs_per_pixel(MDRN(**c).space.widest), -4) for c in SIZES.values()] == [2e4, 6e4, 14e4]


def test_the_default_is_slimmable_from_tiny_to_small() -> None:
    net = MDRN()
    for plan, size in ((net.space.narrowest, "tiny"), (net.space.widest, "small")):
        alone = MDRN(**SIZES[size])
        assert net.macs_per_pixel(plan) == alone.macs_per_pixel(alone.space.widest)
        shapes = [p.shape for p in net.extract(plan).parameters()]
        assert shapes == [p.shape for p in alone.extract(alone.space.widest).parameters()]


def test_a_block_subtracts_what_it_finds_at_each_scale_in_turn() -> None:
    net = MDRN(**SMALLEST)
    plan, x = net.space.widest, torch.rand(2, 24, 8, 16)
    block = net.blocks[0]
    coarse, middle, fine = block.corrections
    u4 = coarse(x, plan)
    u2 = middle(u4, plan)
    u1 = fine(u2, plan)
    noise = coarse.degrade(x, plan)
    assert noise.shape == (2, 24, 2, 4)
    for conv in (coarse.conv1, coarse.conv2):
        noise = conv(noise, plan).relu()
    torch.testing.assert_close(u4, x - coarse.reconstruct(noise, plan))
    torch.testing.assert_close(u1, u2 - fine.conv2(fine.conv1(u2, plan).relu(), plan))
    torch.testing.assert_close(block(x, plan), u1 + block.fuse.bias[:, None, None])
    nn.init.normal_(block.fuse.weight)
    torch.testing.assert_close(block(x, plan), u1 + block.fuse(torch.cat([x, u4, u2, u1], 1), plan))


def test_reconstruction_is_a_1x1_with_a_pixel_shuffle() -> None:
    plain = MDRN(**SMALLEST).extract(MDRN(**SMALLEST).space.widest)
    layer = plain.blocks[0].corrections[0].reconstruct
    x = torch.rand(1, 24, 3, 5)
    as_1x1 = layer.weight.permute(1, 2, 3, 0).reshape(24 * 16, 24, 1, 1)
    shuffled = nn.functional.pixel_shuffle(nn.functional.conv2d(x, as_1x1), 4)
    torch.testing.assert_close(layer(x), shuffled)


def test_grey_and_the_level_that_fades_out() -> None:
    torch.manual_seed(0)
    net = MDRN(**SMALLEST, channels=1).eval()
    x = torch.rand(2, 1, 15, 21)
    with torch.inference_mode():
        assert net(x, net.space.widest, sigma=torch.full((2,), 0.1)).shape == x.shape
        assert torch.equal(net(x, net.space.widest, sigma=torch.zeros(2)), x)


def test_global_attention_is_stated_and_agrees_when_extracted() -> None:
    torch.manual_seed(0)
    net = MDRN(**SMALLEST, attention="global").eval().requires_grad_(False)
    assert not net.facts.exact_tiles
    assert net.config["attention"] == "global"
    x, sigma = torch.rand(1, 3, 32, 40), torch.tensor([0.1])
    for plan in (net.space.narrowest, net.space.widest):
        plain = net.extract(plan)
        assert torch.equal(net(x, plan, sigma=sigma), plain(x, sigma=sigma))
        with FlopCounterMode(display=False) as counter:
            plain(x, sigma=sigma)
        once = 2 * plan["stream"] * 3
        assert counter.get_total_flops() / 2 == net.macs_per_pixel(plan) * 32 * 40 + once
    part = next(m for m in net.modules() if isinstance(m, ChannelAttention))
    y = torch.rand(2, 24, 4, 4) - torch.linspace(0, 2, 2 * 24).view(2, 24, 1, 1).sin()
    factors = part(y, net.space.widest) / y
    torch.testing.assert_close(factors, factors[:, :, :1, :1].expand_as(factors))
    assert not torch.allclose(factors[0], factors[1])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"widths": ((8, 16), (16,), (16,), (16,))}, "at least 16"),
        ({"widths": ((16,), (16,), (16,))}, "3 scales"),
        ({"blocks": 0}, "one block"),
        ({"attention": "local"}, "one of none, global"),
    ],
)
def test_wrong_configurations_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MDRN(**{**SMALLEST, **wrong})
