"""What is special to the default network."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.network import pad_to_multiple
from grainwise.networks.registry import create_network, name_of


def test_it_spans_12k_to_117k_macs() -> None:
    net = HalfUNet()
    assert net.macs_per_pixel(net.space.narrowest) == 11860
    assert net.macs_per_pixel(net.space.widest) == 116864


def test_level_0_is_never_under_16() -> None:
    with pytest.raises(InputError, match="at least 16"):
        HalfUNet(widths=((8, 16), (16, 32)), blocks=(1, 1))


@pytest.mark.parametrize("options", [{"blocks": (2, 2)}, {"widths": ((16,),), "blocks": (1,)}, {"blocks": (0, 1, 1)}])
def test_levels_must_fit(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="level"):
        HalfUNet(**options)


def test_an_extracted_network_is_plain_torch() -> None:
    net = HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1))
    leaves = [m for m in net.extract(net.space.widest).modules() if not list(m.children())]
    assert {type(leaf) for leaf in leaves} == {nn.Conv2d, nn.ConvTranspose2d}


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="half_unet"):
        create_network("half_unett")
    with pytest.raises(InputError, match="cannot be built"):
        create_network("half_unet", {"depth": 3})
    with pytest.raises(UnknownNameError):
        name_of(nn.Identity())  # type: ignore[arg-type]


@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.sampled_from([2, 8, 16]))
def test_padding_mirrors_at_any_size(height: int, width: int, multiple: int) -> None:
    x = torch.rand(1, 1, height, width)
    padded = pad_to_multiple(x, multiple)
    assert padded.shape[2] % multiple == 0
    assert padded.shape[3] % multiple == 0
    assert padded.shape[2] - height < multiple
    assert torch.equal(padded[:, :, :height, :width], x)
    if padded.shape[2] > height > 1:
        assert torch.equal(padded[:, :, height, :width], x[:, :, height - 2, :])


def test_its_effect_fades_out_with_the_level() -> None:
    net = HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1)).eval()
    plan, x = net.space.widest, torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(net(x, plan, sigma=torch.zeros(1)), x)
        moved = [float((net(x, plan, sigma=torch.tensor([s / 255])) - x).abs().mean()) for s in (0.25, 0.5, 1.0, 2.0)]
    assert moved == pytest.approx([moved[-1] * share for share in (0.125, 0.25, 0.5, 1.0)], rel=0.05)
