"""DANet's game as a method, parts that learn in their own ways, MixUp, and limits of the gradient that shrink."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from grainwise.core.errors import Cancelled, InputError, TrainingError
from grainwise.data.crops import Batch, NoisyCrops
from grainwise.networks.danet import DANet
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.vdnet import VDNet
from grainwise.training.adversarial import blurred, gradient_penalty
from grainwise.training.dds_stages import GATE_SEED
from grainwise.training.game import GameMethod, GameSettings
from grainwise.training.levels import LevelsMethod
from grainwise.training.loop import LoopConfig, Progress, train
from grainwise.training.mixup import MixUp
from grainwise.training.optimizers import Clipping, InParts, optimizers_of, parts_of
from grainwise.training.recipes import get_recipe
from grainwise.training.seeds import GAME, MIXUP, PLANS, STREAMS, seed_of
from grainwise.training.supernet import StagesSettings, SupernetMethod, VariationalSettings

SMALL = GameSettings(generator_base=8, critic_base=8, subnets=3, jitter=8)


def danet() -> DANet:
    torch.manual_seed(0)
    return DANet(base=8, ratios=(1, 2), tied=True)


def game() -> GameMethod:
    """With a critic whose opinions can be told from rounding."""
    method = SMALL.build(danet(), seed=0)
    with torch.no_grad():
        for parameter in method.critic.parameters():
            parameter.mul_(6)
    return method


@pytest.fixture
def large() -> Batch:
    """Two pairs of the only size that the critic takes."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(2, 3, 128, 128, generator=generator)
    return Batch(clean, clean + 0.1 * torch.randn(clean.shape, generator=generator), torch.full((2,), 0.1))


def test_only_the_critic_learns_at_most_steps(large: Batch) -> None:
    method = game()
    losses = method(large, 0)
    assert set(losses) == {"loss", "critic"}
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in method.critic.parameters())
    others = [*method.network.parameters(), *method.generator.parameters()]
    assert all(parameter.grad is None for parameter in others)
    assert torch.equal(losses["critic"], method(large, 0)["critic"])
    assert not torch.equal(losses["critic"], method(large, 1)["critic"])


def test_a_turn_of_all_players_is_its_definition(large: Batch) -> None:
    method = game()
    losses = method(large, 2)
    assert set(losses) == {"loss", "critic", "largest", "random0", "smallest", "generator"}
    network, critic, space = method.network, method.critic, method.network.space
    with torch.no_grad():
        restored = network(large.noisy, space.widest)
        expected = 1000 * (restored - large.clean).abs().mean() - 0.5 * critic(restored, large.noisy).mean()
        torch.testing.assert_close(losses["largest"].detach(), expected)
        words = np.random.SeedSequence(seed_of(0, 2, GAME)).generate_state(1)
        random = torch.Generator().manual_seed(int(words[0]))
        latent = torch.randn((2, 1, 128, 128), generator=random)
        shares = torch.rand(2, generator=random), torch.rand(2, generator=random)
        made = method.generator(large.clean, latent)
        distance = (blurred(made - large.clean) - blurred(large.noisy - large.clean)).abs().mean()
        torch.testing.assert_close(losses["generator"].detach(), 10 * distance - 0.5 * critic(large.clean, made).mean())
    real = (large.clean, large.noisy)
    penalties = [
        10 * gradient_penalty(critic, real, pair, share)
        for pair, share in zip(((large.clean, made), (restored, large.noisy)), shares, strict=True)
    ]
    rated = critic(*real).mean()
    parts = [critic(large.clean, made).mean() - rated, critic(restored, large.noisy).mean() - rated]
    expected = sum(0.5 * (part + penalty) for part, penalty in zip(parts, penalties, strict=True))
    torch.testing.assert_close(losses["critic"], expected)


def test_each_player_gets_its_own_gradient_alone(large: Batch) -> None:
    method = game()
    method(large, 2)["critic"].backward()
    alone = {name: parameter.grad.clone() for name, parameter in method.critic.named_parameters()}
    method.zero_grad()
    method(large, 2)["loss"].backward()
    for name, parameter in method.critic.named_parameters():
        torch.testing.assert_close(parameter.grad, alone[name], msg=name)
    assert all(parameter.grad is not None for parameter in method.generator.parameters())
    assert method.network.unet.last.weight.grad.abs().sum() > 0


def test_players_have_their_own_rates(large: Batch) -> None:
    method = SMALL.build(danet(), seed=0)
    assert isinstance(method, InParts)
    restorer, generator, critic = optimizers_of(method, "adamw", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0)
    groups = [optimizer.param_groups[0] for optimizer in (restorer, generator, critic)]
    assert [group["betas"] for group in groups] == [(0.9, 0.999), (0.5, 0.9), (0.5, 0.9)]
    assert [group["lr"] for group in groups] == [1e-4, 1e-4, 2e-4]
    assert [group["share"] for group in groups] == [1, 1, 2]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in method.parameters())


