"""Stages of a recipe: chosen by name, each goes on where it was killed, and all end with the same files."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.killing import assert_same_checkpoints, finish, kill, train_command

from grainwise.core.errors import GrainwiseError, InputError, TrainingError, UnknownNameError
from grainwise.core.pictures import Picture, read_picture, write_picture
from grainwise.networks.checkpoint import load_gated, load_weights
from grainwise.training.dds_stages import GATED, POOL
from grainwise.training.recipes import corpora, get_recipe, network_of
from grainwise.training.slimming import ROUTES, STATE
from grainwise.training.stages import WEIGHTS, Run, Told, chosen_stages, run_stages

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

RECIPE = "dds-vdnet-small"


def settings(pictures: Path) -> list[str]:
    """All three stages in seconds."""
    return [
        f"data={pictures}", "hold_out=3", "crops.shares=[1]", "validation.shares=[1]",
        'config={"base":8,"ratios":[1,2],"tied":true,"attention":true}', "loop.device=cpu", "loop.precision=fp32",
        "method.start_at_prior=false",
        "loop.steps=12", "loop.batch=2", "loop.crops=[[0,32]]", "loop.checkpoint_every=1", "loop.validate_every=0",
        "stages.slim.crops=8", "stages.slim.size=32", "stages.slim.timed_size=16", "stages.slim.search.group=8",
        "stages.gate.budgets=[14000,20000]", "stages.gate.routes=4", "stages.gate.pool=40", "stages.gate.calibration=8",
        "stages.gate.loop.crops=[[0,32]]", "stages.gate.loop.steps=30", "stages.gate.loop.batch=8",
        "stages.gate.loop.checkpoint_every=10", "stages.gate.loop.device=cpu",
    ]  # fmt: skip


def routes_of(run: Path) -> list[dict[str, object]]:
    """The routing space without the measured seconds, which are never the same."""
    routes = json.loads((run / "slim" / ROUTES).read_text())["routes"]
    assert all(route.pop("seconds") > 0 for route in routes)
    return routes


def test_every_stage_that_is_killed_goes_on_and_ends_the_same(pictures: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def command(out: Path, *more: str) -> list[str]:
        return train_command(RECIPE, out, tmp_path / "cache", settings(pictures), "--stages", "all", *more)

    finish(command(whole))
    kill(command(killed), (killed / "supernet" / "checkpoint.pt").exists)
    assert not (killed / "supernet" / WEIGHTS).exists()
    kill(command(killed, "--resume"), (killed / "slim" / STATE).exists)
    assert not (killed / "slim" / ROUTES).exists()
    kill(command(killed, "--resume"), (killed / "gate" / POOL).exists)
    assert not (killed / "gate" / "14k" / GATED).exists()
    finish(command(killed, "--resume"))
    assert_same_checkpoints(whole / "supernet", killed / "supernet")
    assert routes_of(whole) == routes_of(killed)
    for budget in ("14k", "20k"):
        assert_same_checkpoints(whole / "gate" / budget, killed / "gate" / budget)
        one, other = (load_file(run / "gate" / budget / GATED) for run in (whole, killed))
        assert all(torch.equal(value, other[name]) for name, value in one.items())
        assert load_gated(killed / "gate" / budget / GATED).gated.routes


def make_run(pictures: Path, tmp_path: Path, told: list[Told], *more: str) -> Run:
    recipe = get_recipe(RECIPE, [*settings(pictures), *more])
    return Run(
        recipe=recipe,
        out=tmp_path / "run",
        make_corpora=lambda report: corpora(recipe, tmp_path / "cache", report),
        make_network=lambda: network_of(recipe),
        command=f"grainwise train {RECIPE}",
        commit="one",
        tell=told.append,
    )


def test_stages_one_by_one(pictures: Path, tmp_path: Path) -> None:
    told: list[Told] = []
    run = make_run(pictures, tmp_path, told)
    first, second, third = run.recipe.stages
    with pytest.raises(TrainingError, match="run the stage supernet before"):
        run_stages([second], run, resume=False)
    assert not run.out.exists()
    run_stages([first], run, resume=False)
    with pytest.raises(TrainingError, match="holds a run already"):
        run_stages([first], run, resume=False)
    with pytest.raises(TrainingError, match="run the stage slim before"):
        run_stages([third], run, resume=False)
    assert sorted(path.name for path in run.out.iterdir()) == ["commit.txt", "settings-supernet.json", "supernet"]
    run_stages([second], run, resume=False)
    shares = [one.done / one.total for one in told if one.stage == "slim" and one.words != "done"]
    assert shares == sorted(shares)
    assert any(one.seconds_left is not None for one in told if one.stage == "slim")
    run_stages(run.recipe.stages, run, resume=True)
    lines = [one.line for one in told if one.line]
    assert [line for line in lines if line.endswith("done before")] == ["supernet: done before", "slim: done before"]
    loaded = load_gated(run.out / "gate" / "14k" / GATED)
    assert loaded.budget == 14_000
    assert len(loaded.card.plans) == len(loaded.gated.routes) > 1
    assert "held-out crops" in loaded.card.notes
    assert loaded.card.commit == "one"
    for change, stage in (
        ("method.noise_clip=1000", first), ("stages.slim.search.criterion=drop_per_mac", second),
        ("stages.gate.beta=0.5", third), ("crops.shares=[0.5,0.5]", first), ("validation.shares=[0.5,0.5]", third),
    ):  # fmt: skip
        other = make_run(pictures, tmp_path, told, change)
        (name,) = [own.name for own in other.recipe.stages if own.name == stage.name]
        with pytest.raises(TrainingError, match=rf"stage {name} .*\({change.split('=')[0]}: .* then, .* now\)"):
            run_stages(chosen_stages(other.recipe, name), other, resume=True)
    more = make_run(pictures, tmp_path, told, "stages.gate.loop.checkpoint_every=7", "stages.gate.budgets=[14000]")
    run_stages(more.recipe.stages, more, resume=True)
    for note in run.out.glob("settings-*.json"):
        note.unlink()
    older = make_run(pictures, tmp_path, told, "stages.gate.beta=0.5")
    run_stages(older.recipe.stages, older, resume=True)
    other = make_run(pictures, tmp_path, told, 'config={"base":8,"attention":true}')
    with pytest.raises(TrainingError, match="give the settings that it was trained with"):
        other.trained("supernet")


def test_nothing_to_resume(pictures: Path, tmp_path: Path) -> None:
    run = make_run(pictures, tmp_path, [])
    with pytest.raises(TrainingError, match="no checkpoint to resume of the stages supernet, slim, gate"):
        run_stages(run.recipe.stages, run, resume=True)
    assert not run.out.exists()


@pytest.mark.parametrize("change", ["data=/no/such/folder", "init=/no/such/file", "method.start_at_prior=true"])
def test_a_run_that_is_refused_leaves_nothing_behind(pictures: Path, tmp_path: Path, change: str) -> None:
    other = ["network=danet"] if "prior" in change else []
    run = make_run(pictures, tmp_path, [], *other, change)
    with pytest.raises(GrainwiseError):
        run_stages(run.recipe.stages[:1], run, resume=False)
    run.begin(run.recipe.stages[0])  # of a stage that is run by itself nothing is kept
    assert not run.out.exists()


def test_later_stages_run_in_one_process(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(pictures, tmp_path, [])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="the stage slim runs in 1 process, got 2"):
        run_stages(run.recipe.stages, run, resume=False)


def test_stages_are_chosen_by_name() -> None:
    recipe = get_recipe(RECIPE)
    names = [stage.name for stage in recipe.stages]
    assert names == ["supernet", "slim", "gate"]
    assert chosen_stages(recipe, "all") == recipe.stages
    assert chosen_stages(recipe, None) == recipe.stages[:1]
    for nothing in ("", " "):
        with pytest.raises(InputError, match="no stage is named; give all, or some of supernet, slim, gate"):
            chosen_stages(recipe, nothing)
    assert chosen_stages(recipe, "gate, slim") == recipe.stages[1:]
    with pytest.raises(UnknownNameError, match="Did you mean slim"):
        chosen_stages(recipe, "slimm")
    assert [stage.name for stage in get_recipe("default").stages] == ["training"]


def test_settings_of_stages_are_changed_by_name() -> None:
    recipe = get_recipe(RECIPE, ["stages.slim.search.group=8", "stages.gate.beta=0.5", "stages.gate.loop.steps=7"])
    assert recipe.stages[1].search.group == 8
    assert recipe.stages[2].beta == 0.5
    assert recipe.stages[2].loop.steps == 7
    assert recipe.stages[0] == get_recipe(RECIPE).stages[0]
    for wrong in ("stages=1", "stages.slim=1", "stages.slimm.crops=1", "stages.slim.crop=1"):
        with pytest.raises(UnknownNameError, match="setting"):
            get_recipe(RECIPE, [wrong])
    with pytest.raises(InputError, match="whole number"):
        get_recipe(RECIPE, ["stages.slim.crops=many"])


def test_the_recipes_on_sidd_learn_from_its_pairs(pictures: Path, tmp_path: Path) -> None:
    names = ("0001_001_S6_00100_00060_3200_L", "0052_002_GP_01600_01000_5500_N", "0053_003_IP_00800_01000_3200_H")
    for index, name in enumerate(names):
        clean = read_picture(pictures / f"{index}.png").pixels
        noisy = (clean + np.random.default_rng(index).normal(0, 9, clean.shape)).clip(0, 255).astype(np.uint8)
        for what, pixels in (("NOISY", noisy), ("GT", clean)):
            write_picture(tmp_path / "Data" / name / f"{name[:4]}_{what}_SRGB_010.PNG", pixels, Picture(pixels))
    recipe = get_recipe("dds-vdnet-sidd", settings(tmp_path / "Data"))
    told: list[Told] = []
    run = replace(
        make_run(pictures, tmp_path, told), recipe=recipe, make_corpora=partial(corpora, recipe, tmp_path / "c")
    )
    assert [len(part) for part in run.corpora] == [2, 1]
    assert {entry.name for entry in run.corpora[1].entries} == {"scene 001"}
    run_stages(run.recipe.stages, run, resume=False)
    card = load_weights(run.out / "supernet" / "weights.safetensors").card
    assert "real" in next(iter(card.plans[0].psnr))
    assert card.licence.startswith("as the pictures")
    assert load_gated(run.out / "gate" / "14k" / GATED).gated.routes
