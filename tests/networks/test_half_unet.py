"""What is special to the default network."""

from importlib import resources

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.networks.checkpoint import load_weights
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


SMALL_LEVELS = {"widths": ((16, 24), (16, 32)), "blocks": (1, 1), "convs": "hyper"}


def started(**options: object) -> HalfUNet:
    """A network whose slopes are not zero."""
    net = HalfUNet(**{**SMALL_LEVELS, **options}).eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        if name.endswith("_slope"):
            parameter.normal_(std=0.05)
    return net


def test_a_network_for_another_task_is_told_its_level_and_no_sigma() -> None:
    net = started(task="dejpeg")
    plan, x = net.space.widest, torch.rand(1, 3, 20, 12)
    assert not net.facts.needs_sigma
    assert (net.facts.task, net.facts.level_range, net.facts.sigma_max) == ("dejpeg", (100.0, 0.0), 0.0)
    out = net(x, plan, 0.9)
    assert torch.equal(out, net(x, plan, torch.tensor([0.9])))
    assert torch.equal(out, net.extract(plan)(x, 0.9))
    assert torch.equal(out, net.extract(plan, 0.9)(x))
    torch.testing.assert_close(out, net(x, plan, torch.full((1, 1, 20, 12), 0.9)))
    for moved in ("plane", "kernels"):  # the level enters in both ways
        other = started(task="dejpeg")
        other.load_state_dict(net.state_dict())
        if moved == "plane":
            other.head.weight[:, -1] = 0
        else:
            for name, parameter in other.named_parameters():
                if name.endswith("_slope"):
                    parameter.zero_()
        assert not torch.equal(other(x, plan, 0.9), out)
    with pytest.raises(InputError, match="leave sigma out"):
        net.extract(plan, 0.9)(x, sigma=torch.tensor([0.1]))


def test_level_0_gives_back_the_picture() -> None:
    net = started(task="upscale")
    plan, x = net.space.widest, torch.rand(1, 3, 16, 16)
    assert torch.equal(net(x, plan, 0.0), x)
    moved = [float((net(x, plan, level) - x).abs().mean()) for level in (0.0025, 0.005, 0.01, 0.02)]
    assert moved == pytest.approx([moved[-1] * share for share in (0.125, 0.25, 0.5, 1.0)], rel=0.05)
    half = torch.zeros(1, 1, 16, 16)
    half[..., 8:] = 0.5
    out = net(x, plan, half)
    assert torch.equal(out[..., :8], x[..., :8])
    assert not torch.equal(out[..., 8:], x[..., 8:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "dejpeg", "convs": "slim"}, "convolutions that take its level"),
        ({"task": "upscale", "sigma_max": 0.2}, "has no sigma_max"),
        ({"sigma_max": 25}, "image units"),
    ],
)
def test_what_a_task_cannot_take_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        HalfUNet(**{**SMALL_LEVELS, **options})
    with pytest.raises(UnknownNameError, match="Did you mean dejpeg"):
        HalfUNet(**{**SMALL_LEVELS, "task": "dejpg"})


def test_the_shipped_network_is_the_one_for_noise() -> None:
    with resources.as_file(resources.files("grainwise") / "weights" / "default.safetensors") as path:
        net = load_weights(path).network
    assert (net.facts.task, net.facts.level_range, net.facts.needs_sigma) == ("denoise", None, True)
    assert net.facts.sigma_max == pytest.approx(75 / 255)
    assert net.config["sigma_max"] == net.facts.sigma_max
