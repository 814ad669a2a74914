"""Teaching all levels at once."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from grainwise.core.errors import InputError, TrainingError
from grainwise.data.crops import Batch, NoisyCrops
from grainwise.data.degradations import LevelCrops
from grainwise.networks.cfsnet import CFSNet
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.network import Network
from grainwise.training.held_out import HeldOut
from grainwise.training.levels import LevelsMethod, LevelsSettings, modulation
from grainwise.training.loop import LoopConfig, train
from grainwise.training.release import recommended_plans
from grainwise.training.supernet import SupernetMethod

SMALL = {"blocks": 1, "stream": (16, 24), "inner": (8, 16)}
LEVELS = {"denoise": ("gaussian", (0.05, 0.2)), "dejpeg": ("jpeg", (10, 50)), "upscale": ("bicubic", (2, 4))}


def crops(data: NoisyCrops, task: str, **options: object) -> LevelCrops:
    degradation, levels = LEVELS[task]
    return LevelCrops(corpus=data.corpus, degradation=degradation, levels=levels, shares={1: 1.0}, **options)


@pytest.fixture(autouse=True)
def same_start() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("task", LEVELS)
def test_the_loss_is_the_plain_sum_over_levels(data: NoisyCrops, task: str) -> None:
    network = HyperRes(**SMALL, task=task)
    batch = crops(data, task).batch(32, 2, (0,))
    losses = LevelsMethod(network)(batch, 0)
    expected = []
    for index, value in enumerate(LEVELS[task][1]):
        rows = slice(2 * index, 2 * index + 2)
        output = network(batch.noisy[rows], network.space.widest, network.facts.level(float(value)))
        expected.append(F.l1_loss(output, batch.clean[rows]))
        torch.testing.assert_close(losses[f"level{index}"], expected[-1])
    torch.testing.assert_close(losses["loss"], expected[0] + expected[1])
    whole = F.l1_loss(network(batch.noisy, network.space.widest, network.facts.level(batch.degradation)), batch.clean)
    torch.testing.assert_close(losses["loss"], 2 * whole)


@pytest.mark.parametrize(
    "make", [lambda: HyperRes(**SMALL), lambda: HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1), convs="hyper")]
)
def test_slimmable_and_level_conditioned_at_once(data: NoisyCrops, make: object) -> None:
    network = make()
    batch = crops(data, "denoise").batch(32, 2, (0,))
    losses = LevelsMethod(network, subnets=3, synergy=True, seed=5)(batch, 3)
    sandwich = SupernetMethod(network, subnets=3, synergy=True, seed=5)
    parts = [
        Batch(*(part[rows] for part in (batch.clean, batch.noisy, batch.sigma))) for rows in (slice(2), slice(2, 4))
    ]
    torch.testing.assert_close(losses["loss"], sum(sandwich(part, 3)["loss"] for part in parts))
    losses["loss"].backward()
    slopes = [p for name, p in network.named_parameters() if name.endswith("weight_slope")]
    assert slopes
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in slopes)


def test_a_plain_network_can_be_taught_all_levels(data: NoisyCrops) -> None:
    batch = crops(data, "dejpeg").batch(32, 2, (0,))
    network = HyperRes(**SMALL, task="dejpeg", convs="slim")
    losses = LevelsMethod(network)(batch, 0)
    whole = F.l1_loss(network(batch.noisy, network.space.widest), batch.clean)
    torch.testing.assert_close(losses["loss"], 2 * whole)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (lambda: HyperRes(**SMALL), ("slope",)),
        (lambda: HyperRes(**SMALL, convs="hyper-quadratic"), ("slope", "curvature")),
        (lambda: HyperRes(**SMALL, convs="adafm", conditioned="body"), ("gain", "offset")),
        (lambda: HyperRes(**SMALL, convs="scaled", conditioned="residual"), ("scale_slope",)),
        (lambda: CFSNet(blocks=2, width=16), ("tuning1.weight", "tuning2.weight", "shared", "each")),
    ],
)
def test_modulation_learns_alone_and_says_nothing_at_level_0(
    data: NoisyCrops, network: object, names: tuple[str, ...]
) -> None:
    net: Network = network()
    x, plan = torch.rand(1, 3, 16, 16), net.space.widest
    before = {level: net(x, plan, level) for level in (0.0, 1.0)}
    method = LevelsSettings(learns="modulation").build(net, seed=0)
    learning = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert learning
    assert all(any(word in name for word in names) for name in learning)
    assert all(any(word in name for name in learning) for word in names)
    method(crops(data, "denoise").batch(32, 1, (0,)), 0)["loss"].backward()
    with torch.no_grad():
        for parameter in modulation(net):
            parameter.add_(0.3 * torch.randn_like(parameter))
    assert torch.equal(net(x, plan, 0.0), before[0.0])
    assert not torch.allclose(net(x, plan, 1.0), before[1.0])


@pytest.mark.parametrize("task", LEVELS)
def test_it_learns(data: NoisyCrops, tmp_path: Path, task: str) -> None:
    losses: list[float] = []
    network = HyperRes(blocks=1, stream=(16,), task=task)
    config = LoopConfig(steps=60, batch=2, crops=((0, 32),), warmup=5, precision="fp32", learning_rate=2e-3)
    result = train(
        config, LevelsMethod(network), crops(data, task), tmp_path, report=lambda p: losses.append(p.losses["loss"])
    )
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    assert any(value.abs().sum() > 0 for name, value in result.weights.items() if name.endswith("weight_slope"))


def test_held_out_crops_and_plans_are_scored_at_their_levels(data: NoisyCrops) -> None:
    network = HyperRes(**SMALL, task="dejpeg").eval()
    held_out = HeldOut(crops(data, "dejpeg", drawn=True), "jpeg:10-50", size=32, count=8)
    plans = recommended_plans(network, held_out)
    assert {plan.name for plan in plans} >= {"fast", "best"}
    two = HalfUNet(widths=((16, 24), (16, 24)), blocks=(1, 1), task="dejpeg", convs="hyper").eval()
    named = {plan.name: plan.plan for plan in recommended_plans(two, held_out) if plan.name}
    assert list(named) == ["fast", "balanced", "best"]
    assert len(set(named.values())) == 3
    one = HyperRes(blocks=1, stream=(16,), task="dejpeg").eval()
    assert [plan.name for plan in recommended_plans(one, held_out)] == ["best"]


def test_wrong_settings_and_batches_are_refused(data: NoisyCrops) -> None:
    network = HyperRes(**SMALL)
    for wrong in ({"distance": "l3"}, {"learns": "slopes"}, {"synergy": True}, {"subnets": 0}):
        with pytest.raises(InputError):
            LevelsMethod(network, **wrong)
    with pytest.raises(InputError, match="nothing that enters"):
        LevelsMethod(HyperRes(**SMALL, convs="slim"), learns="modulation")
    with pytest.raises(TrainingError, match="LevelCrops"):
        LevelsMethod(network)(data.batch(32, 2, (0,)), 0)
