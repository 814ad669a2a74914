"""Training a gate: labels, losses, the budget, calibration."""

import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from grainwise.core.errors import BudgetError, InputError, TrainingError
from grainwise.data.crops import Batch, NoisyCrops
from grainwise.networks.gated import GatedNetwork
from grainwise.networks.vdnet import VDNet
from grainwise.primitives.gate import choose_route
from grainwise.training.answers import Answers, answer_pool, answers_of, picture_psnr
from grainwise.training.gating import (
    GateMethod,
    GateSettings,
    calibrate,
    cheapest_labels,
    complexity_loss,
    extreme_labels,
    gain_loss,
    gate_loop,
    score,
    train_gate,
)
from grainwise.training.loop import LoopConfig


def gated(attention: bool = False) -> GatedNetwork:
    torch.manual_seed(0)
    network = VDNet(base=8, ratios=(1, 2), attention=attention)
    return GatedNetwork(network, [network.space.narrowest, network.plan_at(1.5), network.space.widest])


def some_batch(count: int = 8, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(count, 3, 24, 24, generator=generator) * torch.linspace(0.1, 1, count).view(-1, 1, 1, 1)
    sigma = torch.full((count,), 0.1)
    return Batch(clean, clean + 0.1 * torch.randn(clean.shape, generator=generator), sigma)


def test_labels_of_eq_12() -> None:
    least, greatest = torch.tensor([30.0, 30.0, 30.0, 30.0]), torch.tensor([30.1, 30.2, 30.3, 29.0])
    beta = float(greatest[1] - least[1])
    assert extreme_labels(least, greatest, beta, 5).tolist() == [0, 0, 4, 0]


def test_the_cheapest_route_within_beta() -> None:
    psnr = torch.tensor([[30.0, 30.5, 31.0], [30.9, 30.0, 31.0], [31.5, 30.0, 31.0], [30.0, 30.85, 31.0]])
    assert cheapest_labels(psnr, 0.2).tolist() == [2, 0, 0, 1]
    assert cheapest_labels(psnr, 0.0).tolist() == [2, 2, 0, 2]
    assert cheapest_labels(psnr, 9.0).tolist() == [0, 0, 0, 0]


def test_psnr_of_a_picture_is_clipped_and_not_rounded() -> None:
    clean = torch.full((2, 3, 8, 8), 0.5)
    output = torch.stack([clean[0] + 0.001, clean[1] + 9])
    expected = [-20 * math.log10(0.001), -20 * math.log10(0.5)]
    assert picture_psnr(output, clean).tolist() == pytest.approx(expected, rel=1e-4)
    assert picture_psnr(clean, clean).tolist() == [100, 100]


def test_the_complexity_loss_is_eq_14_of_the_batch_mean() -> None:
    logits, costs = torch.randn(6, 4), torch.tensor([10.0, 20.0, 40.0, 80.0])
    expected = logits.softmax(1) @ costs
    torch.testing.assert_close(complexity_loss(logits, costs, 30, 80), ((expected.mean() - 30) / 80) ** 2)
    each = complexity_loss(logits, costs, 30, 80, per_picture=True)
    torch.testing.assert_close(each, (((expected - 30) / 80) ** 2).mean())
    wanted = float(expected.mean())
    assert float(complexity_loss(logits, costs, wanted, 80)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("labels", ["extremes", "cheapest_within_beta"])
@pytest.mark.parametrize("attention", [False, True])
def test_the_method_is_its_definition(labels: str, attention: bool) -> None:
    made, batch = gated(attention), some_batch()
    settings = GateSettings(budget=12_000, labels=labels, beta=0.05, weight=3)
    method = GateMethod(made, settings)
    losses = method(batch, 0)
    psnr = torch.stack([picture_psnr(made.network(batch.noisy, plan), batch.clean) for plan in made.routes], 1)
    extremes = extreme_labels(psnr[:, 0], psnr[:, -1], 0.05, 3)
    expected = extremes if labels == "extremes" else cheapest_labels(psnr, 0.05)
    tap = made.tap(batch.noisy)
    answers = answers_of(made, batch, ends_only=labels == "extremes")
    assert torch.equal(method.labels(answers.psnr), expected)
    known = method(answers, 0)
    assert all(torch.equal(value, losses[name]) for name, value in known.items())
    logits = made.train().logits(tap)
    torch.testing.assert_close(losses["gate"], F.cross_entropy(logits, expected))
    scale = made.network.macs_per_pixel(made.network.space.widest)
    complexity = complexity_loss(logits, made.costs(24 * 24), 12_000, scale)
    torch.testing.assert_close(losses["complexity"], complexity)
    torch.testing.assert_close(losses["loss"], losses["gate"] + 3 * complexity)
    losses["loss"].backward()
    assert made.gate.outer.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in made.network.parameters())


def test_gains_are_learned_in_db() -> None:
    logits, psnr = torch.randn(4, 3), 30 + torch.randn(4, 3)
    expected = ((logits - logits.mean(1, keepdim=True) - psnr + psnr.mean(1, keepdim=True)) ** 2).mean()
    torch.testing.assert_close(gain_loss(logits, psnr), expected)
    assert gain_loss(psnr - 7, psnr) < 1e-8
    made, batch = gated(), some_batch()
    losses = GateMethod(made, GateSettings(budget=12_000, labels="gains", weight=0, label_weight=2))(batch, 0)
    answers = answers_of(made, batch)
    torch.testing.assert_close(losses["gate"], gain_loss(made.train().gate(answers.reading), answers.psnr))
    torch.testing.assert_close(losses["loss"], 2 * losses["gate"])
    assert "complexity" not in losses
    losses["loss"].backward()
    assert made.gate.outer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("seen", [True, False])
def test_a_gate_of_gains_spends_the_budget_where_it_gains_most(seen: bool) -> None:
    """Where the gate can tell which pictures gain, these take the wide route; where it cannot, all take the best for all."""
    made = gated()
    method = GateMethod(made, GateSettings(budget=15_000, labels="gains", weight=0))
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)

    def known(batch: Batch) -> tuple[Answers, torch.Tensor]:
        bright = batch.clean.mean((1, 2, 3)) > 0.3
        hard = bright if seen else torch.rand(len(bright)) > 0.5
        answers = told(made, batch, hard)
        answers.psnr[:, 1] += 2.8 if not seen else 0.5
        return answers, hard

    for step in range(150):
        optimizer.zero_grad()
        method(known(some_batch(32, step))[0], step)["loss"].backward()
        optimizer.step()
    batch = some_batch(64, 1000)
    budget = float(made.costs(24 * 24)[1]) if not seen else float(made.costs(24 * 24)[[0, 2]].mean())
    calibrate(made.eval(), [batch], budget)
    with torch.no_grad():
        routes = made.restore(batch.noisy).routes
    if seen:
        hard = known(batch)[1]
        assert (routes[hard] == 2).float().mean() > 0.8
        assert (routes[~hard] != 2).float().mean() > 0.8
    else:
        assert (routes == 1).float().mean() > 0.9


