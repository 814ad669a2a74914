"""What benchmarks/outside_teacher.py trains, and the page that it makes of the scores."""

import argparse
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.training.benchmarks import benchmark

from grainwise.core.errors import InputError
from grainwise.evaluation.environment import environment
from grainwise.training.recipe import Recipe


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return benchmark("outside_teacher")


def arguments(**given: Any) -> argparse.Namespace:
    common = {"train": [Path("a"), Path("b")], "steps": 60, "crop": 32, "batch": 2, "set": ["loop.ema=0.5"]}
    return argparse.Namespace(**{**common, "teacher": "default", "limit": 3, **given})


def results(seeds: range) -> dict[tuple[str, int, str], dict[str, Any]]:
    gain = {"clean picture": 0.0, "synergy": 0.2, "outside teacher": 0.1, "synergy and outside teacher": 0.25}
    side = {"narrowest": 1, "widest": -1}
    return {
        (arm, seed, plan): {"psnr": {"cbsd68 10": 34 + sign * dB + seed / 1000, "cbsd68 25": 30 + sign * dB}}
        for arm, dB in gain.items()
        for seed in seeds
        for plan, sign in side.items()
    }


def test_the_arms_differ_in_who_teaches_alone(bench: ModuleType) -> None:
    here = bench.Bench.__new__(bench.Bench)
    here.args = arguments()
    made: dict[str, Recipe] = {arm: here.recipe(arm, 7) for arm in bench.ARMS}
    assert {arm: (one.method.synergy, bool(one.method.teacher)) for arm, one in made.items()} == {
        "clean picture": (False, False),
        "synergy": (True, False),
        "outside teacher": (False, True),
        "synergy and outside teacher": (True, True),
    }
    for recipe in made.values():
        assert recipe.loop == made["clean picture"].loop
        assert (recipe.loop.steps, recipe.loop.warmup, recipe.loop.batch, recipe.loop.seed) == (60, 12, 2, 7)
        assert (recipe.data, recipe.loop.crops, recipe.loop.ema) == (("a", "b"), ((0, 32),), 0.5)


def test_gains_are_of_the_seeds_that_both_arms_have(bench: ModuleType) -> None:
    told = results(range(3))
    del told["synergy", 2, "widest"]
    arms = ("clean picture", "synergy")
    assert bench.gains(told, arms, "narrowest") == pytest.approx([0.2, 0.2, 0.2])
    assert bench.gains(told, arms, "widest") == pytest.approx([-0.2, -0.2])


def test_the_page_judges_each_claim_at_both_ends(bench: ModuleType) -> None:
    text = bench.page(results(range(3)), arguments(), "python it", environment(commit="abc"))
    assert "| an outside teacher adds to in-place synergy | narrowest | holds (+0.050 dB" in text
    assert "| an outside teacher adds to in-place synergy | widest | does not hold (-0.050 dB" in text
    assert "| synergy | 34.20 ± 0.00 | 30.20 ± 0.00 |" in text
    assert "`python it`" in text
    assert "commit abc" in text


def test_a_run_by_another_recipe_of_its_name_is_not_taken(bench: ModuleType, tmp_path: Path) -> None:
    runs = benchmark("resumable_runs").Runs(tmp_path, {"steps": 60})
    here = bench.Bench.__new__(bench.Bench)
    here.args = arguments()
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / "weights.safetensors").write_bytes(b"")
    for _ in range(2):
        assert runs.weights("seed-0", lambda: here.recipe("synergy", 0)).name == "weights.safetensors"
    with pytest.raises(InputError, match="another recipe"):
        runs.weights("seed-0", lambda: here.recipe("outside teacher", 0))
