"""Evaluating networks that are told no noise level, with a gate and without."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from grainwise.networks.checkpoint import Card, MeasuredPlan, save_gated, save_weights
from grainwise.networks.gated import GatedNetwork
from grainwise.networks.vdnet import VDNet
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with `gated` and `plain`, one network at three plans; the gate sends pictures to the cheapest one."""
    torch.manual_seed(0)
    network = VDNet(base=8, ratios=(1, 2))
    plans = [network.space.narrowest, network.plan_at(1.5), network.space.widest]
    gated = GatedNetwork(network, plans, hidden=16).eval()
    nn.init.zeros_(gated.gate.outer.weight)
    gated.gate.outer.bias.data = torch.tensor([1.0, 0.0, 0.0])
    named = zip(plans, ("fast", "balanced", "best"), strict=True)
    measured = tuple(MeasuredPlan(str(plan), round(network.macs_per_pixel(plan)), {}, name) for plan, name in named)
    card = Card(
        licence="none", data=("noise",), recipe="", commit="0", steps=1, seconds=1.0, device="cpu", plans=measured
    )
    save_gated(tmp_path / "gated.safetensors", gated, card, 12_000)
    save_weights(tmp_path / "plain.safetensors", network, card)
    return tmp_path


def test_a_gate_is_evaluated_picture_by_picture(run: Run, folder: Path, models: Path) -> None:
    told = json.loads(
        run(
            "evaluate", "--model", models / "gated.safetensors", "--data", folder, "--noise", "gaussian:25", "--json",
            "--dtype", "float32",
        ).out
    )  # fmt: skip
    assert told["plan"] is None
    assert list(told["plans"].values()) == [3]
    network = VDNet(base=8, ratios=(1, 2))
    assert told["macs_per_pixel"] > network.macs_per_pixel(network.space.narrowest)
    assert 0 < told["seconds_gate"] < told["seconds_network"] <= told["seconds"]
    words = run("evaluate", "--model", models / "gated.safetensors", "--data", folder, "--noise", "gaussian:25").out
    assert "PSNR" in words
    refused = run(
        "evaluate", "--model", models / "gated.safetensors", "--data", folder, "--noise", "gaussian:25", "--budget", "fast"
    )  # fmt: skip
    assert refused.code != 0
    assert "leave out the budget" in refused.err


def test_a_blind_network_is_evaluated_at_a_budget(run: Run, folder: Path, models: Path) -> None:
    costs = []
    for budget in ("fast", "best"):
        told = json.loads(
            run(
                "evaluate", "--model", models / "plain.safetensors", "--data", folder, "--noise", "gaussian:25", "--json",
                "--budget", budget, "--limit", "1",
            ).out
        )  # fmt: skip
        assert told["blind"] is True
        assert told["seconds_network"] > 0
        assert told["plan"]
        assert "plans" not in told
        costs.append(told["macs_per_pixel"])
    assert costs[0] < costs[1]


def test_an_empty_budget_is_none_of_ours(run: Run, folder: Path, models: Path) -> None:
    for model in ("plain.safetensors", "gated.safetensors"):
        common = ("evaluate", "--model", models / model, "--data", folder, "--noise", "gaussian:25")
        assert run(*common, "--budget", "").code == 2


def test_denoise_says_where_a_gate_belongs(run: Run, folder: Path, models: Path) -> None:
    refused = run("denoise", folder, "-o", models / "out", "--model", models / "gated.safetensors")
    assert refused.code != 0
    assert "grainwise evaluate" in refused.err
