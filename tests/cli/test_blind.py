"""Networks that are told no noise level, with a gate and without: evaluating and denoising."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from grainwise.core.pictures import read_picture
from grainwise.networks.checkpoint import Card, MeasuredPlan, save_gated, save_weights
from grainwise.networks.gated import GatedNetwork
from grainwise.networks.vdnet import VDNet
from grainwise.runtime.blind import BlindDenoiser
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


def test_models_describes_a_gate(run: Run, models: Path) -> None:
    told = json.loads(run("models", models / "gated.safetensors", "--json").out)
    assert (told["name"], told["network"], told["budget"]) == ("gated", "vdnet", 12_000)
    assert [plan["name"] for plan in told["plans"]] == ["fast", "balanced", "best"]
    plain = json.loads(run("models", models / "plain.safetensors", "--json").out)
    assert "budget" not in plain
    assert told["parameters"] > plain["parameters"]
    assert "with a gate for 12K MACs/px for denoise" in run("models", models / "gated.safetensors").out


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


def test_pictures_are_denoised_on_the_route_of_a_gate(run: Run, folder: Path, models: Path) -> None:
    common = ("denoise", "--model", models / "gated.safetensors", "--dtype", "float32")
    lines = [json.loads(line) for line in run(*common, folder, "-o", models / "out", "--json").out.splitlines()]
    assert len(lines) == 3
    denoiser = BlindDenoiser.from_pretrained(models / "gated.safetensors", device="cpu", dtype="float32")
    for line in lines:
        source, target = read_picture(Path(line["input"])), read_picture(Path(line["output"]))
        expected = denoiser.restore(source.pixels)
        if target.pixels.shape == expected.image.shape and line["output"].endswith("png"):
            assert np.array_equal(target.pixels, expected.image)
        assert line["plan"] == str(expected.plan)
        assert line["macs_per_pixel"] == expected.macs_per_pixel
        assert 0 < line["seconds_gate"] < line["seconds"]
        assert line["gate"] is True
        assert line["sigma"] is None
        assert line["routes"] == [route.to_json() for route in expected.routes]
    words = run(*common, folder / "a.png", "-o", models / "one.png").out
    assert "chosen by the gate" in words
    dry = run(*common, folder / "a.png", "-o", models / "two.png", "--dry-run").out
    assert "at most, by the gate" in dry
    assert "calibrate" not in dry
    assert not (models / "two.png").exists()
    assert "changes nothing" in run(*common, folder / "a.png", "-o", models / "two.png", "--strength", "0").out
    again = read_picture(models / "two.png").pixels
    assert np.array_equal(again, read_picture(folder / "a.png").pixels)


def test_pictures_are_denoised_by_a_blind_network_at_a_budget(run: Run, folder: Path, models: Path) -> None:
    costs = []
    for budget in ("fast", "best"):
        ran = run(
            "denoise", folder / "a.png", "-o", models / "o.png", "--model", models / "plain.safetensors",
            "--budget", budget, "--json",
        )  # fmt: skip
        told = json.loads(ran.out)
        assert (told["gate"], told["seconds_gate"], told["tiles"]) == (False, 0, 1)
        costs.append(told["macs_per_pixel"])
    assert costs[0] < costs[1]


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("gated", ("--budget", "fast"), "leave out the budget (--budget)"),
        ("gated", ("--sigma", "20"), "leave --sigma out"),
        ("plain", ("--level", "20"), "leave --level out"),
        ("plain", ("--max-seconds", "5"), "leave --max-seconds out"),
        ("gated", ("--max-seconds", "5"), "leave --max-seconds out"),
        ("plain", ("--strength", "1.5"), "--strength"),
        ("plain", ("--max-memory", "1"), "sees it whole"),
    ],
)
def test_what_cannot_apply_is_refused_by_name(
    run: Run, folder: Path, models: Path, model: str, options: tuple[str, str], words: str
) -> None:
    target = models / "o.png"
    refused = run("denoise", folder / "a.png", "-o", target, "--model", models / f"{model}.safetensors", *options)
    assert refused.code == 2
    assert words in refused.err
    assert not target.exists()
