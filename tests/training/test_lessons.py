"""What the sub-networks of each backbone learn from (DDS-Net, eq. 6 with the losses of each paper)."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.data.crops import Batch
from grainwise.networks.danet import DANet
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.vdnet import VDNet
from grainwise.training.distances import DISTANCES, charbonnier, rounded_distance
from grainwise.training.edges import edge_distance
from grainwise.training.lessons import VariationalLesson
from grainwise.training.seeds import PLANS, seed_of
from grainwise.training.supernet import (
    StagesSettings,
    SupernetMethod,
    SupernetSettings,
    VariationalSettings,
)
from grainwise.training.variational import VariationalLoss, estimated_variance, gaussian_divergence, known_variance


def some_batch(size: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(2, 3, size, size, generator=generator)
    sigma = torch.tensor([0.05, 0.1])
    return Batch(clean, clean + sigma.view(-1, 1, 1, 1) * torch.randn(clean.shape, generator=generator), sigma)


def plans_of(method: SupernetMethod, step: int) -> list:
    space = method.network.space
    drawn = method.sampler.draw(method.subnets - 2, np.random.default_rng(seed_of(method.seed, step, PLANS)))
    return [space.widest, *drawn, space.narrowest]


@pytest.mark.parametrize("variance", ["known", "estimated"])
def test_vdnet(variance: str) -> None:
    torch.manual_seed(0)
    network, batch = VDNet(base=8, ratios=(1, 2)), some_batch()
    settings = VariationalSettings(eps2=1e-4, variance=variance, sampler="mixed", jitter=2)
    method = settings.build(network, seed=3)
    losses = method(batch, 1)
    plans = plans_of(method, 1)
    moments = [network.moments(batch.noisy, plan) for plan in plans]
    pictures = [batch.noisy - mean for mean, _ in moments]
    assert isinstance(method.lesson, VariationalLesson)
    known = variance == "known"
    spread = known_variance(batch.sigma, batch.noisy) if known else estimated_variance(batch.noisy, batch.clean)
    shapes = method.lesson.noise(batch.noisy)
    whole = VariationalLoss(eps2=1e-4)(moments[0], shapes, batch.noisy - batch.clean, spread)
    torch.testing.assert_close(losses["largest"], whole)
    targets = [pictures[0], pictures[0], torch.stack(pictures[:3]).mean(0)]
    for name, (mean, log_m2), target in zip(["random0", "random1", "smallest"], moments[1:], targets, strict=True):
        expected = gaussian_divergence(mean, log_m2, batch.noisy - target, 1e-4)
        torch.testing.assert_close(losses[name], expected)
    torch.testing.assert_close(method.lesson.picture(moments[0], batch), network(batch.noisy, plans[0]))


def test_s_net_learns_from_the_largest_sub_network_alone() -> None:
    torch.manual_seed(0)
    network, batch = VDNet(base=8, ratios=(1, 2)), some_batch()
    method = VariationalSettings(subnets=3).build(network, seed=0)
    losses = method(batch, 0)
    (losses["smallest"] + losses["random0"]).backward()
    assert all(parameter.grad is None for parameter in method.lesson.parameters())
    method(batch, 0)["largest"].backward()
    assert all(parameter.grad is not None for parameter in method.lesson.parameters())
    assert {id(p) for p in method.lesson.parameters()} <= {id(p) for p in method.parameters()}
    again = VariationalSettings(subnets=3).build(network, seed=0)
    for one, other in zip(method.lesson.parameters(), again.lesson.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("edges", [0.0, 0.05])
def test_mprnet(edges: float) -> None:
    torch.manual_seed(0)
    network, batch = MPRNet(base=8, step=8, step_full=8, ratios=(1, 2)), some_batch()
    method = StagesSettings(subnets=3, edges=edges, jitter=2).build(network, seed=0)
    losses = method(batch, 0)
    stages = [network.stages(batch.noisy, plan) for plan in plans_of(method, 0)]

    def distance(outputs: tuple[torch.Tensor, ...], target: torch.Tensor) -> torch.Tensor:
        near = sum(charbonnier(output, target) for output in outputs)
        return near + edges * sum(edge_distance(output, target) for output in outputs)

    torch.testing.assert_close(losses["largest"], distance(stages[0], batch.clean))
    torch.testing.assert_close(losses["random0"], distance(stages[1], stages[0][0].detach()))
    torch.testing.assert_close(losses["smallest"], distance(stages[2], (stages[0][0] + stages[1][0]) / 2))


def test_pixels_outside_the_range_still_learn() -> None:
    network, batch = MPRNet(base=8, step=8, step_full=8, ratios=(1, 2)), some_batch()
    lesson = StagesSettings().lesson(0)
    far = batch.noisy.clone().fill_(2.0).requires_grad_()
    lesson.follow((far, far, far), batch.clean, batch).backward()
    assert (far.grad > 0).all()
    with pytest.raises(InputError, match="at least 0"):
        StagesSettings(edges=-1).build(network, seed=0)


def test_danet_plus() -> None:
    torch.manual_seed(0)
    network, batch = DANet(base=8, ratios=(1, 2)), some_batch()
    method = SupernetSettings(subnets=2, distance="summed_l1").build(network, seed=0)
    losses = method(batch, 0)
    largest, smallest = (network(batch.noisy, plan) for plan in plans_of(method, 0))
    pixels = 3 * 24 * 24
    torch.testing.assert_close(losses["largest"], F.l1_loss(largest, batch.clean) * pixels)
    torch.testing.assert_close(losses["smallest"], F.l1_loss(smallest, largest) * pixels)


ROUNDING = 0.04


def test_teachers_of_danet_pull_by_a_rounded_distance() -> None:
    torch.manual_seed(0)
    network, batch = DANet(base=8, ratios=(1, 2)), some_batch()
    settings = SupernetSettings(subnets=2, distance="summed_l1", rounding=ROUNDING, synergy_from=1)
    method = settings.build(network, seed=0)
    largest, smallest = (network(batch.noisy, plan) for plan in plans_of(method, 0))
    pixels = 3 * 24 * 24
    torch.testing.assert_close(method(batch, 0)["smallest"], F.l1_loss(smallest, batch.clean) * pixels)
    torch.testing.assert_close(method(batch, 1)["largest"], F.l1_loss(largest, batch.clean) * pixels)
    torch.testing.assert_close(method(batch, 1)["smallest"], charbonnier(smallest, largest, ROUNDING) * pixels)


def test_teachers_of_mprnet_pull_by_a_rounded_distance() -> None:
    torch.manual_seed(0)
    network, batch = MPRNet(base=8, step=8, step_full=8, ratios=(1, 2)), some_batch()
    method = StagesSettings(subnets=2, rounding=ROUNDING, edges=0.1).build(network, seed=0)
    losses = method(batch, 0)
    largest, smallest = (network.stages(batch.noisy, plan) for plan in plans_of(method, 0))
    pulls = [charbonnier(stage, largest[0], ROUNDING) + 0.1 * edge_distance(stage, largest[0]) for stage in smallest]
    torch.testing.assert_close(losses["smallest"], torch.stack(pulls).sum())
    near = [charbonnier(stage, batch.clean) + 0.1 * edge_distance(stage, batch.clean) for stage in largest]
    torch.testing.assert_close(losses["largest"], torch.stack(near).sum())


@pytest.mark.parametrize(("error", "gap"), [(-0.01, 0.02), (0.0, 0.002), (0.01, 0.02), (0.03, 0.07), (0.06, 0.12)])
def test_a_rounded_teacher_pulls_as_the_clean_picture_does_on_average(error: float, gap: float) -> None:
    spread = 0.03
    details = spread * torch.randn(4_000_000, generator=torch.Generator().manual_seed(0))
    average = float(torch.sign(error + details).mean())
    at = torch.tensor([error], requires_grad=True)
    rounded_distance("l1", 1.25 * spread)(at, torch.zeros(1)).backward()
    assert at.grad is not None
    assert float(at.grad) == pytest.approx(average, abs=gap)


def test_distances_are_rounded_by_name() -> None:
    one, other = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    for name, plain in DISTANCES.items():
        assert rounded_distance(name, 0.0) is plain
    for name in ("l1", "charbonnier"):
        torch.testing.assert_close(rounded_distance(name, 0.1)(one, other), charbonnier(one, other, 0.1))
    torch.testing.assert_close(
        rounded_distance("summed_l1", 0.1)(one, other), charbonnier(one, other, 0.1) * one[0].numel()
    )
    for wrong in (-1, math.inf, math.nan):
        with pytest.raises(InputError, match=f"at least 0, got {wrong}"):
            rounded_distance("l1", wrong)
    for name, epsilon in (("log_mse", 0.1), ("charbonnier", 5e-4)):
        with pytest.raises(InputError, match=f"{name} cannot be rounded by {epsilon}"):
            rounded_distance(name, epsilon)
    with pytest.raises(UnknownNameError):
        rounded_distance("l3", 0.1)


def test_a_step_of_each_backbone_lowers_its_loss() -> None:
    batch = some_batch(16)
    kinds = [
        (VDNet(base=8, ratios=(1, 2), attention=True), VariationalSettings(variance="known", eps2=1e-3, subnets=2)),
        (DANet(base=8, ratios=(1, 2), attention=True), SupernetSettings(distance="summed_l1", subnets=2)),
        (MPRNet(base=8, step=8, step_full=8, ratios=(1, 2), attention=True), StagesSettings(subnets=2)),
    ]
    for network, settings in kinds:
        method = settings.build(network, seed=0)
        optimizer = torch.optim.Adam(method.parameters(), lr=3e-4)
        losses = []
        for _ in range(6):
            optimizer.zero_grad()
            loss = method(batch, 0)["loss"]
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0]


def test_a_lesson_of_another_network_is_refused() -> None:
    batch, danet = some_batch(), DANet(base=8, ratios=(1, 2))
    with pytest.raises(InputError, match="teaches a VDNet, got a DANet"):
        VariationalSettings().build(danet, seed=0)(batch, 0)
    with pytest.raises(InputError, match="teaches an MPRNet, got a DANet"):
        StagesSettings().build(danet, seed=0)(batch, 0)
    with pytest.raises(InputError, match="variance is one of"):
        VariationalSettings(variance="guessed").build(danet, seed=0)
    with pytest.raises(UnknownNameError, match="distance"):
        StagesSettings(distance="l3").build(danet, seed=0)