def told(made: GatedNetwork, batch: Batch, hard: torch.Tensor) -> Answers:
    """Answers by which the pictures ``hard`` need the last route, and the others the first."""
    psnr = torch.full((len(hard), 3), 30.0)
    psnr[:, 2] += 5 * hard
    with torch.no_grad():
        return Answers(made.reading(made.tap(batch.noisy)), psnr, 24 * 24)


def test_a_gate_learns_what_can_be_seen() -> None:
    made = gated()
    method = GateMethod(made, GateSettings(budget=15_000, weight=0))

    def known(batch: Batch) -> Answers:
        return told(made, batch, batch.clean.mean((1, 2, 3)) > 0.3)

    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    for step in range(60):
        optimizer.zero_grad()
        method(known(some_batch(16, step)), step)["loss"].backward()
        optimizer.step()
    batch = some_batch(64, 1000)
    with torch.no_grad():
        chosen = made.eval().restore(batch.noisy).routes
    assert (chosen == method.labels(known(batch).psnr)).float().mean() > 0.95


@pytest.mark.parametrize("budget", [10_500, 15_000, 30_000])
def test_the_complexity_loss_pulls_the_mean_cost_to_the_budget(budget: float) -> None:
    made = gated()
    method = GateMethod(made, GateSettings(budget=budget, weight=1e4))
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    batch = told(made, some_batch(16), torch.zeros(16, dtype=torch.bool))
    for step in range(80):
        optimizer.zero_grad()
        losses = method(batch, step)
        losses["loss"].backward()
        optimizer.step()
    assert float(losses["cost"]) == pytest.approx(budget, rel=0.05)


