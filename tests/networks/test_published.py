"""Published checkpoints, with random weights in place of the trained ones."""

from pathlib import Path

import pytest
import torch
from tests.networks.published import Mpr, Weights, danet, generator, snet, vdnet
from torch import nn

from grainwise.core.errors import UnknownNameError, WeightsError
from grainwise.networks.danet import DANet, NoiseGenerator
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.published import load_published
from grainwise.networks.ratios import RatioNetwork
from grainwise.networks.vdnet import NoiseVarianceNet, VDNet

X = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def file_of(tmp_path: Path, held: object) -> Path:
    path = tmp_path / "published.pt"
    torch.save(held, path)
    return path


def prefixed(weights: Weights) -> dict[str, torch.Tensor]:
    return {f"module.{name}": value for name, value in weights.items()}


def same_at_ratio_1(network: RatioNetwork, expected: torch.Tensor) -> None:
    plan = network.plan_at(1)
    for output in (network(X, plan), network.extract(plan)(X)):
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ratios", [(1, 1), (0.2, 1.5)])
@pytest.mark.parametrize("attention", [False, True])
def test_vdnet(tmp_path: Path, ratios: tuple[float, float], attention: bool) -> None:
    weights = Weights()
    expected, variance = vdnet(weights, X, 16), snet(weights, X)
    assert len(weights) == 46
    path = file_of(tmp_path, prefixed(weights))
    network, sigma = VDNet(base=16, ratios=ratios, attention=attention), NoiseVarianceNet()
    load_published(network, path)
    load_published(sigma, path)
    same_at_ratio_1(network, expected)
    torch.testing.assert_close(torch.cat(sigma(X), 1), variance)


@pytest.mark.parametrize("with_generator", [False, True])
def test_danet(tmp_path: Path, with_generator: bool) -> None:
    weights, others = Weights(), Weights()
    expected = danet(weights, X, 8)
    z = torch.randn(2, 1, 32, 48)
    noisy = generator(others, X, z, 8)
    assert len(weights) == len(others) == 50
    held = {"D": dict(weights), "G": dict(others)} if with_generator else prefixed(weights)
    path = file_of(tmp_path, held)
    network = DANet(base=8, ratios=(0.2, 1.5))
    load_published(network, path)
    same_at_ratio_1(network, expected)
    if with_generator:
        made = NoiseGenerator(base=8)
        load_published(made, path)
        torch.testing.assert_close(made(X, z), noisy)


@pytest.mark.parametrize("module", [False, True])
def test_mprnet(tmp_path: Path, module: bool) -> None:
    weights = Weights()
    stages = Mpr(weights, (16, 24, 32, 24))(X)
    assert len(weights) == 316
    path = file_of(tmp_path, {"epoch": 1, "state_dict": prefixed(weights) if module else dict(weights)})
    network = MPRNet(base=16, step=8, step_full=8)
    load_published(network, path)
    same_at_ratio_1(network, stages[0])
    for output, expected in zip(network.stages(X, network.plan_at(1)), stages, strict=True):
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


def test_the_published_shapes() -> None:
    weights = Weights()
    with torch.device("meta"):
        small = torch.empty(1, 3, 16, 16)
        vdnet(weights, small, 64)
        Mpr(weights, (80, 128, 176, 112))(small)
    shapes = {
        "DNet.up_path.0.up.weight": (512, 256, 2, 2),
        "DNet.last.weight": (6, 64, 3, 3),
        "concat12.weight": (80, 160, 3, 3),
        "concat23.weight": (112, 160, 3, 3),
        "tail.weight": (3, 112, 3, 3),
        "stage1_encoder.encoder_level1.0.CA.conv_du.0.weight": (20, 80, 1, 1),
    }
    assert {name: tuple(weights[name].shape) for name in shapes} == shapes


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run",)


def test_files_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = DANet(base=8)
    path = tmp_path / "published.pt"
    with pytest.raises(WeightsError, match="no file"):
        load_published(network, path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="no readable torch checkpoint"):
        load_published(network, path)
    torch.save(Harmful(), path)
    with pytest.raises(WeightsError, match="no readable torch checkpoint"):
        load_published(network, path)
    assert not capsys.readouterr().out
    torch.save({"D": 3}, path)
    with pytest.raises(WeightsError, match="holds no state dict"):
        load_published(network, path)
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), path)
    with pytest.raises(WeightsError, match="does not hold a DANet"):
        load_published(network, path)
    good = Weights()
    danet(good, X, 8)
    whole = path.parent / "whole.pt"
    torch.save(dict(good), whole)
    path.write_bytes(whole.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="no readable torch checkpoint"):
        load_published(network, path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = Weights()
    danet(weights, X, 8)
    path = file_of(tmp_path, dict(weights))
    with pytest.raises(WeightsError, match="does not hold a DANet of these base widths"):
        load_published(DANet(base=16), path)
    with pytest.raises(WeightsError, match="does not hold a VDNet"):
        load_published(VDNet(base=8), path)
    weights["extra.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"more than a DANet: extra\.weight"):
        load_published(DANet(base=8), file_of(tmp_path, dict(weights)))
    with pytest.raises(UnknownNameError):
        load_published(HalfUNet(widths=((16,), (16,)), blocks=(1, 1)), path)
