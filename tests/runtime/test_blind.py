"""Blind denoisers: whole pictures at one plan or on the gate's route, with what it took."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.runtime.small import small_weights
from torch import nn

from grainwise.core.errors import BudgetError, Cancelled, InputError, WeightsError
from grainwise.networks.checkpoint import (
    Card,
    MeasuredPlan,
    holds_gate,
    load_estimator,
    load_gated,
    load_weights,
    save_gated,
    save_weights,
)
from grainwise.networks.gated import GatedNetwork
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.network import Network
from grainwise.networks.vdnet import VDNet
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.blind import BlindDenoiser
from grainwise.runtime.denoiser import Denoiser


def card(network: Network, plans: list[ChannelPlan]) -> Card:
    named = zip(plans, ("fast", "balanced", "best"), strict=False)
    measured = tuple(MeasuredPlan(str(plan), round(network.macs_per_pixel(plan)), {}, name) for plan, name in named)
    return Card(
        licence="none", data=("noise",), recipe="", commit="0", steps=1, seconds=1.0, device="cpu", plans=measured
    )


def gated(attention: bool = True) -> GatedNetwork:
    """A gate that sends dark pictures one way and bright ones another."""
    torch.manual_seed(0)
    network = VDNet(base=8, ratios=(1, 2), attention=attention)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    made = GatedNetwork(network, [network.space.narrowest, network.plan_at(1.5), network.space.widest], hidden=16)
    nn.init.normal_(made.gate.outer.weight, std=30)
    made.eval()
    with torch.no_grad():
        both = torch.cat([torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in (picture(0), picture(1))])
        made.gate.outer.bias.sub_(made.logits(made.tap(both)).mean(0))
    return made


def picture(kind: int) -> np.ndarray:
    generator = np.random.default_rng(kind)
    return (generator.integers(0, 56, (21, 34, 3)) + 200 * kind).astype(np.uint8)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    made = gated()
    save_gated(tmp_path / "gated.safetensors", made, card(made.network, list(made.routes)), 12_345)
    save_weights(tmp_path / "plain.safetensors", made.network, card(made.network, list(made.routes)))
    return tmp_path


def test_a_gate_comes_back_from_its_file(saved: Path) -> None:
    made, loaded = gated(), load_gated(saved / "gated.safetensors")
    assert loaded.budget == 12_345
    assert loaded.gated.routes == made.routes
    x = torch.from_numpy(np.stack([picture(0), picture(1)])).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        one, other = made.restore(x), loaded.gated.restore(x)
    assert torch.equal(one.routes, other.routes)
    assert torch.equal(one.pictures, other.pictures)
    assert torch.equal(one.macs_per_pixel, other.macs_per_pixel)
    assert not any(parameter.requires_grad for parameter in loaded.gated.parameters())


def test_files_with_and_without_a_gate_are_told_apart(saved: Path) -> None:
    with_gate, without = saved / "gated.safetensors", saved / "plain.safetensors"
    assert [holds_gate(name) for name in (with_gate, without, "default", saved / "none")] == [True, False, False, False]
    with pytest.raises(WeightsError, match="load_gated"):
        load_weights(with_gate)
    with pytest.raises(WeightsError, match="holds no gate"):
        load_gated(without)
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_gated(saved / "none.safetensors")
    with pytest.raises(WeightsError, match="holds no level estimator"):
        load_estimator(with_gate)


def test_damaged_gates_are_refused(saved: Path, tmp_path: Path) -> None:
    made = gated()
    broken = GatedNetwork(made.network, made.routes[:2], hidden=16)
    made.routes = broken.routes
    save_gated(tmp_path / "lie.safetensors", made, card(made.network, list(made.routes)), 1.0)
    with pytest.raises(WeightsError, match="network with a gate"):
        load_gated(tmp_path / "lie.safetensors")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_picture_takes_the_route_of_the_gate(saved: Path, dtype: str) -> None:
    denoiser = BlindDenoiser.from_pretrained(saved / "gated.safetensors", device="cpu", dtype=dtype)
    made, plans = gated(), []
    for kind in (0, 1):
        told = denoiser.restore(picture(kind))
        assert told.image.dtype == np.uint8
        x = torch.from_numpy(picture(kind)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            routed = made.restore(x)
        assert told.plan == made.routes[int(routed.routes)]
        assert told.macs_per_pixel == float(routed.macs_per_pixel)
        expected = (routed.pictures[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
        assert np.abs(told.image - expected).max() <= (0 if dtype == "float32" else 40)
        assert 0 < told.seconds_gate < told.seconds
        plans.append(told.plan)
    assert plans[0] != plans[1]
    with pytest.raises(BudgetError, match="keeps to 12345 MACs/px"):
        denoiser(picture(0), "fast")


def test_a_blind_supernet_runs_at_the_plan_of_a_budget(saved: Path) -> None:
    denoiser = BlindDenoiser.from_pretrained(saved / "plain.safetensors", device="cpu", dtype="float32")
    network = load_weights(saved / "plain.safetensors").network
    noisy = picture(0).astype(np.float32) / 255
    for budget, plan in (("fast", network.space.narrowest), ("best", network.space.widest)):
        told = denoiser.restore(noisy, budget)
        with torch.no_grad():
            expected = network(torch.from_numpy(noisy).permute(2, 0, 1)[None], plan)[0].permute(1, 2, 0).numpy()
        assert told.plan == plan
        np.testing.assert_allclose(told.image, expected, atol=1e-6)
        assert told.macs_per_pixel == pytest.approx(network.macs_per_pixel(plan), rel=1e-2)
        assert told.seconds_gate == 0
    assert denoiser.restore(noisy).plan == network.plan_at(1.5)
    grey = denoiser(noisy[:, :, :1])
    assert grey.shape == (21, 34, 1)


def test_the_strength_is_a_share_of_the_result(saved: Path) -> None:
    noisy = picture(1).astype(np.float32) / 255
    for name in ("plain", "gated"):
        denoiser = BlindDenoiser.from_pretrained(saved / f"{name}.safetensors", device="cpu", dtype="float32")
        full, half = denoiser(noisy), denoiser(noisy, strength=0.5)
        np.testing.assert_allclose(half, (noisy + full) / 2, atol=1e-6)
        none = denoiser.restore(noisy, strength=0)
        assert np.array_equal(none.image, noisy)
        assert (none.tiles, none.plans, none.routes, none.seconds_gate) == (0, {}, (), 0)
        for wrong in (-0.1, 1.1, float("nan"), "much", True):
            with pytest.raises(InputError, match="strength"):
                denoiser(noisy, strength=wrong)


def test_a_whole_picture_is_one_route(saved: Path) -> None:
    denoiser = BlindDenoiser.from_pretrained(saved / "gated.safetensors", device="cpu", dtype="float32")
    told: list[float] = []
    result = denoiser.restore(picture(0), progress=told.append)
    (route,) = result.routes
    assert route.to_json() == {
        "x": 0, "y": 0, "width": 34, "height": 21, "plan": str(result.plan), "macs_per_pixel": result.macs_per_pixel,
    }  # fmt: skip
    assert (result.plans, result.level, result.sigma, result.found) == ({result.plan: 1}, None, 0, True)
    assert told == [0, 1]
    with pytest.raises(Cancelled):
        denoiser(picture(0), progress=lambda share: False)


def test_what_a_gate_may_cost_is_foretold(saved: Path) -> None:
    denoiser = BlindDenoiser.from_pretrained(saved / "gated.safetensors", device="cpu", dtype="float32")
    told = denoiser.forecast((21, 34), 0)
    assert (told.plan, told.tiles, told.seconds) == (None, 1, None)
    costs = [denoiser.restore(picture(kind)).macs_per_pixel for kind in (0, 1)]
    assert told.macs_per_pixel >= max(costs)
    plain = BlindDenoiser.from_pretrained(saved / "plain.safetensors", device="cpu", dtype="float32")
    best = plain.restore(picture(0), "best")
    foretold = plain.forecast((21, 34), 0, "best")
    assert (foretold.plan, foretold.macs_per_pixel) == (best.plan, best.macs_per_pixel)
    assert plain.forecast((21, 34), 0, strength=0).tiles == 0


def test_what_is_no_blind_denoiser_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = small_weights()
    assert isinstance(weights.network, HalfUNet)
    with pytest.raises(InputError, match="run it by grainwise denoise"):
        BlindDenoiser(weights)
    with pytest.raises(InputError, match="restores another degradation, dejpeg"):
        BlindDenoiser(small_weights(task="dejpeg"))
    network = gated().network
    with pytest.raises(
        InputError, match="not told the noise level; grainwise denoise .*BlindDenoiser.* runs it; or take"
    ):
        Denoiser(replace(weights, network=network))
    denoiser = BlindDenoiser.from_pretrained(saved / "gated.safetensors", device="cpu", dtype="float32")
    monkeypatch.setattr("grainwise.runtime.memory.available_bytes", lambda: 1000)
    with pytest.raises(InputError, match="sees it whole"):
        denoiser(picture(0))
    tight = BlindDenoiser.from_pretrained(saved / "gated.safetensors", device="cpu", max_memory=1)
    with pytest.raises(InputError, match="sees it whole"):
        tight(picture(0))
    with pytest.raises(InputError, match="max_memory"):
        BlindDenoiser.from_pretrained(saved / "gated.safetensors", device="cpu", max_memory=-1)