def test_a_rare_class_is_told_aloud() -> None:
    made = gated()
    method = GateMethod(made, GateSettings(budget=15_000, beta=50))
    for step in range(3):
        method(some_batch(160, step), step)
    with pytest.warns(UserWarning, match=r"fewer than 1 % name the routes \[1, 2\]"):
        method(some_batch(160, 3), 3)
    assert method.shares().tolist() == [1, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(some_batch(160), 5)


def test_classes_that_are_all_there_are_not_warned_of() -> None:
    made = gated()
    method = GateMethod(made, GateSettings(budget=15_000, labels="extremes"))
    batch = told(made, some_batch(256), torch.arange(256) % 2 == 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(3):
            method(batch, step)


def test_without_its_gate_loss_only_the_budget_is_learned() -> None:
    made = gated()
    batch = told(made, some_batch(8), torch.arange(8) % 2 == 1)
    losses = GateMethod(made, GateSettings(budget=15_000, label_weight=0, weight=2))(batch, 0)
    torch.testing.assert_close(losses["loss"], 2 * losses["complexity"])


def test_a_pool_is_answered_once_and_goes_on(tmp_path: Path, data: NoisyCrops) -> None:
    made, seen = gated(attention=True), []
    pool = answer_pool(made, data, tmp_path / "a", size=32, count=20, report=lambda *at: seen.append(at))
    assert seen == [(8, 20), (16, 20), (20, 20)]
    answer_pool(made, data, tmp_path / "b", size=32, count=8)
    more = answer_pool(made, data, tmp_path / "b", size=32, count=20)
    for mine, whole in ((more.answers.psnr, pool.answers.psnr), (more.answers.reading, pool.answers.reading)):
        assert torch.equal(mine, whole)
    again = answer_pool(made, data, tmp_path / "a", size=32, count=20, report=lambda *at: pytest.fail("asked again"))
    assert torch.equal(again.answers.psnr, pool.answers.psnr)
    drawn = pool.batch(32, 5, (0, 1))
    assert torch.equal(drawn.psnr, pool.batch(32, 5, (0, 1)).psnr)
    assert all((row == pool.answers.psnr).all(1).any() for row in drawn.psnr)
    direct = answers_of(made, data.batch(32, 8, (2**31 + 2, 0)))
    torch.testing.assert_close(direct.psnr, pool.answers.psnr[:8], atol=1e-3, rtol=0)
    torch.testing.assert_close(direct.reading, pool.answers.reading[:8])
    with pytest.raises(InputError, match="the pool holds 20 pictures of 32"):
        pool.batch(48, 5, (0, 1))
    with pytest.raises(InputError, match="asked for 21"):
        pool.batch(32, 21, (0, 1))
    other = GatedNetwork(made.network, made.routes[:2])
    with pytest.raises(TrainingError, match="another routes"):
        answer_pool(other, data, tmp_path / "a", size=32, count=20)
    (tmp_path / "a").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be read"):
        answer_pool(made, data, tmp_path / "a", size=32, count=20)


def spread_gate() -> GatedNetwork:
    """A gate with random opinions."""
    made = gated()
    nn.init.normal_(made.gate.outer.weight, std=20)
    nn.init.normal_(made.gate.reduce.weight, std=20)
    return made.eval()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_calibration_meets_the_budget_from_below(share: float) -> None:
    made = spread_gate()
    parts = [some_batch(32, seed) for seed in range(3)]
    costs = made.costs(24 * 24)
    budget = float(costs[0] + share * (costs[-1] - costs[0]))
    found = calibrate(made, parts, budget)
    reached = score(made, parts)
    assert reached.macs_per_pixel == pytest.approx(found.macs_per_pixel, rel=1e-5)
    assert reached.shares == pytest.approx(found.shares)
    assert found.macs_per_pixel <= budget + 1e-3
    with torch.no_grad():
        logits = torch.cat([made.logits(made.tap(part.noisy)) for part in parts]).double()
    relative = (costs / costs.max()).double()
    moves = [  # the strength below which a picture leaves its route for a dearer one
        float((logits[row, dearer] - logits[row, route]) / (relative[dearer] - relative[route]))
        for row, route in enumerate(choose_route(logits, -found.strength * relative).tolist())
        for dearer in range(route + 1, len(costs))
    ]
    if share == 1.0:
        assert moves == []
    else:
        first = max(moves) - 1e-4 * max(1.0, abs(max(moves)))
        assert float(costs[choose_route(logits, -first * relative)].mean()) > budget


def test_calibration_is_monotone_in_the_budget() -> None:
    made, parts = spread_gate(), [some_batch(64)]
    costs = made.costs(24 * 24)
    reached = [
        calibrate(made, parts, float(budget)).macs_per_pixel
        for budget in torch.linspace(float(costs[0]), float(costs[-1]), 9)
    ]
    assert reached == sorted(reached)
    assert reached[0] == pytest.approx(float(costs[0]))
    assert reached[-1] == pytest.approx(float(costs[-1]))
    assert len(set(reached)) > 4


def test_budgets_that_cannot_be_met_are_refused(tmp_path: Path, data: NoisyCrops) -> None:
    made = gated()
    with pytest.raises(BudgetError, match="cheapest route costs"):
        calibrate(made, [some_batch()], 10)
    with pytest.raises(BudgetError, match="cheapest route costs"):
        train_gate(made, GateSettings(budget=10), gate_loop(), data, tmp_path)
    with pytest.raises(InputError, match="one size"):
        calibrate(made, [], 15_000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"budget": 0},
        {"budget": 1, "beta": -1},
        {"budget": 1, "weight": -1},
        {"budget": 1, "label_weight": -1},
        {"budget": 1, "labels": "hard"},
        {"budget": 1, "labels": "gains"},
        {"budget": 1, "labels": "gains", "weight": 0, "label_weight": 0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        GateSettings(**wrong)


def test_the_papers_loop() -> None:
    config = gate_loop()
    assert (config.batch, config.crops, config.learning_rate) == (64, ((0, 128),), 5e-5)
    rates = [config.rate(step) for step in (0, 999, 1000, 2000, 29_999)]
    assert rates == pytest.approx([1, 1, 0.9, 0.81, 0.9**29])


def test_a_broken_run_of_the_loop_ends_with_the_same_gate(tmp_path: Path, data: NoisyCrops) -> None:
    config = replace(
        gate_loop(epochs=2, epoch=3), batch=4, crops=((0, 32),), device="cpu", learning_rate=1e-2, checkpoint_every=2
    )
    settings = GateSettings(budget=15_000)
    whole, broken = gated(), gated()
    before = whole.gate.outer.weight.clone()
    supernet = {name: value.clone() for name, value in whole.network.state_dict().items()}
    train_gate(whole, settings, config, data, tmp_path / "whole")
    assert not torch.equal(whole.gate.outer.weight, before)
    assert all(torch.equal(value, supernet[name]) for name, value in whole.network.state_dict().items())
    assert not whole.gate.training

    def stop(told: object) -> bool:
        return told.step < 4

    with pytest.raises(Exception, match="stopped after step 4"):
        train_gate(broken, settings, config, data, tmp_path / "broken", report=stop)
    again = gated()
    train_gate(again, settings, config, data, tmp_path / "broken", resume=True)
    for name, value in whole.gate.state_dict().items():
        assert torch.equal(value, again.gate.state_dict()[name]), name


def test_milestones_and_longer_cosines() -> None:
    steps = LoopConfig(steps=100, warmup=10, milestones=(50, 80), factor=0.5)
    assert [steps.rate(step) for step in (9, 10, 49, 50, 80, 99)] == [1, 1, 1, 0.5, 0.25, 0.25]
    cosine = LoopConfig(steps=100, warmup=0, period=200, final_rate=0.0)
    assert cosine.rate(100) == pytest.approx(0.5)
    for wrong in ({"milestones": (5, 5)}, {"period": -1}, {"factor": 0.0}):
        with pytest.raises(InputError, match="milestones"):
            LoopConfig(**wrong)
