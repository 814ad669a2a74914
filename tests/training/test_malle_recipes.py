"""MalleNet's recipes: each kind is told what it says, sees the pictures that it says, and learns."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from grainwise.data.crops import NoisyCrops
from grainwise.networks.mallenet import MalleNet
from grainwise.training.loop import train
from grainwise.training.malle_recipes import KINDS
from grainwise.training.recipes import get_recipe, network_of


@pytest.mark.parametrize("kind", KINDS)
def test_the_full_recipe_is_the_released_network_and_the_small_one_its_little_sister(kind: str) -> None:
    full, small = get_recipe(f"mallenet-full{kind}"), get_recipe(f"mallenet-small{kind}")
    assert (full.config["widths"], small.config["widths"]) == ([64], [16])
    assert {**full.config, "widths": [16]} == small.config
    assert (full.crops, full.validation) == (small.crops, small.validation)
    assert (full.loop.steps, full.loop.batch) == (400_000, 32)
    assert [full.loop.crop_size(step) for step in (0, 300_000, 399_999)] == [128, 192, 256]


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_recipe_learns_from_its_own_pictures(kind: str, data: NoisyCrops, tmp_path: Path) -> None:
    recipe = get_recipe(f"mallenet-small{kind}")
    crops = replace(recipe.crops, shares=(1.0,)).build(data.corpus)
    loop = replace(recipe.loop, steps=2, batch=2, crops=((0, 32),), warmup=1, ema=0.0, device="cpu", precision="fp32")
    network = network_of(replace(recipe, loop=loop))
    assert isinstance(network, MalleNet)
    assert network.facts.needs_sigma == (kind in ("", "-grey"))
    batch = crops.batch(32, 2, (0, 0))
    channels = 1 if kind == "-grey" else 3
    assert batch.noisy.shape == batch.clean.shape == (2, channels, 32, 32)
    assert network.facts.channels == channels
    result = train(loop, recipe.method.build(network, seed=0), crops, tmp_path / "run")
    network.load_state_dict(result.weights)
    plain = network.extract(network.space.widest)
    with torch.no_grad():
        out = plain(batch.noisy, **network.facts.given(batch.sigma))
    assert torch.isfinite(out).all()
    assert not torch.equal(out, batch.noisy)