def test_a_broken_game_ends_as_the_unbroken_one(data: NoisyCrops, tmp_path: Path) -> None:
    class Wide:
        """Crops of the size that the critic takes, four small ones a side."""

        def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
            small = data.batch(32, count, seed)
            return replace(small, clean=small.clean.repeat(1, 1, 4, 4), noisy=small.noisy.repeat(1, 1, 4, 4))

    config = LoopConfig(
        steps=7, batch=2, crops=((0, 128),), warmup=0, precision="fp32", device="cpu", checkpoint_every=2,
        clip=float("inf"), learning_rate=1e-3,
    )  # fmt: skip
    whole = train(config, SMALL.build(danet(), seed=0), Wide(), tmp_path / "whole")

    def stop(told: Progress) -> bool:
        return told.step < 4

    with pytest.raises(Cancelled):
        train(config, SMALL.build(danet(), seed=0), Wide(), tmp_path / "broken", report=stop)
    again = train(config, SMALL.build(danet(), seed=0), Wide(), tmp_path / "broken", resume=True)
    assert set(whole.weights) == set(danet().state_dict())
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())
    assert not torch.equal(whole.weights["unet.last.weight"], danet().state_dict()["unet.last.weight"])


def test_games_that_cannot_be_played_are_refused(monkeypatch: pytest.MonkeyPatch, network: nn.Module) -> None:
    with pytest.raises(InputError, match="blind networks"):
        SMALL.build(network, seed=0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="one process"):
        SMALL.build(danet(), seed=0)


def test_the_recipe_of_the_game_is_danets() -> None:
    recipe = get_recipe("dds-danet-game")
    assert isinstance(recipe.method, GameSettings)
    loop = recipe.loop
    assert (loop.batch, loop.steps, loop.learning_rate, loop.crops) == (16, 70 * 15_000, 1e-4, ((0, 128),))
    assert loop.rate(20 * 15_000) == 0.5
    with torch.device("meta"):
        method = recipe.method.build(DANet(base=32), seed=0)
    assert isinstance(method, GameMethod)
    assert sum(p.numel() for p in method.critic.parameters()) == 44_703_745
    assert sum(p.numel() for p in method.generator.parameters()) == 9_153_859


def test_mixup_mixes_clean_and_noisy_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(6, 3, 4, 4, generator=generator)
    batch = Batch(clean, clean + 0.1 * torch.randn(clean.shape, generator=generator), torch.full((6,), 0.1))
    mixup = MixUp(0.6, start=5)
    assert mixup(batch, (0, 4)) is batch
    mixed = mixup(batch, (0, 5))
    assert torch.equal(mixed.noisy, mixup(batch, (0, 5)).noisy)
    assert not torch.equal(mixed.noisy, mixup(batch, (0, 6)).noisy)
    for index in range(6):
        basis = torch.stack(
            [clean[index].flatten(), *(clean[other].flatten() for other in range(6) if other != index)], 1
        )
        weights = torch.linalg.lstsq(basis, mixed.clean[index].flatten()).solution
        assert float(weights.sum()) == pytest.approx(1, abs=1e-4)
        assert (weights.abs() > 1e-4).sum() <= 2
        noise = (mixed.noisy - mixed.clean)[index]
        others = torch.stack(
            [(batch.noisy - clean)[index], *((batch.noisy - clean)[o] for o in range(6) if o != index)]
        )
        torch.testing.assert_close(noise, torch.einsum("k,kchw->chw", weights, others), atol=1e-4, rtol=0)
        assert float(mixed.sigma[index]) == pytest.approx(0.1 * float(weights.norm()), rel=1e-3)
    alone = Batch(clean[:1], batch.noisy[:1], batch.sigma[:1])
    assert torch.equal(mixup(alone, (0, 5)).sigma, alone.sigma)
    torch.testing.assert_close(mixup(alone, (0, 5)).noisy, alone.noisy)
    with pytest.raises(InputError, match="not mixed"):
        mixup(replace(batch, degradation=torch.tensor(0.5)), (0, 5))
    for wrong in ({"alpha": 0.0}, {"alpha": 1.0, "start": -1}):
        with pytest.raises(InputError):
            MixUp(**wrong)


def test_mprnets_recipe_mixes_from_its_sixth_epoch() -> None:
    method = get_recipe("dds-mprnet").method
    assert isinstance(method, StagesSettings)
    assert (method.mixup, method.mixup_from) == (0.6, 30_000)


def test_a_mixed_batch_is_what_is_learned_from(data: NoisyCrops, network: nn.Module) -> None:
    batch = data.batch(32, 4, (0, 0))
    mixed = SupernetMethod(network, subnets=2, mixup=MixUp(0.6), seed=3)(batch, 1)
    plain = SupernetMethod(network, subnets=2, seed=3)(MixUp(0.6)(batch, (3, 1)), 1)
    assert torch.equal(mixed["loss"], plain["loss"])


