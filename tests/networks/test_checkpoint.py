"""Weights files: exact, self-describing, and clear about what is wrong with them."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import grainwise
from grainwise.core.errors import UnknownNameError, WeightsError
from grainwise.networks.checkpoint import Card, MeasuredPlan, load_weights, save_weights
from grainwise.networks.gain_predictor import GainPredictor
from grainwise.networks.half_unet import HalfUNet

PLAN = "level0=16,level1=16"
CARD = Card(
    licence="CC0", data=("none",), recipe="none", commit="0", steps=1, seconds=1.0, device="cpu",
    plans=(MeasuredPlan(PLAN, 100, {"here": 1.5}, "fast"),),
)  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "w.safetensors"
    save_weights(path, HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1)).half().float(), CARD)
    return path


def header(path: Path) -> dict[str, object]:
    size = int.from_bytes(path.read_bytes()[:8], "little")
    return json.loads(json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]["grainwise"])


def test_a_file_describes_and_restores_its_network(saved: Path) -> None:
    torch.manual_seed(0)
    original = HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1)).half().float()
    weights = load_weights(saved)
    assert weights.card == CARD
    assert weights.name == "w"
    assert [str(plan) for plan in weights.plans()] == [PLAN]
    for key, value in original.state_dict().items():
        assert torch.equal(weights.network.state_dict()[key], value)
    assert header(saved)["network"] == "half_unet"


def test_a_predictor_travels_with_its_network(saved: Path) -> None:
    assert load_weights(saved).predictor is None
    weights = load_weights(saved)
    predictor = GainPredictor([["level0=16,level1=16", "level0=24,level1=16"]], hidden=4)
    predictor.scale.fill_(0.1)
    save_weights(saved, weights.network, CARD, predictor)
    again = load_weights(saved).predictor
    assert again is not None
    assert again.families == predictor.families
    for name, value in predictor.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    wrong = GainPredictor([["level0=16,level1=17"]], hidden=4)
    save_weights(saved, weights.network, CARD, wrong)
    with pytest.raises(WeightsError, match="does not hold the network"):
        load_weights(saved)


def rewritten(path: Path, **changes: object) -> None:
    weights = load_weights(path)
    entry = {**header(path), **changes}
    save_file(dict(weights.network.state_dict()), path, {"grainwise": json.dumps(entry)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 99}, "update"),
        ({"network": "resnet"}, "unknown network"),
        ({"config": {"widths": [[16], [16]], "blocks": [1, 1]}}, "does not hold"),
        ({"config": {"depth": 1}}, "cannot be built"),
        ({"card": {}}, "does not hold"),
        ({"card": {**CARD.__class__.__dict__, "plans": []}}, "does not hold"),
    ],
)
def test_a_header_that_lies_is_refused(saved: Path, changes: dict[str, object], words: str) -> None:
    if changes.get("card"):
        changes = {"card": {"plans": [{"plan": "nonsense", "macs_per_pixel": 1}], "data": []}}
    rewritten(saved, **changes)
    with pytest.raises(WeightsError, match=words):
        load_weights(saved)


def test_damaged_and_foreign_files_are_refused(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    for name, data in {"cut": content[:5000], "empty": b"", "text": b"hello, this is no weights file"}.items():
        (tmp_path / name).with_suffix(".safetensors").write_bytes(data)
        with pytest.raises(WeightsError, match="no readable weights file"):
            load_weights(tmp_path / f"{name}.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="not one of grainwise"):
        load_weights(tmp_path / "foreign.safetensors")


def test_missing_files_and_names_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean default"):
        load_weights("defualt")
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_weights(tmp_path / "nothing.safetensors")


def test_the_shipped_weights_say_what_they_are() -> None:
    path = Path(grainwise.__file__).parent / "weights" / "default.safetensors"
    assert path.stat().st_size <= 6e6
    weights = load_weights("default")
    card = weights.card
    assert card.licence == "CC BY-SA 4.0"
    assert not any("research" in entry for entry in card.data)
    assert card.recipe.startswith("grainwise train default")
    assert card.steps > 0 < card.seconds
    assert re.fullmatch(r"[0-9a-f]{7,40}", card.commit)
    named = {measured.name: measured for measured in card.plans if measured.name}
    assert set(named) == {"fast", "balanced", "best"}
    assert all(measured.psnr for measured in card.plans)
    costs = [measured.macs_per_pixel for measured in card.plans]
    assert costs == sorted(costs)
    assert costs[0] <= 15_000
    assert costs[-1] >= 110_000
    for plan, measured in weights.plans().items():
        assert weights.network.macs_per_pixel(plan) == pytest.approx(measured.macs_per_pixel, abs=0.5)