def test_no_two_consumers_of_a_step_share_a_stream() -> None:
    seeds = [(3, 7, rank) for rank in range(8)] + [seed_of(3, 7, purpose) for purpose in (PLANS, MIXUP, GAME)]
    seeds += [(3, 8, 0), (4, 7, 0), (GATE_SEED, 3, 7, 0)]
    assert len({float(np.random.default_rng(seed).random()) for seed in seeds}) == len(seeds)


def test_a_run_does_not_go_on_with_other_draws(data: NoisyCrops, tmp_path: Path) -> None:
    def stopped(method: nn.Module, out: Path) -> dict:
        config = LoopConfig(steps=3, batch=2, crops=((0, 32),), warmup=0, precision="fp32", device="cpu")
        with pytest.raises(Cancelled):
            train(config, method, data, out, report=lambda told: told.step < 2)
        state = torch.load(out / "checkpoint.pt", weights_only=True)
        del state["streams"]  # as one that was written before
        torch.save(state, out / "checkpoint.pt")
        return {"config": config, "data": data, "out": out, "resume": True}

    before = stopped(SupernetMethod(danet(), subnets=3), tmp_path / "drawn")
    with pytest.raises(TrainingError, match="draws something else from its seed; go on with that version"):
        train(method=SupernetMethod(danet(), subnets=3), **before)
    for subnets in (1, 2):
        before = stopped(SupernetMethod(danet(), subnets=subnets), tmp_path / str(subnets))
        train(method=SupernetMethod(danet(), subnets=subnets), **before)
    assert SMALL.build(danet(), seed=0).streams == STREAMS
    assert SupernetMethod(danet(), subnets=2, mixup=MixUp(0.6)).streams == STREAMS
    levels = HyperRes(blocks=1, stream=(16, 24, 32))
    assert [LevelsMethod(levels, subnets=n).streams for n in (1, 3)] == [0, STREAMS]


def test_limits_shrink_to_the_mean_norm_and_never_grow() -> None:
    clipping = Clipping([], 10.0, 2)
    for norm, limit in ((4, 10), (2, 3), (9, 3), (9, 3), (1, 3), (1, 1)):
        clipping.see(norm)
        assert clipping.limit == limit


def test_vdnets_two_nets_are_clipped_apart(data: NoisyCrops, tmp_path: Path) -> None:
    def method(noise_clip: float) -> SupernetMethod:
        torch.manual_seed(0)
        settings = VariationalSettings(variance="known", eps2=1e-3, subnets=2, noise_clip=noise_clip)
        return settings.build(VDNet(base=8, ratios=(1, 2), tied=True), seed=0)

    assert len(parts_of(method(0.0))) == 1
    apart = method(1e-2)
    first, second = parts_of(apart)
    assert {id(p) for p in second.parameters} == {id(p) for p in apart.lesson.parameters()}
    assert {id(p) for p in (*first.parameters, *second.parameters)} == {id(p) for p in apart.parameters()}
    assert (first.clip, second.clip) == (None, 1e-2)
    short = {"steps": 5, "batch": 2, "crops": ((0, 32),), "warmup": 0, "precision": "fp32", "device": "cpu"}
    config = LoopConfig(**short, clip=1e4, clip_epoch=2, checkpoint_every=3)
    whole = train(config, apart, data, tmp_path / "whole")
    limits = [one["limit"] for one in torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)["clippings"]]
    assert limits[0] < 1e4
    assert limits[1] <= 1e-2
    with pytest.raises(Cancelled):
        train(config, method(1e-2), data, tmp_path / "broken", report=lambda told: told.step < 4)
    again = train(config, method(1e-2), data, tmp_path / "broken", resume=True)
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())
    with pytest.raises(InputError, match="limit of a gradient"):
        method(-1.0)


def test_an_older_checkpoint_is_resumed(data: NoisyCrops, tmp_path: Path) -> None:
    def fresh() -> SupernetMethod:
        return SupernetMethod(danet(), subnets=2)

    config = LoopConfig(steps=4, batch=2, crops=((0, 32),), warmup=0, precision="fp32", device="cpu")
    whole = train(config, fresh(), data, tmp_path / "whole")
    with pytest.raises(Cancelled):
        train(config, fresh(), data, tmp_path / "old", report=lambda told: told.step < 2)
    path = tmp_path / "old" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["clippings"], state["config"]["clip_epoch"]
    for optimizer in state["optimizers"]:
        for group in optimizer["param_groups"]:
            del group["share"]
    torch.save(state, path)
    again = train(config, fresh(), data, tmp_path / "old", resume=True)
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())
